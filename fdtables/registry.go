package fdtables

import (
	"math/bits"
	"math/rand/v2"
	"sync"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/release"
)

const (
	shardBits = 6
	numShards = 1 << shardBits
	// blockBits: 64 underfds in a row share a shard, so that closing them in order takes few locks.
	blockBits = 6
	// creditBatch is how many underfds a shard is allowed at once.
	creditBatch = 32
	minBuckets  = 64
)

// registry finds the one count of each (kind, underfd) that is open, and holds their number below a limit.
//
// It is a hash table in shards, with the under objects themselves as links. Where a pair lands depends on a random seed,
// so that who chooses underfds cannot choose collisions. The limit is exact, yet costs nothing where it is far: each shard
// has credit, taken in batches from what is left, and only one that has run out looks at the others.
type registry struct {
	shards [numShards]shard
	seed   [2]uint64 // immutable
	limit  uint64    // immutable; 0: none
	owed   dropped

	creditMu sync.Mutex // before any shard's mu
	left     uint64     // guarded by creditMu: part of the limit that no shard has
}

// shard is padded to a cache line: shards are used by different threads.
type shard struct {
	mu      sync.Mutex
	buckets []*under // guarded by mu; its length is 0 or a power of two
	n       int      // guarded by mu: how many are linked
	credit  uint64   // guarded by mu: how many more may be linked before more credit is needed
	_       [16]byte
}

func (r *registry) init(limit uint64) {
	r.seed = [2]uint64{rand.Uint64(), rand.Uint64()}
	r.limit, r.left = limit, limit
}

// locate is the shard of a pair and the hash that picks its bucket there.
func (r *registry) locate(k Kind, underfd uint64) (*shard, uint64) {
	// The seeds make where a pair lands unpredictable. The factors are constants: a random one may be near a simple fraction
	// of 2^64, with which underfds in even steps crowd a few buckets.
	h := fold(underfd>>blockBits^r.seed[0], 0x9e3779b97f4a7c15) // 2^64 over the golden ratio
	h = fold(h^uint64(k)^r.seed[1], 0xd1342543de82ef95)         // from Steele and Vigna, arXiv:2001.05304
	return &r.shards[h>>(64-shardBits)], h + underfd&(1<<blockBits-1)
}

// fold is both halves of a product in one word, of which each bit depends on every bit of a.
func fold(a, factor uint64) uint64 {
	hi, lo := bits.Mul64(a, factor)
	return hi ^ lo
}

// home is locate for the pair of u.
func (r *registry) home(u *under) (*shard, uint64) {
	return r.locate(u.first.kind(), u.first.underFD.Load())
}

// join adds a table reference to the count of u's pair: to the one that is open, else u itself becomes it, and lives. It
// answers the one that counts and, if that had no table reference left, the slot that the caller owes an Intermediate
// call (see under.tryShare). At the limit it is abi.ENFILE.
func (r *registry) join(u *under) (counting *under, owed *slot, errno abi.Errno) {
	k, underfd := u.first.kind(), u.first.underFD.Load()
	sh, h := r.locate(k, underfd)
	for {
		sh.mu.Lock()
		for v := sh.head(h); v != nil; v = v.next {
			if v.is(k, underfd) {
				// A dead one is about to be unlinked by whoever dropped its last reference.
				if owed, ok := v.tryShare(&r.owed); ok {
					sh.mu.Unlock()
					return v, owed, 0
				}
			}
		}
		if r.limit == 0 || sh.credit > 0 {
			if r.limit != 0 {
				sh.credit--
			}
			if u.word.Load() != 0 {
				release.Int64(&u.word, 0) // it was closed: here is where it lives anew, and can be seen in its place
			}
			r.linkLocked(sh, h, u)
			sh.mu.Unlock()
			return u, nil, 0
		}
		sh.mu.Unlock()
		if !r.refill(sh) {
			return nil, nil, abi.ENFILE
		}
	}
}

// head is the first of the bucket of h.
func (sh *shard) head(h uint64) *under {
	if len(sh.buckets) == 0 {
		return nil
	}
	return sh.buckets[h&uint64(len(sh.buckets)-1)]
}

func (r *registry) linkLocked(sh *shard, h uint64, u *under) {
	if sh.n >= len(sh.buckets) {
		r.rehashLocked(sh, max(minBuckets, 2*len(sh.buckets)))
	}
	b := &sh.buckets[h&uint64(len(sh.buckets)-1)]
	u.next, *b = *b, u
	sh.n++
}

// unlinkLocked takes u out of sh, where it is.
func (r *registry) unlinkLocked(sh *shard, h uint64, u *under) {
	b := &sh.buckets[h&uint64(len(sh.buckets)-1)]
	for *b != u {
		b = &(*b).next
	}
	*b, u.next = u.next, nil
	sh.n--
	if r.limit != 0 {
		sh.credit++
	}
	if len(sh.buckets) > minBuckets && sh.n < len(sh.buckets)/32 {
		r.rehashLocked(sh, max(minBuckets, len(sh.buckets)/8))
	}
}

// unlink takes a dead or closed u out of the registry.
func (r *registry) unlink(u *under) {
	sh, h := r.home(u)
	sh.mu.Lock()
	r.unlinkLocked(sh, h, u)
	sh.mu.Unlock()
}

// rehashLocked gives sh n buckets.
func (r *registry) rehashLocked(sh *shard, n int) {
	old := sh.buckets
	sh.buckets = make([]*under, n)
	for _, u := range old {
		for u != nil {
			next := u.next
			_, h := r.home(u)
			b := &sh.buckets[h&uint64(n-1)]
			u.next, *b = *b, u
			u = next
		}
	}
}

// refill gives sh credit, and answers false if at one moment during the call the limit was reached. No shard's mu may be
// held.
func (r *registry) refill(sh *shard) bool {
	r.creditMu.Lock()
	defer r.creditMu.Unlock()
	if r.left == 0 {
		r.collectLocked()
	}
	n := min(creditBatch, r.left)
	r.left -= n
	sh.mu.Lock()
	sh.credit += n
	sh.mu.Unlock()
	return n > 0
}

// collectLocked takes the credit of all shards back. It holds all of them at once, in order of their index: with one
// after the other, credit that moves meanwhile could be missed, and a call refused below the limit.
func (r *registry) collectLocked() {
	for i := range r.shards {
		r.shards[i].mu.Lock()
	}
	for i := range r.shards {
		r.left += r.shards[i].credit
		r.shards[i].credit = 0
		r.shards[i].mu.Unlock()
	}
}

// len is how many underfds are open. It is exact when nothing is opened or closed meanwhile.
func (r *registry) len() int {
	n := 0
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		n += sh.n
		sh.mu.Unlock()
	}
	return n
}

// refs is how many table references and I/O references (k, underfd) has.
func (r *registry) refs(k Kind, underfd uint64) (tables, ios uint64) {
	sh, h := r.locate(k, underfd)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for u := sh.head(h); u != nil; u = u.next {
		if tables, ios, alive := u.refs(); alive && u.is(k, underfd) {
			return tables, ios
		}
	}
	return 0, 0
}
