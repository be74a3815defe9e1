//go:build faults

package soak

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
	"github.com/lindbridge/lindbridge/internal/fault"
)

// bench is a soak whose plans the test makes.
type bench struct {
	*soak
	t    *testing.T
	mu   sync.Mutex
	told int // violations; guarded by mu
	warm *rest
}

// newBench is a bench that closes with the test. Whatever is wrong is an error of the test.
func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	cfg.Patience = 30 * time.Second
	cfg = cfg.withDefaults()
	b := &bench{t: t}
	b.soak = &soak{cfg: cfg, count: newCounters(1, stepNames), history: newHistory()}
	b.check = NewChecker(stepNames, func(v *Violation) { b.object(v) })
	b.onViolation = func(v *Violation) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.told++; b.told <= 5 {
			t.Errorf("%v\n%v\n%v", v, v.Events, v.Report)
		}
	}
	if err := b.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// rest wants nothing to be left, and no more than at the first rest.
func (b *bench) rest() {
	b.t.Helper()
	if err := b.drain(); err != nil {
		b.t.Fatal(err)
	}
	if b.warm == nil {
		warm, err := b.takeRest()
		if err != nil {
			b.t.Fatal(err)
		}
		b.warm = warm
	}
	if err := b.compareRest(b.warm); err != nil {
		b.t.Fatal(err)
	}
}

// do carries out a plan, and answers how often its fault has happened.
func (b *bench) do(p Plan) int {
	a := &actor{soak: b.soak, plan: p}
	a.act()
	if a.armed == nil {
		return 0
	}
	return a.armed.Hits()
}

// caseOf is the plan for the i-th program of the matrix.
func (b *bench) caseOf(i int, f *PlannedFault) Plan {
	c := b.lib.cases[i]
	return Plan{
		Who: Who{0, i}, Kind: Program, Pick: uint32(i), Kill: c.How == matrix.HostKill, Signal: 9, Stale: i%2 == 0, Fault: f,
	}
}

// stacksOf are plans for stacks of each mode, with each of their cages ended first, and none.
func stacksOf(f *PlannedFault) []Plan {
	var plans []Plan
	for mode := range modes {
		for grates := 1; grates <= 2; grates++ {
			for victim := 0; victim <= grates; victim++ {
				plans = append(plans, Plan{
					Who: Who{1, len(plans)}, Kind: Stacked, Mode: mode, Grates: grates, Victims: []int{victim}, Signal: 9,
					Pick: uint32(len(plans)), Other: uint32(len(plans)), After: 300 * time.Microsecond, Fault: f,
				})
			}
		}
	}
	return plans
}

// TestFaults_OfTheHostByEveryCause has every failure point of the host fail, panic, be slow and hang in every program of
// the exit matrix and in stacks of each kind. Whatever happens, each exit ends, each step of it runs once, what is stuck
// frees nothing until it is stuck no more, and at the end nothing is left.
func TestFaults_OfTheHostByEveryCause(t *testing.T) {
	b := newBench(t, Config{Programs: programs(t)})
	for i := range b.lib.cases {
		b.do(b.caseOf(i, nil))
	}
	b.rest()
	for _, p := range fault.Points() {
		for _, action := range p.Actions() {
			t.Run(fmt.Sprintf("%v/%v", p, action), func(t *testing.T) {
				hits := 0
				f := &PlannedFault{Point: p, Action: action, For: time.Millisecond, First: true}
				if action == fault.Hang {
					f.For = 2 * shortGrace
				}
				for i := range b.lib.cases {
					hits += b.do(b.caseOf(i, f))
				}
				for _, plan := range stacksOf(f) {
					if action == fault.Hang && plan.Mode%3 != 0 {
						continue // it takes its time
					}
					hits += b.do(plan)
				}
				b.rest()
				// A point that the causes do not come by proves nothing.
				if hits == 0 {
					t.Errorf("nothing came by %v", p)
				}
			})
		}
	}
}

// programs is how many programs of the matrix take part: LINDBRIDGE_FAULTS=all has them all.
func programs(t *testing.T) int {
	t.Helper()
	if os.Getenv("LINDBRIDGE_FAULTS") == "all" {
		return 0
	}
	return 20
}

// TestFaults_ShowInTheReport: a step that fails or panics is in the report of just that exit, and the other steps are ok.
func TestFaults_ShowInTheReport(t *testing.T) {
	b := newBench(t, Config{Programs: 4})
	for _, p := range fault.Points() {
		if p.Step() == "" {
			continue
		}
		for action, want := range map[fault.Action]exitcoord.Outcome{
			fault.Fail: exitcoord.StepFailed, fault.Panic: exitcoord.StepPanicked, fault.Delay: exitcoord.StepOK,
		} {
			c, err := b.rt.Spawn(t.Context(), lindbridge.Program{Module: b.lib.residents[0], Stdin: b.silent})
			if err != nil {
				t.Fatal(err)
			}
			armed := fault.Arm(fault.Plan{Point: p, Action: action, Cage: uint64(c.ID()), For: time.Microsecond})
			track := b.check.Claim(c.ID())
			c.Kill()
			track.Waiting()
			if _, err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := c.Report()
			track.Ended(r, true)
			for _, s := range r.Steps {
				expect := exitcoord.StepOK
				if s.Name == p.Step() {
					expect = want
				}
				if s.Outcome != expect {
					t.Errorf("%v at %v: step %v, want %v", action, p, s, expect)
				}
				var injected *fault.Error
				if s.Outcome != exitcoord.StepOK && (!errors.As(s.Err, &injected) || injected.Point != p) {
					t.Errorf("%v at %v: %v", action, p, s.Err)
				}
			}
			if armed.Hits() != 1 {
				t.Errorf("%v at %v has happened %d times", action, p, armed.Hits())
			}
			armed.Lift()
		}
	}
	b.rest()
}

// TestFaults_OfTheShimByEveryCause does the same with the failure points of the shim, which fail always, once, the second
// time and now and then, and are late. It needs the shim of make shim-faults (LINDBRIDGE_SHIM).
func TestFaults_OfTheShimByEveryCause(t *testing.T) {
	cfg := Config{Programs: programs(t), Faults: true, MaxIdleThreads: 1} // so that threads are made
	b := newBench(t, cfg)
	if len(b.shim.points) == 0 {
		t.Skip("the shim has no failure points: make faults builds one that has")
	}
	for i := range b.lib.cases {
		b.do(b.caseOf(i, nil))
	}
	b.rest()
	// What these programs do not come by: no memory grows, nothing waits in Go, and whether a stop needs the sweeper is a
	// matter of luck.
	elsewhere := []string{"memory-grow", "cancel-token", "sweeper-new"}
	for _, p := range b.shim.points {
		whats := []string{"yield", "20%sleep(500us)", "1*sleep(2ms)"}
		if p.CanFail {
			whats = append(whats, "fail", "1*fail", "1*off->1*fail", "seed=3;25%fail")
		}
		t.Run(p.Name, func(t *testing.T) {
			before := b.faultHits()["shim "+p.Name]
			for turn, what := range whats {
				if err := b.shim.engine.SetFault(p.Name, what); err != nil {
					t.Fatal(err)
				}
				b.shim.active = true
				for i := range b.lib.cases {
					b.do(b.caseOf(i, nil))
				}
				for i, plan := range stacksOf(nil) {
					if (i+turn)%4 == 0 {
						b.do(plan)
					}
				}
				b.do(Plan{Who: Who{2, 0}, Kind: Modules, Signal: 9, Pick: 1})
				if turn%3 == 0 {
					// Long enough for its threads to be asleep when it is closed.
					b.do(Plan{Who: Who{2, 1}, Kind: Runtimes, Pick: 2, After: 5 * time.Millisecond})
				}
				if err := b.shim.calm(); err != nil {
					t.Fatal(err)
				}
				b.shim.forget()
			}
			b.rest()
			if b.faultHits()["shim "+p.Name] == before && !slices.Contains(elsewhere, p.Name) {
				t.Errorf("nothing came by %s", p.Name)
			}
		})
	}
}
