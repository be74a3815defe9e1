package exitcoord

import (
	"container/heap"
	"sync"
	"time"
)

// Watch keeps the deadlines of the stops of many cages with one timer, which it sets only for a deadline that is earlier
// than all that it has. It is there because setting a timer costs more than it seems: when the process has nothing else to
// do, Go wakes an OS thread to see to the new timer, on a processor that the exit itself could use. A stop takes
// microseconds and may take a second, so that nearly all of those timers would be set for nothing. As it is, that happens
// once in the time that a stop may take, however many there are.
//
// When the last stop is over the timer fires once more, and is then not set until there is another stop.
//
// The zero Watch is not usable: see NewWatch. Its methods are safe for concurrent use.
type Watch struct {
	// mu is a leaf below Exit.mu: nothing is called while it is held.
	mu  sync.Mutex
	due deadlines // guarded by mu
	// timer calls fire; made once. Set and stopped under mu.
	timer *time.Timer
	armed time.Time // when it fires; zero if it is not set. Guarded by mu
}

// NewWatch is a Watch with nothing to do. It starts nothing.
func NewWatch() *Watch { return new(Watch) }

// Close lets go of the timer. The deadlines of stops that are not over are forgotten: it is for when there are none.
func (w *Watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.due {
		d.index = notDue
	}
	w.due, w.armed = nil, time.Time{}
	if w.timer != nil {
		w.timer.Stop()
	}
}

// notDue is the index of a deadline that no Watch has.
const notDue = -1

// deadline is that of one stop. Guarded by the Watch's mu.
type deadline struct {
	at    time.Time
	exit  *Exit
	turn  uint64 // of the exit's stopWatch
	index int    // in Watch.due, or notDue
}

// add has the watch call deadlinePassed of d's exit at its time.
func (w *Watch) add(d *deadline, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	heap.Push(&w.due, d)
	w.armLocked(now)
}

// remove forgets d, if that has not been called. The timer stays as it is: another stop will want it.
func (w *Watch) remove(d *deadline) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.index != notDue {
		heap.Remove(&w.due, d.index)
	}
}

// armLocked sets the timer, if it is not set or is set for later than the first deadline.
func (w *Watch) armLocked(now time.Time) {
	if len(w.due) == 0 {
		return
	}
	first := w.due[0].at
	if !w.armed.IsZero() && !first.Before(w.armed) {
		return
	}
	w.armed = first
	if w.timer == nil {
		w.timer = time.AfterFunc(first.Sub(now), w.fire)
	} else {
		w.timer.Reset(first.Sub(now))
	}
}

// fire tells all whose deadline has passed, each on a goroutine of its own: what one of them asks may take its time, and no
// exit waits for another (I9).
func (w *Watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.armed = time.Time{}
	for len(w.due) > 0 && !w.due[0].at.After(now) {
		d, ok := heap.Pop(&w.due).(*deadline)
		if !ok {
			return
		}
		go d.exit.deadlinePassed(d.turn)
	}
	w.armLocked(now)
}

// deadlines is a heap of them, the earliest first.
type deadlines []*deadline

// Len, Less, Swap, Push and Pop are those of heap.Interface.
func (h deadlines) Len() int { return len(h) }

// Less reports whether one is earlier than another.
func (h deadlines) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

// Swap has two change places.
func (h deadlines) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push adds one at the end.
func (h *deadlines) Push(v any) {
	d, ok := v.(*deadline)
	if !ok {
		return
	}
	d.index = len(*h)
	*h = append(*h, d)
}

// Pop takes the last one out.
func (h *deadlines) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	d.index = notDue
	return d
}
