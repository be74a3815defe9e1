package wasip1

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

// report writes an event for each subscription that is due after a wait of at most waited nanoseconds, all of
// which passed if timedOut, and answers how many they are. It takes what passed off the clocks that are not
// due.
func (p *poller) report(waited uint64, timedOut bool) (uint32, Errno) {
	now := uint64(0)
	if p.clocks {
		realtime, errno := p.realtime()
		if errno != 0 {
			return 0, errno
		}
		now = realtime
	}
	count, fd := uint32(0), p.fds
	for i := range p.n {
		s := p.sub(i)
		var due bool
		var errno Errno
		switch {
		case s.tag() == eventClock:
			due = p.clockDue(s, waited, timedOut, now)
			if due {
				errno = p.event(count, s, ErrnoSuccess, 0, 0)
			}
		case s.fd() > maxFD:
			due = true
			errno = p.event(count, s, ErrnoBadf, 0, 0)
		default:
			got := le.Uint16(fd[pollfdGot:])
			fd = fd[pollfdSize:]
			due = got != 0
			if due {
				errno = p.fdEvent(count, s, got)
			}
		}
		if errno != 0 {
			return 0, errno
		}
		if due {
			count++
		}
	}
	return count, ErrnoSuccess
}

// realtime is the realtime clock, if a subscription is for an absolute time of it.
func (p *poller) realtime() (uint64, Errno) {
	for i := range p.n {
		if s := p.sub(i); s.tag() == eventClock && s.absolute() {
			return p.clockNow(clockRealtime)
		}
	}
	return 0, ErrnoSuccess
}

// clockDue reports whether the time of s has come.
func (p *poller) clockDue(s subscription, waited uint64, timedOut bool, now uint64) bool {
	if s.absolute() {
		return s.timeout() <= now
	}
	if !timedOut {
		return s.timeout() == 0
	}
	s.setLeft(left(s.timeout(), waited))
	return s.timeout() == 0
}

// fdEvent writes the event of a descriptor for which ppoll answered got.
func (p *poller) fdEvent(at uint32, s subscription, got uint16) Errno {
	if got&pollNval != 0 {
		return p.event(at, s, ErrnoBadf, 0, 0)
	}
	flags := uint16(0)
	if got&(pollHup|pollErr) != 0 {
		flags = eventHangup
	}
	nbytes := uint64(0)
	if s.tag() == eventFDRead {
		nbytes = p.readable(uint64(s.fd()), got&pollIn != 0)
	} else if got&pollOut != 0 {
		nbytes = 1 // Linux does not say how much room there is
	}
	return p.event(at, s, ErrnoSuccess, nbytes, flags)
}

// readable is how many bytes can be read from fd: 1 if ppoll said that some can and nothing says how many.
func (p *poller) readable(fd uint64, some bool) uint64 {
	if st, errno := p.fstatIn(fd, p.reply); errno == 0 && st.is(modeReg) {
		at := p.sysFD(abi.CallLseek, fd, 0, seekCur, 0)
		if at < 0 {
			return 0
		}
		return left(st.size(), uint64(at))
	}
	clear(p.reply[:4])
	r := p.sys(abi.CallIoctl, threei.Args{
		Val:  [6]uint64{fd, ioctlFionread, guestmem.AddrOf(p.reply)},
		Cage: [6]abi.CageID{2: abi.CageRawPOSIX},
	})
	if n := int32(le.Uint32(p.reply)); r >= 0 && n >= 0 {
		return uint64(n)
	}
	if some {
		return 1
	}
	return 0
}

// event writes event number at.
func (p *poller) event(at uint32, s subscription, errno Errno, nbytes uint64, flags uint16) Errno {
	var b [eventSize]byte
	copy(b[:8], s[:8]) // userdata
	le.PutUint16(b[eventError:], uint16(errno))
	b[eventType] = s.tag()
	le.PutUint64(b[eventNbytes:], nbytes)
	le.PutUint16(b[eventFlags:], flags)
	return p.writeBytes(p.out+uint64(at)*eventSize, b[:])
}
