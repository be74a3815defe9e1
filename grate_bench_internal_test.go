package lindbridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// sysWat imports lind.make-syscall as $sys, and defines $call: a system call with that number on the caller's own cage,
// without arguments.
const sysWat = `
  (import "lind" "make-syscall" (func $sys
    (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
  (import "lind" "lind-get-cage-id" (func $id (result i64)))
  (global $self (mut i64) (i64.const 0))
  (func $call (param $n i32) (result i32)
    (if (i64.eqz (global.get $self)) (then (global.set $self (call $id))))
    (call $sys (local.get $n) (i64.const 0) (global.get $self) (global.get $self)
      (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
      (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))`

// benchGrateWat is a grate whose function 1 answers 1000, and whose function 2 passes geteuid on to the grate above.
const benchGrateWat = `(module` + sysWat + `
  (memory (export "memory") 1)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (type $handler (func (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
  (table (export "__indirect_function_table") 3 funcref)
  (elem (i32.const 1) $answer $pass)
  (func $answer (type $handler) (i32.const 1000))
  (func $pass (type $handler) (call $call (i32.const 107)))
  (func (export "pass_fptr_to_wt") (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)
    (call_indirect (type $handler)
      (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 6) (local.get 7)
      (local.get 8) (local.get 9) (local.get 10) (local.get 11) (local.get 12) (local.get 13)
      (i32.wrap_i64 (local.get 0))))
  (func (export "_start") (drop (call $call (i32.const 1004)))))`

// benchAppWat takes the time, calls geteuid 10,000 times, and takes the time; call 334 does the latter.
const benchAppWat = `(module` + sysWat + `
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (drop (call $call (i32.const 107)))
    (drop (call $call (i32.const 334)))
    (loop $l
      (if (i32.ne (call $call (i32.const 107)) (i32.const 1000)) (then unreachable))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.const 10000))))
    (drop (call $call (i32.const 334)))))`

// BenchmarkGrateCall is a system call of a Lind program that is served in Go, by one grate, and by the outermost of three
// of which each passes it on, against geteuid of the host, turn by turn, 10,000 calls each.
func BenchmarkGrateCall(b *testing.B) {
	const calls, takeTime = 10_000, abi.Call(334)
	for _, n := range []int{0, 1, 3} {
		b.Run(strings.Replace(fmt.Sprintf("grates%d", n), "grates0", "native", 1), func(b *testing.B) {
			rt, err := New(Config{})
			if err != nil {
				b.Fatal(err)
			}
			defer rt.Close(b.Context())
			var times []time.Time
			rt.sys.SetNative(abi.CallGeteuid, func(*threei.Thread, *threei.Args) int64 { return 1000 })
			rt.sys.SetNative(takeTime, func(*threei.Thread, *threei.Args) int64 {
				times = append(times, time.Now())
				return 0
			})
			grate, err := rt.LoadGrate(b.Context(), []byte(benchGrateWat))
			if err != nil {
				b.Fatal(err)
			}
			app, err := rt.Load(b.Context(), []byte(benchAppWat))
			if err != nil {
				b.Fatal(err)
			}
			var ours, native []float64
			for b.Loop() {
				times = times[:0]
				benchStack(b, rt, Program{Module: app}, slices.Repeat([]Grate{{Program: Program{Module: grate}}}, n))
				if len(times) != 2 {
					b.Fatalf("%d times", len(times))
				}
				ours = append(ours, float64(times[1].Sub(times[0]).Nanoseconds())/calls)
				native = append(native, geteuidNs(b, calls))
			}
			reportCalls(b, ours, native)
		})
	}
}

// benchStack runs a program under grates whose handlers the host registers: the outermost answers, the others pass on.
func benchStack(b *testing.B, rt *Runtime, app Program, grates []Grate) {
	b.Helper()
	cages, err := rt.buildStack(app, grates)
	if err != nil {
		b.Fatal(err)
	}
	for i := range grates {
		fn := uint32(2)
		if i == 0 {
			fn = 1
		}
		err := rt.sys.RegisterHandler(b.Context(), cages[i+1].ID(), abi.CallGeteuid, cages[i].ID(), fn)
		if err != nil {
			b.Fatal(err)
		}
	}
	for i, c := range cages { // without the copies of tables that a stack's own start makes
		p := app
		if i < len(grates) {
			p = grates[i].Program
		}
		if err := rt.startOne(b.Context(), c, p, i); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range slices.Backward(cages) {
		status, err := c.Wait(b.Context())
		if err != nil || status.ExitCode() != 0 {
			b.Fatalf("cage %d: %v, %v", c.ID(), status, err)
		}
	}
}
