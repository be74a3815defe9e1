package fdtables

import (
	"math"
	"sync/atomic"
)

// This file implements the life of one open underfd: how it is counted, and who finds out that it is over.
//
//   - It is born with one table reference, in registry.join.
//   - Every descriptor in any table that stands for it is a table reference. Every Ref is an I/O reference.
//   - Whoever drops the last reference of either sort moves the word to dead, by a compare-and-swap that one caller wins.
//   - The winner takes it out of the registry and then runs the Last handler. Nothing leaves the state dead.
//
// The word holds both counts, because "no reference of either sort is left" has to be one fact. Adding a reference is one
// unconditional addition, and its result tells whether the word was dead by then: an addition to a dead word means
// nothing and is not taken back. So an I/O reference costs a fixed number of steps, and none can be had once the word is
// dead. A word without references that is not dead is an instant of a Release that has not finished: an addition then
// revives it, and the compare-and-swap of that Release fails.
//
// The word counts from what an under is born with, one table reference, so that it is born by being zero: an atomic store
// would be one more locked instruction in each Open.

const (
	// ioUnit is one I/O reference: the low 23 bits count them. There are few for each call in flight, hence for each
	// thread.
	ioUnit int64 = 1
	// watched is a bit that is set for good when the underfd becomes a member of an epoll, or is one: its end has to be
	// told to the epolls. Who sets it has a reference.
	watched int64 = 1 << 23
	// tableUnit is one table reference: bits 24 to 62 count them, less the first one. Each is a word in some table's
	// array, so that memory ends long before the bits do.
	tableUnit int64 = 1 << 24
	// unreferenced is the word without references of either sort.
	unreferenced = -tableUnit
	// dead is the word once it was found unreferenced. Additions to it leave it below unreferenced.
	dead int64 = math.MinInt64
)

// isDead reports whether a word was dead when it was read or added to.
func isDead(word int64) bool { return word < unreferenced }

// tableRefs is the number of table references in a word that is not dead.
func tableRefs(word int64) uint64 { return uint64(word>>24 + 1) }

// under is one open underfd: the count that all descriptors and I/Os with the same (kind, underfd) share.
type under struct {
	word atomic.Int64
	// next is the next in the registry's bucket, guarded by the mu of the shard that it is in; or, before it is used, the
	// next of its table's spare ones.
	next *under
	// dropped is the slot of the last table reference that went while I/Os were in flight: the one that the Last
	// handler is owed for. Written by the only owner of a table reference, just before it drops that; read by whoever
	// then finds that no table reference is left, right after a successful step of word.
	dropped *slot
	// ts is where it was opened. Immutable.
	ts *Tables
	// first is the slot of the descriptor that it was opened as, here to save an allocation. Immutable, save that a u
	// which joined another's count points its slot there before anybody sees it.
	first slot
}

// underBatch is how many unders a table allocates at once: it makes them a good deal cheaper. A batch stays allocated as
// long as one of it is open, so that an open underfd costs at most 256 bytes, and 64 where many are open.
const underBatch = 4

// newUnders is a list, linked by next, of unders to be born.
func newUnders() *under {
	batch := new([underBatch]under)
	for i := range underBatch - 1 {
		batch[i].next = &batch[i+1]
	}
	return &batch[0]
}

// born makes u, which nobody has seen, an under for e with one table reference, which belongs to its first slot.
func (u *under) born(ts *Tables, e Entry) {
	u.next = nil
	u.ts = ts
	u.first = slot{entry: e, under: u}
}

// is reports whether u counts (k, underfd).
func (u *under) is(k Kind, underfd uint64) bool {
	return u.first.entry.UnderFD == underfd && u.first.entry.Kind == k
}

// share adds one table reference. The caller has another, in a table whose mu it holds, so that it cannot fail.
func (u *under) share() { u.word.Add(tableUnit) }

// tryShare adds one table reference unless u is dead. If there was none before, then a dropped one was waiting for
// the I/Os in flight to end and for its Last handler; u lives on now, so that the caller owes it the Intermediate one.
func (u *under) tryShare() (owed *slot, ok bool) {
	word := u.word.Add(tableUnit)
	if isDead(word) {
		return nil, false
	}
	if tableRefs(word) == 1 {
		return u.dropped, true
	}
	return nil, true
}

// tryAcquire adds one I/O reference and answers whether u was alive.
func (u *under) tryAcquire() bool { return !isDead(u.word.Add(ioUnit)) }

// verdict is what dropping a table reference came to.
type verdict uint8

const (
	// others: other descriptors remain. The dropper runs Intermediate.
	others verdict = iota
	// last: nothing remains. The dropper takes u out of the registry and runs Last.
	last
	// lastWatched is last, and between the two it tells the epolls.
	lastWatched
	// inFlight: I/Os remain. The one that ends last runs Last.
	inFlight
)

// drop drops the table reference of s, which the caller has taken out of its table, and answers how many are left.
func (u *under) drop(s *slot) (left uint64, v verdict) {
	for {
		word := u.word.Load()
		switch {
		case word == 0:
			if u.word.CompareAndSwap(word, dead) {
				return 0, last
			}
		case word == watched:
			if u.word.CompareAndSwap(word, dead) {
				return 0, lastWatched
			}
		case tableRefs(word) == 1:
			u.dropped = s // must precede the swap: from then on it is read
			if u.word.CompareAndSwap(word, word-tableUnit) {
				return 0, inFlight
			}
		default:
			if u.word.CompareAndSwap(word, word-tableUnit) {
				return tableRefs(word) - 1, others
			}
		}
	}
}

// release drops one I/O reference. It answers the slot that the caller must run Last for, after it has taken u out of
// the registry, or nil. The verdict says whether to tell the epolls.
func (u *under) release() (*slot, verdict) {
	switch word := u.word.Add(-ioUnit); {
	case word == unreferenced:
		if u.word.CompareAndSwap(word, dead) {
			return u.dropped, last
		}
	case word == unreferenced|watched:
		if u.word.CompareAndSwap(word, dead) {
			return u.dropped, lastWatched
		}
	}
	return nil, inFlight
}

// watch makes u's end known to the epolls. The caller has a reference.
func (u *under) watch() {
	if u.word.Load()&watched == 0 {
		u.word.Or(watched)
	}
}

// refs is how many references of either sort u has, and whether it is alive.
func (u *under) refs() (tables, ios uint64, alive bool) {
	word := u.word.Load()
	return tableRefs(word), uint64(word & (watched - 1)), !isDead(word)
}
