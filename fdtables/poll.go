package fdtables

import (
	"cmp"
	"slices"
)

// The events of poll(2) that are answered whether or not they were asked for.
const (
	pollErr     int16 = 0x8
	pollHup     int16 = 0x10
	pollNval    int16 = 0x20
	pollUnasked       = pollErr | pollHup | pollNval
)

// PollFD is a descriptor that a guest polls, as struct pollfd has it.
type PollFD struct {
	// FD is passed over if it is negative.
	FD      FD
	Events  int16
	Revents int16
}

// UnderPoll is an underfd that has to be polled. Events is what any of the descriptors that stand for it asks for; who
// polls it sets Revents.
type UnderPoll struct {
	UnderFD uint64
	Events  int16
	Revents int16
}

// KindPoll is what has to be polled of one kind: each underfd once, in ascending order.
type KindPoll struct {
	Kind  Kind
	Under []UnderPoll
}

// Poll is the translation of one poll: from descriptors to underfds sorted by kinds, so that who serves a kind polls its
// own, and back, to every descriptor that stands for an underfd. It polls nothing itself.
//
//	p.Translate(table, fds)
//	for _, k := range p.Kinds() { ... } // sets the Revents of k.Under
//	n := p.Answer(fds)
//	p.Release()
//
// The underfds stay open from Translate to Release, whoever closes the descriptors. A Poll is owned by one goroutine and
// must not be copied. One that is used again does not allocate, once it has been as large.
type Poll struct {
	of    []polled
	order []int32 // those of of that are open, sorted by what they stand for
	under []UnderPoll
	kinds []KindPoll
}

// polled is one descriptor of a Poll.
type polled struct {
	ref Ref
	at  int32 // the index of its underfd, or notPolled or notOpen
}

const (
	notPolled int32 = -1 // a negative descriptor
	notOpen   int32 = -2
)

// Translate begins the poll of fds in t, after the release of the one before. A descriptor that is not open is no error:
// Answer says POLLNVAL for it. How many descriptors one call may name is for the caller to limit.
func (p *Poll) Translate(t *Table, fds []PollFD) {
	p.Release()
	for i := range fds {
		if fds[i].FD < 0 {
			p.of = append(p.of, polled{at: notPolled})
			continue
		}
		ref, errno := t.Acquire(fds[i].FD)
		if errno != 0 {
			p.of = append(p.of, polled{at: notOpen})
			continue
		}
		p.of = append(p.of, polled{ref: ref})
		p.order = append(p.order, int32(i))
	}
	slices.SortFunc(p.order, func(a, b int32) int {
		x, y := p.slot(a), p.slot(b)
		if c := cmp.Compare(x.kind(), y.kind()); c != 0 {
			return c
		}
		return cmp.Compare(x.underFD.Load(), y.underFD.Load())
	})
	p.merge(fds)
}

// slot is that of the i-th descriptor, which is open.
func (p *Poll) slot(i int32) *slot { return p.of[i].ref.s }

// merge makes one UnderPoll of the descriptors that stand for the same underfd, and a KindPoll of those of one kind.
func (p *Poll) merge(fds []PollFD) {
	p.under = slices.Grow(p.under, len(p.order)) // the kinds point into it: from here on it stays where it is
	first := 0
	for n, i := range p.order {
		e := p.slot(i).entry()
		last := len(p.kinds) - 1
		if last < 0 || p.kinds[last].Kind != e.Kind {
			first = len(p.under)
			p.kinds = append(p.kinds, KindPoll{Kind: e.Kind})
			last++
		}
		if len(p.under) == first || p.slot(p.order[n-1]).underFD.Load() != e.UnderFD {
			p.under = append(p.under, UnderPoll{UnderFD: e.UnderFD})
			p.kinds[last].Under = p.under[first:]
		}
		at := len(p.under) - 1
		p.under[at].Events |= fds[i].Events
		p.of[i].at = int32(at)
	}
}

// Kinds is what has to be polled, by kinds in ascending order. It is good until Release.
func (p *Poll) Kinds() []KindPoll { return p.kinds }

// Entry is what the i-th descriptor stood for when it was translated, and whether it was open.
func (p *Poll) Entry(i int) (Entry, bool) {
	if i < 0 || i >= len(p.of) || p.of[i].at < 0 {
		return Entry{}, false
	}
	return p.slot(int32(i)).entry(), true
}

// Answer sets the Revents of all of fds, the descriptors that were translated, and answers how many have any. Of what its
// underfd has each gets what it asked for, errors and hangups.
func (p *Poll) Answer(fds []PollFD) int {
	n := 0
	for i := range min(len(fds), len(p.of)) {
		f := &fds[i]
		f.Revents = 0
		switch at := p.of[i].at; at {
		case notPolled:
		case notOpen:
			f.Revents = pollNval
		default:
			f.Revents = p.under[at].Revents & (f.Events | pollUnasked)
		}
		if f.Revents != 0 {
			n++
		}
	}
	return n
}

// Release ends the poll. It may run close handlers, as Ref.Release does. A second one does nothing.
func (p *Poll) Release() {
	for i := range p.of {
		p.of[i].ref.Release()
	}
	p.of, p.order, p.under, p.kinds = p.of[:0], p.order[:0], p.under[:0], p.kinds[:0]
}
