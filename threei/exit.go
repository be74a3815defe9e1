package threei

import (
	"errors"
	"fmt"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// ErrNoCage is returned for an id that names no cage, or none any more.
var ErrNoCage = errors.New("no such cage")

// ErrCageExists is returned for an id that is taken.
var ErrCageExists = errors.New("the cage exists already")

// AddCage makes the cage known under id: from here on it can be ended.
//
// # Errors
//
//   - ErrCageExists: another cage has the id, and was not removed
func (s *System) AddCage(id abi.CageID, exit *exitcoord.Exit) error {
	if !s.exits.Insert(uint64(id), exit) {
		return fmt.Errorf("add cage %d: %w", id, ErrCageExists)
	}
	return nil
}

// RemoveCage forgets the cage that has the id and this exit, when it is reaped. Removing one that is not there does
// nothing.
func (s *System) RemoveCage(id abi.CageID, exit *exitcoord.Exit) { s.exits.Delete(uint64(id), exit) }

// Exit is the exit of the cage that has the id now. It goes on naming that cage when the id is another's: whoever holds
// on to a cage holds on to its Exit, and never to an id (I7 of the exit protocol).
//
// # Errors
//
//   - ErrNoCage: no cage has the id
func (s *System) Exit(id abi.CageID) (*exitcoord.Exit, error) {
	exit := s.exits.Load(uint64(id))
	if exit == nil {
		return nil, fmt.Errorf("cage %d: %w", id, ErrNoCage)
	}
	return exit, nil
}

// HarshCageExit ends a cage: it is the one entry for every exit, whatever its cause (lind-wasm issue #1072). The first
// cause wins, which is what it reports; asking again is harmless. It begins the exit and never waits for it, so that a
// thread of the cage itself may call it: exit tells when it is over.
func (s *System) HarshCageExit(exit *exitcoord.Exit, cause exitcoord.Cause) (won bool) {
	return exit.Begin(cause)
}
