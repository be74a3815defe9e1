package lindbridge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/guests/matrix"
	"github.com/lindbridge/lindbridge/threei"
)

// TestGratesInACircle: two grates that the host has made serve each other are ELOOP at the depth, or when the thread has
// all workers of one; and both go on serving.
func TestGratesInACircle(t *testing.T) {
	const asks = "(call $call (i32.const 39) (i64.const 0) (i64.const 0) (i64.const 0))"
	for _, c := range []struct{ depth, workers, levels int }{{16, 0, 16}, {7, 0, 7}, {64, 3, 6}, {64, 1, 2}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			b := newBackstage(t, Config{MaxCallDepth: c.depth})
			g := b.grate(matrix.Guest{
				Main: `(if (call $register (call $child) (i32.const 39) (i32.const 1)) (then unreachable))
					(if (call $register (call $child) (i32.const 41) (i32.const 2)) (then unreachable)) (drop (call $serve))`,
				Handlers: []string{
					`(i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1))) ` + asks,
					`(i32.load (i32.const 40))`,
				},
			})
			g.MaxWorkers = c.workers
			in, out := b.line()
			app := b.app(matrix.Guest{Main: told + "(call $say (i32.const 1) " + asks + ") (call $say (i32.const 2) " + asks + ")" +
				"(call $say (i32.const 3) (call $call (i32.const 41) (i64.const 0) (i64.const 0) (i64.const 0)))"})
			app.Stdin = in
			idle := b.app(matrix.Guest{Main: "(call $spin)"})
			first, second := b.stack(app, g), b.stack(idle, g)
			x, y := first.Grates[0].ID(), second.Grates[0].ID()
			err := errors.Join(b.rt.sys.RegisterHandler(t.Context(), x, abi.CallGetpid, y, 1),
				b.rt.sys.RegisterHandler(t.Context(), y, abi.CallGetpid, x, 1))
			if err != nil {
				t.Fatal(err)
			}
			b.tell(out, 0)
			b.want(1, int32(abi.ELOOP.Result()))
			b.want(2, int32(abi.ELOOP.Result()))
			b.want(3, int32(2*((c.levels+1)/2)))
			b.finish(first.App, first.Grates[0])
			// The other one's calls went to a grate that is gone by now.
			a := &threei.Args{}
			result, err := b.rt.sys.MakeSyscall(t.Context(), y, y, abi.CallGetpid, a)
			if err != nil || uint32(result) != abi.ELindESRCH {
				t.Errorf("%d, %v", result, err)
			}
			second.Kill()
			b.finish(second.App, second.Grates[0])
		})
	}
}

// TestHostCallsInTheNameOfADeadCage: what its grates guarded does not become native when it has died and they have not.
func TestHostCallsInTheNameOfADeadCage(t *testing.T) {
	b := newBackstage(t, Config{})
	var native atomic.Int64
	b.rt.sys.SetNative(guardedCall, func(*threei.Thread, *threei.Args) int64 { native.Add(1); return 0 })
	grate := b.grate(matrix.Guest{
		Main: fmt.Sprintf(`(if (call $register (call $child) (i32.const %d) (i32.const 1)) (then unreachable))
			(drop (call $serve)) (call $spin)`, guardedCall),
		Handlers: []string{"(i32.const 7)"},
	})
	stack := b.stack(b.app(matrix.Guest{Main: "(call $spin)"}), grate)
	app, above := stack.App.ID(), stack.Grates[0].ID()
	for _, target := range []abi.CageID{app, above} {
		if result, err := b.rt.sys.MakeSyscall(context.Background(), app, target, guardedCall, &threei.Args{}); err != nil || result != 7 {
			t.Errorf("while it lives: %d, %v", result, err)
		}
	}
	stack.App.Kill()
	<-stack.App.Done() // a zombie: it has its id still
	for _, target := range []abi.CageID{app, above} {
		if result, err := b.rt.sys.MakeSyscall(context.Background(), app, target, guardedCall, &threei.Args{}); err == nil {
			t.Errorf("on cage %d after its death: %d", target, result)
		}
	}
	if n := native.Load(); n != 0 {
		t.Errorf("%d guarded calls reached native", n)
	}
	stack.Kill()
	b.finish(stack.App, stack.Grates[0])
}
