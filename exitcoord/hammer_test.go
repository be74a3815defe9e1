package exitcoord_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/exitcoord"
)

// Real threads, real time, the race detector: what a bubble's clock cannot shake loose.

func TestBegin_ManyAtOnceWithQuiescentRacing_Hammer(t *testing.T) {
	const rivals = 64
	for round := range 200 {
		var events record
		var inside atomic.Bool
		inside.Store(true)
		var ran atomic.Int32
		var group sync.WaitGroup
		check := func(context.Context) error {
			if inside.Load() {
				t.Error("a step runs while something is inside (I1)")
			}
			ran.Add(1)
			return nil
		}
		d := &domain{}
		d.stop = func(d *domain) error {
			leave := func() {
				inside.Store(false)
				if err := d.exit.Quiescent(nil); err != nil {
					t.Error(err)
				}
			}
			if round%2 == 0 {
				leave()
			} else {
				group.Go(leave)
			}
			return nil
		}
		d.exit = exitcoord.New(exitcoord.Config{
			Cage: 7, Stopper: d, StopDeadline: time.Duration(round%3) * time.Microsecond, Observer: events.add,
			Steps: []exitcoord.Step{step("a", check), {Name: "b", Run: check, Deadline: time.Hour}, step("c", check)},
		})
		x := d.exit
		start := make(chan struct{})
		var winners atomic.Int32
		var winner atomic.Int32
		for i := range rivals {
			group.Go(func() {
				<-start
				if x.Begin(exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: int32(i)}) {
					winners.Add(1)
					winner.Store(int32(i))
				}
				if x.Phase() == exitcoord.Running {
					t.Error("running after Begin")
				}
				<-x.Done()
				if s, ok := x.Status(); !ok || x.Phase() != exitcoord.Zombie || s.Code != x.Report().Cause.Code {
					t.Errorf("at Done: %v, status %v, %v", x.Phase(), s, ok)
				}
			})
		}
		close(start)
		waitGroup(t, "the rivals", &group)
		verify(t, x, &events, 3)
		r := x.Report()
		if winners.Load() != 1 || r.Cause.Code != winner.Load() || r.Lost != rivals-1 {
			t.Fatalf("%d winners, the last %d; the report has %v and %d lost (I5)",
				winners.Load(), winner.Load(), r.Cause, r.Lost)
		}
		if ran.Load() != 3 {
			t.Fatalf("3 steps ran %d times (I2)", ran.Load())
		}
	}
}

// Several threads walk along the same row of exits. Who comes second is faster, since it loses, and catches up with the
// first: so they meet at one exit after another, closer than any barrier would bring them.
func TestBegin_OneWinnerHoweverClose_Hammer(t *testing.T) {
	const walkers = 4
	exits := make([]*exitcoord.Exit, 30_000)
	stops := make([]atomic.Int32, len(exits))
	for i := range exits {
		exits[i] = exitcoord.New(exitcoord.Config{
			Stopper: &domain{stop: func(*domain) error { stops[i].Add(1); return nil }},
		})
	}
	won := make([]atomic.Int32, len(exits)) // the sum of the winners' codes: 1, 10, 100, 1000
	var group sync.WaitGroup
	for _, code := range [walkers]int32{1, 10, 100, 1000} {
		group.Go(func() {
			for i, x := range exits {
				if x.Begin(exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: code}) {
					won[i].Add(code)
				}
			}
		})
	}
	waitGroup(t, "the walkers", &group)
	for i, x := range exits {
		if s, _ := x.Status(); s.Code != won[i].Load() || stops[i].Load() != 1 {
			t.Fatalf("exit %d: status %v, sum of the winners %d, %d stops, want one winner and one stop (I5)",
				i, s, won[i].Load(), stops[i].Load())
		}
	}
}

// Two cages that kill each other, from outside, from each step and from each event: both end (I8).
func TestBegin_TwoCagesKillEachOtherInALoop_Hammer(t *testing.T) {
	for round := range 500 {
		var exits [2]*exitcoord.Exit
		var events [2]record
		var group sync.WaitGroup
		for me := range exits {
			other := func() { exits[1-me].Begin(exitcoord.Cause{Kind: exitcoord.HostKill, TID: int32(me)}) }
			d := &domain{stop: func(d *domain) error {
				other()
				leave := func() {
					if err := d.exit.Quiescent(nil); err != nil {
						t.Error(err)
					}
				}
				if round%2 == 0 {
					leave()
				} else {
					group.Go(leave)
				}
				return nil
			}}
			kills := step("kill", func(context.Context) error { other(); return nil })
			d.exit = exitcoord.New(exitcoord.Config{
				Stopper: d, StopDeadline: time.Hour, Steps: []exitcoord.Step{kills, kills},
				Observer: func(e exitcoord.Event) {
					events[me].add(e)
					other()
				},
			})
			exits[me] = d.exit
		}
		start := make(chan struct{})
		for me := range exits {
			group.Go(func() {
				<-start
				exits[me].Begin(kill)
			})
		}
		close(start)
		for _, x := range exits {
			wait(t, x, "the end of a cage that kills the other", x.Done())
		}
		waitGroup(t, "the killers", &group)
		for me, x := range exits {
			verify(t, x, &events[me], 2)
		}
	}
}

// The deadline and Quiescent at the same moment: stuck or not, the record and the report agree, and no timer is left to
// fire later.
func TestStuck_DeadlineRacesWithQuiescent_Hammer(t *testing.T) {
	stuck := 0
	for round := range 2000 {
		var events record
		d := &domain{threads: func() []exitcoord.ThreadState { return []exitcoord.ThreadState{{TID: 1}} }}
		var group sync.WaitGroup
		d.stop = func(d *domain) error {
			group.Go(func() {
				if err := d.exit.Quiescent(nil); err != nil {
					t.Error(err)
				}
			})
			return nil
		}
		d.exit = exitcoord.New(exitcoord.Config{
			Cage: 7, Stopper: d, StopDeadline: time.Duration(1+round%20) * 500, Observer: events.add,
			Steps: []exitcoord.Step{okStep("a")},
		})
		d.exit.Begin(kill)
		waitGroup(t, "Quiescent", &group)
		wait(t, d.exit, "Done", d.exit.Done())
		verify(t, d.exit, &events, 1)
		if s, ok := d.exit.Stuck(); ok {
			stuck++
			if !s.Over || s.Lasted < 0 {
				t.Fatalf("a stop that is over is %+v", s)
			}
		}
	}
	t.Logf("%d of 2000 were stuck", stuck)
}

// Whoever looks at an exit while it happens sees something that makes sense.
func TestReport_ReadWhileItHappens_Hammer(t *testing.T) {
	for range 50 {
		release := make(chan struct{})
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, StopDeadline: time.Microsecond,
			Steps: []exitcoord.Step{
				okStep("a"),
				{Name: "b", Run: func(context.Context) error { <-release; return nil }, Deadline: 10 * time.Microsecond},
				okStep("c"),
			},
		})
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				last := exitcoord.Running
				for {
					r := x.Report()
					if r.Phase < last {
						t.Errorf("%v after %v", r.Phase, last)
					}
					last = r.Phase
					if r.Phase != exitcoord.Running && r.Cause == nil || r.Total < r.Stopping+r.Cleaning || len(r.Steps) != 3 {
						t.Errorf("a report that makes no sense:\n%v", r)
					}
					if err := checkText(r.String()); err != nil {
						t.Error(err)
					}
					_, _ = x.Stuck()
					select {
					case <-x.Done():
						return
					default:
					}
				}
			})
		}
		x.Begin(kill)
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		close(release)
		waitGroup(t, "the readers", &group)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := x.WaitLate(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}
