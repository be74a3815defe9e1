package matrix

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Guest is a program that makes calls of the Lind ABI, or a grate, put together from pieces of WebAssembly text. It is for
// the tests of deaths: what the committed guests in C cannot do, because no sound program does it.
//
// What the pieces may use:
//
//   - $self, $base: the cage's id, and the host address of its memory
//   - $make: lind.make-syscall as it is
//   - $on N TARGET A AC B BC C CC: a call with three arguments and their cages on a cage
//   - $call N A B C: a call on the own cage, whose arguments are numbers
//   - $say TAG VALUE: writes both, 8 bytes in all, to descriptor 1
//   - $block: reads a byte from descriptor 0, which is to be a pipe that nothing comes from
//   - $child: of a grate, the cage that it is stacked on; its environment must have nothing else
//   - $register TARGET N FN, $copy_table FROM TO, $serve: 3i's calls
//   - $copy FROM FROMCAGE TO TOCAGE BYTES: of memory
//   - $spawn ARG: starts a thread, or traps
//   - $arrive N: counts at address N, and wakes who waits there; $await N COUNT: waits until so many have
//   - $spin: does that for good
//
// Memory below 1024 is the pieces' own; the first 64 bytes are for $arrive.
type Guest struct {
	// Main is the body of _start; $i, $n and $id are locals of type i32, i32 and i64.
	Main string
	// Thread is the body of a thread's entry, $arg its argument, below 100; its locals are those of Main. With one
	// the memory is imported.
	Thread string
	// Handlers are the bodies of a grate's functions, which have the indices 1, 2, ... in its table. $cage, $a0, $c0 to $a5,
	// $c5 are the parameters, $i and $n locals of type i32. The table ends with $spin, of another type, and a null.
	Handlers []string
	// More are definitions.
	More string
	// Imports are further imports, and come first.
	Imports string
	// Single is a grate that was built without threads.
	Single bool
	// Pages is the size of the memory. 0: 2.
	Pages int
}

// Forward is, in a Handler, the call with another number: to whoever serves it for the grate itself, acting on the cage
// that the handler's own acts on.
func Forward(call int) string {
	return fmt.Sprintf("(call $make (i32.const %d) (i64.const 0) (call $self) (local.get $cage)%s)", call, handlerArgs)
}

var handlerArgs = func() string {
	var b strings.Builder
	for i := range 6 {
		fmt.Fprintf(&b, " (local.get $a%d) (local.get $c%d)", i, i)
	}
	return b.String()
}()

// Wat is the guest's text.
func (g Guest) Wat() string {
	var b strings.Builder
	pages := max(g.Pages, 2)
	fmt.Fprintf(&b, "(module\n%s\n%s", g.Imports, guestImports)
	switch {
	case g.Thread != "":
		fmt.Fprintf(&b, "  (import \"wasi\" \"thread-spawn\" (func $thread_spawn (param i32) (result i32)))\n")
		fmt.Fprintf(&b, "  (import \"env\" \"memory\" (memory %d 400 shared))\n  (export \"memory\" (memory 0))\n", pages)
	case g.Single || len(g.Handlers) == 0:
		fmt.Fprintf(&b, "  (memory (export \"memory\") %d)\n", pages)
	default:
		fmt.Fprintf(&b, "  (memory (export \"memory\") %d 400 shared)\n", pages)
	}
	b.WriteString(guestFunctions)
	const locals = "(local $i i32) (local $n i32) (local $id i64)"
	if g.Thread != "" {
		fmt.Fprintf(&b, `
  (func $spawn (param $arg i32)
    (if (i32.le_s (call $thread_spawn (local.get $arg)) (i32.const 0)) (then unreachable)))
  (func (export "wasi_thread_start") (param $tid i32) (param $arg i32) %s
    (global.set $sp (i32.add (i32.const 8192) (i32.mul (local.get $arg) (i32.const 512))))
    %s)
`, locals, g.Thread)
	}
	if len(g.Handlers) > 0 {
		g.writeHandlers(&b)
	}
	fmt.Fprintf(&b, "%s\n  (func (export \"_start\") %s\n    %s))\n", g.More, locals, g.Main)
	return b.String()
}

func (g Guest) writeHandlers(b *strings.Builder) {
	var params, names strings.Builder
	for i := range 6 {
		fmt.Fprintf(&params, " (param $a%d i64) (param $c%d i64)", i, i)
	}
	for i, body := range g.Handlers {
		fmt.Fprintf(b, "  (func $f%d (param $cage i64)%s (result i32) (local $i i32) (local $n i32)\n    %s)\n",
			i, params.String(), body)
		fmt.Fprintf(&names, " $f%d", i)
	}
	var args strings.Builder
	for i := 1; i < 14; i++ {
		fmt.Fprintf(&args, " (local.get %d)", i)
	}
	fmt.Fprintf(b, `
  (type $handler (func (param%s) (result i32)))
  (table (export "__indirect_function_table") %d funcref)
  (elem (i32.const 1)%s $spin)
  (func (export "pass_fptr_to_wt") (param%s) (result i32)
    (call_indirect (type $handler)%s (i32.wrap_i64 (local.get 0))))
`, strings.Repeat(" i64", 13), len(g.Handlers)+3, names.String(), strings.Repeat(" i64", 14), args.String())
}

const guestImports = `
  (import "lind" "make-syscall" (func $make
    (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
  (import "lind" "lind-get-cage-id" (func $self (result i64)))
  (import "lind" "lind-get-memory-base" (func $base (result i64)))
  (import "lind" "environ_get" (func $environ_get (param i32 i32) (result i32)))
`

const guestFunctions = `
  (global $sp (export "__stack_pointer") (mut i32) (i32.const 65536))
  (func $spin (loop $l br $l))
  (func $on (param $n i32) (param $target i64) (param $a i64) (param $ac i64) (param $b i64) (param $bc i64)
    (param $c i64) (param $cc i64) (result i32)
    (call $make (local.get $n) (i64.const 0) (call $self) (local.get $target)
      (local.get $a) (local.get $ac) (local.get $b) (local.get $bc) (local.get $c) (local.get $cc)
      (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
  (func $call (param $n i32) (param $a i64) (param $b i64) (param $c i64) (result i32)
    (call $on (local.get $n) (call $self) (local.get $a) (i64.const 0) (local.get $b) (i64.const 0)
      (local.get $c) (i64.const 0)))
  (func $address (param $p i32) (result i64)
    (i64.add (call $base) (i64.extend_i32_u (local.get $p))))
  (func $say (param $tag i32) (param $value i32) (local $at i32)
    (local.set $at (i32.sub (global.get $sp) (i32.const 16)))
    (i32.store (local.get $at) (local.get $tag))
    (i32.store offset=4 (local.get $at) (local.get $value))
    (drop (call $on (i32.const 1) (call $self) (i64.const 1) (i64.const 0)
      (call $address (local.get $at)) (call $self) (i64.const 8) (i64.const 0))))
  (func $block (result i32)
    (call $on (i32.const 0) (call $self) (i64.const 0) (i64.const 0)
      (call $address (i32.sub (global.get $sp) (i32.const 32))) (call $self) (i64.const 1) (i64.const 0)))
  (func $child (result i64) (local $at i32) (local $id i64)
    ;; LIND_CHILD_CAGE=, which has 16 bytes, and a number
    (if (call $environ_get (i32.const 0x400) (i32.const 0x420)) (then unreachable))
    (local.set $at (i32.const 0x430))
    (loop $l
      (if (i32.load8_u (local.get $at)) (then
        (local.set $id (i64.add (i64.mul (local.get $id) (i64.const 10))
          (i64.sub (i64.load8_u (local.get $at)) (i64.const 48))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $l))))
    (local.get $id))
  (func $register (param $target i64) (param $n i32) (param $fn i32) (result i32)
    (call $on (i32.const 1001) (call $self) (local.get $target) (i64.extend_i32_u (local.get $n))
      (i64.const 1) (call $self) (i64.extend_i32_u (local.get $fn)) (i64.const 0)))
  (func $copy_table (param $from i64) (param $to i64) (result i32)
    (call $on (i32.const 1003) (call $self) (local.get $from) (local.get $to)
      (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
  (func $copy (param $from i64) (param $fc i64) (param $to i64) (param $tc i64) (param $bytes i64) (param $kind i64)
    (result i32)
    (call $make (i32.const 1002) (i64.const 0) (call $self) (call $self)
      (local.get $from) (local.get $fc) (local.get $to) (local.get $tc) (local.get $bytes) (i64.const 0)
      (local.get $kind) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
  (func $serve (result i32) (call $call (i32.const 1004) (i64.const 0) (i64.const 0) (i64.const 0)))
  (func $arrive (param $at i32)
    (drop (i32.atomic.rmw.add (local.get $at) (i32.const 1)))
    (drop (memory.atomic.notify (local.get $at) (i32.const -1))))
  (func $await (param $at i32) (param $count i32) (local $seen i32)
    (loop $l
      (local.set $seen (i32.atomic.load (local.get $at)))
      (if (i32.lt_u (local.get $seen) (local.get $count)) (then
        (drop (memory.atomic.wait32 (local.get $at) (local.get $seen) (i64.const -1)))
        (br $l)))))
`

// ReadNote reads what a Guest has said by $say.
func ReadNote(r io.Reader) (tag, value int32, err error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, 0, err
	}
	return int32(binary.LittleEndian.Uint32(b[:])), int32(binary.LittleEndian.Uint32(b[4:])), nil
}
