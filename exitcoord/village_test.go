package exitcoord_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// This file runs histories of several exits at once, which give each other causes from their stops, their steps and their
// observers, and hang where they should not. What one of them may do to another is to be its cause, and nothing else:
// all end (I8), and none waits for one that is stuck (I9). The clock is the bubble's, so that this is compared exactly.

// villager is what happens to one cage among several.
type villager struct {
	StopDeadline time.Duration
	StopTakes    time.Duration
	StopInside   bool   // Stop itself calls Quiescent; only if it takes no time
	StopEnd      string // "ok", "error" or "panic"
	StopKills    []int  // cages that Stop gives a cause
	Steps        []villageStep
	Killed       time.Duration  // when it gets a cause from outside
	OnEvent      map[int]int    // number of an event -> the cage that its observer gives a cause
	Panics       map[int]string // number of an event at which the observer panics
}

// villageStep is a step and whom it kills before it does anything else.
type villageStep struct {
	stepPlan
	Kills []int
	// Hangs until all other cages have ended, or for an hour if it has a deadline.
	Hangs bool
}

// village is what is drawn.
type village []villager

func drawVillage(t *rapid.T) village {
	n := rapid.IntRange(2, 5).Draw(t, "cages")
	seconds := func(label string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, label)) * time.Second
	}
	takes := func(label string, most int) time.Duration {
		if d := seconds(label, most); d > 0 {
			return d + odd
		}
		return 0
	}
	whom := rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 2)
	ends := rapid.SampledFrom([]string{"ok", "ok", "error", "panic"})
	v := make(village, n)
	for i := range v {
		c := villager{
			StopDeadline: seconds("stop deadline", 3), StopTakes: takes("stop takes", 5),
			StopInside: rapid.Bool().Draw(t, "inside"), StopEnd: ends.Draw(t, "stop ends"),
			StopKills: whom.Draw(t, "stop kills"), Killed: seconds("killed at", 12),
			OnEvent: rapid.MapOfN(rapid.IntRange(1, 15), rapid.IntRange(0, n-1), 0, 3).Draw(t, "kill on event"),
			Panics:  rapid.MapOfN(rapid.IntRange(1, 15), rapid.Just("observer went wrong"), 0, 2).Draw(t, "panic on event"),
		}
		for range rapid.IntRange(0, 4).Draw(t, "steps") {
			s := villageStep{Kills: whom.Draw(t, "step kills"), Hangs: rapid.IntRange(0, 9).Draw(t, "hangs") == 0}
			s.End, s.Takes, s.Deadline = ends.Draw(t, "step ends"), takes("step takes", 3), seconds("step deadline", 2)
			if s.Hangs && s.Deadline == 0 {
				s.Deadline = time.Second // without one the exit ends when the step does: see TestSteps_ThatHang
			}
			c.Steps = append(c.Steps, s)
		}
		v[i] = c
	}
	return v
}

// square is where a village lives.
type square struct {
	v      village
	began  time.Time
	exits  []*exitcoord.Exit
	events []record
	actors sync.WaitGroup
	lift   chan struct{} // closed when what hangs is to return

	mu sync.Mutex
	// All that follows is guarded by mu.
	runs    map[[2]int]int // how often each step ran
	asked   []int          // causes given to each
	zombies []time.Duration
	faults  []error
}

func (s *square) kill(by, target int) {
	s.mu.Lock()
	s.asked[target]++
	s.mu.Unlock()
	s.exits[target].Begin(exitcoord.Cause{Kind: exitcoord.HostKill, TID: int32(by)})
	if s.exits[target].Phase() == exitcoord.Running {
		s.mu.Lock()
		s.faults = append(s.faults, fmt.Errorf("cage %d is running after Begin", target))
		s.mu.Unlock()
	}
}

// villageStopper is phase 1 of one of them.
type villageStopper struct {
	s *square
	i int
}

func (d villageStopper) Threads() []exitcoord.ThreadState { return nil }

func (d villageStopper) Stop() error {
	plan := d.s.v[d.i]
	leave := func() {
		if err := d.s.exits[d.i].Quiescent(nil); err != nil {
			d.s.mu.Lock()
			d.s.faults = append(d.s.faults, err)
			d.s.mu.Unlock()
		}
	}
	for _, target := range plan.StopKills {
		d.s.kill(d.i, target)
	}
	if plan.StopInside && plan.StopTakes == 0 {
		leave()
	} else {
		d.s.actors.Go(func() {
			time.Sleep(plan.StopTakes)
			leave()
		})
	}
	switch plan.StopEnd {
	case "error":
		return errors.New("stop went wrong")
	case "panic":
		panic("stop went wrong")
	}
	return nil
}

func (s *square) step(i, k int) exitcoord.Step {
	plan := s.v[i].Steps[k]
	return exitcoord.Step{Name: fmt.Sprint("step", k), Deadline: plan.Deadline, Run: func(context.Context) error {
		s.mu.Lock()
		s.runs[[2]int{i, k}]++
		s.mu.Unlock()
		if p := s.exits[i].Phase(); p != exitcoord.Cleaning {
			s.mu.Lock()
			s.faults = append(s.faults, fmt.Errorf("cage %d: step %d begins while it is %v (I1, I6)", i, k, p))
			s.mu.Unlock()
		}
		for _, target := range plan.Kills {
			s.kill(i, target)
		}
		if plan.Hangs {
			<-s.lift
		}
		time.Sleep(plan.Takes)
		switch plan.End {
		case "error":
			return errors.New("step went wrong")
		case "panic":
			panic("step went wrong")
		}
		return nil
	}}
}

// live lets the village live, and answers when each became a zombie.
func (v village) live(ctx context.Context) ([]time.Duration, error) {
	n := len(v)
	s := &square{
		v: v, began: time.Now(), exits: make([]*exitcoord.Exit, n), events: make([]record, n), lift: make(chan struct{}),
		runs: map[[2]int]int{}, asked: make([]int, n), zombies: make([]time.Duration, n),
	}
	for i, c := range v {
		cfg := exitcoord.Config{
			Cage: abi.CageID(i), Stopper: villageStopper{s, i}, StopDeadline: c.StopDeadline,
			Observer: func(e exitcoord.Event) {
				s.events[i].add(e)
				if target, ok := c.OnEvent[int(e.Seq)]; ok {
					s.kill(i, target)
				}
				if what, ok := c.Panics[int(e.Seq)]; ok {
					panic(what)
				}
			},
		}
		for k := range c.Steps {
			cfg.Steps = append(cfg.Steps, s.step(i, k))
		}
		s.exits[i] = exitcoord.New(cfg)
	}
	for i, c := range v {
		s.actors.Go(func() {
			time.Sleep(c.Killed)
			s.kill(-1, i)
		})
		s.actors.Go(func() {
			<-s.exits[i].Done()
			s.mu.Lock()
			s.zombies[i] = time.Since(s.began)
			s.mu.Unlock()
		})
	}
	for _, x := range s.exits {
		<-x.Done() // a bubble in which nothing can happen any more is a failure of the test
	}
	// What hangs comes back late, and changes nothing.
	close(s.lift)
	for _, x := range s.exits {
		if err := x.WaitLate(ctx); err != nil {
			return nil, err
		}
	}
	s.actors.Wait()
	return s.zombies, s.check()
}

func (s *square) check() error {
	errs := s.faults
	for i, x := range s.exits {
		errs = append(errs, x.Reap())
		synctest.Wait()
		events, r := s.events[i].all(), x.Report()
		err := errors.Join(checkEvents(events, len(s.v[i].Steps)), checkReport(r, events))
		if r.Lost != s.asked[i]-1 {
			err = errors.Join(err, fmt.Errorf("%d causes, and %d lost (I5)", s.asked[i], r.Lost))
		}
		for k := range s.v[i].Steps {
			if n := s.runs[[2]int{i, k}]; n != 1 {
				err = errors.Join(err, fmt.Errorf("step %d ran %d times (I2)", k, n))
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cage %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func TestVillages_AllEndWhoeverKillsWhomAndWhatHangs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := drawVillage(rt)
		var err error
		synctest.Test(t, func(t *testing.T) { _, err = v.live(t.Context()) })
		if err != nil {
			rt.Fatalf("%+v\n%v", v, err)
		}
	})
}

// distinct has no two things of different cages happen at the same moment, where it would be a matter of luck which is first.
func (v village) distinct() {
	unit := time.Nanosecond
	next := func(d *time.Duration) {
		*d += unit
		unit *= 2 // so that no two sums are the same either
	}
	for i := range v {
		c := &v[i]
		c.OnEvent = nil // an observer is called on whichever goroutine tells
		next(&c.Killed)
		next(&c.StopTakes)
		for k := range c.Steps {
			next(&c.Steps[k].Takes)
			if c.Steps[k].Deadline > 0 {
				next(&c.Steps[k].Deadline)
			}
		}
	}
}

// A cage whose threads do not leave for an hour changes nothing for the others, to the nanosecond (I9).
func TestVillages_AStuckCageDelaysNobody(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := drawVillage(rt)
		v.distinct()
		// It gives no causes: those of its steps would come later.
		stuck := &v[0]
		stuck.StopKills = nil
		// Nothing inside would have whoever kills it carry out its steps.
		stuck.StopInside = false
		for k := range stuck.Steps {
			stuck.Steps[k].Kills = nil
		}
		var ends [2][]time.Duration
		var errs [2]error
		for i, takes := range []time.Duration{0, time.Hour} {
			stuck.StopTakes = takes
			synctest.Test(t, func(t *testing.T) { ends[i], errs[i] = v.live(t.Context()) })
		}
		if err := errors.Join(errs[:]...); err != nil {
			rt.Fatalf("%+v\n%v", v, err)
		}
		if !slices.Equal(ends[0][1:], ends[1][1:]) {
			rt.Fatalf("%+v\nthe others end after %v, and after %v with a stuck one", v, ends[0][1:], ends[1][1:])
		}
		if ends[1][0] < time.Hour {
			rt.Fatalf("the stuck one has ended after %v", ends[1][0])
		}
	})
}

// A step that is trusted and hangs keeps its own exit Cleaning, which the report says, and nobody else; when it does return
// the exit goes on.
func TestSteps_ThatHang(t *testing.T) {
	for hung := range 3 {
		synctest.Test(t, func(t *testing.T) {
			lift := make(chan struct{})
			var steps []exitcoord.Step
			ran := map[int]int{}
			for k := range 3 {
				steps = append(steps, step(fmt.Sprint("step", k), func(context.Context) error {
					ran[k]++
					if k == hung {
						<-lift
					}
					return nil
				}))
			}
			var events record
			x := exitcoord.New(exitcoord.Config{Cage: 7, Steps: steps, Observer: events.add})
			other := exitcoord.New(exitcoord.Config{Cage: 8, Steps: []exitcoord.Step{okStep("a")}})
			x.Begin(kill)
			go func() {
				if err := x.Quiescent(nil); err != nil {
					t.Error(err)
				}
			}()
			time.Sleep(time.Hour)
			r := x.Report()
			if r.Phase != exitcoord.Cleaning || r.Steps[hung].Outcome != exitcoord.StepRunning || r.Cleaning != time.Hour {
				t.Errorf("step %d hangs:\n%v", hung, r)
			}
			other.Begin(kill)
			if err := other.Quiescent(nil); err != nil || other.Phase() != exitcoord.Zombie {
				t.Errorf("another exit: %v, %v", err, other.Phase())
			}
			close(lift)
			<-x.Done()
			verify(t, x, &events, 3)
			if want := map[int]int{0: 1, 1: 1, 2: 1}; !maps.Equal(ran, want) {
				t.Errorf("the steps ran %v times (I2)", ran)
			}
		})
	}
}

// A second cause at each event of an exit with an exec before it, from the observer itself and from another goroutine: it
// loses, unless the first has not come, and the exit ends as it would have.
func TestHistories_ACauseAtEveryTransition(t *testing.T) {
	base := history{
		StopDeadline: time.Second,
		Stops:        []stopPlan{{How: "outside", Takes: odd, End: "ok"}, {How: "outside", Takes: 2*time.Second + odd, End: "error"}},
		Steps: []stepPlan{
			{End: "ok"}, {End: "error"}, {End: "panic", Deadline: time.Second}, {End: "ok", Takes: 2*time.Second + odd, Deadline: time.Second},
		},
		Execs: []execPlan{{At: 0, After: time.Second + odd}},
		Kills: []time.Duration{5 * time.Second},
	}
	events := 0
	for n := 0; n == 0 || n <= events; n++ {
		for bad := range 3 {
			h := base
			if n > 0 {
				h.KillOnEvent = []int{n}
				if bad > 0 {
					h.BadOnEvent = make([]int, bad)
					h.BadOnEvent[bad-1] = n // the first panics, the second ends its goroutine
				}
			}
			var err error
			synctest.Test(t, func(t *testing.T) { err = h.play(t.Context()) })
			if err != nil {
				t.Errorf("a cause at event %d (%d): %v", n, bad, err)
			}
		}
		// exec: stopping, quiescent, running; cause, stopping, stop failed, stuck, quiescent, cleaning, zombie, reaped; four
		// steps that begin and end, one that is late.
		events = 3 + 8 + 8 + 1
	}
}
