package exitcoord

import (
	"testing"
	"time"
)

// The timer is what costs: of stops that come one after the other, none but the first sets it.
func TestWatch_SetsItsTimerOnceForStopsOfOneKind(t *testing.T) {
	w := NewWatch()
	defer w.Close()
	var armed time.Time
	for i := range 100 {
		x := New(Config{Cage: 7, StopDeadline: time.Hour, Watch: w})
		x.Begin(Cause{Kind: HostKill, Signal: 9})
		if i == 0 {
			armed = w.armed
		}
		if len(w.due) != 1 || w.armed.IsZero() || !w.armed.Equal(armed) {
			t.Fatalf("stop %d: %d deadlines, timer set for %v, want %v", i, len(w.due), w.armed, armed)
		}
		if err := x.Quiescent(nil); err != nil {
			t.Fatal(err)
		}
		if len(w.due) != 0 {
			t.Fatalf("%d deadlines are left", len(w.due))
		}
	}
	sooner := New(Config{Cage: 8, StopDeadline: time.Minute, Watch: w})
	sooner.Begin(Cause{Kind: HostKill, Signal: 9})
	if !w.armed.Before(armed) {
		t.Error("the timer was not set for the earlier deadline")
	}
	if err := sooner.Quiescent(nil); err != nil {
		t.Fatal(err)
	}
}
