package cage

import (
	"context"
	"fmt"

	"github.com/lindbridge/lindbridge/abi"
)

// Select says which children a wait is for. The zero Select is AnyChild().
type Select struct {
	id  abi.CageID
	one bool
}

// AnyChild selects all children.
func AnyChild() Select { return Select{} }

// OneChild selects the child that has the id.
func OneChild(id abi.CageID) Select { return Select{id: id, one: true} }

// Options say what a wait does besides waiting. The zero Options wait for as long as it takes and reap. See waitpid
// in POSIX, and waitid for NoReap.
type Options struct {
	// NoHang answers the zero WaitResult rather than wait, as WNOHANG does.
	NoHang bool
	// NoReap leaves the zombie as it is for another wait, as WNOWAIT does.
	NoReap bool
}

// WaitResult is a child that ended. It is zero if there is none: with NoHang alone.
type WaitResult struct {
	// Child is the cage that ended. Its id may be another's already if the wait reaped it.
	Child Handle
	// Status is what Zombie was given for it.
	Status uint32
}

// Wait waits until a child of parent that sel selects is a zombie, and reaps it. Of several zombies it takes the one
// that ended first. Of several waits one gets a zombie, and all do that have NoReap and waited for it. It blocks
// until there is a zombie, no child that could become one, or ctx is done; a wait that need not block does not look
// at ctx. The children of abi.CageInit are those that the host spawned, without orphans.
//
// # Errors
//
//   - ErrNoChild: sel selects no child; it is returned to a wait that is blocked too, when another takes the last
//   - ErrNoParent: no cage has parent's id
//   - ctx's error: it was done first, and nothing was reaped
func (t *Table) Wait(ctx context.Context, parent abi.CageID, sel Select, opts Options) (WaitResult, error) {
	result, reaped, err := t.wait(ctx, parent, sel, opts)
	if reaped != nil {
		t.forget(reaped)
	}
	if err != nil {
		return WaitResult{}, fmt.Errorf("wait of cage %d: %w", parent, err)
	}
	return result, nil
}

// wait is Wait up to the forgetting of the cage that it reaped, which may be nil.
func (t *Table) wait(
	ctx context.Context, parent abi.CageID, sel Select, opts Options,
) (result WaitResult, reaped *Cage, err error) {
	t.mu.Lock()
	p := t.cages.Load(uint64(parent))
	if p == nil {
		t.mu.Unlock()
		return WaitResult{}, nil, ErrNoParent
	}
	queue, zombie, err := t.selectLocked(p, sel)
	if err != nil {
		t.mu.Unlock()
		return WaitResult{}, nil, err
	}
	if zombie != nil {
		var woken waits
		if !opts.NoReap {
			t.reapLocked(zombie, &woken)
			reaped = zombie
		}
		result = zombie.result()
		t.mu.Unlock()
		wake(&woken)
		return result, reaped, nil
	}
	if opts.NoHang {
		t.mu.Unlock()
		return WaitResult{}, nil, nil
	}
	w := &wait{noReap: opts.NoReap, queue: queue, answered: make(chan struct{})}
	w.enqueueLocked()
	t.mu.Unlock()

	select {
	case <-w.answered:
	case <-ctx.Done():
		if t.withdraw(w) {
			return WaitResult{}, nil, context.Cause(ctx)
		}
	}
	return w.result, w.reaped, w.err
}

// selectLocked finds the zombie that a wait of p's would get now, or nil, and the queue that it stands in otherwise.
func (t *Table) selectLocked(p *Cage, sel Select) (queue *waits, zombie *Cage, err error) {
	t.mu.AssertHeld()
	if !sel.one {
		if p.childless() {
			return nil, nil, ErrNoChild
		}
		return &p.anyWaits, p.zombies.head, nil
	}
	c := t.cages.Load(uint64(sel.id))
	if c == nil || c.parent.Load() != p || c.orphan {
		return nil, nil, fmt.Errorf("%w: %d", ErrNoChild, sel.id)
	}
	if c.State() == Zombie {
		zombie = c
	}
	return &c.waits, zombie, nil
}

// result is what a wait is told of the zombie c.
func (c *Cage) result() WaitResult { return WaitResult{Child: c.Handle(), Status: c.status} }
