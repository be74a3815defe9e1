package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
)

// library is the modules of one runtime that plans pick from.
type library struct {
	cases     []matrix.Case
	programs  []*lindbridge.Module // those of cases
	residents []*lindbridge.Module
	apps      []*lindbridge.Module // those of modes
	answers   *lindbridge.Module   // the grate that answers
	passes    *lindbridge.Module   // the grate that passes on
	// The same, with a thread that registers and deregisters.
	churnAnswers, churnPasses *lindbridge.Module
	guests                    []guest
}

// What calls a stack's program makes, and what the outermost grate does about each.
const (
	callAnswer = 107  // geteuid: answers
	callBlock  = 102  // getuid: blocks in the host
	callExit   = 104  // getgid: ends the grate
	callTrap   = 108  // getegid: traps
	callSpin   = 110  // getppid: does not come back
	callKill   = 39   // getpid: ends the caller
	callCopy   = 63   // uname: copies from the caller's memory
	callTold   = 1005 // harsh_cage_exit: is told of the program's end
	callFree   = 111  // getpgrp: comes and goes, the last of handlers
)

// Exit codes of a stack's parts.
const (
	answer     = 4242 // what callAnswer answers
	codeGone   = 77   // a program's, when its grate is gone
	codeNative = 78   // a program's, when a guarded call has reached native: never right
	codeOdd    = 79   // a program's, when a call answers what none may: never right
	codeGrate  = 55   // a grate's, by callExit
	codeKilled = 50   // a program's, by callKill
)

// mode is what a stack's program does.
type mode struct {
	name string
	// body is what it does for good, or once. A call's result is in $n.
	body string
	// ends are the codes that it may end with by itself.
	ends []int32
	// trapped and exited say that its outermost grate may end by a trap, or by itself with codeGrate.
	trapped, exited bool
}

// ask makes a call whose result is to be answer, and ends the program if it is not. Errors that say that the grate is gone
// end it with codeGone; EINTR and EAGAIN are no errors of the grate's.
func ask(call int) string {
	return fmt.Sprintf(`(call $judge (call $on (i32.const %d) (call $self) (call $address (i32.const 700)) (call $self)
		(i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))`, call)
}

// judge is the function of that.
var judge = fmt.Sprintf(`
  (func $judge (param $n i32)
    (if (i32.or (i32.eq (local.get $n) (i32.const %d))
                (i32.or (i32.eq (local.get $n) (i32.const -4)) (i32.eq (local.get $n) (i32.const -11)))) (then return))
    (if (i32.or (i32.eq (local.get $n) (i32.const %d)) (i32.eq (local.get $n) (i32.const %d)))
      (then (call $quit (i32.const %d))))
    (if (i32.ge_s (local.get $n) (i32.const 0)) (then (call $quit (i32.const %d))))
    (call $quit (i32.const %d)))
  (func $quit (param $code i32)
    (drop (call $call (i32.const 231) (i64.extend_i32_u (local.get $code)) (i64.const 0) (i64.const 0)))
    unreachable)`,
	answer, abi.GrateErr, int32(abi.LindResult(abi.ELindESRCH)), codeGone, codeNative, codeOdd)

func forever(body string) string { return "(loop $l " + body + " (br $l))" }

var modes = []mode{
	{name: "loop", body: forever(ask(callAnswer)), ends: []int32{codeGone}},
	{name: "once", body: ask(callAnswer), ends: []int32{0, codeGone}},
	{name: "block", body: forever(ask(callBlock)), ends: []int32{codeGone}},
	{name: "exit", body: forever(ask(callAnswer) + ask(callExit)), ends: []int32{codeGone}, exited: true},
	{name: "trap", body: forever(ask(callAnswer) + ask(callTrap)), ends: []int32{codeGone}, trapped: true},
	{name: "spin", body: forever(ask(callSpin)), ends: []int32{codeGone}},
	{name: "kill", body: forever(ask(callKill)), ends: []int32{codeKilled, codeGone}},
	{name: "copy", body: forever(ask(callCopy)), ends: []int32{codeGone}},
	{
		name: "churn", body: forever(ask(callAnswer) +
			fmt.Sprintf(`(drop (call $call (i32.const %d) (i64.const 0) (i64.const 0) (i64.const 0)))`, callFree)),
		ends: []int32{codeGone},
	},
}

// app is the program of a mode: two threads that do the same, or one that does it once.
func (m mode) app() string {
	g := matrix.Guest{More: judge, Main: m.body}
	if m.name != "once" {
		g.Thread = m.body
		g.Main = "(call $spawn (i32.const 1))" + m.body
	}
	return g.Wat()
}

// handlers are the functions of the outermost grate, by call.
var handlers = []struct {
	call int
	body string
}{
	{callAnswer, fmt.Sprintf("(i32.const %d)", answer)},
	{callBlock, fmt.Sprintf("(drop (call $block)) (i32.const %d)", answer)},
	{callExit, fmt.Sprintf(`(drop (call $call (i32.const 231) (i64.const %d) (i64.const 0) (i64.const 0))) (i32.const %d)`,
		codeGrate, answer)},
	{callTrap, "unreachable"},
	{callSpin, fmt.Sprintf("(call $spin) (i32.const %d)", answer)},
	{callKill, fmt.Sprintf(`(drop (call $on (i32.const 231) (local.get $cage) (i64.const %d) (i64.const 0)
		(i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))) (i32.const %d)`, codeKilled, answer)},
	// A copy may fail because the caller is going: then it never sees the answer.
	{callCopy, fmt.Sprintf(`(drop (call $copy (local.get $a0) (local.get $c0) (call $address (i32.const 900)) (call $self)
		(i64.const 8) (i64.const 0))) (i32.const %d)`, answer)},
	{callTold, "(i32.const 0)"},
	{callFree, fmt.Sprintf("(i32.const %d)", answer)},
}

// grateText is a grate. The outermost answers, the others pass on what they get. One that churns has a thread that gives
// the cage below callFree and takes it away, for good.
func grateText(passes, churns bool) string {
	var main strings.Builder
	main.WriteString("(local.set $id (call $child))\n")
	g := matrix.Guest{}
	if churns {
		g.Thread = fmt.Sprintf(`(local.set $id (i64.load (i32.const 600)))
		(loop $l
		  (if (i32.lt_s (call $register (local.get $id) (i32.const %d) (i32.const %d)) (i32.const 0)) (then return))
		  (drop (call $on (i32.const 1001) (call $self) (local.get $id) (i64.const %[1]d) (i64.const 1) (i64.const %[3]d)
		    (i64.const 0) (i64.const 0)))
		  (br $l))`, callFree, len(handlers), abi.CageDeregister)
	}
	for i, h := range handlers {
		if passes {
			g.Handlers = append(g.Handlers, matrix.Forward(h.call))
		} else {
			g.Handlers = append(g.Handlers, h.body)
		}
		if h.call == callFree {
			continue
		}
		fmt.Fprintf(&main, "(if (call $register (local.get $id) (i32.const %d) (i32.const %d)) (then unreachable))\n", h.call, i+1)
	}
	main.WriteString("(i64.store (i32.const 600) (local.get $id))")
	if churns {
		main.WriteString("(drop (call $thread_spawn (i32.const 1)))")
	}
	main.WriteString("(drop (call $serve))")
	g.Main = main.String()
	return g.Wat()
}

// guest is a program of testdata/guests and what it ends with.
type guest struct {
	module *lindbridge.Module
	args   []string
	cause  exitcoord.CauseKind
	code   int32
	reads  bool
}

// guestEntry is a program of testdata/guests: its arguments, what it ends with, and whether it wants to read to a pipe's
// end that never comes.
type guestEntry struct {
	name, args string
	cause      exitcoord.CauseKind
	code       int32
	reads      bool
}

// guestList are the programs of testdata/guests that plans pick from.
var guestList = []guestEntry{
	{"exitcode", "3 exit", exitcoord.ExitGroup, 3, false},
	{"exitcode", "0 return", exitcoord.MainReturned, 0, false},
	{"trap", "unreachable", exitcoord.Trap, 0, false},
	{"hello", "", exitcoord.MainReturned, 0, false},
	{"workers", "4 1", exitcoord.MainReturned, 0, false},
	{"threads", "busy=1 waiting=2 reading=1 exit=9", exitcoord.ExitGroup, 9, true},
	{"threads", "waiting=2 reading=2 return", exitcoord.MainReturned, 0, true},
	{"threads", "busy=1 reading=2 trap", exitcoord.Trap, 0, true},
}

// newLibrary loads all modules.
func newLibrary(ctx context.Context, rt *lindbridge.Runtime, cfg Config) (*library, error) {
	l := &library{cases: matrix.Cases()}
	if cfg.Programs > 0 && cfg.Programs < len(l.cases) {
		r := rand.New(rand.NewPCG(cfg.Seed, 0))
		r.Shuffle(len(l.cases), func(i, j int) { l.cases[i], l.cases[j] = l.cases[j], l.cases[i] })
		// Of each way of ending as many as of any other.
		turn, turns := map[string]int{}, map[string]int{}
		for _, c := range l.cases {
			way := c.Who.String() + c.How.String()
			turn[c.Name] = turns[way]
			turns[way]++
		}
		slices.SortStableFunc(l.cases, func(a, b matrix.Case) int { return turn[a.Name] - turn[b.Name] })
		l.cases = l.cases[:cfg.Programs]
	}
	var errs []error
	load := func(wat string, fn func(context.Context, []byte) (*lindbridge.Module, error)) *lindbridge.Module {
		m, err := fn(ctx, []byte(wat))
		errs = append(errs, err)
		return m
	}
	for _, c := range l.cases {
		l.programs = append(l.programs, load(c.Wat, rt.Load))
	}
	for threads := 1; threads <= 3; threads++ {
		c := matrix.New(matrix.Main, matrix.HostKill, matrix.Blocked, threads)
		l.residents = append(l.residents, load(c.Wat, rt.Load))
	}
	for _, m := range modes {
		l.apps = append(l.apps, load(m.app(), rt.Load))
	}
	l.answers, l.passes = load(grateText(false, false), rt.LoadGrate), load(grateText(true, false), rt.LoadGrate)
	l.churnAnswers, l.churnPasses = load(grateText(false, true), rt.LoadGrate), load(grateText(true, true), rt.LoadGrate)
	errs = append(errs, l.loadGuests(ctx, rt, cfg.Guests))
	return l, errors.Join(errs...)
}

func (l *library) loadGuests(ctx context.Context, rt *lindbridge.Runtime, dir string) error {
	if dir == "" {
		return nil
	}
	loaded := map[string]*lindbridge.Module{}
	for _, g := range guestList {
		m := loaded[g.name]
		if m == nil {
			var err error
			if m, err = rt.LoadFile(ctx, filepath.Join(dir, g.name+".wasm")); err != nil {
				return err
			}
			loaded[g.name] = m
		}
		args := append([]string{g.name}, strings.Fields(g.args)...)
		l.guests = append(l.guests, guest{module: m, args: args, cause: g.cause, code: g.code, reads: g.reads})
	}
	return nil
}

// GuestDir is dir if the programs of testdata/guests that a soak runs are there, else empty.
func GuestDir(dir string) string {
	missing := slices.ContainsFunc(guestList, func(g guestEntry) bool {
		_, err := os.Stat(filepath.Join(dir, g.name+".wasm"))
		return err != nil
	})
	if missing {
		return ""
	}
	return dir
}

// all are all modules.
func (l *library) all() []*lindbridge.Module {
	all := slices.Concat(l.programs, l.residents, l.apps)
	all = append(all, l.answers, l.passes, l.churnAnswers, l.churnPasses)
	for _, g := range l.guests {
		all = append(all, g.module)
	}
	return all
}
