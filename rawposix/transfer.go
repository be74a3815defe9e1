package rawposix

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements one read or write of any sort of file, between the kernel and guest memory, without a copy.
//
//   - A step is one system call that does not wait. What it takes to make sure of that depends on the file's access.
//   - EAGAIN from a step means waiting for the file and the cancel token, unless the guest asked for EAGAIN.
//   - A step moves at most stepBytes, so that a big transfer looks at the gate now and then. Messages are not cut.

const (
	// stepBytes bounds how long the kernel is busy with one step on a file that never waits: about a millisecond from
	// the page cache. Writes of at most this size are as atomic as the host's; of longer ones each step is.
	stepBytes = 4 << 20
	// pipeBuf is PIPE_BUF: a pipe that is writable takes this much without waiting.
	pipeBuf = 4096
	// ttyBuf is what a terminal that is writable takes without waiting: Linux calls one writable that has less than
	// 256 characters in its buffer, of at least two pages.
	ttyBuf = 256
	// rwfNowait, rwfAppend are RWF_NOWAIT and RWF_APPEND of preadv2(2).
	rwfNowait = 0x8
	rwfAppend = 0x10
	// noPos is the position of transfers at the file's own position.
	noPos = -1
)

// transfer is one read or write in progress.
type transfer struct {
	t       *threei.Thread
	fd      int
	f       *file
	pos     int64 // where, or noPos; moves on with the transfer
	status  uint32
	toFile  bool
	waiting bool // the guest is ready to wait
}

// newTransfer is a transfer on h for the thread t.
func (p *Process) newTransfer(t *threei.Thread, h *handle, toFile bool, pos int64) transfer {
	status := p.statusOf(h.f).Load()
	return transfer{
		t: t, fd: h.fd, f: h.f, pos: pos, status: status, toFile: toFile, waiting: status&unix.O_NONBLOCK == 0,
	}
}

// run moves the bytes of v, which has at most maxTransfer, and answers how many or an errno. It uses v up.
func (x *transfer) run(v []iovec) int64 {
	left, done := vecBytes(v), uint64(0)
	for {
		size := left
		if !x.f.datagrams() {
			size = min(left, stepBytes)
		}
		first, whole := vecFirst(v, size)
		n, e := x.step(first, size)
		vecRestore(first, whole)
		switch {
		case e == abi.EINTR: // a signal of the host's own runtime
			continue
		case e == abi.EAGAIN && x.waiting && (done == 0 || x.toFile):
			if done == 0 {
				_, e = waitOrPark(x.t, x.fd, x.events(), time.Time{})
			} else {
				_, e = wait(x.t, x.fd, x.events(), time.Time{})
			}
			if e == 0 {
				continue
			}
		}
		if e != 0 {
			if done > 0 {
				return int64(done)
			}
			return e.Result()
		}
		done, left = done+n, left-n
		if left == 0 || n == 0 || !x.goesOn(n, size) || x.t.Cancel.Stopping() {
			return int64(done)
		}
		v = vecSkip(v, n)
		if x.pos != noPos {
			x.pos += int64(n)
		}
	}
}

// goesOn says whether a step that moved n of size bytes is followed by another: if it was only cut short by stepBytes,
// or if it is a write that has to take everything because the guest is ready to wait.
func (x *transfer) goesOn(n, size uint64) bool {
	switch {
	case x.f.datagrams():
		return false
	case x.toFile && x.f.stream() && x.waiting:
		return true
	}
	return n == size && (x.toFile || !x.f.stream() && x.f.access != accessPolled)
}

func (x *transfer) events() int16 {
	if x.toFile {
		return unix.POLLOUT
	}
	return unix.POLLIN
}

// step makes one system call that does not wait: it is abi.EAGAIN where that would take a wait.
func (x *transfer) step(v []iovec, size uint64) (uint64, abi.Errno) {
	if x.f.typ == typeSocket && x.pos == noPos && (x.toFile || x.f.access == accessMessage) {
		return x.message(v, size)
	}
	switch x.f.access {
	case accessPolled:
		return x.polled(v, size)
	case accessPlain:
		if x.toFile && x.status&unix.O_APPEND != 0 {
			return sysVec(unix.SYS_PWRITEV2, x.fd, v, x.pos, rwfAppend)
		}
	}
	n, e := x.direct(v)
	if n == 0 && e == 0 && x.f.lazyFIFO && x.waiting && size > 0 {
		// The end of the file, or has there not been a writer yet? Only after one does Linux report a hangup.
		if r, e := ready(x.fd, unix.POLLIN); e != 0 || r == 0 {
			return 0, abi.EAGAIN
		}
	}
	return n, e
}

// direct is the plain system call.
func (x *transfer) direct(v []iovec) (uint64, abi.Errno) {
	if len(v) > 1 {
		switch {
		case x.pos == noPos && x.toFile:
			return sysVec(unix.SYS_WRITEV, x.fd, v, 0, 0)
		case x.pos == noPos:
			return sysVec(unix.SYS_READV, x.fd, v, 0, 0)
		case x.toFile:
			return sysVec(unix.SYS_PWRITEV, x.fd, v, x.pos, 0)
		}
		return sysVec(unix.SYS_PREADV, x.fd, v, x.pos, 0)
	}
	var b iovec
	if len(v) == 1 {
		b = v[0]
	}
	switch {
	case x.pos == noPos && x.toFile:
		return sysBuf(unix.SYS_WRITE, x.fd, b)
	case x.pos == noPos:
		return sysBuf(unix.SYS_READ, x.fd, b)
	case x.toFile:
		return sysBufAt(unix.SYS_PWRITE64, x.fd, b, x.pos)
	}
	return sysBufAt(unix.SYS_PREAD64, x.fd, b, x.pos)
}

// message moves data through a socket: with MSG_DONTWAIT whatever the state of its description, and without SIGPIPE.
func (x *transfer) message(v []iovec, size uint64) (uint64, abi.Errno) {
	if x.toFile {
		return sysMsg(unix.SYS_SENDMSG, x.fd, v, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	if size == 0 {
		return 0, 0 // a read of nothing takes no message away, a recvmsg of nothing does
	}
	return sysMsg(unix.SYS_RECVMSG, x.fd, v, unix.MSG_DONTWAIT)
}

// polled makes the call only when the file is ready for it, on a description that may be blocking and is not ours. Where
// the kernel knows RWF_NOWAIT for the file that is exact. Elsewhere another process may take what made the file
// ready in between, and then the call waits in the kernel until there is more: see the package's documentation.
func (x *transfer) polled(v []iovec, size uint64) (uint64, abi.Errno) {
	if r, e := ready(x.fd, x.events()); e != 0 {
		return 0, e
	} else if r == 0 {
		return 0, abi.EAGAIN
	}
	if !x.f.noNowait.Load() {
		trap := uintptr(unix.SYS_PREADV2)
		if x.toFile {
			trap = unix.SYS_PWRITEV2
		}
		n, e := sysVec(trap, x.fd, v, x.pos, rwfNowait)
		if e != abi.EOPNOTSUPP && e != abi.ENOSYS {
			return n, e
		}
		x.f.noNowait.Store(true)
	}
	if !x.toFile || x.f.typ != typePipe && x.f.typ != typeTTY {
		return x.direct(v)
	}
	limit := uint64(ttyBuf)
	if x.f.typ == typePipe {
		limit = pipeBuf
	}
	first, whole := vecFirst(v, min(size, limit))
	n, e := x.direct(first)
	vecRestore(first, whole)
	return n, e
}
