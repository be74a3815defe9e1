package threei

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
)

// Canceler is the cancel token of the domain that a thread belongs to.
type Canceler interface {
	// CancelFD is a descriptor that becomes readable, for good, when the domain begins to stop. It is polled beside
	// whatever a call waits for, is never read, and belongs to the domain. The first call may create it: it then can
	// fail with EMFILE or ENFILE.
	CancelFD() (int, error)
	// Stopping reports whether the domain has begun to stop. It neither blocks nor allocates.
	Stopping() bool
}

// Thread is the host side of one guest thread: what a system call needs to know of its caller. It is owned by the OS
// thread that runs the guest thread; no other touches it.
type Thread struct {
	// Cage is the cage that the thread belongs to. Immutable.
	Cage abi.CageID
	// TID is the thread's id within its cage, 1 for the first. Immutable.
	TID int32
	// Memory is the cage's linear memory. The personality refreshes it at each host call, since guests grow it.
	Memory guestmem.Memory
	// Cancel is the domain's cancel token. While a call uses other cages it is joined with theirs.
	Cancel Canceler
	// Native belongs to the layer that serves native calls: its state of the cage (*rawposix.Process). While a call acts
	// on another cage, it is that one's.
	Native any
	// Caller is the thread that this one serves at the moment: it made the call that a worker of a grate carries out, on
	// the same OS thread, and does nothing until that is over. It is nil for a thread that serves nobody. The bridge's
	// handler sets it at each host call of a worker.
	Caller *Thread
	// Quit is set by a call that ends this thread alone, such as exit (60): the personality makes it so when the call is
	// over. QuitStatus is the thread's status then.
	Quit       bool
	QuitStatus int32

	far

	waiting waiting
	args    Args

	scratch []byte
	used    int
	// full are blocks that Scratch outgrew: addresses in them are good until ScratchReset.
	full [][]byte
}

// Args are the argument words of one system call and, for each that is a pointer, the cage whose memory it points
// into. A pointer is an address of the host. See abi.CageRawPOSIX for pointers into memory of the runtime.
type Args struct {
	Val  [6]uint64
	Cage [6]abi.CageID
}

// CallArgs is room for the arguments of a system call that the thread itself makes: one at a time, good until the call
// returns. On the stack of whoever makes the call they would have to be moved to the heap.
func (t *Thread) CallArgs() *Args { return &t.args }

// Scratch is n bytes of zeroed memory that stays at its address until ScratchReset: for structures that a translation
// layer passes by pointer, with abi.CageRawPOSIX as the pointer's cage.
func (t *Thread) Scratch(n int) []byte {
	n = (n + 15) &^ 15
	if t.used+n > len(t.scratch) {
		t.full = append(t.full, t.scratch)
		t.scratch, t.used = make([]byte, max(n, 2*len(t.scratch), 4096)), 0
	}
	b := t.scratch[t.used : t.used+n : t.used+n]
	t.used += n
	clear(b)
	return b
}

// ScratchReset takes all scratch memory back, at the end of a host call.
func (t *Thread) ScratchReset() {
	t.used = 0
	t.full = nil
	if len(t.scratch) > 1<<20 {
		t.scratch = nil
	}
}
