package fdtables_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

func TestClose_CountsOverAllCages(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c := record(ts, pipeKind)
	a, b := newTable(t, ts, 2), newTable(t, ts, 1<<40)
	open(t, a, 1, 0)
	open(t, b, 1, 0) // by a call of its own: the pair has one count
	open(t, a, 1, 1)
	if n, io := ts.References(pipeKind, 1); n != 3 || io != 0 {
		t.Fatalf("%d, %d references", n, io)
	}
	wantOpen(t, ts, 1)
	wantErr(t, a.Close(0), nil)
	wantCalls(t, c, call{entry(1), 2})
	wantErr(t, b.Close(0), nil)
	wantCalls(t, c, call{entry(1), 1})
	wantErr(t, a.Close(1), nil)
	wantCalls(t, c, call{entry(1), 0})
	wantOpen(t, ts, 0)
}

func TestClose_CountsKindsAndUnderFDsApart(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c7, c300 := record(ts, pipeKind), record(ts, 300)
	record(ts, 301) // leaves the others
	tab := newTable(t, ts, 2)
	open(t, tab, 1, 0)
	open(t, tab, 2, 1)
	if _, errno := tab.Open(300, 1, false, 0); errno != 0 {
		t.Fatal(errno)
	}
	if _, errno := tab.Open(fdtables.KindKernel, 1, false, 0); errno != 0 { // without handlers
		t.Fatal(errno)
	}
	for fd := range fdtables.FD(4) {
		wantErr(t, tab.Close(fd), nil)
	}
	wantCalls(t, c7, call{entry(1), 0}, call{entry(2), 0})
	wantCalls(t, c300, call{fdtables.Entry{Kind: 300, UnderFD: 1}, 0})
}

func TestClose_GivesTheHandlerTheEntryThatWasClosed(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	var want []call
	for i := range uint64(3) {
		fd, errno := tab.Open(pipeKind, 1, i == 1, i)
		if errno != 0 || fd != fdtables.FD(i) {
			t.Fatal(fd, errno)
		}
		want = append(want,
			call{fdtables.Entry{Kind: pipeKind, UnderFD: 1, CloseOnExec: i == 1, PerFDInfo: i}, 2 - i})
	}
	for fd := range fdtables.FD(3) {
		wantErr(t, tab.Close(fd), nil)
	}
	wantCalls(t, c, want...)
}

func TestRegister_ReplacesBoth(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	for _, k := range []fdtables.Kind{pipeKind, 15, 16, 1 << 30} {
		old := record(ts, k)
		c := record(ts, k)
		tab := newTable(t, ts, 2)
		for range 2 {
			if _, errno := tab.Open(k, 1, false, 0); errno != 0 {
				t.Fatal(errno)
			}
		}
		wantErr(t, tab.Close(0), nil)
		ts.RegisterCloseHandlers(k, fdtables.Handlers{Last: c.add})
		if _, errno := tab.Open(k, 1, false, 0); errno != 0 {
			t.Fatal(errno)
		}
		wantErr(t, tab.Close(0), nil) // no Intermediate any more
		wantErr(t, tab.Close(1), nil)
		e := fdtables.Entry{Kind: k, UnderFD: 1}
		wantCalls(t, c, call{e, 1}, call{e, 0})
		wantCalls(t, old)
		ts.RegisterCloseHandlers(k, fdtables.Handlers{})
		if _, err := ts.Remove(2); err != nil {
			t.Fatal(err)
		}
	}
}

// errHandler is what failing handlers return.
var errHandler = errors.New("no")

// badHandlers fail for even underfds and panic for odd ones, after they were recorded.
func badHandlers(c *calls) fdtables.Handlers {
	bad := func(e fdtables.Entry, left uint64) error {
		_ = c.add(e, left)
		if e.UnderFD%2 == 0 {
			return errHandler
		}
		panic(abi.EIO)
	}
	return fdtables.Handlers{Intermediate: bad, Last: bad}
}

func TestClose_ReportsAHandlerThatFailsAndClosesAllTheSame(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := &calls{}, newTable(t, ts, 2)
	ts.RegisterCloseHandlers(pipeKind, badHandlers(c))
	open(t, tab, 4, 0)
	open(t, tab, 5, 1)
	open(t, tab, 4, 2)

	err := tab.Close(0)
	var ce *fdtables.CloseError
	if !errors.As(err, &ce) || !errors.Is(err, errHandler) {
		t.Fatalf("error %v", err)
	}
	if ce.Cage != 2 || ce.FD != 0 || ce.Entry != entry(4) || ce.Remaining != 1 {
		t.Fatalf("error %+v", ce)
	}
	if got := err.Error(); got != "close fd 0 of cage 2 (kind 7, underfd 4, 1 references left): no" {
		t.Fatal(got)
	}

	err = tab.Close(1)
	var pe *fdtables.PanicError
	if !errors.As(err, &pe) || pe.Value != abi.EIO || !errors.Is(err, abi.EIO) || errnoOf(err) != abi.EIO {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(string(pe.Stack), "badHandlers") {
		t.Fatalf("the stack does not show the handler:\n%s", pe.Stack)
	}
	wantErr(t, tab.Close(1), abi.EBADF)
	wantErr(t, tab.OpenAt(2, pipeKind, 6, false, 0), errHandler)
	open(t, tab, 7, 0)
	wantErr(t, tab.Dup2(2, 0, false), abi.EIO)
	wantTable(t, tab, map[fdtables.FD]uint64{0: 6, 2: 6})
	wantCalls(t, c, call{entry(4), 1}, call{entry(5), 0}, call{entry(4), 0}, call{entry(7), 0})
}

func TestPanicError_OfNoError(t *testing.T) {
	e := &fdtables.PanicError{Value: "oops"}
	if e.Error() != "close handler panicked: oops" || e.Unwrap() != nil {
		t.Fatal(e, e.Unwrap())
	}
}

func TestRemove_ClosesAllInOrderWhateverHandlersDo(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := &calls{}, newTable(t, ts, 2)
	ts.RegisterCloseHandlers(pipeKind, badHandlers(c))
	const n = 300 // several batches
	var want []call
	for i := range uint64(n) {
		u := i / 3 * 1000 // each underfd three times
		open(t, tab, u, fdtables.FD(i))
		want = append(want, call{entry(u), 2 - i%3})
	}
	failed, err := ts.Remove(2)
	if err != nil {
		t.Fatal(err)
	}
	wantCalls(t, c, want...)
	if len(failed) != n {
		t.Fatalf("%d failures, want %d", len(failed), n)
	}
	for i, f := range failed {
		w := want[i]
		if f.Cage != 2 || int(f.FD) != i || f.Entry != w.e || f.Remaining != w.left || f.Err == nil {
			t.Fatalf("failure %d is %+v, want of %+v", i, f, w)
		}
	}
	wantOpen(t, ts, 0)
}

func TestRemove_LeavesNothingOfTheCage(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c := record(ts, pipeKind)
	tab := newTable(t, ts, 2)
	open(t, tab, 1, 0)
	if failed, err := ts.Remove(2); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	wantCalls(t, c, call{entry(1), 0})

	fd, errno := tab.Open(pipeKind, 1, false, 0)
	wantErrno(t, fd, errno, abi.EBADF)
	fd, errno = tab.OpenFrom(5, pipeKind, 1, false, 0)
	wantErrno(t, fd, errno, abi.EBADF)
	fd, errno = tab.Dup(0)
	wantErrno(t, fd, errno, abi.EBADF)
	wantErr(t, tab.OpenAt(0, pipeKind, 1, false, 0), abi.EBADF)
	wantErr(t, tab.Dup2(0, 0, false), abi.EBADF)
	wantErr(t, tab.Dup2(0, 1, false), abi.EBADF)
	wantErr(t, tab.Close(0), abi.EBADF)
	if _, errno := tab.Translate(0); errno != abi.EBADF {
		t.Fatal(errno)
	}
	if _, errno := tab.Acquire(0); errno != abi.EBADF {
		t.Fatal(errno)
	}
	if errno := tab.SetCloseOnExec(0, true); errno != abi.EBADF {
		t.Fatal(errno)
	}
	if errno := tab.SetPerFDInfo(0, 1); errno != abi.EBADF {
		t.Fatal(errno)
	}
	if errno := tab.SetLimit(10); errno != abi.EBADF {
		t.Fatal(errno)
	}
	if got := tab.CloseOnExecAll(); got != nil {
		t.Fatal(got)
	}
	if got := tab.Snapshot(); got != nil {
		t.Fatal(got)
	}
	wantOpen(t, ts, 0)
	_, err := ts.Table(2)
	wantErr(t, err, fdtables.ErrNoCage)
	_, err = ts.Remove(2)
	wantErr(t, err, fdtables.ErrNoCage)
	wantErr(t, ts.Fork(2, 3), fdtables.ErrNoCage)
	_, err = ts.Table(3)
	wantErr(t, err, fdtables.ErrNoCage)

	again := newTable(t, ts, 2) // and the old handle stays dead
	open(t, again, 1, 0)
	if _, errno := tab.Translate(0); errno != abi.EBADF {
		t.Fatal(errno)
	}
	fd, errno = tab.Open(pipeKind, 2, false, 0)
	wantErrno(t, fd, errno, abi.EBADF)
}

func TestCloseOnExecAll_ClosesTheMarkedOnesOnly(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := &calls{}, newTable(t, ts, 2)
	ts.RegisterCloseHandlers(pipeKind, badHandlers(c))
	var want []call
	for i := range fdtables.FD(200) {
		marked := i%3 == 0
		if fd, errno := tab.Open(pipeKind, uint64(i), marked, 0); errno != 0 || fd != i {
			t.Fatal(fd, errno)
		}
		if marked {
			want = append(want, call{fdtables.Entry{Kind: pipeKind, CloseOnExec: true, UnderFD: uint64(i)}, 0})
		}
	}
	failed := tab.CloseOnExecAll()
	wantCalls(t, c, want...)
	if len(failed) != len(want) || failed[1].FD != 3 || failed[1].Cage != 2 {
		t.Fatalf("%d failures: %+v", len(failed), failed[:2])
	}
	for i := range fdtables.FD(200) {
		if _, errno := tab.Translate(i); (errno == abi.EBADF) != (i%3 == 0) {
			t.Fatalf("fd %d: %v", i, errno)
		}
	}
	if got := tab.CloseOnExecAll(); got != nil {
		t.Fatalf("again: %v", got)
	}
	open(t, tab, 1000, 0)
	open(t, tab, 1001, 3)
}

// TestCloseOnExecAll_LeavesWhatIsMarkedLater has a handler that closes an unmarked descriptor while exec still goes through
// the marked ones, and opens it anew, marked, in its place: that one is not exec's.
func TestCloseOnExecAll_LeavesWhatIsMarkedLater(t *testing.T) {
	const (
		marked = 3 * 64 // some batches: the handlers of the first run before the last is looked at
		kept   = marked
		later  = 1000 // an underfd
	)
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	for fd := range fdtables.FD(marked) {
		if err := tab.OpenAt(fd, fdtables.KindKernel, uint64(fd), true, 0); err != nil {
			t.Fatal(err)
		}
	}
	open(t, tab, kept, kept)
	ts.RegisterCloseHandlers(fdtables.KindKernel, fdtables.Handlers{Last: func(e fdtables.Entry, _ uint64) error {
		if e.UnderFD != 0 {
			return nil
		}
		return errors.Join(tab.Close(kept), tab.OpenAt(kept, pipeKind, later, true, 0))
	}})
	heard := record(ts, pipeKind)
	if failed := tab.CloseOnExecAll(); failed != nil {
		t.Fatalf("CloseOnExecAll() = %v", failed)
	}
	wantCalls(t, heard, call{entry(kept), 0})
	wantTable(t, tab, map[fdtables.FD]uint64{kept: later})
	if n, _ := ts.References(pipeKind, later); n != 1 {
		t.Errorf("%d references to what was opened, want 1", n)
	}
	ref, errno := tab.Acquire(kept)
	if errno != 0 {
		t.Fatalf("Acquire = %v", errno)
	}
	ref.Release()
	if failed := tab.CloseOnExecAll(); failed != nil {
		t.Fatalf("CloseOnExecAll() = %v", failed)
	}
	wantCalls(t, heard, call{fdtables.Entry{Kind: pipeKind, UnderFD: later, CloseOnExec: true}, 0})
	wantOpen(t, ts, 0)
}

func TestFork_SharesEveryUnderFD(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, a := record(ts, pipeKind), newTable(t, ts, 2)
	for i := range fdtables.FD(100) {
		open(t, a, uint64(i), i)
	}
	wantErr(t, a.Close(50), nil)
	if errno := a.SetLimit(101); errno != 0 {
		t.Fatal(errno)
	}
	if errno := a.SetCloseOnExec(7, true); errno != 0 {
		t.Fatal(errno)
	}
	c.take()
	wantErr(t, ts.Fork(2, 3), nil)
	b, err := ts.Table(3)
	wantErr(t, err, nil)
	if !slices.Equal(a.Snapshot(), b.Snapshot()) || b.Limit() != 101 || b.Cage() != 3 {
		t.Fatalf("the copy of cage %d differs", b.Cage())
	}
	wantCalls(t, c)

	// From here on the two are apart.
	open(t, b, 1000, 50)
	wantErr(t, a.Close(1), nil)
	wantCalls(t, c, call{entry(1), 1})
	if errno := b.SetCloseOnExec(2, true); errno != 0 {
		t.Fatal(errno)
	}
	if e, _ := a.Translate(2); e != entry(2) {
		t.Fatalf("a change in the copy shows in the source: %+v", e)
	}
	if _, errno := a.Translate(50); errno != abi.EBADF {
		t.Fatal("an open in the copy shows in the source")
	}
	if e, errno := b.Translate(1); errno != 0 || e != entry(1) {
		t.Fatalf("a close in the source shows in the copy: %v", errno)
	}
	wantErr(t, b.Close(1), nil)
	wantCalls(t, c, call{entry(1), 0})
	if _, err := ts.Remove(2); err != nil {
		t.Fatal(err)
	}
	for _, got := range c.take() {
		if got.left != 1 {
			t.Fatalf("%+v, want one left, in the copy", got)
		}
	}
}

func TestInitAndFork_RefuseACageThatExists(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	open(t, tab, 1, 0)
	newTable(t, ts, 3)
	_, err := ts.Init(2)
	wantErr(t, err, fdtables.ErrCageExists)
	wantErr(t, ts.Fork(2, 3), fdtables.ErrCageExists)
	wantErr(t, ts.Fork(2, 2), fdtables.ErrCageExists)
	wantErr(t, ts.Fork(9, 3), fdtables.ErrCageExists)
	wantErr(t, ts.Fork(9, 4), fdtables.ErrNoCage)
	wantErr(t, ts.Fork(4, 4), fdtables.ErrNoCage)
	if n, _ := ts.References(pipeKind, 1); n != 1 {
		t.Fatalf("%d references after failed forks", n)
	}
	if got := ts.Cages(); !slices.Equal(got, []abi.CageID{2, 3}) {
		t.Fatalf("cages %v", got)
	}
	newTable(t, ts, 4) // the failed forks have left nothing
}

func TestHandlers_MayCallBack(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	a, b := newTable(t, ts, 2), newTable(t, ts, 3)
	c := &calls{}
	// Each call of a handler closes, opens, forks, execs and removes, in its own cage and in another.
	depth := 0
	ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{
		Intermediate: c.add,
		Last: func(e fdtables.Entry, left uint64) error {
			_ = c.add(e, left)
			if depth > 0 {
				return nil
			}
			depth++
			defer func() { depth-- }()
			for _, tab := range []*fdtables.Table{a, b} {
				fd, errno := tab.Open(pipeKind, e.UnderFD, false, 0) // the pair counts as closed: a count of its own
				if errno != 0 {
					return errno
				}
				if err := tab.Close(fd); err != nil {
					return err
				}
				if err := ts.Fork(tab.Cage(), 99); err != nil {
					return err
				}
				tab.CloseOnExecAll()
				if _, err := ts.Remove(99); err != nil {
					return err
				}
			}
			ts.RegisterCloseHandlers(pipeKind+1, fdtables.Handlers{})
			return nil
		},
	})
	open(t, a, 1, 0)
	open(t, a, 2, 1)
	open(t, b, 3, 0)
	wantErr(t, a.Close(0), nil)
	wantErr(t, a.OpenAt(1, pipeKind, 4, false, 0), nil)
	if failed, err := ts.Remove(3); failed == nil || err != nil {
		t.Fatalf("b is gone when its handler runs, so that opens there fail: %v, %v", failed, err)
	}
	wantTable(t, a, map[fdtables.FD]uint64{1: 4})
	wantOpen(t, ts, 1)
}

func TestLast_RunsWhenTheUnderFDCountsAsClosed(t *testing.T) {
	ts := fdtables.New(fdtables.Config{MaxOpen: 1})
	tab := newTable(t, ts, 2)
	next := uint64(100)
	ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{Last: func(e fdtables.Entry, _ uint64) error {
		if n, io := ts.References(pipeKind, e.UnderFD); n != 0 || io != 0 {
			t.Errorf("%d, %d references of a closed underfd", n, io)
		}
		if e.UnderFD < 100 {
			next++
			_, errno := tab.Open(pipeKind, next, false, 0) // there is room for one
			return errnoErr(errno)
		}
		return nil
	}})
	for _, end := range []func() error{
		func() error { return tab.Close(0) },
		func() error {
			r := acquire(t, tab, 0)
			defer r.Release()
			return tab.Close(0)
		},
		func() error { tab.SetCloseOnExec(0, true); return errors.Join(asErrors(tab.CloseOnExecAll())...) },
	} {
		open(t, tab, 1, 0)
		wantErr(t, end(), nil)
		wantTable(t, tab, map[fdtables.FD]uint64{0: next})
		wantErr(t, tab.Close(0), nil)
	}
}

// asErrors is failures as errors.
func asErrors(failed []fdtables.CloseError) (errs []error) {
	for i := range failed {
		errs = append(errs, &failed[i])
	}
	return errs
}

func TestHandlers_MayRemoveTheirOwnCage(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	lasts := map[uint64]int{}
	ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{Last: func(e fdtables.Entry, _ uint64) error {
		lasts[e.UnderFD]++
		_, err := ts.Remove(2)
		return err
	}})
	for i := range fdtables.FD(130) {
		open(t, tab, uint64(i), i)
	}
	wantErr(t, tab.Close(0), nil)
	for i := range uint64(130) {
		if lasts[i] != 1 {
			t.Fatalf("Last of %d ran %d times", i, lasts[i])
		}
	}
	wantOpen(t, ts, 0)
}
