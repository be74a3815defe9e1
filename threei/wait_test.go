package threei_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/threei"
)

func TestPark_OnlyWhereTheHostCallCanBeMadeAgain(t *testing.T) {
	var th threei.Thread
	if th.Park(nil, time.Time{}) {
		t.Error("a thread was parked outside a host call")
	}
	th.BeginHostCall(false, true)
	if th.Park(nil, time.Time{}) {
		t.Error("a thread was parked though the shim had refused")
	}
	th.BeginHostCall(true, false)
	if th.Park(make([]threei.WaitFD, threei.MaxWait+1), time.Time{}) {
		t.Error("a thread was parked for more descriptors than there is room for")
	}
	if _, _, parked := th.Parked(); parked {
		t.Error("a refused wait is a wait")
	}
	want := []threei.WaitFD{{FD: 3, Events: 1}, {FD: -1}}
	if !th.Park(want, time.Time{}) {
		t.Fatal("a thread was not parked")
	}
	if fds, timeout, parked := th.Parked(); !parked || timeout != -1 || !slices.Equal(fds, want) {
		t.Errorf("parked for %v, %v, %v", fds, timeout, parked)
	}
	th.BeginHostCall(true, true)
	if _, _, parked := th.Parked(); parked {
		t.Error("a wait outlived its host call")
	}
}

// A relative time is counted from the first attempt: a call that is made again does not begin to wait anew.
func TestDeadline_StaysWhenTheCallIsMadeAgain(t *testing.T) {
	var th threei.Thread
	th.BeginHostCall(true, false)
	first := th.Deadline(time.Hour)
	if !th.Park(nil, first) {
		t.Fatal("a thread was not parked")
	}
	if _, timeout, _ := th.Parked(); timeout <= 59*time.Minute || timeout > time.Hour {
		t.Errorf("it waits for %v", timeout)
	}
	th.BeginHostCall(true, true)
	if again := th.Deadline(time.Hour); !again.Equal(first) {
		t.Errorf("the second attempt ends at %v, the first at %v", again, first)
	}
	if later := th.Deadline(2 * time.Hour); !later.After(first) {
		t.Errorf("a second wait of the same call ends at %v", later)
	}
	th.BeginHostCall(true, false)
	if next := th.Deadline(2 * time.Hour); !next.After(first) {
		t.Errorf("the next call ends at %v", next)
	}
	if never := th.Deadline(math.MaxInt64); !never.IsZero() {
		t.Errorf("never is %v", never)
	}
	th.Park(nil, time.Now().Add(-time.Second))
	if _, timeout, parked := th.Parked(); !parked || timeout != 0 {
		t.Errorf("a time that has passed is %v, %v", timeout, parked)
	}
}
