package matrix

import (
	"fmt"
	"strings"
	"text/template"
)

// This file implements the program text. All programs share one skeleton:
//
//	_start spawns the busy threads and, with Other, the ender
//	each busy thread:  arrive, then its activity, for good
//	the ender:         await all, then end
//
// Memory, all in the first page:
//
//	0x000  ready   how many threads have arrived
//	0x004  gate    0 until the ender lets the threads of Returning and Exiting go
//	0x008  ended   0 until a returning ender is about to return
//	0x010  never   8 bytes that stay 0: what atomic waits wait for
//	0x018  live    how many short-lived threads of Spawning exist
//	0x040  "R" and its iovec
//	0x1000 + 0x200*i   scratch of busy thread i
//
// The argument of thread-spawn says what a thread is: 0 the ender, 1 to MaxThreads a busy thread, childArg a
// short-lived one, relayArg a later leg of a relay.

const (
	hourNs   = 3_600_000_000_000
	childArg = 1000
	relayArg = 1001
)

// activities are the bodies of $activity, which has one parameter, the address $at of the thread's scratch memory. A body
// that falls through makes its thread exit with FailCameBack, so what may end returns explicitly.
var activities = map[While]string{
	Spin: `
    (loop $again (br $again))`,
	HostCalls: `
    (loop $again (drop (call $sched_yield)) (br $again))`,
	Wait32: `
    (drop (memory.atomic.wait32 (i32.const 0x10) (i32.const 0) (i64.const -1)))`,
	Wait32Timeout: `
    (drop (memory.atomic.wait32 (i32.const 0x10) (i32.const 0) (i64.const {{.Hour}})))`,
	Wait64: `
    (drop (memory.atomic.wait64 (i32.const 0x10) (i64.const 0) (i64.const -1)))`,
	Wait64Timeout: `
    (drop (memory.atomic.wait64 (i32.const 0x10) (i64.const 0) (i64.const {{.Hour}})))`,
	PollClock: `
    ;; subscription: tag 0 (clock) at 8, clock id 1 (monotonic) at 16, timeout at 24, flags 0 (relative) at 40
    (i32.store offset=16 (local.get $at) (i32.const 1))
    (i64.store offset=24 (local.get $at) (i64.const {{.Hour}}))
    (drop (call $poll_oneoff
      (local.get $at) (i32.add (local.get $at) (i32.const 0x80)) (i32.const 1) (i32.add (local.get $at) (i32.const 0xc0))))`,
	PollFD: `
    ;; subscription: tag 1 (fd_read) at 8, descriptor 0 at 16
    (i32.store8 offset=8 (local.get $at) (i32.const 1))
    (drop (call $poll_oneoff
      (local.get $at) (i32.add (local.get $at) (i32.const 0x80)) (i32.const 1) (i32.add (local.get $at) (i32.const 0xc0))))`,
	ReadFD: `
    ;; iovec: base at 0, length at 4
    (i32.store (local.get $at) (i32.add (local.get $at) (i32.const 0x10)))
    (i32.store offset=4 (local.get $at) (i32.const 16))
    (drop (call $fd_read
      (i32.const 0) (local.get $at) (i32.const 1) (i32.add (local.get $at) (i32.const 0x80))))`,
	Spawning: `
    (loop $again
      (if (i32.lt_u (i32.atomic.load (i32.const 0x18)) (i32.const {{.MaxLive}}))
        (then
          (drop (i32.atomic.rmw.add (i32.const 0x18) (i32.const 1)))
          ;; A spawn may fail at a thread limit, which is no fault here.
          (if (i32.lt_s (call $thread_spawn (i32.const {{.Child}})) (i32.const 0))
            (then (drop (i32.atomic.rmw.sub (i32.const 0x18) (i32.const 1))))))
        (else (drop (call $sched_yield))))
      (br $again))`,
	Relay: `
    (call $pass_on)
    (return)`,
	Returning: `
    (call $await_gate)
    (return)`,
	Exiting: `
    (call $await_gate)
    (call $proc_exit (i32.const {{.CodeOther}}))`,
}

// ends are the bodies of $end, which the ender calls when all have arrived.
var ends = map[How]string{
	ProcExit: `
    (call $proc_exit (i32.const {{.CodeExit}}))
    (call $proc_exit (i32.const {{.FailCameBack}}))`,
	Return: `
    (i32.atomic.store (i32.const 0x8) (i32.const 1))
    (drop (memory.atomic.notify (i32.const 0x8) (i32.const -1)))`,
	Trap: `
    (call $fall)`,
	HostKill:  outside,
	TimeLimit: outside,
}

// outside waits to be ended, busy like the others where being busy lasts.
const outside = `
    {{- if .Lasts}}
    (call $activity (i32.const {{.EnderScratch}}))
    {{- else}}
    (drop (memory.atomic.wait32 (i32.const 0x10) (i32.const 0) (i64.const -1)))
    {{- end}}
    (call $proc_exit (i32.const {{.FailCameBack}}))`

var program = template.Must(template.New("program").Parse(`;; {{.Name}}, {{.Threads}} busy threads
(module
  (import "wasi" "thread-spawn" (func $thread_spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "{{.Memory.Module}}" "{{.Memory.Name}}" (memory {{.Memory.Min}} {{.Memory.Max}} shared))
  (export "memory" (memory 0))

  (func $spawn (param $arg i32)
    (if (i32.le_s (call $thread_spawn (local.get $arg)) (i32.const 0))
      (then (call $proc_exit (i32.const {{.FailSpawn}})))))

  (func $arrive
    (drop (i32.atomic.rmw.add (i32.const 0x0) (i32.const 1)))
    (drop (memory.atomic.notify (i32.const 0x0) (i32.const -1))))

  (func $await_all (local $seen i32)
    (loop $again
      (local.set $seen (i32.atomic.load (i32.const 0x0)))
      (if (i32.ne (local.get $seen) (i32.const {{.Threads}}))
        (then
          (drop (memory.atomic.wait32 (i32.const 0x0) (local.get $seen) (i64.const -1)))
          (br $again)))))

  (func $await_gate
    (loop $again
      (if (i32.eqz (i32.atomic.load (i32.const 0x4)))
        (then
          (drop (memory.atomic.wait32 (i32.const 0x4) (i32.const 0) (i64.const -1)))
          (br $again)))))

  (func $open_gate
    (i32.atomic.store (i32.const 0x4) (i32.const 1))
    (drop (memory.atomic.notify (i32.const 0x4) (i32.const -1))))

  (func $report_ready
    (i32.store8 (i32.const 0x40) (i32.const 82)) ;; 'R'
    (i32.store (i32.const 0x48) (i32.const 0x40))
    (i32.store (i32.const 0x4c) (i32.const 1))
    (if (call $fd_write (i32.const 1) (i32.const 0x48) (i32.const 1) (i32.const 0x50))
      (then (call $proc_exit (i32.const {{.FailWrite}})))))

  ;; The next leg of a relay. At a thread limit the relay has to wait for a place.
  (func $pass_on
    (loop $again
      (if (i32.lt_s (call $thread_spawn (i32.const {{.Relay}})) (i32.const 0))
        (then (drop (call $sched_yield)) (br $again)))))

  (func $activity (param $at i32){{.Activity}}
    (call $proc_exit (i32.const {{.FailCameBack}})))

  (func $busy (param $index i32)
    (call $arrive)
    (call $activity (i32.add (i32.const 0x1000) (i32.mul (local.get $index) (i32.const 0x200)))))

  (func $fall (call $ground))
  (func $ground (unreachable))

  (func $end{{.End}})

  (func $ender
    (call $await_all)
    {{- if .FromOutside}}
    (call $report_ready)
    {{- end}}
    (call $open_gate)
    (call $end))

  (func $child
    (drop (i32.atomic.rmw.sub (i32.const 0x18) (i32.const 1))))

  (func $thread_start (export "wasi_thread_start") (param $tid i32) (param $arg i32)
    (if (i32.eqz (local.get $arg)) (then (call $ender) (return)))
    (if (i32.eq (local.get $arg) (i32.const {{.Child}})) (then (call $child) (return)))
    (if (i32.eq (local.get $arg) (i32.const {{.Relay}})) (then (call $pass_on) (return)))
    (call $busy (local.get $arg)))

  (func $start (export "_start") (local $i i32)
    (loop $again
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (if (i32.le_u (local.get $i) (i32.const {{.Spawned}}))
        (then (call $spawn (local.get $i)) (br $again))))
    {{.Start}})
)
`))

// What the first thread does once it has spawned the busy threads.
const (
	startEnds = `(call $ender)`
	// startJoins is for another thread that returns: the first must see that it goes on living.
	startJoins = `(call $spawn (i32.const 0))
    (loop $again
      (if (i32.eqz (i32.atomic.load (i32.const 0x8)))
        (then
          (drop (memory.atomic.wait32 (i32.const 0x8) (i32.const 0) (i64.const -1)))
          (br $again))))
    (call $proc_exit (i32.const %d))`
	startBusy = `(call $spawn (i32.const 0))
    (call $busy (i32.const %d))`
	// startWaits is startBusy where being busy means to return, which from _start would end the program.
	startWaits = `(call $spawn (i32.const 0))
    (call $arrive)
    (drop (memory.atomic.wait32 (i32.const 0x10) (i32.const 0) (i64.const -1)))
    (call $proc_exit (i32.const %d))`
)

// render is the program of c, whose other fields are set.
func render(c Case, memory Memory) string {
	returns := c.While == Returning || c.While == Relay
	spawned, start := c.Threads, startEnds
	switch {
	case c.Who == Main:
	case c.How == Return:
		start = fmt.Sprintf(startJoins, CodeAfterReturn)
	case returns:
		spawned, start = c.Threads-1, fmt.Sprintf(startWaits, FailCameBack)
	default:
		spawned, start = c.Threads-1, fmt.Sprintf(startBusy, c.Threads)
	}
	values := map[string]any{
		"Name": c.Name, "Threads": c.Threads, "Spawned": spawned, "Start": start, "Memory": memory,
		"Hour": int64(hourNs), "Child": childArg, "Relay": relayArg, "MaxLive": 2 * c.Threads,
		"EnderScratch": 0x1000, "Lasts": !returns && c.While != Exiting,
		"FromOutside": c.How == HostKill || c.How == TimeLimit,
		"CodeExit":    CodeExit, "CodeOther": CodeOther,
		"FailSpawn": FailSpawn, "FailCameBack": FailCameBack, "FailWrite": FailWrite,
	}
	values["Activity"] = expand(activity(c.While), values)
	values["End"] = expand(ends[c.How], values)
	var b strings.Builder
	if err := program.Execute(&b, values); err != nil {
		panic("matrix: " + err.Error()) // the template is ours, and so is every value
	}
	return b.String()
}

// activity is the body of $activity for while.
func activity(while While) string {
	choices := turns[:]
	switch while {
	case Mixed:
	case Blocked:
		choices = choices[1:]
	default:
		return activities[while]
	}
	// The scratch of busy thread 1 is block 9 of 0x200 bytes. The ender's, block 8, wraps to some turn: any will do.
	var b strings.Builder
	fmt.Fprintf(&b, `
    (local $turn i32)
    (local.set $turn (i32.rem_u
      (i32.sub (i32.shr_u (local.get $at) (i32.const 9)) (i32.const 9)) (i32.const %d)))`, len(choices))
	for i, choice := range choices {
		fmt.Fprintf(&b, "\n    (if (i32.eq (local.get $turn) (i32.const %d)) (then%s))", i, activities[choice])
	}
	return b.String()
}

func expand(text string, values map[string]any) string {
	var b strings.Builder
	if err := template.Must(template.New("part").Parse(text)).Execute(&b, values); err != nil {
		panic("matrix: " + err.Error())
	}
	return b.String()
}
