package fdtables

import "sync/atomic"

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

// slot is one open descriptor. It is immutable, and tables share it: a fork's copy points to the slots of its source.
// A change of an entry replaces the slot, so that a reader sees the old entry or the new one and never a mix.
//
// Each table that a slot is in holds one table reference on under for each place that it stands in.
type slot struct {
	entry Entry
	under *under
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
