package threei

import (
	"context"
	"fmt"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// NotifyGrates is the notify step of the cage that has the id and this exit: the grate that serves harsh_cage_exit for
// the cage, if there is one, hears that the cage is ending, and goes on to tell the grate that it is stacked on itself,
// or does not. It gets the cage's id and wait status as arguments. Whatever it answers, the exit goes on.
//
// It waits until the grate has answered, for Config.NotifyDeadline at the longest, or until ctx is done; then it returns
// an error, for the report, and the grate is left to itself: see WaitLate.
//
// Preconditions:
// The cage is quiescent, and DropHandlers was not called for it.
func (s *System) NotifyGrates(ctx context.Context, id abi.CageID, exit *exitcoord.Exit) error {
	if s.find(id, exit) == nil {
		return nil
	}
	e := s.table.lookup(id, abi.CallHarshCageExit)
	if !e.isGrate() || s.cfg.CallGrate == nil {
		return nil // one that is gone cannot be told
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.NotifyDeadline)
	defer cancel()
	status, _ := exit.Status()
	a := &Args{Val: [6]uint64{uint64(id), uint64(status.WaitStatus())}}
	t := &Thread{Cage: id, far: far{sys: s, host: true}}
	if _, err := s.callGrateCtx(ctx, t, id, e, abi.CallHarshCageExit, a); err != nil {
		return fmt.Errorf("the grate that was told of the end of cage %d has not answered: %w", id, err)
	}
	return nil
}

// harshCageExitCall is harsh_cage_exit where no grate serves it: the end of the way down.
func harshCageExitCall(*Thread, *Args) int64 { return 0 }

// CallFunction has the grate that has the id and this exit run the function fn of its table, as if it served the call,
// and answers the result; it is ELINDESRCH (see abi.LindResult) if the grate is gone. It blocks until the grate has
// answered, which is at its end at the latest, and WaitLate waits for it.
//
// # Errors
//
//   - ErrNoCage: the cage is gone, or is no grate
//   - ErrPort: no function has that number
func (s *System) CallFunction(id abi.CageID, exit *exitcoord.Exit, fn uint32, call abi.Call, a *Args) (int64, error) {
	c := s.find(id, exit)
	if c == nil || c.port.Load() == 0 || s.cfg.CallGrate == nil {
		return 0, fmt.Errorf("call function %d of grate %d: %w", fn, id, ErrNoCage)
	}
	if fn > maxFn {
		return 0, fmt.Errorf("call function %d of grate %d: %w", fn, id, ErrPort)
	}
	s.late.add(1)
	defer s.late.add(-1)
	t := &Thread{Cage: id, far: far{sys: s, host: true}}
	return s.callGrate(t, id, grateEntry(c.port.Load(), fn), call, a), nil
}
