package bridge_test

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

// This file tests against the real shim, which the search must find: `make build` makes it. It is what the bridge needs
// to be true of it; what the shim promises on its own is tested in rust-shim/tests.

// openShim opens the shim that the search finds.
func openShim(tb testing.TB, h *host, imports ...bridge.Import) *bridge.Engine {
	tb.Helper()
	e := open(tb, bridge.Config{Handler: h, OnPanic: h.onPanic})
	must(tb, e.Define(imports))
	return e
}

// loadWat loads a module in the text format and closes it when the test ends.
func loadWat(tb testing.TB, e *bridge.Engine, wat string) *bridge.Module {
	tb.Helper()
	m, err := e.Load([]byte(wat))
	must(tb, err)
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	return m
}

// nop is an import without parameters.
var nop = bridge.Import{Module: "host", Name: "nop", ID: 1}

func TestShim_IsFoundAndFits(t *testing.T) {
	e := openShim(t, newHost(keepGoing))
	contains(t, e.ShimPath(), "liblindshim.so")
	contains(t, e.ShimVersion(), "lindshim", "wasmtime")
	stats, err := e.Stats()
	must(t, err)
	equal(t, "stats", stats, bridge.Stats{})
}

func TestShim_HostCallsPassEveryType(t *testing.T) {
	h := newHost(nil)
	h.call = func(c *bridge.Call) bridge.Verdict {
		switch c.Import() {
		case 1:
			equal(t, "i32", int32(c.Arg32(0)), -2)
			equal(t, "i64", c.Arg(1), 1<<40)
			equal(t, "f32", math.Float32frombits(c.Arg32(2)), 1.5)
			equal(t, "f64", math.Float64frombits(c.Arg(3)), -2.25)
			equal(t, "user", c.User(), any("user"))
			equal(t, "tid", c.TID(), 1)
			c.SetResult(1 << 41)
		case 2:
			c.SetResult(uint64(math.Float32bits(0.5)))
		case 3: // no parameters, but a result
			c.SetResult(7)
		}
		return bridge.Continue
	}
	e := openShim(t, h,
		bridge.Import{Module: "host", Name: "all", Params: "iIfF", Results: "I", ID: 1},
		bridge.Import{Module: "host", Name: "float", Results: "f", ID: 2},
		bridge.Import{Module: "host", Name: "seven", Results: "i", ID: 3})
	m := loadWat(t, e, `(module
		(import "host" "all" (func $all (param i32 i64 f32 f64) (result i64)))
		(import "host" "float" (func $float (result f32)))
		(import "host" "seven" (func $seven (result i32)))
		(func (export "_start")
			(if (i64.ne (call $all (i32.const -2) (i64.const 0x10000000000) (f32.const 1.5) (f64.const -2.25))
			            (i64.const 0x20000000000)) (then unreachable))
			(if (f32.ne (call $float) (f32.const 0.5)) (then unreachable))
			(if (i32.ne (call $seven) (i32.const 7)) (then unreachable))))`)
	d := newDomain(t, m, bridge.DomainConfig{User: "user"})
	must(t, d.Start("_start"))
	end := h.end(t)
	equal(t, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
	equal(t, "main", end.Main, true)
	finish(t, h, d)
}

func TestShim_HostCallsSeeTheMemoryAsItGrows(t *testing.T) {
	var sizes []uint64
	h := newHost(func(c *bridge.Call) bridge.Verdict {
		m := c.Memory()
		sizes = append(sizes, m.Size()) // one guest thread, so one at a time
		v, ok := m.ReadUint32(m.Size() - 4)
		if !ok || v != 0x01020304 || !m.WriteUint32(16, 99) {
			return bridge.TrapThread
		}
		return bridge.Continue
	})
	e := openShim(t, h, nop)
	for _, memory := range []string{
		`(import "env" "memory" (memory 1 4 shared))`,
		`(memory (export "memory") 1 4)`,
	} {
		sizes = nil
		m := loadWat(t, e, `(module
			(import "host" "nop" (func $nop))
			`+memory+`
			(func (export "_start")
				(i32.store (i32.const 65532) (i32.const 0x01020304))
				call $nop
				(drop (memory.grow (i32.const 2)))
				(i32.store (i32.const 196604) (i32.const 0x01020304))
				call $nop
				(if (i32.ne (i32.load (i32.const 16)) (i32.const 99)) (then unreachable))))`)
		d := newDomain(t, m, bridge.DomainConfig{})
		must(t, d.Start("_start"))
		end := h.end(t)
		equal(t, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
		if !slices.Equal(sizes, []uint64{1 << 16, 3 << 16}) {
			t.Errorf("%s: sizes %v", memory, sizes)
		}
		finish(t, h, d)
	}
}

// threadsWat has a thread that waits for good, and others that spin, block in a host call, or end.
const threadsWat = `(module
	(import "env" "memory" (memory 1 4 shared))
	(import "host" "block" (func $block))
	(func $spin (loop $l (br $l)))
	(func $wait (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))))
	(func (export "_start") call $wait)
	(func (export "wasi_thread_start") (param $tid i32) (param $arg i32)
		(if (i32.eq (local.get $arg) (i32.const 1)) (then call $spin))
		(if (i32.eq (local.get $arg) (i32.const 2)) (then call $block))))`

func TestShim_StopEndsThreadsWhateverTheyDo(t *testing.T) {
	inCall := make(chan struct{})
	h := newHost(nil)
	h.call = func(c *bridge.Call) bridge.Verdict {
		c.SetThreadData("blocked")
		fd, err := c.Domain().CancelFD()
		close(inCall)
		if err == nil {
			err = poll(fd)
		}
		if err != nil {
			t.Error(err)
		}
		return bridge.Continue
	}
	e := openShim(t, h, bridge.Import{Module: "host", Name: "block", ID: 9})
	m := loadWat(t, e, threadsWat)
	info, err := m.Info()
	must(t, err)
	equal(t, "info", info, bridge.ModuleInfo{
		Imports: 2, Exports: 2, SharedMemory: true, MemoryMin: 1 << 16, MemoryMax: 4 << 16, Rewritten: true,
	})
	d := newDomain(t, m, bridge.DomainConfig{User: t.Name()})
	must(t, d.Start("_start"))
	for _, arg := range []uint32{0, 1, 2} {
		tid, err := d.SpawnThread(arg)
		must(t, err)
		equal(t, "tid", tid, arg+2)
	}
	end := h.end(t)
	equal(t, "first to end", end.TID, 2)
	equal(t, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
	<-inCall
	waitFor(t, d, func(s bridge.ThreadState) bool { return s.TID == 1 && s.At == bridge.AtAtomicWait })
	waitFor(t, d, func(s bridge.ThreadState) bool { return s.TID == 3 && s.At == bridge.AtGuest })
	must(t, d.Stop())
	r := h.quiet(t)
	equal(t, "user", r.User, any(t.Name()))
	equal(t, "threads ever", r.ThreadsTotal, 4)
	equal(t, "ends of stopped threads", len(h.ends), 0)
	slices.SortFunc(r.Threads, func(a, b bridge.ThreadState) int { return int(a.TID) - int(b.TID) })
	var where []string
	for _, s := range r.Threads {
		where = append(where, s.Where())
		if s.Left < r.Stopped || s.Left > r.Quiescent || s.Outcome != bridge.EndStopped {
			t.Errorf("%v: left %v; stopped %v, quiescent %v", s, s.Left, r.Stopped, r.Quiescent)
		}
	}
	if want := []string{"atomic wait at 0x40", "guest", "host call block"}; !slices.Equal(where, want) {
		t.Errorf("threads were at %q, want %q", where, want)
	}
	_, err = d.SpawnThread(0)
	mustBe(t, err, bridge.ErrClosed)
}

func TestShim_TrapTellsWhatAndWhere(t *testing.T) {
	h := newHost(keepGoing)
	e := openShim(t, h)
	m := loadWat(t, e, `(module
		(func $divide (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
		(func $work (drop (call $divide (i32.const 0))))
		(func (export "_start") call $work))`)
	d := newDomain(t, m, bridge.DomainConfig{})
	must(t, d.Start("_start"))
	end := h.end(t)
	equal(t, "outcome", end.Outcome, bridge.EndTrapped)
	contains(t, end.Message, "integer divide by zero")
	contains(t, end.Backtrace, "divide", "work")
	if strings.Index(end.Backtrace, "divide") > strings.Index(end.Backtrace, "work") {
		t.Errorf("the innermost frame is not first: %s", end.Backtrace)
	}
	if end.TrapCode == 0 {
		t.Error("no trap code")
	}
	finish(t, h, d)
}

func TestShim_PanicInHostCallTrapsTheThread(t *testing.T) {
	h := newHost(panickingCall)
	var told atomic.Int32
	h.onPanic = func(value any, _ []byte, _ any) {
		if value == "first" {
			told.Add(1)
		}
	}
	e := openShim(t, h, nop)
	m := loadWat(t, e, `(module
		(import "host" "nop" (func $nop))
		(func $inner call $nop)
		(func (export "_start") call $inner))`)
	d := newDomain(t, m, bridge.DomainConfig{})
	must(t, d.Start("_start"))
	end := h.end(t)
	equal(t, "outcome", end.Outcome, bridge.EndTrapped)
	contains(t, end.Backtrace, "inner")
	equal(t, "panics", told.Load(), 1)
	finish(t, h, d)
}

func TestShim_VerdictsEndTheThreadAlone(t *testing.T) {
	h := newHost(func(c *bridge.Call) bridge.Verdict { return bridge.QuitThread })
	e := openShim(t, h, nop)
	m := loadWat(t, e, `(module (import "host" "nop" (func $nop)) (func (export "_start") call $nop unreachable))`)
	d := newDomain(t, m, bridge.DomainConfig{})
	must(t, d.Start("_start"))
	equal(t, "outcome", h.end(t).Outcome, bridge.EndQuit)
	mustBe(t, d.Close(), bridge.ErrBusy)
	finish(t, h, d)
}

func TestShim_BadInputIsAClearError(t *testing.T) {
	e := openShim(t, newHost(keepGoing), nop, bridge.Import{Module: "host", Name: "typed", Params: "i", ID: 2})
	for _, tt := range []struct {
		wat  string
		want error
		say  []string
	}{
		{"", bridge.ErrModule, nil},
		{"(module", bridge.ErrModule, nil},
		{"\x00asm\x01\x00\x00\x00\x01", bridge.ErrModule, nil},
		{`(module (import "host" "nothing" (func)))`, bridge.ErrImport, []string{"host", "nothing"}},
		{`(module (import "host" "typed" (func (param i64))))`, bridge.ErrImport, []string{"host", "typed"}},
	} {
		_, err := e.Load([]byte(tt.wat))
		if !errors.Is(err, tt.want) {
			t.Errorf("%q: %v, want %v", tt.wat, err, tt.want)
			continue
		}
		contains(t, err.Error(), tt.say...)
	}
	mustBe(t, e.Define([]bridge.Import{{Module: "host", Name: "late", ID: 3}}), bridge.ErrBusy)

	m := loadWat(t, e, `(module (import "env" "memory" (memory 2 4 shared)) (func (export "f") (param i32)))`)
	_, err := m.NewDomain(bridge.DomainConfig{MaxMemoryBytes: 1 << 16})
	mustBe(t, err, bridge.ErrMemory)
	d := newDomain(t, m, bridge.DomainConfig{})
	mustBe(t, d.Start("missing"), bridge.ErrExport)
	mustBe(t, d.Start("f"), bridge.ErrExport)
	_, err = d.SpawnThread(0)
	mustBe(t, err, bridge.ErrExport)
	imports, err := m.Imports()
	must(t, err)
	if len(imports) != 1 || imports[0].Kind != bridge.ExternMemory || imports[0].Module+imports[0].Name != "envmemory" {
		t.Errorf("imports are %+v", imports)
	}
	exports, err := m.Exports()
	must(t, err)
	if len(exports) != 1 || exports[0].Kind != bridge.ExternFunc || exports[0].Name != "f" {
		t.Fatalf("exports are %+v", exports)
	}
	contains(t, exports[0].Type, "i32")
}

func TestShim_ThreadLimitIsErrLimit(t *testing.T) {
	h := newHost(keepGoing)
	e := openShim(t, h, bridge.Import{Module: "host", Name: "block", ID: 9})
	d := newDomain(t, loadWat(t, e, threadsWat), bridge.DomainConfig{MaxThreads: 2})
	must(t, d.Start("_start"))
	mustBe(t, d.Start("_start"), bridge.ErrBusy)
	_, err := d.SpawnThread(1)
	must(t, err)
	_, err = d.SpawnThread(1)
	mustBe(t, err, bridge.ErrLimit)
	finish(t, h, d)
}

func TestShim_LeavesNothingBehind(t *testing.T) {
	round := func() {
		h := newHost(func(c *bridge.Call) bridge.Verdict {
			if fd, err := c.Domain().CancelFD(); err != nil || poll(fd) != nil {
				return bridge.TrapThread
			}
			return bridge.Continue
		})
		h.onQuiet = func(r *bridge.Report) {
			if err := r.Domain.Close(); err != nil {
				t.Error(err)
			}
		}
		e, err := bridge.Open(bridge.Config{Handler: h})
		must(t, err)
		must(t, e.Define([]bridge.Import{{Module: "host", Name: "block", ID: 9}}))
		m, err := e.Load([]byte(threadsWat))
		must(t, err)
		const domains = 20
		for range domains {
			d, err := m.NewDomain(bridge.DomainConfig{})
			must(t, err)
			must(t, d.Start("_start"))
			for arg := range uint32(3) {
				_, err := d.SpawnThread(arg)
				must(t, err)
			}
			must(t, d.Stop())
		}
		for range domains {
			h.quiet(t)
		}
		must(t, m.Close())
		must(t, e.Close())
	}
	round()
	threads, goroutines, fds := osThreads(t), runtime.NumGoroutine(), descriptors(t)
	for range 5 {
		round()
	}
	settle(t, "OS threads", threads+2*runtime.GOMAXPROCS(0)+8, func() int { return osThreads(t) })
	settle(t, "goroutines", goroutines, runtime.NumGoroutine)
	settle(t, "descriptors", fds, func() int { return descriptors(t) })
}
