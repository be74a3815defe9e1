package release_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/internal/release"
)

// TestStores_AreSeenInOrder has a writer that counts in two words, the one always before the other, beside readers without a
// lock.
func TestStores_AreSeenInOrder(t *testing.T) {
	var first atomic.Uint64
	var second atomic.Int64
	var mu sync.Mutex
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for n := 0; !done.Load(); n++ {
				b := second.Load()
				if a := first.Load(); a < uint64(b) {
					t.Errorf("the second word is %d, the first %d", b, a)
					return
				}
				if n%64 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	for i := range 300_000 {
		mu.Lock()
		release.Uint64(&first, uint64(i)<<32|uint64(i))
		release.Int64(&second, int64(i)<<32|int64(i))
		mu.Unlock()
	}
	done.Store(true)
	readers.Wait()
	if a, b := first.Load(), second.Load(); a != uint64(b) || a>>32 != 299_999 {
		t.Errorf("the words end as %d and %d", a, b)
	}
}
