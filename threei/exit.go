package threei

import (
	"fmt"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// HarshCageExit ends a cage: it is the one entry for every exit, whatever its cause (lind-wasm issue #1072). The first
// cause wins, which is what it reports; asking again is harmless. It begins the exit and never waits for it, so that a
// thread of the cage itself may call it: exit tells when it is over.
func (s *System) HarshCageExit(exit *exitcoord.Exit, cause exitcoord.Cause) (won bool) {
	return exit.Begin(cause)
}

// TriggerHarshCageExit is HarshCageExit of the cage that has the id: Lind's trigger_harsh_cage_exit, which no grate can
// interpose and no guest can call. From when it returns the cage is stopping: it can be given no handlers, and nobody can
// register it as one. That others hear of it, and that what targets it becomes "target gone", are steps of the exit: see
// NotifyGrates and DropHandlers.
//
// # Errors
//
//   - ErrNoCage: no cage has the id
func (s *System) TriggerHarshCageExit(id abi.CageID, cause exitcoord.Cause) (won bool, err error) {
	exit, err := s.Exit(id)
	if err != nil {
		return false, fmt.Errorf("trigger harsh exit: %w", err)
	}
	return s.HarshCageExit(exit, cause), nil
}
