package exitcoord_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/exitcoord"
)

func TestEvents_HaveATextThatSaysWhat(t *testing.T) {
	cause := exitcoord.Cause{Kind: exitcoord.Trap, TID: 3, Message: "unreachable"}
	failed := &exitcoord.StepResult{Name: "memory", Outcome: exitcoord.StepFailed, Err: errors.New("busy\nvery")}
	for _, c := range []struct {
		event exitcoord.Event
		want  string
	}{
		{exitcoord.Event{Kind: exitcoord.EventCause, Cause: &cause}, "cage 7 #3: cause: thread 3 trapped: unreachable"},
		{exitcoord.Event{Kind: exitcoord.EventPhase, Phase: exitcoord.Quiescent}, "cage 7 #3: phase quiescent"},
		{exitcoord.Event{Kind: exitcoord.EventStopFailed, Err: errors.New("gone")}, "cage 7 #3: stop failed: gone"},
		{
			exitcoord.Event{Kind: exitcoord.EventStuck, Stuck: &exitcoord.Stuck{Threads: make([]exitcoord.ThreadState, 2)}},
			"cage 7 #3: stuck: 2 threads inside",
		},
		{exitcoord.Event{Kind: exitcoord.EventStepBegan, Step: failed}, "cage 7 #3: step memory began"},
		{exitcoord.Event{Kind: exitcoord.EventStepEnded, Step: failed}, "cage 7 #3: step memory failed: busy"},
		{
			exitcoord.Event{Kind: exitcoord.EventStepLate, Step: failed},
			"cage 7 #3: step memory came back late: failed: busy",
		},
		{exitcoord.Event{Kind: 99}, "cage 7 #3: event 99"},
	} {
		c.event.Cage, c.event.Seq = 7, 3
		if got := c.event.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// An Observer that ends a cage, or lets its last thread go, while it is told of something: the events of what it does
// come after the one that it is being told, and none is lost.
func TestObserver_MayAct(t *testing.T) {
	var events record
	var x *exitcoord.Exit
	inside := 0
	x = exitcoord.New(exitcoord.Config{
		Cage: 7, Steps: []exitcoord.Step{okStep("a")},
		Observer: func(e exitcoord.Event) {
			if inside++; inside != 1 {
				t.Errorf("told %v inside of another event", e)
			}
			events.add(e)
			if e.Kind == exitcoord.EventPhase && e.Phase == exitcoord.Stopping {
				if err := x.Quiescent(nil); err != nil {
					t.Error(err)
				}
				if p := x.Phase(); p != exitcoord.Zombie {
					t.Errorf("after Quiescent the cage is %v", p)
				}
				select {
				case <-x.Done():
					t.Error("Done is closed before the Observer heard of the zombie")
				default:
				}
			}
			inside--
		},
	})
	x.Begin(kill)
	wait(t, x, "Done", x.Done())
	verify(t, x, &events, 1)
}

func TestObserver_PanicAndEndOfGoroutineDoNotKeepTheExit(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic":            func() { panic("observer") },
		"panic of nil":     func() { panic(nil) },
		"end of goroutine": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			var events record
			x := exitcoord.New(exitcoord.Config{
				Cage: 7, Steps: []exitcoord.Step{okStep("a"), okStep("b")},
				Observer: func(e exitcoord.Event) {
					events.add(e)
					misbehave()
				},
			})
			// Each call may end its goroutine, at any of the events.
			onItsOwn := func(what string, f func()) {
				var group sync.WaitGroup
				group.Go(f)
				waitGroup(t, what, &group)
			}
			onItsOwn("Begin", func() { x.Begin(kill) })
			onItsOwn("Quiescent", func() {
				if err := x.Quiescent(nil); err != nil {
					t.Error(err)
				}
			})
			wait(t, x, "Done", x.Done())
			reaped := make(chan struct{})
			onItsOwn("Reap", func() {
				defer close(reaped)
				if err := x.Reap(); err != nil {
					t.Error(err)
				}
			})
			<-reaped
			wait(t, x, "the event of Reap", events.complete())
			if err := checkEvents(events.all(), 2); err != nil {
				t.Errorf("%v\n%v", err, events.all())
			}
			if n := x.Report().ObserverPanics; strings.HasPrefix(name, "panic") && n != len(events.all()) {
				t.Errorf("report: %d panics of the observer, want %d", n, len(events.all()))
			}
		})
	}
}

// Many threads make events while the Observer is busy with one: all are told, in order, and one at a time.
func TestObserver_IsToldInOrderFromManyThreads_Hammer(t *testing.T) {
	for range 50 {
		var events record
		var inside sync.Mutex
		release := make(chan struct{})
		var steps []exitcoord.Step
		const n = 8
		for range n {
			steps = append(steps, exitcoord.Step{
				Name: "late", Deadline: time.Nanosecond,
				Run: func(context.Context) error { <-release; return nil },
			})
		}
		told := make(chan struct{})
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, Steps: steps, StopDeadline: time.Nanosecond,
			Observer: func(e exitcoord.Event) {
				if !inside.TryLock() {
					t.Error("two events are told at once")
					return
				}
				defer inside.Unlock()
				events.add(e)
				runtime.Gosched()
				// 3 + 2 phases and causes, 2 events a step, perhaps stuck, then one for each late step.
				if e.Kind == exitcoord.EventStepLate && slices.Contains(events.kinds(), "zombie") {
					if late := len(slices.DeleteFunc(events.kinds(), func(k string) bool {
						return k != "late late ok"
					})); late == n {
						close(told)
					}
				}
			},
		})
		x.Begin(kill)
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		wait(t, x, "Done", x.Done())
		close(release) // all of them come back at once
		wait(t, x, "the late steps", told)
		verify(t, x, &events, n)
	}
}
