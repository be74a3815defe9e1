package fault

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPoints_HaveDistinctNamesAndSomethingToDo(t *testing.T) {
	seen := map[string]Point{}
	for _, p := range Points() {
		name := p.String()
		if other, twice := seen[name]; name == "" || twice {
			t.Errorf("points %d and %d are both called %q", other, p, name)
		}
		seen[name] = p
		if len(p.Actions()) == 0 {
			t.Errorf("nothing can happen at %v", p)
		}
	}
	if Point(numPoints).String() == "" || Point(numPoints).Actions() != nil || StepMemory.Step() != "memory" || Stop.Step() != "" {
		t.Error("names of points")
	}
}

// at is the point in a build that has points.
func TestAt_HappensToItsCageAsOftenAsPlanned(t *testing.T) {
	a := Arm(Plan{Point: StepTimers, Action: Fail, Cage: 7, Times: 2})
	defer a.Lift()
	if err := at(StepTimers, 8); err != nil {
		t.Errorf("it happened to another cage: %v", err)
	}
	if err := at(StepMemory, 7); err != nil {
		t.Errorf("it happened at another point: %v", err)
	}
	for i := range 3 {
		err := at(StepTimers, 7)
		var injected *Error
		if want := i < 2; errors.As(err, &injected) != want {
			t.Errorf("pass %d: %v", i, err)
		}
	}
	select {
	case <-a.Reached():
	default:
		t.Error("it was not reached")
	}
	if a.Cage() != 7 {
		t.Errorf("it happened to cage %d", a.Cage())
	}
	if a.Hits() != 2 || Hits()["step timers"] < 2 {
		t.Errorf("%d hits, %v in all", a.Hits(), Hits())
	}
}

func TestAt_AnyCage(t *testing.T) {
	a := Arm(Plan{Point: CloseLast, Action: Panic})
	defer a.Lift()
	defer func() {
		if injected, ok := recover().(*Error); !ok || injected.Point != CloseLast {
			t.Errorf("panic with %v", injected)
		}
		if err := at(CloseLast, 1); err != nil {
			t.Errorf("twice: %v", err)
		}
	}()
	_ = at(CloseLast, 12345)
	t.Error("no panic")
}

func TestAt_HangsUntilItIsLiftedAndDelaysForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := Arm(Plan{Point: Quiescent, Action: Hang, Cage: 1})
		delay := Arm(Plan{Point: Quiescent, Action: Delay, Cage: 2, For: time.Second})
		defer delay.Lift()
		ended := make(chan error, 1)
		go func() { ended <- at(Quiescent, 1) }()
		began := time.Now()
		if err := at(Quiescent, 2); err != nil || time.Since(began) != time.Second {
			t.Errorf("delay: %v after %v", err, time.Since(began))
		}
		<-hang.Reached()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("it did not hang")
		default:
		}
		hang.Lift()
		hang.Lift()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestLift_DisarmsWhatWasNotReached(t *testing.T) {
	for range 100 {
		Arm(Plan{Point: Stop, Action: Fail}).Lift()
	}
	if err := at(Stop, 1); err != nil {
		t.Error(err)
	}
	if n := registry.places[Stop].n.Load(); n != 0 {
		t.Errorf("%d armed", n)
	}
}

// Without the tag nothing happens, and nothing is allocated, whatever is armed.
func TestAt_DoesNothingInABuildWithoutPoints(t *testing.T) {
	if Enabled {
		t.Skip("this build has points")
	}
	a := Arm(Plan{Point: Stop, Action: Fail})
	defer a.Lift()
	if n := testing.AllocsPerRun(100, func() {
		if At(Stop, 1) != nil {
			t.Error("it happened")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTell_ReachesWhoeverAudits(t *testing.T) {
	var got []Audit
	SetAudit(func(a Audit) { got = append(got, a) })
	defer SetAudit(nil)
	Tell(Audit{What: Called, Cage: 3})
	if want := map[bool]int{true: 1}[Enabled]; len(got) != want {
		t.Errorf("told %v", got)
	}
}
