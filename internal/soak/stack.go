package soak

import (
	"context"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// stack runs a program under grates, and ends some of them. Whatever is ended first, all must end without more ado: a
// program whose grate is gone gets an error and quits, and a grate whose program is gone stops serving.
func (a *actor) stack() {
	m := modes[a.plan.Mode]
	grace := a.grace()
	if m.name == "spin" {
		// Who is in a grate that does not come back waits for half of it, by design.
		a.slow, grace = true, min(grace, spinGrace)
	}
	app := lindbridge.Program{Module: a.lib.apps[a.plan.Mode], Stdin: a.silent, StopGrace: grace}
	answers, passes := a.lib.answers, a.lib.passes
	if m.name == "churn" {
		answers, passes = a.lib.churnAnswers, a.lib.churnPasses
	}
	grates := make([]lindbridge.Grate, a.plan.Grates)
	for i := range grates {
		grates[i].Program = lindbridge.Program{Module: passes, Stdin: a.silent, StopGrace: grace}
		if i == 0 {
			grates[i].Module = answers
		}
		if a.plan.Other%4 == 0 {
			grates[i].MaxWorkers = 1 // so that the second thread has to wait
		}
	}
	a.note(0, "%s", m.name)
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Patience)
	defer cancel()
	if a.plan.Hasty {
		ctx, cancel = context.WithTimeout(ctx, a.plan.After)
		defer cancel()
	}
	a.armBefore()
	s, err := a.rt.SpawnStack(ctx, app, grates...)
	if err != nil {
		a.refused(err)
		return
	}
	var lives []live
	for _, c := range append(s.Grates, s.App) {
		lives = append(lives, a.claim(c))
	}
	a.armFor(lives[int(a.plan.Pick)%len(lives)].cage)
	a.pause(a.plan.After)
	for _, v := range a.plan.Victims {
		a.kill(lives[v].cage)
	}
	if a.shimFaults() {
		a.nudge(s.App)
	}
	for i := len(lives) - 1; i >= 0; i-- {
		a.finish(lives[i], a.stackEnds(m, i)...)
	}
}

// nudge ends a program that is still there after a moment. A shim that has no workers to give answers EAGAIN for good, so
// that the program never learns that its outermost grate is gone.
func (a *actor) nudge(app *lindbridge.Cage) {
	timer := time.NewTimer(200 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-app.Done():
	case <-timer.C:
		app.Kill()
	}
}

// stackEnds are the right ends of the cage in place i of the stack.
func (a *actor) stackEnds(m mode, i int) []end {
	var may []end
	for _, v := range a.plan.Victims {
		if v == i {
			may = append(may, killed(a.plan.Signal))
		}
	}
	if i == a.plan.Grates {
		for _, code := range m.ends {
			kind := exitcoord.ExitGroup
			if code == 0 {
				kind = exitcoord.MainReturned
			}
			may = append(may, end{kind, exitcoord.CodeStatus(code)})
		}
		return may
	}
	may = append(may, end{exitcoord.MainReturned, exitcoord.CodeStatus(0)})
	if i == 0 && m.exited {
		may = append(may, end{exitcoord.ExitGroup, exitcoord.CodeStatus(codeGrate)})
	}
	if i == 0 && m.trapped {
		may = append(may, end{exitcoord.Trap, exitcoord.SignalStatus(6)})
	}
	return may
}
