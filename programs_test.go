package lindbridge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// run runs a program to its end and answers its exit code and what it wrote.
func run(t testing.TB, rt *lindbridge.Runtime, p lindbridge.Program) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	p.Stdout, p.Stderr = &out, &err
	c := spawn(t, rt, p)
	code = finish(t, c)
	return code, out.String(), err.String()
}

func TestHello_GetsArgumentsEnvironmentAndInput(t *testing.T) {
	rt := newRuntime(t)
	input := strings.Repeat("line of input\n", 10000)
	code, out, errs := run(t, rt, lindbridge.Program{
		Module: guest(t, rt, "hello"), Args: []string{"hello", "a b", ""}, Env: []string{"NAME=value", "EMPTY="},
		Stdin: strings.NewReader(input),
	})
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for _, want := range []string{"a b", "NAME=value", "EMPTY=", input} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %.40q", want)
		}
	}
}

func TestStandardStreams_OfAClosedWorld(t *testing.T) {
	rt := newRuntime(t)
	// Without streams: /dev/null, so that input ends at once and output goes nowhere.
	if code := finish(t, spawn(t, rt, lindbridge.Program{Module: guest(t, rt, "hello")})); code != 0 {
		t.Errorf("exit code %d without streams", code)
	}
	// A writer that fails: the program sees a broken pipe, and ends by itself.
	c := spawn(t, rt, lindbridge.Program{
		Module: guest(t, rt, "hello"), Stdin: strings.NewReader(strings.Repeat("x", 1<<20)), Stdout: failingWriter{},
	})
	if code := finish(t, c); code != 1 {
		t.Errorf("exit code %d after its output failed", code)
	}
	// A full disk, as /dev/full plays it: an error to the program and none of the host's.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var errs bytes.Buffer
	c = spawn(t, rt, lindbridge.Program{Module: guest(t, rt, "hello"), Stdin: strings.NewReader("x"), Stdout: full, Stderr: &errs})
	if code := finish(t, c); code == 0 {
		t.Errorf("exit code %d on a full disk: %s", code, errs.String())
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("on purpose") }

func TestExitCodes_AreTheProgramsOwn(t *testing.T) {
	rt := newRuntime(t)
	m := guest(t, rt, "exitcode")
	for _, how := range []string{"return", "exit", "_exit"} {
		for _, code := range []int{0, 1, 42, 255} {
			got, _, errs := run(t, rt, lindbridge.Program{Module: m, Args: []string{"exitcode", fmt.Sprint(code), how}})
			if got != code {
				t.Errorf("%s %d: exit code %d: %s", how, code, got, errs)
			}
		}
	}
}

func TestTraps_SayWhatAndWhere(t *testing.T) {
	rt := newRuntime(t)
	m := guest(t, rt, "trap")
	for kind, words := range map[string]string{
		"unreachable": "unreachable", "divide": "divide by zero", "memory": "out of bounds", "call": "indirect call",
		"stack": "stack", "abort": "unreachable",
	} {
		c := spawn(t, rt, lindbridge.Program{Module: m, Args: []string{"trap", kind}})
		code := finish(t, c)
		r := c.Report()
		if code != 134 || r.Cause.Kind != exitcoord.Trap || !strings.Contains(r.Cause.Message, words) {
			t.Errorf("%s: exit code %d\n%v", kind, code, r)
		}
		if kind != "stack" && kind != "abort" {
			inner, outer := strings.Index(r.Cause.Backtrace, "inner"), strings.Index(r.Cause.Backtrace, "outer")
			if inner < 0 || outer < inner {
				t.Errorf("%s: backtrace:\n%s", kind, r.Cause.Backtrace)
			}
		}
	}
}

// TestSort_ThroughFiles sorts LINDBRIDGE_SORT_MB megabytes through several directories.
func TestSort_ThroughFiles(t *testing.T) {
	rt := newRuntime(t)
	dir := t.TempDir()
	mb := times(t, "LINDBRIDGE_SORT_MB", 20)
	code, out, errs := run(t, rt, lindbridge.Program{
		Module: guest(t, rt, "sort"), Args: []string{"sort", "/work", fmt.Sprint(mb), "4"},
		Dirs: []lindbridge.Dir{{Host: dir, Guest: "/work"}},
	})
	if code != 0 || out == "" {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	info, err := os.Stat(filepath.Join(dir, "output", "sorted.dat"))
	if err != nil {
		t.Fatal(err)
	}
	// Records have 100 bytes, and a megabyte its whole records.
	if got := info.Size(); got%100 != 0 || got < int64(mb)*999_900 {
		t.Errorf("%d bytes sorted of %d MB", got, mb)
	}
}

func TestThousandFiles(t *testing.T) {
	rt := newRuntime(t)
	dir := t.TempDir()
	code, out, errs := run(t, rt, lindbridge.Program{
		Module: guest(t, rt, "manyfiles"), Args: []string{"manyfiles", "/d"}, Dirs: []lindbridge.Dir{{Host: dir, Guest: "/d"}},
	})
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %v %v", left, err)
	}
}

// TestWorkers: threads with barriers and a mutex on memory.atomic.wait come to the same result every time.
func TestWorkers(t *testing.T) {
	rt := newRuntime(t)
	m := guest(t, rt, "workers")
	var want string
	for i := range times(t, "LINDBRIDGE_WORKERS_TIMES", 20) {
		code, out, errs := run(t, rt, lindbridge.Program{Module: m, Args: []string{"workers", fmt.Sprint(1 + i%8), "16"}})
		if code != 0 || out == "" || want != "" && out != want {
			t.Fatalf("exit code %d: %q, before %q\n%s", code, out, want, errs)
		}
		want = out
	}
}

// TestGoProgram runs what Go's own runtime needs: goroutines, timers, files, standard input, and its ways to end.
func TestGoProgram(t *testing.T) {
	rt := newRuntime(t)
	m, err := rt.LoadFile(t.Context(), filepath.Join("build", "guests", "gowork.wasm"))
	if err != nil {
		t.Fatalf("%v (make guests-go builds it)", err)
	}
	for _, c := range []struct {
		args  []string
		code  int
		words string // in the output, or for a code that is not 0 in the errors
	}{
		{[]string{"goroutines"}, 0, "ok"},
		{[]string{"timers"}, 0, "ok"},
		{[]string{"files", "/d"}, 0, "ok"},
		{[]string{"stdin"}, 0, "ok"},
		{[]string{"exit", "7"}, 7, ""},
		{[]string{"panic"}, 2, "goroutine 1"},
		{[]string{"deadlock"}, 2, "deadlock"},
	} {
		t.Run(c.args[0], func(t *testing.T) {
			code, out, errs := run(t, rt, lindbridge.Program{
				Module: m, Args: slices.Concat([]string{"gowork"}, c.args), Stdin: strings.NewReader("a\nb\n"),
				Dirs: []lindbridge.Dir{{Host: t.TempDir(), Guest: "/d"}},
			})
			text := out
			if c.code != 0 {
				text = errs
			}
			if code != c.code || !strings.Contains(text, c.words) {
				t.Errorf("exit code %d, want %d; output %q, errors %q", code, c.code, out, errs)
			}
		})
	}
	for _, mode := range []string{"block", "spin"} {
		t.Run(mode, func(t *testing.T) {
			c := spawn(t, rt, lindbridge.Program{Module: m, Args: []string{"gowork", mode}, TimeLimit: 200 * time.Millisecond})
			finish(t, c)
			if kind := c.Report().Cause.Kind; kind != exitcoord.TimeLimit {
				t.Errorf("cause %v\n%v", kind, c.Report())
			}
		})
	}
}

// TestOutput_IsCompleteWhenWaitReturns: what the program wrote before its end has all arrived.
func TestOutput_IsCompleteWhenWaitReturns(t *testing.T) {
	rt := newRuntime(t)
	m := guest(t, rt, "hello")
	input := strings.Repeat("0123456789", 1<<16)
	for range 20 {
		code, out, errs := run(t, rt, lindbridge.Program{Module: m, Stdin: strings.NewReader(input)})
		if code != 0 || !strings.HasSuffix(out, input) {
			t.Fatalf("exit code %d, %d bytes: %s", code, len(out), errs)
		}
	}
}

// TestInheritedStreams_StayAsTheyAre: a stream of the caller's is not switched to non-blocking, and is still open after.
func TestInheritedStreams_StayAsTheyAre(t *testing.T) {
	rt := newRuntime(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	if err := setBlocking(r); err != nil {
		t.Fatal(err)
	}
	c := spawn(t, rt, lindbridge.Program{Module: load(t, rt, mixWat(0, 0, 2)), Stdin: r, Stdout: io.Discard})
	c.Kill()
	finish(t, c)
	if blocking, err := isBlocking(r); err != nil || !blocking {
		t.Errorf("blocking %v, %v after the cage", blocking, err)
	}
	if _, err := w.WriteString("x"); err != nil {
		t.Error(err)
	}
}

func TestWait_HonoursItsContext(t *testing.T) {
	rt := newRuntime(t)
	c := spawn(t, rt, lindbridge.Program{Module: load(t, rt, mixWat(0, 1, 0))})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	c.Kill()
	c.Kill()
	if code := finish(t, c); code != 137 {
		t.Errorf("exit code %d", code)
	}
	c.Kill() // after the end: nothing
	if code := finish(t, c); code != 137 {
		t.Errorf("exit code %d the second time", code)
	}
}

// TestKill_OfACageThatIsGoneSparesTheNext: a cage's id is used again, and who still holds the old cage cannot touch the new
// one with it (I7).
func TestKill_OfACageThatIsGoneSparesTheNext(t *testing.T) {
	rt := newRuntime(t)
	gone := spawn(t, rt, lindbridge.Program{Module: load(t, rt, `(module (func (export "_start")))`)})
	finish(t, gone)
	next := spawn(t, rt, lindbridge.Program{Module: load(t, rt, mixWat(0, 1, 0))})
	if next.ID() != gone.ID() {
		t.Fatalf("ids %d and %d: the test needs the same", gone.ID(), next.ID())
	}
	gone.Kill()
	if phase := next.Report().Phase; phase != exitcoord.Running {
		t.Errorf("the next cage is %v", phase)
	}
	next.Kill()
	finish(t, next)
}
