package bridge

import (
	"fmt"
	"time"
)

// GrateConfig says how Domain.OpenGrate opens a grate.
type GrateConfig struct {
	// MaxWorkers is the most calls that are served at once, at most 1024. 0: 16. Of a module that was not built with a
	// shared memory it is 1, whatever is said here.
	MaxWorkers uint32
	// StackBytes is the guest's stack of each worker. 0: 64 KiB.
	StackBytes uint64
	// Again makes callers that find all workers serving get ErrLimit, in a guest EAGAIN, instead of waiting.
	Again bool
}

// grateArgs is how many words the arguments of a call are: six, each with the cage that it belongs to.
const grateArgs = 12

// OpenGrate makes the domain a grate: from here on it serves the system calls of others whose handlers name its port, each
// on the thread that makes it, by a worker of its own. The domain's stop closes the port, which is not given out again. A
// port has at most 38 bits and is not 0. A domain is opened once, before or after Start, and from then on has to be stopped
// before it is closed.
//
// # Errors
//
//   - ErrExport: the module lacks what workers need, or has a memory of its own and was not loaded by LoadGrate; the
//     message says how to link it
//   - ErrClosed: the domain is stopping
//   - ErrBusy: it is a grate already
//   - ErrLimit: there are 65,536 grates
func (d *Domain) OpenGrate(cfg GrateConfig) (port uint64, err error) {
	handle, err := d.enter("open grate in")
	if err != nil {
		return 0, err
	}
	c := grateConfigABI{structSize: grateConfigBytes, maxWorkers: cfg.MaxWorkers, stackBytes: cfg.StackBytes}
	if cfg.Again {
		c.busy = 1
	}
	port, err = d.engine.lib.grateOpen(handle, &c)
	return port, d.entered("open grate in", err)
}

// GrateCall has the grate that a word of the handler table names serve a call, in the name of the cage with that number.
// args are six arguments, each followed by the cage that it belongs to. Within Handler.HostCall, on its thread, it is a
// nested call of that guest thread, and is interrupted with it; elsewhere it is the host's own. It blocks until the grate
// has answered, or is gone. The result is what the caller is to get: abi.GrateErr if the grate died while it served, and
// -EINTR if the guest thread is being stopped, which ends when its host call returns.
//
// # Errors
//
//   - ErrClosed: the entry names no grate that is there
//   - ErrLimit: the grate has no worker for it, and does not let callers wait, or its memory has no room for one
//   - ErrDepth: calls are nested too deep, or too little of the thread's stack is left
func (e *Engine) GrateCall(entry, cage, call uint64, args *[12]uint64) (int32, error) {
	return e.lib.grateCall(entry, cage, call, args)
}

// InterruptFD is a descriptor for a HostCall of a worker that blocks by itself: it becomes readable when a domain whose
// call the calling thread serves begins to stop. The call is to end with EINTR then, after it has read the descriptor,
// once, for later calls of the same worker may block again. It is to be polled beside Domain.CancelFD, which tells of the
// grate's own stop. It belongs to the shim, and is good until HostCall returns. It is ErrInvalid outside HostCall.
func (e *Engine) InterruptFD() (int, error) {
	fd, err := e.lib.callInterruptFD()
	return int(fd), err
}

// Caller is a guest thread that waits for a worker to serve its call.
type Caller struct {
	// User is its domain's DomainConfig.User.
	User any
	// Data is the thread's ThreadData, or nil.
	Data any
	// TID is the thread's id within its domain.
	TID uint32
	// Worker says that it is itself a worker, which serves the next caller in the list.
	Worker bool
}

// Callers lists whom the calling thread serves, the innermost first, if it is a worker within Handler.HostCall. It is
// empty for a call that the host made.
func (e *Engine) Callers() ([]Caller, error) {
	list := make([]callerABI, 16)
	n, err := e.lib.callCallers(list)
	if err != nil {
		return nil, fmt.Errorf("callers: %w", err)
	}
	if n > uint64(len(list)) {
		list = make([]callerABI, n) // it is this thread's own list, which does not change meanwhile
		if n, err = e.lib.callCallers(list); err != nil {
			return nil, fmt.Errorf("callers: %w", err)
		}
	}
	callers := make([]Caller, min(n, uint64(len(list))))
	for i := range callers {
		c := &list[i]
		callers[i] = Caller{TID: c.tid, Worker: c.worker != 0}
		if d := process.domains.at(c.user); d != nil {
			callers[i].User = d.value.user
		}
		if t := process.threads.at(c.threadUser); t != nil {
			callers[i].Data = t.value
		}
	}
	return callers, nil
}

// QuitCaller ends the i-th of Callers when it comes back to its guest, with EndQuit. For one that is in a HostCall itself
// it does nothing: that call's verdict counts. It is ErrInvalid if there is no such caller.
func (e *Engine) QuitCaller(i int) error { return e.lib.callQuitCaller(uint64(i)) }

// CallerData is the ThreadData of the thread whose call the worker serves that makes this call, and CallerUser the
// DomainConfig.User of its domain. Each is nil if there is none, as for a call that the host made. They allocate nothing.
func (c *Call) CallerData() any {
	if t := process.threads.at(c.c.callerThreadUser); t != nil {
		return t.value
	}
	return nil
}

// CallerUser is described at CallerData.
func (c *Call) CallerUser() any {
	if d := process.domains.at(c.c.callerUser); d != nil {
		return d.value.user
	}
	return nil
}

// Trace is a call that a grate has served.
type Trace struct {
	// User is the DomainConfig.User of the domain that made the call, nil for the host's; TID is its thread, and Data that
	// one's ThreadData, or nil.
	User any
	TID  uint32
	Data any
	// Depth is how many workers deep it was served: 1 for a call of a program.
	Depth uint32
	// GrateUser is the grate's DomainConfig.User, nil if the grate has died meanwhile and was closed.
	GrateUser any
	// Call is its number, Args its arguments, ArgCages whose each of them is, and Result what the caller gets.
	Call     uint64
	Args     [6]uint64
	ArgCages [6]uint64
	Result   int32
	// Begin is when it began, by CLOCK_MONOTONIC: see MonotonicNow. Took includes the wait for a worker.
	Begin, Took time.Duration
}

// traced tells Config.Trace of a call.
func traced(c *traceABI) {
	crossing()
	t := Trace{
		TID: c.tid, Depth: c.depth, Call: c.call, Args: c.args, ArgCages: c.argcages,
		Result: c.result, Begin: time.Duration(c.startNs), Took: time.Duration(c.durationNs),
	}
	// The caller is out of the grate by now, which may be gone. A caller that is a guest is there until this returns.
	var whose *Domain
	if d := process.domains.at(c.user); d != nil {
		whose, t.User = d.value, d.value.user
	}
	if d := process.domains.at(c.grateUser); d != nil {
		whose, t.GrateUser = d.value, d.value.user
	}
	if whose == nil {
		return // of a call that the host made: it knows the result
	}
	e := whose.engine
	if data := process.threads.at(c.threadUser); data != nil {
		t.Data = data.value
	}
	returned := false
	defer func() {
		if !returned {
			e.recovered(recover(), whose)
		}
	}()
	e.trace(t)
	returned = true
}
