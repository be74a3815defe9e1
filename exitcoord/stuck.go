package exitcoord

import (
	"fmt"
	"time"
)

// This file implements the deadline of phase 1. An exit that misses it is Stuck: that is told, to whoever asks, waits
// on StuckC or observes, and nothing else changes. Nothing is freed, since something may still run in the cage; the
// phase stays Stopping; and the Quiescent that comes late goes on as any other (I9: no other exit knows).

// Stuck is a stop that missed its deadline.
type Stuck struct {
	Since   time.Time     // when it was found to have missed the deadline
	After   time.Duration // from the begin of the stop until Since
	Threads []ThreadState // the threads that were inside at Since, and where
	Over    bool          // Quiescent has come after all
	Lasted  time.Duration // from Since until Quiescent; 0 unless Over
}

// stopWatch watches one stop. Guarded by the Exit's mu.
type stopWatch struct {
	turn  uint64      // one more for each stop that ended; tells a timer that fires late that its stop is over
	timer *time.Timer // without a Watch: nil unless the stop has a deadline and is not over
	due   deadline    // with one: in it as long as timer would be there; guarded by the Watch's mu
	stuck *Stuck      // nil unless the deadline has passed. What it points to is immutable
	c     chan struct{}
}

// Stuck is the stop that missed its deadline, or false if none did. It is kept when the exit goes on: Over then says
// so. Threads is shared and must not be changed.
func (x *Exit) Stuck() (Stuck, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stop.stuck == nil {
		return Stuck{}, false
	}
	return *x.stop.stuck, true
}

// StuckC is closed when the exit becomes Stuck. An exec that goes on after it was Stuck begins anew: the channel that
// StuckC answers after Resume is another one.
func (x *Exit) StuckC() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stop.channel()
}

// channel makes the channel when first needed: hardly any exit is ever asked for it.
func (s *stopWatch) channel() chan struct{} {
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

// startStopWatchLocked sets the deadline, for a stop that begins now. It must precede Stop, which is not to block but
// might: when thousands of threads are to be interrupted, or when it is wrong.
func (x *Exit) startStopWatchLocked(now time.Time) {
	if x.deadline <= 0 {
		return
	}
	turn := x.stop.turn
	if x.watch != nil {
		x.stop.due = deadline{at: now.Add(x.deadline), exit: x, turn: turn}
		x.watch.add(&x.stop.due, now)
		return
	}
	x.stop.timer = time.AfterFunc(x.deadline, func() { x.deadlinePassed(turn) })
}

// endStopWatchLocked notes that the stop is over.
func (x *Exit) endStopWatchLocked(now time.Time) {
	s := &x.stop
	s.turn++
	if x.watch != nil && x.deadline > 0 {
		x.watch.remove(&s.due)
	}
	if s.timer != nil {
		s.timer.Stop() // one that has fired already finds that its turn is over
		s.timer = nil
	}
	if s.stuck != nil {
		over := *s.stuck
		over.Over, over.Lasted = true, now.Sub(over.Since)
		s.stuck = &over
	}
}

// forget drops what is known of a stop that is over.
func (s *stopWatch) forget() {
	if s.stuck != nil {
		s.stuck, s.c = nil, nil // the channel is closed; one that is not is kept for those who wait on it
	}
}

// deadlinePassed runs on the goroutine of the timer.
func (x *Exit) deadlinePassed(turn uint64) {
	x.mu.Lock()
	over := x.stop.turn != turn
	x.mu.Unlock()
	if over {
		return
	}
	threads := x.askThreads() // a call out: not under mu, so that the stop may be over afterwards
	x.mu.Lock()
	if x.stop.turn != turn {
		x.mu.Unlock()
		return
	}
	now := time.Now()
	x.stop.stuck = &Stuck{Since: now, After: now.Sub(x.stoppingAt), Threads: threads}
	close(x.stop.channel())
	x.noteLocked(Event{Kind: EventStuck, At: now, Stuck: x.stop.stuck})
	x.mu.Unlock()
	x.deliver()
}

// askThreads is the threads that are inside; one that only says what happened if the Stopper panics.
func (x *Exit) askThreads() (threads []ThreadState) {
	if x.stopper == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			threads = []ThreadState{{At: fmt.Sprintf("not known: Threads panicked: %v", v)}}
		}
	}()
	return x.stopper.Threads()
}
