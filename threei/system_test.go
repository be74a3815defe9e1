package threei_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSyscall_GoesToTheNativeFunction(t *testing.T) {
	s := threei.NewSystem()
	th := &threei.Thread{Cage: 7}
	s.SetNative(abi.CallGetpid, func(t *threei.Thread, a *threei.Args) int64 { return int64(t.Cage) + int64(a.Val[5]) })
	args := &threei.Args{Val: [6]uint64{5: 30}}
	if r := s.Syscall(th, abi.CallGetpid, args); r != 37 {
		t.Errorf("getpid answered %d", r)
	}
	for _, call := range []abi.Call{abi.CallGetppid, abi.MaxCall, abi.MaxCall + 1, 1<<32 - 1} {
		if r := s.Syscall(th, call, args); r != abi.ENOSYS.Result() {
			t.Errorf("%v, which nobody serves, answered %d", call, r)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.Syscall(th, abi.CallGetpid, args) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func TestResolve_ChecksWhosePointerItIs(t *testing.T) {
	page := make([]byte, 64)
	base := guestmem.AddrOf(page)
	th := &threei.Thread{Cage: 7, Memory: guestmem.New(uintptr(base), 64)}
	outgrown := th.Scratch(16)
	scratch := th.Scratch(8192)
	for _, c := range []struct {
		name   string
		addr   uint64
		n      uint64
		cage   abi.CageID
		length int
		errno  abi.Errno
	}{
		{"all of it", base, 64, 7, 64, 0},
		{"its last byte", base + 63, 1, 7, 1, 0},
		{"none at its end", base + 64, 0, 7, 0, 0},
		{"one past its end", base + 64, 1, 7, 0, abi.EFAULT},
		{"across its end", base + 60, 5, 7, 0, abi.EFAULT},
		{"before it", base - 1, 1, 7, 0, abi.EFAULT},
		{"a length that wraps", base + 1, 1<<64 - 1, 7, 0, abi.EFAULT},
		{"another cage's", base, 1, 8, 0, abi.EFAULT},
		{"scratch", guestmem.AddrOf(scratch), 64, abi.CageRawPOSIX, 64, 0},
		{"scratch that was outgrown", guestmem.AddrOf(outgrown), 16, abi.CageRawPOSIX, 16, 0},
		{"past the end of scratch", guestmem.AddrOf(scratch) + 8192, 16, abi.CageRawPOSIX, 0, abi.EFAULT},
		{"other memory of the runtime", base + 8, 8, abi.CageRawPOSIX, 0, abi.EFAULT},
		{"null", 0, 1, 7, 0, abi.EFAULT},
	} {
		b, errno := th.Resolve(c.addr, c.n, c.cage)
		if errno != c.errno || len(b) != c.length {
			t.Errorf("%s: %d bytes, %v; want %d, %v", c.name, len(b), errno, c.length, c.errno)
		}
	}
}

// TestScratch_StaysWhereItIs: what was handed out before is neither moved nor handed out again until the call is over.
func TestScratch_StaysWhereItIs(t *testing.T) {
	th := &threei.Thread{}
	for round := range 3 {
		var blocks [][]byte
		for i := range 100 {
			b := th.Scratch(i * 37 % 3000)
			for j := range b {
				if b[j] != 0 {
					t.Fatalf("round %d: block %d is not zeroed", round, i)
				}
				b[j] = byte(i)
			}
			blocks = append(blocks, b)
		}
		for i, b := range blocks {
			for j := range b {
				if b[j] != byte(i) {
					t.Fatalf("round %d: block %d was changed", round, i)
				}
			}
		}
		th.ScratchReset()
	}
	th.Scratch(64)
	th.ScratchReset()
	if n := testing.AllocsPerRun(100, func() { th.Scratch(64); th.ScratchReset() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHarshCageExit_FirstCauseWins(t *testing.T) {
	s := threei.NewSystem()
	exit := exitcoord.New(exitcoord.Config{Cage: 7})
	if err := s.AddCage(7, exit, threei.CageConfig{}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddCage(7, exitcoord.New(exitcoord.Config{Cage: 7}), threei.CageConfig{}); !errors.Is(err, threei.ErrCageExists) {
		t.Errorf("a second cage 7: %v", err)
	}
	found, err := s.Exit(7)
	if err != nil || found != exit {
		t.Fatalf("%p, %v; want %p", found, err, exit)
	}
	if !s.HarshCageExit(found, exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 3}) {
		t.Error("the first cause lost")
	}
	if s.HarshCageExit(found, exitcoord.Cause{Kind: exitcoord.HostKill}) {
		t.Error("the second cause won")
	}
	if err := exit.Quiescent(nil); err != nil {
		t.Fatal(err)
	}
	<-exit.Done()
	if status, ok := exit.Status(); !ok || status.ExitCode() != 3 {
		t.Errorf("status %v", status)
	}
	s.RemoveCage(7, exitcoord.New(exitcoord.Config{})) // another's: nothing
	if _, err := s.Exit(7); err != nil {
		t.Errorf("removed by another: %v", err)
	}
	s.RemoveCage(7, exit)
	if _, err := s.Exit(7); !errors.Is(err, threei.ErrNoCage) {
		t.Errorf("after its removal: %v", err)
	}
}
