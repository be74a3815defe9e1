package exitcoord_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lindbridge/lindbridge/exitcoord"
)

func TestResume_MakesTheCageRunAgainWithoutAnyStep(t *testing.T) {
	var events record
	ran, stops := 0, 0
	x := exitcoord.New(exitcoord.Config{
		Cage: 7, Observer: events.add,
		Stopper: &domain{stop: func(*domain) error { stops++; return nil }},
		Steps:   []exitcoord.Step{step("a", func(context.Context) error { ran++; return nil })},
	})
	for turn := range 3 {
		if err := x.BeginExec(); err != nil {
			t.Fatal(err)
		}
		if err := x.BeginExec(); !errors.Is(err, exitcoord.ErrPhase) {
			t.Fatalf("exec in the middle of another: %v, want ErrPhase", err)
		}
		if err := x.Resume(); !errors.Is(err, exitcoord.ErrPhase) {
			t.Fatalf("Resume before Quiescent: %v, want ErrPhase", err)
		}
		if err := x.Quiescent([]exitcoord.ThreadState{{TID: 1}}); err != nil {
			t.Fatal(err)
		}
		if p := x.Phase(); p != exitcoord.Quiescent || ran != 0 {
			t.Fatalf("turn %d: the cage is %v and %d steps ran, want quiescent and none", turn, p, ran)
		}
		if err := x.Resume(); err != nil || x.Phase() != exitcoord.Running {
			t.Fatalf("Resume: %v, the cage is %v, want running", err, x.Phase())
		}
		if stops != turn+1 {
			t.Fatalf("turn %d: %d stops", turn, stops)
		}
	}
	if _, ok := x.Status(); ok {
		t.Error("an exec gave the cage a status")
	}
	x.Begin(kill)
	if err := x.Quiescent(nil); err != nil {
		t.Fatal(err)
	}
	verify(t, x, &events, 1)
	if r := x.Report(); ran != 1 || stops != 4 || len(r.Threads) != 0 {
		t.Errorf("%d steps, %d stops, threads %v: want 1, 4 and none of the execs'", ran, stops, r.Threads)
	}
}

func TestExec_CauseOnTheWayWins(t *testing.T) {
	type exit = *exitcoord.Exit
	quiescent := func(t *testing.T, x exit) {
		t.Helper()
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
	}
	resume := func(t *testing.T, x exit) {
		t.Helper()
		if err := x.Resume(); !errors.Is(err, exitcoord.ErrEnding) {
			t.Fatalf("Resume: %v, want ErrEnding", err)
		}
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, x exit)
		want []string
	}{
		{
			"before Quiescent: its goroutine cleans",
			func(t *testing.T, x exit) {
				x.Begin(kill)
				quiescent(t, x)
				if x.Phase() != exitcoord.Zombie {
					t.Fatalf("after Quiescent the cage is %v", x.Phase())
				}
				resume(t, x)
			},
			[]string{"stopping", "cause", "quiescent", "cleaning", "began a", "a ok", "zombie", "reaped"},
		},
		{
			"before Resume: its goroutine cleans",
			func(t *testing.T, x exit) {
				quiescent(t, x)
				if !x.Begin(kill) || x.Phase() != exitcoord.Quiescent {
					t.Fatalf("the cause lost, or something moved: %v", x.Phase())
				}
				resume(t, x)
			},
			[]string{"stopping", "quiescent", "cause", "cleaning", "began a", "a ok", "zombie", "reaped"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var events record
			stops := 0
			x := exitcoord.New(exitcoord.Config{
				Cage: 7, Observer: events.add, Steps: []exitcoord.Step{okStep("a")},
				Stopper: &domain{stop: func(*domain) error { stops++; return nil }},
			})
			if err := x.BeginExec(); err != nil {
				t.Fatal(err)
			}
			c.run(t, x)
			wait(t, x, "Done", x.Done())
			verify(t, x, &events, 1)
			if got := events.kinds(); !slices.Equal(got, c.want) {
				t.Errorf("events %q, want %q", got, c.want)
			}
			if stops != 1 {
				t.Errorf("%d stops, want one: exec's", stops)
			}
		})
	}
}

func TestExec_StuckIsItsOwnAndForgottenByResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		x := exitcoord.New(exitcoord.Config{Cage: 7, StopDeadline: time.Second, Observer: events.add})
		early := x.StuckC()
		if err := x.BeginExec(); err != nil {
			t.Fatal(err)
		}
		<-early
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		if s, ok := x.Stuck(); !ok || !s.Over {
			t.Fatalf("stuck %+v, %v, want one that is over", s, ok)
		}
		if err := x.Resume(); err != nil {
			t.Fatal(err)
		}
		if s, ok := x.Stuck(); ok {
			t.Fatalf("the cage runs again and is still %+v", s)
		}
		later := x.StuckC()
		x.Begin(kill)
		select {
		case <-later:
			t.Fatal("stuck as the second stop begins")
		default:
		}
		<-later
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		verify(t, x, &events, 0)
	})
}

// A Stop that fails when the cage runs its new image already: the report of the exit to come is not about that.
func TestExec_FailureOfAStopThatIsHistoryIsDropped(t *testing.T) {
	var events record
	stops := 0
	d := &domain{stop: func(d *domain) error {
		if stops++; stops > 1 {
			return nil
		}
		return errors.Join(d.exit.Quiescent(nil), d.exit.Resume(), errors.New("too late to matter"))
	}}
	d.exit = exitcoord.New(exitcoord.Config{Cage: 7, Stopper: d, Observer: events.add})
	if err := d.exit.BeginExec(); err != nil || d.exit.Phase() != exitcoord.Running {
		t.Fatalf("exec: %v, the cage is %v", err, d.exit.Phase())
	}
	end(t, d.exit, &events, 0)
	if err := d.exit.Report().StopErr; err != nil {
		t.Errorf("report: %v", err)
	}
}

// Who waits for StuckC is not to lose it by an exec that was never stuck.
func TestExec_KeepsTheStuckChannelThatNothingHappenedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := exitcoord.New(exitcoord.Config{Cage: 7, StopDeadline: time.Second})
		c := x.StuckC()
		if err := errors.Join(x.BeginExec(), x.Quiescent(nil), x.Resume()); err != nil {
			t.Fatal(err)
		}
		x.Begin(kill)
		<-c
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
	})
}

// A SIGKILL-like kill during exec, at any moment: it is never lost, and the steps run once. Exec and killer start
// together, and the exec, which is never late, loiters a little longer each time: so in many rounds the kill hits every
// place of it.
func TestExec_KillAtAnyMoment_Hammer(t *testing.T) {
	const rounds, sweep = 20_000, 4_000
	victims, killed := make(chan *exitcoord.Exit), make(chan bool)
	go func() {
		defer close(killed)
		for x := range victims {
			killed <- x.Begin(kill)
		}
	}()
	ended := map[bool]int{}
	for round := range rounds {
		var events record
		var ran atomic.Int32
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, Observer: events.add,
			Steps: []exitcoord.Step{step("a", func(context.Context) error { ran.Add(1); return nil })},
		})
		victims <- x
		for range round % sweep {
			_ = x.Phase()
		}
		exec := execOf(t, x)
		if !<-killed {
			t.Fatal("the only cause lost")
		}
		if x.Phase() == exitcoord.Stopping {
			// The kill came before the exec or after it. Nothing is inside, so the end is up to the test.
			if err := x.Quiescent(nil); err != nil {
				t.Fatal(err)
			}
		}
		wait(t, x, "Done", x.Done())
		verify(t, x, &events, 1)
		if n := ran.Load(); n != 1 {
			t.Fatalf("the step ran %d times (I2)", n)
		}
		ended[exec]++
	}
	close(victims)
	<-killed
	t.Logf("%d execs were done before the kill, %d not", ended[true], ended[false])
}

// Two askers and an exec at once: whoever's Begin has returned, first or not, never sees the cage Running again.
func TestExec_EveryAskerStopsTheCage_Hammer(t *testing.T) {
	const rounds, sweep, askers = 10_000, 1_000, 2
	victims, begun := [askers]chan *exitcoord.Exit{}, make(chan exitcoord.Phase)
	for i := range victims {
		victims[i] = make(chan *exitcoord.Exit)
		go func() {
			for x := range victims[i] {
				for range i * 20 { // just behind the other
					_ = x.Phase()
				}
				x.Begin(kill)
				begun <- x.Phase()
			}
		}()
		defer close(victims[i])
	}
	for round := range rounds {
		var events record
		x := exitcoord.New(exitcoord.Config{Cage: 7, Observer: events.add, Steps: []exitcoord.Step{okStep("a")}})
		for i := range victims {
			victims[i] <- x
		}
		for range round % sweep {
			_ = x.Phase()
		}
		execOf(t, x)
		for range victims {
			if p := <-begun; p == exitcoord.Running {
				t.Fatalf("round %d: Begin has returned and the cage is running", round)
			}
		}
		if x.Phase() == exitcoord.Stopping {
			if err := x.Quiescent(nil); err != nil {
				t.Fatal(err)
			}
		}
		wait(t, x, "Done", x.Done())
		verify(t, x, &events, 1)
		if r := x.Report(); r.Lost != askers-1 {
			t.Fatalf("%d causes came too late, want %d", r.Lost, askers-1)
		}
	}
}

// execOf does a whole exec and reports whether the cage ran again.
func execOf(t *testing.T, x *exitcoord.Exit) bool {
	t.Helper()
	switch err := x.BeginExec(); {
	case errors.Is(err, exitcoord.ErrEnding):
		return false
	case err != nil:
		t.Fatalf("BeginExec: %v", err)
	}
	if err := x.Quiescent(nil); err != nil {
		t.Fatalf("Quiescent: %v", err)
	}
	err := x.Resume()
	if err != nil && !errors.Is(err, exitcoord.ErrEnding) {
		t.Fatalf("Resume: %v", err)
	}
	return err == nil
}
