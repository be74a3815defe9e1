package fdtables

import (
	"errors"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
)

// inPlaceTable is a table with (1, 2) at descriptor 0, and the slot of that.
func inPlaceTable(t *testing.T, cfg Config) (*Tables, *Table, *slot) {
	t.Helper()
	ts := New(cfg)
	tab, err := ts.Init(2)
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, tab, 0, 1, 2)
	return ts, tab, tab.load(0)
}

func mustOpen(t *testing.T, tab *Table, want FD, k Kind, underfd uint64) {
	t.Helper()
	if fd, errno := tab.Open(k, underfd, false, 0); fd != want || errno != 0 {
		t.Fatalf("open: %d, %v", fd, errno)
	}
}

func mustClose(t *testing.T, tab *Table, fd FD) {
	t.Helper()
	if err := tab.Close(fd); err != nil {
		t.Fatal(err)
	}
}

func TestInPlace_OpenReusesWhatCloseLeft(t *testing.T) {
	ts, tab, s := inPlaceTable(t, Config{})
	for i := range uint64(5) {
		mustClose(t, tab, 0)
		if _, errno := tab.Translate(0); errno != abi.EBADF || tab.load(0) != s {
			t.Fatalf("closed: %v, the slot is %p, was %p", errno, tab.load(0), s)
		}
		if ref, errno := tab.Acquire(0); errno != abi.EBADF {
			t.Fatalf("acquired %+v when closed, %v", ref.Entry(), errno)
		}
		if err := tab.Close(0); !errors.Is(err, abi.EBADF) {
			t.Fatalf("closed twice: %v", err)
		}
		if _, errno := tab.Dup(0); errno != abi.EBADF || tab.SetCloseOnExec(0, true) != abi.EBADF || tab.Snapshot() != nil {
			t.Fatal("it is closed, and some call does not say so")
		}
		if n := ts.Open(); n != 0 {
			t.Fatalf("%d open", n)
		}
		want := Entry{Kind: Kind(i), UnderFD: i * 7, CloseOnExec: i%2 == 0, PerFDInfo: i}
		if fd, errno := tab.Open(want.Kind, want.UnderFD, want.CloseOnExec, want.PerFDInfo); fd != 0 || errno != 0 {
			t.Fatalf("%d, %v", fd, errno)
		}
		if e, errno := tab.Translate(0); e != want || errno != 0 || tab.load(0) != s {
			t.Fatalf("%+v, %v; want %+v; the slot is %p, was %p", e, errno, want, tab.load(0), s)
		}
	}
}

// TestInPlace_OnlyWhatNobodyElseKnows: a slot that somebody may still come from, or count by, is left to the collector.
func TestInPlace_OnlyWhatNobodyElseKnows(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, ts *Tables, tab *Table) (after func()){
		"a duplicate was there": func(t *testing.T, _ *Tables, tab *Table) func() {
			if fd, errno := tab.Dup(0); errno != 0 || tab.Close(fd) != nil {
				t.Fatal(errno)
			}
			return nil
		},
		"a duplicate with another flag was there": func(t *testing.T, _ *Tables, tab *Table) func() {
			if fd, errno := tab.DupFrom(0, 0, true); errno != 0 || tab.Close(fd) != nil {
				t.Fatal(errno)
			}
			return nil
		},
		"a fork was there": func(t *testing.T, ts *Tables, _ *Table) func() {
			if err := ts.Fork(2, 3); err != nil {
				t.Fatal(err)
			}
			if _, err := ts.Remove(3); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"another table had the underfd": func(t *testing.T, ts *Tables, _ *Table) func() {
			other, err := ts.Init(3)
			if err != nil {
				t.Fatal(err)
			}
			mustOpen(t, other, 0, 1, 2)
			mustClose(t, other, 0)
			return nil
		},
		"an I/O is in flight": func(t *testing.T, _ *Tables, tab *Table) func() {
			ref, errno := tab.Acquire(0)
			if errno != 0 {
				t.Fatal(errno)
			}
			return ref.Release
		},
		"an epoll watches it": func(t *testing.T, _ *Tables, tab *Table) func() {
			epfd, errno := tab.OpenEpoll(false)
			if errno == 0 {
				errno = tab.EpollCtl(epfd, EpollAdd, 0, EpollEvent{Events: 1})
			}
			if errno != 0 {
				t.Fatal(errno)
			}
			return func() { mustClose(t, tab, epfd) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			last := 0
			ts, tab, s := inPlaceTable(t, Config{})
			ts.RegisterCloseHandlers(1, Handlers{Last: func(Entry, uint64) error { last++; return nil }})
			after := prepare(t, ts, tab)
			was := s.entry()
			mustClose(t, tab, 0)
			if tab.load(0) == s {
				t.Error("it is left in its place")
			}
			mustOpen(t, tab, 0, 5, 6)
			if s.entry() != was {
				t.Errorf("%+v, was %+v", s.entry(), was)
			}
			if after != nil {
				after()
			}
			if n, _ := ts.References(1, 2); n != 0 || last != 1 || ts.Open() != 1 {
				t.Errorf("%d references, %d Last handlers, %d open", n, last, ts.Open())
			}
			if len(ts.open.owed.last) != 0 {
				t.Errorf("%d handlers are owed", len(ts.open.owed.last))
			}
		})
	}
}

// TestInPlace_AForkKnowsNothingOfIt: what is opened in a table's place after a fork is not opened in the copy.
func TestInPlace_AForkKnowsNothingOfIt(t *testing.T) {
	ts, tab, _ := inPlaceTable(t, Config{})
	mustOpen(t, tab, 1, 1, 3)
	mustClose(t, tab, 0)
	if err := ts.Fork(2, 3); err != nil {
		t.Fatal(err)
	}
	child, err := ts.Table(3)
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, tab, 0, 1, 4)
	if e, errno := child.Translate(0); errno != abi.EBADF {
		t.Errorf("the child has %+v", e)
	}
	mustOpen(t, child, 0, 1, 5)
	if e, errno := tab.Translate(0); errno != 0 || e.UnderFD != 4 {
		t.Errorf("the parent has %+v, %v", e, errno)
	}
}

// TestInPlace_WhatIsOpenedMayBeAnothersCount, or nothing may be opened.
func TestInPlace_WhatIsOpenedMayBeAnothersCount(t *testing.T) {
	ts, tab, s := inPlaceTable(t, Config{MaxOpen: 2})
	mustOpen(t, tab, 1, 1, 9)
	mustClose(t, tab, 0)
	mustOpen(t, tab, 0, 1, 9)
	if n, _ := ts.References(1, 9); n != 2 || ts.Open() != 1 || tab.load(0) == s {
		t.Errorf("%d references, %d open, the slot is %p, was %p", n, ts.Open(), tab.load(0), s)
	}
	mustClose(t, tab, 0)

	mustOpen(t, tab, 0, 1, 2)
	s = tab.load(0)
	mustClose(t, tab, 0)
	other, err := ts.Init(3)
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, other, 0, 1, 7)
	for range 3 {
		if _, errno := tab.Open(1, 8, false, 0); errno != abi.ENFILE {
			t.Fatal(errno)
		}
		if e, errno := tab.Translate(0); errno != abi.EBADF {
			t.Fatalf("what could not be opened is %+v", e)
		}
	}
	mustClose(t, other, 0)
	mustOpen(t, tab, 0, 1, 8)
	if e, errno := tab.Translate(0); errno != 0 || e.UnderFD != 8 || tab.load(0) != s {
		t.Errorf("%+v, %v", e, errno)
	}
	mustClose(t, tab, 1)
	if err := tab.OpenAt(0, 1, 10, false, 0); err != nil || s.isClosed() {
		t.Errorf("what was replaced is closed: %v", err)
	}
}

// TestInPlace_AReaderSeesThatALifeIsOver stops a reader between its look at whether the slot is open and its look at the
// entry, which no test from outside can.
func TestInPlace_AReaderSeesThatALifeIsOver(t *testing.T) {
	_, tab, s := inPlaceTable(t, Config{})
	u := s.under()
	life := u.lives.Load()
	if e, same := u.entryOf(life); !same || e.UnderFD != 2 {
		t.Fatalf("%+v, %v", e, same)
	}
	mustClose(t, tab, 0)
	mustOpen(t, tab, 0, 1, 3)
	if e, same := u.entryOf(life); same {
		t.Errorf("%+v, which was opened later, is taken for what was open", e)
	}
	if e, errno := tab.Translate(0); errno != 0 || e.UnderFD != 3 {
		t.Errorf("%+v, %v", e, errno)
	}
}
