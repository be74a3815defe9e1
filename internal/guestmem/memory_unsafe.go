package guestmem

import (
	"encoding/binary"
	"unsafe"
)

// Memory is a view of a linear memory: its address in the host and how much of it is accessible, in bytes. A linear
// memory never moves and never shrinks, so a view stays valid until its cage's memory step has run; it may become
// smaller than what the guest has after the guest grows it. The zero value is a memory of no bytes.
type Memory struct {
	base uintptr
	size uint64
}

// New is the view of size bytes at base.
//
// Preconditions:
// base..base+size is mapped, readable and writable for as long as the view is used.
func New(base uintptr, size uint64) Memory { return Memory{base: base, size: size} }

// Base is the host address of the memory's first byte, 0 if there is no memory.
func (m Memory) Base() uintptr { return m.base }

// Size is the view's length in bytes.
func (m Memory) Size() uint64 { return m.size }

// Contains reports whether the guest offsets [off, off+n) all lie in the memory.
func (m Memory) Contains(off, n uint64) bool { return off <= m.size && n <= m.size-off }

// ContainsHost reports whether the host addresses [addr, addr+n) all lie in the memory.
func (m Memory) ContainsHost(addr, n uint64) bool {
	return addr >= uint64(m.base) && m.Contains(addr-uint64(m.base), n)
}

// Addr is the host address of the guest offsets [off, off+n), or false if they do not all lie in the memory.
func (m Memory) Addr(off, n uint64) (uint64, bool) {
	if !m.Contains(off, n) {
		return 0, false
	}
	return uint64(m.base) + off, true
}

// Bytes is guest memory itself at the offsets [off, off+n), or false if they do not all lie in the memory. Its content
// may change at any time: see the package's documentation.
func (m Memory) Bytes(off, n uint64) ([]byte, bool) {
	if !m.Contains(off, n) {
		return nil, false
	}
	if n == 0 {
		return nil, true
	}
	return unsafe.Slice((*byte)(pointer(m.base+uintptr(off))), n), true
}

// BytesHost is Bytes with the range given by its address in the host.
func (m Memory) BytesHost(addr, n uint64) ([]byte, bool) {
	if !m.ContainsHost(addr, n) {
		return nil, false
	}
	return m.Bytes(addr-uint64(m.base), n)
}

// ReadCopy fills dst from guest memory at off, or answers false and leaves dst as it is.
func (m Memory) ReadCopy(dst []byte, off uint64) bool {
	src, ok := m.Bytes(off, uint64(len(dst)))
	if ok {
		copy(dst, src)
	}
	return ok
}

// WriteCopy writes src to guest memory at off, or answers false and writes nothing.
func (m Memory) WriteCopy(off uint64, src []byte) bool {
	dst, ok := m.Bytes(off, uint64(len(src)))
	if ok {
		copy(dst, src)
	}
	return ok
}

// ReadUint32 reads a little-endian word, which need not be aligned.
func (m Memory) ReadUint32(off uint64) (uint32, bool) {
	b, ok := m.Bytes(off, 4)
	if !ok {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b), true
}

// ReadUint64 reads a little-endian word, which need not be aligned.
func (m Memory) ReadUint64(off uint64) (uint64, bool) {
	b, ok := m.Bytes(off, 8)
	if !ok {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b), true
}

// WriteUint32 writes a little-endian word, which need not be aligned.
func (m Memory) WriteUint32(off uint64, v uint32) bool {
	b, ok := m.Bytes(off, 4)
	if ok {
		binary.LittleEndian.PutUint32(b, v)
	}
	return ok
}

// WriteUint64 writes a little-endian word, which need not be aligned.
func (m Memory) WriteUint64(off uint64, v uint64) bool {
	b, ok := m.Bytes(off, 8)
	if ok {
		binary.LittleEndian.PutUint64(b, v)
	}
	return ok
}

// HostBytes is the n bytes at the host address addr, unchecked: for memory of the runtime's own, such as a thread's
// scratch space, whose address went through a system call's arguments.
//
// Preconditions:
// addr..addr+n is mapped, and stays allocated while the slice is used.
func HostBytes(addr, n uint64) []byte {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(pointer(uintptr(addr))), n)
}

// AddrOf is the host address of b's first byte, 0 if b is empty. The caller keeps b reachable while it uses the address.
func AddrOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// pointer turns an address outside Go's heap, or one whose object the caller keeps reachable, into a pointer.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }
