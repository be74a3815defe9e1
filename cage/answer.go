package cage

import "github.com/lindbridge/lindbridge/internal/lockcheck"

// This file is how blocked waits get their answers. Those who can give one take the waits out of their queues with
// the lock held, write the answers, and collect the waits; without the lock they wake them.

// wait is a Wait that is blocked.
type wait struct {
	noReap   bool          // immutable
	queue    *waits        // where it stands, or nil once it has an answer or was withdrawn; guarded by mu
	links    link[wait]    // place in queue, guarded by mu; then in the list of whoever answered, who owns it
	answered chan struct{} // closed when the answer is there and the lock is not held

	// The answer. Guarded by mu as long as the wait is queued, immutable from then on.
	result WaitResult
	reaped *Cage // result's cage if the wait reaped it, and so must call forget; or nil
	err    error
}

type waits = list[wait, *wait]

func (w *wait) place() *link[wait] { return &w.links }

// enqueueLocked puts the wait into its queue. Invariant: in a queue those that do not reap stand before those that
// do, so that a zombie's path ends at the first of the latter, however many there are.
func (w *wait) enqueueLocked() {
	if w.noReap {
		w.queue.pushFront(w)
	} else {
		w.queue.pushBack(w)
	}
}

// withdraw takes w out of its queue, or answers false if it has its answer.
func (t *Table) withdraw(w *wait) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.queue == nil {
		return false
	}
	w.queue.remove(w)
	w.queue = nil
	return true
}

// answerLocked takes the first wait of a queue out, to be filled in, and adds it to woken.
func answerLocked(queue, woken *waits) *wait {
	w := queue.popFront()
	w.queue = nil
	woken.pushBack(w)
	return w
}

// announceLocked gives the new zombie c to the waits of its parent: to all that do not reap, and to one that does,
// which makes c reaped.
func (t *Table) announceLocked(parent, c *Cage, woken *waits) {
	t.mu.AssertHeld()
	for _, queue := range [...]*waits{&c.waits, &parent.anyWaits} {
		for queue.head != nil && queue.head.noReap {
			answerLocked(queue, woken).result = c.result()
		}
	}
	// Those that can take no other go first.
	queue := &c.waits
	if queue.empty() {
		queue = &parent.anyWaits
	}
	if queue.empty() {
		return
	}
	w := answerLocked(queue, woken)
	w.result, w.reaped = c.result(), c
	t.reapLocked(c, woken)
}

// disappointLocked answers the waits that have no child any more now that c is none of its parent's. It was taken out
// of its parent's lists, and c.parent still names that parent.
func (t *Table) disappointLocked(c *Cage, woken *waits) {
	t.mu.AssertHeld()
	for !c.waits.empty() {
		answerLocked(&c.waits, woken).err = ErrNoChild
	}
	if parent := c.parent.Load(); parent.childless() {
		for !parent.anyWaits.empty() {
			answerLocked(&parent.anyWaits, woken).err = ErrNoChild
		}
	}
}

// wake lets the answered waits go on. The lock is not held.
func wake(woken *waits) {
	lockcheck.NoneHeld("wake")
	for w := woken.popFront(); w != nil; w = woken.popFront() {
		close(w.answered)
	}
}
