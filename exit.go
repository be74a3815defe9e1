package lindbridge

import (
	"context"
	"runtime"
	"time"

	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/fault"
)

// This file is what the runtime supplies to the exit protocol: how a cage's execution is stopped, and the steps of its
// cleanup, in order.

// stopper is phase 1 of a cage's exit: the shim's.
type stopper Cage

// Stop begins the shutdown of the cage's execution.
func (s *stopper) Stop() error {
	s.inStop.Store(true)
	defer s.inStop.Store(false)
	if fault.Enabled {
		return (*Cage)(s).faulty(fault.Stop, s.stop)
	}
	return s.stop()
}

func (s *stopper) stop() error {
	err := s.dom.Stop()
	if fault.Enabled {
		s.shut.Store(true)
	}
	return err
}

// Threads says where the cage's threads are now.
func (s *stopper) Threads() []exitcoord.ThreadState {
	threads, err := s.dom.Threads()
	if err != nil {
		return nil // the domain is gone, and so are its threads
	}
	return threadStates(threads, bridge.MonotonicNow())
}

// threadStates translates the shim's account, with times relative to begin.
func threadStates(threads []bridge.ThreadState, begin time.Duration) []exitcoord.ThreadState {
	states := make([]exitcoord.ThreadState, len(threads))
	for i, t := range threads {
		state := exitcoord.ThreadState{TID: int32(t.TID), At: t.Where(), Function: t.Function}
		if t.Since != 0 {
			state.Since = max(begin-t.Since, 0)
		}
		if t.Left != 0 {
			// One that was on its way out when the stop began has left at once; 0 would say that it is still inside.
			state.Left = max(t.Left-begin, 1)
			state.Outcome = t.Outcome.String()
		}
		if t.Worker && t.At != bridge.AtIdle {
			state.At = "worker in " + state.At
		}
		if t.Torn {
			state.At += ", which was ended in the middle of it"
		}
		states[i] = state
	}
	return states
}

// steps are phase 2 of a cage's exit. They are the runtime's own and trusted to return, so that they have no deadlines.
func (c *Cage) steps() []exitcoord.Step {
	steps := []exitcoord.Step{
		{Name: "notify", Run: c.notifyGrates},
		{Name: "handlers", Run: c.dropHandlers},
		{Name: "descriptors", Run: c.closeDescriptors},
		{Name: "timers", Run: c.stopTimers},
		{Name: "children", Run: c.releaseChildren},
		{Name: "memory", Run: c.releaseMemory},
		{Name: "zombie", Run: c.becomeZombie},
	}
	if fault.Enabled {
		c.makeFaulty(steps)
	}
	return steps
}

// notifyGrates tells the grate that has asked for it, while there still are descriptors. It has a deadline of its own.
func (c *Cage) notifyGrates(ctx context.Context) error {
	return c.rt.sys.NotifyGrates(ctx, c.ID(), c.exit)
}

// dropHandlers makes what is served by the cage "target gone", and forgets who serves its own calls.
func (c *Cage) dropHandlers(context.Context) error {
	c.rt.sys.DropHandlers(c.ID(), c.exit)
	if c.grate != nil && c.grate.files != nil {
		c.grate.files.end()
	}
	return nil
}

// closeDescriptors closes what only this cage had open. It comes first because others see it: a pipe's other end reads
// end of file.
func (c *Cage) closeDescriptors(context.Context) error { return c.proc.Close() }

// stopTimers must come before the memory goes: nothing may fire at a cage without threads.
func (c *Cage) stopTimers(context.Context) error {
	c.stopTimer()
	return nil
}

// releaseChildren gives the cage's children to init.
func (c *Cage) releaseChildren(context.Context) error {
	return c.rt.ids.Reparent(c.entry)
}

// releaseMemory comes after everything that may look at it: until here the addresses of the cage are valid, from here on
// none is.
func (c *Cage) releaseMemory(context.Context) error {
	return c.rt.sys.ReleaseMemory(c.ID(), c.exit, c.dom.Close)
}

// becomeZombie comes last, because it is what others see: the status is recorded and whoever waits is woken.
func (c *Cage) becomeZombie(context.Context) error {
	status, _ := c.exit.Status() // fixed since the stop began
	return c.rt.ids.Zombie(c.entry, status.WaitStatus())
}

// quiescent is phase 2, on the thread that left last: the cleanup runs here, without a hand-over.
func (c *Cage) quiescent(r *bridge.Report) error {
	if err := c.exit.Quiescent(threadStates(r.Threads, r.Stopped)); err != nil {
		return err
	}
	c.rt.mu.Lock()
	delete(c.rt.cages, c)
	c.rt.mu.Unlock()
	select {
	case <-c.exit.Done():
		c.stdio.finish(func() { close(c.done) })
	default:
		// The Observer is being told of this exit on another thread, as after a stop that was stuck. Who waits for the cage is
		// let go, and the id with it, when it has heard that the cage is a zombie.
		go func() {
			<-c.exit.Done()
			c.stdio.finish(func() { close(c.done) })
		}()
	}
	// Who waits was made runnable on this thread's processor, which goes on to leave Go: another one would take it over,
	// but only after some 50 us, since it lets a processor that is busy go first. So this one steps aside at once. It takes
	// a quarter off the time from Kill to the return of Wait (BenchmarkKill, BenchmarkSpawnRunExit).
	// Within Stop it is the caller's own thread, which has nobody to step aside for. Nor has one for which nobody waits: it
	// would wake a thread that finds nothing but this one to run, and wakes it. Who comes to wait from here on finds done
	// closed. A goroutine that has run the guest's thread ends with it, and who waits is what its thread runs next.
	if r.OnPool && !c.inStop.Load() && c.awaited.Load() {
		runtime.Gosched()
	}
	return nil
}
