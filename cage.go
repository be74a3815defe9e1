package lindbridge

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/cage"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/wasip1"
)

// Cage is a program that was spawned. Its methods are safe for concurrent use.
type Cage struct {
	rt        *Runtime          // immutable
	entry     *cage.Cage        // immutable
	proc      *rawposix.Process // immutable
	env       *wasip1.Env       // immutable
	dom       *bridge.Domain    // immutable
	exit      *exitcoord.Exit   // immutable
	timeLimit time.Duration     // immutable
	stdio     stdio
	grate     *grate        // what it has as a grate, nil if it is none; immutable
	threads   atomic.Int64  // guest threads that have not ended
	inStop    atomic.Bool   // the shim is just being asked to stop the cage
	shut      atomic.Bool   // the shim has been; in builds with the tag faults only
	adopted   bool          // it is the runtime's to end; guarded by rt.mu
	done      chan struct{} // closed when the cage is a zombie and its output was copied: see ended
	awaited   atomic.Bool   // somebody has asked for done, and may wait for it

	timerMu lockcheck.Mutex[timerLock]
	timer   *time.Timer // ends the cage at its time limit, or nil; guarded by timerMu
	retired bool        // no timer may be set any more; guarded by timerMu

	reapOnce sync.Once
}

// ID is the cage's id. It may name another cage once Wait has returned.
func (c *Cage) ID() abi.CageID { return c.entry.ID() }

// Wait waits until the program has ended, everything that it held was given back, and its output was copied. It answers
// how the program ended, and gives the cage's id back. It may be called by several goroutines, and again. When ctx is
// done first it answers ctx's error, and the program runs on.
//
// Threads that the end found asleep are woken some 5 ms later, or when one is needed: until then they, and with them the
// program's memory, are still the process's.
func (c *Cage) Wait(ctx context.Context) (exitcoord.Status, error) {
	select {
	case <-c.done:
	default:
		select {
		case <-c.ended():
		case <-ctx.Done():
			return exitcoord.Status{}, fmt.Errorf("wait for cage %d: %w", c.ID(), context.Cause(ctx))
		}
	}
	c.reap()
	status, _ := c.exit.Status()
	return status, nil
}

// Done is closed when Wait would return at once.
func (c *Cage) Done() <-chan struct{} { return c.ended() }

// ended is done, for one who waits for it.
func (c *Cage) ended() <-chan struct{} {
	c.awaited.Store(true) // must precede the wait: see quiescent
	return c.done
}

// over reports whether Done is closed.
func (c *Cage) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Kill ends the program, whatever its threads are doing, as by SIGKILL. It returns at once: Wait tells when it is over.
// Killing it again, or after it has ended, does nothing.
func (c *Cage) Kill() { c.KillSignal(syscall.SIGKILL) }

// KillSignal is Kill with the signal that the status is to name. The program does not see it.
func (c *Cage) KillSignal(sig syscall.Signal) {
	c.end(exitcoord.Cause{Kind: exitcoord.HostKill, Signal: int32(sig)})
}

// Stuck is closed if the program's threads did not leave within Program.StopGrace after it was ended; Report then says
// where they are. It is never closed for most cages.
func (c *Cage) Stuck() <-chan struct{} { return c.exit.StuckC() }

// Report says how the exit went, or how far it is.
func (c *Cage) Report() exitcoord.Report { return c.exit.Report() }

// end begins the exit, unless it has begun.
func (c *Cage) end(cause exitcoord.Cause) {
	if cause.TID == 0 {
		c.dom.Killed() // from outside
	}
	c.rt.sys.HarshCageExit(c.exit, cause)
}

// reap gives the cage's id back, once.
func (c *Cage) reap() {
	c.reapOnce.Do(func() {
		// Must precede the id's return, after which another cage may have it.
		c.rt.running.Delete(uint64(c.ID()), c)
		c.rt.sys.RemoveCage(c.ID(), c.exit)
		// Neither can fail: the cage is a zombie, and this runs once.
		_ = c.exit.Reap()
		_ = c.rt.ids.Reap(c.entry)
	})
}

// setTimeLimit keeps the timer for the exit to stop, or stops it if the exit has come by.
func (c *Cage) setTimeLimit(t *time.Timer) {
	c.timerMu.Lock()
	defer c.timerMu.Unlock()
	if c.retired {
		t.Stop()
		return
	}
	c.timer = t
}

// stopTimer sees to it that nothing fires at a cage without threads.
func (c *Cage) stopTimer() {
	c.timerMu.Lock()
	defer c.timerMu.Unlock()
	c.retired = true
	if c.timer != nil {
		c.timer.Stop()
	}
}
