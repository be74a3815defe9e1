package lindbridge

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/threei"
)

// TestObserver_HasHeardOfTheZombieBeforeWaitReturns also where it is slow to hear that the stop was stuck, on the thread of
// the deadline, while the exit goes on and ends on another: else the events of two cages with one id would be mixed.
func TestObserver_HasHeardOfTheZombieBeforeWaitReturns(t *testing.T) {
	var zombie atomic.Bool
	hearing, heard := make(chan struct{}), make(chan struct{})
	rt, err := New(Config{Observer: func(e exitcoord.Event) {
		switch {
		case e.Kind == exitcoord.EventStuck:
			close(hearing)
			<-heard
		case e.Kind == exitcoord.EventPhase && e.Phase == exitcoord.Zombie:
			zombie.Store(true)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	entered, back := make(chan struct{}), make(chan struct{})
	rt.sys.SetNative(abi.CallSchedYield, func(*threei.Thread, *threei.Args) int64 {
		close(entered)
		<-back
		return 0
	})
	ctx := t.Context()
	m, err := rt.Load(ctx, []byte(hangWat))
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.Spawn(ctx, Program{Module: m, StopGrace: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	c.Kill()
	<-hearing
	close(back)
	select {
	case <-c.Done():
		t.Error("who waits was let go before the observer had heard of the end")
	case <-time.After(50 * time.Millisecond): // long enough to see it mostly; that it is not seen is no failure
	}
	close(heard)
	if _, err := c.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if !zombie.Load() {
		t.Error("Wait has returned, and the observer has not heard of the zombie")
	}
	if err := rt.Close(ctx); err != nil {
		t.Error(err)
	}
}
