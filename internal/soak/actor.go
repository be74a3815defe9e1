package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/fault"
)

// actor carries out one plan.
type actor struct {
	*soak
	plan  Plan
	armed *fault.Armed // the plan's fault, or nil
	// suspect is the cage that the fault is for, as far as it is known.
	suspect atomic.Pointer[lindbridge.Cage]
	slow    bool          // exits of it take their time, and may be stuck for a while
	over    chan struct{} // closed when the plan is
	held    sync.WaitGroup
}

// What a cage's StopGrace is: with a fault, it is to be exceeded.
const (
	usualGrace = 20 * time.Second
	shortGrace = 5 * time.Millisecond
	spinGrace  = 100 * time.Millisecond
)

func (a *actor) act() {
	a.over = make(chan struct{})
	switch a.plan.Kind {
	case Program:
		a.program()
	case Resident:
		a.resident()
	case Stacked:
		a.stack()
	case Guest:
		a.guest()
	case Race:
		a.race()
	case Modules:
		a.modules()
	case Runtimes:
		a.runtimes()
	}
	close(a.over)
	if a.armed != nil {
		a.armed.Lift()
	}
	a.held.Wait()
}

func (a *actor) note(cage abi.CageID, format string, args ...any) {
	if a.plan.Who.Worker >= 0 {
		a.history.note(a.plan.Who, cage, format, args...)
	}
}

// wrong tells of a violation in this plan.
func (a *actor) wrong(invariant string, c *lindbridge.Cage, format string, args ...any) {
	v := &Violation{Invariant: invariant, Text: fmt.Sprintf("%v (%v): %s", a.plan.Who, a.plan, fmt.Sprintf(format, args...))}
	if c != nil {
		r := c.Report()
		v.Cage, v.Report = c.ID(), &r
	}
	a.object(v, a.plan.Who)
}

func (a *actor) grace() time.Duration {
	if a.plan.Fault != nil {
		return shortGrace
	}
	return usualGrace
}

// pause lets d pass, for others to meet what there is now.
func (a *actor) pause(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// armBefore arms a fault that concerns the making of a cage, which has no id yet, or one that no cage is known at.
func (a *actor) armBefore() {
	f := a.plan.Fault
	if f == nil || a.armed != nil {
		return
	}
	if f.First {
		a.armAt(nil)
	}
}

// armFor arms the plan's fault for a cage.
func (a *actor) armFor(c *lindbridge.Cage) {
	a.suspect.CompareAndSwap(nil, c)
	if f := a.plan.Fault; f != nil && a.armed == nil {
		a.armAt(c)
	}
}

func (a *actor) armAt(c *lindbridge.Cage) {
	f := a.plan.Fault
	plan := fault.Plan{Point: f.Point, Action: f.Action, For: f.For}
	if c != nil {
		plan.Cage = uint64(c.ID())
	}
	armed := fault.Arm(plan)
	a.armed = armed
	if f.Action != fault.Hang {
		return
	}
	a.held.Go(func() {
		select {
		case <-armed.Reached():
		case <-a.over:
			return
		}
		a.pause(f.For)
		if c := a.suspect.Load(); c != nil && armed.Cage() == uint64(c.ID()) {
			a.checkHeld(c)
		}
		armed.Lift()
	})
}

// checkHeld holds a cage that a thread hangs in against the protocol: if it is stuck, nothing of it is freed.
func (a *actor) checkHeld(c *lindbridge.Cage) {
	switch a.plan.Fault.Point {
	case fault.HostCall, fault.HostCallEnd, fault.ThreadEnd, fault.Quiescent, fault.Stop:
	default:
		return // it does not hang in phase 1
	}
	select {
	case <-c.Stuck():
	default:
		return
	}
	if r := c.Report(); r.Phase != exitcoord.Stopping {
		a.wrong("I1", c, "something hangs in it, and it is %v", r.Phase)
	}
}

// blamable reports whether the plan's fault may be why a program ended otherwise than it would have.
func (a *actor) blamable() bool {
	if a.armed == nil || a.armed.Hits() == 0 {
		return false
	}
	switch a.plan.Fault.Point {
	case fault.HostCall, fault.HostCallEnd, fault.ThreadEnd, fault.SpawnThread, fault.TimeLimit:
		return true
	}
	return false
}

// live is a cage that was made, and what the checker knows of it.
type live struct {
	cage  *lindbridge.Cage
	track *Track
}

// spawn makes a cage, or answers false.
func (a *actor) spawn(p lindbridge.Program) (live, bool) {
	a.armBefore()
	c, err := a.rt.Spawn(context.Background(), p)
	if err != nil {
		a.refused(err)
		return live{}, false
	}
	l := a.claim(c)
	a.armFor(c)
	return l, true
}

func (a *actor) claim(c *lindbridge.Cage) live {
	a.count.change(func(f *Figures) { f.Cages++; f.Alive++ })
	a.note(c.ID(), "made")
	return live{c, a.check.Claim(c.ID())}
}

// refused is told why a cage was not made.
func (a *actor) refused(err error) {
	a.count.change(func(f *Figures) { f.Refused++ })
	a.note(0, "refused: %v", err)
	if injected(err) || a.plan.Hasty && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return
	}
	if a.shimFaults() {
		return
	}
	a.wrong("end", nil, "nothing was made: %v", err)
}

// kill ends a cage as the plan says. With a fault it may be kept, so that it is not waited for.
func (a *actor) kill(c *lindbridge.Cage) {
	a.note(c.ID(), "kill(%d)", a.plan.Signal)
	if a.plan.Fault == nil {
		c.KillSignal(syscall.Signal(a.plan.Signal))
		return
	}
	a.held.Go(func() { c.KillSignal(syscall.Signal(a.plan.Signal)) })
}

// end is one way in which a program may end.
type end struct {
	kind   exitcoord.CauseKind
	status exitcoord.Status
}

func killed(signal int32) end { return end{exitcoord.HostKill, exitcoord.SignalStatus(signal)} }

// acquit lifts a fault that is for the cage when it has ended, before its id is another's.
func (a *actor) acquit(ctx context.Context, c *lindbridge.Cage) {
	if a.armed == nil || a.suspect.Load() != c {
		return
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
	}
	a.armed.Lift()
}

// finish waits for the cage's end, and holds it against the protocol and the plan.
func (a *actor) finish(l live, may ...end) {
	c := l.cage
	id := c.ID()
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Patience)
	defer cancel()
	a.acquit(ctx, c)
	l.track.Waiting()
	status, err := c.Wait(ctx)
	if err != nil {
		a.wrong("I8", c, "%v: %v\n%s", errPatience, err, stacks())
		return
	}
	r := c.Report()
	a.note(id, "ended: %v", r.Cause)
	disturbed := a.plan.Fault != nil || a.slow || a.shimFaults()
	l.track.Ended(r, disturbed)
	a.count.exit(r, disturbed)
	if !disturbed && a.cfgScant() != nil {
		a.cfgScant().add(r.Cleaning)
	}
	if status != r.Status {
		a.wrong("I5", c, "its owner was told %v", status)
	}
	a.judge(c, r, may)
	if a.plan.Stale { // whoever has its id now must not notice
		c.KillSignal(syscall.SIGUSR2)
		<-c.Done()
	}
}

// cfgScant is where the times of cleanups go: among few cages, or among as many as there are to be.
func (a *actor) cfgScant() *sample {
	switch {
	case a.scant.Load():
		return &a.few
	case a.crowd.want.Load() >= int64(a.cfg.Cages):
		return &a.many
	}
	return nil
}

// judge wants the end to be one of those that may be.
func (a *actor) judge(c *lindbridge.Cage, r exitcoord.Report, may []end) {
	if r.Cause != nil && r.Cause.Kind == exitcoord.ExitGroup && r.Status == exitcoord.CodeStatus(codeNative) {
		a.wrong("I4", c, "a call that a grate guards has reached native")
		return
	}
	for _, e := range may {
		if r.Cause != nil && r.Cause.Kind == e.kind && r.Status == e.status {
			return
		}
	}
	if a.blamable() || a.shimFaults() {
		return
	}
	a.wrong("end", c, "it ended with %v, want one of %+v", r.Cause, may)
}

// checkEOF wants nothing to be left that could write to the pipe.
func (a *actor) checkEOF(out *os.File, c *lindbridge.Cage) {
	if err := out.SetReadDeadline(time.Now().Add(a.cfg.Patience)); err != nil {
		a.wrong("I6", c, "%v", err)
		return
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		a.wrong("I6", c, "it is gone, and its end of a pipe is open: %v", err)
	}
}

func stacks() []byte {
	b := make([]byte, 1<<18)
	return b[:runtime.Stack(b, true)]
}
