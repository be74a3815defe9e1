package exitcoord_test

import (
	"context"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// emptyDomain is a domain with nothing inside: Stop calls Quiescent before it returns.
type emptyDomain struct{ exit *exitcoord.Exit }

func (d *emptyDomain) Stop() error                      { return d.exit.Quiescent(nil) }
func (d *emptyDomain) Threads() []exitcoord.ThreadState { return nil }

// leftDomain is a domain that something is inside of when Stop returns; the benchmark calls Quiescent.
type leftDomain struct{}

func (leftDomain) Stop() error                      { return nil }
func (leftDomain) Threads() []exitcoord.ThreadState { return nil }

// sevenSteps are as many as a cage has, and do nothing: what is measured is exitcoord alone.
func sevenSteps() []exitcoord.Step {
	var steps []exitcoord.Step
	for _, name := range []string{"notify", "handlers", "descriptors", "timers", "children", "memory", "parent"} {
		steps = append(steps, exitcoord.Step{Name: name, Run: func(context.Context) error { return nil }})
	}
	return steps
}

var exitSeven = exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 7, TID: 1}

// BenchmarkExit is a whole exit, from New to Reap, with seven trusted steps.
func BenchmarkExit(b *testing.B) {
	steps := sevenSteps()
	whole := func(b *testing.B, observer func(exitcoord.Event)) {
		b.ReportAllocs()
		for b.Loop() {
			d := &emptyDomain{}
			d.exit = exitcoord.New(exitcoord.Config{
				Cage: 7, Stopper: d, Steps: steps, StopDeadline: time.Minute, Observer: observer,
			})
			if !d.exit.Begin(exitSeven) {
				b.Fatal("Begin lost without a rival")
			}
			<-d.exit.Done()
			if err := d.exit.Reap(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("nothing inside", func(b *testing.B) { whole(b, nil) })
	b.Run("observed", func(b *testing.B) { whole(b, func(exitcoord.Event) {}) })
	b.Run("quiescent later", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x := exitcoord.New(exitcoord.Config{Cage: 7, Stopper: leftDomain{}, Steps: steps, StopDeadline: time.Minute})
			x.Begin(exitSeven)
			if err := x.Quiescent(nil); err != nil {
				b.Fatal(err)
			}
			<-x.Done()
			if err := x.Reap(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("no deadline", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x := exitcoord.New(exitcoord.Config{Cage: 7, Stopper: leftDomain{}, Steps: steps})
			x.Begin(exitSeven)
			if err := x.Quiescent(nil); err != nil {
				b.Fatal(err)
			}
			<-x.Done()
			if err := x.Reap(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("a step with a deadline", func(b *testing.B) {
		b.ReportAllocs()
		steps := append(sevenSteps(), exitcoord.Step{
			Name: "grates", Run: func(context.Context) error { return nil }, Deadline: time.Minute,
		})
		for b.Loop() {
			d := &emptyDomain{}
			d.exit = exitcoord.New(exitcoord.Config{Cage: 7, Stopper: d, Steps: steps})
			d.exit.Begin(exitSeven)
			<-d.exit.Done()
		}
	})
}

// BenchmarkExit_Waited has another goroutine wait for the exit, which wakes it.
func BenchmarkExit_Waited(b *testing.B) {
	steps := sevenSteps()
	waiting, waited := make(chan *exitcoord.Exit), make(chan struct{})
	go func() {
		for x := range waiting {
			<-x.Done()
			waited <- struct{}{}
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		d := &emptyDomain{}
		d.exit = exitcoord.New(exitcoord.Config{Cage: 7, Stopper: d, Steps: steps, StopDeadline: time.Minute})
		waiting <- d.exit
		d.exit.Begin(exitSeven)
		<-waited
	}
	close(waiting)
}

// BenchmarkBegin_Late is a cause that comes when another has won.
func BenchmarkBegin_Late(b *testing.B) {
	x := exitcoord.New(exitcoord.Config{Cage: 7, Stopper: leftDomain{}})
	x.Begin(exitSeven)
	b.ReportAllocs()
	for b.Loop() {
		if x.Begin(exitSeven) {
			b.Fatal("a second cause won")
		}
	}
}

// BenchmarkReport makes and writes the report of an exit of seven steps and eight threads.
func BenchmarkReport(b *testing.B) {
	x := exitcoord.New(exitcoord.Config{Cage: abi.CageID(7), Stopper: leftDomain{}, Steps: sevenSteps()})
	x.Begin(exitSeven)
	threads := make([]exitcoord.ThreadState, 8)
	for i := range threads {
		threads[i] = exitcoord.ThreadState{TID: int32(i + 1), At: "guest", Function: "main", Left: time.Millisecond}
	}
	if err := x.Quiescent(threads); err != nil {
		b.Fatal(err)
	}
	b.Run("make", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = x.Report()
		}
	})
	b.Run("text", func(b *testing.B) {
		for b.Loop() {
			_ = x.Report().String()
		}
	})
	b.Run("json", func(b *testing.B) {
		for b.Loop() {
			if _, err := x.Report().MarshalJSON(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
