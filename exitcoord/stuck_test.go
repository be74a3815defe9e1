package exitcoord_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lindbridge/lindbridge/exitcoord"
)

func TestStuck_IsToldAtTheDeadlineAndGoesOnByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		inside := []exitcoord.ThreadState{{TID: 3, At: "host call fd_read", Function: "read_line", Since: 12 * time.Second}}
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, StopDeadline: time.Second, Observer: events.add, Steps: []exitcoord.Step{okStep("a")},
			Stopper: &domain{threads: func() []exitcoord.ThreadState { return inside }},
		})
		began := time.Now()
		x.Begin(kill)
		if s, ok := x.Stuck(); ok {
			t.Fatalf("stuck before the deadline: %+v", s)
		}
		<-x.StuckC()
		if after := time.Since(began); after != time.Second {
			t.Errorf("told after %v, want the deadline, 1s", after)
		}
		s, ok := x.Stuck()
		if !ok || s.Over || s.After != time.Second || !s.Since.Equal(began.Add(time.Second)) ||
			!slices.Equal(s.Threads, inside) {
			t.Fatalf("stuck: %+v, %v", s, ok)
		}
		if text := x.Report().String(); !strings.Contains(text, "cage 7 is stuck") || !strings.Contains(text, "fd_read") {
			t.Errorf("the report does not say so:\n%s", text)
		}
		time.Sleep(time.Hour) // of the bubble's clock
		if p := x.Phase(); p != exitcoord.Stopping {
			t.Fatalf("a stuck cage is %v, want stopping: nothing may be freed", p)
		}
		if x.Begin(kill) {
			t.Error("a stuck exit took another cause")
		}
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		<-x.Done()
		verify(t, x, &events, 1)
		r := x.Report()
		if r.Stuck == nil || !r.Stuck.Over || r.Stuck.Lasted != time.Hour || r.Stopping != time.Hour+time.Second {
			t.Errorf("stuck %+v in a stop of %v, want 1h of 1h0m1s", r.Stuck, r.Stopping)
		}
		if s.Over {
			t.Error("the Stuck that was told before changed")
		}
		if text := r.String(); !strings.Contains(text, "went on by itself 1h0m0s later") {
			t.Errorf("the report does not say for how long:\n%s", text)
		}
		want := []string{"cause", "stopping", "stuck", "quiescent", "cleaning", "began a", "a ok", "zombie", "reaped"}
		if got := events.kinds(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		select {
		case <-x.StuckC():
		default:
			t.Error("StuckC asked for afterwards is open")
		}
	})
}

func TestStuck_IsNotWhatEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, StopDeadline: time.Second, Observer: events.add,
			Stopper: &domain{threads: func() []exitcoord.ThreadState {
				t.Error("asked for the threads of a stop that ended in time")
				return nil
			}},
		})
		c := x.StuckC()
		x.Begin(kill)
		time.Sleep(time.Second - 1) // of the bubble's clock
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case <-c:
			t.Error("StuckC is closed")
		default:
		}
		verify(t, x, &events, 0)
	})
}

// A deadline of 0 or less is none.
func TestStuck_NeverWithoutADeadline(t *testing.T) {
	for _, deadline := range []time.Duration{0, -time.Second} {
		synctest.Test(t, func(t *testing.T) {
			x := exitcoord.New(exitcoord.Config{Cage: 7, StopDeadline: deadline})
			c := x.StuckC()
			x.Begin(kill)
			time.Sleep(1000 * time.Hour) // of the bubble's clock
			synctest.Wait()
			select {
			case <-c:
				t.Errorf("deadline %v: stuck", deadline)
			default:
			}
			if err := x.Quiescent(nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A Stop that is slow, or never returns though it must not block, hides nothing: the deadline counts from before it.
func TestStuck_IsToldInTimeAlsoIfStopBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		release := make(chan struct{})
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, StopDeadline: time.Second, Observer: events.add,
			Stopper: &domain{stop: func(*domain) error { <-release; return nil }},
		})
		began := time.Now()
		go x.Begin(kill)
		<-x.StuckC()
		if after := time.Since(began); after != time.Second {
			t.Errorf("told after %v, want 1s", after)
		}
		// And who asks again in the meantime does not wait for Stop.
		if x.Begin(kill) {
			t.Error("a second cause won")
		}
		close(release)
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		verify(t, x, &events, 0)
	})
}

// Threads is a call out of the coordinator: the stop may end in the middle of it, and then it was not stuck.
func TestStuck_QuiescentWhileTheThreadsAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events record
		d := &domain{}
		d.threads = func() []exitcoord.ThreadState {
			if err := d.exit.Quiescent(nil); err != nil {
				t.Error(err)
			}
			return []exitcoord.ThreadState{{TID: 1}}
		}
		d.exit = exitcoord.New(exitcoord.Config{
			Cage: 7, Stopper: d, StopDeadline: time.Second, Observer: events.add, Steps: []exitcoord.Step{okStep("a")},
		})
		d.exit.Begin(kill)
		<-d.exit.Done()
		synctest.Wait()
		if s, ok := d.exit.Stuck(); ok {
			t.Errorf("stuck though the stop is over: %+v", s)
		}
		verify(t, d.exit, &events, 1)
	})
}

func TestStuck_SurvivesAStopperThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := exitcoord.New(exitcoord.Config{
			Cage: 7, StopDeadline: time.Second,
			Stopper: &domain{threads: func() []exitcoord.ThreadState { panic("no threads today") }},
		})
		x.Begin(kill)
		<-x.StuckC()
		s, _ := x.Stuck()
		if len(s.Threads) != 1 || !strings.Contains(s.Threads[0].At, "no threads today") {
			t.Errorf("threads %+v, want one entry that says what happened", s.Threads)
		}
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
	})
}

// One exit that is stuck, and the rest do not notice (I9).
func TestStuck_DelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := exitcoord.New(exitcoord.Config{Cage: 7, StopDeadline: time.Second})
		stuck.Begin(kill)
		<-stuck.StuckC()
		began := time.Now()
		for range 100 {
			var events record
			x := exitcoord.New(exitcoord.Config{
				Cage: 8, StopDeadline: time.Second, Observer: events.add, Steps: []exitcoord.Step{okStep("a")},
			})
			end(t, x, &events, 1)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the others took %v", took)
		}
		if err := stuck.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
	})
}
