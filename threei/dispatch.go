package threei

import (
	"context"
	"fmt"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// This file implements who serves a call: the look-up, and the three ways to make a call. A guest's own calls come by
// Syscall, those that name a target by SyscallOn, the host's by MakeSyscall.

// Syscall carries out one system call of the thread t on its own cage, and answers its result or a negative abi.Errno:
// -ENOSYS for a number that nobody serves, ELINDESRCH (see abi.LindResult) for one whose grate is gone. It blocks for as
// long as the call does. A cage that is stopping may go on calling until its threads are stopped.
func (s *System) Syscall(t *Thread, call abi.Call, a *Args) int64 {
	if call >= abi.MaxCall {
		return abi.ENOSYS.Result()
	}
	if e := s.table.lookup(t.Cage, call); e != 0 {
		t.sys = s
		return s.callGrate(t, t.Cage, e, call, a)
	}
	return s.callNative(t, call, a)
}

// SyscallNative is Syscall for a call of which the shim has just found that no grate serves it.
func (s *System) SyscallNative(t *Thread, call abi.Call, a *Args) int64 {
	if call >= abi.MaxCall {
		return abi.ENOSYS.Result()
	}
	return s.callNative(t, call, a)
}

// callNative has the native function serve the call. What t comes to use meanwhile it uses no longer.
func (s *System) callNative(t *Thread, call abi.Call, a *Args) int64 {
	fn := s.native[call]
	if fn == nil {
		return abi.ENOSYS.Result()
	}
	t.sys = s
	n := len(t.uses)
	defer func() { // deferred, since a panic of fn must not leave another cage's memory in use
		if len(t.uses) > n {
			t.endUses(n)
		}
	}()
	return fn(t, a)
}

// callGrate has the grate of an entry serve the call, which is to act on the target.
func (s *System) callGrate(t *Thread, target abi.CageID, e entry, call abi.Call, a *Args) int64 {
	t.waiting.able = false // the grate would be called again
	if s.cfg.Trace == nil {
		return s.enterGrate(context.Background(), t, target, e, call, a)
	}
	return s.traced(context.Background(), t, target, e, call, a)
}

func (s *System) enterGrate(
	ctx context.Context, t *Thread, target abi.CageID, e entry, call abi.Call, a *Args,
) int64 {
	if !e.isGrate() || s.cfg.CallGrate == nil {
		return abi.LindResult(abi.ELindESRCH)
	}
	lockcheck.NoneHeld("a grate")
	return s.cfg.CallGrate(ctx, t, target, uint64(e), call, a)
}

func (s *System) traced(
	ctx context.Context, t *Thread, target abi.CageID, e entry, call abi.Call, a *Args,
) int64 {
	begin := time.Now()
	result := s.enterGrate(ctx, t, target, e, call, a)
	lockcheck.NoneHeld("Config.Trace")
	s.cfg.Trace(Traced{
		Cage: t.Cage, TID: t.TID, Call: call, Args: a, Entry: uint64(e), Result: result,
		Begin: begin, Took: time.Since(begin),
	})
	return result
}

// SyscallOn is Syscall for a call that names the cage which it is to act on: Lind's make_syscall, where t's cage is self.
// The handler, if there is one, is that of (self, call), and is told the target. A pseudo target of 3i stands for
// self.
//
// # Errors
//
//   - -ESRCH: the target is another cage that is stopping, or is gone; exit, exit_group and harsh_cage_exit are let
//     through where they go on to a grate, and else answer 0
//   - -EPERM: t may not name the target
//   - as Syscall
func (s *System) SyscallOn(t *Thread, target abi.CageID, call abi.Call, a *Args) int64 {
	if target == t.Cage || target.IsPseudo() {
		return s.Syscall(t, call, a)
	}
	if call >= abi.MaxCall {
		return abi.ENOSYS.Result()
	}
	t.sys = s
	// What ends a cage, and what tells of its end, is about one that may be stopping already.
	ends := call == abi.CallExit || call == abi.CallExitGroup || call == abi.CallHarshCageExit
	c := s.cages.LoadLow(uint64(target))
	if !ends && (c == nil || c.stopping()) {
		return abi.ESRCH.Result()
	}
	if c != nil && !t.mayName(c) {
		return abi.EPERM.Result()
	}
	if e := s.table.lookup(t.Cage, call); e != 0 {
		return s.callGrate(t, target, e, call, a)
	}
	n := len(t.uses)
	if c == nil || !t.use(c) {
		if ends {
			return 0 // it has ended
		}
		return abi.ESRCH.Result()
	}
	return s.callNativeOn(t, n, c, call, a)
}

// callNativeOn is callNative on the cage c, which t uses; the first n of its uses are there to stay.
func (s *System) callNativeOn(t *Thread, n int, c *cage, call abi.Call, a *Args) int64 {
	native, target := t.Native, t.target
	t.Native, t.target = c.cfg.Native, c
	defer func() {
		t.Native, t.target = native, target
		t.endUses(n)
	}()
	if t.Native == nil && call < firstOwnCall {
		return abi.ESRCH.Result() // nothing native can act on this cage
	}
	return s.callNative(t, call, a)
}

// firstOwnCall is the lowest number of 3i's own calls, which need nothing of the layer that serves native calls.
const firstOwnCall = abi.CallRegisterHandler

// MakeSyscall makes a system call as the host: on behalf of the cage self, acting on the cage target, which may be the
// same; a pseudo target of 3i stands for self. The handler of (self, call) serves it, if there is one, and else the native
// function. Pointers among the arguments are addresses in the memory of the cage that each says, which may be any. The
// answer is the call's result or a negative abi.Errno; it is ELINDESRCH where the grate is gone.
//
// It blocks for as long as the call does, until ctx is done at the longest: a native call is cancelled then and waited
// for, a grate is left to itself.
//
// # Errors
//
//   - ErrNoCage: of self; ErrStopping: of self, unless a grate serves the call
//   - ErrNoCage, ErrStopping: of the target, save for exit and exit_group, which answer 0 then
//   - the cause of ctx
func (s *System) MakeSyscall(ctx context.Context, self, target abi.CageID, call abi.Call, a *Args) (int64, error) {
	result, err := s.makeSyscall(ctx, self, target, call, a)
	if err != nil {
		return 0, fmt.Errorf("make %v of cage %d on cage %d: %w", call, self, target, err)
	}
	return result, nil
}

func (s *System) makeSyscall(ctx context.Context, self, target abi.CageID, call abi.Call, a *Args) (int64, error) {
	if err := done(ctx); err != nil {
		return 0, err
	}
	by := s.cages.LoadLow(uint64(self))
	if by == nil {
		return 0, ErrNoCage
	}
	if target.IsPseudo() {
		target = self
	}
	ends := call == abi.CallExit || call == abi.CallExitGroup
	c, err := s.named(target)
	if err != nil && !ends {
		return 0, err
	}
	if call >= abi.MaxCall {
		return abi.ENOSYS.Result(), nil
	}
	t := &Thread{Cage: self, far: far{sys: s, host: true}}
	if e := s.table.lookup(self, call); e != 0 {
		return s.callGrateCtx(ctx, t, target, e, call, a)
	}
	// Must follow the look-up: the handlers of a cage that ends are dropped some time after it has begun to, and what
	// they guarded must not become native by that.
	if !ends && by.stopping() {
		return 0, by.errStopping()
	}
	if c == nil || !t.use(c) {
		if ends {
			return 0, nil
		}
		return 0, ErrNoCage
	}
	token := newToken(ctx)
	defer token.close()
	t.own = token
	result := s.callNativeOn(t, 0, c, call, a)
	if result == abi.EINTR.Result() && ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return result, nil
}

// callGrateCtx is callGrate for the host: on a goroutine of its own where ctx can end, which is left to itself then. It
// ends when the grate has answered, or is gone.
func (s *System) callGrateCtx(
	ctx context.Context, t *Thread, target abi.CageID, e entry, call abi.Call, a *Args,
) (int64, error) {
	if ctx.Done() == nil || !e.isGrate() {
		return s.callGrate(t, target, e, call, a), nil
	}
	args := *a // the caller may use its own again when it does not wait any more
	answer := make(chan int64, 1)
	s.late.add(1)
	go func() {
		result := abi.LindResult(abi.ELindESRCH) // unless the call returns
		defer func() {
			s.late.add(-1)
			answer <- result
		}()
		if s.cfg.Trace == nil {
			result = s.enterGrate(ctx, t, target, e, call, &args)
		} else {
			result = s.traced(ctx, t, target, e, call, &args)
		}
	}()
	select {
	case result := <-answer:
		return result, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
