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

// shims runs that many programs at once and answers how many of them had a thread of the shim's: that many it keeps.
func shims(t *testing.T, h *host, e *bridge.Engine, m *bridge.Module, inside *sync.WaitGroup, programs int) int {
	t.Helper()
	inside.Add(programs)
	var domains []*bridge.Domain
	for range programs {
		d := newDomain(t, m, bridge.DomainConfig{})
		must(t, d.Start("_start"))
		domains = append(domains, d)
	}
	inside.Wait()
	stats, err := e.Stats()
	must(t, err)
	equal(t, "running", int(stats.ThreadsRunning), programs)
	for _, d := range domains {
		finish(t, h, d)
	}
	settle(t, "running", 0, func() int {
		stats, err = e.Stats()
		must(t, err)
		return int(stats.ThreadsRunning)
	})
	return int(stats.ThreadsIdle)
}

// TestMaxGoThreads_BoundsThem has more blocked threads than goroutines for them.
func TestMaxGoThreads_BoundsThem(t *testing.T) {
	for _, tt := range []struct{ most, programs, shims int }{{1, 3, 2}, {3, 5, 3}, {64, 2, 0}, {64, 5, 3}, {-1, 2, 2}} {
		h, inside := blocked()
		e := open(t, bridge.Config{Handler: h, OnPanic: h.onPanic, MaxGoThreads: tt.most})
		must(t, e.Define([]bridge.Import{nop}))
		equal(t, "the shim's", shims(t, h, e, loadWat(t, e, blocks), inside, tt.programs), tt.shims)
	}
}

// blocked is a host that is told when a program is about to block.
func blocked() (*host, *sync.WaitGroup) {
	var inside sync.WaitGroup
	return newHost(func(*bridge.Call) bridge.Verdict {
		inside.Done()
		return bridge.Continue
	}), &inside
}

// TestMaxGoThreads_AreForModulesOfShortPrograms has many programs that stay, of many modules, and a module whose programs come
// and go.
func TestMaxGoThreads_AreForModulesOfShortPrograms(t *testing.T) {
	h, inside := blocked()
	h.onEnd = func(e *bridge.ThreadEnd) { must(t, e.Domain.Stop()) }
	e := open(t, bridge.Config{Handler: h, OnPanic: h.onPanic, MaxGoThreads: 16})
	must(t, e.Define([]bridge.Import{nop}))
	const modules = 12
	inside.Add(2 * modules)
	for range modules {
		m := loadWat(t, e, blocks)
		for range 2 {
			must(t, newDomain(t, m, bridge.DomainConfig{}).Start("_start"))
		}
	}
	inside.Wait()
	short := loadWat(t, e, `(module (func (export "_start")))`)
	run := func() (onPool bool) {
		d := newDomain(t, short, bridge.DomainConfig{})
		must(t, d.Start("_start"))
		h.end(t)
		onPool = h.quiet(t).OnPool
		must(t, d.Close())
		return onPool
	}
	equal(t, "the first, of which nothing is known, is on a thread of the shim's", run(), true)
	for range 1000 { // where the machine is busy, some may seem to be long
		if !run() {
			return
		}
	}
	t.Error("of 1000 short programs all were on threads of the shim's")
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
	settle(t, "runners that run something", 0, func() int {
		ofEngine, ofModule := bridge.BusyRunners(e, m)
		return ofEngine + ofModule
	})
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
