package soak

import (
	"fmt"
	"math/rand/v2"

	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/internal/fault"
)

// shim is how the failure points of the shim are reached. They are those of all runtimes of the process, so that an engine
// which runs nothing will do.
type shim struct {
	engine *bridge.Engine
	points []bridge.Fault // empty if the shim was built without
	active bool           // some of them may fail, or have failed some program that runs. Changed while no plan goes on
}

// nobody handles nothing: no guest runs in the engine.
type nobody struct{}

func (nobody) HostCall(*bridge.Call) bridge.Verdict { return bridge.TrapThread }
func (nobody) ThreadEnd(*bridge.ThreadEnd)          {}
func (nobody) Quiescent(*bridge.Report)             {}

func openShim(path string) (*shim, error) {
	engine, err := bridge.Open(bridge.Config{Path: path, Handler: nobody{}})
	if err != nil {
		return nil, err
	}
	points, built := engine.Faults()
	if !built {
		points = nil
	}
	return &shim{engine: engine, points: points}, nil
}

// atOnce is how many points of the shim are set for one burst.
const atOnce = 8

// disturb sets some points of the shim, drawn from the seed and the number of the burst, to fail or be late now and then.
func (sh *shim) disturb(seed uint64, burst int) error {
	if len(sh.points) == 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, uint64(burst)+1<<62))
	for range atOnce {
		p := sh.points[r.IntN(len(sh.points))]
		what := fmt.Sprintf("seed=%d;2%%sleep(%dus)", r.Uint32(), 1+r.IntN(1000))
		if p.CanFail && r.IntN(2) == 0 {
			what = fmt.Sprintf("seed=%d;1%%fail", r.Uint32())
		}
		if err := sh.engine.SetFault(p.Name, what); err != nil {
			return err
		}
	}
	sh.active = true
	return nil
}

// calm has all points of the shim do nothing from here on. What they have done to programs that still run is told by
// active, until forget.
func (sh *shim) calm() error {
	if len(sh.points) == 0 {
		return nil
	}
	return sh.engine.SetFault("*", "off")
}

// forget says that no program is left of when the points were set.
func (sh *shim) forget() { sh.active = false }

// hits are how often each point has failed or been late, by name.
func (sh *shim) hits(into map[string]uint64) {
	points, built := sh.engine.Faults()
	if !built {
		return
	}
	for _, p := range points {
		if p.Fired > 0 {
			into["shim "+p.Name] = p.Fired
		}
	}
}

func (sh *shim) close() error { return sh.engine.Close() }

// shimFaults reports whether the shim may fail on purpose now, whichever cage it hits.
func (s *soak) shimFaults() bool { return s.shim != nil && s.shim.active }

// faultHits are how often each point has failed, the shim's too.
func (s *soak) faultHits() map[string]uint64 {
	hits := fault.Hits()
	if s.shim != nil {
		s.shim.hits(hits)
	}
	return hits
}
