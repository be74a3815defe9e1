package lindbridge

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/threei"
)

// hangWat makes a host call, which the test makes never return.
const hangWat = `(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $yield))))`

// hangs makes a runtime whose sched_yield returns when back is closed, and says that it is in there by entered.
func hangs(t *testing.T) (rt *Runtime, entered, back chan struct{}) {
	t.Helper()
	rt, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	entered, back = make(chan struct{}, 1), make(chan struct{})
	rt.sys.SetNative(abi.CallSchedYield, func(*threei.Thread, *threei.Args) int64 {
		entered <- struct{}{}
		<-back
		return 0
	})
	return rt, entered, back
}

// TestStuck_IsReportedAndResumes: a host call that does not return makes the exit stuck, which the report says, with the
// thread and the call. Nothing is freed, other cages and the runtime go on, and the exit does when the call returns.
func TestStuck_IsReportedAndResumes(t *testing.T) {
	rt, entered, back := hangs(t)
	ctx := t.Context()
	m, err := rt.Load(ctx, []byte(hangWat))
	if err != nil {
		t.Fatal(err)
	}
	tiny, err := rt.Load(ctx, []byte(`(module (func (export "_start")))`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.Spawn(ctx, Program{Module: m, StopGrace: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	c.Kill()
	<-c.Stuck()

	r := c.Report()
	if r.Phase != exitcoord.Stopping || r.Stuck == nil || len(r.Stuck.Threads) != 1 {
		t.Fatalf("report of a stuck exit:\n%v", r)
	}
	if at := r.Stuck.Threads[0].At; at != "host call sched_yield" {
		t.Errorf("stuck in %q", at)
	}
	for _, s := range r.Steps {
		if s.Outcome != exitcoord.StepWaiting {
			t.Errorf("step %v of a stuck exit", s)
		}
	}
	if _, err := c.dom.Memory(); err != nil {
		t.Errorf("the memory of a stuck cage is gone: %v", err)
	}
	// Another cage comes and goes meanwhile.
	other, err := rt.Spawn(ctx, Program{Module: tiny})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := other.Wait(ctx); err != nil || status.ExitCode() != 0 {
		t.Errorf("another cage: %v, %v", status, err)
	}
	// The runtime cannot be closed, says why, and within its deadline.
	expired, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	var left *CloseError
	if err := rt.Close(expired); !errors.As(err, &left) || len(left.Cages) != 1 || left.Cages[0] != c {
		t.Errorf("close: %v", err)
	} else if !strings.Contains(err.Error(), "sched_yield") {
		t.Errorf("close does not say what keeps it: %v", err)
	}

	close(back)
	status, err := c.Wait(ctx)
	if err != nil || status.Signal != 9 {
		t.Errorf("%v, %v after the call returned", status, err)
	}
	if r := c.Report(); r.Phase != exitcoord.Reaped || r.Stuck == nil {
		t.Errorf("report after the call returned:\n%v", r)
	}
	if err := rt.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestHostPanic_EndsTheCageAlone: a panic in the host's own code under a guest's call ends that cage, with its stack in the
// report, and nothing else.
func TestHostPanic_EndsTheCageAlone(t *testing.T) {
	rt, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	rt.sys.SetNative(abi.CallSchedYield, func(*threei.Thread, *threei.Args) int64 { panic("on purpose") })
	ctx := t.Context()
	m, err := rt.Load(ctx, []byte(hangWat))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := rt.Spawn(ctx, Program{Module: m})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		r := c.Report()
		if r.Cause.Kind != exitcoord.HostFailure || !strings.Contains(r.Cause.Message, "on purpose") ||
			!strings.Contains(r.Cause.Backtrace, "stuck_internal_test.go") {
			t.Errorf("report:\n%v", r)
		}
	}
	if err := rt.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestThreadExit_SetsTheStatusOnlyIfItIsTheLast: exit (60) of one thread never becomes the status of the cage while
// another thread lives (I5; lind-wasm issue #1169).
func TestThreadExit_SetsTheStatusOnlyIfItIsTheLast(t *testing.T) {
	rt, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	// sched_yield stands for the system call that WASI has no function for.
	rt.sys.SetNative(abi.CallSchedYield, func(t *threei.Thread, a *threei.Args) int64 {
		a.Val[0] = uint64(10 + t.TID)
		return rt.sys.Syscall(t, abi.CallExit, a)
	})
	ctx := t.Context()
	// Thread 2 exits with 12 while thread 1 waits for it; then thread 1 exits with 11, the last one.
	m, err := rt.Load(ctx, []byte(`(module
	  (import "env" "memory" (memory 1 1 shared))
	  (export "memory" (memory 0))
	  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
	  (import "wasi_snapshot_preview1" "sched_yield" (func $exit (result i32)))
	  (func (export "wasi_thread_start") (param i32 i32)
	    (i32.atomic.store (i32.const 0) (i32.const 1))
	    (drop (memory.atomic.notify (i32.const 0) (i32.const 1)))
	    (drop (call $exit)) unreachable)
	  (func (export "_start")
	    (drop (call $spawn (i32.const 0)))
	    (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))
	    (drop (call $exit)) unreachable))`))
	if err != nil {
		t.Fatal(err)
	}
	codes := map[int]int{}
	for range 200 {
		c, err := rt.Spawn(ctx, Program{Module: m})
		if err != nil {
			t.Fatal(err)
		}
		status, err := c.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r := c.Report()
		if r.Cause.Kind != exitcoord.LastThread || int(10+r.Cause.TID) != status.ExitCode() {
			t.Fatalf("report:\n%v", r)
		}
		codes[status.ExitCode()]++
	}
	if codes[11]+codes[12] != 200 {
		t.Errorf("exit codes %v", codes)
	}
	if err := rt.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}
