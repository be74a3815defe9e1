package lindbridge

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
)

// This file fuzzes a program with two grates above it, each of which makes the calls that its part of the input says: the
// program from two threads, a grate whenever it serves one.

// Where a guest of the stack has its calls, how many they are, which is next, and what it knows of others.
const (
	stackCallsAt = 1 << 16
	stackCalls   = 32
	// A call has 13 words, each with a kind: the number, and six arguments with the cage of each.
	stackCallBytes         = 13 * argBytes
	stackNextAt, stackNum  = 64, 68
	stackBelow, stackOther = 72, 88 // a base and an id each: of the cage below, and of the one that nobody may touch
)

// stackMore has $step, which makes the next call on the target and answers its result, or -1 beyond the last.
var stackMore = fmt.Sprintf(`
  (func $word (param $p i32) (param $target i64) (result i64) (local $v i64)
    (local.set $v (i64.load offset=1 (local.get $p)))
    (block $9 (block $8 (block $7 (block $6 (block $5 (block $4 (block $3 (block $2 (block $1 (block $0
      (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 $9 (i32.rem_u (i32.load8_u (local.get $p)) (i32.const 10))))
      (return (local.get $v)))
      (return (i64.and (local.get $v) (i64.const 15))))
      (return (i64.add (call $base) (i64.and (local.get $v) (i64.const 0x3ffff)))))
      (return (call $self)))
      (return (local.get $target)))
      (return (i64.add (i64.load (i32.const %[1]d)) (i64.and (local.get $v) (i64.const 0xffff)))))
      (return (i64.load offset=8 (i32.const %[1]d))))
      (return (i64.add (i64.load (i32.const %[2]d)) (i64.and (local.get $v) (i64.const 0xffff)))))
      (return (i64.load offset=8 (i32.const %[2]d))))
    (i64.add (i64.and (local.get $v) (i64.const 7)) (i64.const 1000)))
  (func $step (param $target i64) (result i32)
    (local $p i32) (local $n i32) (local $r i32) (local $number i32)
    (local.set $n (i32.atomic.rmw.add (i32.const %[3]d) (i32.const 1)))
    (if (i32.ge_u (local.get $n) (i32.load (i32.const %[4]d))) (then (return (i32.const -1))))
    (local.set $p (i32.add (i32.const %[5]d) (i32.mul (i32.rem_u (local.get $n) (i32.const %[6]d)) (i32.const %[7]d))))
    (local.set $number (i32.wrap_i64 (call $word (local.get $p) (local.get $target))))
    (local.set $r (call $make (local.get $number) (i64.const 0) (call $self)
      (local.get $target) %[8]s))
    ;; Of what has 64 bits, an offset or the address that a copy answers, these are some 32.
    (if (i32.or (i32.eq (local.get $number) (i32.const 8)) (i32.eq (local.get $number) (i32.const 1002)))
      (then (return (i32.const 0))))
    (if (i32.and (i32.lt_s (local.get $r) (i32.const -4095)) (i32.ge_u (local.get $r) (i32.const 0xe0020000)))
      (then (drop (i32.load (local.get $r))))) ;; a fault whose address is the answer
    (local.get $r))`,
	stackBelow, stackOther, stackNextAt, stackNum, stackCallsAt, stackCalls, stackCallBytes,
	func() (args string) {
		for i := range 12 {
			args += fmt.Sprintf("(call $word (i32.add (local.get $p) (i32.const %d)) (local.get $target))", argBytes*(i+1))
		}
		return args
	}())

// stackNumbers are the calls that the grates serve: some of the kernel's that programs make, and one that is nobody's.
var stackNumbers = []abi.Call{abi.CallWrite, abi.CallGetrandom, abi.CallExit, abi.CallExitGroup, abi.CallKill, guardedCall}

// stackGuests are the program and the grate.
func stackGuests() (app, grate matrix.Guest) {
	loop := `(loop $l (local.set $n (call $step (call $self))) (local.set $i (i32.add (local.get $i) (i32.const 1)))
		(br_if $l (i32.lt_u (local.get $i) (i32.const 40))))`
	app = matrix.Guest{More: stackMore, Pages: 4, Main: "(drop (call $thread_spawn (i32.const 1)))" + loop, Thread: loop}
	grate = matrix.Guest{
		More: stackMore, Pages: 4,
		Handlers: []string{
			"(drop (call $step (local.get $cage)))" + matrix.Forward(int(guardedCall)),
			"(call $step (call $self))",
			"(drop (call $step (local.get $cage))) (i32.const 7)",
		},
		Thread: "(drop (call $step (call $child)))",
	}
	for i, n := range stackNumbers {
		grate.Main += fmt.Sprintf("(drop (call $register (call $child) (i32.const %d) (i32.const %d)))", n, i%3+1)
	}
	grate.Main += "(drop (call $serve))"
	return app, grate
}

// stackWorld is a callsWorld with the two modules.
type stackWorld struct {
	*callsWorld
	app, grate *Module
}

// run runs a stack, ends one of it by force if how says so, and checks what can be seen of it.
func (w *stackWorld) run(t *testing.T, how byte, input []byte) {
	hung := time.AfterFunc(time.Minute, func() {
		debug.SetTraceback("all")
		panic(t.Name() + " hangs")
	})
	defer hung.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := Program{Module: w.app, TimeLimit: 30 * time.Millisecond, MaxThreads: 4, StopGrace: 20 * time.Second}
	g := Grate{Program: Program{Module: w.grate, TimeLimit: 60 * time.Millisecond, MaxThreads: 4, StopGrace: 20 * time.Second}}
	g.MaxWorkers = 1 + int(how>>4)%3
	grates := []Grate{g, g}
	cages, err := w.rt.buildStack(p, grates)
	if err != nil {
		t.Fatal(err)
	}
	part := len(input) / len(cages) / stackCallBytes * stackCallBytes
	for i, c := range cages {
		w.arm(c, cages[min(i+1, len(cages)-1)], input[i*part:i*part+part])
	}
	if err := w.rt.startStack(ctx, cages, p, grates); err != nil && !strings.Contains(err.Error(), "grate 1") &&
		!strings.Contains(err.Error(), "grate 2") && ctx.Err() == nil {
		t.Errorf("start: %v", err)
	}
	if how%4 > 0 {
		cages[how%4-1].Kill()
	}
	select {
	case <-cages[2].Done():
	case <-ctx.Done():
	}
	for _, c := range cages {
		c.Kill()
	}
	for i, c := range cages {
		if _, err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.verify(t, i, c)
	}
	w.check(t)
}

// arm writes into the memory of c what it does, and what it knows of others.
func (w *stackWorld) arm(c, below *Cage, calls []byte) {
	m := c.memory()
	calls = calls[:min(len(calls), stackCalls*stackCallBytes)]
	m.WriteCopy(stackCallsAt, calls)
	m.WriteUint32(stackNum, uint32(len(calls)/stackCallBytes))
	m.WriteUint64(stackBelow, uint64(below.memory().Base()))
	m.WriteUint64(stackBelow+8, uint64(below.ID()))
	m.WriteUint64(stackOther, uint64(w.victim.memory().Base()))
	m.WriteUint64(stackOther+8, uint64(w.victim.ID()))
}

// verify checks the report of one cage of the stack.
func (w *stackWorld) verify(t *testing.T, i int, c *Cage) {
	t.Helper()
	r := c.Report()
	if r.Stuck != nil {
		t.Errorf("cage %d of the stack was stuck: %+v", i, r.Stuck)
	}
	for _, s := range r.Steps {
		if s.Err != nil {
			t.Errorf("cage %d of the stack: step %v", i, s)
		}
	}
	switch r.Cause.Kind {
	case exitcoord.Trap:
		// A grate registers functions that it does not have. Anything else that traps is $step, or the host.
		if i == 2 || strings.Contains(r.Cause.Message, "out of bounds memory access") {
			t.Errorf("cage %d of the stack: %v\n%q", i, r, r.Cause.Message)
		}
	case exitcoord.StartFailed, exitcoord.HostFailure, exitcoord.RuntimeClose:
		t.Errorf("cage %d of the stack: %v", i, r)
	}
}

// FuzzStack has a program and two grates make calls of any kind on each other, while one of them is killed. Nothing of it is
// stuck or left, no step of an exit fails, and another cage does not notice.
func FuzzStack(f *testing.F) {
	call := func(n abi.Call, args ...arg) []byte {
		b := binary.LittleEndian.AppendUint64([]byte{0}, uint64(n))
		for i := range 12 {
			a := arg{0, 0}
			if i < len(args) {
				a = args[i]
			} else if i%2 == 1 {
				a = arg{3, 0}
			}
			b = binary.LittleEndian.AppendUint64(append(b, a.kind), a.v)
		}
		return b
	}
	own, target, below, belowID, other, otherID := arg{3, 0}, arg{4, 0}, arg{5, 128}, arg{6, 0}, arg{7, 64}, arg{8, 0}
	pointer := arg{2, 128}
	each := [][]byte{
		call(guardedCall),
		call(abi.CallWrite, num(1), own, pointer, own, num(64)),
		call(abi.CallGetrandom, below, belowID, num(64)),
		call(abi.CallGetrandom, other, otherID, num(64)),
		call(abi.CallRegisterHandler, belowID, num(1), num(0), own, num(3)),
		call(abi.CallRegisterHandler, belowID, num(uint64(guardedCall)), num(0), num(uint64(abi.CageDeregister))),
		call(abi.CallRegisterHandler, otherID, num(1), num(0), own, num(3)),
		call(abi.CallCopyHandlerTableToCage, own, belowID),
		call(abi.CallCopyHandlerTableToCage, belowID, own),
		call(abi.CallCopyDataBetweenCages, below, belowID, pointer, own, num(64)),
		call(abi.CallCopyDataBetweenCages, pointer, own, other, otherID, num(64)),
		call(abi.CallKill, belowID, own, num(9)),
		call(abi.CallKill, otherID, own, num(9)),
		call(abi.CallExit, num(3)),
		call(abi.CallExitGroup, num(4)),
		call(abi.CallRead, num(0), own, pointer, own, num(1)),
		call(abi.CallNanosleep, pointer, own),
		call(abi.CallGrateServe),
		call(abi.CallHarshCageExit, target),
	}
	for i := range each {
		var input []byte
		for j := range 3 * 8 {
			input = append(input, each[(i*j+j/8+i)%len(each)]...)
		}
		f.Add(byte(i%4|i<<4), input)
	}
	w := &stackWorld{callsWorld: newCallsWorld(f, []bridge.Import{{Module: "lind", Name: "lind-get-cage-id", Results: "I"}})}
	app, grate := stackGuests()
	var err error
	if w.app, err = w.rt.Load(f.Context(), []byte(app.Wat())); err != nil {
		f.Fatal(err)
	}
	if w.grate, err = w.rt.LoadGrate(f.Context(), []byte(grate.Wat())); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, how byte, input []byte) { w.run(t, how, input) })
}
