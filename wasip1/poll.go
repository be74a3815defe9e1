package wasip1

import (
	"math"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements poll_oneoff on ppoll: copy and check the subscriptions, wait, report. poll_events.go has the
// reports.
//
// The copy of the subscriptions stays in the form that the guest gave it, but for clocks other than the
// realtime clock with an absolute time, which become relative: their timeout is then the time that is left. The
// realtime clock may be set while the call waits, so its absolute times are compared with the clock before and
// after each wait.

// maxSubscriptions is how many subscriptions one call takes. It bounds the host memory that a thread can use.
const maxSubscriptions = 16384

// maxWait is the longest single wait in nanoseconds, 146 years: no arithmetic below overflows with it.
const maxWait = 1 << 62

// poller is one poll_oneoff in flight.
type poller struct {
	call
	subs   []byte // the subscriptions' copy
	n      int    // how many they are
	fds    []byte // pollfd array in scratch memory: one for each subscription with a usable descriptor, in order
	reply  []byte // scratch memory for what one system call at a time answers, as large as a stat
	nfds   uint64 // how many they are
	clocks bool   // there are clock subscriptions
	ready  bool   // there are subscriptions that can be reported without waiting
	out    uint64 // where events go
}

// pollOneoff is poll_oneoff(in, out, nsubscriptions) -> size.
func pollOneoff(c call) Errno {
	in, out, n, count := c.ptr(0), c.ptr(1), c.ptr(2), c.ptr(3)
	if n == 0 || n > maxSubscriptions {
		return ErrnoInval
	}
	if !c.inMemory(in, n*subscriptionSize) || !c.inMemory(out, n*eventSize) || !c.inMemory(count, 4) {
		return ErrnoFault
	}
	p := poller{
		call:  c,
		n:     int(n),
		out:   out,
		subs:  c.t.Scratch(int(n) * subscriptionSize),
		fds:   c.t.Scratch(int(n) * pollfdSize),
		reply: c.t.Scratch(statSize),
	}
	if !c.t.Memory.ReadCopy(p.subs[:n*subscriptionSize], in) {
		return ErrnoFault
	}
	if errno := p.prepare(); errno != 0 {
		return errno
	}
	events := uint32(0)
	for events == 0 {
		if c.stopping() {
			return ErrnoIntr
		}
		wait, errno := p.timeout()
		if errno != 0 {
			return errno
		}
		timedOut, errno := p.wait(wait)
		if errno != 0 {
			return errno
		}
		if events, errno = p.report(wait, timedOut); errno != 0 {
			return errno
		}
	}
	return c.writeU32(count, events)
}

// sub is subscription i.
func (p *poller) sub(i int) subscription {
	return subscription(p.subs[i*subscriptionSize : (i+1)*subscriptionSize])
}

// subscription is the copy of one WASI subscription.
type subscription []byte

func (s subscription) tag() byte         { return s[subscriptionTag] }
func (s subscription) fd() uint32        { return le.Uint32(s[subscriptionFD:]) }
func (s subscription) clock() uint32     { return le.Uint32(s[subClockID:]) }
func (s subscription) timeout() uint64   { return le.Uint64(s[subClockTimeout:]) }
func (s subscription) setLeft(ns uint64) { le.PutUint64(s[subClockTimeout:], ns) }
func (s subscription) absolute() bool    { return le.Uint16(s[subClockFlags:])&subClockAbstime != 0 }
func (s subscription) setRelative()      { le.PutUint16(s[subClockFlags:], 0) }

// prepare checks the subscriptions, makes the pollfd array and turns absolute monotonic times into what is left
// of them.
func (p *poller) prepare() Errno {
	now, known := uint64(0), false
	for i := range p.n {
		s := p.sub(i)
		switch s.tag() {
		case eventClock:
			if s.clock() > clockMonotonic || le.Uint16(s[subClockFlags:])&^subClockAbstime != 0 {
				return ErrnoInval
			}
			p.clocks = true
			if s.clock() != clockMonotonic || !s.absolute() {
				continue
			}
			if !known {
				t, errno := p.clockNow(clockMonotonic)
				if errno != 0 {
					return errno
				}
				now, known = t, true
			}
			s.setLeft(left(s.timeout(), now))
			s.setRelative()
		case eventFDRead, eventFDWrite:
			if s.fd() > maxFD { // negative in a pollfd, which Linux passes over
				p.ready = true
				continue
			}
			fd := p.fds[p.nfds*pollfdSize:]
			le.PutUint32(fd, s.fd())
			if s.tag() == eventFDRead {
				le.PutUint16(fd[pollfdEvents:], pollIn)
			} else {
				le.PutUint16(fd[pollfdEvents:], pollOut)
			}
			p.nfds++
		default:
			return ErrnoInval
		}
	}
	return ErrnoSuccess
}

// timeout is how long to wait at most, in nanoseconds: for ever if it is math.MaxUint64.
func (p *poller) timeout() (uint64, Errno) {
	if p.ready {
		return 0, ErrnoSuccess
	}
	if !p.clocks {
		return math.MaxUint64, ErrnoSuccess
	}
	shortest := uint64(maxWait)
	now, known := uint64(0), false
	for i := range p.n {
		s := p.sub(i)
		if s.tag() != eventClock {
			continue
		}
		remaining := s.timeout()
		if s.absolute() {
			if !known {
				t, errno := p.clockNow(clockRealtime)
				if errno != 0 {
					return 0, errno
				}
				now, known = t, true
			}
			remaining = left(s.timeout(), now)
		}
		shortest = min(shortest, remaining)
	}
	return shortest, ErrnoSuccess
}

// wait waits until a descriptor is ready or timeout nanoseconds have passed, and reports whether it was the latter.
func (p *poller) wait(timeout uint64) (timedOut bool, errno Errno) {
	a := threei.Args{Val: [6]uint64{guestmem.AddrOf(p.fds), p.nfds}, Cage: [6]abi.CageID{0: abi.CageRawPOSIX}}
	if timeout != math.MaxUint64 {
		putTimespec(p.reply, timeout)
		a.Val[2], a.Cage[2] = guestmem.AddrOf(p.reply), abi.CageRawPOSIX
	}
	r := p.sys(abi.CallPpoll, a)
	if r < 0 {
		return false, errnoOf(r)
	}
	if uint64(r) > p.nfds {
		return false, ErrnoIO
	}
	return r == 0, ErrnoSuccess
}

// clockNow is the clock id now, in nanoseconds.
func (p *poller) clockNow(id uint32) (uint64, Errno) {
	return p.clock(abi.CallClockGettime, id, p.reply[:timespecSize])
}

// left is what of the time t is left at now.
func left(t, now uint64) uint64 {
	if t <= now {
		return 0
	}
	return t - now
}
