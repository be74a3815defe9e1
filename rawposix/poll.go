package rawposix

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	pollfdSize = 8
	// maxPoll is how many descriptors one poll takes. Linux takes RLIMIT_NOFILE of them.
	maxPoll = 1 << 16
	// fewPolls is how many descriptors are polled without allocating.
	fewPolls = 16
	// ignored and notOpen stand for descriptors that the kernel is not asked about.
	ignored = -1
	notOpen = -2
	// sigsetSize is the size of the kernel's sigset_t.
	sigsetSize = 8
)

// poll is poll(2): array of struct pollfd, its length, milliseconds to wait, negative for ever.
func poll(t *threei.Thread, a *threei.Args) int64 {
	return pollUntil(t, a, millisDeadline(t, a.Val[2]))
}

// millisDeadline is when a wait of that many milliseconds from now ends. Of a negative number it is the zero time, never.
func millisDeadline(t *threei.Thread, v uint64) time.Time {
	if ms := int32(v); ms >= 0 {
		return t.Deadline(time.Duration(ms) * time.Millisecond)
	}
	return time.Time{}
}

// ppollCall is ppoll(2): array of struct pollfd, its length, timespec to wait or none for ever, signal mask, its size.
// What is left of the time is written back. The mask is checked, and means nothing as long as no signal interrupts a
// call.
func ppollCall(t *threei.Thread, a *threei.Args) int64 {
	deadline, e := readDeadline(t, a.Val[2], a.Cage[2])
	if e != 0 {
		return e.Result()
	}
	if e := checkMask(t, a.Val[3], a.Val[4], a.Cage[3]); e != 0 {
		return e.Result()
	}
	n := pollUntil(t, a, deadline)
	writeLeft(t, a.Val[2], a.Cage[2], deadline)
	return n
}

// readDeadline reads the timespec at addr as a time to wait for from now. With no timespec it is the zero time, never.
func readDeadline(t *threei.Thread, addr uint64, cage abi.CageID) (time.Time, abi.Errno) {
	if addr == 0 {
		return time.Time{}, 0
	}
	d, e := readTimeout(t, addr, cage)
	if e != 0 {
		return time.Time{}, e
	}
	return t.Deadline(d), 0
}

// writeLeft writes what is left until deadline to the timespec that readDeadline has read, unless it is the zero time.
func writeLeft(t *threei.Thread, addr uint64, cage abi.CageID, deadline time.Time) {
	if deadline.IsZero() {
		return
	}
	if left, e := resolve(t, addr, timespecSize, cage); e == 0 {
		writeTimespec(left, time.Until(deadline))
	}
}

// checkMask checks a signal mask of size bytes at addr, if there is one.
func checkMask(t *threei.Thread, addr, size uint64, cage abi.CageID) abi.Errno {
	if addr == 0 {
		return 0
	}
	if size != sigsetSize {
		return abi.EINVAL
	}
	_, e := resolve(t, addr, sigsetSize, cage)
	return e
}

// pollUntil polls the array of arguments 0 and 1.
func pollUntil(t *threei.Thread, a *threei.Args, deadline time.Time) int64 {
	count := a.Val[1]
	if count > maxPoll {
		return abi.EINVAL.Result()
	}
	var guest []byte
	if count > 0 {
		var e abi.Errno
		if guest, e = resolve(t, a.Val[0], count*pollfdSize, a.Cage[0]); e != 0 {
			return e.Result()
		}
	}
	if count <= fewPolls {
		var fds [fewPolls + 1]unix.PollFd
		var handles [fewPolls]polledFile
		return pollFDs(t, fds[:count+1], handles[:count], guest, deadline)
	}
	return pollFDs(t, make([]unix.PollFd, count+1), make([]polledFile, count), guest, deadline)
}

// pollFDs polls the struct pollfds in guest, which it copies to fds; the last of fds is for the cancel token. The files
// stay open until it returns, whoever closes them.
//
// Preconditions:
// handles is zeroed.
func pollFDs(t *threei.Thread, fds []unix.PollFd, handles []polledFile, guest []byte, deadline time.Time) int64 {
	defer func() {
		for i := range handles {
			handles[i].release() // of one that is not open, nothing
		}
	}()
	p, bad := of(t), 0
	var virtual []virtualPoll
	var e abi.Errno
	for i := range handles {
		b := guest[i*pollfdSize:]
		v := int32(le.Uint32(b))
		fds[i] = unix.PollFd{Fd: ignored, Events: int16(le.Uint16(b[4:]))}
		if v < 0 {
			continue // asked to be ignored
		}
		if handles[i], e = p.acquirePolled(uint64(v)); e != 0 {
			fds[i].Fd = notOpen
			bad++
			continue
		}
		fds[i].Fd = int32(handles[i].fd)
		if f := handles[i].v; f != nil {
			virtual = append(virtual, virtualPoll{f: f, events: eventsOf(fds[i].Events | unix.POLLERR | unix.POLLHUP)})
		}
	}
	if bad > 0 {
		deadline = time.Now() // there is an answer already
	}
	n, e := pollAll(t, fds, virtual, deadline)
	if e != 0 {
		return e.Result()
	}
	for i := range handles {
		if handles[i].v != nil {
			fds[i].Revents, virtual = virtual[0].revents, virtual[1:]
		}
	}
	return answerPoll(fds[:len(handles)], guest, n+bad)
}

// pollOrPark polls all of fds but the last, which is for the cancel token, until deadline, the zero one being never. It
// is abi.EINTR if the domain stops, and also if the call is parked and will be made again.
//
// Preconditions:
// The host call has had no effect yet.
func pollOrPark(t *threei.Thread, fds []unix.PollFd, deadline time.Time) (int, abi.Errno) {
	asked, last := fds[:len(fds)-1], &fds[len(fds)-1]
	if len(asked) <= threei.MaxWait {
		// First without waiting: if that does not answer it, the wait is made outside Go.
		n, e := ppoll(asked, time.Now())
		if e != 0 || n > 0 || !deadline.IsZero() && time.Until(deadline) <= 0 {
			return n, e
		}
		var set [threei.MaxWait]threei.WaitFD
		for i := range asked {
			set[i] = threei.WaitFD{FD: asked[i].Fd, Events: asked[i].Events}
		}
		if t.Park(set[:len(asked)], deadline) {
			return 0, abi.EINTR
		}
	}
	cancel, e := cancelFD(t)
	if e != 0 {
		return 0, e
	}
	*last = unix.PollFd{Fd: int32(cancel), Events: unix.POLLIN}
	n, e := ppoll(fds, deadline)
	if e == 0 && last.Revents != 0 {
		e = abi.EINTR
	}
	return n, e
}

// answerPoll writes what each descriptor has into the guest's array, and answers n.
func answerPoll(fds []unix.PollFd, guest []byte, n int) int64 {
	for i := range fds {
		got := fds[i].Revents
		if fds[i].Fd == notOpen {
			got = unix.POLLNVAL
		}
		le.PutUint16(guest[i*pollfdSize+6:], uint16(got))
	}
	return int64(n)
}
