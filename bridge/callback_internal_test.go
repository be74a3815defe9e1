package bridge

import (
	"testing"
	"unsafe"

	"github.com/lindbridge/lindbridge/abi"
)

// countingHandler uses all of a Call that the hot path of a host would.
type countingHandler struct{ calls, served, ends, traced int }

func (h *countingHandler) HostCall(c *Call) Verdict {
	user, ok := c.User().(*countingHandler)
	if !ok {
		return TrapThread
	}
	if c.ThreadData() == nil {
		c.SetThreadData(h)
	}
	user.calls++
	_ = c.Domain()
	_ = c.Memory()
	if c.Worker() && c.Depth() == 1 && c.CallerUser() == any(user) && c.CallerData() == any(user) {
		h.served++
	}
	return Continue
}

func (h *countingHandler) ThreadEnd(e *ThreadEnd) {
	if e.ThreadData == h {
		h.ends++
	}
}

func (h *countingHandler) Quiescent(*Report) {}

// testDomain is a domain without a shim, for calling the Go end of the callbacks directly.
func testDomain(t *testing.T, h Handler, user any) *Domain {
	t.Helper()
	d := &Domain{engine: &Engine{handler: h}, user: user}
	d.token = process.domains.put(d)
	t.Cleanup(func() { process.domains.drop(d.token) })
	return d
}

func TestHostCall_AllocatesNothing(t *testing.T) {
	h := new(countingHandler)
	d := testDomain(t, h, h)
	threads := process.threads.live()
	caller := process.threads.put(h)
	defer process.threads.drop(caller)
	c := &Call{callABI{user: d.token, callerUser: d.token, callerThreadUser: caller, depth: 1, worker: 1}}
	if v := hostCall(c); v != Continue {
		t.Fatalf("verdict is %v", v)
	}
	if n := testing.AllocsPerRun(1000, func() { hostCall(c) }); n != 0 {
		t.Errorf("a host call allocates %v times", n)
	}
	if h.calls != 1002 || h.served != 1002 {
		t.Errorf("%d calls, of which %d by a worker", h.calls, h.served)
	}
	threadEnd(&threadEndABI{user: d.token, threadUser: c.c.threadUser, worker: 1})
	if h.ends != 1 {
		t.Errorf("the worker's end did not have its data")
	}
	if n := process.threads.live(); n != threads+1 {
		t.Errorf("%d threads have data, want %d and the caller", n, threads)
	}
}

func TestTrace_AllocatesNothing(t *testing.T) {
	h := new(countingHandler)
	d := testDomain(t, h, h)
	d.engine.trace = func(trace Trace) {
		if trace.User == any(h) && trace.GrateUser == any(h) {
			h.traced++
		}
	}
	c := &traceABI{user: d.token, grateUser: d.token, call: 1, depth: 1}
	if n := testing.AllocsPerRun(1000, func() { traced(c) }); n != 0 {
		t.Errorf("a trace allocates %v times", n)
	}
	if h.traced != 1001 {
		t.Errorf("%d traces", h.traced)
	}
}

// A call whose grate has died while it served is traced after that, when the host may have closed the grate.
func TestTrace_IsToldOfACallWhoseGrateIsGone(t *testing.T) {
	d := testDomain(t, new(countingHandler), "caller")
	var told []Trace
	d.engine.trace = func(trace Trace) { told = append(told, trace) }
	traced(&traceABI{user: d.token, grateUser: ^uint64(0), call: 7, result: abi.GrateErr})
	if len(told) != 1 || told[0].User != "caller" || told[0].GrateUser != nil || told[0].Result != abi.GrateErr {
		t.Errorf("told %+v", told)
	}
	// Of a host's call there is nobody left to tell: it must do no harm.
	traced(&traceABI{grateUser: ^uint64(0), call: 8})
	if len(told) != 1 {
		t.Errorf("told %+v", told)
	}
}

func TestThreadEnd_AllocatesForTextAlone(t *testing.T) {
	h := new(countingHandler)
	d := testDomain(t, h, h)
	end := &threadEndABI{user: d.token, tid: 1}
	if n := testing.AllocsPerRun(1000, func() { threadEnd(end) }); n != 0 && poolsKeep {
		t.Errorf("a thread's end allocates %v times", n)
	}
}

func TestThreadData_IsFreedAlsoWhenTheHandlerPanics(t *testing.T) {
	d := testDomain(t, panicHandler{}, nil)
	live := process.threads.live()
	c := &Call{callABI{user: d.token}}
	c.SetThreadData(1)
	if v := hostCall(c); v != TrapThread {
		t.Errorf("verdict is %v", v)
	}
	threadEnd(&threadEndABI{user: d.token, threadUser: c.c.threadUser})
	if n := process.threads.live(); n != live {
		t.Errorf("%d threads have data, want %d", n, live)
	}
	// A thread that is stopped has no end: the report frees its data.
	c = &Call{callABI{user: d.token}}
	c.SetThreadData(1)
	list := []threadABI{{tid: 1}, {tid: 2, threadUser: c.c.threadUser}}
	quiescent(&reportABI{user: d.token, threads: unsafe.Pointer(&list[0]), threadCount: 2})
	if n := process.threads.live(); n != live {
		t.Errorf("%d threads have data after the report, want %d", n, live)
	}
	// The thread of a domain that is gone leaves nothing behind either.
	c = &Call{callABI{}}
	c.SetThreadData(1)
	threadEnd(&threadEndABI{user: ^uint64(0), threadUser: c.c.threadUser})
	if n := process.threads.live(); n != live {
		t.Errorf("%d threads have data, want %d", n, live)
	}
}

type panicHandler struct{}

func (panicHandler) HostCall(*Call) Verdict { panic("HostCall") }
func (panicHandler) ThreadEnd(*ThreadEnd)   { panic("ThreadEnd") }
func (panicHandler) Quiescent(*Report)      { panic("Quiescent") }

func BenchmarkHostCallGoSide(b *testing.B) {
	h := new(countingHandler)
	d := &Domain{engine: &Engine{handler: h}, user: h}
	d.token = process.domains.put(d)
	defer process.domains.drop(d.token)
	c := &Call{callABI{user: d.token}}
	for b.Loop() {
		hostCall(c)
	}
	threadEnd(&threadEndABI{user: d.token, threadUser: c.c.threadUser})
}
