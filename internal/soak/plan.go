package soak

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lindbridge/lindbridge/internal/fault"
)

// Kind is what a plan does.
type Kind string

// The kinds.
const (
	// Program runs one program of the exit matrix to its end.
	Program Kind = "program"
	// Resident makes a program that stays, and ends one of those that have stayed.
	Resident Kind = "resident"
	// Stacked runs a program under one to three grates, and ends one of them first.
	Stacked Kind = "stack"
	// Guest runs a program of testdata/guests.
	Guest Kind = "guest"
	// Race ends a program from several goroutines at once, with different causes.
	Race Kind = "race"
	// Modules loads modules, good and bad ones, and closes them while a program of theirs runs.
	Modules Kind = "module"
	// Runtimes makes a runtime of its own and closes it while programs run.
	Runtimes Kind = "runtime"
)

// shares are how often each kind is drawn, in a thousand.
var shares = []struct {
	kind Kind
	of   int
}{
	{Program, 390}, {Resident, 300}, {Stacked, 220}, {Guest, 50}, {Race, 30}, {Modules, 8}, {Runtimes, 2},
}

// Who is one plan of one worker.
type Who struct{ Worker, Index int }

// String is both numbers.
func (w Who) String() string { return fmt.Sprintf("worker %d plan %d", w.Worker, w.Index) }

// Plan is all that one turn of a worker is to do.
type Plan struct {
	Who  Who
	Kind Kind
	// Pick says which program, Other which resident or which of several.
	Pick, Other uint32
	// Kill is whether the host ends it, with Signal, After so long.
	Kill   bool
	Signal int32
	After  time.Duration
	// Limit is the program's time limit; 0 for none.
	Limit time.Duration
	// Grates are how many a stack has, Mode what its program does, Victims which of its cages are ended, by their place
	// from the outside in, the program being the last.
	Grates  int
	Mode    int
	Victims []int
	// Hasty has Spawn given up on after a moment.
	Hasty bool
	// Stale has the cage killed again when it is gone.
	Stale bool
	// Fault is what is to go wrong, or nil.
	Fault *PlannedFault
}

// PlannedFault is a fault of a plan.
type PlannedFault struct {
	Point  fault.Point
	Action fault.Action
	// For is how long a Delay is, and how long a Hang lasts.
	For time.Duration
	// First has it happen to whatever comes to the point first, be it this plan's or not.
	First bool
}

// String says what goes wrong where.
func (f *PlannedFault) String() string {
	return fmt.Sprintf("%v at %v", f.Action, f.Point)
}

// String is the plan on one line.
func (p Plan) String() string {
	s := fmt.Sprintf("%s pick=%d", p.Kind, p.Pick)
	if p.Kind == Stacked {
		s += fmt.Sprintf(" grates=%d mode=%d victims=%v", p.Grates, p.Mode, p.Victims)
	}
	if p.Kill {
		s += fmt.Sprintf(" kill(%d) after %v", p.Signal, p.After)
	}
	if p.Limit > 0 {
		s += fmt.Sprintf(" limit %v", p.Limit)
	}
	if p.Hasty {
		s += " hasty"
	}
	if p.Fault != nil {
		s += ", " + p.Fault.String()
	}
	return s
}

// faultShare is how many plans in a hundred have a fault, where faults are wanted.
const faultShare = 15

// PlanOf is the plan of a worker with the given index. It is the same for the same arguments, always.
func PlanOf(seed uint64, who Who, faults bool) Plan {
	r := rand.New(rand.NewPCG(seed, uint64(who.Worker)<<40|uint64(who.Index)))
	p := Plan{Who: who, Kind: drawKind(r), Pick: r.Uint32(), Other: r.Uint32()}
	p.Kill = r.IntN(100) < 45
	p.Signal = 9
	if r.IntN(4) == 0 {
		p.Signal = 1 + r.Int32N(31)
	}
	p.After = moment0(r)
	if r.IntN(10) == 0 {
		p.Limit = time.Microsecond + moment0(r)
	}
	p.Grates, p.Mode = 1+r.IntN(3), r.IntN(len(modes))
	p.Victims = r.Perm(p.Grates + 1)[:1+r.IntN(p.Grates+1)]
	p.Hasty, p.Stale = r.IntN(20) == 0, r.IntN(2) == 0
	// Drawn in any case, so that the rest is the same with faults and without.
	f := drawFault(r)
	if faults && r.IntN(100) < faultShare {
		p.Fault = f
	}
	return p
}

func drawKind(r *rand.Rand) Kind {
	n := r.IntN(1000)
	for _, s := range shares {
		if n -= s.of; n < 0 {
			return s.kind
		}
	}
	return Program
}

// moment0 is a time that is short mostly, and at most some milliseconds.
func moment0(r *rand.Rand) time.Duration {
	if r.IntN(3) == 0 {
		return 0
	}
	return time.Duration(r.ExpFloat64()*float64(time.Millisecond)) % (20 * time.Millisecond)
}

func drawFault(r *rand.Rand) *PlannedFault {
	points := fault.Points()
	f := &PlannedFault{Point: points[r.IntN(len(points))], For: time.Duration(r.IntN(20_000)) * time.Microsecond}
	f.First = f.Point.Spawn() || f.Point == fault.CloseLast // no cage is known there
	actions := f.Point.Actions()
	f.Action = actions[r.IntN(len(actions))]
	return f
}
