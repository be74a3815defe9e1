package fdtables

import (
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Handlers are what is called when a descriptor of one kind is closed, by whichever call closes it: exactly one of the
// two for each table reference that is dropped. A nil function does nothing.
//
// They are called without any lock held, on the goroutine that dropped the reference, and may call anything of this
// package for any cage. Handlers of different descriptors may run at the same time. One that returns an error or panics
// is reported and changes nothing else. A handler without a Deadline must not call runtime.Goexit.
type Handlers struct {
	// Intermediate is called with the entry that was closed while remaining > 0 other descriptors, over all cages,
	// still share its (kind, underfd). That number is exact for the moment the reference was dropped.
	Intermediate func(e Entry, remaining uint64) error
	// Last is called with the entry that was closed when neither a descriptor nor an I/O in flight shares its
	// (kind, underfd) any more; remaining is 0. It is the place to close the underfd. By then the pair counts as
	// closed: opening it again begins a count of its own.
	Last func(e Entry, remaining uint64) error
	// Unpollable, if not nil, reports whether e is a file that an epoll cannot have as a member, such as a regular file. A
	// panic of it is a yes.
	Unpollable func(e Entry) bool
	// Deadline, if positive, is for handlers that nobody trusts to return: each call of one has a goroutine of its own,
	// and who closes waits that long at most. What has not returned by then is reported as ErrHandlerDeadline and runs on;
	// what becomes of it later is nobody's to hear. A call that closes many descriptors starts the handlers of a kind that
	// was late all at once and waits for them once more, together, so that it is late by two deadlines for each kind.
	Deadline time.Duration
}

// after is the one that is due when a reference was dropped that left remaining others, or nil.
func (h *Handlers) after(remaining uint64) func(Entry, uint64) error {
	if remaining > 0 {
		return h.Intermediate
	}
	return h.Last
}

// lowKinds is how many kinds have their handlers in an array.
const lowKinds = 16

// handlerSet is the handlers of all kinds. It is immutable.
type handlerSet struct {
	low  [lowKinds]Handlers
	high map[Kind]*Handlers
}

// noHandlers is the handlers of a kind without any. Immutable.
var noHandlers Handlers

func (s *handlerSet) of(k Kind) *Handlers {
	if k < lowKinds {
		return &s.low[k]
	}
	if h := s.high[k]; h != nil {
		return h
	}
	return &noHandlers
}

// has reports whether there is a handler for the drop of a reference of kind k that left remaining others. s may be nil.
func (s *handlerSet) has(k Kind, remaining uint64) bool {
	if s == nil {
		return false
	}
	return s.of(k).after(remaining) != nil
}

// handlerTable is the registered handlers. The zero handlerTable has none.
type handlerTable struct {
	mu  sync.Mutex // serializes set
	now atomic.Pointer[handlerSet]
}

// of is the handlers of k at this moment, not to be changed. It takes no lock.
func (t *handlerTable) of(k Kind) *Handlers {
	if s := t.now.Load(); s != nil {
		return s.of(k)
	}
	return &noHandlers
}

func (t *handlerTable) set(k Kind, h Handlers) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := &handlerSet{}
	if old := t.now.Load(); old != nil {
		next.low = old.low
		next.high = maps.Clone(old.high)
	}
	if k < lowKinds {
		next.low[k] = h
	} else {
		if next.high == nil {
			next.high = map[Kind]*Handlers{}
		}
		next.high[k] = &h
	}
	t.now.Store(next)
}

// unpollable reports whether e cannot be a member of an epoll. No lock may be held.
func (t *handlerTable) unpollable(e Entry) (no bool) {
	fn := t.of(e.Kind).Unpollable
	if fn == nil {
		return false
	}
	no = true // unless fn returns
	defer func() { _ = recover() }()
	no = fn(e)
	return no
}

// handler is one call of a close handler that is due. The zero handler does nothing.
type handler struct {
	fn        func(e Entry, remaining uint64) error
	e         Entry
	remaining uint64
	deadline  time.Duration
}

// due is the handler for the drop of a reference of e that left remaining others.
func (t *handlerTable) due(e Entry, remaining uint64) handler {
	h := t.of(e.Kind)
	return handler{fn: h.after(remaining), e: e, remaining: remaining, deadline: h.Deadline}
}

// run calls one handler of e's kind and answers its error; a panic is an error too. No lock may be held.
func (t *handlerTable) run(e Entry, remaining uint64) error {
	h := t.of(e.Kind)
	fn := h.after(remaining)
	switch {
	case fn == nil:
		return nil
	case h.Deadline <= 0:
		return call(fn, e, remaining)
	}
	return handler{fn: fn, e: e, remaining: remaining, deadline: h.Deadline}.inTime()
}

// inTime starts it and waits for it until its deadline.
func (h handler) inTime() error {
	timer := time.NewTimer(h.deadline)
	defer timer.Stop()
	return h.await(h.start(), timer.C)
}

// call calls a handler on this goroutine.
func call(fn func(Entry, uint64) error, e Entry, remaining uint64) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn(e, remaining)
}

// start calls it on a goroutine of its own. Its error arrives on the channel, which nobody needs to read.
func (h handler) start() <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := ErrHandlerGoexit // unless call returns
		defer func() { ended <- err }()
		err = call(h.fn, h.e, h.remaining)
	}()
	return ended
}

// await is what a started handler comes to until late fires. One that has ended by then is never late.
func (h handler) await(ended <-chan error, late <-chan time.Time) error {
	select {
	case err := <-ended:
		return err
	case <-late:
	}
	select {
	case err := <-ended:
		return err
	default:
		return fmt.Errorf("no end within %v: %w", h.deadline, ErrHandlerDeadline)
	}
}
