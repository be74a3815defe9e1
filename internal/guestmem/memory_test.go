package guestmem_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/internal/guestmem"
)

// mapped is a memory of size bytes that ends at the end of its mapping, so that an access past it is a fault.
func mapped(t testing.TB, size int) (guestmem.Memory, []byte) {
	t.Helper()
	page := unix.Getpagesize()
	pages := (size + page - 1) / page * page
	b, err := unix.Mmap(-1, 0, pages+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	all := b
	t.Cleanup(func() {
		if err := unix.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mprotect(b[pages:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	b = b[pages-size : pages]
	return guestmem.New(uintptr(guestmem.AddrOf(b)), uint64(size)), b
}

// TestMemory_NeverReachesOutside: whatever offset and length a guest gives, the answer is right and nothing outside is
// touched.
func TestMemory_NeverReachesOutside(t *testing.T) {
	const size = 100
	m, raw := mapped(t, size)
	for i := range raw {
		raw[i] = byte(i)
	}
	word := rapid.OneOf(rapid.Uint64Range(0, 2*size), rapid.Uint64(), rapid.Uint64Range(1<<64-2*size, 1<<64-1))
	rapid.Check(t, func(t *rapid.T) {
		off, n := word.Draw(t, "off"), word.Draw(t, "n")
		inside := off <= size && n <= size && off+n <= size
		if m.Contains(off, n) != inside {
			t.Fatalf("Contains(%d, %d) is not %v", off, n, inside)
		}
		b, ok := m.Bytes(off, n)
		if ok != inside || inside && !bytes.Equal(b, raw[off:off+n]) {
			t.Fatalf("Bytes(%d, %d) is %v, %v", off, n, b, ok)
		}
		addr := uint64(m.Base()) + off
		if b, ok := m.BytesHost(addr, n); ok != inside || len(b) != len(raw[:min(size, n)]) && inside {
			t.Fatalf("BytesHost(%d, %d) is %v, %v", addr, n, b, ok)
		}
		if a, ok := m.Addr(off, n); ok != inside || ok && a != addr {
			t.Fatalf("Addr(%d, %d) is %d, %v", off, n, a, ok)
		}
		if v, ok := m.ReadUint32(off); ok != (off <= size-4) || ok && v != binary.LittleEndian.Uint32(raw[off:]) {
			t.Fatalf("ReadUint32(%d) is %d, %v", off, v, ok)
		}
		if v, ok := m.ReadUint64(off); ok != (off <= size-8) || ok && v != binary.LittleEndian.Uint64(raw[off:]) {
			t.Fatalf("ReadUint64(%d) is %d, %v", off, v, ok)
		}
		before := bytes.Clone(raw)
		v := rapid.Uint64().Draw(t, "value")
		if ok := m.WriteUint64(off, v); ok != (off <= size-8) {
			t.Fatalf("WriteUint64(%d) is %v", off, ok)
		} else if ok {
			binary.LittleEndian.PutUint64(before[off:], v)
		}
		if ok := m.WriteUint32(off, uint32(v)); ok != (off <= size-4) {
			t.Fatalf("WriteUint32(%d) is %v", off, ok)
		} else if ok {
			binary.LittleEndian.PutUint32(before[off:], uint32(v))
		}
		data := rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "data")
		if ok := m.WriteCopy(off, data); ok != m.Contains(off, uint64(len(data))) {
			t.Fatalf("WriteCopy(%d, %d bytes) is %v", off, len(data), ok)
		} else if ok {
			copy(before[min(off, size):], data)
		}
		if !bytes.Equal(before, raw) {
			t.Fatal("a write changed more or less than it should")
		}
		got := make([]byte, len(data))
		if m.ReadCopy(got, off) && !bytes.Equal(got, raw[off:off+uint64(len(got))]) {
			t.Fatal("ReadCopy read something else")
		}
	})
}

func TestMemory_OfNoBytes(t *testing.T) {
	var m guestmem.Memory
	if b, ok := m.Bytes(0, 0); !ok || len(b) != 0 {
		t.Errorf("Bytes(0, 0) is %v, %v", b, ok)
	}
	if _, ok := m.Bytes(0, 1); ok {
		t.Error("a byte of a memory without any")
	}
	if m.ContainsHost(1<<64-1, 1) {
		t.Error("it contains the end of the address space")
	}
	if guestmem.AddrOf(nil) != 0 || guestmem.HostBytes(0, 0) != nil {
		t.Error("nothing has an address")
	}
}
