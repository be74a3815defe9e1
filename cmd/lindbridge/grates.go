package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/shlex"

	"github.com/lindbridge/lindbridge"
)

// grateFlag is a grate on the command line, with what belongs to it.
type grateFlag struct {
	file string
	args []string // its name first
	dirs []lindbridge.Dir
}

// grateFlags are the grates in their order. Several flags add to the one list, each to the grate named last.
type grateFlags []grateFlag

// What a flag adds.
const (
	grateFile = "file"
	grateDir  = "directory"
)

// grateValue is one of these flags.
type grateValue struct {
	list *grateFlags
	kind string
}

func (g *grateFlags) value(kind string) *grateValue { return &grateValue{g, kind} }

// String is nothing: there is no default.
func (*grateValue) String() string { return "" }

// Type names what the flag takes.
func (v *grateValue) Type() string { return v.kind }

// Set takes one more.
func (v *grateValue) Set(s string) error {
	if v.kind == grateFile {
		words, err := shlex.Split(s)
		if err != nil {
			return fmt.Errorf("%w: a quote has no end", err)
		}
		if len(words) == 0 {
			return errors.New("want a file")
		}
		file := words[0]
		words[0] = filepath.Base(file)
		*v.list = append(*v.list, grateFlag{file: file, args: words})
		return nil
	}
	if len(*v.list) == 0 {
		return errors.New("there is no --grate before it")
	}
	last := &(*v.list)[len(*v.list)-1]
	dir, err := parseDir(s)
	if err != nil {
		return err
	}
	last.dirs = append(last.dirs, dir)
	return nil
}

// tracer prints calls that grates have served, a line each.
type tracer struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func newTracer(w io.Writer) *tracer { return &tracer{w: w} }

// print prints a call: who made it, who served it, the call, its result and its time.
func (t *tracer) print(c lindbridge.Trace) {
	var b strings.Builder
	fmt.Fprintf(&b, "[cage %d", c.Cage)
	if c.TID > 1 {
		fmt.Fprintf(&b, ".%d", c.TID)
	}
	fmt.Fprintf(&b, " -> grate %d] %s%v(", c.Grate, strings.Repeat("  ", max(int(c.Depth)-1, 0)), c.Call)
	for i := range c.ArgCount() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Arg(i))
	}
	fmt.Fprintf(&b, ") = %s <%.6f>\n", c.ResultText(), c.Took.Seconds())
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.w, b.String()) // a trace that nobody can read is no reason to stop the program
}
