package drive

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Usage is what a process uses, seen from outside: it does nothing for it.
type Usage struct {
	// Resident is its resident memory in bytes, all of it its own.
	Resident float64
	// Threads are its OS threads.
	Threads int
	// WakeUps are how often its threads have blocked, and so woken again: the voluntary context switches.
	WakeUps float64
	// CPUNs is the processor time of its threads in nanoseconds.
	CPUNs float64
	// Mappings are its memory mappings, FDs its descriptors, and MostFDs how many of these it may have.
	Mappings, FDs, MostFDs int
}

// Usage looks the process up in /proc. Threads that have ended do not count.
func (p *Process) Usage() (Usage, error) {
	var u Usage
	dir := fmt.Sprintf("/proc/%d", p.PID())
	rollup, err := os.ReadFile(dir + "/smaps_rollup")
	if err != nil {
		return u, err
	}
	for _, key := range []string{"Private_Clean:", "Private_Dirty:"} {
		kib, err := field(rollup, key)
		if err != nil {
			return u, err
		}
		u.Resident += kib * 1024
	}
	maps, err := os.ReadFile(dir + "/maps")
	if err != nil {
		return u, err
	}
	u.Mappings = bytes.Count(maps, []byte("\n"))
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return u, err
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(p.PID(), unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return u, err
	}
	u.FDs, u.MostFDs = len(fds), int(min(limit.Cur, 1<<30))
	tasks, err := filepath.Glob(dir + "/task/*")
	if err != nil {
		return u, err
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task + "/status")
		if err != nil {
			continue // it has just ended
		}
		switches, err := field(status, "voluntary_ctxt_switches:")
		if err != nil {
			return u, err
		}
		sched, err := os.ReadFile(task + "/schedstat")
		if err != nil {
			continue
		}
		ns, err := strconv.ParseFloat(strings.Fields(string(sched))[0], 64)
		if err != nil {
			return u, err
		}
		u.Threads++
		u.WakeUps += switches
		u.CPUNs += ns
	}
	return u, nil
}

// field is the number that follows key at the beginning of a line.
func field(text []byte, key string) (float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), key)
		if !ok {
			continue
		}
		words := strings.Fields(rest)
		if len(words) == 0 {
			break
		}
		return strconv.ParseFloat(words[0], 64)
	}
	return 0, fmt.Errorf("no %s", key)
}
