package lindabi

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// Module is the module name that programs import from.
const Module = "lind"

// The functions, by the ID of their Import. They begin where those of other personalities have ended.
const (
	// FirstID is the lowest ID.
	FirstID      = MakeSyscall
	MakeSyscall  = 4096
	GetMemory    = 4097
	GetCageID    = 4098
	idAfterwards = 4099
)

// Import is a function that programs may import. Its fields are those of bridge.Import.
type Import struct {
	Module, Name string
	// Params and Results are the core WebAssembly types: 'i' for i32, 'I' for i64.
	Params, Results string
	// ID is the function's number for Call.
	ID uint32
}

// Imports are the functions that the package serves.
func Imports() []Import {
	return []Import{
		{Module, "make-syscall", "iIIIIIIIIIIIIIII", "i", MakeSyscall},
		{Module, "lind-get-memory-base", "", "I", GetMemory},
		{Module, "lind-get-cage-id", "", "I", GetCageID},
	}
}

// Serves reports whether fn is one of the package's.
func Serves(fn uint32) bool { return fn >= FirstID && fn < idAfterwards }

// Args are the arguments of a host call, each the first of two words: bridge.Call.Slots. Of an i32 only the low half
// counts. make-syscall has the call, a name, self, target, and six words with the cage of each.
type Args = [16][2]uint64

// Call carries out the function fn, which Serves, for the thread t and answers its result. It blocks for as long as
// the system call that it makes does.
//
// make-syscall answers what the call does, cut to 32 bits. A call in the name of another cage is -EPERM.
//
// Preconditions:
// The caller is the OS thread that owns t, and t.Memory is the cage's linear memory as it is now. As many of args are
// there as fn has parameters.
func Call(sys *threei.System, t *threei.Thread, fn uint32, args *Args) uint64 {
	switch fn {
	case GetMemory:
		return uint64(t.Memory.Base())
	case GetCageID:
		return uint64(t.Cage)
	}
	call, self, target := abi.Call(uint32(args[0][0])), abi.CageID(args[2][0]), abi.CageID(args[3][0])
	if self != t.Cage {
		return result(abi.EPERM.Result())
	}
	a := t.CallArgs()
	a.Val[0], a.Cage[0] = args[4][0], abi.CageID(args[5][0])
	a.Val[1], a.Cage[1] = args[6][0], abi.CageID(args[7][0])
	a.Val[2], a.Cage[2] = args[8][0], abi.CageID(args[9][0])
	a.Val[3], a.Cage[3] = args[10][0], abi.CageID(args[11][0])
	a.Val[4], a.Cage[4] = args[12][0], abi.CageID(args[13][0])
	a.Val[5], a.Cage[5] = args[14][0], abi.CageID(args[15][0])
	if target == t.Cage {
		return result(sys.SyscallNative(t, call, a)) // the shim has looked who serves it
	}
	return result(sys.SyscallOn(t, target, call, a))
}

// result is what a guest gets of a call's result: its low half.
func result(r int64) uint64 { return uint64(uint32(r)) }
