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

// Args are the argument words of a host call; *bridge.Call is one.
type Args interface {
	// Arg is argument i, counted from 0. Of an i32 only the low half counts.
	Arg(i uint) uint64
	// Pairs copies six pairs of arguments, beginning with argument first: each a word and the cage that it belongs to.
	Pairs(first uint, words *[6]uint64, cages *[6]abi.CageID)
}

// Where make-syscall has its arguments: call, name, self, target, and six words with the cage of each.
const (
	argCall   = 0
	argSelf   = 2
	argTarget = 3
	argFirst  = 4
)

// Call carries out the function fn, which Serves, for the thread t and answers its result. It blocks for as long as
// the system call that it makes does.
//
// make-syscall answers what the call does, cut to 32 bits. A call in the name of another cage is -EPERM.
//
// Preconditions:
// The caller is the OS thread that owns t, and t.Memory is the cage's linear memory as it is now.
func Call(sys *threei.System, t *threei.Thread, fn uint32, args Args) uint64 {
	switch fn {
	case GetMemory:
		return uint64(t.Memory.Base())
	case GetCageID:
		return uint64(t.Cage)
	}
	if abi.CageID(args.Arg(argSelf)) != t.Cage {
		return result(abi.EPERM.Result())
	}
	a := t.CallArgs()
	args.Pairs(argFirst, &a.Val, &a.Cage)
	call, target := abi.Call(uint32(args.Arg(argCall))), abi.CageID(args.Arg(argTarget))
	if target == t.Cage {
		return result(sys.SyscallNative(t, call, a)) // the shim has looked who serves it
	}
	return result(sys.SyscallOn(t, target, call, a))
}

// result is what a guest gets of a call's result: its low half.
func result(r int64) uint64 { return uint64(uint32(r)) }
