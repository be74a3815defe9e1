package cage

import (
	"fmt"

	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// This file is the end of a cage, in the order in which it happens: its children are given away (Reparent), it
// becomes a zombie (Zombie), and somebody reaps it (Reap, a Wait, or nobody if it is an orphan). In the last of
// these, its state moves and nobody finds it any more; Config.OnReap is called; its id is free. A wait that was
// handed a zombie by Zombie does the latter two itself, so that its caller finds the id free.

// orphansAtOnce is how many children Reparent moves before it lets others in. The lock is then held for one or two
// microseconds.
const orphansAtOnce = 64

// Reparent gives c's children to abi.CageInit, and c can have no more. Those that are zombies are reaped, those that
// run will be as soon as they end. It is for a cage whose execution is over: a wait of c's that is blocked finds no
// child. Calling it again does nothing. It costs as much as c has children, and others get in between.
//
// # Errors
//
//   - ErrState: c ended or was discarded, or is the init cage
//   - ErrStale: c is none of this table's
func (t *Table) Reparent(c *Cage) error {
	t.mu.Lock()
	err := t.orphanAllLocked(c)
	t.mu.Unlock()
	if err != nil {
		return fmt.Errorf("reparent the children of %s: %w", name(c), err)
	}
	return nil
}

// Zombie ends c: its wait status is recorded, its parent can see it, waits get their answer, and then Config.OnChild
// is called. The caller sees to it that nothing else is left of c. An orphan is reaped at once. If c still has
// children they are given to init first, as by Reparent.
//
// # Errors
//
//   - ErrState: c ended before or was discarded, or is the init cage
//   - ErrStale: c is none of this table's
func (t *Table) Zombie(c *Cage, waitStatus uint32) error {
	t.mu.Lock()
	if err := t.orphanAllLocked(c); err != nil {
		t.mu.Unlock()
		return fmt.Errorf("end %s: %w", name(c), err)
	}
	c.status = waitStatus
	c.moveLocked(Zombie)
	parent := c.parent.Load()
	var woken waits
	if c.orphan {
		t.reapLocked(c, &woken)
	} else {
		parent.running.remove(c)
		parent.zombies.pushBack(c)
		t.announceLocked(parent, c, &woken)
	}
	orphan := c.orphan
	t.mu.Unlock()
	wake(&woken)
	if orphan {
		t.forget(c)
	}
	if t.onChild != nil {
		lockcheck.NoneHeld("OnChild")
		t.onChild(parent.Handle(), c.Handle(), waitStatus)
	}
	return nil
}

// Reap takes a zombie of the host's, and gives its id back. When it returns the id may be another's.
//
// # Errors
//
//   - ErrState: c is not a zombie: it runs, or it was reaped before
//   - ErrNotHeld: c is an orphan, or its parent is a cage, whose wait reaps it
//   - ErrStale: c is none of this table's
func (t *Table) Reap(c *Cage) error {
	t.mu.Lock()
	err := t.admitLocked(c, Reaped)
	if err == nil && c.parent.Load() != t.init {
		err = ErrNotHeld // an orphan never gets here, as it is reaped when it becomes a zombie
	}
	var woken waits
	if err == nil {
		t.reapLocked(c, &woken)
	}
	t.mu.Unlock()
	if err != nil {
		return fmt.Errorf("reap %s: %w", name(c), err)
	}
	wake(&woken)
	t.forget(c)
	return nil
}

// reapLocked takes the zombie c out of the tree. Waits that are left without a child are added to woken. The caller
// must call forget, without the lock.
func (t *Table) reapLocked(c *Cage, woken *waits) {
	t.mu.AssertHeld()
	c.moveLocked(Reaped)
	if !c.orphan {
		c.parent.Load().zombies.remove(c)
	}
	t.cages.Delete(uint64(c.id), c)
	t.disappointLocked(c, woken)
	if t.onReap == nil {
		t.freeIDLocked(c)
	}
}

// forget does what is left to do for a cage that reapLocked took out: OnReap, and its id is free. Exactly one
// goroutine calls it.
func (t *Table) forget(c *Cage) {
	if t.onReap == nil {
		return // reapLocked did it, to save taking the lock twice
	}
	lockcheck.NoneHeld("OnReap")
	t.onReap(c)
	t.mu.Lock()
	t.freeIDLocked(c)
	t.mu.Unlock()
}

// orphanAllLocked gives c's children to init. It drops the lock and takes it again, any number of times; when it
// answers nil c is running, sealed and childless.
func (t *Table) orphanAllLocked(c *Cage) error {
	t.mu.AssertHeld()
	for {
		if err := t.admitLocked(c, Zombie); err != nil {
			return err
		}
		c.sealed = true
		if c.childless() {
			return nil
		}
		var woken waits
		var reaped cages
		t.orphanSomeLocked(c, &woken, &reaped)
		t.mu.Unlock()
		wake(&woken)
		for z := reaped.popFront(); z != nil; z = reaped.popFront() {
			t.forget(z)
		}
		t.mu.Lock()
	}
}

// orphanSomeLocked gives some of c's children to init. Those that were zombies are reaped, and added to reaped.
func (t *Table) orphanSomeLocked(c *Cage, woken *waits, reaped *cages) {
	t.mu.AssertHeld()
	for range orphansAtOnce {
		if z := c.zombies.head; z != nil {
			t.reapLocked(z, woken)
			reaped.pushBack(z)
			continue
		}
		child := c.running.popFront()
		if child == nil {
			return
		}
		child.orphan = true
		t.disappointLocked(child, woken) // c's waits, which must not outlive its parenthood
		child.parent.Store(t.init)
	}
}
