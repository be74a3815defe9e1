package bridge_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

func TestPanic_InHostCallTrapsTheThreadAndIsReported(t *testing.T) {
	type report struct {
		value any
		stack string
		user  any
	}
	reports := make(chan report, 16)
	h := newHost(panickingCall)
	h.onPanic = func(value any, stack []byte, user any) { reports <- report{value, string(stack), user} }
	e := openFake(t, h)
	for _, imp := range []string{"1", "2", "3"} {
		d := start(t, e, "main:", "call "+imp+" 9", "thread:", "block")
		end := h.end(t)
		equal(t, "outcome", end.Outcome, bridge.EndTrapped)
		r := receive(t, reports, "a panic")
		equal(t, "user", r.user, any(t.Name()))
		contains(t, r.stack, "panickingCall")
		// The domain is none the worse for it.
		_, err := d.SpawnThread(0)
		must(t, err)
		finish(t, h, d)
		switch imp {
		case "1":
			equal(t, "value", r.value, any("first"))
		case "2":
			if err, ok := r.value.(error); !ok || err.Error() != "runtime error: integer divide by zero" {
				t.Errorf("value is %v", r.value)
			}
		case "3":
			if r.value == nil {
				t.Error("panic(nil) has no value")
			}
		}
	}
	equal(t, "further panics", len(reports), 0)
}

func panickingCall(c *bridge.Call) bridge.Verdict {
	switch c.Import() {
	case 1:
		panic("first")
	case 2:
		zero := int(c.TID()) - 1
		return bridge.Verdict(1 / zero)
	}
	panic(nil)
}

func TestPanic_OfOnPanicIsSwallowed(t *testing.T) {
	h := newHost(panickingCall)
	var told atomic.Int32
	h.onPanic = func(any, []byte, any) {
		told.Add(1)
		panic(errors.New("again"))
	}
	e := openFake(t, h)
	d := start(t, e, "main:", "call 1 1")
	equal(t, "outcome", h.end(t).Outcome, bridge.EndTrapped)
	finish(t, h, d)
	equal(t, "reports", told.Load(), 1)
}

func TestPanic_WithoutOnPanicStillTraps(t *testing.T) {
	h := newHost(panickingCall)
	e := openFake(t, h)
	d := start(t, e, "main:", "call 1 1")
	equal(t, "outcome", h.end(t).Outcome, bridge.EndTrapped)
	finish(t, h, d)
}

func TestPanic_InThreadEndAndQuiescentChangesNothing(t *testing.T) {
	values := make(chan any, 16)
	h := newHost(func(c *bridge.Call) bridge.Verdict {
		c.SetThreadData(t)
		return bridge.Continue
	})
	h.onPanic = func(value any, _ []byte, _ any) { values <- value }
	h.onEnd = func(*bridge.ThreadEnd) { panic("in ThreadEnd") }
	h.onQuiet = func(r *bridge.Report) {
		defer func() { h.quiescent <- r }()
		panic("in Quiescent")
	}
	e := openFake(t, h)
	d := start(t, e, "main:", "call 1 1")
	h.end(t)
	equal(t, "panic", receive(t, values, "a panic"), any("in ThreadEnd"))
	finish(t, h, d)
	equal(t, "panic", receive(t, values, "a panic"), any("in Quiescent"))
}
