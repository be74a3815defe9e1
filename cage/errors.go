package cage

import (
	"errors"

	"github.com/lindbridge/lindbridge/abi"
)

// Errors that a guest's own call may meet. Each wraps the abi.Errno that Linux answers it with, which errors.As
// finds.
var (
	// ErrLimit is returned when as many cages as Config.MaxCages hold an id. EAGAIN, as fork has it.
	ErrLimit error = &callError{"too many cages", abi.EAGAIN}
	// ErrNoParent is returned for a parent that does not exist, has ended, or has given its children away. ESRCH.
	ErrNoParent error = &callError{"no such parent", abi.ESRCH}
	// ErrNoChild is returned by a wait for which there is no child, or none any more. ECHILD.
	ErrNoChild error = &callError{"no such child", abi.ECHILD}
)

// Errors that mean a caller's mistake.
var (
	// ErrState is returned for a move that a cage cannot make from where it is, such as a second Reap.
	ErrState = errors.New("not possible in this state")
	// ErrNotHeld is returned for a Reap of a cage that is not the host's to reap. See "Who reaps what".
	ErrNotHeld = errors.New("not the host's to reap")
	// ErrStale is returned for a handle or a cage that this table does not have, or not any more.
	ErrStale = errors.New("no such cage")
)

// callError is a sentinel with the error number that a guest gets.
type callError struct {
	text  string
	errno abi.Errno
}

func (e *callError) Error() string { return e.text }
func (e *callError) Unwrap() error { return e.errno }
