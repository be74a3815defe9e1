// Package soak runs random programs, grates and stacks of them for as long as it is told, ends them in every way and at any
// moment, and checks that the exit protocol holds: from the events of each exit as they come, from its report, and at rest.
//
// # What is checked
//
// The Checker is told each event of each exit, and objects to a stream that the invariants of the exit protocol forbid.
// It starts nothing and knows of no runtime, so that its tests can feed it streams which break each of them. What events
// cannot tell comes from elsewhere:
//
//   - I3 and the half of I1 that is about guests come from audits (package fault), in builds with the tag faults
//   - I4 comes from guests, which exit with a code of their own when a call that a grate guards comes to native, and must
//     end by themselves when their grate does
//   - I7 is asked of the owner of each id
//   - I8 is that everything ends within Config.Patience
//   - I10 compares what an exit's cleanup costs among few cages with what it costs among all
//
// At rest, when all cages have ended, the process must hold what it held after the warm-up and no more: OS threads,
// goroutines, descriptors, mappings, resident memory; and the runtime nothing: ids, handler rows, domains, open files.
//
// # What a seed determines
//
// Each worker has a sequence of plans, and PlanOf(seed, worker, index) is all there is to a plan: which program, which end,
// which fault, after how long. The same seed always gives the same plans to the same workers. It does not determine when
// threads are scheduled, so neither how far a guest has come when its end does, nor which cages live at the same time,
// which id a cage gets, which resident is there to be ended, or whether a fault's point is passed before the cage is gone.
// With Config.Replay the workers begin their plans of the same index together, which brings back what a failure needs if it
// needs plans that overlap.
package soak
