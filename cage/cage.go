package cage

import (
	"fmt"
	"sync/atomic"

	"github.com/lindbridge/lindbridge/abi"
)

// Cage is one cage of a Table. Its methods are safe for concurrent use, take no lock, and remain valid when it is
// gone.
//
// The fields that are guarded by mu are by that of the Table.
type Cage struct {
	id         abi.CageID           // immutable
	generation uint64               // immutable
	parent     atomic.Pointer[Cage] // written with mu held; nil for init alone

	siblings link[Cage] // place in the parent's list, or in that of a call that reaps it; guarded by mu
	running  cages      // children that are not zombies, orphans of init excluded; guarded by mu
	zombies  cages      // children that are, the oldest first; guarded by mu

	waits    waits // of the parent, for this cage; guarded by mu
	anyWaits waits // of this cage, for any child; guarded by mu

	state  atomic.Uint32 // a State; written with mu held
	status uint32        // written before state becomes Zombie, immutable from then on
	orphan bool          // was given to init, which has it in no list; guarded by mu
	sealed bool          // can have no more children; guarded by mu
}

type cages = list[Cage, *Cage]

func (c *Cage) place() *link[Cage] { return &c.siblings }

// ID is the cage's id. Once the cage is reaped or discarded it may be another's as well.
func (c *Cage) ID() abi.CageID { return c.id }

// Generation tells the cage from all others of its table that have had its id, or will.
func (c *Cage) Generation() uint64 { return c.generation }

// Handle names the cage for good.
func (c *Cage) Handle() Handle { return Handle{ID: c.id, Generation: c.generation} }

// Parent is the id of the cage's parent, as getppid has it: abi.CageInit once it is an orphan, and 0 for init itself.
// Of a cage that is gone it is the last one.
func (c *Cage) Parent() abi.CageID {
	if p := c.parent.Load(); p != nil {
		return p.id
	}
	return 0
}

// State is what is true of the cage now. It only ever moves on.
func (c *Cage) State() State { return State(c.state.Load()) }

// WaitStatus is what Zombie was given, and whether it was called.
func (c *Cage) WaitStatus() (status uint32, ok bool) {
	if s := c.State(); s != Zombie && s != Reaped {
		return 0, false
	}
	return c.status, true
}

func (c *Cage) childless() bool { return c.running.empty() && c.zombies.empty() }

// Handle names one cage for good, whoever has its id later. It is comparable. The zero Handle names none.
type Handle struct {
	ID         abi.CageID
	Generation uint64
}

// String is the handle for a message: "7#12", the id first.
func (h Handle) String() string { return fmt.Sprintf("%d#%d", h.ID, h.Generation) }
