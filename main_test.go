package lindbridge_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/internal/leakcheck"
)

// TestMain runs one cage so that what is loaded once per process is there, and then lets no test leave anything behind:
// no OS thread, goroutine, descriptor, mapping or memory.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		if err := warmUp(); err != nil {
			fmt.Fprintln(os.Stderr, "warm-up:", err)
			return 1
		}
		before, err := leakcheck.Take()
		if err != nil {
			fmt.Fprintln(os.Stderr, "leak check:", err)
			return 1
		}
		code := m.Run()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left:", err)
			code = 1
		}
		if more, err := before.Settled(peakSlack); err != nil || more != "" {
			fmt.Fprintln(os.Stderr, "left behind:", more, err)
			code = 1
		}
		return code
	}())
}

// peakSlack is what Go and the C library keep after many threads: Go never frees what it knows of a thread (some 20 KiB),
// and the C library keeps its heaps. Go ends no thread either: each that has run a guest's has a stack and its guard.
// TestRuns_HoldNothingMore tells that from a leak.
var peakSlack = leakcheck.Slack{Threads: 1, Mappings: 512, Resident: 384 << 20}

func warmUp() error {
	ctx := context.Background()
	rt, err := lindbridge.New(lindbridge.Config{})
	if err != nil {
		return err
	}
	m, err := rt.Load(ctx, []byte(`(module (func (export "_start")))`))
	if err != nil {
		return err
	}
	c, err := rt.Spawn(ctx, lindbridge.Program{Module: m})
	if err != nil {
		return err
	}
	if _, err := c.Wait(ctx); err != nil {
		return err
	}
	return rt.Close(ctx)
}

// goThreads is the MaxGoThreads of the runtimes here. `make test-invariants` has none, so that the shim's own threads are
// tested as much.
var goThreads, _ = strconv.Atoi(os.Getenv("LINDBRIDGE_TEST_GO_THREADS"))

// patience is how long anything may take that should take microseconds, on a machine that is busy with other things.
const patience = 60 * time.Second

// newRuntime makes a runtime that the test's end closes.
func newRuntime(t testing.TB, change ...func(*lindbridge.Config)) *lindbridge.Runtime {
	t.Helper()
	cfg := lindbridge.Config{MaxGoThreads: goThreads}
	for _, c := range change {
		c(&cfg)
	}
	rt, err := lindbridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := rt.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return rt
}

func load(t testing.TB, rt *lindbridge.Runtime, wat string) *lindbridge.Module {
	t.Helper()
	m, err := rt.Load(t.Context(), []byte(wat))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// guest loads one of the committed guest programs.
func guest(t testing.TB, rt *lindbridge.Runtime, name string) *lindbridge.Module {
	t.Helper()
	m, err := rt.LoadFile(t.Context(), filepath.Join("testdata", "guests", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func spawn(t testing.TB, rt *lindbridge.Runtime, p lindbridge.Program) *lindbridge.Cage {
	t.Helper()
	c, err := rt.Spawn(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// finish waits for the cage, and answers its exit code.
func finish(t testing.TB, c *lindbridge.Cage) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	status, err := c.Wait(ctx)
	if err != nil {
		t.Fatalf("%v\n%v\n%s", err, c.Report(), stacks())
	}
	return status.ExitCode()
}

// silence is the reading end of a pipe that stays open until the test's end, and that nobody writes to.
func silence(t testing.TB) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r
}

func stacks() []byte {
	b := make([]byte, 1<<20)
	return b[:runtime.Stack(b, true)]
}

// times is how often a test repeats itself: n, or what the environment variable says, as make targets do.
func times(t testing.TB, variable string, n int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return n
	}
	v, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return v
}
