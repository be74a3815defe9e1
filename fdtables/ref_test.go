package fdtables_test

import (
	"errors"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

func acquire(tb testing.TB, t *fdtables.Table, fd fdtables.FD) fdtables.Ref {
	tb.Helper()
	r, errno := t.Acquire(fd)
	if errno != 0 {
		tb.Fatalf("Acquire(%d): %v", fd, errno)
	}
	return r
}

func TestRef_KeepsTheUnderFDOpenPastItsDescriptor(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	fd, _ := tab.Open(pipeKind, 1, true, 42)
	r1, r2 := acquire(t, tab, fd), acquire(t, tab, fd)
	closed := r1.Entry()
	if errno := tab.SetPerFDInfo(fd, 43); errno != 0 {
		t.Fatal(errno)
	}
	wantErr(t, tab.Close(fd), nil)
	if _, errno := tab.Acquire(fd); errno != abi.EBADF {
		t.Fatal(errno)
	}
	wantCalls(t, c) // neither handler: it is not the end, and no descriptor remains
	wantOpen(t, ts, 1)
	if n, io := ts.References(pipeKind, 1); n != 0 || io != 2 {
		t.Fatalf("%d, %d references", n, io)
	}
	if r1.Entry() != closed || closed.PerFDInfo != 42 {
		t.Fatalf("the entry of a Ref changed to %+v", r1.Entry())
	}
	r1.Release()
	r1.Release() // no more than once
	wantCalls(t, c)
	r2.Release()
	wantCalls(t, c, call{fdtables.Entry{Kind: pipeKind, UnderFD: 1, CloseOnExec: true, PerFDInfo: 43}, 0})
	wantOpen(t, ts, 0)
}

func TestRef_IsNoDescriptor(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	open(t, tab, 1, 0)
	open(t, tab, 1, 1)
	r := acquire(t, tab, 0)
	wantErr(t, tab.Close(0), nil)
	wantCalls(t, c, call{entry(1), 1}) // and not 2
	r.Release()
	wantCalls(t, c)
	wantErr(t, tab.Close(1), nil)
	wantCalls(t, c, call{entry(1), 0})
}

func TestRef_OutlivesExecDup2AndTheCage(t *testing.T) {
	ts := fdtables.New(fdtables.Config{MaxOpen: 3})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	open(t, tab, 1, 0)
	open(t, tab, 2, 1)
	open(t, tab, 3, 2)
	if errno := tab.SetCloseOnExec(1, true); errno != 0 {
		t.Fatal(errno)
	}
	r0, r1, r2 := acquire(t, tab, 0), acquire(t, tab, 1), acquire(t, tab, 2)
	wantErr(t, tab.Dup2(2, 0, false), nil)
	if failed := tab.CloseOnExecAll(); failed != nil {
		t.Fatal(failed)
	}
	if _, errno := tab.Open(pipeKind, 4, false, 0); errno != abi.ENFILE {
		t.Fatalf("what an I/O keeps open does not count: %v", errno)
	}
	if failed, err := ts.Remove(2); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	wantCalls(t, c, call{entry(3), 1}) // of its two descriptors; the second one waits for r2
	r2.Release()
	wantCalls(t, c, call{entry(3), 0})
	r0.Release()
	wantCalls(t, c, call{entry(1), 0})
	r1.Release()
	marked := entry(2)
	marked.CloseOnExec = true
	wantCalls(t, c, call{marked, 0})
	wantOpen(t, ts, 0)
}

func TestOpen_OfWhatOnlyAnIOKeepsOpen_JoinsItsCount(t *testing.T) {
	var heard []*fdtables.CloseError
	ts := fdtables.New(fdtables.Config{OnCloseError: func(e *fdtables.CloseError) { heard = append(heard, e) }})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	for _, reopen := range []func() error{
		func() error { _, errno := tab.Open(pipeKind, 1, false, 8); return errnoErr(errno) },
		func() error { return tab.OpenAt(0, pipeKind, 1, false, 8) },
	} {
		open(t, tab, 1, 0)
		r := acquire(t, tab, 0)
		wantErr(t, tab.Close(0), nil)
		wantCalls(t, c)
		// The underfd is open still, so this is one more descriptor of it. The close was no last one then.
		wantErr(t, reopen(), nil)
		wantCalls(t, c, call{entry(1), 1})
		r.Release()
		wantCalls(t, c)
		wantErr(t, tab.Close(0), nil)
		wantCalls(t, c, call{fdtables.Entry{Kind: pipeKind, UnderFD: 1, PerFDInfo: 8}, 0})
	}

	ts.RegisterCloseHandlers(pipeKind, badHandlers(c))
	open(t, tab, 2, 0)
	r := acquire(t, tab, 0)
	wantErr(t, tab.Close(0), nil)
	open(t, tab, 2, 0)
	want := fdtables.CloseError{FD: fdtables.UnknownFD, Entry: entry(2), Remaining: 1, Err: errHandler}
	if len(heard) != 1 || *heard[0] != want {
		t.Fatalf("heard %+v", heard)
	}
	r.Release()
}

func errnoErr(e abi.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

func TestRelease_TellsOfAHandlerThatFails(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		var heard []*fdtables.CloseError
		cfg := fdtables.Config{}
		if !deaf {
			cfg.OnCloseError = func(e *fdtables.CloseError) {
				heard = append(heard, e)
				panic("the listener's own")
			}
		}
		ts := fdtables.New(cfg)
		c, tab := &calls{}, newTable(t, ts, 2)
		ts.RegisterCloseHandlers(pipeKind, badHandlers(c))
		for u := range uint64(2) {
			open(t, tab, u, 0)
			r := acquire(t, tab, 0)
			wantErr(t, tab.Close(0), nil)
			r.Release()
			wantCalls(t, c, call{entry(u), 0})
		}
		wantOpen(t, ts, 0)
		if deaf {
			continue
		}
		if len(heard) != 2 || heard[0].FD != fdtables.UnknownFD || !errors.Is(heard[0], errHandler) ||
			!errors.Is(heard[1], abi.EIO) || heard[1].Entry != entry(1) {
			t.Fatalf("heard %+v", heard)
		}
	}
}

func TestRelease_MayCallBackFromItsHandler(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	ran := 0
	ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{Last: func(e fdtables.Entry, _ uint64) error {
		if ran++; ran > 1 {
			return nil
		}
		fd, errno := tab.Open(pipeKind, e.UnderFD, false, 0)
		if errno != 0 {
			return errno
		}
		return tab.Close(fd)
	}})
	open(t, tab, 1, 0)
	r := acquire(t, tab, 0)
	wantErr(t, tab.Close(0), nil)
	r.Release()
	if ran != 2 {
		t.Fatalf("Last ran %d times", ran)
	}
	wantOpen(t, ts, 0)
}
