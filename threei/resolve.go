package threei

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// Resolve checks a pointer argument: n bytes at the host address addr in the memory of cage. It is abi.EFAULT if they do
// not lie there, or if t may not name the cage: see the package's documentation. What it answers is good until the system
// call ends.
//
// As the cage, abi.CageRawPOSIX means memory that Scratch handed out, to t or to a thread that t serves at the moment.
func (t *Thread) Resolve(addr, n uint64, cage abi.CageID) ([]byte, abi.Errno) {
	b, errno := t.ResolveMost(addr, n, cage)
	if uint64(len(b)) < n {
		return nil, abi.EFAULT
	}
	return b, errno
}

// ResolveMost is Resolve for what ends somewhere, such as a string: of the n bytes at addr, as many as there are before
// the memory ends.
func (t *Thread) ResolveMost(addr, n uint64, cage abi.CageID) ([]byte, abi.Errno) {
	m := t.Memory
	switch {
	case cage == t.Cage && !t.host:
	case cage == abi.CageRawPOSIX:
		if n == 0 {
			return nil, 0
		}
		if b, ok := t.scratchBytes(addr, n); ok {
			return b, 0
		}
		return nil, abi.EFAULT
	default:
		var ok bool
		if m, ok = t.memoryOf(cage); !ok {
			return nil, abi.EFAULT
		}
	}
	if !m.ContainsHost(addr, 0) {
		return nil, abi.EFAULT
	}
	b, _ := m.BytesHost(addr, min(n, m.Size()-(addr-uint64(m.Base()))))
	return b, 0
}

// ResolveInner is Resolve for a pointer that was read from memory of cage, such as one of an iovec array. In memory of the
// runtime it may lead to the same, or to memory of the cage that the runtime put it there for.
func (t *Thread) ResolveInner(addr, n uint64, cage abi.CageID) ([]byte, abi.Errno) {
	if cage != abi.CageRawPOSIX {
		return t.Resolve(addr, n, cage)
	}
	if b, errno := t.Resolve(addr, n, t.Cage); errno == 0 {
		return b, 0
	}
	for caller := t.Caller; caller != nil; caller = caller.Caller {
		if b, errno := t.Resolve(addr, n, caller.Cage); errno == 0 {
			return b, 0
		}
	}
	return t.Resolve(addr, n, cage)
}

// memoryOf is the memory of another cage, which stays valid until the call ends.
func (t *Thread) memoryOf(id abi.CageID) (guestmem.Memory, bool) {
	if t.sys == nil {
		return guestmem.Memory{}, false
	}
	c := t.sys.cages.LoadLow(uint64(id))
	if c == nil || c.cfg.Memory == nil || !t.mayName(c) || !t.use(c) {
		return guestmem.Memory{}, false
	}
	// A cage that stops has its memory for as long as those that serve it need to finish. Once nothing of it runs, its
	// memory is nobody's business: who is told of its end must not look at it.
	if p := c.exit.Phase(); p != exitcoord.Running && p != exitcoord.Stopping {
		return guestmem.Memory{}, false
	}
	lockcheck.NoneHeld("CageConfig.Memory")
	return c.cfg.Memory(), true
}

// scratchBytes is up to n bytes at addr in the scratch memory of t, or of a thread that t serves.
func (t *Thread) scratchBytes(addr, n uint64) ([]byte, bool) {
	for ; t != nil; t = t.Caller {
		if b, ok := within(t.scratch, addr, n); ok {
			return b, true
		}
		for _, block := range t.full {
			if b, ok := within(block, addr, n); ok {
				return b, true
			}
		}
	}
	return nil, false
}

// within is up to n bytes at addr of a block.
func within(block []byte, addr, n uint64) ([]byte, bool) {
	off := addr - guestmem.AddrOf(block)
	if off >= uint64(len(block)) {
		return nil, false
	}
	return block[off : off+min(n, uint64(len(block))-off)], true
}
