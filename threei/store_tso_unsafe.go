//go:build amd64

package threei

import (
	"sync/atomic"
	"unsafe"
)

// storeRelease stores v for readers that load w atomically, in Go or in the shim: they see all of v, and what was stored
// before it. It is what atomic.Uint64.Store is but for the wait until every processor has seen it, which is a locked
// instruction: the caller makes one soon, by unlocking what keeps other writers away.
//
// Here each store of an aligned word is one (AMD64 Architecture Programmer's Manual, volume 2, 7.2), and the Go memory
// model does not let the compiler split it.
func storeRelease(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }
