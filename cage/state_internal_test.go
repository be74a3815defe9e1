package cage

import "testing"

func TestState_MovesAreThoseOfTheTable(t *testing.T) {
	allowed := map[[2]State]bool{{Running, Zombie}: true, {Running, Discarded}: true, {Zombie, Reaped}: true}
	states := []State{Running, Zombie, Reaped, Discarded, Discarded + 1}
	for _, from := range states {
		for _, to := range states {
			var c Cage
			c.state.Store(uint32(from))
			moved := func() (moved bool) {
				defer func() { moved = recover() == nil }()
				c.moveLocked(to)
				return true
			}()
			if moved != allowed[[2]State{from, to}] {
				t.Errorf("from %s to %s: moved %v", from, to, moved)
			}
			if want := from; !moved && c.State() != want {
				t.Errorf("a refused move from %s to %s left it %s", from, to, c.State())
			}
		}
	}
}

func TestState_EachHasItsOwnWords(t *testing.T) {
	seen := map[string]State{}
	for s := Running; s <= Discarded+1; s++ {
		if other, dup := seen[s.String()]; dup || s.String() == "" {
			t.Errorf("%d and %d are both %q", s, other, s)
		}
		seen[s.String()] = s
	}
}
