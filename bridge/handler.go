package bridge

import "strconv"

// Handler is the host above the bridge: it carries out host calls, and it is told how threads and domains end.
//
// Its methods are called on OS threads of the shim (Quiescent also on the goroutine that called Domain.Stop), many at
// once, and may use every method of this package, on their own domain too. They hold no lock of the bridge or of the
// shim. They must not call runtime.Goexit, and so not testing.T.FailNow: the Go runtime ends the process when a thread
// that it did not create does.
//
// A method that panics is recovered: see Config.OnPanic.
type Handler interface {
	// HostCall carries out a call that a guest thread makes of one of the imports from Engine.Define, on that
	// thread. It may block, as long as it returns soon after Domain.CancelFD becomes readable. c is good until it
	// returns.
	HostCall(c *Call) Verdict
	// ThreadEnd is told that a guest thread has left the guest for good, on that thread, which still counts as inside
	// its domain: Quiescent comes only after ThreadEnd has returned. It may stop the domain. e is good until it returns.
	// Of threads that are stopped with their domain it is not told: the Report has them, and the bridge forgets their
	// ThreadData then.
	ThreadEnd(e *ThreadEnd)
	// Quiescent is told, exactly once for each domain that was stopped, that no thread of it runs, nor ever will. It
	// may close the domain. It is called on the thread that left last or, if the domain had no thread inside, by
	// Domain.Stop before that returns. r is the handler's to keep.
	Quiescent(r *Report)
}

// Verdict is what a host call's handler decides for the calling thread.
type Verdict int32

const (
	// Continue lets the thread go on in the guest, unless its domain is stopping by then.
	Continue Verdict = 0
	// QuitThread ends the thread, and only it, with EndQuit.
	QuitThread Verdict = 1
	// TrapThread makes the thread trap, with EndTrapped: the host failed.
	TrapThread Verdict = 2
	// WaitThread has the shim wait for what Call.Wait says, outside Go, and then make the same call again with
	// Call.Resumed set; or never again, if the domain is stopped meanwhile: so the handler keeps nothing for the call that
	// would have to be given back. A thread that waits so holds no thread of the Go runtime's scheduler, and a stop does
	// not have to wait until it has woken.
	WaitThread Verdict = 3
)

// Resumed is how the wait of a WaitThread ended.
type Resumed uint32

const (
	// NotResumed is a call that is made for the first time.
	NotResumed = Resumed(resumedNot)
	// ResumedReady says that a descriptor may be ready.
	ResumedReady = Resumed(resumedReady)
	// ResumedTimedOut says that the time is over.
	ResumedTimedOut = Resumed(resumedTimedOut)
	// ResumedRefused says that the shim cannot wait for these descriptors here: the handler has to wait itself.
	ResumedRefused = Resumed(resumedRefused)
	// ResumedInterrupted says that a caller which the worker serves is stopping: the call is to end with EINTR. It is told
	// once, and to workers alone.
	ResumedInterrupted = Resumed(resumedInterrupted)
)

// String is the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Continue:
		return "continue"
	case QuitThread:
		return "quit thread"
	case TrapThread:
		return "trap thread"
	case WaitThread:
		return "wait"
	}
	return "unknown verdict " + strconv.FormatInt(int64(v), 10)
}
