package rawposix_test

import (
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/rawposix"
)

// provider is a provider, and which of its files were closed.
type provider struct {
	*rawposix.Provider
	e      *env
	mu     sync.Mutex
	closed []uint64 // guarded by mu
}

func newProvider(e *env) *provider {
	p := &provider{e: e}
	p.Provider = e.host.NewProvider(func(number uint64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closed = append(p.closed, number)
	})
	return p
}

func (p *provider) wantClosed(want ...uint64) {
	p.e.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.closed, want) {
		p.e.t.Errorf("closed: %v, want %v", p.closed, want)
	}
}

// open opens a file of the provider.
func (p *provider) open(number uint64, ready int16) int {
	p.e.t.Helper()
	fd, errno := p.Open(p.e.proc, 0, number, ready, false, 0)
	if errno != 0 {
		p.e.t.Fatalf("open %d: %v", number, errno)
	}
	return int(fd)
}

func TestProvider_OpensDuplicatesAndClosesOnce(t *testing.T) {
	e := newEnv(t)
	p, other := newProvider(e), newProvider(e)
	fd := p.open(1<<40, 0)
	if _, errno := p.Open(e.proc, 0, 1<<40, 0, false, 0); errno != abi.EEXIST {
		t.Errorf("open once more: %v", errno)
	}
	if _, errno := p.Open(e.proc, 5000, 2, 0, false, 0); errno != abi.EINVAL || p.Len() != 1 {
		t.Errorf("open from 5000: %v, and %d files", errno, p.Len())
	}
	again := int(e.must(abi.CallDup, fd))
	for _, fd := range []int{fd, again} {
		if n, errno := p.Number(e.proc, fdtables.FD(fd)); errno != 0 || n != 1<<40 {
			t.Errorf("number of %d: %d, %v", fd, n, errno)
		}
		if _, errno := other.Number(e.proc, fdtables.FD(fd)); errno != abi.ENOENT {
			t.Errorf("number of %d for another: %v", fd, errno)
		}
	}
	if _, errno := p.Number(e.proc, 99); errno != abi.EBADF {
		t.Error(errno)
	}
	e.fails(abi.EBADF, abi.CallRead, fd, e.alloc(8), 8) // nobody serves it
	e.must(abi.CallClose, fd)
	p.wantClosed()
	e.must(abi.CallClose, again)
	p.wantClosed(1 << 40)
	if errno := p.SetReady(1<<40, 0); errno != abi.ENOENT {
		t.Error(errno)
	}
	fd = p.open(1<<40, 0) // the number is free again
	p.Close()
	if _, errno := p.Open(e.proc, 0, 3, 0, false, 0); errno != abi.EIO {
		t.Errorf("open of one that is gone: %v", errno)
	}
	e.must(abi.CallClose, fd)
	p.wantClosed(1 << 40)
}

func TestVirtual_IsWaitedForBesideTheKernels(t *testing.T) {
	e := newEnv(t)
	p := newProvider(e)
	r, w := e.pipe(0)
	v := p.open(1, 0)
	again := int(e.must(abi.CallDup, v))
	fds := e.pollfds([2]int{r, unix.POLLIN}, [2]int{v, unix.POLLIN}, [2]int{again, unix.POLLOUT}, [2]int{-1, unix.POLLIN})
	revents := func() [3]int { return [3]int{e.revents(fds, 0), e.revents(fds, 1), e.revents(fds, 2)} }
	for _, c := range []struct {
		do   func()
		want [3]int
	}{
		{func() { p.SetReady(1, unix.POLLIN) }, [3]int{0, unix.POLLIN, 0}},
		{func() { p.SetReady(1, unix.POLLOUT); e.write(w, "x") }, [3]int{unix.POLLIN, 0, unix.POLLOUT}},
		{func() { p.SetReady(1, unix.POLLIN|unix.POLLOUT) }, [3]int{unix.POLLIN, unix.POLLIN, unix.POLLOUT}},
		{func() { p.SetReady(1, unix.POLLHUP); e.read(r, 1) }, [3]int{0, unix.POLLHUP, unix.POLLHUP}},
	} {
		c.do()
		n := 0
		for _, got := range c.want {
			if got != 0 {
				n++
			}
		}
		if got := e.must(abi.CallPoll, fds, 4, -1); got != int64(n) || revents() != c.want {
			t.Errorf("poll = %d, %#x, want %d, %#x", got, revents(), n, c.want)
		}
	}
	p.SetReady(1, 0)
	if n := e.must(abi.CallPoll, fds, 4, 1); n != 0 {
		t.Errorf("poll = %d, %#x", n, revents())
	}
	sets := [3]gp{e.fdset(r, v, again), e.fdset(v), e.fdset(v)}
	p.SetReady(1, unix.POLLIN|unix.POLLPRI)
	e.wantSets(e.call(abi.CallSelect, again+1, sets[0], sets[1], sets[2], 0), sets, []int{v, again}, nil, []int{v})
}

func TestVirtual_WakesWhoWaits(t *testing.T) {
	for name, begin := range map[string]func(e *env, v, r int) <-chan int64{
		"poll": func(e *env, v, r int) <-chan int64 {
			return e.background(abi.CallPoll, e.pollfds([2]int{r, unix.POLLIN}, [2]int{v, unix.POLLIN}), 2, -1)
		},
		"select": func(e *env, v, r int) <-chan int64 {
			return e.background(abi.CallSelect, max(v, r)+1, e.fdset(v, r), 0, 0, 0)
		},
		"epoll": func(e *env, v, r int) <-chan int64 {
			ep := e.epoll()
			e.mustCtl(ep, epollAdd, v, unix.EPOLLIN, 1)
			e.mustCtl(ep, epollAdd, r, unix.EPOLLIN, 2)
			return e.background(abi.CallEpollWait, ep, e.alloc(24), 2, -1)
		},
		"epoll in an epoll": func(e *env, v, r int) <-chan int64 {
			ep, outer := e.epoll(), e.epoll()
			e.mustCtl(outer, epollAdd, ep, unix.EPOLLIN, 1)
			e.mustCtl(ep, epollAdd, v, unix.EPOLLIN, 1)
			return e.background(abi.CallEpollWait, outer, e.alloc(24), 2, -1)
		},
	} {
		for what, wake := range map[string]func(p *provider, e *env, w int) (want int64){
			"ready": func(p *provider, _ *env, _ int) int64 { p.SetReady(1, unix.POLLIN); return 1 },
			"gone":  func(p *provider, _ *env, _ int) int64 { p.Close(); return 1 },
			"cancel": func(_ *provider, e *env, _ int) int64 {
				e.cancel.fire()
				return abi.EINTR.Result()
			},
			"the kernel's": func(p *provider, e *env, w int) int64 {
				if name == "epoll in an epoll" {
					p.SetReady(1, unix.POLLIN)
				}
				e.write(w, "x")
				return 1
			},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				e := newEnv(t)
				p := newProvider(e)
				r, w := e.pipe(0)
				v := p.open(1, 0)
				done := begin(e, v, r)
				await(t, "the wait", e.cancel.asked)
				p.SetReady(1, unix.POLLOUT) // nobody asked for that
				if want, got := wake(p, e, w), await(t, name, done); got != want {
					t.Errorf("%s, want %s", show(got), show(want))
				}
			})
		}
	}
}

func TestVirtual_InAnEpollIsAsAKernelsFile(t *testing.T) {
	e := newEnv(t)
	p := newProvider(e)
	ep := e.epoll()
	level, edge, once := p.open(1, 0), p.open(2, 0), p.open(3, unix.POLLIN)
	e.mustCtl(ep, epollAdd, level, unix.EPOLLIN, 1)
	e.mustCtl(ep, epollAdd, edge, unix.EPOLLIN|epollET, 2)
	e.mustCtl(ep, epollAdd, once, unix.EPOLLIN|epollOneshot, 3)
	e.wantEvents(ep, ready{unix.EPOLLIN, 3}) // it was ready when it was added
	e.wantEvents(ep)
	for range 2 {
		p.SetReady(1, unix.POLLIN)
		p.SetReady(2, unix.POLLIN|unix.POLLOUT)
		p.SetReady(3, unix.POLLIN)
		e.wantEvents(ep, ready{unix.EPOLLIN, 1}, ready{unix.EPOLLIN, 2})
		e.wantEvents(ep, ready{unix.EPOLLIN, 1})
	}
	e.mustCtl(ep, epollMod, once, unix.EPOLLIN|epollOneshot, 4)
	e.wantEvents(ep, ready{unix.EPOLLIN, 1}, ready{unix.EPOLLIN, 4})
	p.SetReady(1, 0)
	e.wantEvents(ep)
	p.SetReady(2, unix.POLLERR) // unasked
	e.wantEvents(ep, ready{unix.EPOLLERR, 2})
	e.mustCtl(ep, epollDel, edge, 0, 0)
	p.SetReady(2, unix.POLLIN)
	e.wantEvents(ep)
	p.SetReady(1, unix.POLLIN)
	e.must(abi.CallClose, level)
	e.wantEvents(ep)
	p.wantClosed(1)
	e.must(abi.CallClose, ep)
	p.SetReady(3, unix.POLLIN)
	for _, fd := range []int{edge, once} {
		e.must(abi.CallClose, fd)
	}
	p.wantClosed(1, 2, 3)
}

// A wait for few events hears of all that is ready in turn, of either sort.
func TestVirtual_InAnEpollStarvesNobody(t *testing.T) {
	e := newEnv(t)
	p := newProvider(e)
	ep, want := e.epoll(), map[uint64]bool{}
	for i := range 5 {
		e.mustCtl(ep, epollAdd, p.open(uint64(i), unix.POLLIN), unix.EPOLLIN, uint64(i))
		r, w := e.pipe(0)
		e.write(w, "x")
		e.mustCtl(ep, epollAdd, r, unix.EPOLLIN, uint64(10+i))
		want[uint64(i)], want[uint64(10+i)] = true, true
	}
	for range 40 {
		for _, got := range e.epollWait(ep, 1) {
			delete(want, got.data)
		}
	}
	if len(want) > 0 {
		t.Errorf("never heard of: %v", want)
	}
}

// Files become ready, are closed and are waited for by many threads at once: nothing is lost, and nothing left.
func TestVirtual_Hammer(t *testing.T) {
	const files, rounds = 8, 300
	e := newEnv(t)
	p := newProvider(e)
	ep := e.epoll()
	var fds []int
	for i := range files {
		fds = append(fds, p.open(uint64(i), 0))
		e.mustCtl(ep, epollAdd, fds[i], unix.EPOLLIN|epollOneshot, uint64(i))
	}
	// Each waiter takes one that is ready, makes it not ready and arms it again; each file is made ready rounds times.
	var wg sync.WaitGroup
	taken := make([]chan struct{}, files)
	for i := range taken {
		taken[i] = make(chan struct{}, 1)
	}
	at := [4]gp{e.alloc(24), e.alloc(24), e.alloc(24), e.alloc(24)}
	armed := make([]gp, files)
	for i := range armed {
		armed[i] = e.epollEvent(unix.EPOLLIN|epollOneshot, uint64(i))
	}
	stop := p.open(100, 0)
	e.mustCtl(ep, epollAdd, stop, unix.EPOLLIN, 100)
	for _, at := range at {
		th := e.thread()
		wg.Go(func() {
			for {
				n := e.sys.Syscall(th, abi.CallEpollWait, e.args(ep, at, 2, -1))
				for _, got := range e.events(at, n) {
					if got.data == 100 {
						return
					}
					p.SetReady(got.data, 0)
					r := e.sys.Syscall(th, abi.CallEpollCtl, e.args(ep, epollMod, fds[got.data], armed[got.data]))
					if r != 0 {
						t.Errorf("epoll_ctl: %s", show(r))
					}
					taken[got.data] <- struct{}{}
				}
			}
		})
	}
	var makers sync.WaitGroup
	for i := range files {
		makers.Go(func() {
			for range rounds {
				p.SetReady(uint64(i), unix.POLLIN)
				await(t, "an event", taken[i])
			}
		})
	}
	makers.Wait()
	p.SetReady(100, unix.POLLIN)
	wg.Wait()
	e.must(abi.CallClose, ep)
	if errno := p.SetReady(0, unix.POLLIN); errno != 0 {
		t.Error(errno)
	}
}
