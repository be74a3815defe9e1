package rawposix_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/rawposix"
)

// fill writes to fd until it would wait, and answers how much that was.
func (e *env) fill(fd int) int64 {
	e.t.Helper()
	e.must(abi.CallFcntl, fd, fSetFL, oNonblock)
	defer e.must(abi.CallFcntl, fd, fSetFL, 0)
	at, total := e.alloc(4096), int64(0)
	for {
		n := e.call(abi.CallWrite, fd, at, 4096)
		if n == abi.EAGAIN.Result() {
			return total
		}
		if n <= 0 {
			e.t.Fatalf("fill: %s", show(n))
		}
		total += n
	}
}

// listen makes a listening socket of the host and its address.
func listen(t testing.TB) (int, unix.Sockaddr) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	sa := &unix.SockaddrUnix{Name: dir + "/s"}
	if err := errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 8)); err != nil {
		t.Fatal(err)
	}
	return fd, sa
}

func (e *env) socketpair(kind int) (a, b int) {
	e.t.Helper()
	at := e.alloc(8)
	e.must(abi.CallSocketpair, unix.AF_UNIX, kind, 0, at)
	return int(le.Uint32(e.bytes(at, 4))), int(le.Uint32(e.bytes(at+4, 4)))
}

// fifo is a directory of the cage with a FIFO "f" in it.
func (e *env) fifo() (dir int, path string) {
	e.t.Helper()
	host := e.t.TempDir()
	if err := unix.Mkfifo(host+"/f", 0o600); err != nil {
		e.t.Fatal(err)
	}
	return e.preopen(host), host + "/f"
}

// msghdr places a msghdr for one buffer in guest memory.
func (e *env) msghdr(buf gp, n int) gp {
	iov := e.iov([2]uint64{e.addr(buf), uint64(n)})
	b := make([]byte, 56)
	le.PutUint64(b[16:], e.addr(iov))
	le.PutUint64(b[24:], 1)
	return e.put(b)
}

// blockingCalls is every call that can wait for another program or for time, in a state in which it does for ever.
var blockingCalls = map[string]func(e *env) (abi.Call, []any){
	"read": func(e *env) (abi.Call, []any) {
		r, _ := e.pipe(0)
		return abi.CallRead, []any{r, e.alloc(8), 8}
	},
	"readv": func(e *env) (abi.Call, []any) {
		r, _ := e.pipe(0)
		return abi.CallReadv, []any{r, e.iov([2]uint64{e.addr(e.alloc(8)), 8}), 1}
	},
	"write": func(e *env) (abi.Call, []any) {
		_, w := e.pipe(0)
		e.fill(w)
		return abi.CallWrite, []any{w, e.alloc(8), 8}
	},
	"writev": func(e *env) (abi.Call, []any) {
		_, w := e.pipe(0)
		e.fill(w)
		v := [2]uint64{e.addr(e.alloc(8)), 8}
		return abi.CallWritev, []any{w, e.iov(v, v), 2}
	},
	"write to a socket": func(e *env) (abi.Call, []any) {
		a, _ := e.socketpair(unix.SOCK_STREAM)
		e.fill(a)
		return abi.CallWrite, []any{a, e.alloc(8), 8}
	},
	"accept": func(e *env) (abi.Call, []any) {
		fd, _ := listen(e.t)
		if err := e.proc.InstallFD(9, fd, rawposix.Owned, 0); err != nil {
			e.t.Fatal(err)
		}
		return abi.CallAccept, []any{9, 0, 0}
	},
	"accept4": func(e *env) (abi.Call, []any) {
		fd, _ := listen(e.t)
		if err := e.proc.InstallFD(9, fd, rawposix.Owned, 0); err != nil {
			e.t.Fatal(err)
		}
		return abi.CallAccept4, []any{9, 0, 0, 0}
	},
	"recvfrom": func(e *env) (abi.Call, []any) {
		a, _ := e.socketpair(unix.SOCK_DGRAM)
		return abi.CallRecvfrom, []any{a, e.alloc(8), 8, 0, 0, 0}
	},
	"recvfrom all": func(e *env) (abi.Call, []any) {
		a, _ := e.socketpair(unix.SOCK_STREAM)
		return abi.CallRecvfrom, []any{a, e.alloc(8), 8, unix.MSG_WAITALL, 0, 0}
	},
	"recvmsg": func(e *env) (abi.Call, []any) {
		a, _ := e.socketpair(unix.SOCK_SEQPACKET)
		return abi.CallRecvmsg, []any{a, e.msghdr(e.alloc(8), 8), 0}
	},
	"sendto": func(e *env) (abi.Call, []any) {
		a, _ := e.socketpair(unix.SOCK_DGRAM)
		e.fill(a)
		return abi.CallSendto, []any{a, e.alloc(8), 8, 0, 0, 0}
	},
	"sendmsg": func(e *env) (abi.Call, []any) {
		a, _ := e.socketpair(unix.SOCK_STREAM)
		e.fill(a)
		return abi.CallSendmsg, []any{a, e.msghdr(e.alloc(8), 8), 0}
	},
	"poll": func(e *env) (abi.Call, []any) {
		r, _ := e.pipe(0)
		return abi.CallPoll, []any{e.pollfds([2]int{r, unix.POLLIN}), 1, -1}
	},
	"poll of nothing": func(*env) (abi.Call, []any) { return abi.CallPoll, []any{0, 0, -1} },
	"ppoll": func(e *env) (abi.Call, []any) {
		r, _ := e.pipe(0)
		return abi.CallPpoll, []any{e.pollfds([2]int{r, unix.POLLIN}), 1, e.timespec(3600, 0), 0, 0}
	},
	"ppoll for 300 years": func(e *env) (abi.Call, []any) {
		return abi.CallPpoll, []any{0, 0, e.timespec(1<<40, 0), 0, 0}
	},
	"nanosleep":               func(e *env) (abi.Call, []any) { return abi.CallNanosleep, []any{e.timespec(3600, 0), 0} },
	"nanosleep for 300 years": func(e *env) (abi.Call, []any) { return abi.CallNanosleep, []any{e.timespec(1<<62, 0), 0} },
	"clock_nanosleep": func(e *env) (abi.Call, []any) {
		return abi.CallClockNanosleep, []any{unix.CLOCK_REALTIME, 0, e.timespec(3600, 0), 0}
	},
	"clock_nanosleep until a monotonic time": func(e *env) (abi.Call, []any) {
		return abi.CallClockNanosleep, []any{unix.CLOCK_MONOTONIC, 1, e.timespec(1<<33, 0), 0}
	},
	"clock_nanosleep until a real time": func(e *env) (abi.Call, []any) {
		return abi.CallClockNanosleep, []any{unix.CLOCK_REALTIME, 1, e.timespec(1<<33, 0), 0}
	},
	"clock_nanosleep until an atomic time": func(e *env) (abi.Call, []any) {
		return abi.CallClockNanosleep, []any{unix.CLOCK_TAI, 1, e.timespec(1<<33, 0), 0}
	},
	"clock_nanosleep since boot": func(e *env) (abi.Call, []any) {
		return abi.CallClockNanosleep, []any{unix.CLOCK_BOOTTIME, 0, e.timespec(1<<33, 0), 0}
	},
	"select": func(e *env) (abi.Call, []any) {
		r, _ := e.pipe(0)
		return abi.CallSelect, []any{r + 1, e.fdset(r), 0, 0, 0}
	},
	"select with a timeout": func(e *env) (abi.Call, []any) {
		return abi.CallSelect, []any{0, 0, 0, 0, e.timespec(3600, 0)}
	},
	"pselect6 of many": func(e *env) (abi.Call, []any) {
		var fds []int
		for range 10 {
			r, _ := e.pipe(0)
			fds = append(fds, r)
		}
		return abi.CallPselect6, []any{fds[9] + 1, e.fdset(fds...), 0, e.fdset(fds...), e.timespec(3600, 0), 0}
	},
	"open a FIFO for reading": func(e *env) (abi.Call, []any) {
		dir, _ := e.fifo()
		return abi.CallOpenat, []any{dir, e.str("f"), oRdonly, 0}
	},
	"open a FIFO for writing": func(e *env) (abi.Call, []any) {
		dir, _ := e.fifo()
		return abi.CallOpenat, []any{dir, e.str("f"), oWronly, 0}
	},
}

func TestEveryBlockingCall_EndsWithEINTRWhenCancelled(t *testing.T) {
	for name, prepare := range blockingCalls {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			call, args := prepare(e)
			done := e.background(call, args...)
			await(t, "the wait", e.cancel.asked)
			e.cancel.fire()
			if r := await(t, "the call's end", done); r != abi.EINTR.Result() {
				t.Fatalf("%v = %s, want EINTR", call, show(r))
			}
		})
	}
}

func TestEveryBlockingCall_DoesNotBeginToWaitInAStoppingCage(t *testing.T) {
	for name, prepare := range blockingCalls {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			call, args := prepare(e)
			e.cancel.fire()
			if r := await(t, "the call's end", e.background(call, args...)); r != abi.EINTR.Result() {
				t.Fatalf("%v = %s, want EINTR", call, show(r))
			}
		})
	}
}

func TestEveryBlockingCall_FailsRatherThanWaitWithoutACancelToken(t *testing.T) {
	for name, prepare := range blockingCalls {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			call, args := prepare(e)
			e.cancel.err = unix.EMFILE
			r := await(t, "the call's end", e.background(call, args...))
			if r != abi.ENFILE.Result() {
				t.Fatalf("%v = %s, want ENFILE", call, show(r))
			}
		})
	}
}

func TestCancelledTransfer_AnswersWhatItHadMoved(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	room := e.fill(w)
	if got := e.read(r, 4096); len(got) != 4096 {
		t.Fatalf("read %d", len(got))
	}
	done := e.background(abi.CallWrite, w, e.alloc(1<<17), 1<<17)
	await(t, "the wait", e.cancel.asked)
	e.cancel.fire()
	if n := await(t, "the write's end", done); n != 4096 {
		t.Fatalf("a cancelled write moved %s bytes of a pipe of %d", show(n), room)
	}
}

func TestCancelledReceiveOfAll_AnswersWhatHadCome(t *testing.T) {
	e := newEnv(t)
	a, b := e.socketpair(unix.SOCK_STREAM)
	e.write(b, "123")
	at := e.alloc(8)
	done := e.background(abi.CallRecvfrom, a, at, 8, unix.MSG_WAITALL, 0, 0)
	await(t, "the wait", e.cancel.asked)
	e.cancel.fire()
	if n := await(t, "the end", done); n != 3 || string(e.bytes(at, 3)) != "123" {
		t.Fatalf("recvfrom: %s", show(n))
	}
}

func TestCancelledSleep_TellsWhatIsLeft(t *testing.T) {
	e := newEnv(t)
	left := e.timespec(0, 0)
	done := e.background(abi.CallNanosleep, e.timespec(3600, 0), left)
	await(t, "the wait", e.cancel.asked)
	e.cancel.fire()
	if r := await(t, "the end", done); r != abi.EINTR.Result() {
		t.Fatalf("nanosleep: %s", show(r))
	}
	if sec := time.Duration(le.Uint64(e.bytes(left, 8))) * time.Second; sec < 3000*time.Second || sec >= 3600*time.Second {
		t.Fatalf("%v left of an hour", sec)
	}
}

func TestClosingWhatAnotherThreadReads_LeavesTheReadToItsEnd(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	at := e.alloc(8)
	done := e.background(abi.CallRead, r, at, 8)
	await(t, "the wait", e.cancel.asked)
	e.must(abi.CallClose, r)
	reused, _ := e.pipe(0) // takes the number, and must not take the read
	if reused != r {
		t.Fatalf("the number %d was not reused, but %d", r, reused)
	}
	if n := e.write(w, "late"); n != 4 {
		t.Fatalf("write: %s", show(n))
	}
	if n := await(t, "the read's end", done); n != 4 || string(e.bytes(at, 4)) != "late" {
		t.Fatalf("read: %s", show(n))
	}
	e.cancel.asked = make(chan struct{}, 1)
	if n := e.write(w, "nobody"); n != abi.EPIPE.Result() {
		t.Fatalf("write without a reader: %s", show(n))
	}
}
