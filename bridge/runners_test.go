package bridge_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

// This file tests guest threads that run on goroutines: Config.MaxGoThreads.

const blocks = `(module (memory (export "memory") (import "env" "memory") 1 1 shared)
	(import "host" "nop" (func $nop))
	(func (export "_start")
		call $nop
		(drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))))`

// TestMaxGoThreads_BoundsThem has more blocked threads than goroutines for them: the others are the shim's, which tells how
// many it keeps.
func TestMaxGoThreads_BoundsThem(t *testing.T) {
	for _, tt := range []struct{ most, threads, shims int }{{3, 5, 2}, {3, 3, 0}, {-1, 2, 2}, {64, 20, 0}} {
		var inside sync.WaitGroup
		h := newHost(func(*bridge.Call) bridge.Verdict {
			inside.Done()
			return bridge.Continue
		})
		e := open(t, bridge.Config{Handler: h, OnPanic: h.onPanic, MaxGoThreads: tt.most})
		must(t, e.Define([]bridge.Import{nop}))
		m := loadWat(t, e, blocks)
		inside.Add(tt.threads)
		var domains []*bridge.Domain
		for range tt.threads {
			d := newDomain(t, m, bridge.DomainConfig{})
			must(t, d.Start("_start"))
			domains = append(domains, d)
		}
		inside.Wait()
		stats, err := e.Stats()
		must(t, err)
		equal(t, "running", int(stats.ThreadsRunning), tt.threads)
		for _, d := range domains {
			finish(t, h, d)
		}
		settle(t, "running", 0, func() int {
			stats, err = e.Stats()
			must(t, err)
			return int(stats.ThreadsRunning)
		})
		equal(t, "the shim's", int(stats.ThreadsIdle), tt.shims)
	}
}

// TestReport_TellsWhoseThreadItIsOn ends a program by itself, on a goroutine's thread and on one of the shim's.
func TestReport_TellsWhoseThreadItIsOn(t *testing.T) {
	for most, want := range map[int]bool{1: false, -1: true} {
		h := newHost(keepGoing)
		h.onEnd = func(e *bridge.ThreadEnd) { must(t, e.Domain.Stop()) }
		e := open(t, bridge.Config{Handler: h, OnPanic: h.onPanic, MaxGoThreads: most})
		m := loadWat(t, e, `(module (func (export "_start")))`)
		d := newDomain(t, m, bridge.DomainConfig{})
		must(t, d.Start("_start"))
		h.end(t)
		equal(t, "on a thread of the shim's", h.quiet(t).OnPool, want)
		must(t, d.Close())
	}
}

// TestRunners_AreUsedAgainAndEndWithTheEngine runs many programs one after the other.
func TestRunners_AreUsedAgainAndEndWithTheEngine(t *testing.T) {
	before := runtime.NumGoroutine()
	h := newHost(keepGoing)
	e := openFake(t, h, func(c *bridge.Config) { c.MaxGoThreads = 4 })
	m := load(t, e, "main:")
	for range 200 {
		d := newDomain(t, m, bridge.DomainConfig{})
		must(t, d.Start("_start"))
		h.end(t)
		finish(t, h, d)
	}
	settle(t, "goroutines", before+8, runtime.NumGoroutine) // 4 that wait, and 4 that are about to
	must(t, m.Close())
	must(t, e.Close())
	settle(t, "goroutines", before, runtime.NumGoroutine)
}

// TestStop_BeforeTheGoroutineRuns stops domains right after they were started, with a processor too few.
func TestStop_BeforeTheGoroutineRuns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ran atomic.Int64
	h := newHost(func(*bridge.Call) bridge.Verdict {
		ran.Add(1)
		return bridge.Continue
	})
	e := open(t, bridge.Config{Handler: h, OnPanic: h.onPanic, MaxGoThreads: 1})
	must(t, e.Define([]bridge.Import{nop}))
	m := loadWat(t, e, blocks)
	const rounds = 200
	for range rounds {
		d := newDomain(t, m, bridge.DomainConfig{})
		must(t, d.Start("_start"))
		r := finish(t, h, d)
		equal(t, "threads", len(r.Threads), 1)
		equal(t, "outcome", r.Threads[0].Outcome, bridge.EndStopped)
	}
	if ran.Load() == rounds {
		t.Error("none was stopped before it ran: the test shows nothing")
	}
}
