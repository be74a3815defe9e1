package threei

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// This file implements who may name which cage. The package's documentation has the rules in words.

// mayInterpose reports whether by may decide who serves the calls of c: its own, and what Config.MayInterpose says. No
// lock may be held.
func (s *System) mayInterpose(by, c *cage) bool {
	if by == c {
		return true
	}
	lockcheck.NoneHeld("Config.MayInterpose")
	return s.cfg.MayInterpose != nil && s.cfg.MayInterpose(by.id, c.id)
}

// mayName reports whether the code that t runs may act on c and on its memory: as the host, as the one that serves c at
// the moment, or as a grate that has handlers on it. So may one that makes a call on behalf of a cage for which this holds.
func (t *Thread) mayName(c *cage) bool {
	if t.host {
		return true
	}
	if t.Serves(c.id) {
		return true
	}
	if t.target != nil && (t.target == c || c.isServedBy(t.target)) {
		return true
	}
	by := t.sys.cages.LoadLow(uint64(t.Cage))
	return by != nil && c.isServedBy(by)
}

// Serves reports whether a thread of the cage waits for t to serve its call.
func (t *Thread) Serves(id abi.CageID) bool {
	for caller := t.Caller; caller != nil; caller = caller.Caller {
		if caller.Cage == id {
			return true
		}
	}
	return false
}

// isServedBy reports whether g has a handler registered on c.
func (c *cage) isServedBy(g *cage) bool {
	port := g.port.Load()
	if port == 0 {
		return false
	}
	c.rowMu.Lock()
	defer c.rowMu.Unlock()
	p := c.pairOfLocked(port)
	return p != nil && p.grate == g && p.n > 0
}

// Subject is the thread that a native call acts for: t itself, or the one of the target cage that t serves at the moment.
// It is nil if the target is another cage, none of whose threads waits for t.
func (t *Thread) Subject() *Thread {
	if t.target == nil {
		return t
	}
	for caller := t.Caller; caller != nil; caller = caller.Caller {
		if caller.Cage == t.target.id {
			return caller
		}
	}
	return nil
}

// Acting is the cage that the call which t makes at the moment acts on: its own, but where it made the call on another.
func (t *Thread) Acting() abi.CageID {
	if t.target != nil {
		return t.target.id
	}
	return t.Cage
}
