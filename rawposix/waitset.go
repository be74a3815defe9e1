package rawposix

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// polledFile is a descriptor that is waited for: one of the kernel's, or a virtual one.
type polledFile struct {
	handle
	v *virtualFile // nil for one of the kernel's
}

// acquirePolled is acquire for a call that waits, and so takes virtual descriptors too.
func (p *Process) acquirePolled(v uint64) (polledFile, abi.Errno) {
	ref, e := p.table.Acquire(guestFD(v))
	if e != 0 {
		return polledFile{}, e
	}
	entry := ref.Entry()
	if entry.Kind == KindVirtual {
		if f := p.host.virtuals.byID.Load(entry.UnderFD); f != nil {
			return polledFile{handle: handle{ref: ref, fd: ignored}, v: f}, 0
		}
	}
	h, e := p.known(&ref)
	return polledFile{handle: h}, e
}

// pollAll is pollOrPark for descriptors of the kernel and virtual ones: it answers how many of both have something.
//
// Preconditions:
// The host call has had no effect yet.
func pollAll(t *threei.Thread, fds []unix.PollFd, virtual []virtualPoll, deadline time.Time) (int, abi.Errno) {
	if len(virtual) == 0 {
		return pollOrPark(t, fds, deadline)
	}
	asked := fds[:len(fds)-1]
	if n := look(virtual); n > 0 || !deadline.IsZero() && time.Until(deadline) <= 0 {
		m, e := ppoll(asked, time.Now())
		return n + m, e
	}
	b, e := newBell()
	if e != 0 {
		return 0, e
	}
	defer b.close()
	for i := range virtual {
		virtual[i].f.await(b)
	}
	defer func() {
		for i := range virtual {
			virtual[i].f.leave(b)
		}
	}()
	cancel, e := cancelFD(t)
	if e != 0 {
		return 0, e
	}
	all := append(fds[:len(asked):len(asked)], unix.PollFd{Fd: int32(b.fd), Events: unix.POLLIN},
		unix.PollFd{Fd: int32(cancel), Events: unix.POLLIN})
	for {
		// A file that becomes ready from here on rings.
		if n := look(virtual); n > 0 {
			m, e := ppoll(asked, time.Now())
			return n + m, e
		}
		n, e := ppoll(all, deadline)
		rang, cancelled := &all[len(asked)], &all[len(asked)+1]
		switch {
		case e != 0:
			return 0, e
		case cancelled.Revents != 0:
			return 0, abi.EINTR
		case rang.Revents != 0:
			b.silence()
			if n > 1 {
				copy(asked, all)
				return n - 1 + look(virtual), 0
			}
		default:
			copy(asked, all)
			return n, 0
		}
	}
}
