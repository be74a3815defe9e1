package fdtables_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// openEpoll opens an epoll in t and expects it at fd.
func openEpoll(tb testing.TB, t *fdtables.Table, fd fdtables.FD) {
	tb.Helper()
	if got, errno := t.OpenEpoll(false); errno != 0 || got != fd {
		tb.Fatalf("OpenEpoll = %d, %v, want fd %d", got, errno, fd)
	}
}

// ctl is EpollCtl with the member's number as data. It expects want.
func ctl(tb testing.TB, t *fdtables.Table, epfd fdtables.FD, op int32, fd fdtables.FD, want abi.Errno) {
	tb.Helper()
	ev := fdtables.EpollEvent{Events: pollIn, Data: uint64(fd)}
	if errno := t.EpollCtl(epfd, op, fd, ev); errno != want {
		tb.Fatalf("EpollCtl(%d, %d, %d) = %v, want %v", epfd, op, fd, errno, want)
	}
}

// members are the members of epfd by their numbers.
func members(tb testing.TB, t *fdtables.Table, epfd fdtables.FD) []fdtables.EpollMember {
	tb.Helper()
	all, errno := t.EpollMembers(epfd, nil)
	if errno != 0 {
		tb.Fatalf("EpollMembers(%d): %v", epfd, errno)
	}
	slices.SortFunc(all, func(a, b fdtables.EpollMember) int {
		return cmp.Or(cmp.Compare(a.FD, b.FD), cmp.Compare(a.Entry.UnderFD, b.Entry.UnderFD))
	})
	return all
}

// wantMembers compares the members of epfd, as pairs of a number and an underfd.
func wantMembers(tb testing.TB, t *fdtables.Table, epfd fdtables.FD, want ...[2]int) {
	tb.Helper()
	got := members(tb, t, epfd)
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && int(got[i].FD) == want[i][0] && int(got[i].Entry.UnderFD) == want[i][1]
	}
	if !ok {
		tb.Fatalf("members of %d: %+v, want %v", epfd, got, want)
	}
}

func TestEpollCtl_AddsChangesAndTakesOut(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	openEpoll(t, tab, 0)
	open(t, tab, 7, 1)
	ctl(t, tab, 0, fdtables.EpollMod, 1, abi.ENOENT)
	ctl(t, tab, 0, fdtables.EpollDel, 1, abi.ENOENT)
	ctl(t, tab, 0, fdtables.EpollAdd, 1, 0)
	ctl(t, tab, 0, fdtables.EpollAdd, 1, abi.EEXIST)
	ev := fdtables.EpollEvent{Events: pollOut, Data: 1 << 63}
	if errno := tab.EpollCtl(0, fdtables.EpollMod, 1, ev); errno != 0 {
		t.Fatal(errno)
	}
	want := fdtables.EpollMember{FD: 1, Entry: entry(7), Event: ev}
	if got := members(t, tab, 0); len(got) != 1 || got[0] != want {
		t.Fatalf("members %+v, want %+v", got, want)
	}
	ctl(t, tab, 0, fdtables.EpollDel, 1, 0)
	wantMembers(t, tab, 0)
	ctl(t, tab, 0, fdtables.EpollDel, 1, abi.ENOENT)
}

func TestEpollCtl_FailsAsLinuxDoes(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	ts.RegisterCloseHandlers(1, fdtables.Handlers{Unpollable: func(e fdtables.Entry) bool { return e.UnderFD == 8 }})
	ts.RegisterCloseHandlers(2, fdtables.Handlers{Unpollable: func(fdtables.Entry) bool { panic(errHandler) }})
	tab := newTable(t, ts, 2)
	openEpoll(t, tab, 0)
	open(t, tab, 7, 1)
	for i, k := range []fdtables.Kind{1, 1, 2} { // fd 2 and 4 cannot be polled
		if fd, errno := tab.Open(k, uint64(8+i), false, 0); errno != 0 || fd != fdtables.FD(2+i) {
			t.Fatal(fd, errno)
		}
	}
	wantErr(t, tab.Dup2(0, 5, false), nil)
	openEpoll(t, tab, 6)
	const none = 9
	excl := fdtables.EpollExclusive
	for _, c := range []struct {
		epfd   fdtables.FD
		op     int32
		fd     fdtables.FD
		events uint32
		want   abi.Errno
	}{
		{none, fdtables.EpollAdd, 1, 0, abi.EBADF},
		{-1, fdtables.EpollAdd, 1, 0, abi.EBADF},
		{0, fdtables.EpollAdd, none, 0, abi.EBADF},
		{1, fdtables.EpollAdd, 1 << 30, 0, abi.EBADF}, // before that 1 is no epoll
		{0, fdtables.EpollAdd, 2, 0, abi.EPERM},
		{1, fdtables.EpollAdd, 2, 0, abi.EPERM},
		{0, 77, 2, 0, abi.EPERM},
		{0, fdtables.EpollAdd, 4, 0, abi.EPERM},
		{0, fdtables.EpollAdd, 3, 0, 0},
		{1, fdtables.EpollAdd, 3, 0, abi.EINVAL},
		{0, fdtables.EpollAdd, 0, 0, abi.EINVAL},
		{0, fdtables.EpollAdd, 5, 0, abi.EINVAL}, // the same open file
		{0, 0, 1, 0, abi.EINVAL},
		{0, 4, 1, 0, abi.EINVAL},
		{0, fdtables.EpollAdd, 1, excl | pollIn | 1<<30, abi.EINVAL}, // one shot
		{0, fdtables.EpollAdd, 6, excl | pollIn, abi.EINVAL},
		{0, fdtables.EpollMod, 1, excl | pollIn, abi.EINVAL},
		{0, fdtables.EpollAdd, 1, excl | pollIn | 1<<31, 0},
		{0, fdtables.EpollMod, 1, pollIn, abi.EINVAL},
		{0, fdtables.EpollDel, 1, excl, 0},
	} {
		if errno := tab.EpollCtl(c.epfd, c.op, c.fd, fdtables.EpollEvent{Events: c.events}); errno != c.want {
			t.Errorf("EpollCtl(%d, %d, %d, %#x) = %v, want %v", c.epfd, c.op, c.fd, c.events, errno, c.want)
		}
	}
	wantMembers(t, tab, 0, [2]int{3, 9})
	for _, c := range []struct {
		fd   fdtables.FD
		want abi.Errno
	}{{none, abi.EBADF}, {1, abi.EINVAL}} {
		if _, errno := tab.EpollMembers(c.fd, nil); errno != c.want {
			t.Errorf("EpollMembers(%d): %v", c.fd, errno)
		}
		if _, errno := tab.EpollUnderFDs(c.fd); errno != c.want {
			t.Errorf("EpollUnderFDs(%d): %v", c.fd, errno)
		}
		if errno := tab.EpollAddUnderFD(c.fd, 0, 1); errno != c.want {
			t.Errorf("EpollAddUnderFD(%d): %v", c.fd, errno)
		}
	}
}

func TestEpoll_AMemberLeavesWithItsOpenFile(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	openEpoll(t, tab, 0)
	open(t, tab, 7, 1)
	ctl(t, tab, 0, fdtables.EpollAdd, 1, 0)
	wantErr(t, tab.Dup2(1, 2, false), nil)
	ctl(t, tab, 0, fdtables.EpollAdd, 2, 0) // one open file by two numbers: two members
	wantErr(t, tab.Close(1), nil)
	wantMembers(t, tab, 0, [2]int{1, 7}, [2]int{2, 7}) // as in Linux: the file is open
	ctl(t, tab, 0, fdtables.EpollDel, 1, abi.EBADF)
	open(t, tab, 8, 1)
	ctl(t, tab, 0, fdtables.EpollDel, 1, abi.ENOENT) // another file by the number
	ctl(t, tab, 0, fdtables.EpollAdd, 1, 0)
	wantMembers(t, tab, 0, [2]int{1, 7}, [2]int{1, 8}, [2]int{2, 7})
	wantErr(t, tab.Dup2(1, 2, false), nil) // closes 7
	wantMembers(t, tab, 0, [2]int{1, 8})

	// An I/O in flight keeps the file open, and so the member.
	r := acquire(t, tab, 1)
	wantErr(t, tab.Close(1), nil)
	wantErr(t, tab.Close(2), nil)
	wantMembers(t, tab, 0, [2]int{1, 8})
	r.Release()
	wantMembers(t, tab, 0)

	// exec, and the end of the cage that had the last descriptor.
	wantErr(t, ts.Fork(2, 3), nil)
	child, _ := ts.Table(3)
	if _, errno := child.Open(pipeKind, 9, true, 0); errno != 0 {
		t.Fatal(errno)
	}
	open(t, child, 10, 2)
	ctl(t, child, 0, fdtables.EpollAdd, 1, 0)
	ctl(t, child, 0, fdtables.EpollAdd, 2, 0)
	wantMembers(t, tab, 0, [2]int{1, 9}, [2]int{2, 10}) // a fork shares the set
	child.CloseOnExecAll()
	wantMembers(t, tab, 0, [2]int{2, 10})
	if _, err := ts.Remove(3); err != nil {
		t.Fatal(err)
	}
	wantMembers(t, tab, 0)
}

func TestEpoll_NestsToFive(t *testing.T) {
	for _, bottomUp := range []bool{false, true} {
		ts := fdtables.New(fdtables.Config{})
		tab := newTable(t, ts, 2)
		for i := range fdtables.FD(7) {
			openEpoll(t, tab, i)
		}
		open(t, tab, 1, 7)
		edge := func(i int) (fdtables.FD, fdtables.FD) {
			if bottomUp {
				return fdtables.FD(5 - i), fdtables.FD(6 - i)
			}
			return fdtables.FD(i), fdtables.FD(i + 1)
		}
		for i := range 4 {
			epfd, fd := edge(i)
			ctl(t, tab, epfd, fdtables.EpollAdd, fd, 0)
		}
		first, _ := edge(0)
		_, last := edge(3)
		if bottomUp {
			first, last = 2, 6
		}
		epfd, fd := edge(4)
		ctl(t, tab, epfd, fdtables.EpollAdd, fd, abi.ELOOP)
		ctl(t, tab, last, fdtables.EpollAdd, first, abi.ELOOP) // a loop
		ctl(t, tab, last, fdtables.EpollAdd, 7, 0)             // what is no epoll may be anywhere
		ctl(t, tab, first, fdtables.EpollAdd, last, 0)         // a short cut makes the chain no longer
		wantErr(t, tab.Close(4), nil)                          // breaks the chain
		if epfd != 4 && fd != 4 {
			ctl(t, tab, epfd, fdtables.EpollAdd, fd, 0)
		}
	}
}

func TestEpoll_OwnsItsUnderFDs(t *testing.T) {
	var heard []fdtables.CloseError
	ts := fdtables.New(fdtables.Config{OnCloseError: func(e *fdtables.CloseError) { heard = append(heard, *e) }})
	c, tab := &calls{}, newTable(t, ts, 2)
	ts.RegisterCloseHandlers(pipeKind, badHandlers(c))
	ce := record(ts, fdtables.KindEpoll)
	openEpoll(t, tab, 0)
	if _, errno := tab.EpollUnderFD(0, pipeKind); errno != abi.ENOENT {
		t.Fatal(errno)
	}
	for _, k := range []fdtables.Kind{fdtables.KindEpoll, fdtables.KindReserved} {
		if errno := tab.EpollAddUnderFD(0, k, 1); errno != abi.EINVAL {
			t.Fatal(errno)
		}
	}
	for _, want := range []abi.Errno{0, abi.EEXIST} {
		if errno := tab.EpollAddUnderFD(0, pipeKind, 100); errno != want {
			t.Fatal(errno, want)
		}
	}
	if errno := tab.EpollAddUnderFD(0, 1, 100); errno != 0 {
		t.Fatal(errno)
	}
	if u, errno := tab.EpollUnderFD(0, pipeKind); u != 100 || errno != 0 {
		t.Fatal(u, errno)
	}
	if all, errno := tab.EpollUnderFDs(0); len(all) != 2 || all[1] != 100 || all[pipeKind] != 100 || errno != 0 {
		t.Fatal(all, errno)
	}
	wantOpen(t, ts, 3)
	wantErr(t, ts.Fork(2, 3), nil)
	wantErr(t, tab.Close(0), nil)
	wantCalls(t, c)
	if left := ce.take(); len(left) != 1 || left[0].left != 1 || left[0].e.Kind != fdtables.KindEpoll {
		t.Fatalf("handlers of the epoll: %+v", left)
	}
	if failed, err := ts.Remove(3); err != nil || failed != nil {
		t.Fatal(failed, err)
	}
	wantCalls(t, c, call{entry(100), 0})
	if left := ce.take(); len(left) != 1 || left[0].left != 0 {
		t.Fatalf("handlers of the epoll: %+v", left)
	}
	if len(heard) != 1 || heard[0].Entry != entry(100) || heard[0].FD != fdtables.UnknownFD {
		t.Fatalf("heard %+v", heard)
	}
	wantOpen(t, ts, 0)
}

func TestOpenEpoll_FailsAtTheLimitsAndLeavesNothing(t *testing.T) {
	ts := fdtables.New(fdtables.Config{MaxOpen: 2})
	tab := newTable(t, ts, 2)
	open(t, tab, 1, 0)
	openEpoll(t, tab, 1)
	fd, errno := tab.OpenEpoll(false)
	wantErrno(t, fd, errno, abi.ENFILE)
	if errno := tab.EpollAddUnderFD(1, pipeKind, 2); errno != abi.ENFILE {
		t.Fatal(errno)
	}
	tab.SetLimit(2)
	fd, errno = tab.OpenEpoll(false)
	wantErrno(t, fd, errno, abi.EMFILE)
	wantErr(t, tab.Close(0), nil)
	if fd, errno = tab.OpenEpoll(true); fd != 0 || errno != 0 {
		t.Fatal(fd, errno)
	}
	if e, _ := tab.Translate(0); e.Kind != fdtables.KindEpoll || !e.CloseOnExec || e.UnderFD != 1 {
		t.Fatalf("%+v: what failed has kept a number", e)
	}
	wantErr(t, tab.OpenAt(0, fdtables.KindEpoll, 0, false, 0), abi.EINVAL) // nobody can forge one
	if _, err := ts.Remove(2); err != nil {
		t.Fatal(err)
	}
	wantOpen(t, ts, 0)
	fd, errno = tab.OpenEpoll(false)
	wantErrno(t, fd, errno, abi.EBADF)
}

func TestEpoll_EndsWithALateHandlerToo(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	hung := make(chan struct{})
	defer close(hung)
	ts.RegisterCloseHandlers(fdtables.KindEpoll, fdtables.Handlers{
		Deadline: time.Millisecond, Last: func(fdtables.Entry, uint64) error { <-hung; return nil },
	})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	for i := range 3 {
		openEpoll(t, tab, fdtables.FD(i))
		if errno := tab.EpollAddUnderFD(fdtables.FD(i), pipeKind, uint64(i)); errno != 0 {
			t.Fatal(errno)
		}
	}
	ctl(t, tab, 0, fdtables.EpollAdd, 2, 0)
	failed, err := ts.Remove(2)
	if len(failed) != 3 || err != nil {
		t.Fatal(failed, err)
	}
	wantCalls(t, c, call{entry(0), 0}, call{entry(1), 0}, call{entry(2), 0})
	wantOpen(t, ts, 0)
	again := newTable(t, ts, 2)
	openEpoll(t, again, 0)
	if e, _ := again.Translate(0); e.UnderFD != 0 {
		t.Fatalf("%+v: the numbers were not given back", e)
	}
}

func TestEpoll_Allocations(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	openEpoll(t, tab, 0)
	for i := range fdtables.FD(500) {
		open(t, tab, uint64(i), i+1)
		ctl(t, tab, 0, fdtables.EpollAdd, i+1, 0)
	}
	buf := make([]fdtables.EpollMember, 0, 500)
	for name, call := range map[string]func(){
		"members": func() {
			if all, errno := tab.EpollMembers(0, buf); len(all) != 500 || errno != 0 {
				t.Fatal(errno)
			}
		},
		"change":   func() { ctl(t, tab, 0, fdtables.EpollMod, 9, 0) },
		"underfd":  func() { _, _ = tab.EpollUnderFD(0, 0) },
		"failures": func() { ctl(t, tab, 0, fdtables.EpollAdd, 1000, abi.EBADF) },
	} {
		if got := testing.AllocsPerRun(20, call); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

// TestHammer_EpollsLoseNoMemberAndKeepNone closes, opens, forks and changes epolls from many goroutines. At the end what is
// a member is what is open, and nothing is left when all is closed.
func TestHammer_EpollsLoseNoMemberAndKeepNone(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	shared := newTable(t, ts, 2)
	for i := range fdtables.FD(4) {
		openEpoll(t, shared, i)
	}
	const workers = 8
	var wg sync.WaitGroup
	start := make(chan struct{})
	for w := range workers {
		wg.Go(func() {
			<-start
			r := rand.New(rand.NewPCG(uint64(w), 5))
			for i := range 1500 {
				fd := fdtables.FD(4 + r.IntN(20))
				ep := fdtables.FD(r.IntN(6))
				ev := fdtables.EpollEvent{Data: uint64(i)}
				switch r.IntN(9) {
				case 0, 1:
					_ = shared.OpenAt(fd, pipeKind, uint64(r.IntN(12)), false, 0)
				case 2:
					_ = shared.Close(fd)
				case 3, 4:
					_ = shared.EpollCtl(ep, fdtables.EpollAdd, fd, ev)
				case 5:
					_ = shared.EpollCtl(ep, fdtables.EpollAdd, fdtables.FD(r.IntN(6)), ev)
				case 6:
					_ = shared.EpollCtl(ep, fdtables.EpollDel, fd, ev)
				case 7:
					if errno := shared.EpollCtl(ep, fdtables.EpollMod, fd, ev); errno == 0 {
						_, _ = shared.EpollMembers(ep, nil)
					}
				case 8:
					if got, errno := shared.OpenEpoll(false); errno == 0 && got > 5 {
						_ = shared.Close(got)
					}
					if cage := abi.CageID(10 + w); ts.Fork(2, cage) == nil {
						_, _ = ts.Remove(cage)
					}
				}
			}
		})
	}
	close(start)
	wg.Wait()
	for fd := range fdtables.FD(6) {
		if e, errno := shared.Translate(fd); errno != 0 || e.Kind != fdtables.KindEpoll {
			continue
		}
		for _, m := range members(t, shared, fd) {
			if n, _ := ts.References(m.Entry.Kind, m.Entry.UnderFD); n == 0 {
				t.Fatalf("%+v is a member and is not open", m)
			}
		}
	}
	for _, f := range shared.Snapshot() {
		if f.FD > 3 {
			wantErr(t, shared.Close(f.FD), nil)
		}
	}
	for fd := range fdtables.FD(4) {
		for _, m := range members(t, shared, fd) {
			if m.Entry.Kind != fdtables.KindEpoll {
				t.Fatalf("%+v is a member of %d after all is closed", m, fd)
			}
		}
	}
	if _, err := ts.Remove(2); err != nil {
		t.Fatal(err)
	}
	wantOpen(t, ts, 0)
}
