package exitcoord

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// This file implements the way into an exit: Begin, which picks the first cause and starts phase 1, and Quiescent, with
// which phase 1 ends. cleanup.go is phase 2, stuck.go the deadline in between, exec.go the way back.

// What an owner is told that asked for a move in the wrong phase.
var (
	// ErrPhase is returned when the phase does not allow the move: Quiescent before Begin or for the second time,
	// Reap before Zombie, Resume without BeginExec. Nothing changed.
	ErrPhase = errors.New("wrong phase")
	// ErrReaped is returned by the second Reap.
	ErrReaped = errors.New("already reaped")
	// ErrEnding is returned by BeginExec and Resume when the cage has a cause to exit: there is no way back.
	ErrEnding = errors.New("cage is ending")
)

// Stopper is phase 1: the execution side of one cage, which the shim or another runtime implements. Its methods may be
// called from any thread.
type Stopper interface {
	// Stop closes the gate and interrupts everything inside. It never blocks, and to call it again does nothing. It
	// must lead to exactly one call of Exit.Quiescent, on any thread; if nothing is inside then Stop may make that call
	// itself, before it returns. An error, or a panic, is put into the report; the exit goes on waiting for Quiescent.
	Stop() error
	// Threads is the threads that are inside now, for the report of an exit that is Stuck. It must not block, and may be
	// called while Stop has not returned.
	Threads() []ThreadState
}

// ThreadState is where one thread of a cage is or was. In the report of an exit it says where the thread was when the
// stop began; in a Stuck, where it is now.
type ThreadState struct {
	TID      int32
	At       string        // "guest", "host call fd_read", "atomic wait at 0x40" or "starting"
	Function string        // the innermost function of the guest; empty if not known. May hold anything: guests name them
	Since    time.Duration // how long it had been there
	Left     time.Duration // from the begin of the stop until it was out of the cage; 0 if it is still inside
	Outcome  string        // how it ended: "stopped", "returned", "trapped"; empty if not known
}

// Step is one piece of phase 2. What it does, exitcoord does not know.
type Step struct {
	// Name is what reports and events call it: one word or two.
	Name string
	// Run does it. It is called once, after Quiescent, when the steps before it have ended. An error or a panic is
	// recorded and the next step runs all the same.
	Run func(ctx context.Context) error
	// Deadline is 0 for a step that is trusted to return: it runs on the goroutine of the exit. Otherwise the step has
	// a goroutine of its own and a ctx that ends with the deadline, and past it the exit goes on without it: see
	// Exit.WaitLate.
	Deadline time.Duration
}

// Config is what an Exit is made from.
type Config struct {
	// Cage is the cage's id, for reports and events.
	Cage abi.CageID
	// Stopper begins phase 1. It may be nil if there is nothing to stop, as for a cage that could not start: the owner
	// then calls Quiescent after Begin by itself.
	Stopper Stopper
	// Steps are phase 2, in order. The slice belongs to the Exit from now on; exits may share one that nobody changes.
	Steps []Step
	// StopDeadline is how long phase 1 may take until the exit is Stuck; 0 or less means that it is never Stuck.
	StopDeadline time.Duration
	// Watch keeps the deadline, with those of other exits. It may be nil: then a timer does.
	Watch *Watch
	// Observer is told every Event, in order, one at a time, with no lock held: usually on the goroutine that makes the
	// event, else on the one that is just calling Observer. It may call any method of the Exit, and it must not wait
	// for the exit, which waits for it. A panic of it is counted in the report and otherwise ignored. It may be nil.
	Observer func(Event)
}

// Exit is the exit of one cage, from before it begins until the cage is reaped. See the package's documentation for the
// whole story. Its methods are safe for concurrent use, from any thread, and may be called from within Stopper's
// methods, steps and the Observer, of this exit or of another; only what waits (Done, WaitLate) must not be waited for
// there.
type Exit struct {
	cage     abi.CageID    // immutable
	stopper  Stopper       // immutable; may be nil
	steps    []Step        // immutable
	deadline time.Duration // immutable
	watch    *Watch        // immutable; may be nil
	observer func(Event)   // immutable; may be nil
	done     chan struct{} // immutable; closed once, at Zombie

	first atomic.Pointer[Cause] // the cause that won: nil until then, set by one CAS, never changed (I5)
	phase atomic.Int32          // a Phase: written by advanceLocked alone, under mu; read by anyone
	lost  atomic.Int64          // causes that came too late

	// mu is a leaf: nothing is called while it is held, neither Stopper nor step nor Observer nor another Exit. The clock
	// is read under it, so that the times of an exit are in the order of what happened.
	mu lockcheck.Mutex[exitLock]
	// All that follows is guarded by mu.

	exec       bool // BeginExec stopped the cage, and neither Resume nor a cause has decided what follows
	announced  bool // the event of the cause is in the queue
	stopOwed   bool // the cage went from Running to Stopping for the cause, so that its Begin calls Stop
	image      int  // one more for each Resume
	stoppingAt time.Time
	quietAt    time.Time
	cleaningAt time.Time
	zombieAt   time.Time
	stopErr    error
	threads    []ThreadState
	results    []StepResult // one for each step, made when cleaning begins
	// stepEndedAt is when the last step ended that did, or cleaning began. Guarded by mu too, but the one goroutine that
	// runs the steps reads it without: nobody else writes it while no step runs.
	stepEndedAt time.Time
	stop        stopWatch
	late        lateSteps
	events      eventQueue
}

// New is the exit of a cage that is Running. It starts nothing.
func New(cfg Config) *Exit {
	return &Exit{
		cage: cfg.Cage, stopper: cfg.Stopper, steps: cfg.Steps, deadline: cfg.StopDeadline, watch: cfg.Watch,
		observer: cfg.Observer, done: make(chan struct{}),
	}
}

// Begin asks that the cage ends because of c. The first cause wins: Begin then makes the cage Stopping, calls
// Stopper.Stop and reports true. Any other is only counted, and Begin reports false: it is harmless, and the caller can
// wait for the same exit with Done. Either way the cage is Stopping or further when Begin returns.
//
// Begin waits neither for the exit nor for anything in it (I8), so that a thread of the cage may call it, and a step of
// this or another exit. Note that Stop may call Quiescent, and the trusted steps with it run, before Begin returns.
func (x *Exit) Begin(c Cause) bool {
	won := x.claim(c)
	if won || x.mayRun() {
		x.enterStopping(won)
	}
	return won
}

// mayRun counts a cause that came too late, and reports whether the cage is not stopping for the one that won: it is
// Running, since the winner has yet to make the move, or Quiescent, since a Resume may be on its way that has not seen
// the winner. Then whoever lost makes the move for the winner, under mu, where all of this is decided.
func (x *Exit) mayRun() bool {
	x.lost.Add(1)
	p := x.Phase()
	return p == Running || p == Quiescent
}

// enterStopping makes the cage Stopping, for the cause that was claimed, if it is not. The winner then calls Stop.
func (x *Exit) enterStopping(won bool) {
	x.mu.Lock()
	x.announceLocked()
	// Not Running means that the move was made for this one, or that an exec has stopped the cage: then the exec's
	// Quiescent or Resume finds the cause, and may even have done so.
	if x.Phase() == Running {
		x.beginStoppingLocked()
		x.stopOwed = true
	}
	stop, image := won && x.stopOwed, x.image
	x.mu.Unlock()
	if stop {
		defer x.callStop(image) // deferred: see cleanUp
	}
	x.deliver()
}

// claim makes c the cause if there is none yet (I5).
func (x *Exit) claim(c Cause) (won bool) {
	if x.first.Load() != nil { // spares those who come late an allocation
		return false
	}
	first := new(Cause) // not &c, which would put c on the heap in the case above too
	*first = c
	if first.At.IsZero() {
		first.At = time.Now()
	}
	return x.first.CompareAndSwap(nil, first)
}

// Quiescent tells that phase 1 has ended: no guest code and no host call of the cage runs. The owner of the Stopper
// calls it exactly once for each Begin or BeginExec that won, on any thread, with the threads that were inside when the
// stop began; the slice belongs to the Exit from then on.
//
// It runs the steps on the caller's goroutine and returns when the cage is a Zombie: steps with a deadline make it wait
// up to their deadlines. After BeginExec it returns at once, unless a cause has come meanwhile. It returns ErrPhase if
// the cage is not Stopping, also if the last thread has returned and nobody has called Begin.
func (x *Exit) Quiescent(threads []ThreadState) error {
	x.mu.Lock()
	if p := x.Phase(); p != Stopping {
		x.mu.Unlock()
		return fmt.Errorf("quiescent: cage %d is %v, not stopping: %w", x.cage, p, ErrPhase)
	}
	// Read once: a cause that comes after this finds the cage Quiescent, and Resume finds the cause.
	hasCause := x.announceLocked()
	now := time.Now()
	x.quietAt, x.threads = now, threads
	x.endStopWatchLocked(now)
	x.advanceLocked(Stopping, Quiescent, now)
	resumable := x.exec && !hasCause
	if !resumable {
		x.exec = false
	}
	x.mu.Unlock()
	if !resumable {
		defer x.cleanUp() // deferred: see cleanUp
	}
	x.deliver()
	return nil
}

// Reap records that the status was taken: the cage, a Zombie, becomes Reaped, and its id may be used again (I7 is the
// owner's). Exactly one call succeeds: the others get ErrReaped, and ErrPhase if the cage is no Zombie yet.
func (x *Exit) Reap() error {
	x.mu.Lock()
	switch p := x.Phase(); p {
	case Zombie:
	case Reaped:
		x.mu.Unlock()
		return fmt.Errorf("reap: cage %d: %w", x.cage, ErrReaped)
	default:
		x.mu.Unlock()
		return fmt.Errorf("reap: cage %d is %v, not a zombie: %w", x.cage, p, ErrPhase)
	}
	x.advanceLocked(Zombie, Reaped, time.Now())
	x.mu.Unlock()
	x.deliver()
	return nil
}

// Done is closed when the cage is a Zombie: after the last step (I6), and after the Observer has returned from the
// event that says so.
func (x *Exit) Done() <-chan struct{} { return x.done }

// Phase is the phase now. A Running that it returns may be outdated at once; the others are facts.
func (x *Exit) Phase() Phase { return Phase(x.phase.Load()) }

// Status is how the cage ends, or false as long as it has no cause to. Once true it never changes (I5). Waiters see it
// when Done is closed.
func (x *Exit) Status() (Status, bool) {
	first := x.first.Load()
	if first == nil {
		return Status{}, false
	}
	return first.Status(), true
}

// beginStoppingLocked makes the move that every exit and every exec starts with.
func (x *Exit) beginStoppingLocked() {
	x.mu.AssertHeld()
	x.stoppingAt = time.Now()
	x.startStopWatchLocked(x.stoppingAt)
	x.advanceLocked(Running, Stopping, x.stoppingAt)
}

// announceLocked reports whether there is a cause, and sees to it that the cause's event is in the queue, once, before
// those of whatever follows from it.
func (x *Exit) announceLocked() (hasCause bool) {
	x.mu.AssertHeld()
	first := x.first.Load()
	if first == nil {
		return false
	}
	if !x.announced {
		x.announced = true
		x.noteLocked(Event{Kind: EventCause, At: first.At, Cause: first})
	}
	return true
}

// callStop begins phase 1. An error that Stop returns when the cage runs another image than it was called for is dropped
// with the old image.
func (x *Exit) callStop(image int) {
	if x.stopper == nil {
		return
	}
	err := x.tryStop()
	if err == nil {
		return
	}
	x.mu.Lock()
	if x.image == image {
		x.stopErr = err
		x.noteLocked(Event{Kind: EventStopFailed, At: time.Now(), Err: err})
	}
	x.mu.Unlock()
	x.deliver()
}

// tryStop calls Stop and turns a panic of it into an error.
func (x *Exit) tryStop() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("stop of cage %d panicked: %v\n%s", x.cage, v, debug.Stack())
		}
	}()
	lockcheck.NoneHeld("a Stopper")
	if err = x.stopper.Stop(); err != nil {
		_ = err.Error() // reports will call this: an Error that panics must do so here
	}
	return err
}
