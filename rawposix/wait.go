package rawposix

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements how a call waits. No lock is held meanwhile, nothing is polled in a loop, and no signal is needed
// to end it.
//
//   - A call that has had no effect yet is parked: it answers EINTR, the wait is made outside Go, and then the call is made
//     again from its beginning (threei.Thread.Park).
//   - One that has, or that cannot be made again, waits here, in one ppoll for what it waits for and for the domain's
//     cancel token.

// waitOrPark is wait for a call that can be made again. An abi.EINTR may also say that it will be.
func waitOrPark(t *threei.Thread, fd int, events int16, deadline time.Time) (int16, abi.Errno) {
	if fd >= 0 {
		if t.Park([]threei.WaitFD{{FD: int32(fd), Events: events}}, deadline) {
			return 0, abi.EINTR
		}
	} else if t.Park(nil, deadline) {
		return 0, abi.EINTR
	}
	return wait(t, fd, events, deadline)
}

// wait blocks until fd has one of events, or an error or hangup, and answers what it has. It is 0 if the deadline passed
// first; the zero deadline never does. It is abi.EINTR if the domain stops. An fd of -1 waits for the other two alone.
func wait(t *threei.Thread, fd int, events int16, deadline time.Time) (int16, abi.Errno) {
	cancel, e := cancelFD(t)
	if e != 0 {
		return 0, e
	}
	fds := [2]unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(cancel), Events: unix.POLLIN}}
	if _, e := ppoll(fds[:], deadline); e != 0 {
		return 0, e
	}
	if fds[1].Revents != 0 {
		return 0, abi.EINTR
	}
	return fds[0].Revents, 0
}

// ready answers what of events fd has now, without waiting.
func ready(fd int, events int16) (int16, abi.Errno) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		_, err := unix.Ppoll(fds[:], &unix.Timespec{}, nil)
		if e := errnoOf(err); e != abi.EINTR {
			return fds[0].Revents, e
		}
	}
}

// cancelFD is the descriptor of t's cancel token. Failing to make one is the host's shortage of descriptors: a call
// that could then not be cancelled must not wait.
func cancelFD(t *threei.Thread) (int, abi.Errno) {
	fd, err := t.Cancel.CancelFD()
	if err != nil {
		return -1, newFDErrno(errnoOf(err))
	}
	return fd, 0
}

// ppoll is ppoll(2) until deadline, the zero one being never. Signals that the host's own runtime uses do not
// end it.
func ppoll(fds []unix.PollFd, deadline time.Time) (int, abi.Errno) {
	for {
		var timeout *unix.Timespec
		if !deadline.IsZero() {
			ts := unix.NsecToTimespec(int64(max(0, time.Until(deadline))))
			timeout = &ts
		}
		n, err := unix.Ppoll(fds, timeout, nil)
		if e := errnoOf(err); e != abi.EINTR {
			return n, e
		}
	}
}
