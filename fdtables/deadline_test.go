package fdtables_test

import (
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lindbridge/lindbridge/fdtables"
)

// hanging makes handlers of pipeKind with a deadline that do not return for underfds from 100 on, until release is called.
func hanging(ts *fdtables.Tables, deadline time.Duration) (c *calls, release func()) {
	c, hung := &calls{}, make(chan struct{})
	fn := func(e fdtables.Entry, left uint64) error {
		_ = c.add(e, left)
		switch {
		case e.UnderFD >= 100:
			<-hung
		case e.UnderFD == 50:
			panic(errHandler)
		case e.UnderFD == 51:
			runtime.Goexit()
		case e.UnderFD == 52:
			return errHandler
		}
		return nil
	}
	ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{Intermediate: fn, Last: fn, Deadline: deadline})
	return c, func() { close(hung) }
}

func TestDeadline_OfAHandlerThatHangs_EndsTheWaitAndNotTheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := fdtables.New(fdtables.Config{})
		tab := newTable(t, ts, 2)
		c, release := hanging(ts, time.Second)
		open(t, tab, 100, 0)
		open(t, tab, 100, 1)
		for _, left := range []uint64{1, 0} {
			began := time.Now()
			err := tab.Close(fdtables.FD(1 - left))
			wantErr(t, err, fdtables.ErrHandlerDeadline)
			var ce *fdtables.CloseError
			if !errors.As(err, &ce) || ce.Cage != 2 || ce.FD != fdtables.FD(1-left) || ce.Remaining != left {
				t.Fatalf("error %+v", ce)
			}
			if d := time.Since(began); d != time.Second {
				t.Fatalf("Close took %v", d)
			}
			wantCalls(t, c, call{entry(100), left})
		}
		wantOpen(t, ts, 0)
		open(t, tab, 100, 0) // of a count of its own, while the handler of the one before still runs
		if n, _ := ts.References(pipeKind, 100); n != 1 {
			t.Fatalf("%d references", n)
		}
		release()
		wantErr(t, tab.Close(0), nil)
	})
}

func TestDeadline_OfManyHandlersThatHang_IsMissedTwiceAtMost(t *testing.T) {
	for _, exec := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ts := fdtables.New(fdtables.Config{})
			tab := newTable(t, ts, 2)
			c, release := hanging(ts, time.Second)
			other := record(ts, pipeKind+1)
			const n = 300 // several batches
			var late []fdtables.FD
			for i := range fdtables.FD(n) {
				underfd := uint64(i % 40)
				if i%3 == 2 {
					underfd = 100 + uint64(i)
					late = append(late, i)
				}
				kind := pipeKind + fdtables.Kind(i%2)
				if kind != pipeKind && i%3 == 2 {
					late = late[:len(late)-1]
				}
				if fd, errno := tab.Open(kind, underfd, true, 0); errno != 0 || fd != i {
					t.Fatal(fd, errno)
				}
			}
			began := time.Now()
			var failed []fdtables.CloseError
			if exec {
				failed = tab.CloseOnExecAll()
			} else {
				var err error
				if failed, err = ts.Remove(2); err != nil {
					t.Fatal(err)
				}
			}
			if d := time.Since(began); d != 2*time.Second {
				t.Fatalf("it took %v", d)
			}
			var fds []fdtables.FD
			for _, f := range failed {
				wantErr(t, f.Err, fdtables.ErrHandlerDeadline)
				fds = append(fds, f.FD)
			}
			if !slices.Equal(fds, late) {
				t.Fatalf("failed: %v, want %v", fds, late)
			}
			if got := len(c.take()); got != n/2 { // each has run, or runs
				t.Fatalf("%d handlers were called, want %d", got, n/2)
			}
			if got := len(other.take()); got != n/2 {
				t.Fatalf("%d handlers of the other kind were called, want %d", got, n/2)
			}
			wantOpen(t, ts, 0)
			release()
		})
	}
}

func TestDeadline_WhateverBecomesOfAHandlerIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := fdtables.New(fdtables.Config{})
		tab := newTable(t, ts, 2)
		_, release := hanging(ts, time.Second)
		release()
		for i, want := range []error{errHandler, fdtables.ErrHandlerGoexit, errHandler, nil} {
			open(t, tab, uint64(50+i), 0)
			began := time.Now()
			wantErr(t, tab.Close(0), want)
			if d := time.Since(began); d != 0 {
				t.Fatalf("underfd %d: a wait of %v for a handler that had ended", 50+i, d)
			}
		}
		ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{Deadline: time.Second}) // of no handlers
		open(t, tab, 1, 0)
		wantErr(t, tab.Close(0), nil)
	})
}

// A handler with a deadline runs on a goroutine of its own: what it calls must not meet a lock of who waits for it.
func TestDeadline_HandlersMayCallBack(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	a, b := newTable(t, ts, 2), newTable(t, ts, 3)
	ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{Deadline: time.Minute, Last: func(e fdtables.Entry, _ uint64) error {
		if e.UnderFD >= 10 {
			return nil
		}
		for _, tab := range []*fdtables.Table{a, b} {
			fd, errno := tab.Open(pipeKind, e.UnderFD+10, false, 0)
			if errno != 0 {
				return errno
			}
			if err := tab.Close(fd); err != nil {
				return err
			}
		}
		return nil
	}})
	open(t, a, 1, 0)
	open(t, b, 2, 0)
	wantErr(t, a.Close(0), nil)
	wantErr(t, b.Close(0), nil)
	wantOpen(t, ts, 0)
}
