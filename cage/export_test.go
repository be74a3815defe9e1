package cage

import (
	"errors"
	"fmt"
)

// OrphansAtOnce lets tests make more children than Reparent moves at once.
const OrphansAtOnce = orphansAtOnce

// Verify checks everything that must hold whenever the lock is free, by looking at every cage.
func (t *Table) Verify() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	listed := map[*Cage]bool{}
	known := 0
	for id, c := range t.cages.All() {
		if uint64(c.id) != id {
			fail("id %d leads to cage %d", id, c.id)
		}
		if c != t.init {
			known++
			if !t.used.Has(uint(id)) {
				fail("the id of cage %d is free", id)
			}
		}
		for _, children := range []struct {
			list  cages
			state State
		}{{c.running, Running}, {c.zombies, Zombie}} {
			for child := range children.list.members() {
				if listed[child] {
					fail("cage %d is in two lists", child.id)
				}
				listed[child] = true
				if child.parent.Load() != c || child.State() != children.state || child.orphan {
					fail("cage %d is among those of %d that are %s", child.id, c.id, children.state)
				}
				if t.cages.Load(uint64(child.id)) != child {
					fail("cage %d is in the tree, but not to be found", child.id)
				}
				if child.State() == Zombie && !(child.waits.empty() && c.anyWaits.empty()) {
					fail("W1: there are waits beside the zombie %d", child.id)
				}
			}
		}
		if c.State() == Zombie && !c.childless() {
			fail("T2: the zombie %d has children", c.id)
		}
		if c.childless() && !c.anyWaits.empty() {
			fail("W1: cage %d waits, and has no children", c.id)
		}
		for _, queue := range []*waits{&c.waits, &c.anyWaits} {
			reaper := false
			for w := range queue.members() {
				if w.queue != queue {
					fail("a wait in a queue of cage %d does not know it", c.id)
				}
				if reaper && w.noReap {
					fail("in a queue of cage %d a wait that does not reap is behind one that does", c.id)
				}
				reaper = reaper || !w.noReap
			}
		}
	}
	for _, c := range t.cages.All() {
		if c == t.init {
			continue
		}
		if state := c.State(); state != Running && state != Zombie {
			fail("cage %d can be found, and is %s", c.id, state)
		}
		if c.orphan == listed[c] {
			fail("cage %d: orphan %v, in its parent's list %v", c.id, c.orphan, listed[c])
		}
		if c.orphan && (c.parent.Load() != t.init || c.State() == Zombie) {
			fail("the orphan %d is not init's, or is a zombie", c.id)
		}
	}
	if known != t.count {
		fail("%d cages, but %d counted", known, t.count)
	}
	return errors.Join(errs...)
}

// members yields the members in order.
func (l *list[T, M]) members() func(yield func(*T) bool) {
	return func(yield func(*T) bool) {
		for m := l.head; m != nil && yield(m); {
			if m = M(m).place().next; m == l.head {
				return
			}
		}
	}
}
