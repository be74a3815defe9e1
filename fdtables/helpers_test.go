package fdtables_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// pipeKind is a kind like one that a grate would have.
const pipeKind fdtables.Kind = 7

// call is one call of a close handler. left 0 is a Last.
type call struct {
	e    fdtables.Entry
	left uint64
}

// calls records the handlers that ran, in order.
type calls struct {
	mu  sync.Mutex
	all []call // guarded by mu
}

func (c *calls) add(e fdtables.Entry, left uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, call{e, left})
	return nil
}

// take is the calls since the last take.
func (c *calls) take() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all
	c.all = nil
	return all
}

// record makes handlers of kind k that are recorded.
func record(ts *fdtables.Tables, k fdtables.Kind) *calls {
	c := &calls{}
	ts.RegisterCloseHandlers(k, fdtables.Handlers{Intermediate: c.add, Last: c.add})
	return c
}

// entry is what Open(pipeKind, underfd, false, 0) makes.
func entry(underfd uint64) fdtables.Entry { return fdtables.Entry{Kind: pipeKind, UnderFD: underfd} }

func newTable(tb testing.TB, ts *fdtables.Tables, cage abi.CageID) *fdtables.Table {
	tb.Helper()
	t, err := ts.Init(cage)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// open opens underfd in t and expects it at fd.
func open(tb testing.TB, t *fdtables.Table, underfd uint64, fd fdtables.FD) {
	tb.Helper()
	got, errno := t.Open(pipeKind, underfd, false, 0)
	if errno != 0 || got != fd {
		tb.Fatalf("Open(%d) = %d, %v, want fd %d", underfd, got, errno, fd)
	}
}

func wantCalls(tb testing.TB, c *calls, want ...call) {
	tb.Helper()
	if got := c.take(); !slices.Equal(got, want) {
		tb.Fatalf("handlers %+v, want %+v", got, want)
	}
}

func wantErr(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("error %v, want %v", err, want)
	}
}

// wantErrno is for calls that answer a descriptor and an abi.Errno.
func wantErrno(tb testing.TB, fd fdtables.FD, errno, want abi.Errno) {
	tb.Helper()
	if errno != want || fd != -1 {
		tb.Fatalf("answer %d, %v, want -1, %v", fd, errno, want)
	}
}

// wantTable compares the open descriptors of t, by their underfds.
func wantTable(tb testing.TB, t *fdtables.Table, want map[fdtables.FD]uint64) {
	tb.Helper()
	got := t.Snapshot()
	if len(got) != len(want) {
		tb.Fatalf("%d descriptors %v, want %v", len(got), got, want)
	}
	for _, f := range got {
		if u, ok := want[f.FD]; !ok || u != f.Entry.UnderFD {
			tb.Fatalf("fd %d is %+v, want %v", f.FD, f.Entry, want)
		}
		if e, errno := t.Translate(f.FD); errno != 0 || e != f.Entry {
			tb.Fatalf("Translate(%d) = %+v, %v, but Snapshot has %+v", f.FD, e, errno, f.Entry)
		}
	}
}

func wantOpen(tb testing.TB, ts *fdtables.Tables, want int) {
	tb.Helper()
	if got := ts.Open(); got != want {
		tb.Fatalf("%d underfds are open, want %d", got, want)
	}
}
