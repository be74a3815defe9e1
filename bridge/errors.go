package bridge

import (
	"errors"
	"fmt"
)

// ErrShimNotFound is returned by Open when no shim could be loaded. Its message names each place that was tried.
var ErrShimNotFound = errors.New("shim not found")

// Errors that the shim answers, on any call. Test for them with errors.Is: what is returned has more to say.
var (
	// ErrInvalid is returned for an argument that is out of range or contradicts another.
	ErrInvalid = errors.New("invalid argument")
	// ErrHandle is returned by an object that was closed.
	ErrHandle = errors.New("closed or unknown handle")
	// ErrABI is returned when shim and program were built for different versions of the C ABI.
	ErrABI = errors.New("incompatible shim")
	// ErrIO is returned when the operating system refused.
	ErrIO = errors.New("system error")
	// ErrRuntime is returned when Wasmtime refused.
	ErrRuntime = errors.New("WebAssembly runtime error")
	// ErrPanic is returned when the shim panicked: a bug in it. What the call worked on may be half done.
	ErrPanic = errors.New("shim panicked")
	// ErrUnsupported is returned when this build of the shim lacks what was asked for.
	ErrUnsupported = errors.New("not in this build of the shim")
)

// Errors about a module or about what it asks for: from Engine.Load, Module.NewDomain, Domain.Start,
// Domain.SpawnThread.
var (
	// ErrModule is returned for bytes that are no valid module.
	ErrModule = errors.New("invalid module")
	// ErrImport is returned when a module imports what was not defined, or with another type.
	ErrImport = errors.New("unknown or mismatched import")
	// ErrExport is returned when a module lacks an export, or has it with another type.
	ErrExport = errors.New("missing or mismatched export")
	// ErrMemory is returned when a linear memory is larger than allowed, or could not be reserved.
	ErrMemory = errors.New("memory limit")
)

// Errors about the state of a running domain.
var (
	// ErrLimit is returned when a limit on threads was reached: EAGAIN.
	ErrLimit = errors.New("thread limit reached")
	// ErrClosed is returned when something is asked to enter a domain that is stopping.
	ErrClosed = errors.New("domain is stopping")
	// ErrDepth is returned when calls into grates are nested too deep: ELOOP.
	ErrDepth = errors.New("calls are nested too deep")
	// ErrBusy is returned by a Close of what is still in use, which stays open, and for what can be done once and was.
	ErrBusy = errors.New("still in use")
)

// sentinel is the error that stands for a status of the C ABI other than statusOK. The second result is false for a
// status that this version of the ABI does not have.
func sentinel(status int32) (error, bool) {
	switch status {
	case statusInvalid:
		return ErrInvalid, true
	case statusHandle:
		return ErrHandle, true
	case statusModule:
		return ErrModule, true
	case statusImport:
		return ErrImport, true
	case statusExport:
		return ErrExport, true
	case statusMemory:
		return ErrMemory, true
	case statusLimit:
		return ErrLimit, true
	case statusClosed:
		return ErrClosed, true
	case statusBusy:
		return ErrBusy, true
	case statusIO:
		return ErrIO, true
	case statusRuntime:
		return ErrRuntime, true
	case statusPanic:
		return ErrPanic, true
	case statusABI:
		return ErrABI, true
	case statusDepth:
		return ErrDepth, true
	case statusUnsupported:
		return ErrUnsupported, true
	}
	return ErrRuntime, false
}

// statusError is a failed call's error. message is the shim's own text and may be empty.
func statusError(status int32, message string) error {
	err, known := sentinel(status)
	if !known {
		return fmt.Errorf("%w: unknown status %d of the shim: %s", err, status, message)
	}
	if message == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, message)
}
