package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/shlex"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// grateFlag is a grate on the command line, with what belongs to it.
type grateFlag struct {
	word string // as it was given
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
			return errors.New("a quote in it has no end, or its last character is a backslash")
		}
		if len(words) == 0 {
			return errors.New("want 'FILE [ARG]...'")
		}
		file := words[0]
		words[0] = filepath.Base(file)
		*v.list = append(*v.list, grateFlag{word: s, file: file, args: words})
		return nil
	}
	if len(*v.list) == 0 {
		return errors.New("there is no --grate before it that could have it")
	}
	last := &(*v.list)[len(*v.list)-1]
	dir, err := parseDir(s)
	if err != nil {
		return err
	}
	last.dirs = append(last.dirs, dir)
	return nil
}

// hint adds to an error what may have caused it: arguments of a grate that were taken for the command's.
func (g grateFlags) hint(err error) error {
	if len(g) == 0 {
		return err
	}
	return fmt.Errorf("%w\nA grate and its arguments are one word, in quotes: --grate '%s ARG...'", err, g[len(g)-1].word)
}

// load reads and compiles the grate.
func (g *grateFlag) load(ctx context.Context, rt *lindbridge.Runtime) (*lindbridge.Module, error) {
	b, err := os.ReadFile(g.file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, whole := os.Stat(g.word); whole == nil && g.word != g.file {
			return nil, fmt.Errorf("grate %s: %w: a name with spaces needs quotes of its own: --grate \"'%s'\"",
				g.file, syscall.ENOENT, g.word)
		}
		const hint = "give its path from here, then its arguments (make grates builds lindbridge's examples)"
		return nil, fmt.Errorf("grate %s: %w: %s", g.file, syscall.ENOENT, hint)
	}
	if err != nil {
		return nil, fmt.Errorf("grate: %w", err)
	}
	m, err := rt.LoadGrate(ctx, b)
	switch {
	case errors.Is(err, lindbridge.ErrExport):
		return nil, fmt.Errorf("grate %s: %w (guests/lind/build.sh --grate passes all that a grate needs)", g.file, err)
	case err != nil:
		return nil, fmt.Errorf("grate %s: %w", g.file, err)
	}
	return m, nil
}

// notServed is the error for a grate that ended before it served; what the user has to know besides goes to w.
func (g *grateFlag) notServed(w io.Writer, r exitcoord.Report) error {
	explain(w, "grate "+g.file, r)
	hint := ""
	if r.Status == exitcoord.CodeStatus(0) {
		// It has not complained itself.
		hint = ": a grate registers its handlers and then calls grate_serve (see guests/lind/README.md)"
	}
	return fmt.Errorf("grate %s: it ended before it served, so that the program was not started (%v)%s",
		g.file, r.Status, hint)
}

// explainEnd says what the user of a program has to know of the end of a grate. below is the end of what the grate is
// stacked on: a grate that ends after that has done its work.
func (g *grateFlag) explainEnd(w io.Writer, r, below exitcoord.Report) {
	name := "grate " + g.file
	explain(w, name, r)
	switch {
	case r.Cause == nil || below.Cause == nil:
	case r.Cause.At.Before(below.Cause.At):
		fmt.Fprintf(w, "lindbridge: %s: it ended while it served (%v), and the calls that it served have failed since\n",
			name, r.Status)
	case r.Cause.Kind == exitcoord.HostKill:
		fmt.Fprintf(w, "lindbridge: %s: it did not end by itself after what it served, and was killed\n", name)
	}
}

// watchStart ends, by cancel, the start of a stack whose grates do not come to serve: on a signal, which it puts into early
// for the case that the program has started after all, or when the time limit has passed. It returns then, or when
// started is closed.
func (o *runOptions) watchStart(
	started <-chan struct{}, signals <-chan os.Signal, early chan<- syscall.Signal, cancel context.CancelCauseFunc,
) {
	const notServing = "before its grates served (a grate says that it does by grate_serve)"
	var limit <-chan time.Time
	if o.timeLimit > 0 {
		timer := time.NewTimer(o.timeLimit)
		defer timer.Stop()
		limit = timer.C
	}
	select {
	case <-started:
	case sig := <-signals:
		if s, ok := sig.(syscall.Signal); ok {
			early <- s
			cancel(&exitError{128 + int(s), fmt.Errorf("ended by %v %s", exitcoord.SignalName(int32(s)), notServing)})
		}
	case <-limit:
		cancel(&exitError{codeTimeLimit, fmt.Errorf("time limit of %v passed %s", o.timeLimit, notServing)})
	}
}

// waitGrates waits for the grates of a program that has ended, and says of each that failed how it did. The first signal
// kills those that are left. It answers false if there was a second one, or if a grate's threads do not leave.
func (o *runOptions) waitGrates(w io.Writer, stack *lindbridge.Stack, signals <-chan os.Signal) bool {
	if len(stack.Grates) == 0 {
		return true
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for range 2 {
			select {
			case <-signals:
				stack.Kill()
			case <-ctx.Done():
				return
			}
		}
		cancel()
	}()
	for _, grate := range stack.Grates {
		go func() {
			select {
			case <-grate.Stuck():
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	_, err := stack.Wait(ctx)
	below := stack.App.Report()
	for i := len(stack.Grates) - 1; i >= 0; i-- {
		r := stack.Grates[i].Report()
		o.grates[i].explainEnd(w, r, below)
		below = r
	}
	return err == nil
}

// sharedWriter is a writer for the copies of the streams of several programs.
type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// shared makes w good for several programs at once, as files are.
func shared(w io.Writer) io.Writer {
	if _, ok := w.(*os.File); ok {
		return w
	}
	return &sharedWriter{w: w}
}

func (s *sharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// tracer prints calls that grates have served, a line each: when it is over, so that a call that a grate made for another
// stands before that one, indented.
type tracer struct {
	w io.Writer // takes a line by one Write, from several threads
}

// print prints a call: who made it, who served it, the call, its result and its time.
func (t *tracer) print(c lindbridge.Trace) {
	var b strings.Builder
	switch {
	case c.Cage == 0:
		b.WriteString("[host") // which tells a grate of an end
	case c.TID > 1:
		fmt.Fprintf(&b, "[cage %d.%d", c.Cage, c.TID)
	default:
		fmt.Fprintf(&b, "[cage %d", c.Cage)
	}
	grate := "?" // it died in the call
	if c.Grate != 0 {
		grate = strconv.FormatUint(uint64(c.Grate), 10)
	}
	fmt.Fprintf(&b, " -> grate %s] %s%v(", grate, strings.Repeat("  ", max(int(c.Depth)-1, 0)), c.Call)
	for i := range c.ArgCount() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Arg(i))
	}
	fmt.Fprintf(&b, ") = %s <%.9f>\n", c.ResultText(), c.Took.Seconds()) // a grate may need less than a microsecond
	// A trace that nobody can read is no reason to stop the program.
	_, _ = io.WriteString(t.w, b.String())
}
