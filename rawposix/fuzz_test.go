package rawposix_test

import (
	"os"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
)

// fuzzArg is how a byte of fuzz input becomes an argument: what guests may say, and never that a pointer is the
// runtime's own.
func fuzzArg(e *env, kind byte, v uint64) (uint64, abi.CageID) {
	switch kind % 6 {
	case 0:
		return v, 0 // a number
	case 1:
		return uint64(e.mem.Base()) + v%memSize, testCage // a good pointer
	case 2:
		return uint64(e.mem.Base()) + v, testCage // a pointer relative to memory
	case 3:
		return v, testCage // any pointer
	case 4:
		return v % 16, 0 // a small number, such as a descriptor
	}
	return uint64(e.mem.Base()) + v%memSize, abi.CageID(v % 1000) // a pointer of another cage's
}

// FuzzSyscall makes any call with any arguments, one after the other. Nothing may panic, wait, touch memory outside the
// guest's (which lies between inaccessible pages and beside a canary), or reach outside the directory.
func FuzzSyscall(f *testing.F) {
	seed := func(calls ...[]byte) {
		var b []byte
		for _, c := range calls {
			b = append(b, c...)
		}
		f.Add(b)
	}
	call := func(n abi.Call, args ...any) []byte {
		b := le.AppendUint16(nil, uint16(n))
		for i := range 6 {
			kind, v := byte(0), uint64(0)
			if i < len(args) {
				switch a := args[i].(type) {
				case int:
					v = uint64(a)
				case gp:
					kind, v = 1, uint64(a)
				}
			}
			b = append(b, kind)
			b = le.AppendUint64(b, v)
		}
		return b
	}
	// Guest memory begins with the path "f", then an iovec array and a msghdr that the fuzz target places.
	seed(call(abi.CallOpenat, 3, gp(0), oRdwr|oCreat, 0o600), call(abi.CallWrite, 0, gp(64), 100),
		call(abi.CallPread64, 0, gp(64), 100, 0), call(abi.CallFstat, 0, gp(256)), call(abi.CallClose, 0))
	seed(call(abi.CallPipe2, gp(512), 0), call(abi.CallWritev, 1, gp(16), 2), call(abi.CallReadv, 0, gp(16), 2))
	seed(call(abi.CallSocketpair, 1, 1, 0, gp(512)), call(abi.CallSendmsg, 0, gp(128), 0), call(abi.CallRecvmsg, 1, gp(128), 0))
	seed(call(abi.CallMkdirat, 3, gp(0), 0o700), call(abi.CallRenameat, 3, gp(0), 3, gp(8)), call(abi.CallUnlinkat, 3, gp(8), 0x200))
	seed(call(abi.CallPoll, gp(512), 4, -1), call(abi.CallNanosleep, gp(600), gp(700)), call(abi.CallGetrandom, gp(0), 1<<20, 0))
	seed(call(abi.CallLinkat, 3, gp(0), 3, gp(8), 0x400), call(abi.CallSymlinkat, gp(0), 3, gp(8)), call(abi.CallReadlinkat, 3, gp(8), gp(64), 50))
	seed(call(abi.CallDup2, 3, 9), call(abi.CallFcntl, 9, 4, oAppend), call(abi.CallGetdents64, 9, gp(0), 4096), call(abi.CallUtimensat, 3, gp(0), gp(64), 0))
	seed(call(abi.CallClone, 0x10f00, 1), call(abi.CallExit, 1), call(abi.CallKill, 7, 9), call(abi.CallIoctl, 3, 0x541b, gp(0)))

	f.Fuzz(func(t *testing.T, input []byte) {
		e := newEnv(t)
		base := t.TempDir()
		if err := os.Mkdir(base+"/root", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(base+"/secret", []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		e.preopen(base + "/root")
		canary := newMemory(t)
		b, _ := canary.Bytes(0, memSize)
		copy(e.bytes(0, 16), "f\x00./g\x00\x00\x00../secret\x00")
		for i, v := range []uint64{e.addr(64), 30, e.addr(200), 40} { // an iovec array
			le.PutUint64(e.bytes(gp(16+i*8), 8), v)
		}
		for i, v := range []uint64{e.addr(16), 2} { // the part of a msghdr at 128 that names it
			le.PutUint64(e.bytes(gp(144+i*8), 8), v)
		}
		e.cancel.fire() // whatever would wait is cancelled
		for len(input) >= 2+6*9 {
			n := abi.Call(le.Uint16(input))
			a := e.args()
			for i := range 6 {
				arg := input[2+9*i:]
				a.Val[i], a.Cage[i] = fuzzArg(e, arg[0], le.Uint64(arg[1:]))
			}
			input = input[2+6*9:]
			if n == abi.CallFallocate {
				a.Val[2], a.Val[3] = a.Val[2]%(1<<20), a.Val[3]%(1<<20) // the host's disk is not what is tested
			}
			if n >= abi.CallRegisterHandler {
				continue // 3i's own, which have errors of their own
			}
			if r := e.sys.Syscall(e.th, n, a); r < 0 && r < -4095 {
				t.Fatalf("%v = %d, which is neither a result nor an errno", n, r)
			}
		}
		for i, c := range b {
			if c != 0 {
				t.Fatalf("byte %d of foreign memory is %#x", i, c)
			}
		}
		if got, err := os.ReadFile(base + "/secret"); err != nil || string(got) != "secret" {
			t.Fatalf("outside the directory: %q, %v", got, err)
		}
		if entries, err := os.ReadDir(base); err != nil || len(entries) != 2 {
			t.Fatalf("outside the directory: %v, %v", entries, err)
		}
	})
}
