package lindbridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
	"github.com/lindbridge/lindbridge/internal/leakcheck"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	mischiefThreads = 16
	mischiefStacks  = 10
	// What the guests of the hammer call beside guardedCall: freeCall comes and goes and has a native function, waitCall does
	// not come back by itself, evilCall does something that should not be done.
	freeCall, waitCall, evilCall abi.Call = 501, 502, 503
)

// mischiefMore has $random, and $client, which makes a call at random and must not get what nobody but the native function
// answers.
var mischiefMore = fmt.Sprintf(`
  (global $seed (mut i64) (i64.const 0))
  (func $random (param $below i32) (result i32)
    (if (i64.eqz (global.get $seed)) (then
      (drop (call $random_get (i32.sub (global.get $sp) (i32.const 64)) (i32.const 8)))
      (global.set $seed (i64.or (i64.load (i32.sub (global.get $sp) (i32.const 64))) (i64.const 1)))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 13))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shr_u (global.get $seed) (i64.const 7))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 17))))
    (i32.wrap_i64 (i64.rem_u (global.get $seed) (i64.extend_i32_u (local.get $below)))))
  (func $anybody (result i64) (i64.extend_i32_u (call $random (i32.const 40))))
  (func $client (local $r i32)
    (local.set $r (call $call (i32.const %[1]d) (i64.const 0) (i64.const 0) (i64.const 0)))
    (if (i32.and (i32.ge_s (local.get $r) (i32.const 0)) (i32.ne (local.get $r) (i32.const 7))) (then unreachable))
    (local.set $r (call $random (i32.const 1024)))
    (if (i32.lt_u (local.get $r) (i32.const 300)) (then
      (drop (call $call (i32.const %[2]d) (i64.const 0) (i64.const 0) (i64.const 0))) (return)))
    (if (i32.lt_u (local.get $r) (i32.const 304)) (then
      (drop (call $call (i32.const %[3]d) (i64.const 0) (i64.const 0) (i64.const 0))) (return)))
    (if (i32.lt_u (local.get $r) (i32.const 324)) (then
      (drop (call $on (i32.const %[4]d) (call $self) (i64.extend_i32_u (call $random (i32.const 9))) (i64.const 0)
        (call $base) (call $self) (i64.const 0) (i64.const 0))) (return)))
    ;; What it may not do: get another's handlers, or remove its guard. A grate may, where the guard is itself.
    (if (i32.and (i32.lt_u (local.get $r) (i32.const 400)) (i32.eqz (global.get $is_grate))) (then
      (drop (call $on (i32.const 1001) (call $self) (call $self) (i64.const %[1]d) (i64.const 1) (i64.const 500)
        (i64.const 0) (i64.const 0))) (return)))
    (if (i32.lt_u (local.get $r) (i32.const 440)) (then
      (drop (call $copy_table (call $anybody) (call $self))) (return)))
    (if (i32.lt_u (local.get $r) (i32.const 480)) (then
      (drop (call $register (call $anybody) (i32.const %[1]d) (i32.const 1))) (return)))
    (if (i32.lt_u (local.get $r) (i32.const 520)) (then
      (drop (call $copy_table (call $self) (call $anybody)))))
  )`, guardedCall, freeCall, waitCall, evilCall)

const mischiefImports = `(import "lind" "random_get" (func $random_get (param i32 i32) (result i32)))`

// mischiefGrate is a grate of the hammer. Only one that has others above it passes guarded calls on.
func mischiefGrate(outermost, single bool) matrix.Guest {
	guard := "(i32.const 7)"
	thread := `(loop $l (call $client) (local.set $i (i32.add (local.get $i) (i32.const 1)))
		(br_if $l (i32.lt_u (local.get $i) (i32.const 500))))`
	if !outermost {
		guard = `(if (result i32) (i32.and (i32.wrap_i64 (local.get $cage)) (i32.const 1))
			(then ` + matrix.Forward(int(guardedCall)) + `) (else (i32.const 7)))`
	}
	g := matrix.Guest{
		Imports: mischiefImports, More: mischiefMore + "(global $is_grate i32 (i32.const 1))", Single: single,
		Handlers: []string{
			guard,
			`(drop (call $on (i32.const 39) (local.get $cage) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
			(i64.const 0) (i64.const 0))) (i32.const 7)`,
			`(drop (call $block)) (i32.const 7)`,
			`(local.set $n (i32.wrap_i64 (local.get $a0)))
			(if (i32.eq (local.get $n) (i32.const 1)) (then unreachable))
			(if (i32.eq (local.get $n) (i32.const 2)) (then
			  (drop (call $call (i32.const 231) (i64.const 5) (i64.const 0) (i64.const 0)))))
			(if (i32.eq (local.get $n) (i32.const 3)) (then
			  (drop (call $on (i32.const 231) (local.get $cage) (i64.const 6) (i64.const 0) (i64.const 0) (i64.const 0)
			  (i64.const 0) (i64.const 0)))))
			(if (i32.eq (local.get $n) (i32.const 4)) (then
			  (drop (call $call (i32.const 60) (i64.const 5) (i64.const 0) (i64.const 0)))))
			(if (i32.eq (local.get $n) (i32.const 5)) (then (call $spin)))
			(if (i32.eq (local.get $n) (i32.const 6)) (then
			  (drop (call $copy (local.get $a1) (local.get $c1) (call $address (i32.const 900)) (call $self) (i64.const 64) (i64.const 0)))))
			(if (i32.eq (local.get $n) (i32.const 7)) (then
			  (drop ` + matrix.Forward(int(evilCall)) + `)))
			(if (i32.eq (local.get $n) (i32.const 8)) (then
			  (drop (call $on (i32.const 60) (local.get $cage) (i64.const 5) (i64.const 0) (i64.const 0) (i64.const 0)
			  (i64.const 0) (i64.const 0)))))
			(i32.const 7)`,
		},
	}
	for i, call := range []abi.Call{guardedCall, freeCall, waitCall, evilCall} {
		g.Main += fmt.Sprintf(`(if (call $register (call $child) (i32.const %d) (i32.const %d)) (then unreachable))`, call, i+1)
	}
	if !outermost && !single {
		g.Thread = thread
		g.Main += `(drop (call $thread_spawn (i32.const 1)))`
	}
	g.Main += `(drop (call $serve))`
	return g
}

// mischiefApp has three threads and ends after a while.
var mischiefApp = matrix.Guest{
	Imports: mischiefImports, More: mischiefMore + "(global $is_grate i32 (i32.const 0))",
	Thread: `(loop $l (call $client) (br $l))`,
	// A grate may have come to serve clone.
	Main: `(drop (call $thread_spawn (i32.const 1))) (drop (call $thread_spawn (i32.const 2)))
		(local.set $n (i32.add (call $random (i32.const 20000)) (i32.const 1)))
		(loop $l (call $client) (local.set $i (i32.add (local.get $i) (i32.const 1)))
		(br_if $l (i32.lt_u (local.get $i) (local.get $n))))`,
}

// mischievous is a stack of the hammer. Its cages keep their ids until it is reaped.
type mischievous struct {
	mu    sync.RWMutex
	stack *Stack // guarded by mu; nil once it was reaped
}

// cages are the stack's, the outermost grate first.
func (h *mischievous) cages() []*Cage { return append(slices.Clone(h.stack.Grates), h.stack.App) }

// mischief is what all goroutines of the hammer work on.
type mischief struct {
	*backstage
	app    *Module
	grates [4]*Module // outermost or not, single or not
	silent *os.File

	mu   sync.Mutex
	live []*mischievous // guarded by mu

	spawned, refused, reaped, served, died atomic.Int64
}

// pick is one of the stacks, locked for reading, or nil.
func (h *mischief) pick(rnd *rand.Rand) *mischievous {
	h.mu.Lock()
	var s *mischievous
	if len(h.live) > 0 {
		s = h.live[rnd.IntN(len(h.live))]
	}
	h.mu.Unlock()
	if s == nil || !s.mu.TryRLock() {
		return nil
	}
	if s.stack == nil {
		s.mu.RUnlock()
		return nil
	}
	return s
}

// spawn starts a stack.
func (h *mischief) spawnStack(rnd *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), grateWait)
	defer cancel()
	if rnd.IntN(6) == 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(4000))*time.Microsecond)
		defer cancel()
	}
	grace := time.Duration(10+rnd.IntN(30)) * time.Millisecond
	var grates []Grate
	for i := range 1 + rnd.IntN(3) {
		m := h.grates[2*min(i, 1)+rnd.IntN(2)]
		grates = append(grates, Grate{
			Program:    Program{Module: m, Stdin: h.silent, StopGrace: grace},
			MaxWorkers: rnd.IntN(5), Busy: rnd.IntN(4) == 0,
		})
	}
	stack, err := h.rt.SpawnStack(ctx, Program{Module: h.app, Stdin: h.silent, StopGrace: grace}, grates...)
	if err != nil {
		var ge *GrateError
		if !errors.As(err, &ge) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, threei.ErrStopping) {
			h.t.Errorf("spawn: %v", err)
		}
		h.refused.Add(1)
		return
	}
	h.spawned.Add(1)
	h.mu.Lock()
	h.live = append(h.live, &mischievous{stack: stack})
	h.mu.Unlock()
}

// reap ends the oldest stack, or any one.
func (h *mischief) reap(i int) {
	h.mu.Lock()
	if i >= len(h.live) {
		h.mu.Unlock()
		return
	}
	s := h.live[i]
	h.live = slices.Delete(h.live, i, i+1)
	h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stack.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), grateWait)
	defer cancel()
	for i, c := range s.cages() {
		if _, err := c.Wait(ctx); err != nil {
			h.t.Errorf("cage %d of a stack of %d: %v\n%v", i, len(s.cages()), err, c.Report())
			continue
		}
		r := c.Report()
		if r.Cause.Kind == exitcoord.Trap && c == s.stack.App {
			h.t.Errorf("the program has got what only the native function answers:\n%v", r)
		}
		for _, step := range r.Steps {
			// A grate that serves every call is told of ends, too, and may have no worker that could answer: all wait.
			unheard := step.Name == "notify" && errors.Is(step.Err, context.DeadlineExceeded)
			if step.Outcome != exitcoord.StepOK && !unheard {
				h.t.Errorf("cage %d: %v", c.ID(), step)
			}
		}
	}
	s.stack = nil
	h.reaped.Add(1)
}

// host is something that the host does with one or two stacks that are there.
func (h *mischief) host(rnd *rand.Rand) {
	a := h.pick(rnd)
	if a == nil {
		return
	}
	defer a.mu.RUnlock()
	of, to := a.cages(), a.cages()
	if b := h.pick(rnd); b != nil {
		defer b.mu.RUnlock()
		to = b.cages()
	}
	anyOf := func(cages []*Cage) abi.CageID { return cages[rnd.IntN(len(cages))].ID() }
	guarded := func(cages []*Cage) abi.CageID { return cages[1+rnd.IntN(len(cages)-1)].ID() }
	calls := []abi.Call{freeCall, waitCall, evilCall}
	ctx, sys := context.Background(), h.rt.sys
	var err error
	switch rnd.IntN(12) {
	case 0:
		c := to[rnd.IntN(len(to))]
		h.died.Add(1)
		c.KillSignal(syscall.Signal(1 + rnd.IntN(15)))
	case 1, 2:
		err = sys.RegisterHandler(ctx, guarded(to), guardedCall, of[rnd.IntN(len(of)-1)].ID(), 1)
	case 3, 4:
		err = sys.RegisterHandler(ctx, anyOf(to), calls[rnd.IntN(3)], of[rnd.IntN(len(of)-1)].ID(), uint32(2+rnd.IntN(3)))
	case 5:
		// The index of no function, or of one with another type.
		err = sys.RegisterHandler(ctx, guarded(to), guardedCall, of[rnd.IntN(len(of)-1)].ID(), uint32(5+rnd.IntN(3)))
	case 6, 7:
		err = sys.RegisterHandler(ctx, anyOf(to), calls[rnd.IntN(3)], abi.CageDeregister, 0)
	case 8:
		err = sys.CopyHandlerTable(ctx, guarded(of), anyOf(to))
	case 9:
		if rnd.IntN(8) == 0 {
			err = sys.RegisterAll(ctx, anyOf(to), of[rnd.IntN(len(of)-1)].ID(), 1)
		}
	case 10:
		ctx, cancel := context.WithTimeout(ctx, time.Duration(rnd.IntN(3000))*time.Microsecond)
		defer cancel()
		call := []abi.Call{guardedCall, freeCall, waitCall, evilCall}[rnd.IntN(4)]
		_, err = sys.MakeSyscall(ctx, guarded(of), anyOf(to), call, &threei.Args{Val: [6]uint64{uint64(rnd.IntN(9))}})
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	case 11:
		d := threei.Data{
			Src: uint64(of[0].memory().Base()), SrcCage: of[0].ID(), Dst: uint64(to[len(to)-1].memory().Base()) + 960,
			DstCage: to[len(to)-1].ID(), Len: 32,
		}
		if err = sys.CopyData(ctx, d); errors.Is(err, threei.ErrRange) {
			err = nil // one is dead, or both are one
		}
	}
	switch {
	case err == nil, errors.Is(err, threei.ErrStopping), errors.Is(err, threei.ErrNoCage), errors.Is(err, threei.ErrNoHandlers):
	default:
		h.t.Errorf("as the host: %v", err)
	}
}

// TestGrateHammer_OfGuestsThatMisbehave has 16 goroutines spawn stacks, register, deregister, copy tables, call, and kill grates and programs, at
// random and all at once, while the guests call, register and do what they should not: every call returns, none that is
// guarded reaches native, no program is harmed by a grate's death, and nothing is left. LINDBRIDGE_HAMMER says for how long.
func TestGrateHammer_OfGuestsThatMisbehave(t *testing.T) {
	d := hammerTime(t)
	before, err := leakcheck.Take()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("all at once", func(t *testing.T) { makeMischief(t, d) })
	more, err := before.Settled(leakcheck.Slack{Threads: 1, Mappings: 256, Resident: 384 << 20})
	if err != nil || more != "" {
		t.Errorf("left behind: %s %v", more, err)
	}
}

func makeMischief(t *testing.T, d time.Duration) {
	h := &mischief{}
	var answers, failures atomic.Int64
	h.backstage = newBackstage(t, Config{Trace: func(tr Trace) {
		h.served.Add(1)
		switch tr.Result {
		case 7:
			answers.Add(1)
		case abi.GrateErr:
			failures.Add(1)
		}
	}})
	var reached, free atomic.Int64
	h.rt.sys.SetNative(guardedCall, func(th *threei.Thread, _ *threei.Args) int64 {
		reached.Add(1)
		t.Errorf("a guarded call of cage %d, thread %d, on cage %d reached native\n%s", th.Cage, th.TID, th.Acting(), debug.Stack())
		return 0
	})
	h.rt.sys.SetNative(freeCall, func(*threei.Thread, *threei.Args) int64 { free.Add(1); return 1 })
	silent, keep := h.line()
	defer keep.Close()
	h.silent = silent
	h.app = h.backstage.app(mischiefApp).Module
	for i := range h.grates {
		h.grates[i] = h.grate(mischiefGrate(i < 2, i%2 == 1)).Module
	}
	deadline := time.Now().Add(d)
	var all sync.WaitGroup
	for g := range mischiefThreads {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), uint64(time.Now().UnixNano())))
			for time.Now().Before(deadline) && !t.Failed() {
				h.mu.Lock()
				n := len(h.live)
				h.mu.Unlock()
				switch {
				case n < mischiefStacks && rnd.IntN(4) == 0:
					h.spawnStack(rnd)
				case n >= mischiefStacks/2 && rnd.IntN(50) == 0:
					h.reap(rnd.IntN(n))
				default:
					h.host(rnd)
				}
			}
		})
	}
	all.Wait()
	for len(h.live) > 0 {
		h.reap(0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), grateWait)
	defer cancel()
	if err := h.rt.sys.WaitLate(ctx); err != nil {
		t.Error(err)
	}
	if s := h.rt.sys.Stats(); s.Rows != 0 || s.Late != 0 {
		t.Errorf("at the end: %+v", s)
	}
	if s, err := h.rt.Stats(); err != nil || s.Cages != 0 || s.Domains != 0 {
		t.Errorf("at the end: %+v, %v", s, err)
	}
	t.Logf("%d stacks, %d refused, %d reaped, %d kills; %d calls served, %d answered, %d of grates that died meanwhile, %d free",
		h.spawned.Load(), h.refused.Load(), h.reaped.Load(), h.died.Load(), h.served.Load(), answers.Load(), failures.Load(), free.Load())
	if answers.Load() == 0 || failures.Load() == 0 || h.died.Load() == 0 || free.Load() == 0 {
		t.Error("too little happened")
	}
}
