package cage

import (
	"fmt"
	"strconv"
)

// State is what is true of a cage.
type State uint32

// The states of a cage.
const (
	// Running: it has an id, may have children, and has not ended. Whether it has begun is not known here.
	Running State = iota
	// Zombie: nothing is left of it but its id and status, for somebody to reap.
	Zombie
	// Reaped: its status was taken. Its id is, or is about to be, another's.
	Reaped
	// Discarded: it never ran, and nobody hears of it. Its id is another's.
	Discarded
)

// String is the state in words.
func (s State) String() string {
	switch s {
	case Running:
		return "running"
	case Zombie:
		return "a zombie"
	case Reaped:
		return "reaped"
	case Discarded:
		return "discarded"
	}
	return "in state " + strconv.FormatUint(uint64(s), 10)
}

// mayBecome is the transition table.
func (s State) mayBecome(next State) bool {
	switch s {
	case Running:
		return next == Zombie || next == Discarded
	case Zombie:
		return next == Reaped
	}
	return false
}

// admitLocked answers why c cannot become next, or nil if it can.
func (t *Table) admitLocked(c *Cage, next State) error {
	t.mu.AssertHeld()
	if c == nil {
		return ErrStale
	}
	if c == t.init {
		return fmt.Errorf("%w: it is the init cage", ErrState)
	}
	// A state that is final is stale too, but says more. A cage of another table is never in this one.
	if s := c.State(); !s.mayBecome(next) {
		return fmt.Errorf("%w: it is %s", ErrState, s)
	}
	if t.cages.Load(uint64(c.id)) != c {
		return ErrStale
	}
	return nil
}

// moveLocked makes c what admitLocked allowed.
func (c *Cage) moveLocked(next State) {
	if s := c.State(); !s.mayBecome(next) {
		panic(fmt.Sprintf("cage %d: from %s to %s", c.id, s, next))
	}
	c.state.Store(uint32(next))
}
