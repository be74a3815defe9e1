package soak

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/lindbridge/lindbridge/exitcoord"
)

// contextDeadline is the error of a step's part that has a deadline of its own.
var contextDeadline = context.DeadlineExceeded

// Quantiles are some quantiles of times.
type Quantiles struct {
	// N is how many there were. P50 and P99 are of a random sample of at most 32,768 of them.
	N             int64
	P50, P99, Max time.Duration
}

// sample is a random sample of times. Safe for concurrent use.
type sample struct {
	mu sync.Mutex
	// All that follows is guarded by mu.
	n    int64
	max  time.Duration
	kept []time.Duration
}

const sampleSize = 1 << 15

func (s *sample) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	s.max = max(s.max, d)
	if len(s.kept) < sampleSize {
		s.kept = append(s.kept, d)
		return
	}
	if i := rand.Int64N(s.n); i < sampleSize {
		s.kept[i] = d
	}
}

func (s *sample) quantiles() Quantiles {
	s.mu.Lock()
	kept, q := slices.Clone(s.kept), Quantiles{N: s.n, Max: s.max}
	s.mu.Unlock()
	if len(kept) == 0 {
		return q
	}
	slices.Sort(kept)
	q.P50, q.P99 = kept[len(kept)/2], kept[len(kept)*99/100]
	return q
}

// Figures are what a soak comes to.
type Figures struct {
	Seed    uint64
	Elapsed time.Duration
	// Cages are those that were made, Exits those that ended and were waited for, Alive those that run just now.
	Cages, Exits, Alive int64
	// Refused are calls of Spawn and the like that answered an error, as they were to.
	Refused int64
	// Plans are how many of each kind were carried out, Causes how many exits had each cause.
	Plans, Causes map[string]int64
	// Stuck are exits that were stuck for a while, each for a fault's sake.
	Stuck int64
	// Faults are how often each failure point has failed, panicked, delayed or hung.
	Faults map[string]uint64
	// Rests are how often all was compared with what there was after the warm-up.
	Rests int64
	// AtRest is what the process held after the warm-up, and at each rest.
	AtRest []AtRest
	// Phases are the times of exits that no fault was planned for: "stop" from the begin of the stop until quiescent, "step
	// NAME" of each step, "clean" from quiescent until zombie, "exit" all of it.
	Phases map[string]Quantiles
	// Violations are what was found wrong: none in a good soak.
	Violations []*Violation
}

// AtRest is what the process holds when no cage is left.
type AtRest struct {
	Threads     int   `json:"threads"`
	Goroutines  int   `json:"goroutines"` // those of the shim's threads left out
	Descriptors int   `json:"descriptors"`
	Mappings    int   `json:"mappings"`
	Resident    int64 `json:"resident_bytes"`
}

// counters are the figures as they grow. Safe for concurrent use.
type counters struct {
	mu sync.Mutex
	// All that follows is guarded by mu.
	f       Figures
	samples map[string]*sample
}

func newCounters(seed uint64, steps []string) *counters {
	c := &counters{samples: map[string]*sample{"stop": {}, "clean": {}, "exit": {}}}
	c.f = Figures{Seed: seed, Plans: map[string]int64{}, Causes: map[string]int64{}}
	for _, s := range steps {
		c.samples["step "+s] = &sample{}
	}
	return c
}

func (c *counters) change(fn func(f *Figures)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(&c.f)
}

// exit counts the exit that r is the report of.
func (c *counters) exit(r exitcoord.Report, disturbed bool) {
	c.change(func(f *Figures) {
		f.Exits++
		f.Alive--
		if r.Cause != nil {
			f.Causes[r.Cause.Kind.String()]++
		}
		if r.Stuck != nil {
			f.Stuck++
		}
	})
	if disturbed {
		return
	}
	c.samples["stop"].add(r.Stopping)
	c.samples["clean"].add(r.Total - r.Stopping)
	c.samples["exit"].add(r.Total)
	for _, s := range r.Steps {
		if sample := c.samples["step "+s.Name]; sample != nil {
			sample.add(s.Took)
		}
	}
}

// snapshot is a copy of the figures so far.
func (c *counters) snapshot() Figures {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.f
	f.Plans, f.Causes = cloneMap(f.Plans), cloneMap(f.Causes)
	f.Violations, f.AtRest = slices.Clone(f.Violations), slices.Clone(f.AtRest)
	return f
}

func cloneMap(m map[string]int64) map[string]int64 {
	n := make(map[string]int64, len(m))
	for k, v := range m {
		n[k] = v
	}
	return n
}

// phases are the quantiles so far.
func (c *counters) phases() map[string]Quantiles {
	q := map[string]Quantiles{}
	for name, s := range c.samples {
		q[name] = s.quantiles()
	}
	return q
}
