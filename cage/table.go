package cage

import (
	"fmt"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/ids"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// DefaultMaxCages is the limit of a Config that leaves it at 0.
const DefaultMaxCages = 16384

// firstID is the lowest id that a cage can have.
const firstID = uint(abi.CageInit) + 1

// Config says how New makes a Table. The zero Config is a good one.
type Config struct {
	// MaxCages is the most cages that hold an id at once, zombies included and init not. 0 or less: DefaultMaxCages.
	// Lookup is wait-free as long as it is below a million.
	MaxCages int
	// OnChild, if not nil, is called once for each cage that becomes a zombie, after waits can see that and those
	// that waited were told. It is where SIGCHLD is sent. The parent is the cage's at that time, and may be init,
	// which is no program. Either handle may be stale by then. It is called by Zombie, with no lock held, and must
	// not block.
	OnChild func(parent, child Handle, waitStatus uint32)
	// OnReap, if not nil, is called once for each cage that is reaped, by whomever, when nobody can find it any more
	// and before its id can be another's. It is where those forget the id who keep something under it. It is called
	// by Reap, by the Wait that reaps, and for orphans by Zombie and Reparent, with no lock held; it must not block
	// or panic. It is not called for a cage that is discarded.
	OnReap func(c *Cage)
}

// Table has all cages of a runtime. Its methods are safe for concurrent use.
type Table struct {
	max     int                          // immutable
	onChild func(Handle, Handle, uint32) // immutable; or nil
	onReap  func(*Cage)                  // immutable; or nil
	init    *Cage                        // immutable
	cages   ids.Map[Cage]                // init, and those that are running or zombies; written with mu held

	mu         lockcheck.Mutex[tableLock]
	used       ids.Set // ids that are not free, reserved ones from when they were met; guarded by mu
	count      int     // cages that hold an id; guarded by mu
	generation uint64  // the last one given out; guarded by mu
}

// New makes a table in which there is abi.CageInit, which never ends and has no parent.
func New(cfg Config) *Table {
	t := &Table{max: cfg.MaxCages, onChild: cfg.OnChild, onReap: cfg.OnReap, generation: 1}
	if t.max <= 0 {
		t.max = DefaultMaxCages
	}
	t.init = &Cage{id: abi.CageInit, generation: t.generation}
	t.cages.Insert(uint64(abi.CageInit), t.init)
	return t
}

// Alloc makes a cage under the lowest id that is free and not reserved. It is running from here on, and its parent
// can wait for it. A child of abi.CageInit is the host's, which has to reap it.
//
// # Errors
//
//   - ErrNoParent: no cage has parent's id, or it ended or gave its children away
//   - ErrLimit: Config.MaxCages hold an id
func (t *Table) Alloc(parent abi.CageID) (*Cage, error) {
	c := new(Cage) // here rather than with the lock held; failing is rare
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.cages.Load(uint64(parent))
	if p == nil || p.sealed {
		return nil, fmt.Errorf("make a child of cage %d: %w", parent, ErrNoParent)
	}
	if t.count >= t.max {
		return nil, fmt.Errorf("make a child of cage %d: %w", parent, ErrLimit)
	}
	t.generation++
	c.id, c.generation = t.takeIDLocked(), t.generation
	c.parent.Store(p)
	p.running.pushBack(c)
	if !t.cages.Insert(uint64(c.id), c) {
		panic(fmt.Sprintf("cage %d: its id was free, but a cage has it", c.id))
	}
	return c, nil
}

// Discard takes back a cage that never ran, and its id. Nobody is told, save that a wait for it finds no child.
//
// # Errors
//
//   - ErrState: c ended or was discarded, is the init cage, or has children, so that it ran
//   - ErrStale: c is none of this table's
func (t *Table) Discard(c *Cage) error {
	t.mu.Lock()
	err := t.admitLocked(c, Discarded)
	if err == nil && !c.childless() {
		err = fmt.Errorf("%w: it has children", ErrState)
	}
	var woken waits
	if err == nil {
		c.sealed = true
		c.moveLocked(Discarded)
		if !c.orphan {
			c.parent.Load().running.remove(c)
		}
		t.cages.Delete(uint64(c.id), c)
		t.disappointLocked(c, &woken)
		t.freeIDLocked(c)
	}
	t.mu.Unlock()
	if err != nil {
		return fmt.Errorf("discard %s: %w", name(c), err)
	}
	wake(&woken)
	return nil
}

// Lookup is the cage that has the id, running or a zombie, or nil. It finds abi.CageInit, and no other reserved id.
// It is wait-free.
func (t *Table) Lookup(id abi.CageID) *Cage { return t.cages.Load(uint64(id)) }

// Resolve is the cage that h names, running or a zombie. It is wait-free.
//
// # Errors
//
//   - ErrStale: that cage is gone, whoever has its id now, or there never was one
func (t *Table) Resolve(h Handle) (*Cage, error) {
	c := t.Lookup(h.ID)
	if c == nil || c.generation != h.Generation {
		return nil, fmt.Errorf("cage %v: %w", h, ErrStale)
	}
	return c, nil
}

// Len is how many cages hold an id, zombies included and init not.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// takeIDLocked takes the lowest id that a cage can have.
func (t *Table) takeIDLocked() abi.CageID {
	t.mu.AssertHeld()
	id := t.used.Free(firstID)
	for abi.CageID(id).IsReserved() {
		t.used.Add(id) // for good, so that it is met once
		id = t.used.Free(id + 1)
	}
	t.used.Add(id)
	t.count++
	return abi.CageID(id)
}

// freeIDLocked gives c's id back.
func (t *Table) freeIDLocked(c *Cage) {
	t.mu.AssertHeld()
	t.used.Remove(uint(c.id))
	t.count--
}

// name is how an error speaks of c.
func name(c *Cage) string {
	if c == nil {
		return "a nil cage"
	}
	return fmt.Sprintf("cage %d", c.id)
}
