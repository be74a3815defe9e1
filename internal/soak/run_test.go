package soak

import (
	"errors"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/internal/fault"
)

// TestRun_EndsClean is a short soak: nothing is wrong, and it did what it is for.
func TestRun_EndsClean(t *testing.T) {
	f, err := Run(t.Context(), Config{
		For: 4 * time.Second, Seed: 1, Cages: 50, Workers: 4, Programs: 24, Faults: fault.Enabled,
		Guests: GuestDir("../../testdata/guests"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", f)
	if f.Exits < 100 || f.Rests == 0 || f.Cages != f.Exits || f.Alive != 0 {
		t.Errorf("%d cages, %d exits, %d alive, %d rests", f.Cages, f.Exits, f.Alive, f.Rests)
	}
	for _, k := range []string{"host_kill", "exit_group", "trap", "time_limit", "main_returned"} {
		if f.Causes[k] == 0 {
			t.Errorf("no exit by %s: %v", k, f.Causes)
		}
	}
}

func TestRun_RefusesFaultsWithoutPoints(t *testing.T) {
	if fault.Enabled {
		t.Skip("this build has points")
	}
	if _, err := Run(t.Context(), Config{Faults: true}); !errors.Is(err, ErrNoFaults) {
		t.Errorf("%v", err)
	}
}
