package soak

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/lindbridge/lindbridge"
)

// crowd are the programs that stay. Safe for concurrent use.
type crowd struct {
	want atomic.Int64 // how many there are to be

	mu   sync.Mutex
	here []*resident // guarded by mu
}

// resident is a program that stays.
type resident struct {
	cage    *lindbridge.Cage
	track   *Track
	limited bool // it has a time limit
	plan    Plan // that made it
}

// add adds one and, if there are more than wanted, takes out the one that pick says; nil for none.
func (c *crowd) add(r *resident, pick uint32) *resident {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.here = append(c.here, r)
	if int64(len(c.here)) <= c.want.Load() {
		return nil
	}
	i := int(uint64(pick) % uint64(len(c.here)))
	out := c.here[i]
	c.here[i] = c.here[len(c.here)-1]
	c.here = c.here[:len(c.here)-1]
	return out
}

// all are those that are here now.
func (c *crowd) all() []*resident {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*resident(nil), c.here...)
}

// take takes all out.
func (c *crowd) take() []*resident {
	c.mu.Lock()
	defer c.mu.Unlock()
	here := c.here
	c.here = nil
	return here
}

func (c *crowd) len() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.here))
}

// fill makes residents until there are as many as wanted.
func (s *soak) fill(ctx context.Context) {
	for i := uint32(0); ctx.Err() == nil && s.crowd.len() < s.crowd.want.Load(); i++ {
		a := &actor{soak: s, plan: Plan{Who: Who{-1, int(i)}, Kind: Resident, Pick: i, Signal: 9}}
		a.resident()
	}
}
