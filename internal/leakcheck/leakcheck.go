package leakcheck

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Holdings are what the process holds.
type Holdings struct {
	// Tasks are its OS threads.
	Tasks int
	// Threads are the ones that do not rest in Go's own code: Go keeps every thread that it ever needed for a
	// goroutine that was in C or in the kernel. (A thread of somebody else that waits inside a Go callback is not seen; its
	// goroutine is, see goleak.)
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
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return h, err
	}
	h.Mappings = bytes.Count(maps, []byte("\n"))
	if h.Tasks, h.Threads, err = threads(maps); err != nil {
		return h, err
	}
	if h.FDs, err = descriptors(); err != nil {
		return h, err
	}
	h.Resident, err = resident()
	return h, err
}

// threads is how many threads there are, and how many of them are not at rest in Go's own code.
func threads(maps []byte) (all, others int, err error) {
	first, end, err := goText(maps)
	if err != nil {
		return 0, 0, err
	}
	const dir = "/proc/self/task"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, task := range tasks {
		// The number of the call, its arguments, the stack pointer and the program counter; or "running".
		b, err := os.ReadFile(filepath.Join(dir, task.Name(), "syscall"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return 0, 0, err
		}
		all++
		fields := strings.Fields(string(b))
		if len(fields) < 2 {
			others++
			continue
		}
		pc, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil || pc < first || pc >= end {
			others++
		}
	}
	return all, others, nil
}

// goText is where the program's own code lies, which is Go's but for what is linked into it.
func goText(maps []byte) (first, end uint64, err error) {
	here := uint64(reflect.ValueOf(goText).Pointer())
	for line := range strings.Lines(string(maps)) {
		if _, err := fmt.Sscanf(line, "%x-%x", &first, &end); err == nil && first <= here && here < end {
			return first, end, nil
		}
	}
	return 0, 0, errors.New("/proc/self/maps: the program's own code is not there")
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
var DefaultSlack = Slack{Threads: 1, Mappings: 48, Resident: 48 << 20}

// More says what the process holds now that it did not hold before, or "" for nothing.
func (before Holdings) More(s Slack) (string, error) {
	now, err := Take()
	if err != nil {
		return "", err
	}
	var more []string
	if now.Threads > before.Threads+s.Threads {
		more = append(more, fmt.Sprintf("%d OS threads that are not Go's, %d before", now.Threads, before.Threads))
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
