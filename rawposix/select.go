package rawposix

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/threei"
)

// The events of poll(2) that each set of a select asks for, and those that it is answered for, as Linux has them.
const (
	pollRdNorm   = 0x40
	pollRdBand   = 0x80
	pollWrNorm   = 0x100
	pollWrBand   = 0x200
	readAsks     = unix.POLLIN | pollRdNorm | pollRdBand
	readAnswers  = readAsks | unix.POLLHUP | unix.POLLERR
	writeAsks    = unix.POLLOUT | pollWrNorm | pollWrBand
	writeAnswers = writeAsks | unix.POLLERR
	exceptAsks   = unix.POLLPRI
)

// timevalSize is the size of a struct timeval: two words, as a timespec.
const timevalSize = 16

// selection is the state of one select, kept for the next one.
type selection struct {
	fdtables.Select
	guest [3][]byte         // the guest's sets, nil where it has none
	sets  [3]fdtables.FDSet // copies of them
	fds   []unix.PollFd
	// virtual is those of the descriptors that are no business of the kernel's, by index in fds.
	virtual   []virtualPoll
	virtualAt []int
}

// selectCall is select(2): n, sets to read, to write and for exceptional conditions, or none, timeval to wait or none
// for ever. What is left of the time is written back.
func selectCall(t *threei.Thread, a *threei.Args) int64 {
	if a.Val[4] == 0 {
		return selectUntil(t, a, time.Time{})
	}
	src, e := resolve(t, a.Val[4], timevalSize, a.Cage[4])
	if e != 0 {
		return e.Result()
	}
	sec, usec := int64(le.Uint64(src)), int64(le.Uint64(src[8:]))
	if sec < 0 || usec < 0 {
		return abi.EINVAL.Result()
	}
	d := time.Duration(math.MaxInt64)
	if whole := sec + usec/1e6; whole >= sec && whole < math.MaxInt64/int64(time.Second) {
		d = time.Duration(whole)*time.Second + time.Duration(usec%1e6)*time.Microsecond
	}
	deadline := t.Deadline(d)
	n := selectUntil(t, a, deadline)
	if !deadline.IsZero() {
		left := max(0, time.Until(deadline))
		le.PutUint64(src, uint64(left/time.Second))
		le.PutUint64(src[8:], uint64(left%time.Second/time.Microsecond))
	}
	return n
}

// pselect6 is pselect6(2): as select, with a timespec, and a pointer to a signal mask and its size or none. The mask is
// checked, and means nothing as long as no signal interrupts a call.
func pselect6(t *threei.Thread, a *threei.Args) int64 {
	deadline, e := readDeadline(t, a.Val[4], a.Cage[4])
	if e != 0 {
		return e.Result()
	}
	if a.Val[5] != 0 {
		src, e := resolve(t, a.Val[5], 16, a.Cage[5])
		if e != 0 {
			return e.Result()
		}
		if e := checkMask(t, le.Uint64(src), le.Uint64(src[8:]), a.Cage[5]); e != 0 {
			return e.Result()
		}
	}
	n := selectUntil(t, a, deadline)
	writeLeft(t, a.Val[4], a.Cage[4], deadline)
	return n
}

// selectUntil selects arguments 0 to 3. As in Linux what is beyond the table's limit is not looked at.
func selectUntil(t *threei.Thread, a *threei.Args, deadline time.Time) int64 {
	p := of(t)
	n := int(int32(a.Val[0]))
	if n < 0 {
		return abi.EINVAL.Result()
	}
	n = min(n, int(p.table.Limit()))
	s := p.host.selects.Get().(*selection)
	defer func() {
		s.Release()
		s.guest = [3][]byte{}
		clear(s.virtual) // files that it does not hold open any more
		p.host.selects.Put(s)
	}()
	if e := s.read(t, a, n); e != 0 {
		return e.Result()
	}
	if e := s.Translate(p.table, n, s.sets[0], s.sets[1], s.sets[2]); e != 0 {
		return e.Result()
	}
	if e := s.prepare(p); e != 0 {
		return e.Result()
	}
	for {
		n, e := pollAll(t, s.fds, s.virtual, deadline)
		if e != 0 {
			return e.Result()
		}
		if n == 0 || s.note() {
			return s.answer()
		}
	}
}

// read copies the guest's sets, once.
func (s *selection) read(t *threei.Thread, a *threei.Args, n int) abi.Errno {
	words := (n + 63) / 64
	for i := range s.sets {
		s.sets[i], s.guest[i] = s.sets[i][:0], nil
		if a.Val[1+i] == 0 || words == 0 {
			continue
		}
		b, e := resolve(t, a.Val[1+i], uint64(8*words), a.Cage[1+i])
		if e != 0 {
			return e
		}
		s.guest[i] = b
		for w := range words {
			s.sets[i] = append(s.sets[i], le.Uint64(b[8*w:]))
		}
	}
	return 0
}

// prepare makes a pollfd of each descriptor, and room for the cancel token's. One that the host's kernel knows nothing
// of is abi.EBADF.
func (s *selection) prepare(p *Process) abi.Errno {
	s.fds, s.virtual, s.virtualAt = s.fds[:0], s.virtual[:0], s.virtualAt[:0]
	for i, f := range s.Unparsed() {
		var events int16
		if f.Want&fdtables.SelectRead != 0 {
			events |= readAsks
		}
		if f.Want&fdtables.SelectWrite != 0 {
			events |= writeAsks
		}
		if f.Want&fdtables.SelectExcept != 0 {
			events |= exceptAsks
		}
		fd, v := int32(ignored), (*virtualFile)(nil)
		switch f.Entry.Kind {
		case fdtables.KindKernel:
			fd = int32(f.Entry.UnderFD)
			if p.host.files.Load(f.Entry.UnderFD) == nil {
				return abi.EBADF
			}
		case fdtables.KindEpoll:
			below, _, e := p.epollBehind(s.Ref(i))
			if e != 0 {
				return e
			}
			fd = int32(below)
		case KindVirtual:
			v = p.host.virtuals.byID.Load(f.Entry.UnderFD)
			fallthrough
		default:
			if v == nil {
				return abi.EBADF
			}
			asks := events
			if f.Want&fdtables.SelectRead != 0 {
				asks |= unix.POLLHUP | unix.POLLERR
			}
			if f.Want&fdtables.SelectWrite != 0 {
				asks |= unix.POLLERR
			}
			s.virtual = append(s.virtual, virtualPoll{f: v, events: eventsOf(asks)})
			s.virtualAt = append(s.virtualAt, i)
		}
		s.fds = append(s.fds, unix.PollFd{Fd: fd, Events: events})
	}
	s.fds = append(s.fds, unix.PollFd{})
	return 0
}

// note notes what is ready, and answers whether anything is. What has an error or a hangup alone, which its set is not
// answered for, is not polled again: it would have it for ever.
func (s *selection) note() bool {
	for i, at := range s.virtualAt {
		s.fds[at].Revents = s.virtual[i].revents
	}
	fds, any := s.Unparsed(), false
	for i := range fds {
		f, got := &fds[i], s.fds[i].Revents
		if got&readAnswers != 0 {
			f.Ready |= fdtables.SelectRead
		}
		if got&writeAnswers != 0 {
			f.Ready |= fdtables.SelectWrite
		}
		if got&exceptAsks != 0 {
			f.Ready |= fdtables.SelectExcept
		}
		if f.Ready &= f.Want; f.Ready != 0 {
			any = true
		} else if got != 0 {
			s.fds[i].Fd = ignored
		}
	}
	return any
}

// answer writes the sets of what is ready, and answers how much that is.
func (s *selection) answer() int64 {
	n := s.Answer(s.sets[0], s.sets[1], s.sets[2])
	for i, b := range s.guest {
		if b == nil {
			continue
		}
		for w, bits := range s.sets[i] {
			le.PutUint64(b[8*w:], bits)
		}
	}
	return int64(n)
}
