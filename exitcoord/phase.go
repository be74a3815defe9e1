package exitcoord

import (
	"fmt"
	"strconv"
	"time"
)

// This file holds the phases, the one table of the moves between them, and the one function that moves.

// Phase is how far a cage's exit is. A phase is a fact that others may rely on, not a record of what ran.
//
// Ask a phase what it allows (CanFree) rather than compare its number with another's.
type Phase int32

// The phases, in the order of a cage's life.
const (
	// Running: threads, calls and workers may be admitted.
	Running Phase = iota
	// Stopping: cause and status are fixed (exec: there are none), the gate is closed or about to be, nothing new is
	// admitted and everything inside is being interrupted.
	Stopping
	// Quiescent: no guest code and no host call of the cage runs, and none ever will (exec: until Resume).
	Quiescent
	// Cleaning: the steps run, in order, each once.
	Cleaning
	// Zombie: nothing of the cage is left but id, status and usage, and it is waitable. The one thing that may still
	// run is a step that outlived its deadline.
	Zombie
	// Reaped: the status was taken and the id may be given to another cage.
	Reaped

	numPhases = iota
)

var phaseNames = [numPhases]string{"running", "stopping", "quiescent", "cleaning", "zombie", "reaped"}

// String is the phase's name in lower case, as reports and events have it.
func (p Phase) String() string {
	if p < 0 || p >= numPhases {
		return "phase " + strconv.Itoa(int(p))
	}
	return phaseNames[p]
}

// CanFree reports whether what the cage owns may be given back: true while the steps run and, for a step that outlived
// its deadline, afterwards. Quiescent is not enough: an exec may follow.
func (p Phase) CanFree() bool { return p == Cleaning || p == Zombie || p == Reaped }

// transition is one move that the phase machine makes.
type transition struct {
	from, to Phase
	by       string // what makes the move, as the diagram in doc.go has it
}

// transitions is every move there is. The diagram in doc.go shows the same, and a test compares the two. Immutable.
var transitions = [...]transition{
	{Running, Stopping, "Begin, BeginExec"},
	{Stopping, Quiescent, "Quiescent"},
	{Quiescent, Cleaning, "before the first step"},
	{Quiescent, Running, "Resume"},
	{Cleaning, Zombie, "after the last step"},
	{Zombie, Reaped, "Reap"},
}

// allowed reports whether the table has the move.
func allowed(from, to Phase) bool {
	for i := range transitions {
		if transitions[i].from == from && transitions[i].to == to {
			return true
		}
	}
	return false
}

// advanceLocked is the one mover: it makes the move from -> to and puts its event in the queue. The caller has decided
// under mu that the cage is in from, so that a move which the table lacks, or another phase than from, is a broken
// invariant of this package. It then unlocks mu, since a caller further up may recover and go on, and panics.
//
// Preconditions:
// mu is locked, and not by a deferred unlock.
func (x *Exit) advanceLocked(from, to Phase, at time.Time) {
	x.mu.AssertHeld()
	if now := x.Phase(); now != from || !allowed(from, to) {
		x.mu.Unlock()
		panic(fmt.Sprintf("exitcoord: broken invariant: cage %d: move %v -> %v while it is %v", x.cage, from, to, now))
	}
	x.phase.Store(int32(to))
	x.noteLocked(Event{Kind: EventPhase, Phase: to, At: at})
}
