package soak

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
)

// This file has what each kind of plan does, save stacks.

// kinds are exitcoord's causes in the words of the matrix.
var kinds = map[matrix.Cause]exitcoord.CauseKind{
	matrix.CauseExitGroup:    exitcoord.ExitGroup,
	matrix.CauseMainReturned: exitcoord.MainReturned,
	matrix.CauseTrap:         exitcoord.Trap,
	matrix.CauseHostKill:     exitcoord.HostKill,
	matrix.CauseTimeLimit:    exitcoord.TimeLimit,
}

// ends are the right ends of a case of the matrix.
func ends(c matrix.Case) []end {
	var out []end
	for _, o := range c.Want {
		e := end{kind: kinds[o.Cause], status: exitcoord.CodeStatus(o.Code)}
		if o.Signal != 0 {
			e.status = exitcoord.SignalStatus(o.Signal)
		}
		out = append(out, e)
	}
	return out
}

var timeLimit = end{exitcoord.TimeLimit, exitcoord.SignalStatus(9)}

// program runs a program of the matrix.
func (a *actor) program() {
	i := int(a.plan.Pick) % len(a.lib.cases)
	c := a.lib.cases[i]
	out, in, err := os.Pipe()
	if err != nil {
		a.wrong("rest", nil, "%v", err)
		return
	}
	defer out.Close()
	p := lindbridge.Program{
		Module: a.lib.programs[i], Stdin: a.silent, Stdout: in, StopGrace: a.grace(), TimeLimit: a.plan.Limit,
	}
	may := ends(c)
	if c.How == matrix.TimeLimit && p.TimeLimit == 0 {
		p.TimeLimit = time.Millisecond
	}
	if p.TimeLimit > 0 {
		may = append(may, timeLimit)
	}
	a.note(0, "%s", c.Name)
	l, made := a.spawn(p)
	_ = in.Close() // the cage has its own
	if !made {
		return
	}
	if c.How == matrix.HostKill && a.plan.Other%2 == 0 {
		// Until it is ready; or has ended otherwise, or hangs.
		_ = out.SetReadDeadline(time.Now().Add(a.cfg.Patience / 2))
		_, _ = io.ReadFull(out, make([]byte, 1))
	}
	if c.How == matrix.HostKill || a.plan.Kill {
		a.pause(a.plan.After)
		a.kill(l.cage)
		may = append(may, killed(a.plan.Signal))
	}
	a.finish(l, may...)
	a.checkEOF(out, l.cage)
}

// resident makes a program that stays, and ends one that has.
func (a *actor) resident() {
	m := a.lib.residents[int(a.plan.Pick)%len(a.lib.residents)]
	p := lindbridge.Program{Module: m, Stdin: a.silent, StopGrace: usualGrace}
	if a.plan.Limit > 0 {
		p.TimeLimit = 100 * a.plan.Limit
	}
	c, err := a.rt.Spawn(context.Background(), p)
	if err != nil {
		a.refused(err)
		return
	}
	l := a.claim(c)
	out := a.crowd.add(&resident{l.cage, l.track, p.TimeLimit > 0, a.plan}, a.plan.Other)
	if out == nil {
		return
	}
	a.note(out.cage.ID(), "ends what %v has made", out.plan.Who)
	a.armBefore()
	a.armFor(out.cage)
	a.kill(out.cage)
	a.finishResident(out)
}

func (a *actor) finishResident(r *resident) {
	may := []end{killed(a.plan.Signal)}
	if r.limited {
		may = append(may, timeLimit)
	}
	// A fault keeps a thread for as long as its For; the grace of the resident is longer.
	a.finish(live{r.cage, r.track}, may...)
}

// guest runs a program of testdata/guests.
func (a *actor) guest() {
	if len(a.lib.guests) == 0 {
		a.program()
		return
	}
	g := a.lib.guests[int(a.plan.Pick)%len(a.lib.guests)]
	p := lindbridge.Program{Module: g.module, Args: g.args, StopGrace: a.grace(), TimeLimit: a.plan.Limit}
	if g.reads {
		p.Stdin = a.silent
	}
	status := exitcoord.CodeStatus(g.code)
	if g.cause == exitcoord.Trap {
		status = exitcoord.SignalStatus(6)
	}
	may := []end{{g.cause, status}}
	a.note(0, "%v", g.args)
	if a.plan.Limit > 0 {
		may = append(may, timeLimit)
	}
	l, made := a.spawn(p)
	if !made {
		return
	}
	if a.plan.Kill {
		a.pause(a.plan.After)
		a.kill(l.cage)
		may = append(may, killed(a.plan.Signal))
	}
	a.finish(l, may...)
}

// race ends a program from several sides at once, while others wait for it: all are told the same.
func (a *actor) race() {
	i := int(a.plan.Pick) % len(a.lib.cases)
	c := a.lib.cases[i]
	may := append(ends(c), killed(9), killed(15), timeLimit)
	p := lindbridge.Program{
		Module: a.lib.programs[i], Stdin: a.silent, StopGrace: a.grace(), TimeLimit: a.plan.After + time.Millisecond,
	}
	l, made := a.spawn(p)
	if !made {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Patience)
	defer cancel()
	told := make([]exitcoord.Status, 2)
	var group sync.WaitGroup
	start := make(chan struct{})
	l.track.Waiting()
	for k := range 4 {
		group.Go(func() {
			<-start
			switch k {
			case 0:
				l.cage.Kill()
			case 1:
				l.cage.KillSignal(syscall.SIGTERM)
			default:
				a.acquit(ctx, l.cage)
				var err error
				if told[k-2], err = l.cage.Wait(ctx); err != nil {
					a.wrong("I8", l.cage, "%v: %v\n%s", errPatience, err, stacks())
				}
			}
		})
	}
	a.pause(a.plan.After)
	close(start)
	group.Wait()
	if told[0] != told[1] {
		a.wrong("I5", l.cage, "who waited was told %v", told)
	}
	a.finish(l, may...)
}

// modules loads a good module and a bad one, and closes the good one while a program of it runs.
func (a *actor) modules() {
	c := a.lib.cases[int(a.plan.Pick)%len(a.lib.cases)]
	ctx := context.Background()
	if m, err := a.rt.Load(ctx, []byte(c.Wat[:len(c.Wat)/2])); err == nil {
		a.wrong("end", nil, "half a module was loaded")
		_ = m.Close()
	}
	m, err := a.rt.Load(ctx, []byte(c.Wat))
	if err != nil {
		a.refused(err)
		return
	}
	l, made := a.spawn(lindbridge.Program{Module: m, Stdin: a.silent, StopGrace: a.grace(), TimeLimit: time.Minute})
	if err := m.Close(); err != nil {
		a.wrong("end", nil, "close a module: %v", err)
	}
	if !made {
		return
	}
	a.pause(a.plan.After)
	a.kill(l.cage)
	a.finish(l, append(ends(c), killed(a.plan.Signal))...)
}

// runtimes closes a runtime of its own while programs of it run.
func (a *actor) runtimes() {
	check := NewChecker(stepNames, func(v *Violation) { a.object(v, a.plan.Who) })
	rt, err := lindbridge.New(lindbridge.Config{ShimPath: a.cfg.ShimPath, Observer: check.Observe})
	if err != nil {
		a.refused(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Patience)
	defer cancel()
	wat := matrix.New(matrix.Main, matrix.HostKill, matrix.Mixed, 1+int(a.plan.Pick)%4).Wat
	var lives []live
	m, err := rt.Load(ctx, []byte(wat))
	for i := 0; err == nil && i < 3; i++ {
		var c *lindbridge.Cage
		if c, err = rt.Spawn(ctx, lindbridge.Program{Module: m, Stdin: a.silent, StopGrace: usualGrace}); err == nil {
			lives = append(lives, live{c, check.Claim(c.ID())})
		}
	}
	if err != nil {
		a.refused(err)
	}
	a.pause(a.plan.After)
	if err := rt.Close(ctx); err != nil {
		var left *lindbridge.CloseError
		if errors.As(err, &left) {
			a.wrong("I8", left.Cages[0], "%v", err)
			return
		}
		a.wrong("rest", nil, "close a runtime: %v", err)
	}
	for _, l := range lives {
		r := l.cage.Report()
		// Faults are armed by id, and another runtime's cage may have had the same.
		l.track.Ended(r, a.cfg.Faults)
		a.count.change(func(f *Figures) { f.Cages++; f.Exits++; f.Causes[r.Cause.Kind.String()]++ })
		if r.Cause.Kind != exitcoord.RuntimeClose && !a.cfg.Faults {
			a.wrong("end", l.cage, "it ended with %v when its runtime was closed", r.Cause)
		}
	}
}
