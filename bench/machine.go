package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine says what this ran on.
func machine() []string {
	var lines []string
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	lines = append(lines, fmt.Sprintf("%s, %d of its processors, %s", model, runtime.NumCPU(), runtime.GOARCH))
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		lines = append(lines, "Linux "+unix.ByteSliceToString(u.Release[:]))
	}
	if memory, err := os.ReadFile("/proc/meminfo"); err == nil {
		first, _, _ := strings.Cut(string(memory), "\n")
		lines = append(lines, strings.Join(strings.Fields(first), " "))
	}
	if limit, err := os.ReadFile("/proc/sys/vm/max_map_count"); err == nil {
		lines = append(lines, "vm.max_map_count "+string(bytes.TrimSpace(limit)))
	}
	return lines
}

// load is the load averages.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	words := strings.Fields(string(b))
	return strings.Join(words[:min(3, len(words))], " ")
}

// lastCPU is the last processor that this may use, or -1 if that cannot be known.
func lastCPU() int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return -1
	}
	last := -1
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			last = cpu
		}
	}
	return last
}

// versions says what was compared.
func (r *run) versions() []string {
	var lines []string
	for _, name := range []string{"lindbridge", "wazero"} {
		reply, err := r.ask(ask{name, "version"}, 0)
		if err != nil {
			r.trouble("version of %s: %v", name, err)
			continue
		}
		lines = append(lines, reply.Text)
	}
	if b, err := os.ReadFile(filepath.Join(r.dir, lindPeer+".version")); err == nil {
		lines = append(lines, strings.TrimSpace(string(b)))
	}
	for _, args := range [][]string{{"node", "--version"}, {"rustc", "--version"}, {"cc", "--version"}} {
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			lines = append(lines, args[0]+": not installed here")
			continue
		}
		first, _, _ := strings.Cut(string(out), "\n")
		if args[0] == "node" {
			first = "Node " + first
		}
		lines = append(lines, first)
	}
	if out, err := exec.Command("git", "-C", r.root, "describe", "--always", "--dirty").Output(); err == nil {
		lines = append(lines, "commit "+strings.TrimSpace(string(out)))
	}
	return lines
}
