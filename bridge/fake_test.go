package bridge_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/bridge"
)

// patience is how long a test waits for an event that must come.
const patience = 60 * time.Second

// fakes are the compiled variants of testdata/fakeshim.c, by their defines. They are compiled once each, since a loaded
// library stays loaded.
var fakes struct {
	mu    sync.Mutex
	dir   string            // guarded by mu
	paths map[string]string // guarded by mu
}

// fakeShim compiles testdata/fakeshim.c with the given defines and answers the library's path.
func fakeShim(tb testing.TB, defines ...string) string {
	tb.Helper()
	fakes.mu.Lock()
	defer fakes.mu.Unlock()
	key := strings.Join(defines, " ")
	if path := fakes.paths[key]; path != "" {
		return path
	}
	if fakes.dir == "" {
		dir, err := os.MkdirTemp("", "fakeshim")
		if err != nil {
			tb.Fatal(err)
		}
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			tb.Fatal(err)
		}
		fakes.dir, fakes.paths = dir, make(map[string]string)
	}
	path := filepath.Join(fakes.dir, fmt.Sprintf("fake%d.so", len(fakes.paths)))
	args := []string{"-O2", "-g", "-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror"}
	args = append(args, "-I../rust-shim/include")
	for _, d := range defines {
		args = append(args, "-D"+d)
	}
	compileC(tb, append(args, "-o", path, "testdata/fakeshim.c")...)
	fakes.paths[key] = path
	return path
}

func compileC(tb testing.TB, args ...string) {
	tb.Helper()
	cmd := exec.Command("cc", args...)
	cmd.Dir = packageDir
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("cc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func removeFakes() error {
	fakes.mu.Lock()
	defer fakes.mu.Unlock()
	if fakes.dir == "" {
		return nil
	}
	return os.RemoveAll(fakes.dir)
}

// host is a Handler that tests fill in. Ends and reports arrive on channels with room for all that a test makes.
type host struct {
	call      func(*bridge.Call) bridge.Verdict
	onEnd     func(*bridge.ThreadEnd)
	onQuiet   func(*bridge.Report)
	onPanic   func(value any, stack []byte, user any)
	ends      chan bridge.ThreadEnd
	quiescent chan *bridge.Report
}

func newHost(call func(*bridge.Call) bridge.Verdict) *host {
	return &host{
		call:      call,
		ends:      make(chan bridge.ThreadEnd, 1<<14),
		quiescent: make(chan *bridge.Report, 1<<12),
	}
}

func (h *host) HostCall(c *bridge.Call) bridge.Verdict { return h.call(c) }

func (h *host) ThreadEnd(e *bridge.ThreadEnd) {
	h.ends <- *e
	if h.onEnd != nil {
		h.onEnd(e)
	}
}

func (h *host) Quiescent(r *bridge.Report) {
	if h.onQuiet != nil {
		h.onQuiet(r)
	}
	h.quiescent <- r
}

// end waits for the next thread that ends.
func (h *host) end(tb testing.TB) bridge.ThreadEnd {
	tb.Helper()
	return receive(tb, h.ends, "a thread's end")
}

// quiet waits for the next report.
func (h *host) quiet(tb testing.TB) *bridge.Report {
	tb.Helper()
	return receive(tb, h.quiescent, "a report")
}

func receive[T any](tb testing.TB, c <-chan T, what string) T {
	tb.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		tb.Fatalf("%s did not come within %v", what, patience)
		panic("not reached")
	}
}

// openFake opens the fake shim for h and closes the engine when the test ends.
func openFake(tb testing.TB, h *host, change ...func(*bridge.Config)) *bridge.Engine {
	tb.Helper()
	cfg := bridge.Config{Path: fakeShim(tb), Handler: h, OnPanic: h.onPanic}
	for _, f := range change {
		f(&cfg)
	}
	return open(tb, cfg)
}

// goThreads is the MaxGoThreads of engines that say nothing else. `make test-invariants` has none, so that the shim's own
// threads are tested as much.
var goThreads, _ = strconv.Atoi(os.Getenv("LINDBRIDGE_TEST_GO_THREADS"))

func open(tb testing.TB, cfg bridge.Config) *bridge.Engine {
	tb.Helper()
	if cfg.MaxGoThreads == 0 {
		cfg.MaxGoThreads = goThreads
	}
	e, err := bridge.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Errorf("close engine: %v", err)
		}
	})
	return e
}

// load loads a fake module with these lines.
func load(tb testing.TB, e *bridge.Engine, lines ...string) *bridge.Module {
	tb.Helper()
	m, err := e.Load([]byte("fake\n" + strings.Join(lines, "\n") + "\n"))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// newDomain makes a domain, which is stopped, waited for and closed when the test ends, if it still lives.
func newDomain(tb testing.TB, m *bridge.Module, cfg bridge.DomainConfig) *bridge.Domain {
	tb.Helper()
	d, err := m.NewDomain(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Stop(); err != nil && !errors.Is(err, bridge.ErrHandle) {
			tb.Errorf("stop: %v", err)
		}
		if err := d.Close(); err != nil {
			tb.Errorf("close domain: %v", err)
		}
	})
	return d
}

// start starts a new domain of a fake module with these lines.
func start(tb testing.TB, e *bridge.Engine, lines ...string) *bridge.Domain {
	tb.Helper()
	d := newDomain(tb, load(tb, e, lines...), bridge.DomainConfig{User: tb.Name()})
	must(tb, d.Start("_start"))
	return d
}

// finish stops a domain, waits until it is quiescent, closes it, and answers its report.
func finish(tb testing.TB, h *host, d *bridge.Domain) *bridge.Report {
	tb.Helper()
	must(tb, d.Stop())
	r := h.quiet(tb)
	must(tb, d.Close())
	return r
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func mustBe(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("error is %v, want one of %q", err, want)
	}
}

func equal[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Fatalf("%s is %v, want %v", what, got, want)
	}
}

func contains(tb testing.TB, text string, parts ...string) {
	tb.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			tb.Errorf("%q is not in: %s", part, text)
		}
	}
}

// keepGoing is a host call that does nothing.
func keepGoing(*bridge.Call) bridge.Verdict { return bridge.Continue }
