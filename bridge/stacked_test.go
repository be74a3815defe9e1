package bridge_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
)

// This file is what tests of grates against the real shim have in common: their host, and how their guests are written.

// What the guests here call, and nobody interposes on. Other numbers that come to the host answer 1000 more.
const (
	callReport = 2000 + iota // tells the test its argument
	callRest                 // waits for good
	callHook                 // is the test's own
)

// callGrate is the call that grates serve here.
const callGrate = 39

// elindesrch is abi.ELindESRCH as a guest has it, which answers an i32.
const elindesrch = int32(int64(abi.ELindESRCH) - 1<<32)

// errnoResult is what a guest gets for an error.
func errnoResult(e unix.Errno) int32 { return -int32(e) }

// stacked is a host whose guests have lind.make-syscall.
type stacked struct {
	*host
	engine  *bridge.Engine
	answers chan int32                         // of callReport
	hook    func(c *bridge.Call) (int32, bool) // callHook: what it answers, or false to wait for good
	rows    []*handlers                        // that no domain has yet
}

// newStacked opens the shim for the test, with handlers for some domains.
func newStacked(tb testing.TB, change ...func(*bridge.Config)) *stacked {
	tb.Helper()
	s := &stacked{answers: make(chan int32, 1<<12)}
	for range 12 {
		s.rows = append(s.rows, newHandlers(tb))
	}
	s.host = newHost(s.serve)
	cfg := bridge.Config{Handler: s.host}
	for _, f := range change {
		f(&cfg)
	}
	s.engine = open(tb, cfg)
	must(tb, s.engine.Define([]bridge.Import{
		{Module: "lind", Name: "make-syscall", Params: "i" + strings.Repeat("I", 15), Results: "i", ID: makeSyscall},
	}))
	return s
}

// makeSyscall is the Import.ID of lind.make-syscall.
const makeSyscall = 3

// word is argument i of six of a call of lind.make-syscall.
func word(c *bridge.Call, i uint) uint64 { return c.Arg(4 + 2*i) }

// serve is what the host does for guests itself.
func (s *stacked) serve(c *bridge.Call) bridge.Verdict {
	var answer int32
	switch number := c.Arg32(0); number {
	case callReport:
		s.answers <- int32(word(c, 0))
	case callRest:
		return rest(c)
	case callHook:
		a, ok := s.hook(c)
		if !ok {
			return rest(c)
		}
		answer = a
	default:
		answer = 1000 + int32(number)
	}
	c.SetResult(uint64(uint32(answer)))
	return bridge.Continue
}

// rest waits for something that never comes.
func rest(c *bridge.Call) bridge.Verdict {
	c.Wait(nil, -1)
	return bridge.WaitThread
}

// interrupted waits within a host call of a worker, until a caller that it serves stops or the grate itself does.
func (s *stacked) interrupted(c *bridge.Call) error {
	cancel, err := c.Domain().CancelFD()
	if err != nil {
		return err
	}
	interrupt, err := s.engine.InterruptFD()
	if err != nil {
		return err
	}
	return poll(cancel, interrupt)
}

// answer waits for what a program reports.
func (s *stacked) answer(tb testing.TB, what string, want int32) {
	tb.Helper()
	equal(tb, what, receive(tb, s.answers, what), want)
}

// cage is a domain with handlers of its own.
type cage struct {
	*bridge.Domain
	*handlers
	port uint64
}

// newCage makes a domain of a module. Its number is cfg.Cage, its User a text of that unless it has one.
func (s *stacked) newCage(tb testing.TB, m *bridge.Module, cfg bridge.DomainConfig) cage {
	tb.Helper()
	c := cage{handlers: s.rows[0]}
	s.rows = s.rows[1:]
	cfg.Handlers = c.addr()
	if cfg.User == nil {
		cfg.User = fmt.Sprint("cage ", cfg.Cage)
	}
	c.Domain = newDomain(tb, m, cfg)
	return c
}

// newGrate makes a cage of the number and opens it as a grate with functions, which are 1, 2 and so on.
func (s *stacked) newGrate(tb testing.TB, number uint64, cfg bridge.GrateConfig, functions ...string) cage {
	tb.Helper()
	c := s.newCage(tb, loadWat(tb, s.engine, grateWat(number, functions...)), bridge.DomainConfig{Cage: number})
	port, err := c.OpenGrate(cfg)
	must(tb, err)
	c.port = port
	return c
}

// run starts a program in a cage, whose calls callGrate the entry serves.
func (s *stacked) run(tb testing.TB, cfg bridge.DomainConfig, entry uint64, body string) cage {
	tb.Helper()
	c := s.newCage(tb, loadWat(tb, s.engine, programWat(cfg.Cage, body)), cfg)
	c.set(callGrate, entry)
	must(tb, c.Start("_start"))
	return c
}

// finish stops the cages, and waits and closes one after the other.
func (s *stacked) finish(tb testing.TB, cages ...cage) {
	tb.Helper()
	for _, c := range cages {
		finish(tb, s.host, c.Domain)
	}
}

// prelude is what all guests here have. $sys is a call with one argument, which is the cage's own, as the others are, and
// $do and $report forget what it answers.
func prelude(number uint64) string {
	return fmt.Sprintf(`
		(import "lind" "make-syscall" (func $make (param i32 %[2]s) (result i32)))
		(memory (export "memory") (import "env" "memory") 2 100 shared)
		(func $sys (param $n i32) (param $a i64) (result i32)
			(call $make (local.get $n) (i64.const 0) (i64.const %[1]d) (i64.const %[1]d)
				(local.get $a) (i64.const %[1]d) %[3]s))
		(func $do (param $n i32) (drop (call $sys (local.get $n) (i64.const 0))))
		(func $report (param $v i32) (drop (call $sys (i32.const %[4]d) (i64.extend_i32_s (local.get $v)))))
		(func $spin (loop $l (br $l)))`,
		number, strings.Repeat("i64 ", 15), strings.Repeat(fmt.Sprintf("(i64.const 0) (i64.const %d) ", number), 5), callReport)
}

// programWat is a program that does body.
func programWat(number uint64, body string) string {
	return fmt.Sprintf(`(module %s (func (export "_start") (local $r i32) %s))`, prelude(number), body)
}

// grateWat is a grate. Each function is a body with the parameters $cage, $a0, $c0, ..., $a5 and $c5. Its program rests.
func grateWat(number uint64, functions ...string) string {
	var params, bodies, names, args strings.Builder
	for i := range 6 {
		fmt.Fprintf(&params, "(param $a%d i64) (param $c%d i64)", i, i)
	}
	for i, body := range functions {
		fmt.Fprintf(&bodies, "(func $f%d (type $serves) (param $cage i64) %s (result i32) %s)\n", i, &params, body)
		fmt.Fprintf(&names, " $f%d", i)
	}
	for i := range 13 {
		fmt.Fprintf(&args, "(local.get %d)", i+1)
	}
	return fmt.Sprintf(`(module
		(type $serves (func (param %[1]s) (result i32)))
		%[2]s
		(global $sp (export "__stack_pointer") (mut i32) (i32.const 65536))
		(table (export "__indirect_function_table") %[3]d funcref)
		(elem (i32.const 1) %[4]s)
		%[5]s
		(func (export "pass_fptr_to_wt") (param i64 %[1]s) (result i32)
			(call_indirect (type $serves) %[6]s (i32.wrap_i64 (local.get 0))))
		(func (export "_start") (call $do (i32.const %[7]d))))`,
		strings.Repeat("i64 ", 13), prelude(number), len(functions)+1, &names, &bodies, &args, callRest)
}

// Bodies of programs and of grates' functions.
const (
	// increments answers one more than the call's first argument.
	increments = `(i32.add (i32.wrap_i64 (local.get $a0)) (i32.const 1))`
	// asks reports what callGrate answers for 41.
	asks = `(call $report (call $sys (i32.const 39) (i64.const 41)))`
	// passes makes the same call in turn.
	passes = `(call $sys (i32.const 39) (local.get $a0))`
	// hooks answers what the test's own call does.
	hooks = `(call $sys (i32.const 2002) (local.get $a0))`
	// rests ends a program that is to live on.
	rests = `(call $do (i32.const 2001))`
)

// words are the arguments of a call, each of the cage.
func words(cage uint64, args ...uint64) *[12]uint64 {
	var w [12]uint64
	for i := range 6 {
		if i < len(args) {
			w[2*i] = args[i]
		}
		w[2*i+1] = cage
	}
	return &w
}
