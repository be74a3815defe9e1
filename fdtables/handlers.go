package fdtables

import (
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Handlers are what is called when a descriptor of one kind is closed, by whichever call closes it: exactly one of the
// two for each table reference that is dropped. A nil function does nothing.
//
// They are called without any lock held, on the goroutine that dropped the reference, and may call anything of this
// package for any cage. Handlers of different descriptors may run at the same time. One that returns an error or panics
// is reported and changes nothing else. A handler must not call runtime.Goexit.
type Handlers struct {
	// Intermediate is called with the entry that was closed while remaining > 0 other descriptors, over all cages,
	// still share its (kind, underfd). That number is exact for the moment the reference was dropped.
	Intermediate func(e Entry, remaining uint64) error
	// Last is called with the entry that was closed when neither a descriptor nor an I/O in flight shares its
	// (kind, underfd) any more; remaining is 0. It is the place to close the underfd. By then the pair counts as
	// closed: opening it again begins a count of its own.
	Last func(e Entry, remaining uint64) error
}

// lowKinds is how many kinds have their handlers in an array.
const lowKinds = 16

// handlerSet is the handlers of all kinds. It is immutable.
type handlerSet struct {
	low  [lowKinds]Handlers
	high map[Kind]Handlers
}

func (s *handlerSet) of(k Kind) Handlers {
	if k < lowKinds {
		return s.low[k]
	}
	return s.high[k]
}

// handlerTable is the registered handlers. The zero handlerTable has none.
type handlerTable struct {
	mu  sync.Mutex // serializes set
	now atomic.Pointer[handlerSet]
}

// of is the handlers of k at this moment. It takes no lock.
func (t *handlerTable) of(k Kind) Handlers {
	if s := t.now.Load(); s != nil {
		return s.of(k)
	}
	return Handlers{}
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
			next.high = map[Kind]Handlers{}
		}
		next.high[k] = h
	}
	t.now.Store(next)
}

// run calls one handler of e's kind and answers its error; a panic is an error too. No lock may be held.
func (t *handlerTable) run(e Entry, remaining uint64) (err error) {
	h := t.of(e.Kind)
	fn := h.Last
	if remaining > 0 {
		fn = h.Intermediate
	}
	if fn == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn(e, remaining)
}
