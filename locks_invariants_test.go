//go:build invariants

package lindbridge

import (
	"slices"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// Whoever called the shim with a lock of the runtime held would be caught, and whoever took a second one.
func TestLocks_ACallOfTheShimWithOneHeldIsCaught(t *testing.T) {
	rt, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close(t.Context())
	c := &Cage{rt: rt}
	for name, tt := range map[string]struct {
		do   func()
		want string
	}{
		"the shim": {
			func() { _, _ = rt.engine.Load([]byte("(module)")) },
			"the shim, or a callback of it, is called while lindbridge Runtime.mu is held",
		},
		"another lock": {c.stopTimer, "lindbridge Cage.timerMu is taken while lindbridge Runtime.mu is held"},
	} {
		got := lockcheck.Catch(func() {
			rt.mu.Lock()
			defer rt.mu.Unlock()
			tt.do()
		})
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, tt.want) }) {
			t.Errorf("%s: found %q, want %q", name, got, tt.want)
		}
	}
}
