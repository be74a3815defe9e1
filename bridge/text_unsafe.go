package bridge

import (
	"bytes"
	"unsafe"
)

// This file implements the copying of C text and C arrays into Go's own memory.

// foreign turns an address of C memory into a pointer.
func foreign(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

// text copies n bytes at p. It allocates nothing if there are none.
func text(p unsafe.Pointer, n uint64) string {
	if p == nil || n == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(p), n))
}

// cString copies the NUL-terminated text at p, of at most limit bytes.
func cString(p unsafe.Pointer, limit int) string {
	if p == nil {
		return ""
	}
	n := 0
	for n < limit && *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return text(p, uint64(n))
}

// fixedText copies the text in a NUL-terminated array.
func fixedText(b []byte) string {
	if n := bytes.IndexByte(b, 0); n >= 0 {
		b = b[:n]
	}
	return string(b)
}

// textPtr is s's first byte, or nil if it has none, and its length.
func textPtr(s string) (unsafe.Pointer, uint64) {
	if s == "" {
		return nil, 0
	}
	return unsafe.Pointer(unsafe.StringData(s)), uint64(len(s))
}

// threadsOf are the n structures at p, in place.
func threadsOf(p unsafe.Pointer, n uint64) []threadABI {
	if p == nil || n == 0 {
		return nil
	}
	return unsafe.Slice((*threadABI)(p), n)
}
