package rawposix_test

import (
	"os"
	"slices"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
)

// A grate makes calls for the cage that it serves: on that cage's descriptors, with pointers of both.

const grateCage = abi.CageID(8)

// served is the env's cage, on whose thread a call waits, and a grate that serves it.
type served struct {
	*env
	proc   *rawposix.Process // the grate's
	mem    guestmem.Memory   // the grate's
	worker *threei.Thread    // of the grate, which serves the env's thread
	token  *canceler         // the grate's
	exit   *exitcoord.Exit   // the env's cage's
}

func newServed(t *testing.T) *served {
	e := newEnv(t)
	s := &served{env: e, proc: e.newProcess(grateCage), mem: newMemory(t), token: newCanceler(t)}
	t.Cleanup(func() {
		if err := s.proc.Close(); err != nil {
			t.Error(err)
		}
		dropFD(t, s.token.fd)
	})
	add := func(id abi.CageID, cfg threei.CageConfig) *exitcoord.Exit {
		exit := exitcoord.New(exitcoord.Config{Cage: id})
		if err := e.sys.AddCage(id, exit, cfg); err != nil {
			t.Fatal(err)
		}
		return exit
	}
	s.exit = add(testCage, threei.CageConfig{
		Native: e.proc, Cancel: e.cancel, Memory: func() guestmem.Memory { return e.mem },
	})
	add(grateCage, threei.CageConfig{
		Native: s.proc, Cancel: s.token, Memory: func() guestmem.Memory { return s.mem },
	})
	t.Cleanup(func() {
		if err := e.sys.Close(); err != nil {
			t.Error(err)
		}
	})
	s.worker = &threei.Thread{
		Cage: grateCage, TID: 3, Memory: s.mem, Cancel: s.token, Native: s.proc, Caller: e.th,
	}
	return s
}

func dropFD(t *testing.T, fd int) {
	if err := os.NewFile(uintptr(fd), "").Close(); err != nil {
		t.Error(err)
	}
}

// on makes a call on the env's cage, as its grate.
func (s *served) on(n abi.Call, vals ...any) int64 {
	return s.sys.SyscallOn(s.worker, testCage, n, s.args(vals...))
}

// mine is the address of something in the grate's memory, as args takes none.
func (s *served) mine(a *threei.Args, i int, off uint64) *threei.Args {
	a.Val[i], a.Cage[i] = uint64(s.mem.Base())+off, grateCage
	return a
}

func TestTarget_CallsActOnTheTargetsDescriptors(t *testing.T) {
	s := newServed(t)
	fd := s.file("content")
	at := s.alloc(16)
	if r := s.on(abi.CallPread64, fd, at, 7, 0); r != 7 || string(s.bytes(at, 7)) != "content" {
		t.Errorf("into the target's memory: %s, %q", show(r), s.bytes(at, 7))
	}
	a := s.mine(s.args(fd, 0, 7, 0), 1, 100)
	if r := s.sys.SyscallOn(s.worker, testCage, abi.CallPread64, a); r != 7 {
		t.Errorf("into its own memory: %s", show(r))
	}
	if b, _ := s.mem.Bytes(100, 7); string(b) != "content" {
		t.Errorf("its own memory has %q", b)
	}
	if r := s.sys.Syscall(s.worker, abi.CallPread64, a); r != abi.EBADF.Result() {
		t.Errorf("on its own descriptors: %s", show(r))
	}
	if r := s.on(abi.CallOpenat, 3, s.str("new"), oWronly|oCreat, 0o600); r < 0 {
		t.Errorf("open for the target: %s", show(r))
	} else if w := s.write(int(r), "x"); w != 1 {
		t.Errorf("the target's write: %s", show(w))
	}
}

func TestTarget_IDsAndExitsAreTheTargets(t *testing.T) {
	s := newServed(t)
	s.th.TID = 42
	for call, want := range map[abi.Call]int64{abi.CallGetpid: int64(testCage), abi.CallGettid: 42} {
		if got := s.on(call); got != want {
			t.Errorf("%v of the target = %d, want %d", call, got, want)
		}
		if got := s.sys.Syscall(s.worker, call, s.args()); got == want {
			t.Errorf("%v of its own = %d", call, got)
		}
	}
	s.on(abi.CallExit, 5)
	s.on(abi.CallExitGroup, 6)
	s.on(abi.CallKill, 0, 15)
	want := []string{"exit 5 by 42", "exit_group 6 by 3", "signal 15 to 7"}
	if !slices.Equal(s.hooks.calls, want) {
		t.Errorf("hooks got %q, want %q", s.hooks.calls, want)
	}
}

func TestTarget_PointersOfTheRuntime(t *testing.T) {
	s := newServed(t)
	fd := s.file("content")
	at := s.alloc(16)
	vec := s.th.Scratch(16) // as the caller's translation layer makes it
	list := func(base uint64) { le.PutUint64(vec, base); le.PutUint64(vec[8:], 7) }
	list(s.addr(at))
	if r := s.on(abi.CallPreadv, fd, rp(guestmem.AddrOf(vec)), 1, 0, 0); r != 7 || string(s.bytes(at, 7)) != "content" {
		t.Errorf("the caller's list of its own memory: %s", show(r))
	}
	// What a grate makes of such a list leads to memory that it may name, and nowhere else.
	host := make([]byte, 64)
	for _, base := range []uint64{guestmem.AddrOf(host), 8, s.addr(memSize)} {
		list(base)
		if r := s.on(abi.CallPreadv, fd, rp(guestmem.AddrOf(vec)), 1, 0, 0); r != abi.EFAULT.Result() {
			t.Errorf("a list of memory of the host: %s", show(r))
		}
	}
	list(uint64(s.mem.Base()))
	if r := s.on(abi.CallPreadv, fd, rp(guestmem.AddrOf(vec)), 1, 0, 0); r != 7 {
		t.Errorf("a list of the grate's memory: %s", show(r))
	}
	if r := s.on(abi.CallPread64, fd, rp(guestmem.AddrOf(host)), 7, 0); r != abi.EFAULT.Result() {
		t.Errorf("memory of the host, said to be the runtime's: %s", show(r))
	}
	path := s.th.Scratch(16)
	copy(path, "f")
	if r := s.on(abi.CallNewfstatat, 3, rp(guestmem.AddrOf(path)), s.alloc(rawposix.StatSize), 0); r != 0 {
		t.Errorf("the caller's path: %s", show(r))
	}
	full := s.th.Scratch(8192) // to the end of its block
	for i := range full {
		full[i] = '/'
	}
	end := guestmem.AddrOf(full) + 8192
	for n, want := range map[uint64]abi.Errno{100: abi.EFAULT, 5000: abi.ENAMETOOLONG, 0: abi.EFAULT} {
		if r := s.on(abi.CallMkdirat, 3, rp(end-n), 0o700); r != want.Result() {
			t.Errorf("a path that runs out after %d bytes: %s", n, show(r))
		}
	}
	s.worker.Caller = nil
	if r := s.sys.Syscall(s.worker, abi.CallMkdirat, s.args(3, rp(guestmem.AddrOf(path)), 0o700)); r != abi.EFAULT.Result() {
		t.Errorf("the path of a caller that was: %s", show(r))
	}
}

// TestTarget_BlockedCallEndsWhenEitherCageStops: it waits for both, and where neither's stop could pass it by.
func TestTarget_BlockedCallEndsWhenEitherCageStops(t *testing.T) {
	for _, who := range []string{"the target", "the grate"} {
		s := newServed(t)
		r, _ := s.pipe(0)
		at := s.alloc(8)
		s.worker.BeginHostCall(true, false) // the shim could wait for it
		answer := make(chan int64, 1)
		go func() { answer <- s.on(abi.CallRead, r, at, 8) }()
		await(t, "the read waits", s.cancel.asked)
		if who == "the target" {
			s.sys.HarshCageExit(s.exit, exitcoord.Cause{Kind: exitcoord.HostKill})
			s.cancel.fire()
		} else {
			s.token.fire()
		}
		if got := await(t, "the read ends", answer); got != abi.EINTR.Result() {
			t.Errorf("%s stops: %s", who, show(got))
		}
		if _, _, parked := s.worker.Parked(); parked {
			t.Errorf("%s stops: the call was to be made again", who)
		}
	}
}
