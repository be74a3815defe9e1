package exitcoord

import (
	"fmt"
	"time"
)

// This file implements exec's use of phase 1: all threads are stopped, nothing is freed, and the cage runs again with a
// new image, unless a cause to exit comes on the way. The owner calls BeginExec, hears of quiescence, makes the new
// image and calls Resume, always: if a cause has come while the cage was quiescent, it is Resume that cleans up.

// BeginExec stops the cage without a cause, so that it can go on with another image: it makes it Stopping and calls
// Stopper.Stop, as Begin does, and like Begin waits for nothing. It returns ErrEnding if the cage has a cause to exit,
// and ErrPhase if another exec is on its way.
//
// A cause may come at any time before Resume and then wins: see Resume.
func (x *Exit) BeginExec() error {
	x.mu.Lock()
	p, hasCause := x.Phase(), x.first.Load() != nil
	if hasCause || p != Running {
		x.mu.Unlock()
		if hasCause {
			return fmt.Errorf("exec: cage %d: %w", x.cage, ErrEnding)
		}
		return fmt.Errorf("exec: cage %d is %v, not running: %w", x.cage, p, ErrPhase)
	}
	x.exec = true
	x.beginStoppingLocked()
	image := x.image
	x.mu.Unlock()
	defer x.callStop(image) // deferred: see cleanUp
	x.deliver()
	return nil
}

// Resume makes a cage that BeginExec stopped and that is Quiescent run again. From then on Stop and Threads of the
// Stopper must mean the new image, in which no thread may start before Resume has returned nil.
//
// If a cause to exit has come since BeginExec, Resume returns ErrEnding, and the steps run: on the goroutine of Quiescent
// if the cause was there by then, else now on the caller's. It returns ErrPhase if there is nothing to resume.
func (x *Exit) Resume() error {
	x.mu.Lock()
	p, hasCause := x.Phase(), x.announceLocked()
	switch {
	case x.exec && p == Quiescent && !hasCause:
		x.runAgainLocked()
		x.mu.Unlock()
		x.deliver()
		return nil
	case x.exec && p == Quiescent:
		x.exec = false
		x.mu.Unlock()
		x.cleanUp()
		return fmt.Errorf("resume: cage %d: %w", x.cage, ErrEnding)
	}
	x.mu.Unlock()
	if hasCause {
		return fmt.Errorf("resume: cage %d: %w", x.cage, ErrEnding)
	}
	return fmt.Errorf("resume: cage %d is %v and not in an exec: %w", x.cage, p, ErrPhase)
}

// runAgainLocked makes a quiescent cage run another image. A cause that has come since mu was locked is its Begin's to
// see to: the winner and every loser wait for mu (see mayRun), and then find the cage Running.
func (x *Exit) runAgainLocked() {
	x.mu.AssertHeld()
	x.exec = false
	// The report of the exit that comes some day is not to show the threads, the stuck time or the failure of this
	// stop: they belong to the image that is gone.
	x.threads, x.stopErr = nil, nil
	x.image++
	x.stop.forget()
	x.advanceLocked(Quiescent, Running, time.Now())
}
