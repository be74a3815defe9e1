//go:build invariants

package threei

import (
	"slices"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// inside is what is done with a lock.
func inside() {}

// The locks' places are those of the package's documentation, and whoever takes them otherwise is caught.
func TestLocks_TakenInTheWrongOrderAreCaught(t *testing.T) {
	s := NewSystem()
	defer s.Close()
	s.Configure(Config{MayInterpose: func(abi.CageID, abi.CageID) bool { return true }})
	var cages []*cage
	for id := range abi.CageID(2) {
		if err := s.AddCage(10+id, exitcoord.New(exitcoord.Config{Cage: 10 + id}), CageConfig{}); err != nil {
			t.Fatal(err)
		}
		cages = append(cages, s.cages.Load(uint64(10+id)))
	}
	a, b := cages[0], cages[1]
	for name, c := range map[string]struct {
		do   func()
		want string // "" if nothing is wrong
	}{
		"two rows as they came": {func() { lockRows(b, a)() }, ""},
		"row, then grate":       {func() { a.rowMu.Lock(); b.grateMu.Lock(); inside(); b.grateMu.Unlock(); a.rowMu.Unlock() }, ""},
		"two rows backwards": {
			func() {
				b.rowMu.LockKeyed(b.seq)
				a.rowMu.LockKeyed(a.seq)
				inside()
				a.rowMu.Unlock()
				b.rowMu.Unlock()
			},
			"threei cage.rowMu is taken while threei cage.rowMu is held: key",
		},
		"grate, then row": {
			func() { b.grateMu.Lock(); a.rowMu.Lock(); inside(); a.rowMu.Unlock(); b.grateMu.Unlock() },
			"threei cage.rowMu is taken while threei cage.grateMu is held",
		},
		"table, then row": {
			func() { s.table.mu.Lock(); a.rowMu.Lock(); inside(); a.rowMu.Unlock(); s.table.mu.Unlock() },
			"threei cage.rowMu is taken while threei table.mu is held",
		},
		"a hook": {
			func() { a.rowMu.Lock(); s.mayInterpose(a, b); a.rowMu.Unlock() },
			"Config.MayInterpose is called while threei cage.rowMu is held",
		},
		"a row without its lock": {func() { a.pairOfLocked(1) }, "threei cage.rowMu has to be held here"},
	} {
		got := lockcheck.Catch(c.do)
		if c.want == "" && len(got) == 0 {
			continue
		}
		if c.want == "" || !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, c.want) }) {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
}
