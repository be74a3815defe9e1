package wasip1

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

// call is one host call in flight. It is small and passed by value: a pointer to it would be moved to the heap.
type call struct {
	w       *WASI
	t       *threei.Thread
	env     *Env
	args    Args
	sysArgs *threei.Args // in t's scratch memory
}

// u32 is argument i, an i32, as an unsigned number.
func (c call) u32(i uint) uint32 { return uint32(c.args.Arg(i)) }

// u64 is argument i, an i64, as an unsigned number.
func (c call) u64(i uint) uint64 { return c.args.Arg(i) }

// ptr is argument i, an address or a length in guest memory.
func (c call) ptr(i uint) uint64 { return uint64(uint32(c.args.Arg(i))) }

// fd is argument i as a descriptor. It never is a number that a system call gives another meaning, such as AT_FDCWD.
func (c call) fd(i uint) (uint64, Errno) {
	v := uint32(c.args.Arg(i))
	if v > maxFD {
		return 0, ErrnoBadf
	}
	return uint64(v), ErrnoSuccess
}

// sys makes a system call.
func (c call) sys(n abi.Call, a threei.Args) int64 {
	*c.sysArgs = a
	return c.w.sys.Syscall(c.t, n, c.sysArgs)
}

// sysFD makes a system call whose first argument is a descriptor and whose others are numbers.
func (c call) sysFD(n abi.Call, fd, a1, a2, a3 uint64) int64 {
	return c.sys(n, threei.Args{Val: [6]uint64{fd, a1, a2, a3}})
}

// inMemory reports whether n bytes at off lie in guest memory.
func (c call) inMemory(off, n uint64) bool { return c.t.Memory.Contains(off, n) }

// stopping reports whether the cage has begun to stop: whoever loops over system calls asks before each.
func (c call) stopping() bool { return c.t.Cancel != nil && c.t.Cancel.Stopping() }

// scratch is n zeroed bytes of the runtime's own memory, until the host call ends, and their address.
func (c call) scratch(n int) ([]byte, uint64) {
	b := c.t.Scratch(n)
	return b, guestmem.AddrOf(b)
}

// path copies the n bytes at off out of guest memory as a path, and answers the address of the copy, which ends
// in a NUL.
func (c call) path(off, n uint64) (uint64, Errno) {
	b, errno := c.pathBytes(off, n)
	return guestmem.AddrOf(b), errno
}

// pathBytes is path with the copy itself, with its NUL.
func (c call) pathBytes(off, n uint64) ([]byte, Errno) {
	if !c.inMemory(off, n) {
		return nil, ErrnoFault
	}
	if n >= linuxPathMax {
		return nil, ErrnoNametoolong
	}
	b := c.t.Scratch(int(n) + 1)[:n+1]
	if !c.t.Memory.ReadCopy(b[:n], off) {
		return nil, ErrnoFault
	}
	if !utf8.Valid(b[:n]) {
		return nil, ErrnoIlseq
	}
	if bytes.IndexByte(b[:n], 0) >= 0 {
		return nil, ErrnoInval
	}
	return b, ErrnoSuccess
}

// writeU32 writes an output word. The caller has checked its place before the call had any effect.
func (c call) writeU32(off uint64, v uint32) Errno {
	if !c.t.Memory.WriteUint32(off, v) {
		return ErrnoFault
	}
	return ErrnoSuccess
}

// writeU64 is writeU32 for 64 bits.
func (c call) writeU64(off, v uint64) Errno {
	if !c.t.Memory.WriteUint64(off, v) {
		return ErrnoFault
	}
	return ErrnoSuccess
}

// writeBytes is writeU32 for a structure.
func (c call) writeBytes(off uint64, b []byte) Errno {
	if !c.t.Memory.WriteCopy(off, b) {
		return ErrnoFault
	}
	return ErrnoSuccess
}

// le is the byte order of both sides.
var le = binary.LittleEndian
