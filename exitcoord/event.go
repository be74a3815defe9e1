package exitcoord

import (
	"fmt"
	"strconv"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// EventKind is what an Event tells.
type EventKind uint8

// The kinds of events. See Event for their order.
const (
	_ EventKind = iota
	// EventCause: a cause won; Cause is set.
	EventCause
	// EventPhase: the cage is in Phase now.
	EventPhase
	// EventStopFailed: Stopper.Stop returned an error or panicked; Err is set.
	EventStopFailed
	// EventStuck: the cage is Stopping past its deadline; Stuck is set.
	EventStuck
	// EventStepBegan: a step is about to run; Step is set.
	EventStepBegan
	// EventStepEnded: the step ended, or its deadline did; Step is set.
	EventStepEnded
	// EventStepLate: a step whose deadline had passed returned; Step is set.
	EventStepLate

	numEventKinds = iota
)

var eventKindNames = [numEventKinds]string{
	"unknown", "cause", "phase", "stop_failed", "stuck", "step_began", "step_ended", "step_late",
}

// String is the kind's name in lower case with underscores.
func (k EventKind) String() string {
	if int(k) >= numEventKinds {
		return "event " + strconv.Itoa(int(k))
	}
	return eventKindNames[k]
}

// Event is one thing that happened in the exit of one cage. What it points to is shared by all who were told and must
// not be changed.
//
// Events of one cage are numbered from 1 without gaps and told in that order, each exactly once. Events of different
// cages have no order.
//
//	event               must follow                             when
//	cause               nothing; exec: any event                once, before the cage can clean; never again
//	phase stopping      cause; exec: phase running or nothing   Begin won, or BeginExec
//	stop_failed         phase stopping                          Stop failed; even after phase quiescent, but
//	                                                            not after phase running
//	stuck               phase stopping, nothing between but     at most once for each phase stopping
//	                    stop_failed and cause
//	phase quiescent     phase stopping                          once for each phase stopping
//	phase running       phase quiescent                         exec: Resume, and no cause came
//	phase cleaning      cause and phase quiescent               once
//	step_began N        phase cleaning if N is 0,               once for each step
//	                    else step_ended N-1
//	step_ended N        step_began N                            once for each step; Outcome timed out: it still runs
//	step_late N         step_ended N, timed out                 when it does return; even after phase reaped
//	phase zombie        step_ended of the last step;            once; Done closes when the Observer has returned
//	                    without steps phase cleaning            from it
//	phase reaped        phase zombie                            once
type Event struct {
	Cage  abi.CageID
	Seq   uint64 // 1 for the first event of the cage
	Kind  EventKind
	At    time.Time   // EventCause: when the cause happened, which may be before earlier events
	Phase Phase       // EventPhase: the phase that began
	Cause *Cause      // EventCause
	Stuck *Stuck      // EventStuck
	Step  *StepResult // EventStep*
	Err   error       // EventStopFailed
}

// String is the event on one line, without its time: "cage 7 #3: phase quiescent".
func (e Event) String() string {
	head := fmt.Sprintf("cage %d #%d: ", e.Cage, e.Seq)
	switch e.Kind {
	case EventCause:
		return head + "cause: " + e.Cause.String()
	case EventPhase:
		return head + "phase " + e.Phase.String()
	case EventStopFailed:
		return head + "stop failed: " + printable(firstLine(e.Err.Error()))
	case EventStuck:
		return head + "stuck: " + count(len(e.Stuck.Threads), "thread") + " inside"
	case EventStepBegan:
		return head + "step " + e.Step.Name + " began"
	case EventStepEnded:
		return head + "step " + e.Step.String()
	case EventStepLate:
		return head + "step " + e.Step.Name + " came back late: " + e.Step.result()
	}
	return head + e.Kind.String()
}

// eventQueue holds the events that the Observer was not told yet. It is what keeps them in order though they are made
// on several threads and told with no lock held: whoever makes an event puts it here under mu, and whoever finds that
// nobody tells events becomes the teller until the queue is empty. Guarded by the Exit's mu.
type eventQueue struct {
	seq     uint64
	waiting []Event
	telling bool
	panics  int // of the Observer
}

// noteLocked puts e into the queue. The caller calls deliver when it has unlocked mu.
func (x *Exit) noteLocked(e Event) {
	x.mu.AssertHeld()
	if x.observer == nil {
		return
	}
	q := &x.events
	q.seq++
	e.Cage, e.Seq = x.cage, q.seq
	q.waiting = append(q.waiting, e)
}

// deliver tells the Observer what is in the queue, unless another goroutine is at it, or this one further up: that one
// then tells these too.
//
// Preconditions:
// mu is not locked by the caller.
func (x *Exit) deliver() {
	if x.observer == nil {
		return
	}
	x.mu.Lock()
	if x.events.telling {
		x.mu.Unlock()
		return
	}
	x.events.telling = true
	x.tell()
}

// tell empties the queue and unlocks mu, which its caller has locked.
func (x *Exit) tell() {
	x.mu.AssertHeld()
	q := &x.events
	for len(q.waiting) > 0 {
		e := q.waiting[0]
		q.waiting[0] = Event{} // what it points to must not live as long as the queue
		q.waiting = q.waiting[1:]
		x.mu.Unlock()
		x.observe(e)
		x.mu.Lock()
	}
	q.waiting, q.telling = nil, false
	x.mu.Unlock()
}

// observe tells one event. Neither a panic of the Observer nor its runtime.Goexit, which a failing test calls, keeps the
// exit from its end.
func (x *Exit) observe(e Event) {
	returned := false
	defer func() {
		panicked := recover() != nil
		if e.Kind == EventPhase && e.Phase == Zombie {
			close(x.done)
		}
		if returned {
			return
		}
		x.mu.Lock()
		if panicked {
			x.events.panics++
			x.mu.Unlock()
			return
		}
		x.tell() // Goexit: the caller will not go on telling, so this does
	}()
	lockcheck.NoneHeld("an Observer")
	x.observer(e)
	returned = true
}
