package bridge_test

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/bridge"
)

// Threads that C created come into the Go runtime by a callback. With cgo each gets a place there (an M) that it keeps
// until it ends; without, it gets one for each callback. Either way the place must be free again afterwards. Those of the
// real shim come once and stay for as long as they live (threadMain); those of the fake one, as those of any other library,
// come with each callback anew.

// osThreads counts the OS threads of the process.
func osThreads(tb testing.TB) int {
	tb.Helper()
	list, err := os.ReadDir("/proc/self/task")
	must(tb, err)
	return len(list)
}

// descriptors is how many this process has open.
func descriptors(tb testing.TB) int {
	tb.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(tb, err)
	return len(list)
}

// settle waits until count is at most limit. The kernel gives no event for a thread that leaves /proc, and joining it
// does not wait for that.
func settle(tb testing.TB, what string, limit int, count func() int) {
	tb.Helper()
	n := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
		if n = count(); n <= limit {
			return
		}
	}
	tb.Fatalf("%d %s, want at most %d", n, what, limit)
}

// storm runs that many threads in one domain of a new engine, each of which calls back that many times and ends.
func storm(tb testing.TB, threads int, lines ...string) {
	tb.Helper()
	var calls atomic.Int64
	h := newHost(func(c *bridge.Call) bridge.Verdict {
		if c.ThreadData() == nil {
			c.SetThreadData(c.TID())
		}
		if c.ThreadData() != c.TID() {
			return bridge.TrapThread
		}
		calls.Add(1)
		return bridge.Continue
	})
	e, err := bridge.Open(bridge.Config{Path: fakeShim(tb), Handler: h, MaxThreads: uint64(threads) + 1, MaxGoThreads: -1})
	must(tb, err)
	program := append(append([]string{"main:"}, lines...), append([]string{"thread:"}, lines...)...)
	d := start(tb, e, program...)
	var wg sync.WaitGroup
	const spawners = 4
	for range spawners {
		wg.Go(func() {
			for range threads / spawners {
				if _, err := d.SpawnThread(0); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for range threads/spawners*spawners + 1 {
		if end := h.end(tb); end.Outcome != bridge.EndReturned || end.ThreadData != end.TID {
			tb.Errorf("thread %d: %v %s, data %v", end.TID, end.Outcome, end.Message, end.ThreadData)
		}
	}
	if n := calls.Load(); n < int64(threads) {
		tb.Errorf("%d calls", n)
	}
	finish(tb, h, d)
	must(tb, e.Close())
}

func TestForeignThreads_LeaveNothingBehind(t *testing.T) {
	storm(t, 100, "call 1 5") // what the process keeps for good is there from now on
	threads, goroutines := osThreads(t), runtime.NumGoroutine()
	// The Go runtime may start a few threads of its own meanwhile.
	few := 2*runtime.GOMAXPROCS(0) + 8

	const each, rounds = 1000, 5
	places := pprof.Lookup("threadcreate")
	var after [rounds]int
	for i := range rounds {
		storm(t, each, "call 1 5")
		settle(t, "OS threads", threads+few, func() int { return osThreads(t) })
		settle(t, "goroutines", goroutines, runtime.NumGoroutine)
		after[i] = places.Count()
	}
	t.Logf("OS threads: %d before, %d after; the Go runtime's places after each round of %d: %v",
		threads, osThreads(t), each, after)
	// Places are reused. There can be as many as there ever were threads at once, which one round decides, and not as
	// many as there ever were threads.
	if grown := after[rounds-1] - after[0]; grown > each {
		t.Errorf("%d more places after %d threads more", grown, (rounds-1)*each)
	}
}

// TestThreadMain_IsBelowEachCallback looks at the stacks of host calls, of threads that make many and then end.
func TestThreadMain_IsBelowEachCallback(t *testing.T) {
	var without atomic.Int64
	h := newHost(func(*bridge.Call) bridge.Verdict {
		if !strings.Contains(string(debug.Stack()), "bridge.threadMain(") {
			without.Add(1)
		}
		return bridge.Continue
	})
	e := open(t, bridge.Config{Handler: h, OnPanic: h.onPanic, MaxGoThreads: -1, MaxIdleThreads: 1})
	must(t, e.Define([]bridge.Import{nop}))
	m := loadWat(t, e, `(module (memory (export "memory") (import "env" "memory") 1 1 shared)
		(import "host" "nop" (func $nop))
		(func $calls call $nop call $nop)
		(func (export "wasi_thread_start") (param i32 i32) call $calls)
		(func (export "_start") call $calls))`)
	for range 3 {
		d := newDomain(t, m, bridge.DomainConfig{})
		must(t, d.Start("_start"))
		const more = 20
		for range more {
			_, err := d.SpawnThread(0)
			must(t, err)
		}
		for range 1 + more {
			equal(t, "outcome", h.end(t).Outcome, bridge.EndReturned)
		}
		finish(t, h, d)
	}
	equal(t, "calls without it", without.Load(), 0)
}

func TestForeignThreads_SurviveGarbageCollection(t *testing.T) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	for range 3 {
		storm(t, 200, "call 1 20")
	}
	close(stop)
	wg.Wait()
}

func TestForeignThreads_MayAllBeInHostCallsAtOnce(t *testing.T) {
	const threads = 1000
	var inside sync.WaitGroup
	inside.Add(threads)
	release := make(chan struct{})
	h := newHost(func(*bridge.Call) bridge.Verdict {
		inside.Done()
		<-release
		return bridge.Continue
	})
	e := openFake(t, h)
	d := start(t, e, "main:", "call 1 1", "thread:", "call 1 1")
	for range threads - 1 {
		_, err := d.SpawnThread(0)
		must(t, err)
	}
	inside.Wait()
	list, err := d.Threads()
	must(t, err)
	equal(t, "live threads", len(list), threads)
	for _, s := range list {
		equal(t, "place", s.At, bridge.AtHostCall)
	}
	must(t, d.Stop())
	close(release)
	r := h.quiet(t)
	equal(t, "threads in the report", len(r.Threads), threads)
}
