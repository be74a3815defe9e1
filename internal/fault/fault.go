package fault

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Plan is what is to happen at a point.
type Plan struct {
	Point  Point
	Action Action
	// Cage is the cage that it is to happen to; 0: the first that comes.
	Cage uint64
	// Times is how often. 0: once.
	Times int
	// For is how long a Delay is.
	For time.Duration
}

// Armed is a plan that waits to happen. Its methods are safe for concurrent use.
type Armed struct {
	plan    Plan
	left    int           // guarded by registry.mu of the point
	hits    atomic.Int64  // how often it has happened
	cage    atomic.Uint64 // to whom it has first; 0 where that is not known
	reached chan struct{} // closed when it has happened for the first time
	lifted  chan struct{} // closed by Lift
	once    sync.Once
}

// place is what is armed at one point.
type place struct {
	n  atomic.Int32 // how many are; read without mu
	mu sync.Mutex
	// All that follows is guarded by mu.
	armed []*Armed
}

// registry is what is armed, of the whole process.
var registry struct {
	places [numPoints]place
	hits   [numPoints]atomic.Uint64
	audit  atomic.Pointer[func(Audit)]
}

// Arm has the plan happen when its point is next passed. Without Enabled it never is. The caller calls Lift.
func Arm(p Plan) *Armed {
	a := &Armed{plan: p, left: max(p.Times, 1), reached: make(chan struct{}), lifted: make(chan struct{})}
	pl := &registry.places[p.Point]
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.armed = append(pl.armed, a)
	pl.n.Add(1)
	return a
}

// Reached is closed when it has happened for the first time.
func (a *Armed) Reached() <-chan struct{} { return a.reached }

// Cage is the cage that it has happened to first; 0 if it has not, or at a point that knows of no cage.
func (a *Armed) Cage() uint64 { return a.cage.Load() }

// Hits is how often it has happened.
func (a *Armed) Hits() int { return int(a.hits.Load()) }

// Lift ends it: what hangs goes on, and it happens no more. To call it again does nothing.
func (a *Armed) Lift() {
	a.once.Do(func() {
		a.plan.Point.disarm(a)
		close(a.lifted)
	})
}

func (p Point) disarm(a *Armed) {
	pl := &registry.places[p]
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if i := slices.Index(pl.armed, a); i >= 0 {
		pl.armed = slices.Delete(pl.armed, i, i+1)
		pl.n.Add(-1)
	}
}

// At is the point p, passed by or for the cage. It answers an *Error, panics with one, waits for a while, or, as it always
// does where nothing is armed and in builds without the tag faults, returns nil at once.
func At(p Point, cage uint64) error {
	if !Enabled {
		return nil
	}
	return at(p, cage)
}

func at(p Point, cage uint64) error {
	a := p.take(cage)
	if a == nil {
		return nil
	}
	registry.hits[p].Add(1)
	if a.hits.Add(1) == 1 {
		a.cage.Store(cage)
		close(a.reached)
	}
	switch a.plan.Action {
	case Fail:
		return &Error{p}
	case Panic:
		panic(&Error{p})
	case Delay:
		timer := time.NewTimer(a.plan.For)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-a.lifted:
		}
	case Hang:
		<-a.lifted
	}
	return nil
}

// take is what is to happen at p to the cage, nil for nothing.
func (p Point) take(cage uint64) *Armed {
	pl := &registry.places[p]
	if pl.n.Load() == 0 {
		return nil
	}
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for i, a := range pl.armed {
		if a.plan.Cage != 0 && a.plan.Cage != cage {
			continue
		}
		if a.left--; a.left == 0 {
			pl.armed = slices.Delete(pl.armed, i, i+1)
			pl.n.Add(-1)
		}
		return a
	}
	return nil
}

// Hits is how often something has happened at each point, by name; points where nothing has are left out.
func Hits() map[string]uint64 {
	hits := map[string]uint64{}
	for _, p := range Points() {
		if n := registry.hits[p].Load(); n > 0 {
			hits[p.String()] = n
		}
	}
	return hits
}
