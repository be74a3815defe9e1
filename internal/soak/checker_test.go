package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/fault"
	"github.com/lindbridge/lindbridge/internal/leakcheck"
)

// This file shows that the checker objects: to each invariant there are streams that break it, and it names the invariant.

var testSteps = []string{"first", "second"}

// told are the violations that a checker has told, as "I1".
type told struct{ all []*Violation }

func (o *told) checker() *Checker {
	return NewChecker(testSteps, func(v *Violation) { o.all = append(o.all, v) })
}

func (o *told) invariants() []string {
	var out []string
	for _, v := range o.all {
		if !slices.Contains(out, v.Invariant) {
			out = append(out, v.Invariant)
		}
	}
	return out
}

// goodExit is the stream and the report of a real exit that is as it should be.
func goodExit(t *testing.T) ([]exitcoord.Event, exitcoord.Report) {
	t.Helper()
	var events []exitcoord.Event
	var steps []exitcoord.Step
	for _, name := range testSteps {
		steps = append(steps, exitcoord.Step{Name: name, Run: func(context.Context) error { return nil }})
	}
	x := exitcoord.New(exitcoord.Config{
		Cage: 7, Steps: steps, Observer: func(e exitcoord.Event) { events = append(events, e) },
	})
	x.Begin(exitcoord.Cause{Kind: exitcoord.HostKill, Signal: 9})
	threads := []exitcoord.ThreadState{{TID: 1, At: "guest", Left: time.Microsecond, Outcome: "stopped"}}
	if err := errors.Join(x.Quiescent(threads), x.Reap()); err != nil {
		t.Fatal(err)
	}
	return events, x.Report()
}

// renumber gives the events the numbers 1, 2, ... again.
func renumber(events []exitcoord.Event) []exitcoord.Event {
	for i := range events {
		events[i].Seq = uint64(i + 1)
	}
	return events
}

// at is the index of an event: "quiescent", "began first", "first".
func at(t *testing.T, events []exitcoord.Event, what string) int {
	t.Helper()
	i := slices.IndexFunc(events, func(e exitcoord.Event) bool {
		switch e.Kind {
		case exitcoord.EventPhase:
			return e.Phase.String() == what
		case exitcoord.EventStepBegan:
			return "began "+e.Step.Name == what
		case exitcoord.EventStepEnded:
			return e.Step.Name == what
		}
		return e.Kind.String() == what
	})
	if i < 0 {
		t.Fatalf("no event %q in %v", what, events)
	}
	return i
}

// move has an event come before another one.
func move(t *testing.T, events []exitcoord.Event, what, before string) []exitcoord.Event {
	t.Helper()
	i := at(t, events, what)
	e := events[i]
	events = slices.Delete(events, i, i+1)
	return renumber(slices.Insert(events, at(t, events, before), e))
}

func drop(t *testing.T, events []exitcoord.Event, what string) []exitcoord.Event {
	t.Helper()
	i := at(t, events, what)
	return renumber(slices.Delete(events, i, i+1))
}

func twice(t *testing.T, events []exitcoord.Event, what string) []exitcoord.Event {
	t.Helper()
	i := at(t, events, what)
	return renumber(slices.Insert(events, i, events[i]))
}

// feed gives a checker a stream and a report.
func feed(o *told, events []exitcoord.Event, r exitcoord.Report, stuck bool) {
	c := o.checker()
	var track *Track
	for _, e := range events {
		c.Observe(e)
		if e.Seq == 1 {
			track = c.Claim(7)
		}
	}
	if track == nil {
		track = c.Claim(7)
	}
	track.Waiting()
	track.Ended(r, stuck)
	c.Rest()
}

func TestChecker_TakesAGoodExit(t *testing.T) {
	for range 3 {
		var o told
		events, r := goodExit(t)
		feed(&o, events, r, false)
		if len(o.all) != 0 {
			t.Errorf("%v", o.all)
		}
	}
}

func TestChecker_ObjectsToEachBreachOfAnInvariant(t *testing.T) {
	type stream = []exitcoord.Event
	set := func(what string, change func(e *exitcoord.Event)) func(*testing.T, stream, *exitcoord.Report) stream {
		return func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			change(&s[at(t, s, what)])
			return s
		}
	}
	step := func(change func(s *exitcoord.StepResult)) func(e *exitcoord.Event) {
		return func(e *exitcoord.Event) {
			s := *e.Step
			change(&s)
			e.Step = &s
		}
	}
	report := func(change func(r *exitcoord.Report)) func(*testing.T, stream, *exitcoord.Report) stream {
		return func(_ *testing.T, s stream, r *exitcoord.Report) stream {
			change(r)
			return s
		}
	}
	for _, c := range []struct {
		name, invariant string
		breach          func(t *testing.T, s stream, r *exitcoord.Report) stream
	}{
		{"a step begins before quiescent", "I1", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return move(t, s, "began first", "quiescent")
		}},
		{"cleaning without quiescent", "I1", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return drop(t, s, "quiescent")
		}},
		{"a thread that never left", "I1", report(func(r *exitcoord.Report) { r.Threads[0].Left = 0 })},
		{"a thread whose end nobody knows", "I1", report(func(r *exitcoord.Report) { r.Threads[0].Outcome = "" })},
		{"a step runs twice", "I2", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			s = twice(t, s, "began first")
			return renumber(slices.Insert(s, at(t, s, "began first")+1, s[at(t, s, "first")]))
		}},
		{"a step begins twice", "I2", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return twice(t, s, "began second")
		}},
		{"a step is left out", "I2", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return drop(t, drop(t, s, "began first"), "first")
		}},
		{"steps in the wrong order", "I2", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			i, j := at(t, s, "began first"), at(t, s, "began second")
			s[i], s[j] = s[j], s[i]
			i, j = at(t, s, "first"), at(t, s, "second")
			s[i], s[j] = s[j], s[i]
			return renumber(s)
		}},
		{"a step ends that did not begin", "I2", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return drop(t, s, "began second")
		}},
		{"a step that ends and runs", "I2", set("first", step(func(s *exitcoord.StepResult) { s.Outcome = exitcoord.StepRunning }))},
		{"an event is missing", "I2", func(_ *testing.T, s stream, _ *exitcoord.Report) stream { return slices.Delete(s, 4, 5) }},
		{"an event is told twice", "I2", func(_ *testing.T, s stream, _ *exitcoord.Report) stream {
			return slices.Insert(s, 4, s[4])
		}},
		{"the report lacks a step", "I2", report(func(r *exitcoord.Report) { r.Steps = r.Steps[:1] })},
		{"the report has a step that waits", "I2", report(func(r *exitcoord.Report) { r.Steps[1].Outcome = exitcoord.StepWaiting })},
		{"a step fails for no reason", "step", set("first", step(func(s *exitcoord.StepResult) {
			s.Outcome, s.Err = exitcoord.StepFailed, errors.New("input/output error")
		}))},
		{"a second cause", "I5", func(t *testing.T, s stream, _ *exitcoord.Report) stream { return twice(t, s, "cause") }},
		{"no cause", "I5", func(t *testing.T, s stream, _ *exitcoord.Report) stream { return drop(t, s, "cause") }},
		{"a cause after cleaning began", "I5", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return move(t, s, "cause", "began first")
		}},
		{"the report has another cause", "I5", report(func(r *exitcoord.Report) {
			other := *r.Cause
			other.Kind = exitcoord.Trap
			r.Cause = &other
		})},
		{"the report has another status", "I5", report(func(r *exitcoord.Report) { r.Status = exitcoord.CodeStatus(60) })},
		{"zombie before the last step", "I6", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return move(t, s, "zombie", "began second")
		}},
		{"zombie while a step runs", "I6", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return move(t, s, "zombie", "second")
		}},
		{"waited for before it is a zombie", "I6", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return s[:at(t, s, "zombie")]
		}},
		{"reaped before it is a zombie", "I7", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			return move(t, s, "reaped", "zombie")
		}},
		{"stuck for no reason", "I9", report(func(r *exitcoord.Report) { r.Stuck = &exitcoord.Stuck{Over: true} })},
		{"stuck in the wrong phase", "I9", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			e := exitcoord.Event{Cage: 7, Kind: exitcoord.EventStuck, Stuck: &exitcoord.Stuck{}}
			return renumber(slices.Insert(s, at(t, s, "cleaning"), e))
		}},
		{"the shim cannot be asked", "step", func(t *testing.T, s stream, _ *exitcoord.Report) stream {
			e := exitcoord.Event{Cage: 7, Kind: exitcoord.EventStopFailed, Err: errors.New("no")}
			return renumber(slices.Insert(s, at(t, s, "quiescent"), e))
		}},
		{"never reaped", "rest", func(t *testing.T, s stream, _ *exitcoord.Report) stream { return drop(t, s, "reaped") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o told
			events, r := goodExit(t)
			feed(&o, c.breach(t, events, &r), r, false)
			if !slices.Contains(o.invariants(), c.invariant) {
				t.Errorf("it objects to %v, want %s", o.all, c.invariant)
			}
			for _, v := range o.all {
				if v.Error() == "" || v.Invariant != "rest" && v.Cage != 7 {
					t.Errorf("violation %+v", v)
				}
			}
		})
	}
}

// What a fault has caused is no violation, where the same without one is.
func TestChecker_TakesWhatFaultsCause(t *testing.T) {
	var o told
	events, r := goodExit(t)
	i := at(t, events, "first")
	s := *events[i].Step
	s.Outcome, s.Err = exitcoord.StepPanicked, fmt.Errorf("panic: %w", &fault.Error{Point: fault.StepMemory})
	events[i].Step = &s
	e := exitcoord.Event{Cage: 7, Kind: exitcoord.EventStuck, Stuck: &exitcoord.Stuck{}}
	events = renumber(slices.Insert(events, at(t, events, "quiescent"), e))
	r.Steps[0], r.Stuck = s, &exitcoord.Stuck{Over: true}
	feed(&o, events, r, true)
	if len(o.all) != 0 {
		t.Errorf("%v", o.all)
	}
	r.Stuck = &exitcoord.Stuck{}
	feed(&o, events, r, true)
	if got := o.invariants(); !slices.Contains(got, "I9") {
		t.Errorf("an exit that is over and stuck: %v", got)
	}
}

func TestChecker_ObjectsToAnIDThatIsUsedTooEarly(t *testing.T) {
	begin := func(c *Checker) {
		c.Observe(exitcoord.Event{Cage: 7, Seq: 1, Kind: exitcoord.EventPhase, Phase: exitcoord.Stopping})
	}
	t.Run("while the cage before is cleaning", func(t *testing.T) {
		var o told
		c := o.checker()
		events, _ := goodExit(t)
		for _, e := range events[:at(t, events, "zombie")] {
			c.Observe(e)
		}
		begin(c)
		if got := o.invariants(); !slices.Contains(got, "I7") {
			t.Errorf("it objects to %v", o.all)
		}
	})
	t.Run("while nobody has waited", func(t *testing.T) {
		var o told
		c := o.checker()
		events, _ := goodExit(t)
		for _, e := range events {
			c.Observe(e)
			if e.Seq == 1 {
				c.Claim(7)
			}
		}
		c.Claim(7)
		if got := o.invariants(); !slices.Contains(got, "I7") {
			t.Errorf("it objects to %v", o.all)
		}
	})
	// The last event of a cage may be told after the first of the next one that has its id.
	t.Run("the last event of the one before comes late", func(t *testing.T) {
		var o told
		c := o.checker()
		first, r1 := goodExit(t)
		second, r2 := goodExit(t)
		last := len(first) - 1
		c.Observe(first[0])
		track1 := c.Claim(7)
		for _, e := range first[1:last] {
			c.Observe(e)
		}
		track1.Waiting()
		track2 := c.Claim(7)
		c.Observe(second[0])
		c.Observe(first[last])
		for _, e := range second[1:] {
			c.Observe(e)
		}
		track1.Ended(r1, false)
		track2.Waiting()
		track2.Ended(r2, false)
		c.Rest()
		if len(o.all) != 0 {
			t.Errorf("%v", o.all)
		}
	})
}

func TestChecker_ObjectsToWhatGuestsDoTooLate(t *testing.T) {
	for _, c := range []struct {
		a    fault.Audit
		want string
	}{
		{fault.Audit{What: fault.Called, Phase: int(exitcoord.Quiescent)}, "I1"},
		{fault.Audit{What: fault.Called, Phase: int(exitcoord.Zombie)}, "I1"},
		{fault.Audit{What: fault.Ended, Phase: int(exitcoord.Cleaning)}, "I1"},
		{fault.Audit{What: fault.Started, Phase: int(exitcoord.Stopping), Closed: true}, "I3"},
		{fault.Audit{What: fault.Called, Phase: int(exitcoord.Stopping)}, ""},
		{fault.Audit{What: fault.Started, Phase: int(exitcoord.Stopping)}, ""},
	} {
		var o told
		o.checker().Audit(c.a)
		if got := strings.Join(o.invariants(), " "); got != c.want {
			t.Errorf("%+v: it objects to %q, want %q", c.a, got, c.want)
		}
	}
}

func TestChecker_ObjectsToCleanupsThatCostMoreAmongMany(t *testing.T) {
	for _, c := range []struct {
		few, many Quantiles
		want      bool
	}{
		{Quantiles{N: 500, P50: 50 * time.Microsecond}, Quantiles{N: 500, P50: 5 * time.Millisecond}, true},
		{Quantiles{N: 500, P50: 50 * time.Microsecond}, Quantiles{N: 500, P50: 80 * time.Microsecond}, false},
		{Quantiles{N: 5, P50: 50 * time.Microsecond}, Quantiles{N: 500, P50: 5 * time.Millisecond}, false},
	} {
		var o told
		o.checker().Proportionate(c.few, c.many)
		if got := slices.Contains(o.invariants(), "I10"); got != c.want {
			t.Errorf("%+v: %v", c, o.all)
		}
	}
}

// actor_ is an actor of a soak that was never opened, whose violations are told to o.
func actorFor(o *told) *actor {
	s := &soak{history: newHistory(), count: newCounters(1, stepNames)}
	s.onViolation = func(v *Violation) { o.all = append(o.all, v) }
	return &actor{soak: s}
}

func TestJudge_ObjectsToEndsThatMayNotBe(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause exitcoord.Cause
		want  string
	}{
		{"as planned", exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 42}, ""},
		{"another code", exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 43}, "end"},
		{"another cause", exitcoord.Cause{Kind: exitcoord.Trap}, "end"},
		// I4: a call that a grate guards must never come to native.
		{"native", exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: codeNative}, "I4"},
	} {
		var o told
		r := exitcoord.Report{Cause: &c.cause, Status: c.cause.Status()}
		actorFor(&o).judge(nil, r, []end{{exitcoord.ExitGroup, exitcoord.CodeStatus(42)}})
		if got := strings.Join(o.invariants(), " "); got != c.want {
			t.Errorf("%s: it objects to %v, want %q", c.name, o.all, c.want)
		}
	}
}

func TestRefused_ObjectsUnlessItWasToBe(t *testing.T) {
	for _, c := range []struct {
		plan Plan
		err  error
		want string
	}{
		{Plan{}, errors.New("no memory"), "end"},
		{Plan{}, context.DeadlineExceeded, "end"},
		{Plan{Hasty: true}, fmt.Errorf("spawn stack: %w", context.DeadlineExceeded), ""},
		{Plan{}, fmt.Errorf("spawn: %w", &fault.Error{Point: fault.SpawnDomain}), ""},
	} {
		var o told
		a := actorFor(&o)
		a.plan = c.plan
		a.refused(c.err)
		if got := strings.Join(o.invariants(), " "); got != c.want {
			t.Errorf("%v: it objects to %v, want %q", c.err, o.all, c.want)
		}
	}
}

func TestRest_ObjectsToWhateverIsLeft(t *testing.T) {
	base := func() *rest {
		return &rest{
			holds:      leakcheck.Holdings{Threads: 20, FDs: []string{"0 /dev/null", "3 anon_inode:[eventfd]"}, Mappings: 500, Resident: 64 << 20},
			goroutines: 5,
			stats:      lindbridge.Stats{Modules: 10, OpenFiles: 1, ThreadsIdle: 8},
		}
	}
	if out := base().left(base()); len(out) != 0 {
		t.Errorf("nothing is left: %q", out)
	}
	for what, change := range map[string]func(r *rest){
		"cages":               func(r *rest) { r.stats.Cages++ },
		"ids":                 func(r *rest) { r.stats.IDs++ },
		"handler rows":        func(r *rest) { r.stats.HandlerRows++ },
		"domains":             func(r *rest) { r.stats.Domains++ },
		"threads of guests":   func(r *rest) { r.stats.ThreadsRunning++ },
		"late calls":          func(r *rest) { r.stats.LateCalls++ },
		"modules":             func(r *rest) { r.stats.Modules++ },
		"open files of cages": func(r *rest) { r.stats.OpenFiles++ },
		"OS threads":          func(r *rest) { r.holds.Threads += moreThreads + 1 },
		"descriptors":         func(r *rest) { r.holds.FDs = append(r.holds.FDs, "9 pipe:[1]") },
		"eventfds": func(r *rest) {
			for range 100 {
				r.holds.FDs = append(r.holds.FDs, "9 anon_inode:[eventfd]")
			}
		},
		"images of memories": func(r *rest) {
			for range 11 {
				r.holds.FDs = append(r.holds.FDs, "9 /memfd:wasm-memory-image (deleted)")
			}
		},
		"goroutines": func(r *rest) { r.goroutines += moreGoroutines + 1 },
	} {
		now := base()
		change(now)
		if out := strings.Join(base().left(now), "; "); !strings.Contains(out, what) {
			t.Errorf("%s: %q", what, out)
		}
	}
	if !leakcheck.MemoryTells {
		return
	}
	now := base()
	now.holds.Mappings += moreMappings + 1
	now.holds.Resident += moreResident + 1<<20
	if out := base().left(now); len(out) != 2 {
		t.Errorf("mappings and memory: %q", out)
	}
}

func TestViolations_EndTheSoakAndAreInTheFailure(t *testing.T) {
	s := &soak{cfg: Config{Seed: 3}.withDefaults(), history: newHistory(), count: newCounters(3, stepNames), next: []int{17, 12}}
	s.history.note(Who{1, 11}, 0, "what the plan did")
	for i := range 3 * historySize {
		s.history.note(Who{0, i}, abi.CageID(i%50), "noise %d", i)
	}
	s.history.note(Who{1, 11}, 0, "and then")
	s.object(&Violation{Invariant: "I4", Cage: 7, Text: "native"}, Who{1, 11})
	if !s.over() {
		t.Error("it goes on")
	}
	f := &Failure{Figures: s.figures(time.Now()), Recent: s.lately, Replay: s.replay()}
	for _, want := range []string{
		"I4: cage 7: native", "and then", "worker 1 plan 11", "--seed 3 --replay --from 9", "(cage 7)",
	} {
		if !strings.Contains(f.Error(), want) {
			t.Errorf("it does not say %q:\n%v", want, f)
		}
	}
	if n := strings.Count(f.Error(), "\n"); n > 100 {
		t.Errorf("%d lines", n)
	}
}
