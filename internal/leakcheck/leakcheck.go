package leakcheck

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Holdings are what the process holds.
type Holdings struct {
	// Threads are its OS threads.
	Threads int
	// FDs are its descriptors, each with what it stands for.
	FDs []string
	// Mappings are its memory mappings, those of the C library's heap and of Go's left out, which come and go in pieces.
	Mappings int
	// Resident is its resident memory in bytes.
	Resident int64
}

// Take gives back what the runtimes of Go and C keep for later, and says what the process holds then.
func Take() (Holdings, error) {
	// Twice: finalizers and cleanups run after the first.
	runtime.GC()
	debug.FreeOSMemory()
	var h Holdings
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return h, err
	}
	h.Threads = len(tasks)
	if h.FDs, err = descriptors(); err != nil {
		return h, err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return h, err
	}
	h.Mappings = bytes.Count(maps, []byte("\n"))
	h.Resident, err = resident()
	return h, err
}

func descriptors() ([]string, error) {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var fds []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // the descriptor of the listing itself
		}
		if err != nil {
			return nil, err
		}
		fds = append(fds, e.Name()+" "+target)
	}
	slices.Sort(fds)
	return fds, nil
}

func resident() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/self/statm: %q", b)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// Slack is how much more of each is no leak: what the runtimes of Go and C may keep.
type Slack struct {
	Threads, Mappings int
	Resident          int64
}

// DefaultSlack is enough for the runtimes of Go and C, and little against what any cage holds.
var DefaultSlack = Slack{Threads: 6, Mappings: 48, Resident: 48 << 20}

// More says what the process holds now that it did not hold before, or "" for nothing.
func (before Holdings) More(s Slack) (string, error) {
	now, err := Take()
	if err != nil {
		return "", err
	}
	var more []string
	if now.Threads > before.Threads+s.Threads {
		more = append(more, fmt.Sprintf("%d OS threads, %d before", now.Threads, before.Threads))
	}
	if n := len(now.FDs) - len(before.FDs); n > 0 {
		more = append(more, fmt.Sprintf("%d descriptors more: now %q, before %q", n, now.FDs, before.FDs))
	}
	if MemoryTells && now.Mappings > before.Mappings+s.Mappings {
		more = append(more, fmt.Sprintf("%d mappings, %d before", now.Mappings, before.Mappings))
	}
	if MemoryTells && now.Resident > before.Resident+s.Resident {
		more = append(more, fmt.Sprintf("%d MiB resident, %d before", now.Resident>>20, before.Resident>>20))
	}
	return strings.Join(more, "; "), nil
}

// Settled is More, asked again for a while as long as the answer is not "": a thread that has been joined leaves /proc a
// moment later, and nothing tells when.
func (before Holdings) Settled(s Slack) (more string, err error) {
	for end := time.Now().Add(5 * time.Second); ; {
		if more, err = before.More(s); more == "" || err != nil || time.Now().After(end) {
			return more, err
		}
		<-time.After(20 * time.Millisecond)
	}
}
