package wasip1

import (
	"github.com/lindbridge/lindbridge/threei"
)

// Verdict says how a guest thread goes on after a host call. The values are those of bridge.Verdict.
type Verdict int32

// The verdicts of a host call.
const (
	// Continue goes on in the guest with the call's result.
	Continue Verdict = 0
	// QuitThread ends the guest thread quietly.
	QuitThread Verdict = 1
	// TrapThread traps the guest thread: the host call failed.
	TrapThread Verdict = 2
)

// Args are the argument words of a host call; *bridge.Call is one. An i32 is in the low half of its word, the other
// half may be anything.
type Args interface {
	// Arg is argument i, counted from 0.
	//
	// Preconditions:
	// i is less than the number of the function's parameters.
	Arg(i uint) uint64
}

// WASI carries out the functions of WASI preview 1 and wasi-threads for all cages of a runtime. It has no state
// of its own: its methods are safe for concurrent use.
type WASI struct {
	sys *threei.System // immutable
}

// New is a WASI whose functions make their system calls through sys.
func New(sys *threei.System) *WASI { return &WASI{sys: sys} }

// Call carries out the function fn (an Import's ID) for the thread t of a cage whose arguments, environment and
// preopens are env, and answers the function's result and how the thread goes on. A function without a result
// answers 0.
//
// It blocks for as long as the system calls behind the function do, which is until soon after t.Cancel fires.
// It takes back all of t's scratch memory.
//
// Preconditions:
// The caller is the OS thread that owns t.
// t.Memory is the cage's linear memory as it is now.
// args has the parameters of fn's Import.
func (w *WASI) Call(t *threei.Thread, env *Env, fn uint32, args Args) (uint64, Verdict) {
	if fn >= uint32(len(functions)) {
		return uint64(ErrnoNosys), TrapThread
	}
	c := call{w: w, t: t, env: env, args: args, sysArgs: newArgs(t)}
	result, verdict := uint64(0), Continue
	if f := &functions[fn]; f.serve != nil {
		result = uint64(f.serve(c))
	} else {
		result, verdict = f.serveRaw(c)
	}
	t.ScratchReset()
	return result, verdict
}
