package threei

import (
	"math"
	"time"
)

// MaxWait is the most descriptors that a thread can be parked for.
const MaxWait = 8

// WaitFD is a descriptor of the host that a call waits for.
type WaitFD struct {
	// FD is passed over if it is negative.
	FD int32
	// Events are those of poll(2).
	Events int16
}

// waiting is how a thread waits outside the host call that it is in. See Thread.Park.
type waiting struct {
	able     bool // the host call can be made again: it may have no effect before it waits, such as a call of a grate
	resumed  bool // it is made again
	parked   bool // it is to be made again
	n        int
	fds      [MaxWait]WaitFD
	deadline time.Time // of the wait, for when the call is made again; the zero one is never
}

// BeginHostCall begins a host call. able says that the call may be parked, resumed that it is made again after it was.
func (t *Thread) BeginHostCall(able, resumed bool) {
	t.waiting.able, t.waiting.resumed, t.waiting.parked = able, resumed, false
	if !resumed {
		t.waiting.deadline = time.Time{}
	}
}

// Deadline is the time d from now, at which a wait of the host call ends. If the call is made again after it was parked,
// it is the deadline that it had then. A d too long to be represented, like one that was never, is the zero time.
func (t *Thread) Deadline(d time.Duration) time.Time {
	if t.waiting.resumed {
		t.waiting.resumed = false // of the first wait only: a later one of the same call is another
		if !t.waiting.deadline.IsZero() {
			return t.waiting.deadline
		}
	}
	if d == math.MaxInt64 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// Park asks that the host call be made again when one of fds has one of its events or deadline has passed, the zero one
// being never. If it answers true the system call answers EINTR, and whoever carries the host call out returns without
// any effect: the call is made again from its beginning, or never if the cage is stopped meanwhile. If it answers false
// the call waits itself.
//
// Preconditions:
// The host call has had no effect yet, and gets to this wait again when it is made again.
func (t *Thread) Park(fds []WaitFD, deadline time.Time) bool {
	w := &t.waiting
	if !w.able || len(fds) > MaxWait || len(t.uses) > 0 { // a stop of a cage that it uses could not reach it there
		return false
	}
	w.n = copy(w.fds[:], fds)
	w.deadline, w.parked = deadline, true
	return true
}

// IsParked reports whether the host call asked to be parked: then Parked has what for.
func (t *Thread) IsParked() bool { return t.waiting.parked }

// Parked is what the host call asked to be parked for, if it did: descriptors, and how long to wait, negative for ever.
// The slice is good until the next call.
func (t *Thread) Parked() (fds []WaitFD, timeout time.Duration, parked bool) {
	w := &t.waiting
	if !w.parked {
		return nil, 0, false
	}
	timeout = -1
	if !w.deadline.IsZero() {
		timeout = max(0, time.Until(w.deadline))
	}
	return w.fds[:w.n], timeout, true
}
