package exitcoord_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// Each of many stops with deadlines in any order is stuck at its own, to the nanosecond, and those that end before theirs
// are not.
func TestWatch_TellsEachStopAtItsOwnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		w := exitcoord.NewWatch()
		defer w.Close()
		var all sync.WaitGroup
		for i := range 300 {
			start, deadline := time.Duration(r.IntN(2000))*time.Millisecond, time.Duration(1+r.IntN(3000))*time.Millisecond
			lasts := time.Duration(r.IntN(3000))*time.Millisecond + time.Microsecond // never just as long
			all.Go(func() {
				time.Sleep(start) // of the bubble's clock
				x := exitcoord.New(exitcoord.Config{Cage: abi.CageID(i + 2), StopDeadline: deadline, Watch: w})
				began := time.Now()
				x.Begin(kill)
				time.Sleep(lasts)
				s, stuck := x.Stuck()
				if stuck != (lasts > deadline) || stuck && !s.Since.Equal(began.Add(deadline)) {
					t.Errorf("deadline %v, after %v: stuck %v, %+v", deadline, lasts, stuck, s)
				}
				if err := x.Quiescent(nil); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Hour)
				if s, again := x.Stuck(); again != stuck || again && !s.Over {
					t.Errorf("afterwards: stuck %v, %+v", again, s)
				}
			})
		}
		all.Wait()
	})
}

// A stop that asks for its threads for ever keeps no other from being told (I9).
func TestWatch_OneThatHangsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exitcoord.NewWatch()
		defer w.Close()
		release := make(chan struct{})
		hangs := &domain{threads: func() []exitcoord.ThreadState { <-release; return nil }}
		first := exitcoord.New(exitcoord.Config{Cage: 2, StopDeadline: time.Second, Watch: w, Stopper: hangs})
		second := exitcoord.New(exitcoord.Config{Cage: 3, StopDeadline: time.Second, Watch: w})
		began := time.Now()
		first.Begin(kill)
		second.Begin(kill)
		<-second.StuckC()
		if took := time.Since(began); took != time.Second {
			t.Errorf("told after %v", took)
		}
		close(release)
		<-first.StuckC()
		for _, x := range []*exitcoord.Exit{first, second} {
			if err := x.Quiescent(nil); err != nil {
				t.Error(err)
			}
		}
	})
}

// A Watch that was closed tells nobody, and one stop after another, with threads that begin and end them at once, is safe.
func TestWatch_ClosedTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exitcoord.NewWatch()
		x := exitcoord.New(exitcoord.Config{Cage: 2, StopDeadline: time.Second, Watch: w})
		x.Begin(kill)
		w.Close()
		time.Sleep(time.Hour) // of the bubble's clock
		synctest.Wait()
		if _, stuck := x.Stuck(); stuck {
			t.Error("stuck")
		}
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHammer_WatchOfManyExits(t *testing.T) {
	w := exitcoord.NewWatch()
	defer w.Close()
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 500 {
				deadline := time.Minute
				if i%10 == 0 {
					deadline = time.Nanosecond // passes at once, more or less
				}
				x := exitcoord.New(exitcoord.Config{Cage: abi.CageID(2 + g), StopDeadline: deadline, Watch: w})
				x.Begin(kill)
				if i%10 == 0 {
					<-x.StuckC()
				}
				if err := x.Quiescent(nil); err != nil {
					t.Error(err)
				}
				<-x.Done()
				if _, stuck := x.Stuck(); stuck != (i%10 == 0) {
					t.Errorf("exit %d: stuck %v", i, stuck)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkBegin_Idle is the begin of a stop in a process that has nothing else to do, where the runtime wakes a thread for
// a timer that is set.
func BenchmarkBegin_Idle(b *testing.B) {
	for _, w := range []*exitcoord.Watch{nil, exitcoord.NewWatch()} {
		b.Run(fmt.Sprintf("watch=%v", w != nil), func(b *testing.B) {
			var spent time.Duration
			for b.Loop() {
				x := exitcoord.New(exitcoord.Config{Cage: 7, Stopper: leftDomain{}, StopDeadline: time.Second, Watch: w})
				<-time.After(time.Millisecond)
				begin := time.Now()
				x.Begin(exitSeven)
				spent += time.Since(begin)
				if err := x.Quiescent(nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "begin-ns")
			b.ReportMetric(0, "ns/op")
		})
	}
}
