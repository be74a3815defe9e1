package exitcoord

import (
	"errors"
	"testing"
)

// countingStopper counts its stops.
type countingStopper struct{ stops int }

func (s *countingStopper) Stop() error            { s.stops++; return nil }
func (s *countingStopper) Threads() []ThreadState { return nil }

// A loser that comes between the winner's claim and its move makes the move, and leaves Stop to the winner.
func TestBegin_LoserMakesTheMoveOfAWinnerThatIsSlow(t *testing.T) {
	var s countingStopper
	x := New(Config{Cage: 7, Stopper: &s})
	if !x.claim(Cause{Kind: Trap}) {
		t.Fatal("the first cause lost")
	}
	if _, ok := x.Status(); !ok || x.Phase() != Running {
		t.Fatalf("after the claim: status %v, phase %v, want one, and running still", ok, x.Phase())
	}
	if x.Begin(Cause{Kind: HostKill}) {
		t.Fatal("the second cause won")
	}
	if x.Phase() != Stopping || s.stops != 0 {
		t.Fatalf("after the loser: phase %v, %d stops, want stopping and none", x.Phase(), s.stops)
	}
	x.enterStopping(true) // the winner goes on
	if x.Phase() != Stopping || s.stops != 1 {
		t.Errorf("after the winner: phase %v, %d stops, want stopping and one", x.Phase(), s.stops)
	}
}

// The same with an exec in the place of the loser: whose stop it is decides who calls Stop.
func TestBegin_ExecThatComesBetweenClaimAndMoveIsRefused(t *testing.T) {
	var s countingStopper
	x := New(Config{Cage: 7, Stopper: &s})
	x.claim(Cause{Kind: Trap})
	if err := x.BeginExec(); err == nil || x.Phase() != Running || s.stops != 0 {
		t.Fatalf("exec: %v, phase %v, %d stops, want an error and no effect", err, x.Phase(), s.stops)
	}
	x.enterStopping(true)
	if x.Phase() != Stopping || s.stops != 1 {
		t.Errorf("phase %v, %d stops, want stopping and one", x.Phase(), s.stops)
	}
}

// Resume has found no cause, and not moved yet. One asker claims, and is slow. A second loses, and was promised that the
// cage is Stopping or further when its Begin returns: neither Resume nor the winner will see to that in time.
func TestResume_DoesNotTakeBackWhatALoserWasPromised(t *testing.T) {
	var s countingStopper
	x := New(Config{Cage: 7, Stopper: &s})
	if err := errors.Join(x.BeginExec(), x.Quiescent(nil)); err != nil {
		t.Fatal(err)
	}
	x.mu.Lock()
	if !x.exec || x.announceLocked() {
		t.Fatal("there is nothing to resume")
	}
	if !x.claim(Cause{Kind: Trap}) {
		t.Fatal("the first cause lost")
	}
	// Begin of the loser, as far as it comes without mu.
	returned := make(chan Phase, 1)
	if x.mayRun() {
		go func() {
			x.enterStopping(false)
			returned <- x.Phase()
		}()
	} else {
		returned <- Stopping // as it was told
	}
	x.runAgainLocked()
	x.mu.Unlock()
	if told, now := <-returned, x.Phase(); told != Stopping || now != Stopping {
		t.Fatalf("Begin has returned, the cage was %v then and is %v now, want stopping", told, now)
	}
	x.enterStopping(true)
	if x.Phase() != Stopping || s.stops != 2 {
		t.Errorf("phase %v, %d stops, want stopping and two: exec's and the winner's", x.Phase(), s.stops)
	}
	if err := x.Resume(); !errors.Is(err, ErrEnding) {
		t.Errorf("Resume: %v, want ErrEnding", err)
	}
}
