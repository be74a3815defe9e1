package rawposix_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
)

const (
	epollAdd     = 1
	epollDel     = 2
	epollMod     = 3
	epollET      = 1 << 31
	epollOneshot = 1 << 30
)

// ready is one event of an epoll.
type ready struct {
	events uint32
	data   uint64
}

// epollEvent places a struct epoll_event in guest memory.
func (e *env) epollEvent(events uint32, data uint64) gp {
	return e.put(le.AppendUint64(le.AppendUint32(nil, events), data))
}

// ctl is epoll_ctl.
func (e *env) ctl(epfd, op, fd int, events uint32, data uint64) int64 {
	defer e.mark()()
	return e.call(abi.CallEpollCtl, epfd, op, fd, e.epollEvent(events, data))
}

func (e *env) mustCtl(epfd, op, fd int, events uint32, data uint64) {
	e.t.Helper()
	if r := e.ctl(epfd, op, fd, events, data); r != 0 {
		e.t.Fatalf("epoll_ctl(%d, %d, %d, %#x, %#x) = %s", epfd, op, fd, events, data, show(r))
	}
}

// events are n events in guest memory.
func (e *env) events(at gp, n int64) []ready {
	var all []ready
	for i := range n {
		b := e.bytes(at+gp(12*i), 12)
		all = append(all, ready{le.Uint32(b), le.Uint64(b[4:])})
	}
	return all
}

// epollWait is epoll_wait without waiting, for at most most events.
func (e *env) epollWait(epfd, most int) []ready {
	e.t.Helper()
	defer e.mark()()
	at := e.alloc(12 * most)
	return e.events(at, e.must(abi.CallEpollWait, epfd, at, most, 0))
}

func (e *env) wantEvents(epfd int, want ...ready) {
	e.t.Helper()
	if got := e.epollWait(epfd, 64); !equalEvents(got, want) {
		e.t.Errorf("epoll_wait: %v, want %v", got, want)
	}
}

// equalEvents compares without order.
func equalEvents(a, b []ready) bool {
	order := func(x, y ready) int {
		return slices.Compare([]uint64{x.data, uint64(x.events)}, []uint64{y.data, uint64(y.events)})
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.Equal(a, b)
}

func (e *env) epoll() int { return int(e.must(abi.CallEpollCreate1, 0)) }

func TestEpoll_BadArgumentsAreErrors(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	ep, file := e.epoll(), e.file("x")
	e.fails(abi.EINVAL, abi.CallEpollCreate, 0)
	e.fails(abi.EINVAL, abi.CallEpollCreate, -1)
	e.fails(abi.EINVAL, abi.CallEpollCreate1, 1)
	e.must(abi.CallClose, int(e.must(abi.CallEpollCreate, 1)))
	if fd := int(e.must(abi.CallEpollCreate1, oCloexec)); e.must(abi.CallFcntl, fd, 1) != 1 {
		t.Error("not closed by exec")
	}
	for _, c := range []struct {
		want         abi.Errno
		epfd, op, fd int
	}{
		{abi.EBADF, 99, epollAdd, r},
		{abi.EBADF, ep, epollAdd, 99},
		{abi.EBADF, 99, epollAdd, 98},
		{abi.EINVAL, r, epollAdd, w},
		{abi.EINVAL, ep, epollAdd, ep},
		{abi.EINVAL, ep, 7, r},
		{abi.ENOENT, ep, epollDel, r},
		{abi.ENOENT, ep, epollMod, r},
		{abi.EPERM, ep, epollAdd, file}, // a regular file
	} {
		if got := e.ctl(c.epfd, c.op, c.fd, unix.EPOLLIN, 0); got != c.want.Result() {
			t.Errorf("epoll_ctl(%d, %d, %d) = %s, want %v", c.epfd, c.op, c.fd, show(got), c.want)
		}
	}
	e.mustCtl(ep, epollAdd, r, unix.EPOLLIN, 0)
	if got := e.ctl(ep, epollAdd, r, unix.EPOLLIN, 0); got != abi.EEXIST.Result() {
		t.Errorf("add once more: %s", show(got))
	}
	e.fails(abi.EFAULT, abi.CallEpollCtl, ep, epollMod, r, 0)
	e.must(abi.CallEpollCtl, ep, epollDel, r, 0) // needs no event
	at := e.alloc(120)
	e.fails(abi.EINVAL, abi.CallEpollWait, ep, at, 0, 0)
	e.fails(abi.EINVAL, abi.CallEpollWait, ep, at, -1, 0)
	e.fails(abi.EINVAL, abi.CallEpollWait, ep, at, 1<<31-1, 0)
	e.fails(abi.EFAULT, abi.CallEpollWait, ep, 0, 10, 0)
	e.fails(abi.EFAULT, abi.CallEpollWait, ep, gp(memSize-100), 10, 0)
	e.fails(abi.EBADF, abi.CallEpollWait, 99, at, 10, 0)
	e.fails(abi.EINVAL, abi.CallEpollWait, r, at, 10, 0)
	e.fails(abi.EINVAL, abi.CallEpollPwait, ep, at, 10, 0, at, 4)
	e.fails(abi.EINVAL, abi.CallEpollPwait2, ep, at, 10, e.timespec(0, -1))
	e.fails(abi.EINVAL, abi.CallRead, ep, at, 8)
	// Nothing of a failed add is left: the pipe's end can be added, and is once.
	e.mustCtl(ep, epollAdd, w, unix.EPOLLOUT, 5)
	e.wantEvents(ep, ready{unix.EPOLLOUT, 5})
}

func TestEpoll_AMemberLeavesWithItsFileAndNotWithItsNumber(t *testing.T) {
	e := newEnv(t)
	ep := e.epoll()
	r, w := e.pipe(0)
	e.write(w, "x")
	again := int(e.must(abi.CallDup, r))
	e.mustCtl(ep, epollAdd, r, unix.EPOLLIN, 1)
	e.mustCtl(ep, epollAdd, again, unix.EPOLLIN, 2) // the same file once more
	e.wantEvents(ep, ready{unix.EPOLLIN, 1}, ready{unix.EPOLLIN, 2})
	e.must(abi.CallClose, r)
	e.wantEvents(ep, ready{unix.EPOLLIN, 1}, ready{unix.EPOLLIN, 2}) // as in Linux: the file is open
	other, _ := e.pipe(0)
	if other != r {
		t.Fatalf("pipe is %d, and not %d again", other, r)
	}
	e.mustCtl(ep, epollAdd, other, unix.EPOLLIN, 3) // another file, by the same number
	e.must(abi.CallClose, again)
	e.wantEvents(ep)
	e.must(abi.CallClose, other)
}

func TestEpoll_WaitsUntilSomethingIsReady(t *testing.T) {
	for _, n := range []abi.Call{abi.CallEpollWait, abi.CallEpollPwait, abi.CallEpollPwait2} {
		e := newEnv(t)
		ep := e.epoll()
		r, w := e.pipe(0)
		e.mustCtl(ep, epollAdd, r, unix.EPOLLIN, 7)
		at := e.alloc(24)
		forever := any(-1)
		if n == abi.CallEpollPwait2 {
			forever = 0
		}
		done := e.background(n, ep, at, 2, forever, 0, 8)
		await(t, "the wait", e.cancel.asked)
		e.write(w, "x")
		if got := e.events(at, await(t, n.String(), done)); !equalEvents(got, []ready{{unix.EPOLLIN, 7}}) {
			t.Errorf("%v: %v", n, got)
		}
		e.read(r, 1)
		short := any(1)
		if n == abi.CallEpollPwait2 {
			short = e.timespec(0, 1000)
		}
		if got := e.must(n, ep, at, 2, short, 0, 8); got != 0 {
			t.Errorf("%v after its time: %d", n, got)
		}
	}
}

func TestEpoll_EndsWithEINTRWhenCancelled(t *testing.T) {
	e := newEnv(t)
	ep := e.epoll()
	r, _ := e.pipe(0)
	e.mustCtl(ep, epollAdd, r, unix.EPOLLIN, 7)
	done := e.background(abi.CallEpollWait, ep, e.alloc(12), 1, -1)
	await(t, "the wait", e.cancel.asked)
	e.cancel.fire()
	if got := await(t, "epoll_wait", done); got != abi.EINTR.Result() {
		t.Errorf("cancelled: %s", show(got))
	}
}

func TestEpoll_IsAFileThatCanBeWaitedFor(t *testing.T) {
	e := newEnv(t)
	outer, inner := e.epoll(), e.epoll()
	r, w := e.pipe(0)
	e.mustCtl(outer, epollAdd, inner, unix.EPOLLIN, 1)
	e.mustCtl(inner, epollAdd, r, unix.EPOLLIN, 2)
	e.wantEvents(outer)
	e.write(w, "x")
	e.wantEvents(outer, ready{unix.EPOLLIN, 1})
	e.wantEvents(inner, ready{unix.EPOLLIN, 2})
	fds := e.pollfds([2]int{outer, unix.POLLIN}, [2]int{inner, unix.POLLIN})
	if n := e.must(abi.CallPoll, fds, 2, 0); n != 2 || e.revents(fds, 0) != unix.POLLIN {
		t.Errorf("poll: %d, %#x", n, e.revents(fds, 0))
	}
	set := e.fdset(outer, inner)
	if n := e.must(abi.CallSelect, inner+1, set, 0, 0, e.timespec(0, 0)); n != 2 {
		t.Errorf("select: %d", n)
	}
	// A sixth in a chain is too many, and so is a ring.
	chain := []int{outer, inner}
	for len(chain) < 5 {
		next := e.epoll()
		e.mustCtl(chain[len(chain)-1], epollAdd, next, unix.EPOLLIN, 0)
		chain = append(chain, next)
	}
	for _, last := range []int{e.epoll(), outer} {
		if got := e.ctl(chain[4], epollAdd, last, unix.EPOLLIN, 0); got != abi.ELOOP.Result() {
			t.Errorf("add %d at the end of a chain of five: %s", last, show(got))
		}
	}
	at := e.alloc(120)
	done := e.background(abi.CallEpollWait, outer, at, 10, -1) // the whole chain
	if got := e.events(at, await(t, "epoll_wait", done)); !equalEvents(got, []ready{{unix.EPOLLIN, 1}}) {
		t.Errorf("chain: %v", got)
	}
	e.must(abi.CallClose, inner)
	e.wantEvents(outer)
}

func TestEpoll_OfAForkIsShared(t *testing.T) {
	e := newEnv(t)
	ep := e.epoll()
	r, w := e.pipe(0)
	e.mustCtl(ep, epollAdd, r, unix.EPOLLIN, 1)
	if err := e.tables.Fork(testCage, testCage+1); err != nil {
		t.Fatal(err)
	}
	e.must(abi.CallClose, r) // the fork has it open
	e.write(w, "x")
	e.wantEvents(ep, ready{unix.EPOLLIN, 1})
	if failed, err := e.tables.Remove(testCage + 1); err != nil || failed != nil {
		t.Error(failed, err)
	}
	e.wantEvents(ep)
}

// twin is a guest's epolls and files, and the same of the kernel's.
type twin struct {
	*env
	host map[int]int // guest's descriptor -> the test's own
}

func (w *twin) add(guest int64, host int) { w.host[int(guest)] = host }

// Random calls on epolls, pipes and sockets answer what the same calls answer natively.
func TestEpoll_AgreesWithTheKernel(t *testing.T) {
	e := newEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		w := &twin{env: e, host: map[int]int{}}
		defer func() {
			for guest, host := range w.host {
				e.must(abi.CallClose, guest)
				unix.Close(host)
			}
		}()
		anyFD := func() int { return rapid.SampledFrom(slices.Sorted(maps.Keys(w.host))).Draw(t, "fd") }
		w.newEpoll()
		w.newPair(false)
		t.Repeat(map[string]func(*rapid.T){
			"epoll": func(t *rapid.T) {
				if len(w.host) > 24 {
					t.Skip("enough")
				}
				w.newEpoll()
			},
			"pair": func(t *rapid.T) {
				if len(w.host) > 24 {
					t.Skip("enough")
				}
				w.newPair(rapid.Bool().Draw(t, "socket"))
			},
			"dup": func(t *rapid.T) {
				if len(w.host) > 24 {
					t.Skip("enough")
				}
				fd := anyFD()
				host, err := unix.FcntlInt(uintptr(w.host[fd]), unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				w.add(e.must(abi.CallDup, fd), host)
			},
			"close": func(t *rapid.T) {
				if len(w.host) <= 3 {
					t.Skip("few")
				}
				fd := anyFD()
				e.must(abi.CallClose, fd)
				unix.Close(w.host[fd])
				delete(w.host, fd)
			},
			"ctl": func(t *rapid.T) {
				epfd, fd := anyFD(), anyFD()
				op := rapid.SampledFrom([]int{epollAdd, epollAdd, epollAdd, epollMod, epollDel}).Draw(t, "op")
				events := rapid.SampledFrom([]uint32{
					0, unix.EPOLLIN, unix.EPOLLOUT, unix.EPOLLIN | unix.EPOLLOUT, unix.EPOLLIN | epollET,
					unix.EPOLLIN | epollOneshot, unix.EPOLLIN | unix.EPOLLOUT | epollET | epollOneshot, unix.EPOLLRDHUP,
				}).Draw(t, "events")
				data := rapid.Uint64().Draw(t, "data")
				got := e.ctl(epfd, op, fd, events, data)
				ev := unix.EpollEvent{Events: events, Fd: int32(data), Pad: int32(data >> 32)}
				want := unix.EpollCtl(w.host[epfd], op, w.host[fd], &ev)
				if n := errnoResult(want); got != n {
					t.Fatalf("epoll_ctl(%d, %d, %d, %#x) = %s, natively %s", epfd, op, fd, events, show(got), show(n))
				}
			},
			"write": func(t *rapid.T) {
				fd := anyFD()
				n, err := unix.SendmsgN(w.host[fd], []byte("x"), nil, nil, unix.MSG_NOSIGNAL)
				if err == unix.ENOTSOCK {
					n, err = unix.Write(w.host[fd], []byte("x"))
				}
				w.same(t, "write", e.write(fd, "x"), n, err)
			},
			"read": func(t *rapid.T) {
				fd := anyFD()
				var b [3]byte
				n, err := unix.Read(w.host[fd], b[:])
				defer e.mark()()
				w.same(t, "read", e.call(abi.CallRead, fd, e.alloc(3), 3), n, err)
			},
			"": func(t *rapid.T) {
				fd := anyFD()
				defer e.mark()()
				at := e.alloc(12 * 40)
				got := e.call(abi.CallEpollWait, fd, at, 40, 0)
				var events [40]unix.EpollEvent
				n, err := unix.EpollWait(w.host[fd], events[:], 0)
				if err != nil {
					w.same(t, "epoll_wait", got, n, err)
					return
				}
				var want []ready
				for _, ev := range events[:n] {
					want = append(want, ready{ev.Events, uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32})
				}
				if all := e.events(at, max(0, got)); got < 0 || !equalEvents(all, want) {
					t.Fatalf("epoll_wait(%d) = %s, %v, natively %v", fd, show(got), all, want)
				}
			},
		})
	})
}

func errnoResult(err error) int64 {
	errno := unix.Errno(0) // of no error
	errors.As(err, &errno)
	return abi.Errno(errno).Result()
}

func (w *twin) same(t *rapid.T, what string, got int64, n int, err error) {
	if want := errnoResult(err); err != nil && got != want || err == nil && got != int64(n) {
		t.Fatalf("%s = %s, natively %d, %v", what, show(got), n, err)
	}
}

func (w *twin) newEpoll() {
	host, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		panic(err)
	}
	w.add(w.must(abi.CallEpollCreate1, 0), host)
}

// newPair is a pipe or a pair of sockets, without O_NONBLOCK waiting for anything.
func (w *twin) newPair(socket bool) {
	defer w.mark()()
	var host [2]int
	at := w.alloc(8)
	if socket {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		host = fds
		w.must(abi.CallSocketpair, unix.AF_UNIX, unix.SOCK_STREAM|oNonblock, 0, at)
	} else {
		if err := unix.Pipe2(host[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			panic(err)
		}
		w.must(abi.CallPipe2, at, oNonblock)
	}
	b := w.bytes(at, 8)
	w.add(int64(le.Uint32(b)), host[0])
	w.add(int64(le.Uint32(b[4:])), host[1])
}

func (r ready) String() string { return fmt.Sprintf("%#x of %#x", r.events, r.data) }

// A file that the runtime keeps open when the cage has closed it, as a standard stream, has left all the same.
func TestEpoll_ASharedFileLeavesWhenTheCageClosesIt(t *testing.T) {
	e := newEnv(t)
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	s, err := e.host.Share(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := e.proc.InstallShared(9, s, 0); err != nil {
		t.Fatal(err)
	}
	ep := e.epoll()
	e.mustCtl(ep, epollAdd, 9, unix.EPOLLIN, 1)
	if _, err := unix.Write(fds[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	e.wantEvents(ep, ready{unix.EPOLLIN, 1})
	e.must(abi.CallClose, 9)
	e.wantEvents(ep)
	e.must(abi.CallClose, ep)
}
