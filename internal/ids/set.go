package ids

import (
	"iter"
	"math/bits"
)

const wordBits = 64

// Set is a set of ids that finds the lowest one that is not in it. The zero Set is empty.
//
// It is two levels of bits: one bit for each id, and one for each full word of those. So finding a free id reads one
// word of the second level for 4096 ids, however many of them are taken. Memory is one bit for each id up to the
// largest one added, and a 64th of that.
//
// Methods that change it need the caller's lock; so does reading while another goroutine changes it.
type Set struct {
	used []uint64 // bit i of word w: the id w*64+i is in the set
	full []uint64 // bit i of word w: used[w*64+i] has no zero
}

// Has reports whether id is in the set.
func (s *Set) Has(id uint) bool {
	w := id / wordBits
	return w < uint(len(s.used)) && s.used[w]>>(id%wordBits)&1 != 0
}

// Free is the lowest id that is at least start and not in the set. There always is one.
func (s *Set) Free(start uint) uint {
	w := start / wordBits
	if w >= uint(len(s.used)) {
		return start
	}
	if free := ^s.used[w] >> (start % wordBits); free != 0 {
		return start + uint(bits.TrailingZeros64(free))
	}
	w++
	mask := ^uint64(0) << (w % wordBits)
	for f := w / wordBits; f < uint(len(s.full)); f++ {
		if open := ^s.full[f] & mask; open != 0 {
			w = f*wordBits + uint(bits.TrailingZeros64(open))
			if w < uint(len(s.used)) {
				return w*wordBits + uint(bits.TrailingZeros64(^s.used[w]))
			}
			break
		}
		mask = ^uint64(0)
	}
	return uint(len(s.used)) * wordBits
}

// Add puts id into the set. The set grows to hold it.
func (s *Set) Add(id uint) {
	w := id / wordBits
	if w >= uint(len(s.used)) {
		s.grow(w + 1)
	}
	s.used[w] |= 1 << (id % wordBits)
	if s.used[w] == ^uint64(0) {
		s.full[w/wordBits] |= 1 << (w % wordBits)
	}
}

// Remove takes id out of the set, if it is in it.
func (s *Set) Remove(id uint) {
	w := id / wordBits
	if w >= uint(len(s.used)) {
		return
	}
	s.used[w] &^= 1 << (id % wordBits)
	s.full[w/wordBits] &^= 1 << (w % wordBits)
}

// Len is how many ids are in the set. It reads the whole set.
func (s *Set) Len() int {
	n := 0
	for _, w := range s.used {
		n += bits.OnesCount64(w)
	}
	return n
}

// Clone is a copy of the set that shares nothing with it.
func (s *Set) Clone() Set {
	return Set{used: append([]uint64(nil), s.used...), full: append([]uint64(nil), s.full...)}
}

// All yields the ids in the set, in ascending order. An id may be removed while it is being yielded.
func (s *Set) All() iter.Seq[uint] {
	return func(yield func(uint) bool) {
		for i, w := range s.used {
			for ; w != 0; w &= w - 1 {
				if !yield(uint(i)*wordBits + uint(bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// Missing yields the ids below n that are not in the set, in ascending order.
func (s *Set) Missing(n uint) iter.Seq[uint] {
	return func(yield func(uint) bool) {
		for first := uint(0); first < n; first += wordBits {
			free := ^uint64(0)
			if w := first / wordBits; w < uint(len(s.used)) {
				free = ^s.used[w]
			}
			for ; free != 0; free &= free - 1 {
				if id := first + uint(bits.TrailingZeros64(free)); id >= n || !yield(id) {
					return
				}
			}
		}
	}
}

// grow makes room for words words at least. It doubles, so that adding ids one by one stays cheap.
func (s *Set) grow(words uint) {
	words = max(words, 2*uint(len(s.used)))
	used := make([]uint64, words)
	copy(used, s.used)
	full := make([]uint64, (words+wordBits-1)/wordBits)
	copy(full, s.full)
	s.used, s.full = used, full
}
