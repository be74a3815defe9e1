package fault

import (
	"slices"
	"strconv"
	"strings"
)

// Point is a place in the code of the host that can be made to fail.
type Point uint8

// The points.
const (
	// Stop: the shim is about to be asked to stop a domain.
	Stop Point = iota
	// StepNotify and its likes: a step of an exit begins.
	StepNotify
	StepHandlers
	StepDescriptors
	StepTimers
	StepChildren
	StepMemory
	StepZombie
	// CloseLast: a host descriptor is about to be closed, since the last reference to it was dropped.
	CloseLast
	// HostCall: a guest's call has come to the host, and nothing of it is done.
	HostCall
	// HostCallEnd: all of it is done, and it is about to return to the guest.
	HostCallEnd
	// ThreadEnd: the host is being told of the end of a thread.
	ThreadEnd
	// Quiescent: the host is being told that a domain is.
	Quiescent
	// TimeLimit: the time limit of a cage has passed.
	TimeLimit
	// SpawnThread: a guest has asked for a thread.
	SpawnThread
	// SpawnProcess and its likes: a cage is being made, and what the name says is next.
	SpawnProcess
	SpawnStreams
	SpawnDirs
	SpawnDomain
	SpawnCage
	SpawnGrate
	SpawnStart

	numPoints = iota
)

// site is what there is to know of a point.
type site struct {
	name    string
	actions []Action
	cleanup bool
}

var (
	everything = []Action{Fail, Panic, Delay, Hang}
	// A callback has no error to return, and what it panics with ends the cage.
	callback = []Action{Panic, Delay, Hang}
	// Spawn is called by a program that has no reason to expect a panic of it.
	spawning = []Action{Fail, Delay}
)

var sites = [numPoints]site{
	Stop:            {"stop", everything, true},
	StepNotify:      {"step notify", everything, true},
	StepHandlers:    {"step handlers", everything, true},
	StepDescriptors: {"step descriptors", everything, true},
	StepTimers:      {"step timers", everything, true},
	StepChildren:    {"step children", everything, true},
	StepMemory:      {"step memory", everything, true},
	StepZombie:      {"step zombie", everything, true},
	CloseLast:       {"close last", everything, true},
	HostCall:        {"host call", callback, false},
	HostCallEnd:     {"host call end", callback, false},
	ThreadEnd:       {"thread end", callback, true},
	Quiescent:       {"quiescent", callback, true},
	TimeLimit:       {"time limit", []Action{Delay, Hang}, false},
	SpawnThread:     {"spawn thread", []Action{Fail, Panic, Delay, Hang}, false},
	SpawnProcess:    {"spawn process", spawning, false},
	SpawnStreams:    {"spawn streams", spawning, false},
	SpawnDirs:       {"spawn dirs", spawning, false},
	SpawnDomain:     {"spawn domain", spawning, false},
	SpawnCage:       {"spawn cage", spawning, false},
	SpawnGrate:      {"spawn grate", spawning, false},
	SpawnStart:      {"spawn start", spawning, false},
}

// Points are all points, in the order of their numbers.
func Points() []Point {
	all := make([]Point, numPoints)
	for i := range all {
		all[i] = Point(i)
	}
	return all
}

// String is the point's name: words in lower case, the same in reports and in the soak's figures.
func (p Point) String() string {
	if int(p) >= numPoints {
		return "point " + strconv.Itoa(int(p))
	}
	return sites[p].name
}

// Actions are what can be made to happen at p.
func (p Point) Actions() []Action {
	if int(p) >= numPoints {
		return nil
	}
	return slices.Clone(sites[p].actions)
}

// Cleanup reports whether p begins a piece of cleanup, whose work is done whatever happens at p.
func (p Point) Cleanup() bool { return int(p) < numPoints && sites[p].cleanup }

// Step is the name of the exit's step that p begins; empty if p is no such point.
func (p Point) Step() string {
	step, _ := strings.CutPrefix(p.String(), "step ")
	if step == p.String() {
		return ""
	}
	return step
}

// Spawn reports whether p is passed while a cage is being made.
func (p Point) Spawn() bool { return p >= SpawnProcess && int(p) < numPoints }

// Action is what happens at a point that is armed.
type Action uint8

// The actions.
const (
	// Fail returns an *Error.
	Fail Action = iota + 1
	// Panic panics with an *Error.
	Panic
	// Delay waits for Plan.For, and then nothing is wrong.
	Delay
	// Hang waits until Armed.Lift, and then nothing is wrong.
	Hang
)

// String is the action in one word.
func (a Action) String() string {
	switch a {
	case Fail:
		return "fail"
	case Panic:
		return "panic"
	case Delay:
		return "delay"
	case Hang:
		return "hang"
	}
	return "action " + strconv.Itoa(int(a))
}

// Error is a failure that was injected.
type Error struct{ Point Point }

// Error names the point.
func (e *Error) Error() string { return "injected fault at " + e.Point.String() }
