package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
)

// contestant is one of those that are compared: a process, or a test binary.
type contestant interface {
	Ask(patience time.Duration, n int, words ...string) (drive.Reply, error)
	Pinned() bool
	Close() error
}

// lindPeer is the contestant that scripts/bench.sh builds from a checkout of Lind, and with ".version" the file that says
// which.
const lindPeer = "lind-peer"

// errAbsent is of a contestant that is not on this machine.
var errAbsent = errors.New("not installed here")

// arena starts contestants and ends them. It is for one goroutine.
type arena struct {
	dir       string // where what was built is
	root      string // the source tree
	cpu       int    // that pinned contestants run on; negative: none
	benchTime time.Duration
	running   map[string]contestant
}

// get is the contestant of that name, which is started the first time. A name is the program's, then '@' and what tells
// several of its processes apart; "pinned" is one on a processor of its own.
func (a *arena) get(name string) (contestant, error) {
	if c, ok := a.running[name]; ok {
		if p, ok := c.(*drive.Process); !ok || !p.Ended() {
			return c, nil
		}
	}
	c, err := a.start(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	a.running[name] = c
	return c, nil
}

func (a *arena) start(name string) (contestant, error) {
	program, which, _ := strings.Cut(name, "@")
	cpu := -1
	if which == "pinned" {
		cpu = a.cpu
	}
	in := func(file string) string { return filepath.Join(a.dir, file) }
	spec := drive.Spec{CPU: cpu, Env: []string{"LINDBRIDGE_SHIM=" + filepath.Join(a.root, "build", "liblindshim.so")}}
	switch program {
	case "lindbridge", "wazero":
		spec.Args = []string{in("bench"), "drive", program}
	case "nocgo":
		spec.Args = []string{in("bench-nocgo"), "drive", "lindbridge"}
	case "floor":
		spec.Args = []string{in("floor")}
	case "native":
		spec.Args = []string{in("native"), in("threads")}
	case "node":
		node, err := exec.LookPath("node")
		if err != nil {
			return nil, errAbsent
		}
		spec.Args = []string{node, filepath.Join(a.root, "bench", "peers", "node.mjs")}
	case "lind":
		if _, err := os.Stat(in(lindPeer)); err != nil {
			return nil, errAbsent
		}
		spec.Args = []string{in(lindPeer)}
	case "threei", "fdtables":
		return &drive.TestBinary{Path: in(program + ".test"), CPU: cpu, Time: a.benchTime}, nil
	default:
		return nil, errors.New("no such contestant")
	}
	return drive.Start(spec)
}

// end ends the contestant of that name, if it runs.
func (a *arena) end(name string) error {
	c, ok := a.running[name]
	if !ok {
		return nil
	}
	delete(a.running, name)
	return c.Close()
}

// close ends all.
func (a *arena) close() error {
	var errs []error
	for name := range a.running {
		errs = append(errs, a.end(name))
	}
	return errors.Join(errs...)
}
