// Package exitcoord ends cages: it is the phase machine of one exit, which picks the first cause, has the execution
// stopped, then runs the cleanup steps in order, each once, and says how it went.
//
// It does not know what a step does, what a thread is, or which cages there are. Whoever owns a cage gives it two
// things: a Stopper, which is phase 1, and a list of Steps, which is phase 2. Everything between them is decided here,
// so that there is one way out of a cage and it can be read, and tested, without a cage.
//
// # One exit
//
// A guest calls proc_exit while its other threads run. Its own thread, inside the host call, calls Begin. One
// compare-and-swap makes its cause the cause of the exit: the status is fixed. The cage becomes Stopping, and Begin
// calls Stopper.Stop, which closes the gate and interrupts what is inside, and returns. Begin returns: the thread goes
// back and leaves by itself. Nothing waits for anything yet.
//
// The last thread to leave calls Quiescent. No guest code of the cage runs any more, so that thread, on its way out,
// runs the steps: descriptors, timers, children, memory. A step that fails or panics is written down and the next one
// runs. After the last the cage is a Zombie, and Done is closed. The parent takes the status and calls Reap.
//
// If a thread does not leave, since a host call never returns, the deadline passes: the exit is Stuck. That is told and
// nothing else happens. When the thread leaves after all it calls Quiescent, and the exit goes on.
//
// # Phases
//
// What each guarantees is said at its constant. These are all the moves there are; each is made by advanceLocked, which
// refuses any other.
//
//	Running   -- Begin, BeginExec -------> Stopping
//	Stopping  -- Quiescent --------------> Quiescent
//	Quiescent -- before the first step --> Cleaning
//	Quiescent -- Resume -----------------> Running
//	Cleaning  -- after the last step ----> Zombie
//	Zombie    -- Reap -------------------> Reaped
//
// Resume is for exec alone, which stops all threads of a cage to go on with another image. It begins with BeginExec
// instead of Begin, without a cause. A cause that comes before Resume wins, and then Resume has no way back to give.
//
// # Invariants
//
// Those of the exit protocol, and who keeps them.
//
//	I1   No step starts before Quiescent.                  Here: steps run in cleanUp alone, which starts with the move
//	                                                       Quiescent -> Cleaning.
//	I2   Each step runs exactly once, whatever the         Here: one call makes that move, and walks the list once; each
//	     others do.                                        step runs under recover.
//	I3   After Stopping nothing new is admitted.           The Stopper's gate.
//	I4   Callers of a stopping grate get an error.         The Stopper, and threei.
//	I5   The first cause wins and is never replaced.       Here: Exit.first, set by one compare-and-swap.
//	I6   Zombie is visible only after the last step.       Here: the move to Zombie, then Done, are the last statements.
//	I7   An id is not reused before Reaped.                Here: Reap succeeds once, on a Zombie. The rest is cage's.
//	I8   Who asks for an exit never waits for it.          Here: nothing that Begin does waits. And Stop must not.
//	I9   A stuck cage delays no other.                     Here: two exits share nothing, no lock, goroutine or list.
//	I10  Work is proportional to what the cage owns.       Here: an exit costs its steps. What they cost is theirs.
//
// # Locks
//
// Each Exit has one, mu, and it is a leaf, save that a Watch takes its own below it:
//
//	whatever the caller holds
//	  Exit.mu
//	    Watch.mu
//
// Nothing is called while mu is held: not the Stopper, no step, not the Observer, no other Exit. It is held for some
// assignments at a time, so that every method that does not say otherwise may be called anywhere: inside Stop, inside a
// step of this exit or of another, inside the Observer. Two cages that kill each other, each in a step of its own exit,
// take no lock of one while they hold the other's. What a caller holds when it calls Begin or Quiescent is its own
// danger, since Stop and the steps then run under it: hold nothing.
//
// Three things are read without mu. The phase and the count of late causes are atomic. The cause is an atomic pointer,
// nil and then one value for good: the compare-and-swap that sets it is the only point where rivals meet, and those who
// lose it touch no lock, save in the two cases that follow. The winner then takes mu and makes the move to Stopping.
// Between the two the cause is there while the phase is still Running; a loser that sees this makes the move for the
// winner, so that for every caller of Begin the cage is Stopping or further when Begin returns. A loser that sees
// Quiescent cannot tell an exit from an exec: Resume may have looked for a cause just before there was one, and be about
// to make the cage Running. So it takes mu as well, after which the move to Running is either made, and the loser makes
// that to Stopping, or will not be made, since Resume finds the cause.
//
// # Goroutines
//
// An exit has none of its own. Its code runs on the goroutines of those who call Begin, Quiescent and Resume, with these
// exceptions:
//
//   - that of the timer of StopDeadline, only if it fires: it asks where the threads are, and ends. Quiescent stops the
//     timer. With a Watch, one for each deadline that has passed.
//   - one for each step with a deadline, which ends when the step does. If that is after the deadline nobody waits for
//     it; WaitLate can.
//
// # Why not otherwise
//
// A goroutine for each exit, which joins the threads and then cleans up, is the obvious design. It costs a goroutine and
// two wake-ups an exit, and a wait that somebody must bound; the thread that left last is awake already.
//
// Freeing after a timeout, because surely nothing runs any more, is the bug that this project is about.
//
// One atomic word for phase and cause makes every move a compare-and-swap. But moves also make events, and the events
// must be in the order of the moves: that takes a lock anyhow, and under it plain code is enough.
//
// Calling the Observer under mu gives that order for free, and a deadlock to the first Observer that asks for the
// report. A channel to a goroutine that tells gives the order too, but tells when the exit is long over. So events go
// through a queue, told by whoever finds nobody telling: see eventQueue.
//
// Setting the deadline's timer after Stop, when most exits are over or nearly so, would save what it costs, and lose the
// report of a Stop that takes longer than it may: just when one wants to know. That is a quarter of a microsecond in a
// process that is busy, and in one that is not some microseconds and a thread that is woken for nothing: hence Watch.
//
// An exec as a cause of its own, to be taken back by Resume, would make the cause something that changes. As it is, an
// exec has none, and the first cause is the first whether an exec was on its way or not.
package exitcoord
