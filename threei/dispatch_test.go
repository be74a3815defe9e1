package threei_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

func addrOf(b []byte) uint64 { return guestmem.AddrOf(b) }

// actsOn is a native call that answers which cage it acts on.
func (w *world) actsOn(call abi.Call) {
	w.SetNative(call, func(t *threei.Thread, _ *threei.Args) int64 { return int64(t.Native.(*cage).id) })
}

func TestSyscallOn_ActsOnTheTarget(t *testing.T) {
	w := newWorld(t)
	w.actsOn(1)
	g, a, b := w.grate(policy), w.cage(app), w.cage(other)
	stranger := w.cage(12)
	w.register(app, 5, policy, 1)
	th := g.thread()
	on := func(target abi.CageID) int64 { return w.SyscallOn(th, target, 1, &threei.Args{}) }
	expect(t, "its own cage", on(policy), int64(policy))
	for _, pseudo := range []abi.CageID{abi.CageRawPOSIX, abi.CageThreeI, abi.CageWasmtime} {
		expect(t, "a pseudo target", on(pseudo), int64(policy))
	}
	expect(t, "a cage that it has a handler on", on(app), int64(app))
	expect(t, "a cage that it has nothing to do with", on(other), abi.EPERM.Result())
	expect(t, "a cage that there is not", on(99), abi.ESRCH.Result())
	th.Caller = &threei.Thread{Cage: 12, Caller: b.thread()}
	expect(t, "the cage that it serves", on(12), 12)
	expect(t, "the cage that that one serves", on(other), int64(other))
	if th.Native.(*cage) != g || th.Acting() != policy || th.Cancel != threei.Canceler(g.token) {
		t.Error("the thread is not as it was")
	}
	th.Caller = nil
	expect(t, "the cage that it served", on(12), abi.EPERM.Result())
	w.register(app, 5, abi.CageDeregister, 0)
	expect(t, "a cage that it had a handler on", on(app), abi.EPERM.Result())
	w.register(policy, 1, second2(w), 77)
	th.Caller = a.thread()
	expect(t, "a call that another grate serves for it", on(app), 77)
	expect(t, "a number out of range", w.SyscallOn(th, app, abi.MaxCall, &threei.Args{}), abi.ENOSYS.Result())
	for _, c := range []*cage{a, b, stranger} {
		if n := w.Uses(c.id); n != 0 {
			t.Errorf("cage %d has %d users", c.id, n)
		}
	}
}

// second2 is the grate second, made.
func second2(w *world) abi.CageID { return w.grate(second).id }

func TestSyscallOn_StoppingTargets(t *testing.T) {
	w := newWorld(t)
	for _, call := range []abi.Call{1, abi.CallExit, abi.CallExitGroup} {
		w.actsOn(call)
	}
	g, a := w.grate(policy), w.cage(app)
	th := g.thread()
	th.Caller = a.thread()
	on := func(call abi.Call) int64 { return w.SyscallOn(th, app, call, &threei.Args{}) }
	a.stop()
	expect(t, "a stopping target", on(1), abi.ESRCH.Result())
	expect(t, "its own call", a.calls(1), int64(app))
	expect(t, "exit of a stopping target", on(abi.CallExit), int64(app))
	expect(t, "exit_group of a stopping target", on(abi.CallExitGroup), int64(app))
	a.kill()
	expect(t, "a target that is gone", on(1), abi.ESRCH.Result())
	expect(t, "exit_group of a target that is gone", on(abi.CallExitGroup), 0)
}

func TestSubject_IsTheThreadThatTheCallIsFor(t *testing.T) {
	w := newWorld(t)
	var subject *threei.Thread
	w.SetNative(1, func(t *threei.Thread, _ *threei.Args) int64 { subject = t.Subject(); return int64(t.Acting()) })
	g, a, b := w.grate(policy), w.cage(app), w.cage(other)
	w.register(other, 5, policy, 1)
	th := g.thread()
	th.Caller = a.thread()
	for _, c := range []struct {
		target abi.CageID
		want   *threei.Thread
	}{{policy, th}, {app, th.Caller}, {b.id, nil}} {
		expect(t, "the acting cage", w.SyscallOn(th, c.target, 1, &threei.Args{}), int64(c.target))
		if subject != c.want {
			t.Errorf("the subject of a call on %d is %v", c.target, subject)
		}
	}
}

func TestMakeSyscall_IsTheHosts(t *testing.T) {
	w := newWorld(t)
	w.actsOn(1)
	w.grate(policy)
	a, b := w.withMemory(app), w.cage(other)
	w.register(app, 2, policy, 22)
	makes := func(self, target abi.CageID, call abi.Call) int64 {
		t.Helper()
		r, err := w.MakeSyscall(bg, self, target, call, &threei.Args{})
		if err != nil {
			t.Error(err)
		}
		return r
	}
	expect(t, "a native call", makes(app, app, 1), int64(app))
	expect(t, "on another cage", makes(app, other, 1), int64(other))
	expect(t, "on a pseudo target", makes(app, abi.CageThreeI, 1), int64(app))
	expect(t, "a call that a grate serves", makes(app, other, 2), 22)
	expect(t, "a call that nobody serves", makes(app, app, 3), abi.ENOSYS.Result())
	expect(t, "a number out of range", makes(app, app, abi.MaxCall), abi.ENOSYS.Result())
	w.SetNative(4, func(t *threei.Thread, a *threei.Args) int64 {
		b, e := t.Resolve(a.Val[0], 4, a.Cage[0])
		if e != 0 {
			return e.Result()
		}
		return int64(b[0])
	})
	a.bytes[8] = 99
	args := &threei.Args{Val: [6]uint64{a.at(8)}, Cage: [6]abi.CageID{app}}
	if r, err := w.MakeSyscall(bg, other, other, 4, args); r != 99 || err != nil {
		t.Errorf("a pointer of a third cage's: %d, %v", r, err)
	}
	for _, c := range []struct {
		self, target abi.CageID
		want         error
	}{{99, app, threei.ErrNoCage}, {app, 99, threei.ErrNoCage}} {
		if _, err := w.MakeSyscall(bg, c.self, c.target, 1, args); !errors.Is(err, c.want) {
			t.Errorf("%d on %d: %v", c.self, c.target, err)
		}
	}
	b.stop()
	if _, err := w.MakeSyscall(bg, app, other, 1, args); !errors.Is(err, threei.ErrStopping) {
		t.Errorf("on a stopping cage: %v", err)
	}
	expect(t, "exit_group of a stopping cage", makes(app, other, abi.CallExitGroup), 0)
	if w.Uses(app) != 0 || w.Uses(other) != 0 {
		t.Error("a cage is still in use")
	}
}

// waitNative is a native call that waits for its cancel token, as those of package rawposix do.
func waitNative(began chan<- struct{}) threei.Native {
	return func(t *threei.Thread, _ *threei.Args) int64 {
		fd, err := t.Cancel.CancelFD()
		if err != nil {
			return abi.EIO.Result()
		}
		if again, err := t.Cancel.CancelFD(); again != fd || err != nil {
			return abi.EIO.Result()
		}
		began <- struct{}{}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Ppoll(fds, &unix.Timespec{Sec: int64(patience / time.Second)}, nil)
			switch {
			case err == unix.EINTR:
			case n == 1 && t.Cancel.Stopping():
				return abi.EINTR.Result()
			default:
				return abi.ETIMEDOUT.Result()
			}
		}
	}
}

func TestMakeSyscall_IsCancelledByItsContext(t *testing.T) {
	w := newWorld(t)
	began := make(chan struct{}, 1)
	w.SetNative(1, waitNative(began))
	w.cage(app).fires(t)
	ctx, cancel := context.WithCancelCause(bg)
	why := errors.New("enough")
	go func() {
		<-began
		cancel(why)
	}()
	if _, err := w.MakeSyscall(ctx, app, app, 1, &threei.Args{}); !errors.Is(err, why) {
		t.Errorf("native: %v", err)
	}
	if _, err := w.MakeSyscall(ctx, app, app, 1, &threei.Args{}); !errors.Is(err, why) {
		t.Errorf("with a context that is over: %v", err)
	}
	w.grate(policy)
	w.register(app, 2, policy, 5)
	inside, leave := make(chan struct{}), make(chan struct{})
	w.serve = func(context.Context, *threei.Thread, uint64, uint32, abi.Call, *threei.Args) int64 {
		close(inside)
		<-leave
		return 1
	}
	ctx, cancel = context.WithCancelCause(bg)
	go func() {
		<-inside
		cancel(why)
	}()
	if _, err := w.MakeSyscall(ctx, app, app, 2, &threei.Args{}); !errors.Is(err, why) {
		t.Errorf("in a grate: %v", err)
	}
	if late := w.Stats().Late; late != 1 {
		t.Errorf("%d late calls", late)
	}
	over, stop := context.WithCancel(bg)
	stop()
	if err := w.WaitLate(over); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitLate while there is one: %v", err)
	}
	close(leave)
	if err := w.WaitLate(bg); err != nil {
		t.Error(err)
	}
}

// fires makes the cage's cancel token a real one, which the test fires by stop.
func (c *cage) fires(t *testing.T) (fire func()) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	c.token.fd = fd
	t.Cleanup(func() { unix.Close(fd) })
	return func() {
		c.stop()
		if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Error(err)
		}
	}
}

// TestCallsOnOthers_EndWhenEitherStops: the token of such a call is that of all the cages that it uses.
func TestCallsOnOthers_EndWhenEitherStops(t *testing.T) {
	for _, stops := range []abi.CageID{policy, app} {
		w := newWorld(t)
		began := make(chan struct{}, 1)
		w.SetNative(1, waitNative(began))
		g, a := w.grate(policy), w.cage(app)
		fire := map[abi.CageID]func(){policy: g.fires(t), app: a.fires(t)}
		w.register(app, 5, policy, 1)
		th := g.thread()
		answer := make(chan int64, 1)
		go func() { answer <- w.SyscallOn(th, app, 1, &threei.Args{}) }()
		<-began
		if w.Uses(app) != 1 {
			t.Error("the target is not in use")
		}
		fire[stops]()
		expect(t, "the call", <-answer, abi.EINTR.Result())
		if w.Uses(app) != 0 || th.Cancel != threei.Canceler(g.token) {
			t.Error("the call has not ended")
		}
	}
}

// TestReleaseMemory_WaitsForWhoeverUsesIt: it is released by the last call that used it, and never blocks.
func TestReleaseMemory_WaitsForWhoeverUsesIt(t *testing.T) {
	w := newWorld(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	w.SetNative(1, func(th *threei.Thread, args *threei.Args) int64 {
		b, e := th.Resolve(args.Val[0], 8, args.Cage[0])
		if e != 0 {
			return e.Result()
		}
		inside <- struct{}{}
		<-leave
		b[0] = 1 // it is there
		return 0
	})
	g, a := w.grate(policy), w.withMemory(app)
	w.register(app, 5, policy, 1)
	answer := make(chan int64, 2)
	args := &threei.Args{Val: [6]uint64{a.at(8)}, Cage: [6]abi.CageID{app}}
	for range 2 {
		go func() { answer <- w.Syscall(g.thread(), 1, args) }()
		<-inside
	}
	a.kill()
	if a.freed.Load() {
		t.Fatal("the memory was released while it is used")
	}
	leave <- struct{}{}
	expect(t, "the first call", <-answer, 0)
	if a.freed.Load() {
		t.Fatal("the memory was released while it is used")
	}
	leave <- struct{}{}
	expect(t, "the second call", <-answer, 0)
	if !a.freed.Load() {
		t.Error("the memory was not released")
	}
	expect(t, "a call that comes later", w.Syscall(g.thread(), 1, args), abi.EFAULT.Result())
}

// TestNative_ThatPanicsLeavesNothingInUse: the bridge ends the thread, and what it used is free.
func TestNative_ThatPanicsLeavesNothingInUse(t *testing.T) {
	w := newWorld(t)
	w.SetNative(1, func(th *threei.Thread, args *threei.Args) int64 {
		if _, e := th.Resolve(args.Val[0], 8, args.Cage[0]); e != 0 {
			return e.Result()
		}
		panic("oops")
	})
	g, a := w.grate(policy), w.withMemory(app)
	w.register(app, 5, policy, 1)
	th := g.thread()
	for _, target := range []abi.CageID{policy, app} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			w.SyscallOn(th, target, 1, &threei.Args{Val: [6]uint64{a.at(8)}, Cage: [6]abi.CageID{app}})
		}()
		if w.Uses(app) != 0 || th.Native.(*cage) != g {
			t.Error("the call has not ended")
		}
	}
}

func TestResolve_OfOthers(t *testing.T) {
	w := newWorld(t)
	g, a, b := w.grate(policy), w.withMemory(app), w.withMemory(other)
	w.register(app, 5, policy, 1)
	caller := b.thread()
	scratch := caller.Scratch(64)
	copy(scratch, "path\x00")
	var th *threei.Thread
	for _, c := range []struct {
		name   string
		served bool
		addr   uint64
		n      uint64
		owner  abi.CageID
		length int
		errno  abi.Errno
	}{
		{"of a cage with a handler", false, a.at(0), memSize, app, memSize, 0},
		{"past its end", false, a.at(1), memSize, app, 0, abi.EFAULT},
		{"before it", false, a.at(0) - 1, 1, app, 0, abi.EFAULT},
		{"of a stranger", false, b.at(0), 1, other, 0, abi.EFAULT},
		{"of a stranger, with the wrong name", false, b.at(0), 1, app, 0, abi.EFAULT},
		{"of nobody", false, b.at(0), 1, 99, 0, abi.EFAULT},
		{"of a cage without memory", false, 0, 0, policy, 0, 0},
		{"of the one that is served", true, b.at(0), 8, other, 8, 0},
		{"scratch of the one that is served", true, addrOf(scratch), 64, abi.CageRawPOSIX, 64, 0},
		{"scratch of a stranger", false, addrOf(scratch), 64, abi.CageRawPOSIX, 0, abi.EFAULT},
		{"nothing of the runtime", false, 12345, 0, abi.CageRawPOSIX, 0, 0},
	} {
		w.SetNative(1, func(th *threei.Thread, _ *threei.Args) int64 {
			if b, errno := th.Resolve(c.addr, c.n, c.owner); errno != c.errno || len(b) != c.length {
				t.Errorf("%s: %d bytes, %v", c.name, len(b), errno)
			}
			return 0
		})
		th = g.thread()
		if c.served {
			th.Caller = caller
		}
		w.Syscall(th, 1, &threei.Args{})
	}
	w.SetNative(1, func(th *threei.Thread, _ *threei.Args) int64 {
		if b, e := th.ResolveMost(b.at(memSize-3), 100, other); len(b) != 3 || e != 0 {
			t.Errorf("the end of memory: %d bytes, %v", len(b), e)
		}
		if _, e := th.ResolveInner(b.at(0), 8, abi.CageRawPOSIX); e != 0 {
			t.Errorf("a buffer that is listed in scratch memory: %v", e)
		}
		if _, e := th.ResolveInner(addrOf(scratch), 8, abi.CageRawPOSIX); e != 0 {
			t.Errorf("a buffer in scratch that is listed there: %v", e)
		}
		if _, e := th.ResolveInner(a.at(0), 8, abi.CageRawPOSIX); e != abi.EFAULT {
			t.Errorf("a third cage's buffer that is listed in scratch memory: %v", e)
		}
		if _, e := th.ResolveInner(b.at(0), 8, policy); e != abi.EFAULT {
			t.Errorf("another cage's buffer that is listed in memory of its own: %v", e)
		}
		return 0
	})
	th.Caller = caller
	w.Syscall(th, 1, &threei.Args{})
	if w.Uses(app) != 0 || w.Uses(other) != 0 {
		t.Error("a cage is still in use")
	}
}
