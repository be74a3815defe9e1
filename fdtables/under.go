package fdtables

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/lindbridge/lindbridge/internal/release"
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
//
// What is opened and closed over and over, as most descriptors are, is not allocated each time: the allocation, the
// collector's work and the memory that is not in any cache are half of the price. Where the descriptor has been the only
// reference that there ever was in a table, Close moves the word from the one table reference to closed, and leaves the
// slot where it is: in its place of its table's array. The next Open of that descriptor makes it live anew. Then:
//
//   - A reader who has the slot from that place finds it live, in whichever life, or closed, and each was true of the
//     place at a moment after the reader came. If the lives changed while it read, the descriptor was closed meanwhile,
//     and that is the answer. So reading is wait-free, although what is read is written.
//   - Nothing but that one place and readers who come from it know the slot: it was never shared (slot.shared), no I/O
//     is in flight, no other slot ever counted by it (aliased) and it was nobody's member (watched), or the word would
//     not be what Close expects; and it has left the registry. What leaves its place in any other way is dead for good,
//     and frozen as it was.

const (
	// ioUnit is one I/O reference: the low 23 bits count them. There are few for each call in flight, hence for each
	// thread.
	ioUnit int64 = 1
	// watched is a bit that is set for good when the underfd becomes a member of an epoll, or is one: its end has to be
	// told to the epolls. Who sets it has a reference.
	watched int64 = 1 << 23
	// aliased is a bit that is set for good when a slot that is not its own counts by the under: who reads that slot may
	// come late, and find that it is dead, but must not find that it lives anew.
	aliased int64 = 1 << 24
	// marks are the bits that count nothing.
	marks = watched | aliased
	// tableUnit is one table reference: bits 25 to 62 count them, less the first one. Each is a word in some table's
	// array, so that memory ends long before the bits do.
	tableUnit int64 = 1 << 25
	// unreferenced is the word without references of either sort.
	unreferenced = -tableUnit
	// dead is the word once it was found unreferenced. Additions to it leave it below closed.
	dead int64 = math.MinInt64
	// closed is the word of one that was closed in its place. Additions to it leave it below unreferenced.
	closed int64 = math.MinInt64 / 2
)

// isDead reports whether a word was dead or closed when it was read or added to.
func isDead(word int64) bool { return word < unreferenced }

// isClosed reports whether a word was closed when it was read or added to.
func isClosed(word int64) bool { return isDead(word) && word >= closed }

// tableRefs is the number of table references in a word that is not dead.
func tableRefs(word int64) uint64 { return uint64(word>>25 + 1) }

// under is one open underfd: the count that all descriptors and I/Os with the same (kind, underfd) share. It is
// smaller than a cache line.
type under struct {
	// first is the slot of the descriptor that it was opened as, here to save an allocation. The first field: see
	// slot.under.
	first slot
	word  atomic.Int64
	// lives is how often it was made to live anew. It changes, by Open with its table's mu, while the word is closed and
	// before the entry changes.
	lives atomic.Uint64
	// next is the next in the registry's bucket, guarded by the mu of the shard that it is in.
	next *under
}

// underBatch is how many unders a table allocates at once: it makes them a good deal cheaper. A batch stays allocated as
// long as one of it is open, so that an open underfd costs at most 448 bytes, and 56 where many are open.
const underBatch = 8

// newUnders is the first of a batch of unders to be born. How many follow it stands where each that was not born yet will
// count its lives.
func newUnders() *under {
	batch := new([underBatch]under)
	batch[0].lives.Store(underBatch - 1)
	return &batch[0]
}

// born makes u, which nobody has seen, an under for e with one table reference, which belongs to its first slot.
func (u *under) born(e Entry) {
	if u.lives.Load() != 0 {
		release.Uint64(&u.lives, 0)
	}
	u.first.own = true
	u.first.set(e)
}

// unborn takes back that u, which nobody has seen, was born, before so many more of its batch.
func (u *under) unborn(rest uint64) { release.Uint64(&u.lives, rest) }

// bornAnew makes u, which is closed, an under for e that will live as soon as its word is 0.
func (u *under) bornAnew(e Entry) {
	release.Uint64(&u.lives, u.lives.Load()+1) // nobody else changes it
	u.first.set(e)
}

// tryClose closes u in its place, of which s is the slot, if the table reference of s is the only reference that there is
// and s never was anywhere else. The caller holds its table's mu, and then takes u out of the registry before another may
// do so.
func (u *under) tryClose(s *slot) bool {
	return s.own && !s.shared && u.word.Load() == 0 && u.word.CompareAndSwap(0, closed)
}

// isClosed reports whether s is closed, in the place where the caller has found it. With its table's mu held it stays so.
func (s *slot) isClosed() bool { return s.own && isClosed(s.under().word.Load()) }

// entryOf is the entry of u's first slot, and whether it is that of the life that began when lives was life: if it is not,
// it means nothing.
func (u *under) entryOf(life uint64) (Entry, bool) {
	e := u.first.entry()
	return e, u.lives.Load() == life
}

// dropped is, of each underfd whose last table reference went while I/Os were in flight, the slot of that reference: the
// one that a handler is owed for. There are few at any time.
type dropped struct {
	mu   sync.Mutex       // a leaf
	last map[*under]*slot // guarded by mu
}

func (d *dropped) set(u *under, s *slot) {
	d.mu.Lock()
	if d.last == nil {
		d.last = map[*under]*slot{}
	}
	d.last[u] = s
	d.mu.Unlock()
}

func (d *dropped) take(u *under) *slot {
	d.mu.Lock()
	s := d.last[u]
	delete(d.last, u)
	d.mu.Unlock()
	return s
}

// is reports whether u counts (k, underfd).
func (u *under) is(k Kind, underfd uint64) bool {
	return u.first.underFD.Load() == underfd && u.first.kind() == k
}

// share adds one table reference. The caller has another, in a table whose mu it holds, so that it cannot fail.
func (u *under) share() { u.word.Add(tableUnit) }

// share adds one table reference to what s counts by, for one more place that s will stand in.
func (s *slot) share() *slot {
	if !s.shared { // written once at most, with the mu of the only table that it is in
		s.shared = true
	}
	s.under().share()
	return s
}

// tryShare adds one table reference unless u is dead. If there was none before, then a dropped one was waiting for
// the I/Os in flight to end and for its Last handler; u lives on now, so that the caller owes it the Intermediate one.
func (u *under) tryShare(d *dropped) (owed *slot, ok bool) {
	word := u.word.Add(tableUnit)
	if isDead(word) {
		return nil, false
	}
	if tableRefs(word) == 1 {
		return d.take(u), true
	}
	return nil, true
}

// acquire adds one I/O reference, if u is alive, and answers its word: see isDead and isClosed.
func (u *under) acquire() (word int64) { return u.word.Add(ioUnit) }

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
func (u *under) drop(s *slot, d *dropped) (left uint64, v verdict) {
	if u.word.Load() == 0 && u.word.CompareAndSwap(0, dead) { // the most likely case
		return 0, last
	}
	said := false // that s is what will be owed for
	for {
		word := u.word.Load()
		withIO := tableRefs(word) == 1 && word&^marks != 0
		if withIO != said {
			// Both precede the swap. What is said can be read as soon as that has happened. It is taken back while the
			// caller's reference is still there: nobody else can drop the last one, and say so.
			if said {
				d.take(u)
			} else {
				d.set(u, s)
			}
			said = withIO
		}
		switch {
		case word&^marks == 0:
			if u.word.CompareAndSwap(word, dead) {
				return 0, ended(word)
			}
		case u.word.CompareAndSwap(word, word-tableUnit):
			if withIO {
				return 0, inFlight
			}
			return tableRefs(word) - 1, others
		}
	}
}

// release drops one I/O reference. It answers the slot that the caller must run Last for, after it has taken u out of
// the registry, or nil. The verdict says whether to tell the epolls.
func (u *under) release(d *dropped) (*slot, verdict) {
	word := u.word.Add(-ioUnit)
	if word&^marks == unreferenced && u.word.CompareAndSwap(word, dead) {
		return d.take(u), ended(word)
	}
	return nil, inFlight
}

// ended is the verdict on who has moved word to dead.
func ended(word int64) verdict {
	if word&watched != 0 {
		return lastWatched
	}
	return last
}

// watch makes u's end known to the epolls. The caller has a reference.
func (u *under) watch() { u.mark(watched) }

// mark sets one of the marks. The caller has a reference.
func (u *under) mark(bit int64) {
	if u.word.Load()&bit == 0 {
		u.word.Or(bit)
	}
}

// refs is how many references of either sort u has, and whether it is alive.
func (u *under) refs() (tables, ios uint64, alive bool) {
	word := u.word.Load()
	return tableRefs(word), uint64(word & (watched - 1)), !isDead(word)
}
