package soak

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/fault"
)

// Violation is something that must not be.
type Violation struct {
	// Invariant is I1 to I10 of the exit protocol; "rest" for what is left at rest, "end" for a program that ended otherwise
	// than it may, "step" for a step that failed without a reason.
	Invariant string
	// Cage is whose exit it was, 0 if of none.
	Cage abi.CageID
	Text string
	// Events are those of the exit so far, and Report its report, nil if there is none.
	Events []exitcoord.Event
	Report *exitcoord.Report
}

// Error is what happened, on one line.
func (v *Violation) Error() string {
	if v.Cage == 0 {
		return v.Invariant + ": " + v.Text
	}
	return fmt.Sprintf("%s: cage %d: %s", v.Invariant, v.Cage, v.Text)
}

// Checker checks the exits of the cages of one runtime. Its methods are safe for concurrent use.
type Checker struct {
	steps  []string         // immutable
	object func(*Violation) // immutable
	shards [64]shard
}

// shard is the exits of some ids.
type shard struct {
	mu sync.Mutex
	// All that follows is guarded by mu.
	now    map[abi.CageID]*Track // who has the id, or had it last
	before map[abi.CageID]*Track // who had it before, and of whose end not all may be told yet
}

// NewChecker is a checker for exits that have the given steps. It tells object of each violation, on the goroutine that
// brought it up.
func NewChecker(steps []string, object func(*Violation)) *Checker {
	c := &Checker{steps: steps, object: object}
	for i := range c.shards {
		c.shards[i].now, c.shards[i].before = map[abi.CageID]*Track{}, map[abi.CageID]*Track{}
	}
	return c
}

// Track is what the checker knows of one cage's exit.
type Track struct {
	c    *Checker
	cage abi.CageID // immutable

	// All that follows is guarded by the shard's mu.
	events  []exitcoord.Event
	next    uint64 // the number of the event that is due
	phase   exitcoord.Phase
	cause   *exitcoord.Cause
	stuck   bool
	step    int  // whose turn it is
	running bool // it runs
	claimed bool // the owner has asked for it
	waiting bool // the owner waits, so that the id may be given back
}

func (c *Checker) shard(id abi.CageID) *shard { return &c.shards[uint64(id)%uint64(len(c.shards))] }

// findings are what is wrong, collected under a lock.
type findings []*Violation

func (f *findings) add(t *Track, invariant, format string, args ...any) {
	v := &Violation{Invariant: invariant, Text: fmt.Sprintf(format, args...)}
	if t != nil {
		v.Cage, v.Events = t.cage, slices.Clone(t.events)
	}
	*f = append(*f, v)
}

func (c *Checker) tell(f findings) {
	for _, v := range f {
		c.object(v)
	}
}

// Observe is told each event of each exit, in the order of each.
func (c *Checker) Observe(e exitcoord.Event) {
	var f findings
	s := c.shard(e.Cage)
	s.mu.Lock()
	if t := c.ofLocked(s, e, &f); t != nil {
		t.takeLocked(e, &f)
	}
	s.mu.Unlock()
	c.tell(f)
}

// ofLocked is whose event it is: ids are used again, and the last event of a cage may be told after the first of the next.
func (c *Checker) ofLocked(s *shard, e exitcoord.Event, f *findings) *Track {
	now := s.now[e.Cage]
	switch {
	case now != nil && e.Seq == now.next:
		return now
	case e.Seq == 1:
		return c.beginLocked(s, e.Cage, f)
	}
	if t := s.before[e.Cage]; t != nil && e.Seq == t.next {
		return t
	}
	if e.Kind == exitcoord.EventStopFailed && injected(e.Err) {
		return nil // of one before those: this event alone may come that late
	}
	if now == nil {
		now = c.beginLocked(s, e.Cage, f)
	}
	f.add(now, "I2", "event %d is told when it is the turn of %d: %v", e.Seq, now.next, e)
	now.next = e.Seq
	return now
}

// beginLocked begins the exit of another cage that has the id.
func (c *Checker) beginLocked(s *shard, id abi.CageID, f *findings) *Track {
	if last := s.now[id]; last != nil {
		switch {
		case last.phase < exitcoord.Zombie:
			f.add(last, "I7", "its id is another cage's while it is %v", last.phase)
		case last.claimed && !last.waiting:
			f.add(last, "I7", "its id is another cage's, and nobody has waited for it")
		}
		s.before[id] = last
	}
	t := &Track{c: c, cage: id, next: 1}
	s.now[id] = t
	return t
}

// Claim is the exit of a cage that was just made, for its owner, who has not waited for it yet.
func (c *Checker) Claim(id abi.CageID) *Track {
	var f findings
	s := c.shard(id)
	s.mu.Lock()
	t := s.now[id]
	if t == nil || t.claimed || t.neverOwned() {
		t = c.beginLocked(s, id, &f)
	}
	t.claimed = true
	s.mu.Unlock()
	c.tell(f)
	return t
}

// neverOwned reports whether it is the exit of a cage that no owner was given, since its stack did not start: such a cage
// is reaped before that is told, and so is one that could not start; the owner of any other reaps it.
func (t *Track) neverOwned() bool {
	return t.phase == exitcoord.Reaped || t.cause != nil && t.cause.Kind == exitcoord.GrateFailure
}

// Waiting says that the owner is about to wait for the cage, so that its id may be another's from now on.
func (t *Track) Waiting() {
	s := t.c.shard(t.cage)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.waiting = true
}

// next are the phases that may follow.
var follows = [...][]exitcoord.Phase{
	exitcoord.Running:   {exitcoord.Stopping},
	exitcoord.Stopping:  {exitcoord.Quiescent},
	exitcoord.Quiescent: {exitcoord.Cleaning, exitcoord.Running},
	exitcoord.Cleaning:  {exitcoord.Zombie},
	exitcoord.Zombie:    {exitcoord.Reaped},
	exitcoord.Reaped:    {},
}

// takeLocked takes the next event.
func (t *Track) takeLocked(e exitcoord.Event, f *findings) {
	t.events = append(t.events, e)
	t.next++
	switch e.Kind {
	case exitcoord.EventCause:
		if t.cause != nil {
			f.add(t, "I5", "a second cause: %v", e.Cause)
			return
		}
		if t.phase >= exitcoord.Cleaning {
			f.add(t, "I5", "the cause comes while it is %v", t.phase)
		}
		t.cause = e.Cause
	case exitcoord.EventPhase:
		t.moveLocked(e.Phase, f)
	case exitcoord.EventStuck:
		if t.phase != exitcoord.Stopping || t.stuck {
			f.add(t, "I9", "stuck while it is %v, or twice", t.phase)
		}
		t.stuck = true
	case exitcoord.EventStopFailed:
		if !injected(e.Err) {
			f.add(t, "step", "the shim could not be asked to stop: %v", e.Err)
		}
	case exitcoord.EventStepBegan:
		t.stepBeganLocked(e.Step, f)
	case exitcoord.EventStepEnded:
		t.stepEndedLocked(e.Step, f)
	}
}

func (t *Track) moveLocked(to exitcoord.Phase, f *findings) {
	if !slices.Contains(follows[t.phase], to) {
		what := "I1"
		switch to {
		case exitcoord.Zombie:
			what = "I6"
		case exitcoord.Reaped:
			what = "I7"
		}
		f.add(t, what, "%v after %v", to, t.phase)
	}
	switch to {
	case exitcoord.Cleaning:
		if t.cause == nil {
			f.add(t, "I5", "cleaning without a cause")
		}
	case exitcoord.Zombie:
		if t.running || t.step != len(t.c.steps) {
			f.add(t, "I6", "zombie after %d of %d steps", t.step, len(t.c.steps))
		}
	}
	t.phase = to
}

func (t *Track) stepBeganLocked(r *exitcoord.StepResult, f *findings) {
	if t.phase != exitcoord.Cleaning {
		what := "I1"
		if t.phase > exitcoord.Cleaning {
			what = "I6"
		}
		f.add(t, what, "step %s begins while it is %v", r.Name, t.phase)
	}
	switch {
	case t.running:
		f.add(t, "I2", "step %s begins while another runs", r.Name)
	case r.Index != t.step, t.step >= len(t.c.steps), r.Name != t.c.steps[t.step]:
		f.add(t, "I2", "step %s, number %d, begins when it is the turn of number %d", r.Name, r.Index, t.step)
	}
	t.running = true
}

func (t *Track) stepEndedLocked(r *exitcoord.StepResult, f *findings) {
	if !t.running || r.Index != t.step {
		f.add(t, "I2", "step %s, number %d, ends when number %d runs: %v", r.Name, r.Index, t.step, t.running)
	}
	switch {
	case r.Outcome == exitcoord.StepOK:
	case r.Outcome < exitcoord.StepOK:
		f.add(t, "I2", "step %s ends and is %v", r.Name, r.Outcome)
	case !injected(r.Err) && !errors.Is(r.Err, errToldInTime):
		f.add(t, "step", "%v", r)
	}
	t.running, t.step = false, r.Index+1
}

// errToldInTime: a grate that is told of an end may be slow, or be ending itself.
var errToldInTime = contextDeadline

// injected reports whether the failure is one that a fault has caused.
func injected(err error) bool {
	if err == nil {
		return false
	}
	var f *fault.Error
	return errors.As(err, &f) || strings.Contains(err.Error(), "injected fault")
}

// Ended holds the report of a cage, which its owner has waited for, against the events and the protocol. stuck says that
// a fault has kept something in the cage, so that the exit may have been stuck for a while.
func (t *Track) Ended(r exitcoord.Report, stuck bool) {
	var f findings
	s := t.c.shard(t.cage)
	s.mu.Lock()
	t.endedLocked(r, stuck, &f)
	if len(f) == 0 {
		t.events = nil // nobody will ask for them
	}
	s.mu.Unlock()
	for _, v := range f {
		v.Report = &r
	}
	t.c.tell(f)
}

func (t *Track) endedLocked(r exitcoord.Report, stuck bool, f *findings) {
	if t.phase < exitcoord.Zombie {
		f.add(t, "I6", "its owner was let go while it is %v", t.phase)
	}
	switch {
	case r.Cause == nil || t.cause == nil:
		f.add(t, "I5", "it has ended without a cause")
	case *r.Cause != *t.cause || r.Status != t.cause.Status():
		f.add(t, "I5", "the report has %v and %v, the first cause was %v", r.Cause, r.Status, t.cause)
	}
	switch {
	case r.Stuck == nil:
	case !stuck:
		f.add(t, "I9", "it was stuck, and nothing of its own was in its way")
	case !r.Stuck.Over:
		f.add(t, "I9", "it has ended and is stuck")
	}
	for _, th := range r.Threads {
		if th.Left == 0 || th.Outcome == "" {
			f.add(t, "I1", "thread %d never left: %+v", th.TID, th)
		}
	}
	if len(r.Steps) != len(t.c.steps) {
		f.add(t, "I2", "%d steps, want %d", len(r.Steps), len(t.c.steps))
		return
	}
	for i, step := range r.Steps {
		if step.Name != t.c.steps[i] || step.Outcome <= exitcoord.StepRunning {
			f.add(t, "I2", "step %d is %v, want the end of %s", i, step, t.c.steps[i])
		}
	}
	if r.Total < r.Stopping+r.Cleaning || r.Stopping < 0 || r.Cleaning < 0 {
		f.add(t, "I6", "stopping took %v and cleaning %v of %v", r.Stopping, r.Cleaning, r.Total)
	}
}

// Audit is told what guests did while their exits were under way.
func (c *Checker) Audit(a fault.Audit) {
	var f findings
	phase := exitcoord.Phase(a.Phase)
	switch {
	case a.What == fault.Started && a.Closed:
		f.add(nil, "I3", "cage %d was given a thread after its gate had been shut", a.Cage)
	case phase >= exitcoord.Quiescent && a.What == fault.Called:
		f.add(nil, "I1", "cage %d, which is %v, has called the host", a.Cage, phase)
	case phase >= exitcoord.Quiescent && a.What == fault.Ended:
		f.add(nil, "I1", "a thread of cage %d, which is %v, has ended by itself", a.Cage, phase)
	}
	c.tell(f)
}

// Rest is told that no cage is left, and objects to exits of which not all was told.
func (c *Checker) Rest() {
	var f findings
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, tracks := range []map[abi.CageID]*Track{s.now, s.before} {
			for _, t := range tracks {
				if t.phase != exitcoord.Reaped && (t.claimed || t.next > 1) {
					f.add(t, "rest", "it is %v, and no cage is left", t.phase)
				}
			}
		}
		clear(s.now)
		clear(s.before)
		s.mu.Unlock()
	}
	c.tell(f)
}

// Proportionate objects if what an exit's cleanup costs depends on how many cages there are: few and many are the times of
// like exits among few cages and among many. What it takes for an objection is far more than a busy machine makes of it.
func (c *Checker) Proportionate(few, many Quantiles) {
	const enough, times, floor = 100, 20, 500 * time.Microsecond
	if few.N < enough || many.N < enough || many.P50 < floor || many.P50 < times*few.P50 {
		return
	}
	var f findings
	f.add(nil, "I10", "half of the cleanups take more than %v among many cages, and %v among few", many.P50, few.P50)
	c.tell(f)
}
