//go:build invariants

package exitcoord

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// The checks are where calls leave the package: whoever called out with mu held would be caught.
func TestLocks_ACallOutWithMuHeldIsCaught(t *testing.T) {
	var s countingStopper
	x := New(Config{Cage: 7, Stopper: &s, Observer: func(Event) {}})
	held := func(do func()) []string {
		return lockcheck.Catch(func() {
			x.mu.Lock()
			do()
			x.mu.Unlock()
		})
	}
	for name, c := range map[string]struct {
		do   func()
		want string
	}{
		"Stop":     {func() { _ = x.tryStop() }, "a Stopper is called while exitcoord Exit.mu is held"},
		"Threads":  {func() { x.askThreads() }, "a Stopper is called while exitcoord Exit.mu is held"},
		"Observer": {func() { x.observe(Event{}) }, "an Observer is called while exitcoord Exit.mu is held"},
		"step": {
			func() { _, _, _ = attempt(context.Background(), func(context.Context) error { return nil }) },
			"a step is called while exitcoord Exit.mu is held",
		},
		"another exit": {
			func() { New(Config{}).Begin(Cause{Kind: HostKill}) },
			"exitcoord Exit.mu is taken while exitcoord Exit.mu is held",
		},
	} {
		if got := held(c.do); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, c.want) }) {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
	got := lockcheck.Catch(func() { x.announceLocked() })
	if len(got) != 1 || !strings.HasPrefix(got[0], "exitcoord Exit.mu has to be held here") {
		t.Errorf("without mu: found %q", got)
	}
}
