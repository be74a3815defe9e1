package lindbridge

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestFutexSlots_ArePowersOfTwoWithinLimits(t *testing.T) {
	for threads, want := range map[int]int{0: 256, 1: 256, 1024: 256, 1028: 512, 5000: 2048, 16_384: 4096, 1 << 30: 4096} {
		if got := futexSlots(threads); got != want {
			t.Errorf("%d threads: %d slots, want %d", threads, got, want)
		}
	}
}

// A runtime for many threads has the kernel's table of futexes made large enough, and one for few leaves it as it is.
func TestNew_MakesRoomForTheFutexesOfItsThreads(t *testing.T) {
	slots := func() int {
		n, err := unix.PrctlRetInt(prFutexHash, prFutexHashGetSlots, 0, 0, 0)
		if err != nil {
			t.Skipf("this kernel has no table of futexes for each process: %v", err)
		}
		return n
	}
	if slots() == 0 {
		t.Skip("this process does without a table of its own")
	}
	for _, threads := range []int{DefaultMaxThreads, 16} {
		rt, err := New(Config{MaxThreads: threads})
		if err != nil {
			t.Fatal(err)
		}
		if err := rt.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := slots(), futexSlots(DefaultMaxThreads); got < want {
			t.Errorf("%d slots after a runtime for %d threads, want %d at least", got, threads, want)
		}
	}
}
