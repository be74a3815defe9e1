package lindbridge

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/threei"
)

// handler is the runtime as the bridge sees it.
type handler Runtime

// HostCall carries out a WASI function.
func (h *handler) HostCall(call *bridge.Call) bridge.Verdict {
	c, ok := call.User().(*Cage)
	if !ok {
		return bridge.TrapThread
	}
	t, ok := call.ThreadData().(*threei.Thread)
	if !ok {
		t = &threei.Thread{Cage: c.ID(), TID: int32(call.TID()), Cancel: (*canceler)(c), Native: c.proc}
		call.SetThreadData(t)
	}
	t.Memory = call.Memory()
	resumed := call.Resumed()
	t.BeginHostCall(resumed != bridge.ResumedRefused, resumed != bridge.NotResumed)
	result, verdict := h.wasi.Call(t, c.env, call.Import(), call)
	if fds, timeout, parked := t.Parked(); parked {
		var wait [threei.MaxWait]bridge.WaitFD
		for i, fd := range fds {
			wait[i] = bridge.WaitFD{FD: fd.FD, Events: uint32(uint16(fd.Events))}
		}
		call.Wait(wait[:len(fds)], timeout)
		return bridge.WaitThread
	}
	call.SetResult(result)
	if t.Quit {
		return bridge.QuitThread
	}
	return bridge.Verdict(verdict)
}

// ThreadEnd turns the end of a thread into the end of its cage, where it is that.
func (h *handler) ThreadEnd(e *bridge.ThreadEnd) {
	c, ok := e.User.(*Cage)
	if !ok {
		return
	}
	cause := exitcoord.Cause{TID: int32(e.TID), Message: e.Message, Backtrace: e.Backtrace}
	switch e.Outcome {
	case bridge.EndStopped:
		return // the exit is under way, and its cause known
	case bridge.EndTrapped:
		cause.Kind = exitcoord.Trap
	case bridge.EndStartFailed:
		cause.Kind = exitcoord.StartFailed
	case bridge.EndReturned:
		if e.Main {
			// As wasi-threads has it, a return of main ends the other threads.
			cause.Kind = exitcoord.MainReturned
		}
	case bridge.EndQuit:
		if t, ok := e.ThreadData.(*threei.Thread); ok {
			cause.Code = t.QuitStatus
		}
	}
	if cause.Kind != 0 {
		// Must precede the count, so that another thread that ends just now is the last one only after this cause won.
		c.end(cause)
		c.threads.Add(-1)
		return
	}
	// One thread's end sets the status of the cage only if no other thread lives (lind-wasm issue #1169).
	if c.threads.Add(-1) > 0 {
		return
	}
	cause.Kind = exitcoord.LastThread
	c.end(cause)
}

// Quiescent goes on with the cleanup of a cage whose execution is over.
func (h *handler) Quiescent(r *bridge.Report) {
	c, ok := r.User.(*Cage)
	if !ok {
		return
	}
	if err := c.quiescent(r); err != nil {
		// The protocol's own invariant is broken, and going on could free what is in use.
		panic(err)
	}
}

// canceler is a cage's cancel token.
type canceler Cage

// CancelFD is readable when the cage stops.
func (c *canceler) CancelFD() (int, error) { return c.dom.CancelFD() }

// Stopping reports whether the cage's exit has begun.
func (c *canceler) Stopping() bool { return c.exit.Phase() != exitcoord.Running }

// hooks are the system calls that start or end threads and cages.
type hooks Cage

// ExitGroup ends the cage with the status that the guest gave.
func (k *hooks) ExitGroup(t *threei.Thread, status int32) {
	(*Cage)(k).end(exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: status, TID: t.TID})
}

// ExitThread ends the calling thread when its call is over.
func (k *hooks) ExitThread(t *threei.Thread, status int32) { t.Quit, t.QuitStatus = true, status }

// SpawnThread starts a thread of the cage.
func (k *hooks) SpawnThread(_ *threei.Thread, startArg uint32) (int32, abi.Errno) {
	// Counted before it runs, since it may have ended before SpawnThread returns.
	k.threads.Add(1)
	tid, err := k.dom.SpawnThread(startArg)
	if err != nil {
		k.threads.Add(-1)
		return 0, abi.EAGAIN
	}
	return int32(tid), 0
}

// Signal ends the calling cage by a signal to itself. Signals to others come with the signals of cages.
func (k *hooks) Signal(t *threei.Thread, target abi.CageID, sig int32) abi.Errno {
	if target != t.Cage {
		return abi.EPERM
	}
	if sig != 0 && !ignoredByDefault(sig) {
		(*Cage)(k).end(exitcoord.Cause{Kind: exitcoord.Signal, Signal: sig, TID: t.TID})
	}
	return 0
}

// ignoredByDefault reports whether a signal that has no handler does nothing: SIGCHLD, SIGCONT, SIGURG and SIGWINCH. See
// signal(7). A cage has no job control, so that the signals that stop a process do nothing either.
func ignoredByDefault(sig int32) bool {
	switch sig {
	case 17, 18, 19, 20, 21, 22, 23, 28:
		return true
	}
	return false
}
