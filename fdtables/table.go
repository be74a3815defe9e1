package fdtables

import (
	"sync"
	"sync/atomic"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/ids"
)

const (
	// DefaultLimit is how many descriptors a cage may have unless SetLimit says otherwise.
	DefaultLimit = 1024
	// MaxLimit is the highest limit that SetLimit takes.
	MaxLimit = 1 << 20
)

// Table is the descriptor table of one cage. All methods are safe for concurrent use. After Tables.Remove every method
// answers as for a table without open descriptors, and nothing can be opened in it: abi.EBADF.
type Table struct {
	ts   *Tables    // immutable
	cage abi.CageID // immutable
	// now is the table's array, nil while the table is not live: before its Fork is complete, and once removed. It is
	// stored under mu, and so is every element of it. Loads need no lock.
	now   atomic.Pointer[slots]
	limit FD       // guarded by mu: descriptors that can be opened are below it
	_     [36]byte // readers of now and takers of mu use different cache lines

	mu    sync.Mutex
	used  ids.Set // guarded by mu: the descriptors that are open
	spare *under  // guarded by mu: the first of the last batch that was not born yet
}

// noSlots is the array of a table that never had a descriptor. Nothing is ever stored in it.
var noSlots slots

// Cage is the cage that the table belongs to.
func (t *Table) Cage() abi.CageID { return t.cage }

// Translate is what stands behind fd at this moment, or abi.EBADF. It is wait-free and does not allocate.
//
// It does not keep the underfd open: for I/O, see Acquire.
func (t *Table) Translate(fd FD) (Entry, abi.Errno) {
	s := t.load(fd)
	if s == nil {
		return Entry{}, abi.EBADF
	}
	if !s.own {
		return s.entry(), 0
	}
	u := s.under()
	life := u.lives.Load()
	if isClosed(u.word.Load()) {
		return Entry{}, abi.EBADF
	}
	// It was open just now, in this life or a later one, or has left its place, and nothing will change it any more.
	if e, same := u.entryOf(life); same {
		return e, 0
	}
	return Entry{}, abi.EBADF // it was closed meanwhile: it lives anew only in the place where it was
}

// openLocked is the slot of fd, or nil if fd is not open.
func (t *Table) openLocked(fd FD) *slot {
	if s := t.load(fd); s != nil && !s.isClosed() {
		return s
	}
	return nil
}

// load is the slot of fd, which may be closed, or nil. It takes no lock.
func (t *Table) load(fd FD) *slot {
	a := t.now.Load()
	if a == nil || uint32(fd) >= uint32(len(*a)) {
		return nil
	}
	return (*a)[fd].Load()
}

// SetCloseOnExec says whether exec closes fd. It is abi.EBADF if fd is not open.
func (t *Table) SetCloseOnExec(fd FD, on bool) abi.Errno {
	return t.change(fd, func(e Entry) Entry { e.CloseOnExec = on; return e })
}

// SetPerFDInfo replaces the host's own word of fd. It is abi.EBADF if fd is not open.
func (t *Table) SetPerFDInfo(fd FD, info uint64) abi.Errno {
	return t.change(fd, func(e Entry) Entry { e.PerFDInfo = info; return e })
}

// change replaces the slot of fd by one whose entry edit has changed in a part that does not matter to the count.
func (t *Table) change(fd FD, edit func(Entry) Entry) abi.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.openLocked(fd)
	if s == nil {
		return abi.EBADF
	}
	if was := s.entry(); edit(was) != was {
		(*t.now.Load())[fd].Store(newAlias(edit(was), s.under())) // s's reference is the new slot's now
	}
	return 0
}

// Limit is one more than the highest descriptor that can be opened.
func (t *Table) Limit() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return uint64(t.limit)
}

// SetLimit makes n the limit, as RLIMIT_NOFILE has it: descriptors from n on that are open stay so, but none is opened
// there any more. It is abi.EPERM over MaxLimit (as Linux over fs.nr_open) and abi.EBADF if the table was removed.
func (t *Table) SetLimit(n uint64) abi.Errno {
	if n > MaxLimit {
		return abi.EPERM
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now.Load() == nil {
		return abi.EBADF
	}
	t.limit = FD(n)
	return 0
}

// Snapshot is the open descriptors in ascending order, all as they were at one moment.
func (t *Table) Snapshot() []FDEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.used.Len()
	if n == 0 {
		return nil
	}
	a, all := *t.now.Load(), make([]FDEntry, 0, n)
	for fd := range t.used.All() {
		all = append(all, FDEntry{FD: FD(fd), Entry: a[fd].Load().entry()})
	}
	return all
}

// copyTo makes to, which is not live yet, a copy of t and live. It answers false if t was removed.
func (t *Table) copyTo(to *Table) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := t.now.Load()
	if from == nil {
		return false
	}
	a := from.clone(len(*from))
	for fd := range t.used.All() {
		(*a)[fd].Load().share()
	}
	for fd := range t.used.Missing(uint(len(*a))) {
		// One that is closed in its place lives anew there, and nowhere else.
		(*a)[fd] = atomic.Pointer[slot]{} // not published yet
	}
	// Nobody uses to before it has slots, and who then locks to.mu has seen this store.
	to.used = t.used.Clone()
	to.limit = t.limit
	to.now.Store(a)
	return true
}

// freeLocked is the lowest free descriptor from start on. It is abi.EMFILE if the limit leaves none and abi.EBADF if the
// table was removed; where the caller's caller named the start, it is abi.EINVAL if that is out of range.
func (t *Table) freeLocked(start FD, named bool) (FD, abi.Errno) {
	switch {
	case t.now.Load() == nil:
		return -1, abi.EBADF
	case named && (start < 0 || start >= t.limit):
		return -1, abi.EINVAL
	}
	if fd := t.used.Free(uint(start)); fd < uint(t.limit) {
		return FD(fd), 0
	}
	return -1, abi.EMFILE
}

// putLocked makes s the slot of fd, which is within the limit, and answers the one that was there, or nil. s comes
// with a table reference of its own; the caller drops that of the old slot.
func (t *Table) putLocked(fd FD, s *slot) *slot {
	a := t.now.Load()
	if int(fd) >= len(*a) {
		a = a.grown(fd)
		t.now.Store(a)
	}
	old := (*a)[fd].Load()
	if old != s {
		(*a)[fd].Store(s)
	}
	if old != nil && !t.used.Has(uint(fd)) {
		old = nil // it was closed
	}
	t.used.Add(uint(fd))
	return old
}

// clearLocked takes fd, which is open, out of the table. Its slot's table reference is the caller's to drop.
func (t *Table) clearLocked(fd FD) {
	(*t.now.Load())[fd].Store(nil)
	t.used.Remove(uint(fd))
}
