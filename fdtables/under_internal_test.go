package fdtables

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
)

func newUnder(e Entry) *under {
	u := newUnders()
	u.born(e)
	return u
}

func testUnder() *under { return newUnder(Entry{Kind: 1, UnderFD: 2}) }

func TestUnder_NothingLeavesTheStateDead(t *testing.T) {
	u, d := testUnder(), new(dropped)
	if _, v := u.drop(&u.first, d); v != last {
		t.Fatalf("verdict %d", v)
	}
	for range 1000 { // each attempt leaves something in the word, and changes nothing
		if !isDead(u.acquire()) {
			t.Fatal("a reference to a dead underfd")
		}
		if _, ok := u.tryShare(d); ok {
			t.Fatal("a descriptor of a dead underfd")
		}
	}
	if _, _, alive := u.refs(); alive {
		t.Fatal("it is alive")
	}
}

func TestUnder_TheLastIOOwesTheHandler(t *testing.T) {
	u, d := testUnder(), new(dropped)
	for range 2 {
		if isDead(u.acquire()) {
			t.Fatal("not alive")
		}
	}
	u.share()
	second := newAlias(Entry{PerFDInfo: 9}, u)
	if left, v := u.drop(&u.first, d); v != others || left != 1 {
		t.Fatalf("verdict %d, %d left", v, left)
	}
	if _, v := u.drop(second, d); v != inFlight {
		t.Fatalf("verdict %d", v)
	}
	if s, _ := u.release(d); s != nil {
		t.Fatal("the first release of two owes the handler")
	}
	if s, _ := u.release(d); s != second {
		t.Fatalf("the last release owes %v, want what was dropped last", s)
	}
	if !isDead(u.acquire()) {
		t.Fatal("a reference to an underfd whose handler is due")
	}
}

// TestUnder_ReviveBetweenAReleaseAndItsEnd stops a release between its two steps, which no test from outside can.
func TestUnder_ReviveBetweenAReleaseAndItsEnd(t *testing.T) {
	u, d := testUnder(), new(dropped)
	u.acquire()
	u.drop(&u.first, d)
	u.word.Add(-ioUnit) // the first step of release: unreferenced, and not dead
	owed, ok := u.tryShare(d)
	if !ok || owed != &u.first {
		t.Fatalf("%v, %v", owed, ok)
	}
	if u.word.CompareAndSwap(unreferenced, dead) { // the second one
		t.Fatal("the release did not see that it lives on")
	}
	if _, v := u.drop(&u.first, d); v != last {
		t.Fatalf("verdict %d", v)
	}
}

// TestUnder_GetAndCloseDecideWhoIsLast races the last drop with an acquire of a slot that was read before it: the race
// between a get and a close. One of two things is true: the get failed and the close was the last, or the get succeeded
// and its release is.
func TestUnder_GetAndCloseDecideWhoIsLast(t *testing.T) {
	rounds := 200000
	if testing.Short() {
		rounds = 10000
	}
	d := new(dropped)
	var got, lost int
	var next atomic.Pointer[under]
	var answer atomic.Int32
	const failed, succeeded = 1, 2
	var wg sync.WaitGroup
	wg.Go(func() {
		var seen *under
		for range rounds {
			u := next.Load()
			for ; u == seen; u = next.Load() {
				runtime.Gosched()
			}
			seen = u
			if isDead(u.acquire()) {
				answer.Store(failed)
				continue
			}
			if s, _ := u.release(d); s != nil && s != &u.first {
				t.Error("the release owes another slot")
			} else if s != nil {
				answer.Store(succeeded + 1) // and it was the last
			} else {
				answer.Store(succeeded)
			}
		}
	})
	for i := range rounds {
		u := newUnders()
		u.born(Entry{})
		answer.Store(0)
		next.Store(u)
		for range i % 32 { // meet at different points
			_ = answer.Load()
		}
		_, v := u.drop(&u.first, d)
		a := answer.Load()
		for ; a == 0; a = answer.Load() {
			runtime.Gosched()
		}
		if lastIO := a == succeeded+1; lastIO == (v == last) || a == failed && v != last {
			t.Fatalf("round %d: the close says %d, the get %d", i, v, a)
		}
		if a == failed {
			lost++
		} else {
			got++
		}
	}
	wg.Wait()
	if len(d.last) != 0 {
		t.Errorf("%d handlers are owed at the end", len(d.last))
	}
	t.Logf("the get succeeded %d times and failed %d times", got, lost)
}

// TestRegistry_SkipsTheDead opens a pair anew while the one before it is dead and not yet taken out.
func TestRegistry_SkipsTheDead(t *testing.T) {
	ts := New(Config{MaxOpen: 8})
	tab, err := ts.Init(2)
	if err != nil {
		t.Fatal(err)
	}
	if _, errno := tab.Open(1, 2, false, 0); errno != 0 {
		t.Fatal(errno)
	}
	tab.mu.Lock()
	old := tab.openLocked(0)
	tab.clearLocked(0)
	tab.mu.Unlock()
	if _, v := old.under().drop(old, &ts.open.owed); v != last {
		t.Fatalf("verdict %d", v)
	}
	if n, io := ts.References(1, 2); n != 0 || io != 0 {
		t.Fatalf("%d, %d references", n, io)
	}
	for range 2 {
		if _, errno := tab.Open(1, 2, false, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	if n, _ := ts.References(1, 2); n != 2 {
		t.Fatalf("%d references, want those of the new count", n)
	}
	ts.open.unlink(old.under())
	if n, _ := ts.References(1, 2); n != 2 || ts.Open() != 1 {
		t.Fatalf("%d references, %d open", n, ts.Open())
	}
}

func TestRegistry_GivesMemoryBack(t *testing.T) {
	ts := New(Config{})
	tab, err := ts.Init(2)
	if err != nil {
		t.Fatal(err)
	}
	tab.SetLimit(MaxLimit)
	buckets := func() (n int) {
		for i := range ts.open.shards {
			n += len(ts.open.shards[i].buckets)
		}
		return n
	}
	const n = 100000
	for i := range uint64(n) {
		if _, errno := tab.Open(0, i, false, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	if got := buckets(); got < n {
		t.Fatalf("%d buckets for %d underfds", got, n)
	}
	if _, err := ts.Remove(2); err != nil {
		t.Fatal(err)
	}
	if got := buckets(); got > numShards*minBuckets {
		t.Fatalf("%d buckets for nothing", got)
	}
}

// TestRegistry_SpreadsAnyPattern puts the same number of underfds into the registry in patterns that hosts may have, under
// seeds of which some are poor: no bucket may become long.
func TestRegistry_SpreadsAnyPattern(t *testing.T) {
	const n = 1 << 13
	for _, seed := range [][2]uint64{
		{0, 0},
		{0, 1},
		{1, 0},
		{1 << 63, 1<<63 | 1},
		{12345, 1<<63 + 1<<57 + 1},
		{^uint64(0), ^uint64(0)/3 | 1},
		{rand.Uint64(), rand.Uint64()},
	} {
		for name, underfd := range map[string]func(i uint64) uint64{
			"in a row":       func(i uint64) uint64 { return i },
			"by 64":          func(i uint64) uint64 { return i << 6 },
			"by 4096":        func(i uint64) uint64 { return i << 12 },
			"high bits":      func(i uint64) uint64 { return i << 50 },
			"descending":     func(i uint64) uint64 { return -i },
			"two words each": func(i uint64) uint64 { return i<<40 | i },
		} {
			for _, k := range []Kind{0, 1, KindReserved - 1} {
				var r registry
				r.init(0)
				r.seed = seed
				for i := range uint64(n) {
					u := newUnders()
					u.born(Entry{Kind: k, UnderFD: underfd(i)})
					if _, _, errno := r.join(u); errno != 0 {
						t.Fatal(errno)
					}
				}
				if longest := longestBucket(&r); longest > 24 {
					t.Errorf("%s, kind %d, seed %#x: a bucket of %d", name, k, seed, longest)
				}
			}
		}
	}
}

func longestBucket(r *registry) int {
	longest := 0
	for i := range r.shards {
		for _, u := range r.shards[i].buckets {
			length := 0
			for ; u != nil; u = u.next {
				length++
			}
			longest = max(longest, length)
		}
	}
	return longest
}

// TestTables_ATableThatIsNotLiveIsNone is the moment at which a cage's Fork is not complete.
func TestTables_ATableThatIsNotLiveIsNone(t *testing.T) {
	ts := New(Config{})
	ts.tables.Insert(5, &Table{ts: ts, cage: 5})
	if _, err := ts.Table(5); !errors.Is(err, ErrNoCage) {
		t.Error(err)
	}
	if _, err := ts.Init(5); !errors.Is(err, ErrCageExists) {
		t.Error(err)
	}
	if _, err := ts.Remove(5); !errors.Is(err, ErrNoCage) {
		t.Error(err)
	}
	if err := ts.Fork(5, 6); !errors.Is(err, ErrNoCage) {
		t.Error(err)
	}
	if got := ts.Cages(); got != nil {
		t.Error(got)
	}
	tab := ts.tables.Load(5)
	if _, errno := tab.Open(0, 1, false, 0); errno != abi.EBADF {
		t.Error(errno)
	}
}
