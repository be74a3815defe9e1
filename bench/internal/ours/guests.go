package ours

import (
	"fmt"
	"strings"

	"github.com/lindbridge/lindbridge/guests/matrix"
)

// crowd is a program with a number of threads of each kind, each of which writes a byte when it begins.
func crowd(busy, waiting, reading int) string {
	return fmt.Sprintf(`(module
  (import "env" "memory" (memory 1 1 shared))
  (export "memory" (memory 0))
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "\10\00\00\00\01\00\00\00")
  (data (i32.const 32) "\20\01\00\00\08\00\00\00")
  (func $body (param $n i32)
    (i32.store8 (i32.const 16) (i32.const 82))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))
    (loop $again
      (if (i32.lt_u (local.get $n) (i32.const %d))
        (then (loop $l br $l)))
      (if (i32.lt_u (local.get $n) (i32.const %d))
        (then (drop (memory.atomic.wait32 (i32.const 128) (i32.const 0) (i64.const -1))) br $again))
      (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 28)))
      br $again))
  (func (export "wasi_thread_start") (param i32 i32) (call $body (local.get 1)))
  (func (export "_start") (local $i i32)
    (local.set $i (i32.const 1))
    (block $done (loop $l
      (br_if $done (i32.ge_u (local.get $i) (i32.const %d)))
      (if (i32.lt_s (call $spawn (local.get $i)) (i32.const 0)) (then unreachable))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      br $l))
    (call $body (i32.const 0))))`, busy, busy+waiting, busy+waiting+reading)
}

// tiny are programs that return at once.
var tiny = map[string]string{
	"plain":  `(module (func (export "_start")))`,
	"memory": `(module (memory (export "memory") 1) (func (export "_start")))`,
	"shared": `(module (import "env" "memory" (memory 1 1 shared)) (export "memory" (memory 0)) (func (export "_start")))`,
}

// single is a program of one thread, which writes a byte and then does what body says. $read reads a byte.
const single = `(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  %s
  (data (i32.const 0) "\10\00\00\00\01\00\00\00")
  (data (i32.const 16) "R")
  (data (i32.const 32) "\20\01\00\00\01\00\00\00")
  (func $read (drop (call $fd_read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 28))))
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))
    %s))`

// bare is a program without a memory, so that there can be ten thousand: it waits in poll, of nothing and for ever.
const bare = `(module
  (import "lind" "make-syscall" (func $make
    (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
  (import "lind" "lind-get-cage-id" (func $self (result i64)))
  (func (export "_start") (local $me i64)
    (local.set $me (call $self))
    (loop $l
      (if (i32.lt_s
          (call $make (i32.const 7) (i64.const 0) (local.get $me) (local.get $me)
            (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const -1) (i64.const 0)
            (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))
          (i32.const 0))
        (then unreachable))
      br $l)))`

// states are the programs of cages that are there to be many. A busy one spins when it has read a byte.
var states = map[string]string{
	"bare": bare,
	"idle": fmt.Sprintf(single, `(import "env" "memory" (memory 1 1 shared)) (export "memory" (memory 0))`,
		`(loop $l (drop (memory.atomic.wait32 (i32.const 128) (i32.const 0) (i64.const -1))) br $l)`),
	"blocked": fmt.Sprintf(single, `(memory (export "memory") 1)`, `(loop $l call $read br $l)`),
	"busy":    fmt.Sprintf(single, `(memory (export "memory") 1)`, `call $read (loop $l br $l)`),
}

const (
	geteuid = 107
	// calls is how many system calls a sample has.
	calls = 10_000
	// make is lind.make-syscall of geteuid, on the own cage.
	askSelf = `(if (i64.eqz (global.get $me)) (then (global.set $me (call $self))))`
	me      = `(global $me (mut i64) (i64.const 0))`
)

// makeGeteuid is a call of geteuid on the caller's own cage, once askSelf was done.
var makeGeteuid = fmt.Sprintf(`(call $make (i32.const %d) (i64.const 0) (global.get $me) (global.get $me) %s)`,
	geteuid, strings.Repeat("(i64.const 0) ", 12))

// caller is a program that takes so many samples of geteuid, by its own clock, and writes them: 8 bytes each, nanoseconds.
func caller(samples int) string {
	return fmt.Sprintf(`(module
  (import "lind" "make-syscall" (func $make
    (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
  (import "lind" "lind-get-cage-id" (func $self (result i64)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  %s
  (func $now (result i64)
    (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 64)))
    (i64.load (i32.const 64)))
  (func $sample (result i64) (local $i i32) (local $begin i64)
    (local.set $begin (call $now))
    (loop $l
      (if (i32.lt_s %s (i32.const 0)) (then unreachable))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
    (i64.sub (call $now) (local.get $begin)))
  (func (export "_start") (local $i i32)
    %s
    (drop (call $sample)) ;; warms up
    (loop $l
      (i64.store (i32.add (i32.const 1024) (i32.mul (local.get $i) (i32.const 8))) (call $sample))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const %d))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))))`,
		me, makeGeteuid, calls, askSelf, samples, 8*samples)
}

// grate serves geteuid of the cage below it, by itself or by passing it on.
func grate(passOn bool) string {
	g := matrix.Guest{
		Main: fmt.Sprintf(`(if (call $register (call $child) (i32.const %d) (i32.const 1)) (then unreachable))
			(drop (call $serve))`, geteuid),
		Handlers: []string{`(i32.const 1000)`},
		More:     me,
	}
	if passOn {
		g.Handlers[0] = askSelf + makeGeteuid
	}
	return g.Wat()
}

// guard is a grate that serves so many calls of the cage below it, from 0 on.
func guard(handlers int) string {
	return matrix.Guest{
		Main: fmt.Sprintf(`(local.set $id (call $child))
			(loop $l
				(if (call $register (local.get $id) (local.get $i) (i32.const 1)) (then unreachable))
				(local.set $i (i32.add (local.get $i) (i32.const 1)))
				(br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
			(drop (call $serve))`, handlers),
		Handlers: []string{`(i32.const 0)`},
	}.Wat()
}

// waiter makes no call at all.
const waiter = `(module (import "env" "memory" (memory 1 1 shared)) (export "memory" (memory 0))
  (func (export "_start")
    (loop $l (drop (memory.atomic.wait32 (i32.const 128) (i32.const 0) (i64.const -1))) br $l)))`

// asker calls geteuid, once.
var asker = matrix.Guest{Main: fmt.Sprintf(
	`(drop (call $call (i32.const %d) (i64.const 0) (i64.const 0) (i64.const 0)))`, geteuid)}.Wat()
