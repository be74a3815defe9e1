package leakcheck_test

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/internal/leakcheck"
)

func TestMore_SeesWhatIsHeld(t *testing.T) {
	before, err := leakcheck.Take()
	if err != nil {
		t.Fatal(err)
	}
	if more, err := before.Settled(leakcheck.DefaultSlack); err != nil || more != "" {
		t.Errorf("nothing was taken: %q, %v", more, err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	more, err := before.More(leakcheck.DefaultSlack)
	if err != nil || !strings.Contains(more, os.DevNull) {
		t.Errorf("an open file: %q, %v", more, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	big, err := unix.Mmap(-1, 0, 100<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	held, err := leakcheck.Take()
	if err != nil {
		t.Fatal(err)
	}
	if held.Resident < before.Resident+90<<20 {
		t.Errorf("100 MiB more than %d are %d", before.Resident, held.Resident)
	}
	if err := unix.Munmap(big); err != nil {
		t.Fatal(err)
	}
	if more, err := before.Settled(leakcheck.DefaultSlack); err != nil || more != "" {
		t.Errorf("all was given back: %q, %v", more, err)
	}
}

// TestThreads_OfGoAreNotCounted: Go keeps the threads of goroutines that were in system calls all at once.
func TestThreads_OfGoAreNotCounted(t *testing.T) {
	const crowd = 40
	before, err := leakcheck.Take()
	if err != nil {
		t.Fatal(err)
	}
	tasks := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			if n, err := unix.Read(ends[0], make([]byte, 1)); err != nil || n != 0 {
				t.Errorf("read: %d, %v", n, err)
			}
		})
	}
	for end := time.Now().Add(time.Minute); tasks() < crowd; {
		if time.Now().After(end) {
			t.Fatalf("%d threads for %d reads", tasks(), crowd)
		}
		<-time.After(time.Millisecond)
	}
	if err := unix.Close(ends[1]); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if err := unix.Close(ends[0]); err != nil {
		t.Fatal(err)
	}
	if n := tasks(); n < crowd {
		t.Errorf("Go has kept %d threads only: this test shows nothing", n)
	}
	if more, err := before.Settled(leakcheck.DefaultSlack); err != nil || more != "" {
		t.Errorf("%q, %v", more, err)
	}
}
