package rawposix_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
)

func TestPoll_SaysWhatIsReady(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	file := e.file("x")
	at := e.pollfds([2]int{r, unix.POLLIN}, [2]int{w, unix.POLLOUT}, [2]int{-1, unix.POLLIN}, [2]int{77, unix.POLLIN},
		[2]int{file, unix.POLLIN | unix.POLLOUT})
	check := func(n int64, want ...int) {
		t.Helper()
		ready := int64(0)
		for i, v := range want {
			if got := e.revents(at, i); got != v {
				t.Errorf("revents of %d: %#x, want %#x", i, got, v)
			}
			if v != 0 {
				ready++
			}
		}
		if n != ready {
			t.Errorf("poll = %s, want %d", show(n), ready)
		}
	}
	copy(e.bytes(at+2*8+6, 2), "\xff\xff")
	check(e.call(abi.CallPoll, at, 5, -1), 0, unix.POLLOUT, 0, unix.POLLNVAL, unix.POLLIN|unix.POLLOUT)
	e.write(w, "x")
	check(e.call(abi.CallPpoll, at, 5, 0, 0, 0), unix.POLLIN, unix.POLLOUT, 0, unix.POLLNVAL, unix.POLLIN|unix.POLLOUT)
	e.must(abi.CallClose, w)
	check(e.call(abi.CallPoll, at, 1, -1), unix.POLLIN|unix.POLLHUP)
}

func TestPoll_WaitsUntilSomethingIsReady(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	at := e.pollfds([2]int{r, unix.POLLIN})
	done := e.background(abi.CallPoll, at, 1, -1)
	await(t, "the wait", e.cancel.asked)
	e.write(w, "x")
	if n := await(t, "poll", done); n != 1 || e.revents(at, 0) != unix.POLLIN {
		t.Fatalf("poll: %s, %#x", show(n), e.revents(at, 0))
	}
}

func TestPoll_TimesOut(t *testing.T) {
	e := newEnv(t)
	r, _ := e.pipe(0)
	at := e.pollfds([2]int{r, unix.POLLIN})
	start := time.Now()
	if n := e.must(abi.CallPoll, at, 1, 20); n != 0 {
		t.Errorf("poll: %d", n)
	}
	left := e.timespec(0, 20_000_000)
	if n := e.must(abi.CallPpoll, at, 1, left, 0, 0); n != 0 {
		t.Errorf("ppoll: %d", n)
	}
	if d := time.Since(start); d < 40*time.Millisecond {
		t.Errorf("40 ms took %v", d)
	}
	if s, ns := le.Uint64(e.bytes(left, 8)), le.Uint64(e.bytes(left+8, 8)); s != 0 || ns != 0 {
		t.Errorf("%d s %d ns left of a timeout", s, ns)
	}
	if n := e.must(abi.CallPoll, at, 1, 0); n != 0 {
		t.Errorf("poll without a wait: %d", n)
	}
	left = e.timespec(1000, 5)
	if n := e.must(abi.CallPpoll, e.pollfds([2]int{88, 0}), 1, left, 0, 0); n != 1 {
		t.Errorf("ppoll of a closed descriptor: %d", n)
	}
	if s := le.Uint64(e.bytes(left, 8)); s < 900 || s >= 1000 {
		t.Errorf("%d s left of 1000", s)
	}
}

func TestPoll_TakesManyDescriptors(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	var fds [][2]int
	for range 1000 {
		fds = append(fds, [2]int{r, unix.POLLIN}, [2]int{w, unix.POLLOUT})
	}
	at := e.pollfds(fds...)
	if n := e.must(abi.CallPoll, at, 2000, -1); n != 1000 {
		t.Fatalf("poll: %d", n)
	}
	for i := range 2000 {
		if got, want := e.revents(at, i), unix.POLLOUT*(i%2); got != want {
			t.Fatalf("revents of %d: %#x, want %#x", i, got, want)
		}
	}
	e.fails(abi.EINVAL, abi.CallPoll, at, 1<<16+1, 0)
	e.fails(abi.EINVAL, abi.CallPoll, at, -1, 0)
	e.fails(abi.EFAULT, abi.CallPoll, gp(memSize-8), 2, 0)
	e.fails(abi.EFAULT, abi.CallPoll, 0, 1, 0)
	e.fails(abi.EINVAL, abi.CallPpoll, at, 1, e.timespec(0, 1e9), 0, 0)
	e.fails(abi.EINVAL, abi.CallPpoll, at, 1, e.timespec(-1, 0), 0, 0)
	e.fails(abi.EFAULT, abi.CallPpoll, at, 1, gp(memSize-15), 0, 0)
	mask := e.alloc(8)
	e.fails(abi.EINVAL, abi.CallPpoll, at, 1, 0, mask, 4)
	e.fails(abi.EFAULT, abi.CallPpoll, at, 1, 0, gp(memSize-4), 8)
	if n := e.must(abi.CallPpoll, at, 2, 0, mask, 8); n != 1 {
		t.Fatalf("ppoll with a mask: %d", n)
	}
}
