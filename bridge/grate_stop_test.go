package bridge_test

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
)

// This file tests how grates, and those that are inside them, come to their ends, against the real shim.

func TestStop_OfTheGrateLetsItsCallersGo(t *testing.T) {
	s := newStacked(t)
	inside := make(chan bool, 1)
	s.hook = func(c *bridge.Call) (int32, bool) {
		c.SetThreadData("the worker's")
		inside <- true
		return 0, false
	}
	grate := s.newGrate(t, 20, bridge.GrateConfig{}, hooks)
	must(t, grate.Start("_start"))
	waitFor(t, grate.Domain, func(st bridge.ThreadState) bool { return st.At == bridge.AtHostCall })
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(grate.port, 1), asks+asks+rests)
	receive(t, inside, "the worker")
	list, err := app.Threads()
	must(t, err)
	equal(t, "the program's threads", len(list), 1)
	equal(t, "where", list[0].String(), "thread 1: a grate, for call 39")
	equal(t, "place", list[0].At, bridge.AtGrate)
	equal(t, "port", list[0].Address, grate.port)
	equal(t, "call", list[0].Call, callGrate)

	must(t, grate.Stop())
	s.answer(t, "the call that was served", abi.GrateErr)
	s.answer(t, "the next", elindesrch)
	r := s.quiet(t)
	equal(t, "report", r.Domain, grate.Domain)
	equal(t, "threads", len(r.Threads), 2)
	slices.SortFunc(r.Threads, func(a, b bridge.ThreadState) int { return int(a.TID) - int(b.TID) })
	for i, w := range r.Threads {
		equal(t, "worker", w.Worker, i == 1)
		equal(t, "place", w.Where(), "host call make-syscall")
		equal(t, "outcome", w.Outcome, bridge.EndStopped)
	}
	equal(t, "ends of what was stopped", len(s.ends), 0)
	must(t, grate.Close())
	s.finish(t, app)
}

func TestStop_OfTheCallerInterruptsTheGrateOnce(t *testing.T) {
	// How the worker's host call blocks: it marks inside, and sends how it was interrupted.
	type block func(s *stacked, c *bridge.Call, inside chan<- bool, how chan<- string) (int32, bool)
	for _, tt := range []struct {
		name  string
		block block
		want  string
	}{
		{"wait in the shim", func(s *stacked, c *bridge.Call, inside chan<- bool, how chan<- string) (int32, bool) {
			if c.Resumed() == bridge.NotResumed {
				inside <- true
				return 0, false
			}
			how <- fmt.Sprint("resumed ", c.Resumed())
			return errnoResult(unix.EINTR), true
		}, fmt.Sprint("resumed ", bridge.ResumedInterrupted)},
		{"wait in the host", func(s *stacked, c *bridge.Call, inside chan<- bool, how chan<- string) (int32, bool) {
			fd, err := s.engine.InterruptFD()
			if err == nil {
				inside <- true
				err = poll(fd)
			}
			n := 0
			if err == nil {
				n, err = unix.Read(fd, make([]byte, 8))
			}
			how <- fmt.Sprint("read ", n, " ", err)
			return errnoResult(unix.EINTR), true
		}, "read 8 <nil>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStacked(t)
			inside, how := make(chan bool, 2), make(chan string, 2)
			s.hook = func(c *bridge.Call) (int32, bool) {
				if word(c, 0) == 1 { // the function has gone on to here, and was not interrupted again
					how <- "went on"
					return 0, true
				}
				return tt.block(s, c, inside, how)
			}
			grate := s.newGrate(t, 20, bridge.GrateConfig{}, `(call $report `+hooks+`)
				(drop (call $sys (i32.const 2002) (i64.const 1))) (i32.const 7)`)
			app := s.run(t, bridge.DomainConfig{Cage: 10, GrateGrace: time.Hour}, served(grate.port, 1), asks)
			receive(t, inside, "the worker")
			must(t, app.Stop())
			s.answer(t, "what the function gets", errnoResult(unix.EINTR))
			equal(t, "the interruption", receive(t, how, "the interruption"), tt.want)
			equal(t, "the function", receive(t, how, "the function's end"), "went on")
			r := s.quiet(t)
			equal(t, "report", r.Domain, app.Domain)
			equal(t, "threads", len(r.Threads), 1)
			main := r.Threads[0]
			equal(t, "where", main.Where(), "a grate, for call 39")
			equal(t, "port", main.Address, grate.port)
			equal(t, "torn", main.Torn, false)
			equal(t, "outcome", main.Outcome, bridge.EndStopped)
			equal(t, "workers lost", len(s.ends), 0)
			equal(t, "further answers", len(s.answers), 0)
			must(t, app.Close())
			result, err := s.engine.GrateCall(served(grate.port, 1), 0, 0, words(0, 1))
			must(t, err)
			equal(t, "the worker serves on", result, 7)
			s.finish(t, grate)
		})
	}
}

func TestStop_OfTheCallerDiscardsAWorkerThatGoesOn(t *testing.T) {
	for _, tt := range []struct {
		name, body string
	}{
		{"spins", `(drop ` + hooks + `) (call $spin) (i32.const 0)`},
		{"waits on", `(drop ` + hooks + `) (loop $l ` + rests + ` (br $l)) (i32.const 0)`},
		{"atomic wait", `(drop ` + hooks + `)
			(loop $l (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))) (br $l)) (i32.const 0)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStacked(t)
			inside := make(chan bool, 1)
			s.hook = func(c *bridge.Call) (int32, bool) {
				c.SetThreadData("the worker's")
				inside <- true
				return 0, true
			}
			var ends atomic.Int64
			s.onEnd = func(*bridge.ThreadEnd) { ends.Add(1) }
			told := make(chan int64, 2) // how many ends there were before each report
			s.onQuiet = func(*bridge.Report) { told <- ends.Load() }
			grate := s.newGrate(t, 20, bridge.GrateConfig{MaxWorkers: 1}, tt.body, increments)
			// More than the shim's own 100 ms, which so are not what ends it.
			const grace = 150 * time.Millisecond
			app := s.run(t, bridge.DomainConfig{Cage: 10, GrateGrace: grace}, served(grate.port, 1), asks)
			receive(t, inside, "the worker")
			must(t, app.Stop())
			r := s.quiet(t)
			equal(t, "report", r.Domain, app.Domain)
			if r.Took() < grace {
				t.Errorf("the grate had %v to finish, and not %v", r.Took(), grace)
			}
			equal(t, "threads", len(r.Threads), 1)
			equal(t, "place", r.Threads[0].At, bridge.AtGrate)
			equal(t, "torn", r.Threads[0].Torn, true)
			equal(t, "outcome", r.Threads[0].Outcome, bridge.EndStopped)
			equal(t, "ends before the report", receive(t, told, "the report"), 1)
			end := s.end(t)
			equal(t, "domain of the end", end.Domain, grate.Domain)
			equal(t, "worker", end.Worker, true)
			equal(t, "main", end.Main, false)
			equal(t, "outcome of the worker", end.Outcome, bridge.EndDiscarded)
			equal(t, "data of the worker", end.ThreadData, "the worker's")
			must(t, app.Close())
			result, err := s.engine.GrateCall(served(grate.port, 2), 0, 0, words(0, 1))
			must(t, err)
			equal(t, "another serves in its place", result, 2)
			s.finish(t, grate)
		})
	}
}

func TestThreadEnd_OfAWorkerComesBeforeItsCallerGoesOn(t *testing.T) {
	s := newStacked(t)
	s.hook = func(c *bridge.Call) (int32, bool) {
		c.SetThreadData("the worker's")
		return 0, true
	}
	s.onEnd = func(e *bridge.ThreadEnd) {
		if e.Worker {
			if err := e.Domain.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
	grate := s.newGrate(t, 20, bridge.GrateConfig{}, `(drop `+hooks+`) unreachable`)
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(grate.port, 1), asks+asks)
	s.answer(t, "the call that was served", abi.GrateErr)
	s.answer(t, "the next", elindesrch)
	end := s.end(t)
	equal(t, "user", end.User, "cage 20")
	equal(t, "domain", end.Domain, grate.Domain)
	equal(t, "worker", end.Worker, true)
	equal(t, "outcome", end.Outcome, bridge.EndTrapped)
	equal(t, "data", end.ThreadData, "the worker's")
	contains(t, end.Message, "unreachable")
	contains(t, end.Backtrace, "f0")
	equal(t, "the program's end", s.end(t).Outcome, bridge.EndReturned)
	equal(t, "report", s.quiet(t).Domain, grate.Domain)
	must(t, grate.Close())
	s.finish(t, app)
}

func TestGrate_LeavesNothingBehind(t *testing.T) {
	// Workers wait in the shim, wait in the host, or spin, and none comes back by itself.
	functions := []string{
		`(call $sys (i32.const 2002) (i64.const 0))`,
		`(call $sys (i32.const 2002) (i64.const 1))`,
		`(drop (call $sys (i32.const 2002) (i64.const 2))) (call $spin) (i32.const 0)`,
	}
	round := func() {
		s := newStacked(t)
		inside := make(chan bool, 1)
		s.hook = func(c *bridge.Call) (int32, bool) {
			if c.Resumed() != bridge.NotResumed {
				return 0, true
			}
			c.SetThreadData(c.TID())
			inside <- true
			if word(c, 0) == 1 {
				if err := s.interrupted(c); err != nil {
					t.Error(err)
				}
			}
			return 0, word(c, 0) != 0
		}
		for i := range uint32(2 * len(functions)) {
			grate := s.newGrate(t, 20, bridge.GrateConfig{}, functions...)
			app := s.run(t, bridge.DomainConfig{Cage: 10, GrateGrace: time.Millisecond}, served(grate.port, i/2+1), asks)
			receive(t, inside, "the worker")
			if i%2 == 0 {
				s.finish(t, app, grate)
			} else {
				s.finish(t, grate, app)
			}
		}
		must(t, s.engine.Close())
	}
	round()
	threads, goroutines, fds := osThreads(t), runtime.NumGoroutine(), descriptors(t)
	for range 10 {
		round()
	}
	// An OS thread of Go's that called a grate lives on, and with it the descriptor that interrupts it.
	settle(t, "OS threads", threads+2*runtime.GOMAXPROCS(0)+8, func() int { return osThreads(t) })
	settle(t, "goroutines", goroutines, runtime.NumGoroutine)
	settle(t, "descriptors", fds+2, func() int { return descriptors(t) })
}

// TestHammer_GratesComeAndGo has the host and a program call through two grates from many threads, while the inner grate
// is stopped and another takes its place. Every call ends, and in one of the ways that it may.
func TestHammer_GratesComeAndGo(t *testing.T) {
	s := newStacked(t)
	module, err := s.engine.LoadGrate([]byte(grateWat(21, increments)))
	must(t, err)
	outer := s.newGrate(t, 20, bridge.GrateConfig{MaxWorkers: 3}, passes)
	next := func() *bridge.Domain {
		d, err := module.NewDomain(bridge.DomainConfig{})
		must(t, err)
		port, err := d.OpenGrate(bridge.GrateConfig{MaxWorkers: 2})
		must(t, err)
		// The first call has the memory initialized. One that came meanwhile might get EAGAIN.
		result, err := s.engine.GrateCall(served(port, 1), 0, callGrate, words(0, 41))
		must(t, err)
		equal(t, "the grate's first call", result, 42)
		outer.set(callGrate, served(port, 1))
		return d
	}
	inner := next()
	fine := func(result int32) bool { return result == 42 || result == elindesrch || result == abi.GrateErr }
	// The program reports what is not 42, and that it was served once.
	app := s.run(t, bridge.DomainConfig{Cage: 10}, served(outer.port, 1), asks+`(loop $l
		(local.set $r (call $sys (i32.const 39) (i64.const 41)))
		(if (i32.ne (local.get $r) (i32.const 42)) (then (call $report (local.get $r))))
		(br $l))`)
	s.answer(t, "the program's first call", 42)
	stop := make(chan struct{})
	var calling, callers sync.WaitGroup
	for range 4 {
		calling.Add(1)
		callers.Go(func() {
			for first := true; ; first = false {
				result, err := s.engine.GrateCall(served(outer.port, 1), 0, callGrate, words(0, 41))
				if err != nil || !fine(result) || first && result != 42 {
					t.Errorf("%d, %v", result, err)
				}
				if first {
					calling.Done()
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	calling.Wait()
	for range 200 {
		d := next()
		finish(t, s.host, inner)
		inner = d
		for range len(s.answers) {
			if result := <-s.answers; !fine(result) {
				t.Errorf("the program got %d", result)
			}
		}
	}
	close(stop)
	callers.Wait()
	s.finish(t, app, outer)
	finish(t, s.host, inner)
	equal(t, "ends", len(s.ends), 0)
	must(t, module.Close())
}
