package bridge_test

import (
	"os"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/bridge"
)

// waiter is a host whose calls wait for a descriptor, or for time alone, and note how each was made.
type waiter struct {
	*host
	fds     []bridge.WaitFD
	timeout time.Duration
	made    chan bridge.Resumed
}

func newWaiter(fds []bridge.WaitFD, timeout time.Duration) *waiter {
	w := &waiter{fds: fds, timeout: timeout, made: make(chan bridge.Resumed, 8)}
	w.host = newHost(func(c *bridge.Call) bridge.Verdict {
		w.made <- c.Resumed()
		if c.Arg32(0) != 7 {
			return bridge.TrapThread // the arguments are the same each time
		}
		if c.Resumed() != bridge.NotResumed {
			c.SetResult(9)
			return bridge.Continue
		}
		c.Wait(w.fds, w.timeout)
		return bridge.WaitThread
	})
	return w
}

// run starts a guest that makes one such call.
func (w *waiter) run(t *testing.T) *bridge.Domain {
	t.Helper()
	e := openShim(t, w.host, bridge.Import{Module: "host", Name: "wait", Params: "i", Results: "i", ID: 5})
	m := loadWat(t, e, `(module
		(import "host" "wait" (func $wait (param i32) (result i32)))
		(memory (export "memory") 1)
		(func (export "_start") (if (i32.ne (call $wait (i32.const 7)) (i32.const 9)) (then unreachable))))`)
	d := newDomain(t, m, bridge.DomainConfig{})
	must(t, d.Start("_start"))
	return d
}

func TestWait_CallsAgainWhenADescriptorIsReady(t *testing.T) {
	r, in, err := os.Pipe()
	must(t, err)
	defer r.Close()
	w := newWaiter([]bridge.WaitFD{{FD: -1}, {FD: int32(r.Fd()), Events: 1}}, -1)
	d := w.run(t)
	equal(t, "the first call", receive(t, w.made, "call"), bridge.NotResumed)
	must(t, in.Close()) // the end of the file is something to read
	equal(t, "the second call", receive(t, w.made, "call"), bridge.ResumedReady)
	end := w.end(t)
	equal(t, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
	finish(t, w.host, d)
}

func TestWait_CallsAgainWhenTimeIsOver(t *testing.T) {
	begin := time.Now()
	w := newWaiter(nil, 3*time.Millisecond)
	d := w.run(t)
	equal(t, "the first call", receive(t, w.made, "call"), bridge.NotResumed)
	equal(t, "the second call", receive(t, w.made, "call"), bridge.ResumedTimedOut)
	if took := time.Since(begin); took < 3*time.Millisecond {
		t.Errorf("it waited for %v", took)
	}
	equal(t, "outcome", w.end(t).Outcome, bridge.EndReturned)
	finish(t, w.host, d)
}

// The kernel has no readiness for a file or a directory: a wait for one ends at once, as in poll(2).
func TestWait_EndsAtOnceForWhatIsAlwaysReady(t *testing.T) {
	w := newWaiter(nil, -1)
	file, err := os.Open("/proc/self/exe")
	must(t, err)
	defer file.Close()
	for range bridge.MaxWait {
		w.fds = append(w.fds, bridge.WaitFD{FD: int32(file.Fd()), Events: 1})
	}
	d := w.run(t)
	equal(t, "the first call", receive(t, w.made, "call"), bridge.NotResumed)
	equal(t, "the second call", receive(t, w.made, "call"), bridge.ResumedReady)
	equal(t, "outcome", w.end(t).Outcome, bridge.EndReturned)
	finish(t, w.host, d)
}

func TestWait_IsOverForAStopAtOnce(t *testing.T) {
	r, in, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer in.Close()
	for range 100 {
		w := newWaiter([]bridge.WaitFD{{FD: int32(r.Fd()), Events: 1}}, int64Max)
		d := w.run(t)
		equal(t, "the first call", receive(t, w.made, "call"), bridge.NotResumed)
		must(t, d.Stop())
		report := w.quiet(t)
		equal(t, "threads", len(report.Threads), 1)
		equal(t, "outcome", report.Threads[0].Outcome, bridge.EndStopped)
		equal(t, "where", report.Threads[0].At, bridge.AtHostCall)
		equal(t, "import", report.Threads[0].Import, 5)
		select {
		case how := <-w.made:
			t.Fatalf("the call was made again (%v) in a domain that is stopped", how)
		default:
		}
	}
}

const int64Max = time.Duration(1<<63 - 1)
