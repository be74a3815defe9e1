package leakcheck_test

import (
	"os"
	"strings"
	"testing"

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
