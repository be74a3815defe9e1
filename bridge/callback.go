package bridge

import (
	"runtime/debug"
	"time"
)

// This file implements the Go end of the three callbacks. They run on OS threads of the shim, or deep in a goroutine's
// call of the shim, and nothing may unwind out of them: each recovers.

// hostCall carries out one host call.
func hostCall(c *Call) (v Verdict) {
	crossing()
	entry := process.domains.at(c.c.user)
	if entry == nil {
		return QuitThread // of a domain that was deleted: the shim promises that there is no such thread
	}
	d := entry.value
	returned := false
	defer func() {
		if !returned {
			v = TrapThread
			d.engine.recovered(recover(), d)
		}
	}()
	v = d.engine.handler.HostCall(c)
	returned = true
	return v
}

// threadEnd tells the handler of a thread's end, and then frees the thread's data.
func threadEnd(c *threadEndABI) {
	crossing()
	// Must follow the handler, which is given the data.
	defer func() {
		if c.threadUser != 0 {
			process.threads.drop(c.threadUser)
		}
	}()
	entry := process.domains.at(c.user)
	if entry == nil {
		return
	}
	d := entry.value
	returned := false
	defer func() {
		if !returned {
			d.engine.recovered(recover(), d)
		}
	}()
	e, ok := process.threadEnds.Get().(*ThreadEnd)
	if !ok {
		e = new(ThreadEnd)
	}
	*e = ThreadEnd{
		User:      d.user,
		Domain:    d,
		TID:       c.tid,
		Main:      c.main != 0,
		Worker:    c.worker != 0,
		Outcome:   Outcome(c.outcome),
		TrapCode:  c.trap,
		Message:   text(c.message, c.messageBytes),
		Backtrace: text(c.backtrace, c.backtraceBytes),
	}
	if data := process.threads.at(c.threadUser); data != nil {
		e.ThreadData = data.value
	}
	d.engine.handler.ThreadEnd(e)
	returned = true
	*e = ThreadEnd{}
	process.threadEnds.Put(e)
}

// quiescent tells the handler that a domain is.
func quiescent(c *reportABI) {
	crossing()
	entry := process.domains.at(c.user)
	if entry == nil {
		return
	}
	d := entry.value
	d.reported.Store(true) // must precede the handler, which may close the domain
	if started := d.started.Load(); started != 0 {
		short := !d.killed.Load() && runnersClock()-time.Duration(started) <= shortLife
		d.engine.runners.lived(&d.module.lanes, short)
	}
	threads := threadsOf(c.threads, c.threadCount)
	for i := range threads {
		if token := threads[i].threadUser; token != 0 {
			process.threads.drop(token)
		}
	}
	returned := false
	defer func() {
		if !returned {
			d.engine.recovered(recover(), d)
		}
	}()
	d.engine.handler.Quiescent(&Report{
		User:         d.user,
		Domain:       d,
		Stopped:      time.Duration(c.stopNs),
		Quiescent:    time.Duration(c.quiescentNs),
		Threads:      d.engine.threadStates(threads),
		ThreadsTotal: c.threadsTotal,
		OnPool:       c.onPool != 0,
	})
	returned = true
}

// recovered reports the panic with the given value to Config.OnPanic. A panic of that is swallowed: there is nobody
// left to tell.
func (e *Engine) recovered(value any, d *Domain) {
	if e.onPanic == nil {
		return
	}
	defer func() { _ = recover() }()
	e.onPanic(value, debug.Stack(), d.user)
}
