package fdtables_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// consistent is an entry of which each part tells the others.
func consistent(i uint64) fdtables.Entry {
	return fdtables.Entry{Kind: fdtables.Kind(i % 3), CloseOnExec: i%2 == 0, UnderFD: i, PerFDInfo: i * i}
}

// readers has goroutines read descriptor 0 of t, each by Translate and by Acquire, and check what they get, until the
// function that it answers is called.
func readers(t *testing.T, tab *fdtables.Table, check func(e fdtables.Entry, errno abi.Errno)) (stop func() (reads uint64)) {
	t.Helper()
	var done atomic.Bool
	var reads atomic.Uint64
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			n := uint64(0)
			for ; !done.Load(); n++ {
				check(tab.Translate(0))
				ref, errno := tab.Acquire(0)
				check(ref.Entry(), errno)
				ref.Release()
				if n%64 == 0 {
					runtime.Gosched() // the writer, too, has something to do
				}
			}
			reads.Add(n)
		})
	}
	return func() uint64 {
		done.Store(true)
		all.Wait()
		return reads.Load()
	}
}

// TestTranslate_NeverMixes reads a descriptor that is opened and closed over and over, in its place: what is read is one
// entry, or none.
func TestTranslate_NeverMixes(t *testing.T) {
	rounds := uint64(300000)
	if testing.Short() {
		rounds = 30000
	}
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	var opens, closes, reads atomic.Uint64
	stop := readers(t, tab, func(e fdtables.Entry, errno abi.Errno) {
		if errno != 0 {
			closes.Add(1)
			return
		}
		opens.Add(1)
		if e != consistent(e.UnderFD) {
			t.Errorf("%+v is part one entry, part another", e)
		}
	})
	for i := range rounds {
		e := consistent(i)
		if fd, errno := tab.Open(e.Kind, e.UnderFD, e.CloseOnExec, e.PerFDInfo); fd != 0 || errno != 0 {
			t.Fatalf("%d, %v", fd, errno)
		}
		if i%256 == 0 {
			runtime.Gosched()
		}
		if err := tab.Close(0); err != nil {
			t.Fatal(err)
		}
	}
	reads.Store(stop())
	if ts.Open() != 0 {
		t.Errorf("%d are open", ts.Open())
	}
	if opens.Load() == 0 || closes.Load() == 0 {
		t.Errorf("%d times open, %d times closed: that shows nothing", opens.Load(), closes.Load())
	}
}

// TestTranslate_WhatIsReplacedIsNeverClosed reads a descriptor that is replaced over and over, by what was opened in its
// place, by duplicates and by others: it is open all the time.
func TestTranslate_WhatIsReplacedIsNeverClosed(t *testing.T) {
	rounds := uint64(200000)
	if testing.Short() {
		rounds = 20000
	}
	tab := newTable(t, fdtables.New(fdtables.Config{}), 2)
	// What descriptor 0 stands for first was opened in a place where something was closed before.
	for range 2 {
		if fd, errno := tab.Open(0, 0, true, 0); fd != 0 || errno != 0 {
			t.Fatal(fd, errno)
		}
		if err := tab.Close(0); err != nil {
			t.Fatal(err)
		}
	}
	e := consistent(0)
	if fd, errno := tab.Open(e.Kind, e.UnderFD, e.CloseOnExec, e.PerFDInfo); fd != 0 || errno != 0 {
		t.Fatal(fd, errno)
	}
	stop := readers(t, tab, func(e fdtables.Entry, errno abi.Errno) {
		if errno != 0 || e.PerFDInfo != e.UnderFD*e.UnderFD {
			t.Errorf("%+v, %v", e, errno)
		}
	})
	for i := range rounds {
		e := consistent(1 + i%1000)
		switch i % 3 {
		case 0:
			if err := tab.OpenAt(0, e.Kind, e.UnderFD, e.CloseOnExec, e.PerFDInfo); err != nil {
				t.Fatal(err)
			}
		case 1:
			fd, errno := tab.Open(e.Kind, e.UnderFD, e.CloseOnExec, e.PerFDInfo)
			if errno != 0 || tab.Dup2(fd, 0, false) != nil || tab.Close(fd) != nil {
				t.Fatal(fd, errno)
			}
		default:
			if errno := tab.SetCloseOnExec(0, i%2 == 0); errno != 0 {
				t.Fatal(errno)
			}
		}
	}
	stop()
}
