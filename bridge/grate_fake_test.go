package bridge_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
)

// This file tests the bridge's part of grates against the fake shim, whose grates are called by Engine.GrateCall alone.

// What the guests of these tests call.
const (
	fakeNested = 1 // has the grate of its argument's entry serve a call
	fakeServed = 2 // is made by a worker
)

// fakeGrate makes a grate of the fake shim that does these lines, and answers the entry of that.
func fakeGrate(tb testing.TB, e *bridge.Engine, cfg bridge.GrateConfig, lines ...string) (*bridge.Domain, uint64) {
	tb.Helper()
	text := "fake\nexport pass_fptr_to_wt\nserve1:\n" + strings.Join(lines, "\n") + "\n"
	m, err := e.LoadGrate([]byte(text))
	must(tb, err)
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	d := newDomain(tb, m, bridge.DomainConfig{User: "grate"})
	port, err := d.OpenGrate(cfg)
	must(tb, err)
	return d, served(port, 1)
}

func TestGrateCall_PassesEveryWord(t *testing.T) {
	told := make(chan bridge.Trace, 1)
	h := newHost(nil)
	h.call = func(c *bridge.Call) bridge.Verdict {
		for i := range uint(12) {
			equal(t, fmt.Sprint("word ", i), c.Arg(i), uint64(i+1)<<40)
		}
		equal(t, "cage", c.Arg(12), 1<<50)
		c.SetResult(0xffffffff_fffffffe)
		return bridge.Continue
	}
	e := openFake(t, h, traces(told))
	d, entry := fakeGrate(t, e, bridge.GrateConfig{},
		"call 2 1 arg0 arg1 arg2 arg3 arg4 arg5 arg6 arg7 arg8 arg9 arg10 arg11 cage")
	var args [12]uint64
	want := bridge.Trace{Depth: 1, GrateUser: "grate", Call: 1 << 51, Result: -2}
	for i := range args {
		args[i] = uint64(i+1) << 40
		if i%2 == 0 {
			want.Args[i/2] = args[i]
		} else {
			want.ArgCages[i/2] = args[i]
		}
	}
	result, err := e.GrateCall(entry, 1<<50, 1<<51, &args)
	must(t, err)
	equal(t, "result", result, -2)
	trace := receive(t, told, "the trace")
	trace.Begin, trace.Took = 0, 0
	equal(t, "trace", trace, want)
	finish(t, h, d)
}

func TestLoadGrate_IsNotLoad(t *testing.T) {
	e := openFake(t, newHost(keepGoing))
	_, err := e.LoadGrate([]byte("fake\nmain:\n"))
	mustBe(t, err, bridge.ErrExport)
	contains(t, err.Error(), "load module", "no pass_fptr_to_wt")
	d := newDomain(t, load(t, e, "main:"), bridge.DomainConfig{})
	_, err = d.OpenGrate(bridge.GrateConfig{})
	mustBe(t, err, bridge.ErrExport)
}

// A worker's data is its own for as long as there is the worker, which may be longer than any of its callers.
func TestThreadData_OfAWorkerLastsFromCallToCall(t *testing.T) {
	h := newHost(nil)
	h.call = func(c *bridge.Call) bridge.Verdict {
		n, _ := c.ThreadData().(int)
		c.SetThreadData(n + 1)
		c.SetResult(uint64(n + 1))
		return bridge.Continue
	}
	e := openFake(t, h)
	d, entry := fakeGrate(t, e, bridge.GrateConfig{}, "call 2 1")
	for want := range int32(100) {
		result, err := e.GrateCall(entry, 0, 0, words(0))
		must(t, err)
		equal(t, "calls of the worker", result, want+1)
	}
	r := finish(t, h, d)
	equal(t, "workers", len(r.Threads), 1)
	equal(t, "the worker", r.Threads[0].String(), fmt.Sprintf("worker %d: idle; stopped", r.Threads[0].TID))
	equal(t, "ends", len(h.ends), 0)
}

func TestThreadEnd_OfAWorkerSaysSo(t *testing.T) {
	verdict := bridge.TrapThread
	h := newHost(func(c *bridge.Call) bridge.Verdict {
		c.SetThreadData("the worker's")
		return verdict
	})
	e := openFake(t, h)
	d, entry := fakeGrate(t, e, bridge.GrateConfig{}, "call 2 1")
	for _, want := range []bridge.ThreadEnd{
		trapped("host call failed"),
		{Outcome: bridge.EndQuit},
	} {
		result, err := e.GrateCall(entry, 0, 0, words(0))
		must(t, err)
		equal(t, "result", result, abi.GrateErr)
		end := h.end(t)
		want.User, want.Domain, want.ThreadData, want.Worker, want.TID = "grate", d, "the worker's", true, end.TID
		equal(t, "end", end, want)
		verdict = bridge.QuitThread
	}
	finish(t, h, d)
}

// A worker that blocks in the host hears of its caller's stop by the descriptor, and of its own by the other.
func TestInterruptFD_TellsOfTheCallersStop(t *testing.T) {
	for _, whose := range []string{"caller", "grate"} {
		t.Run(whose, func(t *testing.T) {
			died := abi.GrateErr // what the caller gets if it lives
			h := newHost(nil)
			e := openFake(t, h)
			inside, woken := make(chan bool, 1), make(chan string, 1)
			h.call = func(c *bridge.Call) bridge.Verdict {
				if c.Import() == fakeNested {
					result, err := e.GrateCall(c.Arg(0), 0, 0, words(0))
					if err != nil {
						t.Error(err)
					}
					c.SetResult(uint64(uint32(result)))
					return bridge.Continue
				}
				cancel, err := c.Domain().CancelFD()
				if err != nil {
					t.Error(err)
				}
				interrupt, err := e.InterruptFD()
				if err != nil {
					t.Error(err)
				}
				inside <- true
				if err := poll(cancel, interrupt); err != nil {
					t.Error(err)
				}
				by := "grate"
				if n, err := unix.Read(interrupt, make([]byte, 8)); n == 8 && err == nil {
					by = "caller"
				}
				woken <- by
				c.SetResult(uint64(uint32(errnoResult(unix.EINTR))))
				return bridge.Continue
			}
			grate, entry := fakeGrate(t, e, bridge.GrateConfig{}, "call 2 1")
			app := start(t, e, "main:", fmt.Sprintf("call %d 1 %#x", fakeNested, entry),
				fmt.Sprintf("expect %d", uint32(died)), "block")
			receive(t, inside, "the worker")
			first, second := app, grate
			if whose == "grate" {
				first, second = grate, app
			}
			must(t, first.Stop())
			equal(t, "woken by", receive(t, woken, "the worker's wake"), whose)
			r := h.quiet(t)
			equal(t, "report", r.Domain, first)
			for _, s := range r.Threads {
				equal(t, "outcome", s.Outcome, bridge.EndStopped)
			}
			must(t, first.Close())
			finish(t, h, second)
			equal(t, "ends", len(h.ends), 0)
		})
	}
}

// TestHammer_GrateCallsFromGuestsAndGoroutines has both call one grate, which has fewer workers, at once.
func TestHammer_GrateCallsFromGuestsAndGoroutines(t *testing.T) {
	h := newHost(nil)
	e := openFake(t, h)
	var inside, most atomic.Int32
	h.call = func(c *bridge.Call) bridge.Verdict {
		if c.Import() == fakeNested {
			c.SetThreadData(c.TID())
			result, err := e.GrateCall(c.Arg(0), 0, 0, words(0, uint64(c.TID())))
			if err != nil {
				t.Error(err)
			}
			c.SetResult(uint64(result))
			return bridge.Continue
		}
		n := inside.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		list, err := e.Callers()
		if err != nil {
			t.Error(err)
		}
		switch tid := uint32(c.Arg(0)); {
		case tid == 0:
			if len(list) != 0 || c.CallerData() != nil {
				t.Errorf("the host's call has callers %v, data %v", list, c.CallerData())
			}
		case len(list) != 1 || list[0].TID != tid || list[0].Data != tid || c.CallerData() != tid:
			t.Errorf("the call of thread %d has callers %v, data %v", tid, list, c.CallerData())
		}
		inside.Add(-1)
		c.SetResult(c.Arg(0) + 1)
		return bridge.Continue
	}
	const workers, threads, calls = 3, 20, 200
	grate, entry := fakeGrate(t, e, bridge.GrateConfig{MaxWorkers: workers}, "call 2 1 arg0")
	calling := fmt.Sprintf("call %d %d %#x", fakeNested, calls, entry)
	app := start(t, e, "main:", calling, "expect 2", "thread:", calling)
	for range threads - 1 {
		_, err := app.SpawnThread(0)
		must(t, err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range calls {
				if result, err := e.GrateCall(entry, 0, 0, words(0)); err != nil || result != 1 {
					t.Errorf("%d, %v", result, err)
				}
			}
		})
	}
	wg.Wait()
	for range threads {
		end := h.end(t)
		equal(t, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
	}
	if n := most.Load(); n < 1 || n > workers {
		t.Errorf("%d workers served at once", n)
	}
	finish(t, h, app)
	r := finish(t, h, grate)
	if n := len(r.Threads); n < 1 || n > workers {
		t.Errorf("%d workers in the report", n)
	}
}

// BenchmarkGrateCallFromC is what the bridge costs in a call that a goroutine makes of a grate that does nothing.
func BenchmarkGrateCallFromC(b *testing.B) {
	h := newHost(keepGoing)
	e := openFake(b, h)
	d, entry := fakeGrate(b, e, bridge.GrateConfig{})
	args := words(0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.GrateCall(entry, 0, 0, args); err != nil {
			b.Fatal(err)
		}
	}
	finish(b, h, d)
}
