package threei

import (
	"context"
	"errors"

	"github.com/lindbridge/lindbridge/abi"
)

// Errors of cages, and of the calls of 3i. As system calls these answer the numbers that are named here.
var (
	// ErrNoCage is returned for an id that names no cage, or none any more: ELINDESRCH.
	ErrNoCage = errors.New("no such cage")
	// ErrStopping is returned for a cage that has begun to stop: ELINDESRCH.
	ErrStopping = errors.New("the cage is stopping")
	// ErrCageExists is returned for an id that is taken.
	ErrCageExists = errors.New("the cage exists already")
	// ErrCageID is returned for an id that is too large to have handlers.
	ErrCageID = errors.New("the cage's id is too large")
	// ErrPort is returned for a port that is none, and for a second port of a cage.
	ErrPort = errors.New("not a port, or not the cage's first")
	// ErrNoGrate is returned for a handler in a cage that is no grate: ELINDAPIABORTED.
	ErrNoGrate = errors.New("the cage is no grate")
	// ErrCall is returned for a call number, or a function index, that is out of range: ELINDAPIABORTED.
	ErrCall = errors.New("call or function out of range")
	// ErrNoHandlers is returned when the handlers of a cage are to be copied that has none: ELINDAPIABORTED.
	ErrNoHandlers = errors.New("the cage has no handler table")
	// ErrRange is returned for a copy that cannot be made: a length over 4 GiB, a kind that there is not, addresses of one
	// and the same cage, a range that does not lie in memory, a string that does not end in time: ELINDAPIABORTED.
	ErrRange = errors.New("copy out of range")
)

// lindResult is err as a call of 3i answers it: a negative abi.Errno if it has one, else one of Lind's two numbers.
func lindResult(err error) int64 {
	if err == nil {
		return 0
	}
	if e := abi.Errno(0); errors.As(err, &e) {
		return e.Result()
	}
	if errors.Is(err, ErrNoCage) || errors.Is(err, ErrStopping) {
		return abi.LindResult(abi.ELindESRCH)
	}
	return abi.LindResult(abi.ELindAPIAborted)
}

// done is ctx's error if it is over.
func done(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
