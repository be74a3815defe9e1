// Package fault has named points at which the host's own code can be made to fail: the steps of an exit, the close
// handlers of descriptors, the callbacks of the shim, and what Spawn needs. It is for tests and for the soak.
//
// The points exist in builds with the tag faults only (Enabled). In others At is a constant that the compiler removes,
// with the call: a failure point costs nothing where nobody asked for it, on the path of every host call too, and nobody
// can turn one on in a program that is in use.
//
// What happens at a point is armed by name, for one cage or for any, once or several times:
//
//	armed := fault.Arm(fault.Plan{Point: fault.StepMemory, Action: fault.Panic, Cage: 7})
//	defer armed.Lift()
//
// An injected failure is an *Error, also as the value of a panic, so that it is told from every other.
//
// # What failing means
//
// A point that begins a piece of cleanup (Point.Cleanup) fails beside the work, not in the place of it: the code there
// does the work in a deferred call, so that it is done whether the point returns, fails, panics or hangs for a while. What
// the tests learn is that nothing else depends on the good end of that piece. At the other points the failure is in the
// place of the work: Spawn gives back what was made before, a thread is not started, a callback's caller goes on.
package fault
