package fdtables

import (
	"errors"
	"fmt"

	"github.com/lindbridge/lindbridge/abi"
)

// Errors of the calls that name a cage.
var (
	// ErrNoCage is returned for a cage that has no table: it never had one, or it was removed.
	ErrNoCage = errors.New("cage has no descriptor table")
	// ErrCageExists is returned by Init and Fork for a cage that has a table already.
	ErrCageExists = errors.New("cage has a descriptor table already")
)

// Errors of close handlers that have a deadline (see Handlers.Deadline).
var (
	// ErrHandlerDeadline is the error of one that had not returned at its deadline. It may do so yet.
	ErrHandlerDeadline = errors.New("close handler has not returned")
	// ErrHandlerGoexit is the error of one that ended its goroutine instead of returning.
	ErrHandlerGoexit = errors.New("close handler called runtime.Goexit")
)

// UnknownFD is the FD of a CloseError of a descriptor whose number nobody knows any more: it was closed while an I/O
// was in flight, and its Last handler ran when the I/O ended.
const UnknownFD FD = -1

// CloseError says that a close handler failed. The descriptor is closed all the same.
type CloseError struct {
	// Cage is the cage that the descriptor belonged to, 0 where FD is UnknownFD.
	Cage abi.CageID
	FD   FD
	// Entry is the entry that the handler was called with.
	Entry Entry
	// Remaining is how many table references remained: 0 if it was the Last handler that failed.
	Remaining uint64
	// Err is what the handler returned, or a *PanicError.
	Err error
}

// Error names the cage, the descriptor, the kind and the underfd, and says why.
func (e *CloseError) Error() string {
	return fmt.Sprintf("close fd %d of cage %d (kind %d, underfd %d, %d references left): %v",
		e.FD, e.Cage, e.Entry.Kind, e.Entry.UnderFD, e.Remaining, e.Err)
}

// Unwrap is the handler's error. If that is an abi.Errno, errors.As finds it.
func (e *CloseError) Unwrap() error { return e.Err }

// PanicError is the error of a close handler that panicked.
type PanicError struct {
	// Value is what the handler panicked with.
	Value any
	// Stack is the stack of the handler's goroutine when it did, as runtime/debug.Stack has it.
	Stack []byte
}

// Error is the panic's value, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("close handler panicked: %v", e.Value) }

// Unwrap is the panic's value if it was an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
