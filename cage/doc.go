// Package cage holds what a runtime knows of its cages as processes: their ids, who is whose parent, how each ended,
// and who waits for whom.
//
// It does not run, stop or clean up anything: whoever ends a cage calls Table.Zombie as the last step. It does not
// know what is in a wait status, which is 32 bits that it hands on (see exitcoord.Status.WaitStatus).
//
// # Who reaps what
//
// Each zombie is reaped once, and by one party, which its parent decides:
//
//   - the host reaps what it spawned, that is what was allocated as a child of abi.CageInit, by Table.Reap, or by a
//     Table.Wait for abi.CageInit
//   - a cage reaps its own children, by Table.Wait
//   - an orphan, whose parent ended first, is given to abi.CageInit but is nobody's to wait for: it is reaped as soon
//     as it is both an orphan and a zombie
//
// # Invariants
//
// The numbers from I6 on are those of the exit protocol, the others are this package's.
//
//   - I6: a zombie can be seen by its parent only after Zombie was called, which the caller does as the last step of
//     the exit; Config.OnChild follows when waits can see it and those that waited were told
//   - I7: an id is given out again only after its cage was reaped and Config.OnReap returned, and each use of an id has
//     a generation of its own, so that a Handle never names another cage
//   - I10: no call costs more than the children and waits of the cages that it names; Reparent, the only one that costs
//     more than a constant, lets others in between
//   - T1: a cage moves from running to zombie to reaped, or from running to discarded, each move once
//   - T2: a zombie or reaped cage has no children
//   - W1: while a wait is blocked, no zombie could satisfy it, and some running child still may
//
// # Waiting
//
// A wait that cannot be answered at once stands in one queue: of the child that it is for, or of its parent if it is
// for any child. Whoever makes it answerable takes it out of the queue and gives it its answer, a zombie included,
// under the same lock under which the wait was queued. So no wake-up can be lost, a zombie cannot go to two waits,
// nobody wakes up to find nothing, and nothing is polled. A wait whose context ends has its answer or leaves the
// queue, never both.
//
// # Goroutines
//
// It starts none. Callbacks run on the goroutine of the call that caused them.
//
// # Locks
//
//	Table.mu
//
// There is one, for the whole tree, held for a constant time and a little for each wait that is answered. One for
// each parent would buy little, since the parent of most cages is the same, and cost an order among them. It is below
// all others: with it held, nothing is called but internal/ids, and nothing is woken. Lookup, Resolve and the methods
// of Cage take no lock.
//
// Callbacks may call any method of the Table, and may take locks which then must not be held around a call of Zombie,
// Reap, Reparent or Wait.
package cage
