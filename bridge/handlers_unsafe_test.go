package bridge_test

import (
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handlers are those of one cage, as the shim's header describes them: the word that leads to a row, and the row.
type handlers struct {
	word    atomic.Uint64
	_       [56]byte
	version atomic.Uint64
	_       [56]byte
	halves  [2][1024]atomic.Uint64
}

// newHandlers maps handlers that leave everything to the host. They are no memory of Go's, as the shim keeps their
// address, and are unmapped when the test ends. So they are to be made before the engine, whose end comes before theirs.
func newHandlers(tb testing.TB) *handlers {
	tb.Helper()
	b, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(handlers{})), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	must(tb, err)
	tb.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			tb.Error(err)
		}
	})
	h := (*handlers)(unsafe.Pointer(unsafe.SliceData(b)))
	h.word.Store(uint64(uintptr(unsafe.Pointer(&h.version))))
	return h
}

// addr is the address for bridge.DomainConfig.Handlers.
func (h *handlers) addr() uintptr { return uintptr(unsafe.Pointer(&h.word)) }

// set changes who serves a call, in the half that counts.
func (h *handlers) set(call int, entry uint64) { h.halves[h.version.Load()&1][call].Store(entry) }

// replace has the other half count, with this one entry.
func (h *handlers) replace(call int, entry uint64) {
	v := h.version.Load()
	for i := range h.halves[0] {
		h.halves[(v+1)&1][i].Store(0)
	}
	h.halves[(v+1)&1][call].Store(entry)
	h.version.Store(v + 1)
}

// gone is the entry of a call whose grate is gone.
const gone = uint64(3) << 62

// served is the entry of a call that a function of the grate with this port serves.
func served(port uint64, function uint32) uint64 { return 1<<62 | port<<24 | uint64(function) }
