package exitcoord

import (
	"slices"
	"time"

	"github.com/lindbridge/lindbridge/abi"
)

// Report says what happened in an exit, in which order, and how long each part took. It is a copy of what was known
// when Report was called: complete from Zombie on, save for steps that come back late. The slices and what the pointers
// point to may be shared with other reports and must not be changed.
//
// String is the report for people, WriteJSON and MarshalJSON that for programs.
type Report struct {
	Cage   abi.CageID
	Phase  Phase
	Cause  *Cause // nil as long as there is none; so too in an exec
	Status Status // zero as long as Cause is nil
	// Lost is how many causes came too late to matter.
	Lost int

	// Stopping is how long phase 1 took, Cleaning how long the steps took, Total the time from the begin of the stop
	// until Zombie. What has begun and not ended is as long as it lasted until the report was made.
	Stopping, Cleaning, Total time.Duration

	StopErr error         // what Stopper.Stop returned; nil if all was well
	Stuck   *Stuck        // nil if the stop did not miss its deadline
	Threads []ThreadState // those that were inside when the stop began, as Quiescent was told
	Steps   []StepResult  // every step, in order, also those whose turn has not come
	Late    []StepResult  // what steps that timed out came to in the end, in the order of their return

	// ObserverPanics is how many events the Observer did not take without a panic.
	ObserverPanics int
}

// Report is what is known of the exit so far.
func (x *Exit) Report() Report {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	r := Report{
		Cage: x.cage, Phase: x.Phase(), Cause: x.first.Load(), Lost: int(x.lost.Load()), StopErr: x.stopErr,
		Stuck: x.stop.stuck, Threads: slices.Clip(x.threads), Late: slices.Clip(x.late.results),
		ObserverPanics: x.events.panics,
	}
	if r.Cause != nil {
		r.Status = r.Cause.Status()
	}
	switch r.Phase {
	case Stopping:
		r.Stopping, r.Total = now.Sub(x.stoppingAt), now.Sub(x.stoppingAt)
	case Quiescent:
		r.Stopping, r.Total = x.quietAt.Sub(x.stoppingAt), now.Sub(x.stoppingAt)
	case Cleaning:
		r.Stopping, r.Cleaning = x.quietAt.Sub(x.stoppingAt), now.Sub(x.cleaningAt)
		r.Total = now.Sub(x.stoppingAt)
	case Zombie, Reaped:
		r.Stopping, r.Cleaning = x.quietAt.Sub(x.stoppingAt), x.zombieAt.Sub(x.cleaningAt)
		r.Total = x.zombieAt.Sub(x.stoppingAt)
	}
	if x.results != nil {
		r.Steps = slices.Clone(x.results)
	} else {
		r.Steps = x.freshResults()
	}
	return r
}

// freshResults is the results before the first step.
func (x *Exit) freshResults() []StepResult {
	results := make([]StepResult, len(x.steps))
	for i := range x.steps {
		results[i] = StepResult{Index: i, Name: x.steps[i].Name, Deadline: max(x.steps[i].Deadline, 0)}
	}
	return results
}
