package fdtables

import (
	"math/bits"
	"slices"

	"github.com/lindbridge/lindbridge/abi"
)

// FDSet is a set of small numbers as a bitmap: an fd_set of whatever length. The nil FDSet is empty.
type FDSet []uint64

// Has reports whether n is in the set.
func (s FDSet) Has(n uint64) bool { return n/64 < uint64(len(s)) && s[n/64]>>(n%64)&1 != 0 }

// Add puts n into the set. One that the set has no room for, n >= 64*len(s), is passed over.
func (s FDSet) Add(n uint64) {
	if n/64 < uint64(len(s)) {
		s[n/64] |= 1 << (n % 64)
	}
}

// Remove takes n out of the set.
func (s FDSet) Remove(n uint64) {
	if n/64 < uint64(len(s)) {
		s[n/64] &^= 1 << (n % 64)
	}
}

// Len is how many numbers are in the set.
func (s FDSet) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// word is the i-th word of the set.
func (s FDSet) word(i int) uint64 {
	if i < len(s) {
		return s[i]
	}
	return 0
}

// SelectEvents says which of a select's three sets: what a descriptor is in, or is ready for.
type SelectEvents uint8

// The sets of a select.
const (
	SelectRead SelectEvents = 1 << iota
	SelectWrite
	SelectExcept

	selectSets = 3
)

// KindSelect is what has to be selected of one kind, by the numbers of its underfds. Who does it leaves in the sets those
// that are ready, as select(2) does.
type KindSelect struct {
	Kind Kind
	// N is one more than the highest underfd in the sets. Each of them has room for it.
	N uint64
	// Sets are those to read, to write and for exceptional conditions.
	Sets [selectSets]FDSet
}

// SelectFD is a descriptor of a kind that was not asked for as sets, or whose underfd is too large for one. Who finds out
// what it is ready for sets Ready.
type SelectFD struct {
	FD          FD
	Entry       Entry
	Want, Ready SelectEvents
}

// Select is the translation of one select, from sets of descriptors to sets of underfds for each kind, and back, to every
// descriptor that stands for an underfd. It waits for nothing itself.
//
//	errno := s.Translate(table, n, read, write, except, fdtables.KindKernel)
//	for i := range s.Kinds() { ... }    // leaves in the sets what is ready
//	for i := range s.Unparsed() { ... } // sets Ready
//	count := s.Answer(read, write, except)
//	s.Release()
//
// The underfds stay open from Translate to Release, whoever closes the descriptors. A Select is owned by one goroutine and
// must not be copied. One that is used again does not allocate, once it has been as large.
type Select struct {
	n        int
	fds      []selected
	kinds    []KindSelect // those past its length keep their sets for the next use
	unparsed []SelectFD
}

// selected is one descriptor of a Select.
type selected struct {
	ref  Ref
	fd   FD
	want SelectEvents
	kind int32 // the index of its kind, or -1
	raw  int32 // its index in unparsed if kind is -1
}

// Translate begins the select of the descriptors below n in the three sets, after the release of the one before.
// Descriptors of kinds become sets of their own, the others are Unparsed.
//
// It is abi.EINVAL if n is negative and abi.EBADF if a descriptor in a set is not open; then nothing is held. What is
// beyond the end of a set is not in it, and no set goes past MaxLimit.
func (s *Select) Translate(t *Table, n int, read, write, except FDSet, kinds ...Kind) abi.Errno {
	s.Release()
	if n < 0 {
		return abi.EINVAL
	}
	s.n = min(n, MaxLimit)
	for i := range (min(s.n, 64*max(len(read), len(write), len(except))) + 63) / 64 {
		mask := ^uint64(0)
		if over := 64*(i+1) - s.n; over > 0 {
			mask >>= over
		}
		r, w, x := read.word(i), write.word(i), except.word(i)
		for all := (r | w | x) & mask; all != 0; all &= all - 1 {
			b := bits.TrailingZeros64(all)
			want := SelectEvents(r>>b&1 | w>>b&1<<1 | x>>b&1<<2)
			if errno := s.add(t, FD(64*i+b), want, kinds); errno != 0 {
				s.Release()
				return errno
			}
		}
	}
	return 0
}

func (s *Select) add(t *Table, fd FD, want SelectEvents, kinds []Kind) abi.Errno {
	ref, errno := t.Acquire(fd)
	if errno != 0 {
		return errno
	}
	e := ref.Entry()
	d := selected{ref: ref, fd: fd, want: want, kind: -1}
	if e.UnderFD < MaxLimit && slices.Contains(kinds, e.Kind) {
		d.kind = s.kind(e.Kind)
		s.kinds[d.kind].add(e.UnderFD, want)
	} else {
		d.raw = int32(len(s.unparsed))
		s.unparsed = append(s.unparsed, SelectFD{FD: fd, Entry: e, Want: want})
	}
	s.fds = append(s.fds, d)
	return 0
}

// kind is the index of k among the kinds.
func (s *Select) kind(k Kind) int32 {
	for i := range s.kinds {
		if s.kinds[i].Kind == k {
			return int32(i)
		}
	}
	n := len(s.kinds)
	if n < cap(s.kinds) {
		s.kinds = s.kinds[:n+1]
	} else {
		s.kinds = append(s.kinds, KindSelect{})
	}
	k0 := &s.kinds[n]
	k0.Kind, k0.N = k, 0
	for j := range k0.Sets {
		k0.Sets[j] = k0.Sets[j][:0]
	}
	return int32(n)
}

// add puts underfd into the sets of want.
func (k *KindSelect) add(underfd uint64, want SelectEvents) {
	k.N = max(k.N, underfd+1)
	for j := range k.Sets {
		for uint64(len(k.Sets[j])) <= underfd/64 {
			k.Sets[j] = append(k.Sets[j], 0)
		}
		if want>>j&1 != 0 {
			k.Sets[j].Add(underfd)
		}
	}
}

// Kinds is what has to be selected of the kinds that were asked for and that occur. It is good until Release. Its sets are
// long enough for the highest underfd that was put into them.
func (s *Select) Kinds() []KindSelect { return s.kinds }

// Ref keeps the i-th of the Unparsed open until Release. It is not to be released.
func (s *Select) Ref(i int) *Ref {
	fd := s.unparsed[i].FD
	at, _ := slices.BinarySearchFunc(s.fds, fd, func(d selected, fd FD) int { return int(d.fd - fd) })
	return &s.fds[at].ref
}

// Unparsed is the descriptors that are in no KindSelect, in ascending order. It is good until Release.
func (s *Select) Unparsed() []SelectFD { return s.unparsed }

// Answer makes the three sets, below the n that was translated, those of the descriptors that are ready for what they
// were in them for, and answers how many that is in all. A set that was nil may be again.
func (s *Select) Answer(read, write, except FDSet) int {
	sets, n := [selectSets]FDSet{read, write, except}, 0
	for _, set := range sets {
		for i := range min(len(set), (s.n+63)/64) {
			set[i] = 0
		}
	}
	for i := range s.fds {
		d := &s.fds[i]
		ready := d.want & s.ready(d)
		for j := range sets {
			if ready>>j&1 != 0 {
				sets[j].Add(uint64(d.fd))
			}
		}
		n += bits.OnesCount8(uint8(ready))
	}
	return n
}

// ready is what the underfd of d is ready for.
func (s *Select) ready(d *selected) SelectEvents {
	if d.kind < 0 {
		return s.unparsed[d.raw].Ready
	}
	var ready SelectEvents
	for j, set := range s.kinds[d.kind].Sets {
		if set.Has(d.ref.s.underFD.Load()) {
			ready |= 1 << j
		}
	}
	return ready
}

// Release ends the select. It may run close handlers, as Ref.Release does. A second one does nothing.
func (s *Select) Release() {
	for i := range s.fds {
		s.fds[i].ref.Release()
	}
	s.n, s.fds, s.kinds, s.unparsed = 0, s.fds[:0], s.kinds[:0], s.unparsed[:0]
}
