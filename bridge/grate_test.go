package bridge_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
)

// This file tests grates against the real shim: programs whose calls of lind.make-syscall others serve.

func TestGrate_ServesWhatTheHandlersSay(t *testing.T) {
	s := newStacked(t)
	grate := s.newGrate(t, 20, bridge.GrateConfig{}, increments)
	app := s.newCage(t, loadWat(t, s.engine, programWat(10, asks+`
		(call $report (call $sys (i32.const 40) (i64.const 0)))
		(call $report (call $sys (i32.const 41) (i64.const 0)))
		(call $report (call $sys (i32.const 1023) (i64.const 7)))
		(call $report (call $sys (i32.const 1024) (i64.const 0)))
		(call $report (call $make (i32.const 39) (i64.const 0) (i64.const 11)
			`+strings.Repeat("(i64.const 0)", 13)+`))
		(call $do (i32.const 2002))`+asks+`(call $report (call $sys (i32.const 40) (i64.const 41)))`)),
		bridge.DomainConfig{Cage: 10})
	app.set(callGrate, served(grate.port, 1))
	app.set(41, gone)
	app.set(1023, served(grate.port, 1))
	s.hook = func(*bridge.Call) (int32, bool) {
		app.replace(40, served(grate.port, 1))
		return 0, true
	}
	must(t, app.Start("_start"))
	s.answer(t, "the grate", 42)
	s.answer(t, "the host", 1040)
	s.answer(t, "a grate that is gone", elindesrch)
	s.answer(t, "the last call that has a handler", 8)
	s.answer(t, "a call that cannot have one", 2024)
	s.answer(t, "a call in another's name", errnoResult(unix.EPERM))
	s.answer(t, "the host, once the handlers are others", 1039)
	s.answer(t, "the grate, once the handlers are others", 42)
	equal(t, "outcome", s.end(t).Outcome, bridge.EndReturned)
	s.finish(t, app, grate)
}

func TestGrate_IsToldOfTheCallAndItsCaller(t *testing.T) {
	s := newStacked(t)
	type told struct {
		user, callerUser, callerData, data any
		domain                             *bridge.Domain
		worker                             bool
		depth                              uint32
		words                              [6]uint64
		owners                             [6]abi.CageID
	}
	calls := make(chan told, 8)
	s.hook = func(c *bridge.Call) (int32, bool) {
		n := told{
			user: c.User(), callerUser: c.CallerUser(), callerData: c.CallerData(), data: c.ThreadData(),
			domain: c.Domain(), worker: c.Worker(), depth: c.Depth(),
		}
		for i := range n.words {
			n.words[i], n.owners[i] = c.Slots()[4+2*i][0], abi.CageID(c.Slots()[5+2*i][0])
		}
		if n.words[0] != c.Arg(4) || uint64(n.owners[5]) != c.Arg(15) {
			t.Error("Slots and Arg differ")
		}
		c.SetThreadData(c.User())
		calls <- n
		return 5, true
	}
	// The function passes on all that it gets, and for the first argument the cage that called.
	var pairs strings.Builder
	for i := range 6 {
		fmt.Fprintf(&pairs, "(local.get $a%d) (local.get $c%d)", i, i)
	}
	grate := s.newGrate(t, 20, bridge.GrateConfig{}, `(call $make (i32.const 2002) (i64.const 0) (i64.const 20)
		(local.get $cage) `+pairs.String()+`)`)
	app := s.run(t, bridge.DomainConfig{Cage: 10, User: "app"}, served(grate.port, 1),
		hooks[:len(hooks)-len("(local.get $a0))")]+`(i64.const 0)) drop
		(call $report (call $make (i32.const 39) (i64.const 0) (i64.const 10) (i64.const 10)
			(i64.const 1) (i64.const 10) (i64.const 2) (i64.const 11) (i64.const 3) (i64.const 12)
			(i64.const 4) (i64.const 13) (i64.const 5) (i64.const 14) (i64.const -6) (i64.const 15)))`)
	s.answer(t, "result", 5)
	own, worker := receive(t, calls, "the program's call"), receive(t, calls, "the grate's call")
	equal(t, "the program's own call", own, told{user: "app", domain: app.Domain, owners: [6]abi.CageID{10, 10, 10, 10, 10, 10}})
	equal(t, "the grate's call", worker, told{
		user: "cage 20", domain: grate.Domain, callerUser: "app", callerData: "app", worker: true, depth: 1,
		words: [6]uint64{1, 2, 3, 4, 5, ^uint64(5)}, owners: [6]abi.CageID{10, 11, 12, 13, 14, 15},
	})
	end := s.end(t)
	equal(t, "outcome", end.Outcome, bridge.EndReturned)
	equal(t, "the program's data", end.ThreadData, "app")

	// The same worker serves the host, and has kept its own data.
	result, err := s.engine.GrateCall(served(grate.port, 1), 30, 77, words(31, 9))
	must(t, err)
	equal(t, "result", result, 5)
	equal(t, "the grate's call for the host", receive(t, calls, "the grate's call"), told{
		user: "cage 20", domain: grate.Domain, data: "cage 20", worker: true, depth: 1,
		words: [6]uint64{9}, owners: [6]abi.CageID{31, 31, 31, 31, 31, 31},
	})
	s.finish(t, app, grate)
}

func TestGrateCall_IsNestedWithinAHostCallAndTheHostsOwnElsewhere(t *testing.T) {
	s := newStacked(t)
	grate := s.newGrate(t, 20, bridge.GrateConfig{}, hooks)
	var seen sync.Map
	s.hook = func(c *bridge.Call) (int32, bool) {
		if !c.Worker() {
			c.SetThreadData("the program's thread")
			result, err := s.engine.GrateCall(served(grate.port, 1), 10, callGrate, words(10, 6))
			if err != nil {
				t.Error(err)
			}
			return result, true
		}
		if list, err := s.engine.Callers(); err != nil || len(list) != int(word(c, 0)&1^1) {
			t.Errorf("callers of call %d: %v, %v", word(c, 0), list, err)
		}
		seen.Store(word(c, 0), fmt.Sprintf("%d %v %v", c.Depth(), c.CallerUser(), c.CallerData()))
		return int32(word(c, 0)) + 1, true
	}
	app := s.run(t, bridge.DomainConfig{Cage: 10}, 0, `(call $report (call $sys (i32.const 2002) (i64.const 0)))`)
	s.answer(t, "the nested call", 7)
	equal(t, "outcome", s.end(t).Outcome, bridge.EndReturned)

	var wg sync.WaitGroup
	for i := range uint64(50) {
		wg.Go(func() {
			result, err := s.engine.GrateCall(served(grate.port, 1), 10, callGrate, words(10, 2*i+1))
			if err != nil || result != int32(2*i+2) {
				t.Errorf("call %d: %d, %v", i, result, err)
			}
		})
	}
	wg.Wait()
	for key, want := range map[uint64]string{
		6: "1 cage 10 the program's thread", 1: "1 <nil> <nil>", 99: "1 <nil> <nil>",
	} {
		got, _ := seen.Load(key)
		equal(t, fmt.Sprint("seen by call ", key), got, any(want))
	}
	s.finish(t, app, grate)
}

func TestGrateCall_SaysWhyNot(t *testing.T) {
	s := newStacked(t)
	grate := s.newGrate(t, 20, bridge.GrateConfig{}, increments)
	call := func(entry uint64) (int32, error) { return s.engine.GrateCall(entry, 1, 2, words(1, 41)) }
	result, err := call(served(grate.port, 1))
	must(t, err)
	equal(t, "result", result, 42)
	result, err = call(served(grate.port, 9))
	must(t, err)
	equal(t, "no such function", result, errnoResult(unix.EINVAL))
	for _, entry := range []uint64{0, gone, 1, served(grate.port+1, 1), served(grate.port+1<<16, 1)} {
		_, err := call(entry)
		mustBe(t, err, bridge.ErrClosed)
	}
	must(t, grate.Stop())
	_, err = call(served(grate.port, 1))
	mustBe(t, err, bridge.ErrClosed)
	s.quiet(t)
}

func TestCallers_ListsTheInnermostFirst(t *testing.T) {
	s := newStacked(t)
	lists := make(chan []bridge.Caller, 1)
	s.hook = func(c *bridge.Call) (int32, bool) {
		if word(c, 0) == 0 { // each grate and the program have data before they call
			c.SetThreadData(fmt.Sprint("data of ", c.User()))
			return 0, true
		}
		list, err := s.engine.Callers()
		if err != nil {
			t.Error(err)
		}
		lists <- list
		return 9, true
	}
	mark := `(call $do (i32.const 2002))`
	third := s.newGrate(t, 23, bridge.GrateConfig{}, mark+hooks)
	second := s.newGrate(t, 22, bridge.GrateConfig{}, mark+passes)
	first := s.newGrate(t, 21, bridge.GrateConfig{}, mark+passes)
	first.set(callGrate, served(second.port, 1))
	second.set(callGrate, served(third.port, 1))
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(first.port, 1), mark+asks)
	s.answer(t, "the innermost's answer", 9)
	list := receive(t, lists, "the list")
	var tids []uint32
	for i := range list {
		tids = append(tids, list[i].TID)
		list[i].TID = 0
	}
	if want := []bridge.Caller{
		{User: "cage 22", Data: "data of cage 22", Worker: true},
		{User: "cage 21", Data: "data of cage 21", Worker: true},
		{User: "cage 10", Data: "data of cage 10"},
	}; !slices.Equal(list, want) {
		t.Errorf("callers are %+v, want %+v", list, want)
	}
	if slices.Contains(tids, 0) || tids[2] != 1 {
		t.Errorf("their ids are %v", tids)
	}
	s.finish(t, app, first, second, third)
}

func TestCallers_HoweverMany(t *testing.T) {
	const depth = 40
	s := newStacked(t, func(c *bridge.Config) { c.MaxCallDepth, c.StackBytes = depth, 64<<20 })
	lists := make(chan []bridge.Caller, 1)
	s.hook = func(c *bridge.Call) (int32, bool) {
		list, err := s.engine.Callers()
		if err != nil {
			t.Error(err)
		}
		lists <- list
		return int32(c.Depth()), true
	}
	// It calls itself until that is ELOOP.
	grate := s.newGrate(t, 20, bridge.GrateConfig{MaxWorkers: depth}, `(local $r i32)
		(local.set $r `+passes+`)
		(if (result i32) (i32.eq (local.get $r) (i32.const -40)) (then `+hooks+`) (else (local.get $r)))`)
	grate.set(callGrate, served(grate.port, 1))
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(grate.port, 1), asks)
	s.answer(t, "the depth", depth)
	list := receive(t, lists, "the list")
	equal(t, "callers", len(list), depth)
	for i, c := range list {
		equal(t, fmt.Sprint("caller ", i), c.Worker, i < depth-1)
		equal(t, fmt.Sprint("user ", i), c.User, any(map[bool]string{true: "cage 20", false: "cage 10"}[c.Worker]))
	}
	_, err := s.engine.GrateCall(served(grate.port, 1), 20, callGrate, words(20))
	must(t, err) // the host is no caller, and has a place more
	equal(t, "callers, of the host's call", len(receive(t, lists, "the list")), depth-1)
	s.finish(t, app, grate)
}

func TestCallers_AreNoneOutsideAHostCall(t *testing.T) {
	s := newStacked(t)
	list, err := s.engine.Callers()
	must(t, err)
	equal(t, "callers", len(list), 0)
	_, err = s.engine.InterruptFD()
	mustBe(t, err, bridge.ErrInvalid)
	mustBe(t, s.engine.QuitCaller(0), bridge.ErrInvalid)
}

func TestQuitCaller_EndsTheCallersThread(t *testing.T) {
	s := newStacked(t)
	s.hook = func(*bridge.Call) (int32, bool) {
		for _, nobody := range []int{-1, 2} {
			if err := s.engine.QuitCaller(nobody); !errors.Is(err, bridge.ErrInvalid) {
				t.Errorf("caller %d: %v", nobody, err)
			}
		}
		if err := s.engine.QuitCaller(1); err != nil {
			t.Error(err)
		}
		return 1, true
	}
	inner := s.newGrate(t, 21, bridge.GrateConfig{}, hooks)
	outer := s.newGrate(t, 20, bridge.GrateConfig{}, `(call $report `+passes+`) (i32.const 2)`)
	outer.set(callGrate, served(inner.port, 1))
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(outer.port, 1), asks)
	s.answer(t, "what the outer grate gets", 1)
	end := s.end(t)
	equal(t, "domain", end.Domain, app.Domain)
	equal(t, "outcome", end.Outcome, bridge.EndQuit)
	equal(t, "further answers", len(s.answers), 0)
	s.finish(t, app, inner, outer)
}

func TestGrate_CallersWaitOrGetEAGAIN(t *testing.T) {
	s := newStacked(t)
	inside := make(chan struct{}, 8)
	release := make(chan struct{})
	s.hook = func(*bridge.Call) (int32, bool) {
		inside <- struct{}{}
		<-release
		return 7, true
	}
	again := s.newGrate(t, 20, bridge.GrateConfig{MaxWorkers: 1, Again: true}, hooks)
	waits := s.newGrate(t, 21, bridge.GrateConfig{MaxWorkers: 1}, hooks)
	var wg sync.WaitGroup
	call := func(port uint64) {
		result, err := s.engine.GrateCall(served(port, 1), 0, 0, words(0))
		if err != nil || result != 7 {
			t.Errorf("%d, %v", result, err)
		}
	}
	wg.Go(func() { call(again.port) })
	receive(t, inside, "the first worker")
	refused := make(chan error, 1)
	go func() {
		_, err := s.engine.GrateCall(served(again.port, 1), 0, 0, words(0))
		refused <- err
	}()
	mustBe(t, receive(t, refused, "the refusal"), bridge.ErrLimit)
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(again.port, 1), asks)
	s.answer(t, "the program's call", errnoResult(unix.EAGAIN))
	for range 3 {
		wg.Go(func() { call(waits.port) })
	}
	receive(t, inside, "the second worker")
	close(release)
	wg.Wait()
	list, err := waits.Threads()
	must(t, err)
	equal(t, "workers", len(list), 1)
	equal(t, "the worker", list[0].String(), fmt.Sprintf("worker %d: idle", list[0].TID))
	equal(t, "place", list[0].At, bridge.AtIdle)
	s.finish(t, app, again, waits)
}

func TestGrate_NestsToTheLimit(t *testing.T) {
	s := newStacked(t, func(c *bridge.Config) { c.MaxCallDepth = 2 })
	errs := make(chan error, 1)
	var grate cage
	s.hook = func(c *bridge.Call) (int32, bool) {
		_, err := s.engine.GrateCall(served(grate.port, 2), 20, 1, words(20))
		errs <- err
		return int32(c.Depth()), true
	}
	grate = s.newGrate(t, 20, bridge.GrateConfig{}, `(i32.mul (i32.const 10) `+passes+`)`, hooks)
	grate.set(callGrate, served(grate.port, 2))
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(grate.port, 1), asks)
	s.answer(t, "ten times the depth", 20)
	mustBe(t, receive(t, errs, "the third call's error"), bridge.ErrDepth)
	s.finish(t, app, grate)
}

// traces keeps what Config.Trace is told.
func traces(c chan<- bridge.Trace) func(*bridge.Config) {
	return func(cfg *bridge.Config) { cfg.Trace = func(t bridge.Trace) { c <- t } }
}

func TestTrace_IsToldOfEachServedCall(t *testing.T) {
	told := make(chan bridge.Trace, 8)
	s := newStacked(t, traces(told))
	s.hook = func(c *bridge.Call) (int32, bool) {
		c.SetThreadData(fmt.Sprint("data of ", c.User()))
		return 5, true
	}
	inner := s.newGrate(t, 21, bridge.GrateConfig{}, increments)
	outer := s.newGrate(t, 20, bridge.GrateConfig{}, `(call $do (i32.const 2002))`+passes)
	outer.set(callGrate, served(inner.port, 1))
	before := bridge.MonotonicNow()
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(outer.port, 1), `(call $do (i32.const 2002))
		(call $do (i32.const 40))
		(call $report (call $make (i32.const 39) (i64.const 0) (i64.const 10) (i64.const 10)
			(i64.const 41) (i64.const 10) (i64.const 2) (i64.const 11) (i64.const 3) (i64.const 12)
			(i64.const 4) (i64.const 13) (i64.const 5) (i64.const 14) (i64.const 6) (i64.const 15)))`)
	s.answer(t, "result", 42)
	_, err := s.engine.GrateCall(served(inner.port, 1), 30, 77, words(31, 9))
	must(t, err)
	after := bridge.MonotonicNow()
	var list [3]bridge.Trace
	for i := range list {
		list[i] = receive(t, told, "a trace")
		if b, e := list[i].Begin, list[i].Begin+list[i].Took; b < before || e < b || e > after {
			t.Errorf("call %d: from %v to %v, in %v to %v", i, b, e, before, after)
		}
	}
	if nested, whole := list[0], list[1]; nested.Begin < whole.Begin || nested.Took > whole.Took {
		t.Errorf("the nested call is not within the other: %+v, %+v", nested, whole)
	}
	if list[0].TID == 0 {
		t.Error("the worker that called has no id")
	}
	for i := range list {
		list[i].Begin, list[i].Took = 0, 0
	}
	list[0].TID = 0
	equal(t, "the grate's call", list[0], bridge.Trace{
		User: "cage 20", Data: "data of cage 20", Depth: 2, GrateUser: "cage 21", Call: callGrate,
		Args: [6]uint64{41}, ArgCages: [6]uint64{20, 20, 20, 20, 20, 20}, Result: 42,
	})
	equal(t, "the program's call", list[1], bridge.Trace{
		User: "cage 10", TID: 1, Data: "data of cage 10", Depth: 1, GrateUser: "cage 20", Call: callGrate,
		Args: [6]uint64{41, 2, 3, 4, 5, 6}, ArgCages: [6]uint64{10, 11, 12, 13, 14, 15}, Result: 42,
	})
	equal(t, "the host's call", list[2], bridge.Trace{
		Depth: 1, GrateUser: "cage 21", Call: 77,
		Args: [6]uint64{9}, ArgCages: [6]uint64{31, 31, 31, 31, 31, 31}, Result: 10,
	})
	s.finish(t, app, outer, inner)
	equal(t, "further traces", len(told), 0)
}

func TestTrace_PanicIsToldAndChangesNothing(t *testing.T) {
	type panicked struct{ value, user any }
	told := make(chan panicked, 8)
	s := newStacked(t, func(c *bridge.Config) {
		c.Trace = func(bridge.Trace) { panic("in Trace") }
		c.OnPanic = func(value any, stack []byte, user any) {
			contains(t, string(stack), "TestTrace_PanicIsTold")
			told <- panicked{value, user}
		}
	})
	grate := s.newGrate(t, 20, bridge.GrateConfig{}, increments)
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(grate.port, 1), asks)
	s.answer(t, "result", 42)
	equal(t, "panic", receive(t, told, "the panic"), panicked{"in Trace", "cage 20"})
	equal(t, "outcome", s.end(t).Outcome, bridge.EndReturned)
	s.finish(t, app, grate)
}

func TestLoadGrate_SaysWhatTheModuleLacks(t *testing.T) {
	s := newStacked(t)
	good := grateWat(20, increments)
	own := strings.Replace(good, `(import "env" "memory") 2 100 shared`, "2 100", 1)
	for _, tt := range []struct {
		wat  string
		want error
		say  []string
	}{
		{strings.Replace(good, "pass_fptr_to_wt", "other", 1), bridge.ErrExport, []string{
			"does not export pass_fptr_to_wt", "-Wl,--export=pass_fptr_to_wt",
		}},
		{strings.Replace(good, "__stack_pointer", "other", 1), bridge.ErrExport, []string{"-Wl,--export=__stack_pointer"}},
		{strings.Replace(good, `"lind"`, `"other"`, 1), bridge.ErrImport, []string{"other.make-syscall"}},
		{"(module", bridge.ErrModule, nil},
	} {
		_, err := s.engine.LoadGrate([]byte(tt.wat))
		mustBe(t, err, tt.want)
		contains(t, err.Error(), tt.say...)
		if !errors.Is(tt.want, bridge.ErrExport) {
			continue
		}
		// As a program it is fine, and found out when it is opened.
		c := s.newCage(t, loadWat(t, s.engine, tt.wat), bridge.DomainConfig{Cage: 20})
		_, err = c.OpenGrate(bridge.GrateConfig{})
		mustBe(t, err, tt.want)
		contains(t, err.Error(), append(tt.say, "open grate in domain")...)
		must(t, c.Close()) // it is no grate, and was not started
	}
	c := s.newCage(t, loadWat(t, s.engine, own), bridge.DomainConfig{Cage: 20})
	_, err := c.OpenGrate(bridge.GrateConfig{})
	mustBe(t, err, bridge.ErrExport)
	contains(t, err.Error(), "load it as a grate")

	m, err := s.engine.LoadGrate([]byte(own))
	must(t, err)
	info, err := m.Info()
	must(t, err)
	equal(t, "memory is shared", info.SharedMemory, true)
	grate := s.newCage(t, m, bridge.DomainConfig{Cage: 20})
	port, err := grate.OpenGrate(bridge.GrateConfig{MaxWorkers: 9})
	must(t, err)
	result, err := s.engine.GrateCall(served(port, 1), 0, 0, words(0, 1))
	must(t, err)
	equal(t, "result", result, 2)
	s.finish(t, grate)
	must(t, m.Close())
}

func TestOpenGrate_SaysWhyNot(t *testing.T) {
	s := newStacked(t)
	c := s.newCage(t, loadWat(t, s.engine, grateWat(20, increments)), bridge.DomainConfig{Cage: 20})
	_, err := c.OpenGrate(bridge.GrateConfig{MaxWorkers: 1025})
	mustBe(t, err, bridge.ErrInvalid)
	_, err = c.OpenGrate(bridge.GrateConfig{StackBytes: 1 << 40})
	mustBe(t, err, bridge.ErrInvalid)
	port, err := c.OpenGrate(bridge.GrateConfig{MaxWorkers: 1024, StackBytes: 1 << 20})
	must(t, err)
	if port == 0 || port >= 1<<38 {
		t.Errorf("the port is %#x", port)
	}
	_, err = c.OpenGrate(bridge.GrateConfig{})
	mustBe(t, err, bridge.ErrBusy)
	mustBe(t, c.Close(), bridge.ErrBusy) // callers may be inside, though nothing was started
	must(t, c.Stop())
	equal(t, "threads", s.quiet(t).ThreadsTotal, 0)
	_, err = c.OpenGrate(bridge.GrateConfig{})
	mustBe(t, err, bridge.ErrClosed)
	must(t, c.Close())
	_, err = c.OpenGrate(bridge.GrateConfig{})
	mustBe(t, err, bridge.ErrHandle)
}

// A grate that was never started is closed after its stop like any other. A Close that comes too early must not make the
// Stop beside it think that there is nothing left to stop.
func TestOpenGrate_LeavesNoCloseInTheWayOfStop(t *testing.T) {
	h := newHost(keepGoing)
	e := openFake(t, h)
	m := load(t, e, "export pass_fptr_to_wt")
	for range 1000 {
		d, err := m.NewDomain(bridge.DomainConfig{})
		must(t, err)
		_, err = d.OpenGrate(bridge.GrateConfig{})
		must(t, err)
		var closer sync.WaitGroup
		begun := make(chan struct{})
		closer.Go(func() {
			close(begun)
			for range 10 {
				if err := d.Close(); err != nil && !errors.Is(err, bridge.ErrBusy) {
					t.Error(err)
				}
			}
		})
		<-begun
		if err := d.Stop(); err != nil {
			t.Fatal(err)
		}
		h.quiet(t)
		closer.Wait()
		must(t, d.Close())
	}
}
