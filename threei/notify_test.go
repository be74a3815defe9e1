package threei_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/threei"
)

func TestNotify_TellsTheGrateBeforeTheHandlersGo(t *testing.T) {
	w := newWorld(t)
	a, b := w.withMemory(app), w.cage(other)
	w.grate(policy)
	w.register(app, abi.CallHarshCageExit, policy, 7)
	w.register(other, 1, policy, 8) // no wish to hear of its end
	var told [][2]uint64
	w.serve = func(_ context.Context, th *threei.Thread, p uint64, fn uint32, call abi.Call, args *threei.Args) int64 {
		if th.Cage != app || p != port(policy) || fn != 7 || call != abi.CallHarshCageExit {
			t.Errorf("cage %d, port %#x, function %d, %v", th.Cage, p, fn, call)
		}
		if a.freed.Load() || w.Lookup(app, abi.CallHarshCageExit) == 0 {
			t.Error("it is told too late")
		}
		// The grate may look at the cage's memory no more, by whatever way.
		d := threei.Data{Src: a.at(0), SrcCage: app, Dst: 1, DstCage: policy, Len: 1}
		if err := w.CopyData(bg, d); !errors.Is(err, threei.ErrStopping) {
			t.Errorf("it copies from the dead: %v", err)
		}
		w.SetNative(2, func(th *threei.Thread, _ *threei.Args) int64 {
			_, e := th.Resolve(a.at(0), 1, app)
			return e.Result()
		})
		expect(t, "a pointer to the dead", w.Syscall(w.cages[policy].thread(), 2, &threei.Args{}), abi.EFAULT.Result())
		told = append(told, [2]uint64{args.Val[0], args.Val[1]})
		return -1
	}
	w.HarshCageExit(a.exit, exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 3})
	a.kill()
	b.kill()
	if !slices.Equal(told, [][2]uint64{{uint64(app), 3 << 8}}) {
		t.Errorf("told %v", told)
	}
	for _, s := range a.exit.Report().Steps {
		if s.Outcome != exitcoord.StepOK {
			t.Errorf("step %v", s)
		}
	}
	expect(t, "harsh_cage_exit where nobody serves it", w.cages[policy].calls(abi.CallHarshCageExit), 0)
}

// TestNotify_GoesDownTheStack: who is told goes on to tell who it is stacked on itself, or does not.
func TestNotify_GoesDownTheStack(t *testing.T) {
	w := newWorld(t)
	a := w.cage(app)
	w.grate(policy)
	inner := w.grate(second)
	w.register(second, abi.CallHarshCageExit, policy, 1)
	w.register(app, abi.CallHarshCageExit, second, 2)
	var told []uint32
	w.serve = func(_ context.Context, th *threei.Thread, _ uint64, fn uint32, call abi.Call, args *threei.Args) int64 {
		told = append(told, fn)
		if fn == 2 {
			return w.SyscallOn(inner.thread(), second, call, args)
		}
		return 0
	}
	a.kill()
	if !slices.Equal(told, []uint32{2, 1}) {
		t.Errorf("told %v", told)
	}
}

// TestNotify_WaitsForAGrateOnlySoLong: the exit goes on without it, and says so.
func TestNotify_WaitsForAGrateOnlySoLong(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.NotifyDeadline = time.Millisecond
	w.Configure(cfg)
	a := w.cage(app)
	w.grate(policy)
	w.register(app, abi.CallHarshCageExit, policy, 7)
	leave := make(chan struct{})
	w.serve = func(context.Context, *threei.Thread, uint64, uint32, abi.Call, *threei.Args) int64 {
		<-leave
		return 0
	}
	a.kill()
	step := a.exit.Report().Steps[0]
	if step.Outcome != exitcoord.StepFailed || !errors.Is(step.Err, context.DeadlineExceeded) ||
		!strings.Contains(step.Err.Error(), "cage 10") {
		t.Errorf("step %v", step)
	}
	close(leave)
	if err := w.WaitLate(bg); err != nil {
		t.Error(err)
	}
}

func TestNotify_OfAGrateThatIsGoneOrOfNobody(t *testing.T) {
	w := newWorld(t)
	a := w.cage(app)
	w.grate(policy)
	w.register(app, abi.CallHarshCageExit, policy, 7)
	w.cages[policy].kill()
	w.serve = func(context.Context, *threei.Thread, uint64, uint32, abi.Call, *threei.Args) int64 {
		t.Error("a grate that is gone was called")
		return 0
	}
	a.stop()
	if err := w.NotifyGrates(bg, app, a.exit); err != nil {
		t.Error(err)
	}
	if err := w.NotifyGrates(bg, app, exitcoord.New(exitcoord.Config{})); err != nil {
		t.Errorf("of a cage that has another exit: %v", err)
	}
	if err := w.ReleaseMemory(99, a.exit, nil); !errors.Is(err, threei.ErrNoCage) {
		t.Errorf("memory of a cage that there is not: %v", err)
	}
}

func TestTriggerHarshCageExit_BeginsTheExit(t *testing.T) {
	w := newWorld(t)
	a := w.cage(app)
	kill := exitcoord.Cause{Kind: exitcoord.HostKill, Signal: 9}
	if won, err := w.TriggerHarshCageExit(app, kill); !won || err != nil {
		t.Errorf("%v, %v", won, err)
	}
	if won, err := w.TriggerHarshCageExit(app, kill); won || err != nil {
		t.Errorf("again: %v, %v", won, err)
	}
	if a.exit.Phase() != exitcoord.Stopping {
		t.Errorf("the cage is %v", a.exit.Phase())
	}
	if _, err := w.TriggerHarshCageExit(99, kill); !errors.Is(err, threei.ErrNoCage) {
		t.Errorf("of a cage that there is not: %v", err)
	}
}
