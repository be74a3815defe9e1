package fdtables

import (
	"sync/atomic"

	"github.com/lindbridge/lindbridge/internal/release"
)

// FD is a virtual descriptor: the number that a guest sees. Valid ones are in [0, MaxLimit).
type FD int32

// Kind says what an underfd is a number of. Kinds below KindReserved belong to hosts and grates.
type Kind uint32

const (
	// KindKernel is the kind of descriptors of the host's kernel: the underfd is the host's descriptor number.
	KindKernel Kind = 0
	// KindReserved is the first of the kinds that belong to this package. Open and OpenAt refuse them.
	KindReserved Kind = 0xff000000
)

// Entry is what stands behind a virtual descriptor. It is a plain value.
type Entry struct {
	// Kind says what UnderFD is a number of, and so which close handlers are called for it.
	Kind Kind
	// CloseOnExec makes exec close the descriptor. It belongs to the descriptor: duplicates may differ in it.
	CloseOnExec bool
	// UnderFD is the descriptor's number below: for KindKernel, the host's descriptor.
	UnderFD uint64
	// PerFDInfo means something to the host only. It belongs to the descriptor and is copied by Dup and Fork.
	PerFDInfo uint64
}

// FDEntry is a descriptor and what stands behind it.
type FDEntry struct {
	FD    FD
	Entry Entry
}

// slot is one open descriptor. Tables share it: a fork's copy points to the slots of its source. A change of an entry
// replaces the slot, so that a reader sees the old entry or the new one and never a mix.
//
// It is immutable, with one exception: what was opened and closed again in one place of one table, and was never anywhere
// else, stays in that place, closed, and is what is opened there next. See under.
//
// Each table that a slot is in holds one table reference on its under for each place that it stands in.
//
// It is the first part of what it counts by, if it is what its underfd was opened as, and of an alias otherwise; see
// slot.under.
type slot struct {
	underFD   atomic.Uint64
	perFDInfo atomic.Uint64
	// nature is the kind, and closeOnExec: together, since who translates reads both.
	nature atomic.Uint64
	own    bool // it is part of an under. Immutable
	// shared: it is, or was, in two places. Guarded by the mu of the table that it is in; once true, immutable.
	shared bool
}

// set makes e what s stands for. Nobody may rely on what it stood for. It writes what changes only: readers on other
// processors have the cache line.
func (s *slot) set(e Entry) {
	if s.underFD.Load() != e.UnderFD {
		release.Uint64(&s.underFD, e.UnderFD)
	}
	if s.perFDInfo.Load() != e.PerFDInfo {
		release.Uint64(&s.perFDInfo, e.PerFDInfo)
	}
	nature := uint64(e.Kind)
	if e.CloseOnExec {
		nature |= closeOnExec
	}
	if s.nature.Load() != nature {
		release.Uint64(&s.nature, nature)
	}
}

// closeOnExec is a bit of slot.nature, above those of the kind.
const closeOnExec = 1 << 32

func (s *slot) kind() Kind         { return Kind(s.nature.Load()) }
func (s *slot) closesOnExec() bool { return s.nature.Load()&closeOnExec != 0 }

// entry is what the descriptor stands for. The caller has a reference, or a lock, that keeps it from being opened anew, or
// looks at under.lives before and after.
func (s *slot) entry() Entry {
	nature := s.nature.Load()
	return Entry{
		Kind: Kind(nature), CloseOnExec: nature&closeOnExec != 0, UnderFD: s.underFD.Load(), PerFDInfo: s.perFDInfo.Load(),
	}
}

// alias is a slot whose count is not its own.
type alias struct {
	slot  slot // the first field: see slot.under
	under *under
}

// newAlias is a slot for e that is counted by u. The caller has a table reference, which is the slot's.
func newAlias(e Entry, u *under) *slot {
	u.mark(aliased)
	a := &alias{under: u}
	a.slot.set(e)
	return &a.slot
}

// slots is the array from virtual descriptors to slots. A nil element is a free descriptor.
//
// Its length never changes: a table grows by publishing a longer copy. Whoever still reads the shorter one sees the
// table as it was at that moment, which is a moment within the reader's call.
type slots []atomic.Pointer[slot]

// minSlots is the length of a table's first array.
const minSlots = 16

// grown is a copy of a that is long enough for fd. Nothing may be stored in a meanwhile, or from then on.
func (a slots) grown(fd FD) *slots {
	n := max(minSlots, len(a))
	for n <= int(fd) {
		n *= 2
	}
	return a.clone(n)
}

// clone is a copy of a that is n >= len(a) long. Nothing may be stored in a meanwhile; loads are welcome.
func (a slots) clone(n int) *slots {
	// The copy is not published yet, and a's stores happened before: plain reads and writes do, and are a tenth of
	// the price of n atomic ones.
	b := make(slots, n)
	copy(b, a)
	return &b
}
