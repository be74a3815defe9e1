package fdtables_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// watch writes down that its member has left.
type watch struct {
	name string
	log  *[]string
}

func (w *watch) Left(over bool) {
	*w.log = append(*w.log, fmt.Sprint(w.name, " ", over))
	if w.name == "panics" {
		panic("as a watch may not")
	}
}

func TestEpollWatch_HearsOnceThatItsMemberHasLeftByItself(t *testing.T) {
	var log []string
	ts := fdtables.New(fdtables.Config{})
	ts.RegisterCloseHandlers(pipeKind, fdtables.Handlers{Last: func(e fdtables.Entry, _ uint64) error {
		log = append(log, fmt.Sprint("close ", e.UnderFD))
		return nil
	}})
	tab := newTable(t, ts, 2)
	openEpoll(t, tab, 0)
	change := func(op int32, fd fdtables.FD, w fdtables.EpollWatch, want abi.Errno) fdtables.EpollWatch {
		t.Helper()
		ep, errno := tab.Acquire(0)
		ref, errno2 := tab.Acquire(fd)
		if errno != 0 || errno2 != 0 {
			t.Fatal(errno, errno2)
		}
		defer ep.Release()
		defer ref.Release()
		got, errno := ep.EpollCtl(op, fd, &ref, fdtables.EpollEvent{Events: pollIn}, w)
		if errno != want {
			t.Fatalf("EpollCtl(%d, %d) = %v, want %v", op, fd, errno, want)
		}
		return got
	}
	for i := range 4 {
		open(t, tab, uint64(10+i), fdtables.FD(1+i))
	}
	watches := []*watch{{"first", &log}, {"panics", &log}, {"taken out", &log}, {"over", &log}}
	for i, w := range watches {
		change(fdtables.EpollAdd, fdtables.FD(1+i), w, 0)
		change(fdtables.EpollAdd, fdtables.FD(1+i), &watch{"refused", &log}, abi.EEXIST)
		if got := change(fdtables.EpollMod, fdtables.FD(1+i), nil, 0); got != w {
			t.Errorf("watch of %d when it is changed: %v", i, got)
		}
	}
	if got := change(fdtables.EpollDel, 3, nil, 0); got != watches[2] {
		t.Errorf("watch of the one that is taken out: %v", got)
	}
	for fd := fdtables.FD(1); fd <= 3; fd++ {
		if err := tab.Close(fd); err != nil {
			t.Fatal(err)
		}
	}
	if errno := tab.EpollAddUnderFD(0, pipeKind, 99); errno != 0 {
		t.Fatal(errno)
	}
	if err := tab.Close(0); err != nil {
		t.Fatal(err)
	}
	want := []string{"first false", "close 10", "panics false", "close 11", "close 12", "over true", "close 99"}
	if !slices.Equal(log, want) {
		t.Errorf("%q\nwant %q", log, want)
	}
	var none fdtables.Ref
	if _, errno := none.EpollCtl(fdtables.EpollAdd, 0, &none, fdtables.EpollEvent{}, nil); errno != abi.EBADF {
		t.Error(errno)
	}
	if _, errno := none.EpollUnderFD(pipeKind); errno != abi.EBADF {
		t.Error(errno)
	}
}
