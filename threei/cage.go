package threei

import (
	"fmt"
	"sync/atomic"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// CageConfig is what 3i needs of a cage so that others can act on it. What is left out nobody can use.
type CageConfig struct {
	// Memory is the cage's linear memory as it is now. It is called from any thread, and must not block. What it
	// answers is used until the function that ReleaseMemory was given runs, and not beyond.
	Memory func() guestmem.Memory
	// Native is the cage's state in the layer that serves native calls (*rawposix.Process): what Thread.Native is while
	// another cage's thread makes a native call that acts on this cage.
	Native any
	// Cancel is the cage's cancel token. It is used as long as the memory is.
	Cancel Canceler
}

// cage is what the system knows of one cage.
type cage struct {
	id   abi.CageID      // immutable
	seq  uint64          // tells cages apart that have the same id one after the other; immutable
	exit *exitcoord.Exit // immutable
	cfg  CageConfig      // immutable
	port atomic.Uint64   // where the shim finds the grate; 0: the cage is no grate. Set once

	// rowMu comes before grateMu, and the rowMu of a lower seq before that of a higher one.
	rowMu lockcheck.Mutex[rowLock]
	row   uintptr // the address of its handlers, 0 as long as it has none; guarded by rowMu
	pairs []*pair // the grates that have handlers here, or had; guarded by rowMu
	over  bool    // it gets no handlers any more; guarded by rowMu

	grateMu lockcheck.Mutex[grateLock]
	serves  []*pair // where it has handlers, or had; guarded by grateMu
	retired bool    // it gets no calls any more; guarded by grateMu

	use       use         // who uses its memory
	releasing atomic.Bool // ReleaseMemory was called
}

// AddCage makes the cage known under id: from here on it can be ended, and named by others. RemoveCage ends that.
//
// # Errors
//
//   - ErrCageExists: another cage has the id, and was not removed
//   - ErrCageID: the id is 2^20 or more
//   - an error of the host: there is no memory for the handler table
func (s *System) AddCage(id abi.CageID, exit *exitcoord.Exit, cfg CageConfig) error {
	if id >= maxCages {
		return fmt.Errorf("add cage %d: %w", id, ErrCageID)
	}
	if err := s.table.open(); err != nil {
		return fmt.Errorf("add cage %d: %w", id, err)
	}
	c := &cage{id: id, seq: s.seq.Add(1), exit: exit, cfg: cfg}
	if !s.cages.Insert(uint64(id), c) {
		return fmt.Errorf("add cage %d: %w", id, ErrCageExists)
	}
	return nil
}

// RemoveCage forgets the cage that has the id and this exit, when it is reaped, and drops its handlers if that was not
// done. Removing one that is not there does nothing.
//
// Preconditions:
// The cage is quiescent, or never ran.
func (s *System) RemoveCage(id abi.CageID, exit *exitcoord.Exit) {
	c := s.find(id, exit)
	if c == nil {
		return
	}
	s.drop(c)
	s.cages.Delete(uint64(id), c)
}

// find is the cage that has the id and this exit, or nil.
func (s *System) find(id abi.CageID, exit *exitcoord.Exit) *cage {
	if c := s.cages.LoadLow(uint64(id)); c != nil && c.exit == exit {
		return c
	}
	return nil
}

// Exit is the exit of the cage that has the id now. It goes on naming that cage when the id is another's: whoever holds
// on to a cage holds on to its Exit, and never to an id (I7 of the exit protocol).
//
// # Errors
//
//   - ErrNoCage: no cage has the id
func (s *System) Exit(id abi.CageID) (*exitcoord.Exit, error) {
	c := s.cages.LoadLow(uint64(id))
	if c == nil {
		return nil, fmt.Errorf("cage %d: %w", id, ErrNoCage)
	}
	return c.exit, nil
}

// SetPort makes the cage that has the id a grate: handlers may be registered in it. The port is what the shim gave out
// for its domain.
//
// # Errors
//
//   - ErrNoCage: no cage has the id
//   - ErrPort: the port is 0 or has more than 38 bits, or the cage has one
func (s *System) SetPort(id abi.CageID, port uint64) error {
	c := s.cages.LoadLow(uint64(id))
	if c == nil {
		return fmt.Errorf("set port of cage %d: %w", id, ErrNoCage)
	}
	if port == 0 || port > maxPort || !c.port.CompareAndSwap(0, port) {
		return fmt.Errorf("set port of cage %d to %#x: %w", id, port, ErrPort)
	}
	return nil
}

// HandlersAddr is the host address of the word that leads to the handlers of the cage that has the id, whether or not it
// was added yet: for the shim. It stays valid until Close.
//
// # Errors
//
//   - ErrCageID: the id is 2^20 or more
//   - an error of the host: there is no memory for the handler table
func (s *System) HandlersAddr(id abi.CageID) (uintptr, error) {
	if id >= maxCages {
		return 0, fmt.Errorf("handlers of cage %d: %w", id, ErrCageID)
	}
	if err := s.table.open(); err != nil {
		return 0, fmt.Errorf("handlers of cage %d: %w", id, err)
	}
	return directoryAt(s.table.dir.Load()).addr(id), nil
}

// named is the cage that has the id, if it runs.
func (s *System) named(id abi.CageID) (*cage, error) {
	c := s.cages.LoadLow(uint64(id))
	if c == nil || c.stopping() {
		return nil, c.errNamed(id)
	}
	return c, nil
}

// errNamed says why c, found under id, is not one to name: there is none if c is nil, else it is stopping.
func (c *cage) errNamed(id abi.CageID) error {
	if c == nil {
		return fmt.Errorf("cage %d: %w", id, ErrNoCage)
	}
	return c.errStopping()
}

// stopping reports whether the cage has begun to stop.
func (c *cage) stopping() bool { return c.exit.Phase() != exitcoord.Running }

func (c *cage) errStopping() error { return fmt.Errorf("cage %d: %w", c.id, ErrStopping) }
