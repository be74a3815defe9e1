package fdtables

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/ids"
)

// Close closes fd: one reference to its underfd is dropped and exactly one handler of its kind is called for it, before
// Close returns; or, if that was the last reference but for I/Os in flight, when the last of those ends.
//
// It is abi.EBADF if fd is not open. A *CloseError says that the handler failed; fd is closed all the same.
func (t *Table) Close(fd FD) error {
	t.mu.Lock()
	s := t.openLocked(fd)
	if s == nil {
		t.mu.Unlock()
		return abi.EBADF
	}
	if u := s.under(); u.tryClose(s) {
		t.used.Remove(uint(fd))
		e := s.entry()
		t.ts.open.unlink(u)
		t.mu.Unlock()
		if err := t.ts.handlers.run(e, 0); err != nil {
			return &CloseError{Cage: t.cage, FD: fd, Entry: e, Err: err}
		}
		return nil
	}
	t.clearLocked(fd)
	t.mu.Unlock()
	return t.closed(fd, s)
}

// CloseOnExecAll closes all descriptors that are marked CloseOnExec, as exec does: in one step for any observer, then
// their handlers in ascending order of the descriptors. It answers the handlers that failed; the others have run all the
// same.
func (t *Table) CloseOnExecAll() []CloseError {
	was, marked := t.takeMarked()
	if was == nil {
		return nil
	}
	d := dropper{ts: t.ts, cage: t.cage}
	for fd := range marked.All() {
		d.add(FD(fd), (*was)[fd].Load())
	}
	return d.end()
}

// takeMarked takes all descriptors out of the table that are marked CloseOnExec. It answers the table as it was before,
// or nil if none is marked, and those that were; their table references are the caller's to drop. The other slots of was
// are still the table's, where they may be closed and opened anew, marked, as soon as t.mu is free.
func (t *Table) takeMarked() (was *slots, marked ids.Set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, used := t.now.Load(), t.used
	all, n := 0, 0
	for fd := range used.All() {
		all++
		if (*was)[fd].Load().closesOnExec() {
			n++
		}
	}
	switch n {
	case 0:
		return nil, ids.Set{}
	case all:
		t.now.Store(&noSlots)
		t.used = ids.Set{}
		return was, used
	}
	left, leftUsed := was.clone(len(*was)), used.Clone()
	for fd := range used.All() { // used is nobody else's any more
		if (*was)[fd].Load().closesOnExec() {
			(*left)[fd] = atomic.Pointer[slot]{} // not published yet
			leftUsed.Remove(fd)
		} else {
			used.Remove(fd)
		}
	}
	t.now.Store(left)
	t.used = leftUsed
	return was, used
}

// closed drops the table reference of s, which was taken out of t at fd, and runs the handler that is due for it. s may
// be nil. t.mu is not held.
func (t *Table) closed(fd FD, s *slot) error {
	if s == nil {
		return nil
	}
	if left, err := t.ts.drop(s); err != nil {
		return &CloseError{Cage: t.cage, FD: fd, Entry: s.entry(), Remaining: left, Err: err}
	}
	return nil
}

// drop drops the table reference of s, answers how many are left, and the error of the handler that was due.
func (ts *Tables) drop(s *slot) (left uint64, err error) {
	left, v := s.under().drop(s, &ts.open.owed)
	switch v {
	case inFlight:
		return left, nil
	case last, lastWatched:
		ts.open.unlink(s.under())
	case others:
	}
	return left, ts.run(s, left, v)
}

// run runs the handler that is due for s, and tells the epolls before it if v says so.
func (ts *Tables) run(s *slot, left uint64, v verdict) error {
	if v != lastWatched {
		return ts.handlers.run(s.entry(), left)
	}
	defer ts.leave(s)()
	return ts.handlers.run(s.entry(), left)
}

// leave takes the dead underfd of s out of all epolls and, if it is one itself, ends that. The function that it answers
// follows the Last handler.
func (ts *Tables) leave(s *slot) func() {
	ts.epolls.leave(s.under())
	ep := ts.epolls.of(s.entry())
	if ep == nil {
		return func() {}
	}
	for _, below := range ts.epolls.empty(ep) {
		if left, err := ts.drop(below); err != nil {
			ts.tell(below, left, err)
		}
	}
	return func() { ts.epolls.free(ep) } // while the handler runs, the number is nobody else's
}

// settle runs the Intermediate handler of a slot whose Last was waiting for I/Os in flight to end when its underfd was
// opened once more. owed may be nil.
func (ts *Tables) settle(owed *slot) {
	if owed != nil {
		ts.runUnheard(owed, 1, others)
	}
}

// runUnheard runs a handler whose failure no caller can be told of.
func (ts *Tables) runUnheard(s *slot, left uint64, v verdict) {
	if err := ts.run(s, left, v); err != nil {
		ts.tell(s, left, err)
	}
}

// tell tells Config.OnCloseError of a failure.
func (ts *Tables) tell(s *slot, left uint64, err error) {
	if ts.onError == nil {
		return
	}
	defer func() { _ = recover() }() // as Config.OnCloseError promises
	ts.onError(&CloseError{FD: UnknownFD, Entry: s.entry(), Remaining: left, Err: err})
}

// dropBatch is how many references a dropper drops before it runs their handlers.
const dropBatch = 64

// dropper drops the table references of many descriptors of one cage, as closed does for one, and runs their handlers
// in the order in which they were added. It goes by batches: a batch first drops its references, with one lock for each
// run of underfds that are in the same shard, and then runs the handlers without any.
//
// It is owned by one goroutine. No lock may be held.
type dropper struct {
	ts     *Tables
	cage   abi.CageID
	failed []CloseError
	late   []lateHandler // in the order in which they were started
	n      int
	batch  [dropBatch]closing
}

// lateHandler is a handler that was started without waiting for it, because one of its kind has missed its deadline.
type lateHandler struct {
	h     handler
	fd    FD
	ended <-chan error
}

// closing is one descriptor of a batch.
type closing struct {
	s    *slot
	left uint64
	fd   FD
	v    verdict
}

func (d *dropper) add(fd FD, s *slot) {
	if d.n == dropBatch {
		d.flush()
	}
	d.batch[d.n] = closing{s: s, fd: fd}
	d.n++
}

// flush ends the batch.
func (d *dropper) flush() {
	batch := d.batch[:d.n]
	d.n = 0
	d.drop(batch)
	handlers := d.ts.handlers.now.Load()
	for i := range batch {
		p := &batch[i]
		if p.v == inFlight || p.v != lastWatched && !handlers.has(p.s.kind(), p.left) {
			continue
		}
		d.run(p)
	}
	clear(batch)
}

// run runs the handler of p, or starts it if its kind is late.
func (d *dropper) run(p *closing) {
	if len(d.failed) > 0 && d.isLate(p.s.kind()) {
		if p.v == lastWatched {
			defer d.ts.leave(p.s)()
		}
		if h := d.ts.handlers.due(p.s.entry(), p.left); h.fn != nil {
			d.late = append(d.late, lateHandler{h: h, fd: p.fd, ended: h.start()})
		}
		return
	}
	if err := d.ts.run(p.s, p.left, p.v); err != nil {
		d.fail(p.fd, p.s.entry(), p.left, err)
	}
}

// isLate reports whether a handler of kind k has missed its deadline in this call.
func (d *dropper) isLate(k Kind) bool {
	for i := range d.failed {
		if d.failed[i].Entry.Kind == k && errors.Is(d.failed[i].Err, ErrHandlerDeadline) {
			return true
		}
	}
	return false
}

func (d *dropper) fail(fd FD, e Entry, left uint64, err error) {
	d.failed = append(d.failed, CloseError{Cage: d.cage, FD: fd, Entry: e, Remaining: left, Err: err})
}

// end follows the last add. It waits for the handlers that are late and answers those that failed, in ascending order of
// their descriptors.
func (d *dropper) end() []CloseError {
	d.flush()
	if len(d.late) == 0 {
		return d.failed
	}
	began := time.Now()
	for _, l := range d.late {
		timer := time.NewTimer(l.h.deadline - time.Since(began))
		err := l.h.await(l.ended, timer.C)
		timer.Stop()
		if err != nil {
			d.fail(l.fd, l.h.e, l.h.remaining, err)
		}
	}
	slices.SortFunc(d.failed, func(a, b CloseError) int { return int(a.FD - b.FD) })
	return d.failed
}

func (d *dropper) drop(batch []closing) {
	var held *shard
	for i := range batch {
		p := &batch[i]
		u := p.s.under()
		if p.left, p.v = u.drop(p.s, &d.ts.open.owed); p.v != last && p.v != lastWatched {
			continue
		}
		sh, h := d.ts.open.home(u)
		if sh != held {
			if held != nil {
				held.mu.Unlock()
			}
			sh.mu.Lock()
			held = sh
		}
		d.ts.open.unlinkLocked(sh, h, u)
	}
	if held != nil {
		held.mu.Unlock()
	}
}
