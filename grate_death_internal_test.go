package lindbridge

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
	"github.com/lindbridge/lindbridge/threei"
)

// guardedCall is a call that no native layer serves: what the tests make of it is all there is.
const guardedCall abi.Call = 500

// TestCagesThatKillEachOther: each serves the other, and ends it, from outside or while it serves it (I8 of the exit
// protocol). At least one ends by the other, and nobody waits for anybody.
func TestCagesThatKillEachOther(t *testing.T) {
	const askOther = `(drop (call $call (i32.const 39) (i64.const 0) (i64.const 0) (i64.const 0)))`
	const endOther = `(drop (call $on (i32.const 231) (i64.load (i32.const 800)) (i64.const 51) (i64.const 0)
		(i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))`
	for _, c := range []struct{ name, a, b string }{
		{"each from outside", endOther, endOther},
		{"each from within", askOther, askOther},
		{"one from outside, one from within", endOther, askOther},
		{"both ways at once", askOther + endOther, endOther + askOther},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBackstage(t, Config{})
			var modules [2]Grate
			for i, does := range []string{c.a, c.b} {
				modules[i] = b.grate(matrix.Guest{
					Thread: `(drop (call $serve))`,
					Main:   `(call $spawn (i32.const 1))` + told + does + told,
					Handlers: []string{`(drop (call $on (i32.const 231) (local.get $cage) (i64.const 50)
						(i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))) (i32.const 0)`},
				})
				modules[i].StopGrace = 20 * time.Millisecond
			}
			app := b.app(matrix.Guest{Main: "(call $spin)"})
			for range 60 {
				var stacks [2]*Stack
				var outs [2]*os.File
				for i := range stacks {
					in, out := b.line()
					outs[i] = out
					modules[i].Stdin = in
					stacks[i] = b.stack(app, modules[i])
					// Its calls are its own from here on: the dummy program is not needed any more.
					stacks[i].App.Kill()
				}
				var cages [2]*Cage
				for i := range cages {
					cages[i] = stacks[i].Grates[0]
				}
				for i := range cages {
					if err := b.rt.sys.RegisterHandler(t.Context(), cages[i].ID(), abi.CallGetpid, cages[1-i].ID(), 1); err != nil {
						t.Fatal(err)
					}
				}
				var both sync.WaitGroup
				for i := range cages {
					both.Go(func() { b.tell(outs[i], uint64(cages[1-i].ID())) })
				}
				both.Wait()
				select {
				case <-cages[0].Done():
				case <-cages[1].Done():
				case <-time.After(grateWait):
					t.Fatalf("nobody has ended\n%v\n%v", cages[0].Report(), cages[1].Report())
				}
				for i := range cages {
					cages[i].Kill() // perhaps the first to strike is left
				}
				b.finish(cages[0], cages[1], stacks[0].App, stacks[1].App)
				ended := 0
				for _, cage := range cages {
					if r := cage.Report(); r.Cause.Kind == exitcoord.ExitGroup && (r.Cause.Code == 50 || r.Cause.Code == 51) {
						ended++
					}
				}
				if ended == 0 {
					t.Fatalf("nobody has ended the other\n%v\n%v", cages[0].Report(), cages[1].Report())
				}
			}
		})
	}
}

// TestGrate_ServesOthersAfterACallerWasKilled: the worker that was discarded has a successor, over the same memory, whose
// data segments are not written once more.
func TestGrate_ServesOthersAfterACallerWasKilled(t *testing.T) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single=%v", single), func(t *testing.T) {
			b := newBackstage(t, Config{})
			in, out := b.line()
			grateIn, grateOut := b.line()
			// It counts up from 5; the first call does not come back.
			grate := b.grate(matrix.Guest{
				Single: single,
				More:   `(data (i32.const 44) "\05\00\00\00")`,
				Main: `(if (call $register (call $child) (i32.const 39) (i32.const 1)) (then unreachable)) (drop (call $serve))
					(call $say (i32.const 3) (i32.const 0))` + told,
				Handlers: []string{`(local.set $n (i32.add (i32.load (i32.const 44)) (i32.const 1)))
					(i32.store (i32.const 44) (local.get $n))
					(call $say (i32.const 1) (local.get $n))
					(if (i32.eq (local.get $n) (i32.const 6)) (then (call $spin)))
					(local.get $n)`},
			})
			grate.MaxWorkers, grate.Stdin = 1, grateIn
			app := b.app(matrix.Guest{Main: told + `
				(call $say (i32.const 2) (call $call (i32.const 39) (i64.const 0) (i64.const 0) (i64.const 0)))`})
			app.StopGrace = 20 * time.Millisecond
			first, second := app, app
			first.Stdin, second.Stdin = in, in
			stack := b.stack(first, grate)
			b.tell(out, 0)
			b.want(1, 6)
			// The second program waits for the only worker when it gets free.
			other := b.spawn(second)
			if err := b.rt.sys.RegisterHandler(t.Context(), other.ID(), abi.CallGetpid, stack.Grates[0].ID(), 1); err != nil {
				t.Fatal(err)
			}
			b.tell(out, 0)
			stack.App.Kill()
			for range 3 { // the second, its answer, and the grate, which has seen its own child end
				switch tag, value := b.hear(); {
				case tag == 1 && value == 7, tag == 2 && value == 7, tag == 3:
				default:
					t.Errorf("said %d: %d", tag, value)
				}
			}
			b.finish(stack.App, other)
			b.tell(grateOut, 0)
			b.finish(stack.Grates[0])
			if r := stack.Grates[0].Report(); r.Cause.Kind != exitcoord.MainReturned {
				t.Errorf("the grate:\n%v", r)
			}
		})
	}
}

// TestGrateKilledWhileItIsRegistered by the host and by itself, and while tables with it are copied back and forth:
// afterwards nothing leads to it, and no call that was guarded has reached native.
func TestGrateKilledWhileItIsRegistered(t *testing.T) {
	b := newBackstage(t, Config{})
	var native atomic.Int64
	b.rt.sys.SetNative(guardedCall, func(*threei.Thread, *threei.Args) int64 {
		native.Add(1)
		return 0
	})
	grate := b.grate(matrix.Guest{
		Thread: `(drop (call $serve))`,
		Main: fmt.Sprintf(`(local.set $id (call $child))
			(if (call $register (local.get $id) (i32.const %d) (i32.const 1)) (then unreachable))
			(call $spawn (i32.const 1))
			(loop $l (drop (call $register (local.get $id) (i32.const %[1]d) (i32.const 2)))
			  (drop (call $register (local.get $id) (i32.const %[1]d) (i32.const 1)))
			  (br $l))`, guardedCall),
		Handlers: []string{"(i32.const 7)", "(i32.const 7)"},
	})
	asks := fmt.Sprintf("(call $call (i32.const %d) (i64.const 0) (i64.const 0) (i64.const 0))", guardedCall)
	crowd := b.app(matrix.Guest{
		Thread: `(loop $l
			(local.set $i ` + asks + `)
			(if (i32.eqz (local.get $n)) (then (call $say (i32.const 1) (local.get $i)) (local.set $n (i32.const 1))))
			(br_if $l (i32.eq (local.get $i) (i32.const 7))))
			(call $say (i32.const 2) (local.get $i)) (call $arrive (i32.const 0))`,
		Main: `(call $spawn (i32.const 1)) (call $spawn (i32.const 2)) (call $await (i32.const 0) (i32.const 2))
			(call $say (i32.const 3) ` + asks + `)`,
	})
	// All calls of the other are the grate's: what the first has is copied to the program, which has to write.
	bystander := b.spawn(b.app(matrix.Guest{Main: "(call $spin)"}))
	other := b.spawn(b.app(matrix.Guest{Main: "(call $await (i32.const 0) (i32.const 1))"}))
	ctx := t.Context()
	for round := range 60 {
		stack := b.stack(crowd, grate)
		grate, app := stack.Grates[0], stack.App
		b.want(1, 7)
		b.want(1, 7)
		if err := b.rt.sys.CopyHandlerTable(ctx, app.ID(), bystander.ID()); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		stop := make(chan struct{})
		for _, does := range []func() error{
			func() error { return b.rt.sys.RegisterHandler(ctx, app.ID(), guardedCall, grate.ID(), 1) },
			func() error { return b.rt.sys.RegisterHandler(ctx, bystander.ID(), guardedCall, grate.ID(), 2) },
			func() error { return b.rt.sys.RegisterAll(ctx, other.ID(), grate.ID(), 2) },
			func() error { return b.rt.sys.CopyHandlerTable(ctx, app.ID(), bystander.ID()) },
			func() error { return b.rt.sys.CopyHandlerTable(ctx, bystander.ID(), app.ID()) },
		} {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					err := does()
					if err != nil && !errors.Is(err, threei.ErrStopping) && !errors.Is(err, threei.ErrNoCage) {
						t.Errorf("round %d: %v", round, err)
						return
					}
				}
			})
		}
		grate.Kill()
		b.finish(grate)
		for range 2 {
			tag, value := b.hear()
			if tag != 2 || value != abi.GrateErr && uint32(value) != abi.ELindESRCH {
				t.Errorf("round %d: said %d: %d", round, tag, value)
			}
		}
		if tag, value := b.hear(); tag != 3 || uint32(value) != abi.ELindESRCH {
			t.Errorf("round %d: said %d: %d", round, tag, value)
		}
		b.finish(app)
		close(stop)
		all.Wait()
	}
	for _, c := range []*Cage{bystander, other} {
		c.Kill()
		b.finish(c)
	}
	if n := native.Load(); n != 0 {
		t.Errorf("%d guarded calls reached native", n)
	}
}

// TestGrateKilled_StuckElsewhere: a caller whose worker sleeps gets its error at once, also if another thread of the grate
// never leaves the host, and the grate's exit is stuck with it (I4 and I9 of the exit protocol).
func TestGrateKilled_StuckElsewhere(t *testing.T) {
	b := newBackstage(t, Config{})
	entered, back := make(chan struct{}), make(chan struct{})
	b.rt.sys.SetNative(guardedCall, func(*threei.Thread, *threei.Args) int64 {
		entered <- struct{}{}
		<-back
		return 0
	})
	grate := b.grate(matrix.Guest{
		Main: `(if (call $register (call $child) (i32.const 39) (i32.const 1)) (then unreachable))
			(if (call $register (call $child) (i32.const 102) (i32.const 2)) (then unreachable)) (drop (call $serve))`,
		Handlers: []string{
			fmt.Sprintf(`(call $say (i32.const 3) (i32.const 0))
				(call $call (i32.const %d) (i64.const 0) (i64.const 0) (i64.const 0))`, guardedCall),
			`(call $say (i32.const 3) (i32.const 0))
				(i64.store (i32.const 700) (i64.const 3600)) (i64.store (i32.const 708) (i64.const 0))
				(call $on (i32.const 35) (call $self) (call $address (i32.const 700)) (call $self) (i64.const 0) (i64.const 0)
				(i64.const 0) (i64.const 0))`,
		},
	})
	grate.StopGrace = 20 * time.Millisecond
	ask := func(call int) string {
		return fmt.Sprintf(`(call $say (i32.const 4)
			(call $call (i32.const %d) (i64.const 0) (i64.const 0) (i64.const 0)))`, call)
	}
	s := b.stack(b.app(matrix.Guest{Thread: ask(39), Main: `(call $spawn (i32.const 1))` + ask(102) + "(call $spin)"}), grate)
	b.want(3, 0)
	b.want(3, 0)
	<-entered
	s.Grates[0].Kill()
	b.want(4, abi.GrateErr) // of the one that sleeps: the other one cannot have returned
	<-s.Grates[0].Stuck()
	close(back)
	b.want(4, abi.GrateErr)
	s.App.Kill()
	b.finish(s.App, s.Grates[0])
}

// TestThreadExit_PassedOnByAGrate: exit (60) of a Lind program's thread that a grate passes on ends that thread with its
// status, and the thread never comes back to its guest, though the shim and not the host has dispatched its call.
func TestThreadExit_PassedOnByAGrate(t *testing.T) {
	b := newBackstage(t, Config{})
	grate := b.grate(matrix.Guest{
		Main:     `(if (call $register (call $child) (i32.const 60) (i32.const 1)) (then unreachable)) (drop (call $serve))`,
		Handlers: []string{matrix.Forward(int(abi.CallExit))},
	})
	s := b.stack(b.app(matrix.Guest{
		Main: `(call $say (i32.const 1) (i32.const 0))
			(drop (call $call (i32.const 60) (i64.const 7) (i64.const 0) (i64.const 0))) unreachable`,
	}), grate)
	b.want(1, 0)
	b.finish(s.App, s.Grates[0])
	if r := s.App.Report(); r.Status != exitcoord.CodeStatus(7) {
		t.Errorf("it %v, want the thread's code, 7:\n%v", r.Status, r)
	}
}

// TestCallerKilled_WhileTheGrateBlocksInTheHost: a worker's call that waits within the host, as the rest of a long write
// does, ends when the caller is killed: the grate finishes, the caller is gone and nobody is stuck.
func TestCallerKilled_WhileTheGrateBlocksInTheHost(t *testing.T) {
	b := newBackstage(t, Config{})
	_, full := b.line() // which nobody reads from
	grate := b.grate(matrix.Guest{
		Main: `(if (call $register (call $child) (i32.const 39) (i32.const 1)) (then unreachable)) (drop (call $serve))`,
		Handlers: []string{`(call $say (i32.const 1) (i32.const 0))
			(local.set $n (call $on (i32.const 1) (call $self) (i64.const 2) (i64.const 0)
				(call $address (i32.const 1024)) (call $self) (i64.const 100000) (i64.const 0)))
			(call $say (i32.const 2) (i32.and (i32.gt_s (local.get $n) (i32.const 0))
				(i32.lt_s (local.get $n) (i32.const 100000)))) (i32.const 0)`},
	})
	grate.Stderr = full
	s := b.stack(b.app(matrix.Guest{
		Main: `(drop (call $call (i32.const 39) (i64.const 0) (i64.const 0) (i64.const 0))) (call $spin)`,
	}), grate)
	b.want(1, 0)
	s.App.Kill()
	b.want(2, 1) // the write was cut short, and the grate went on
	b.finish(s.App)
	if r := s.App.Report(); r.Stuck != nil {
		t.Errorf("the caller was stuck:\n%v", r)
	}
	s.Grates[0].Kill()
	b.finish(s.Grates[0])
}
