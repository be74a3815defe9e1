package fdtables_test

import (
	"errors"
	"math"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

func TestOpen_TakesTheLowestFree(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	for fd := range fdtables.FD(200) { // past several growths
		open(t, tab, uint64(fd)+1000, fd)
	}
	for _, fd := range []fdtables.FD{150, 3, 64} {
		wantErr(t, tab.Close(fd), nil)
	}
	for i, fd := range []fdtables.FD{3, 64, 150, 200} {
		open(t, tab, uint64(i)+5000, fd)
	}
}

func TestOpen_KeepsTheWholeEntry(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	want := fdtables.Entry{
		Kind: fdtables.KindReserved - 1, UnderFD: math.MaxUint64, CloseOnExec: true, PerFDInfo: math.MaxUint64 - 1,
	}
	fd, errno := tab.Open(want.Kind, want.UnderFD, want.CloseOnExec, want.PerFDInfo)
	if errno != 0 {
		t.Fatal(errno)
	}
	if got, errno := tab.Translate(fd); errno != 0 || got != want {
		t.Fatalf("Translate = %+v, %v, want %+v", got, errno, want)
	}
}

func TestTranslate_IsEBADFForWhatIsNotOpen(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	check := func() {
		t.Helper()
		for _, fd := range []fdtables.FD{1, 15, 16, 1023, 1024, fdtables.MaxLimit, math.MaxInt32, -1, math.MinInt32} {
			if e, errno := tab.Translate(fd); errno != abi.EBADF || e != (fdtables.Entry{}) {
				t.Fatalf("Translate(%d) = %+v, %v", fd, e, errno)
			}
			r, errno := tab.Acquire(fd)
			if errno != abi.EBADF {
				t.Fatalf("Acquire(%d): %v", fd, errno)
			}
			r.Release() // of nothing
			if e := r.Entry(); e != (fdtables.Entry{}) {
				t.Fatalf("entry of nothing: %+v", e)
			}
			wantErr(t, tab.Close(fd), abi.EBADF)
			if errno := tab.SetCloseOnExec(fd, true); errno != abi.EBADF {
				t.Fatalf("SetCloseOnExec(%d): %v", fd, errno)
			}
			if errno := tab.SetPerFDInfo(fd, 1); errno != abi.EBADF {
				t.Fatalf("SetPerFDInfo(%d): %v", fd, errno)
			}
			got, errno := tab.Dup(fd)
			wantErrno(t, got, errno, abi.EBADF)
			wantErr(t, tab.Dup2(fd, 0, false), abi.EBADF)
			wantErr(t, tab.Dup2(fd, fd, false), abi.EBADF)
		}
	}
	check()
	open(t, tab, 1, 0)
	check()
	wantTable(t, tab, map[fdtables.FD]uint64{0: 1})
}

func TestClose_Twice_IsEBADFAndClosesOnce(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	open(t, tab, 1, 0)
	wantErr(t, tab.Close(0), nil)
	wantErr(t, tab.Close(0), abi.EBADF)
	wantCalls(t, c, call{entry(1), 0})
}

func TestOpen_AtTheLimitIsEMFILEAndChangesNothing(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	if tab.Limit() != fdtables.DefaultLimit {
		t.Fatalf("default limit %d", tab.Limit())
	}
	for fd := range fdtables.FD(fdtables.DefaultLimit) {
		open(t, tab, uint64(fd), fd)
	}
	fd, errno := tab.Open(pipeKind, 5000, false, 0)
	wantErrno(t, fd, errno, abi.EMFILE)
	fd, errno = tab.Open(pipeKind, 0, false, 0) // of one that is open
	wantErrno(t, fd, errno, abi.EMFILE)
	fd, errno = tab.OpenFrom(1000, pipeKind, 5000, false, 0)
	wantErrno(t, fd, errno, abi.EMFILE)
	fd, errno = tab.Dup(0)
	wantErrno(t, fd, errno, abi.EMFILE)
	fd, errno = tab.DupFrom(0, 1000, true)
	wantErrno(t, fd, errno, abi.EMFILE)
	wantCalls(t, c)
	wantOpen(t, ts, fdtables.DefaultLimit)
	if n, io := ts.References(pipeKind, 0); n != 1 || io != 0 {
		t.Fatalf("%d, %d references after failures", n, io)
	}
	wantErr(t, tab.Close(700), nil)
	open(t, tab, 5000, 700)
}

func TestOpenFrom_TakesTheLowestFreeFromTheStart(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	for i, c := range []struct{ start, want fdtables.FD }{
		{0, 0}, {0, 1}, {5, 5}, {5, 6}, {0, 2}, {4, 4}, {4, 7}, {1023, 1023}, {63, 63}, {63, 64},
	} {
		fd, errno := tab.OpenFrom(c.start, pipeKind, uint64(i), false, 0)
		if errno != 0 || fd != c.want {
			t.Fatalf("OpenFrom(%d) = %d, %v, want %d", c.start, fd, errno, c.want)
		}
	}
}

func TestStart_OutOfRangeIsEINVAL(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	open(t, tab, 1, 0)
	for _, start := range []fdtables.FD{-1, math.MinInt32, 1024, 1025, math.MaxInt32} {
		fd, errno := tab.OpenFrom(start, pipeKind, 2, false, 0)
		wantErrno(t, fd, errno, abi.EINVAL)
		fd, errno = tab.DupFrom(0, start, false)
		wantErrno(t, fd, errno, abi.EINVAL)
		fd, errno = tab.DupFrom(9, start, false) // EBADF comes first, as in Linux
		wantErrno(t, fd, errno, abi.EBADF)
	}
	wantOpen(t, ts, 1)
}

func TestOpenAt_ReplacesThenClosesTheOld(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	wantErr(t, tab.OpenAt(5, pipeKind, 1, false, 0), nil)
	wantCalls(t, c)
	var seen fdtables.Entry
	ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{Last: func(e fdtables.Entry, left uint64) error {
		seen, _ = tab.Translate(5)
		return c.add(e, left)
	}})
	wantErr(t, tab.OpenAt(5, pipeKind, 2, true, 3), nil)
	wantCalls(t, c, call{entry(1), 0})
	if want := (fdtables.Entry{Kind: pipeKind, UnderFD: 2, CloseOnExec: true, PerFDInfo: 3}); seen != want {
		t.Fatalf("the handler sees %+v, want the new entry %+v", seen, want)
	}
	open(t, tab, 9, 0) // 0 is still the lowest
}

func TestOpenAt_OfTheSameUnderFDIsIntermediateAndNeverLast(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	open(t, tab, 1, 0)
	wantErr(t, tab.OpenAt(0, pipeKind, 1, false, 0), nil)
	wantCalls(t, c, call{entry(1), 1})
	wantErr(t, tab.Close(0), nil)
	wantCalls(t, c, call{entry(1), 0})
}

func TestOpenAt_OutOfRangeIsEBADFAndLeaksNothing(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	open(t, tab, 1, 0)
	// Upstream indexes past its array, and keeps a reference, at exactly 1024.
	for _, fd := range []fdtables.FD{-1, math.MinInt32, 1024, 1025, math.MaxInt32} {
		wantErr(t, tab.OpenAt(fd, pipeKind, 1, false, 0), abi.EBADF)
		wantErr(t, tab.Dup2(0, fd, false), abi.EBADF)
	}
	if n, _ := ts.References(pipeKind, 1); n != 1 {
		t.Fatalf("%d references after failures", n)
	}
	wantErr(t, tab.Close(0), nil)
	wantCalls(t, c, call{entry(1), 0})
}

func TestOpen_RefusesReservedKinds(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	for _, k := range []fdtables.Kind{fdtables.KindReserved, math.MaxUint32} {
		fd, errno := tab.Open(k, 1, false, 0)
		wantErrno(t, fd, errno, abi.EINVAL)
		wantErr(t, tab.OpenAt(0, k, 1, false, 0), abi.EINVAL)
	}
	wantOpen(t, ts, 0)
}

func TestDup_CopiesAllButCloseOnExec(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	fd, _ := tab.Open(pipeKind, 1, true, 42)
	for _, c := range []struct {
		dup     func() (fdtables.FD, abi.Errno)
		want    fdtables.FD
		cloexec bool
	}{
		{func() (fdtables.FD, abi.Errno) { return tab.Dup(fd) }, 1, false},
		{func() (fdtables.FD, abi.Errno) { return tab.DupFrom(fd, 10, false) }, 10, false},
		{func() (fdtables.FD, abi.Errno) { return tab.DupFrom(fd, 10, true) }, 11, true},
		{func() (fdtables.FD, abi.Errno) { return 20, errnoOf(tab.Dup2(fd, 20, false)) }, 20, false},
		{func() (fdtables.FD, abi.Errno) { return 21, errnoOf(tab.Dup2(fd, 21, true)) }, 21, true},
	} {
		got, errno := c.dup()
		if errno != 0 || got != c.want {
			t.Fatalf("dup = %d, %v, want %d", got, errno, c.want)
		}
		want := fdtables.Entry{Kind: pipeKind, UnderFD: 1, CloseOnExec: c.cloexec, PerFDInfo: 42}
		if e, _ := tab.Translate(got); e != want {
			t.Fatalf("fd %d is %+v, want %+v", got, e, want)
		}
	}
	if n, _ := ts.References(pipeKind, 1); n != 6 {
		t.Fatalf("%d references, want 6", n)
	}
}

func errnoOf(err error) abi.Errno {
	var e abi.Errno
	errors.As(err, &e)
	return e
}

func TestDup2_OntoItselfChangesNothing(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	fd, _ := tab.Open(pipeKind, 1, true, 42)
	before := tab.Snapshot()[0]
	wantErr(t, tab.Dup2(fd, fd, false), nil)
	if after := tab.Snapshot(); len(after) != 1 || after[0] != before {
		t.Fatalf("%+v became %+v", before, after)
	}
	wantCalls(t, c)
	// Linux looks at nothing but that it is open: not even at the limit.
	tab.SetLimit(0)
	wantErr(t, tab.Dup2(fd, fd, false), nil)
}

func TestDup2_ClosesWhatWasThereAndKeepsTheLowestFree(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	open(t, tab, 1, 0)
	open(t, tab, 2, 1)
	wantErr(t, tab.Dup2(0, 1, false), nil)
	wantCalls(t, c, call{entry(2), 0})
	wantErr(t, tab.Dup2(0, 3, false), nil)
	open(t, tab, 3, 2)
	open(t, tab, 4, 4)
	wantTable(t, tab, map[fdtables.FD]uint64{0: 1, 1: 1, 2: 3, 3: 1, 4: 4})
}

func TestSet_ChangesOneDescriptorOnly(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	open(t, tab, 1, 0)
	if _, errno := tab.Dup(0); errno != 0 {
		t.Fatal(errno)
	}
	if errno := tab.SetCloseOnExec(1, true); errno != 0 {
		t.Fatal(errno)
	}
	if errno := tab.SetPerFDInfo(1, 9); errno != 0 {
		t.Fatal(errno)
	}
	if e, _ := tab.Translate(0); e != entry(1) {
		t.Fatalf("fd 0 is %+v", e)
	}
	changed := fdtables.Entry{Kind: pipeKind, UnderFD: 1, CloseOnExec: true, PerFDInfo: 9}
	if e, _ := tab.Translate(1); e != changed {
		t.Fatalf("fd 1 is %+v", e)
	}
	wantErr(t, tab.Close(0), nil)
	wantErr(t, tab.Close(1), nil)
	wantCalls(t, c, call{entry(1), 1}, call{changed, 0})
}

func TestSetLimit(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	for fd := range fdtables.FD(4) {
		open(t, tab, uint64(fd), fd)
	}
	if errno := tab.SetLimit(2); errno != 0 || tab.Limit() != 2 {
		t.Fatalf("SetLimit(2): %v, then %d", errno, tab.Limit())
	}
	wantTable(t, tab, map[fdtables.FD]uint64{0: 0, 1: 1, 2: 2, 3: 3}) // those above it stay open
	fd, errno := tab.Dup(3)
	wantErrno(t, fd, errno, abi.EMFILE)
	wantErr(t, tab.OpenAt(3, pipeKind, 9, false, 0), abi.EBADF)
	wantErr(t, tab.Close(3), nil)
	wantErr(t, tab.Close(0), nil)
	open(t, tab, 9, 0)

	tab.SetLimit(0)
	fd, errno = tab.Open(pipeKind, 1, false, 0)
	wantErrno(t, fd, errno, abi.EMFILE)
	fd, errno = tab.Dup(0)
	wantErrno(t, fd, errno, abi.EMFILE)
	fd, errno = tab.DupFrom(0, 0, false)
	wantErrno(t, fd, errno, abi.EINVAL)

	for _, n := range []uint64{fdtables.MaxLimit + 1, math.MaxUint64} {
		if errno := tab.SetLimit(n); errno != abi.EPERM || tab.Limit() != 0 {
			t.Fatalf("SetLimit(%d): %v, then %d", n, errno, tab.Limit())
		}
	}
	if errno := tab.SetLimit(fdtables.MaxLimit); errno != 0 {
		t.Fatal(errno)
	}
	wantErr(t, tab.OpenAt(fdtables.MaxLimit-1, pipeKind, 77, false, 0), nil)
	wantErr(t, tab.OpenAt(fdtables.MaxLimit, pipeKind, 77, false, 0), abi.EBADF)
	if e, errno := tab.Translate(fdtables.MaxLimit - 1); errno != 0 || e != entry(77) {
		t.Fatalf("the last fd is %+v, %v", e, errno)
	}
	open(t, tab, 78, 3)
}

func TestMaxOpen_IsENFILEExactlyAtTheLimit(t *testing.T) {
	for _, limit := range []uint64{1, 31, 32, 33, 500} {
		ts := fdtables.New(fdtables.Config{MaxOpen: limit})
		tab := newTable(t, ts, 2)
		for i := range limit {
			open(t, tab, i*1000, fdtables.FD(i)) // far apart: all over the shards
		}
		fd, errno := tab.Open(pipeKind, 7, false, 0)
		wantErrno(t, fd, errno, abi.ENFILE)
		wantErr(t, tab.OpenAt(0, pipeKind, 7, false, 0), abi.ENFILE) // the new one would be opened first
		fd, errno = tab.Dup(0)                                       // shares an underfd
		if errno != 0 {
			t.Fatalf("Dup at the limit: %v", errno)
		}
		wantErr(t, ts.Fork(2, 3), nil)
		if _, errno := tab.Open(pipeKind, 0, false, 0); errno != 0 { // joins one
			t.Fatalf("Open of an open underfd at the limit: %v", errno)
		}
		wantOpen(t, ts, int(limit))
		if _, err := ts.Remove(3); err != nil {
			t.Fatal(err)
		}
		wantErr(t, tab.Close(fd), nil)
		for i := range limit { // each one that is closed makes room for exactly one
			if i > 0 {
				wantErr(t, tab.Close(fdtables.FD(i)), nil)
				open(t, tab, 1_000_000+i*1000, min(fdtables.FD(i), fd))
			}
			got, errno := tab.Open(pipeKind, 7, false, 0)
			wantErrno(t, got, errno, abi.ENFILE)
		}
	}
}

func TestMaxOpen_EMFILEComesFirst(t *testing.T) {
	ts := fdtables.New(fdtables.Config{MaxOpen: 1})
	tab := newTable(t, ts, 2)
	open(t, tab, 1, 0)
	tab.SetLimit(1)
	fd, errno := tab.Open(pipeKind, 2, false, 0)
	wantErrno(t, fd, errno, abi.EMFILE)
}
