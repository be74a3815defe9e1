package lindbridge

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/fault"
	"github.com/lindbridge/lindbridge/lindabi"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// handler is the runtime as the bridge sees it.
type handler Runtime

// HostCall carries out a function that a guest imports.
func (h *handler) HostCall(call *bridge.Call) bridge.Verdict {
	g, ok := call.ThreadData().(*guestThread)
	if !ok {
		c, ok := call.User().(*Cage)
		if !ok {
			return bridge.TrapThread
		}
		g = c.thread(call.TID())
		call.SetThreadData(g)
	}
	t, c := &g.Thread, g.cage
	if fault.Enabled {
		c.audit(fault.Called)
		_ = c.fail(fault.HostCall)
		defer func() { _ = c.fail(fault.HostCallEnd) }()
	}
	t.Memory = call.Memory()
	resumed := call.Resumed()
	if resumed == bridge.ResumedInterrupted {
		return h.interrupted(call)
	}
	t.BeginHostCall(resumed != bridge.ResumedRefused, resumed != bridge.NotResumed)
	if call.Worker() {
		return h.workerCall(call, t, c)
	}
	return h.carryOut(call, t, c)
}

// guestThread is the host side of a guest's thread: its bridge.Call.ThreadData, from its first host call on.
type guestThread struct {
	threei.Thread
	cage *Cage // immutable
}

// thread is that of a thread of c that has made no host call yet.
func (c *Cage) thread(tid uint32) *guestThread {
	return &guestThread{threei.Thread{Cage: c.ID(), TID: int32(tid), Cancel: (*canceler)(c), Native: c.proc}, c}
}

// carryOut carries the call out for the thread t of c.
func (h *handler) carryOut(call *bridge.Call, t *threei.Thread, c *Cage) bridge.Verdict {
	result, verdict := uint64(0), wasip1.Continue
	if fn := call.Import(); lindabi.Serves(fn) {
		result = lindabi.Call(h.sys, t, fn, call.Slots())
	} else {
		result, verdict = h.wasi.Call(t, c.env, fn, call)
	}
	if t.IsParked() {
		park(call, t)
		return bridge.WaitThread
	}
	call.SetResult(result)
	if t.Quit {
		return bridge.QuitThread
	}
	return bridge.Verdict(verdict)
}

// The shim has room for all that a thread can be parked for: this fails to compile where it has not.
var _ = [bridge.MaxWait - threei.MaxWait]struct{}{}

// park passes on what the thread waits for.
func park(call *bridge.Call, t *threei.Thread) {
	fds, timeout, _ := t.Parked()
	var wait [threei.MaxWait]bridge.WaitFD
	for i, fd := range fds {
		wait[i] = bridge.WaitFD{FD: fd.FD, Events: uint32(uint16(fd.Events))}
	}
	call.Wait(wait[:len(fds)], timeout)
}

// workerCall is carryOut for a worker of the grate c.
func (h *handler) workerCall(call *bridge.Call, t *threei.Thread, c *Cage) bridge.Verdict {
	token := h.serve(call, t, c)
	defer token.close()
	verdict := h.carryOut(call, t, c)
	h.quitCallers(t)
	return verdict
}

// quitCallers ends those whom a worker serves, and for whom it has just made a call that ends a thread.
func (h *handler) quitCallers(t *threei.Thread) {
	i := 0
	for caller := t.Caller; caller != nil; caller = caller.Caller {
		if caller.Quit {
			_ = h.engine.QuitCaller(i) // it is there, since it waits for this thread
		}
		i++
	}
}

// interrupted ends a call that a worker waits in: somebody whom it serves is stopping.
func (h *handler) interrupted(call *bridge.Call) bridge.Verdict {
	if lindabi.Serves(call.Import()) {
		call.SetResult(uint64(uint32(abi.EINTR.Result())))
	} else {
		call.SetResult(uint64(wasip1.ErrnoIntr))
	}
	return bridge.Continue
}

// serve prepares the thread of a worker of c for a host call: whom it serves, and what interrupts it.
func (h *handler) serve(call *bridge.Call, t *threei.Thread, c *Cage) *workerToken {
	token := &workerToken{cage: c, rt: (*Runtime)(h), fd: -1}
	t.Cancel = token
	t.Caller = nil
	switch user := call.CallerUser().(type) {
	case nil: // the host's own call
	case *Cage:
		if call.Depth() > 1 {
			t.Caller = h.callers()
			break
		}
		caller, ok := call.CallerData().(*guestThread)
		if !ok {
			caller = user.thread(0) // which thread it is does not matter to whom it serves
		}
		t.Caller = &caller.Thread
	}
	return token
}

// callers is the chain of threads that the calling worker serves. Each of them waits for this one, on the same OS thread.
func (h *handler) callers() *threei.Thread {
	list, err := h.engine.Callers()
	if err != nil {
		return nil // then it may name nobody but its own cage
	}
	var outer *threei.Thread
	for _, caller := range slices.Backward(list) {
		user, ok := caller.User.(*Cage)
		if !ok {
			continue // the host
		}
		t, ok := caller.Data.(*guestThread)
		if !ok {
			t = user.thread(caller.TID)
		}
		if caller.Worker {
			t.Caller = outer
		}
		outer = &t.Thread
	}
	return outer
}

// workerToken is the cancel token of a worker during one host call: it fires when the grate stops, or somebody whom the
// worker serves.
type workerToken struct {
	cage      *Cage
	rt        *Runtime
	fd        int // the joined one; -1 if it was not asked for
	interrupt int
}

// CancelFD is readable when the grate stops or the worker's call is to be interrupted.
func (w *workerToken) CancelFD() (int, error) {
	if w.fd >= 0 {
		return w.fd, nil
	}
	own, err := w.cage.dom.CancelFD()
	if err != nil {
		return -1, err
	}
	if w.interrupt, err = w.rt.engine.InterruptFD(); err != nil {
		return -1, err
	}
	fd, err := threei.JoinTokens(own, w.interrupt)
	if err != nil {
		return -1, err
	}
	w.fd = fd
	return fd, nil
}

// Stopping reports whether the grate's exit has begun.
func (w *workerToken) Stopping() bool { return (*canceler)(w.cage).Stopping() }

// close ends the host call. If it was interrupted, that is over: the worker's later calls may block again.
func (w *workerToken) close() {
	if w.fd < 0 {
		return
	}
	_ = unix.Close(w.fd)
	var count [8]byte
	_, _ = unix.Read(w.interrupt, count[:]) // it does not block, and there may be nothing
}

// ThreadEnd turns the end of a thread into the end of its cage, where it is that.
func (h *handler) ThreadEnd(e *bridge.ThreadEnd) {
	c, ok := e.User.(*Cage)
	if !ok {
		return
	}
	if fault.Enabled {
		c.audit(fault.Ended)
		_ = c.faulty(fault.ThreadEnd, func() error { c.threadEnd(e); return nil })
		return
	}
	c.threadEnd(e)
}

// threadEnd is ThreadEnd of a thread of c.
func (c *Cage) threadEnd(e *bridge.ThreadEnd) {
	cause := exitcoord.Cause{TID: int32(e.TID), Message: e.Message, Backtrace: e.Backtrace}
	if e.Worker {
		// One that trapped ends its grate, as a signal ends a process. One that was discarded is the end of no more than
		// itself, and one that could not start was the end of nothing.
		if e.Outcome == bridge.EndTrapped {
			cause.Kind = exitcoord.Trap
			c.end(cause)
		}
		return
	}
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
		if t, ok := e.ThreadData.(*guestThread); ok {
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
	quiescent := c.quiescent
	if fault.Enabled {
		quiescent = func(r *bridge.Report) error {
			return c.faulty(fault.Quiescent, func() error { return c.quiescent(r) })
		}
	}
	if err := quiescent(r); err != nil {
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
	var shut bool
	if fault.Enabled {
		if (*Cage)(k).fail(fault.SpawnThread) != nil {
			k.threads.Add(-1)
			return 0, abi.EAGAIN
		}
		shut = k.shut.Load()
	}
	tid, err := k.dom.SpawnThread(startArg)
	if err != nil {
		k.threads.Add(-1)
		return 0, abi.EAGAIN
	}
	if fault.Enabled {
		(*Cage)(k).auditStart(shut)
	}
	return int32(tid), 0
}

// Signal ends a cage by a signal: the caller's own, or one that it serves as a grate. Signals to others come with the
// signals of cages.
func (k *hooks) Signal(t *threei.Thread, target abi.CageID, sig int32) abi.Errno {
	c := (*Cage)(k)
	if target != c.ID() {
		other := c.rt.running.Load(uint64(target))
		switch {
		case other == nil:
			return abi.ESRCH
		case !c.rt.mayInterpose(c.ID(), target) && !t.Serves(target):
			return abi.EPERM
		}
		c = other
	}
	if sig != 0 && !ignoredByDefault(sig) {
		c.end(exitcoord.Cause{Kind: exitcoord.Signal, Signal: sig, TID: t.TID})
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
