package lindbridge

import (
	"context"
	"errors"

	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/fault"
)

// This file has what failure points and audits need of the runtime. All of it is for builds with the tag faults: the
// compiler removes its callers from others.

// fail is a point that is in the place of what follows.
func (c *Cage) fail(p fault.Point) error { return fault.At(p, uint64(c.ID())) }

// faulty is a point that begins a piece of cleanup: the work is done whatever happens at it.
func (c *Cage) faulty(p fault.Point, work func() error) (err error) {
	defer func() { err = errors.Join(err, work()) }()
	return c.fail(p)
}

// makeFaulty puts a point before each step.
func (c *Cage) makeFaulty(steps []exitcoord.Step) {
	for _, p := range fault.Points() {
		for i := range steps {
			if steps[i].Name != p.Step() {
				continue
			}
			run := steps[i].Run
			steps[i].Run = func(ctx context.Context) error {
				return c.faulty(p, func() error { return run(ctx) })
			}
		}
	}
}

// audit tells of something that happened on behalf of the cage, if its exit has begun.
func (c *Cage) audit(what fault.What) {
	if p := c.exit.Phase(); p != exitcoord.Running {
		fault.Tell(fault.Audit{What: what, Cage: uint64(c.ID()), Phase: int(p)})
	}
}

// auditStart tells of a thread that was granted though the gate had been shut before.
func (c *Cage) auditStart(shut bool) {
	if shut {
		fault.Tell(fault.Audit{What: fault.Started, Cage: uint64(c.ID()), Phase: int(c.exit.Phase()), Closed: true})
	}
}
