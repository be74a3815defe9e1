package bridge

import (
	"strconv"
	"time"
)

// Outcome says why a guest thread left the guest.
type Outcome uint32

const (
	// EndReturned: the function that the thread began in returned.
	EndReturned Outcome = 0
	// EndQuit: a handler said QuitThread.
	EndQuit Outcome = 1
	// EndStopped: its domain was stopped.
	EndStopped Outcome = 2
	// EndTrapped: the guest trapped, or a handler said TrapThread.
	EndTrapped Outcome = 3
	// EndStartFailed: it never entered the guest, since its instance could not be made.
	EndStartFailed Outcome = 4
	// EndDiscarded: a worker whose caller was stopped, and which did not come to an end within the caller's grace. What it
	// was about in its grate is half done.
	EndDiscarded Outcome = 5
)

// String is the outcome in a word or two.
func (o Outcome) String() string {
	switch o {
	case EndReturned:
		return "returned"
	case EndQuit:
		return "quit"
	case EndStopped:
		return "stopped"
	case EndTrapped:
		return "trapped"
	case EndStartFailed:
		return "start failed"
	case EndDiscarded:
		return "discarded"
	}
	return "unknown outcome " + strconv.FormatUint(uint64(o), 10)
}

// At says where a guest thread is.
type At uint32

const (
	// AtStarting: not in the guest yet.
	AtStarting At = 0
	// AtGuest: running guest code.
	AtGuest At = 1
	// AtHostCall: in a host call.
	AtHostCall At = 2
	// AtAtomicWait: parked in memory.atomic.wait32 or wait64.
	AtAtomicWait At = 3
	// AtEnded: it has left the guest for good.
	AtEnded At = 4
	// AtGrate: inside a grate, or waiting for one of its workers.
	AtGrate At = 5
	// AtIdle: a worker without a call to serve.
	AtIdle At = 6
)

// String is the place in a word or two.
func (a At) String() string {
	switch a {
	case AtStarting:
		return "starting"
	case AtGuest:
		return "guest"
	case AtHostCall:
		return "host call"
	case AtAtomicWait:
		return "atomic wait"
	case AtEnded:
		return "ended"
	case AtGrate:
		return "grate"
	case AtIdle:
		return "idle"
	}
	return "unknown place " + strconv.FormatUint(uint64(a), 10)
}

// ThreadState is where a guest thread is or, in a Report, was when its domain began to stop. Times are readings of
// CLOCK_MONOTONIC: see MonotonicNow.
type ThreadState struct {
	// TID is the thread's id within its domain.
	TID uint32
	// At is the place.
	At At
	// Import is the Import.ID of the function that it called, AtHostCall; ImportName is its name.
	Import     uint32
	ImportName string
	// Address is the offset in linear memory that it waits at, AtAtomicWait; the grate's port, AtGrate.
	Address uint64
	// Call is the number of the system call that a grate serves for it, AtGrate.
	Call uint32
	// Since is when that began, to a few milliseconds; 0 in guest code, of which nobody takes the time.
	Since time.Duration
	// Left is when the thread left the guest for good, 0 if it has not.
	Left time.Duration
	// Outcome is why, once Left is set.
	Outcome Outcome
	// Worker says that it is a worker of the domain, which is a grate.
	Worker bool
	// Torn says that a worker which served the thread was trapped when its time was over: the state of its grate may be
	// half changed.
	Torn bool
	// Function is the innermost guest function when it left, or "" if that is not known.
	Function string
}

// Where is the place with its particulars: "guest", "host call fd_read", "atomic wait at 0x40", "starting", "ended".
func (t ThreadState) Where() string {
	switch t.At {
	case AtHostCall:
		return "host call " + t.importName()
	case AtAtomicWait:
		return "atomic wait at 0x" + strconv.FormatUint(t.Address, 16)
	case AtGrate:
		return "a grate, for call " + strconv.FormatUint(uint64(t.Call), 10)
	}
	return t.At.String()
}

func (t ThreadState) importName() string {
	if t.ImportName != "" {
		return t.ImportName
	}
	return strconv.FormatUint(uint64(t.Import), 10)
}

// String is a line about the thread: "thread 2: host call fd_read; stopped in main".
func (t ThreadState) String() string {
	kind := "thread "
	if t.Worker {
		kind = "worker "
	}
	s := kind + strconv.FormatUint(uint64(t.TID), 10) + ": " + t.Where()
	if t.Left != 0 {
		s += "; " + t.Outcome.String()
		if t.Function != "" {
			s += " in " + t.Function
		}
	}
	return s
}

// ThreadEnd is the end of one guest thread. It is good until Handler.ThreadEnd returns; its strings are Go's own.
type ThreadEnd struct {
	// User is the domain's DomainConfig.User.
	User any
	// Domain is the thread's domain.
	Domain *Domain
	// ThreadData is what Call.SetThreadData set last, or nil. The bridge forgets it after this call.
	ThreadData any
	// TID is the thread's id within its domain.
	TID uint32
	// Main is true of the thread that Domain.Start started.
	Main bool
	// Worker is true of a worker of a grate that is of no further use: Outcome is EndTrapped, EndQuit, EndStartFailed or
	// EndDiscarded. The call that it served answers abi.GrateErr to its caller after this.
	Worker bool
	// Outcome is why it ended.
	Outcome Outcome
	// TrapCode is, for a trap of WebAssembly itself, one more than Wasmtime's number of it (wasmtime_trap_code_enum in
	// its C API), and else 0.
	TrapCode uint32
	// Message is the trap, or why the start failed, in words; Backtrace has a line for each guest frame, the innermost
	// first. Both are empty where there is nothing to say.
	Message, Backtrace string
}

// Report is the end of one domain. Times are readings of CLOCK_MONOTONIC: see MonotonicNow.
type Report struct {
	// User is the domain's DomainConfig.User.
	User any
	// Domain is the domain.
	Domain *Domain
	// Stopped is when it began to stop, Quiescent when the last thread had left.
	Stopped, Quiescent time.Duration
	// Threads are the threads that were inside when it began to stop, as they were then.
	Threads []ThreadState
	// ThreadsTotal is how many threads the domain ever had.
	ThreadsTotal uint64
	// OnPool is whether the handler is told on a thread of the engine's, not on a goroutine's that runs a guest thread or
	// has stopped the domain.
	OnPool bool
}

// Took is how long it took to stop.
func (r *Report) Took() time.Duration { return r.Quiescent - r.Stopped }
