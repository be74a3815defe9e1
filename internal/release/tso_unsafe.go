//go:build amd64 && !race

package release

import (
	"sync/atomic"
	"unsafe"
)

// This file is for processors that keep stores in order, where each store of an aligned word is a release (AMD64
// Architecture Programmer's Manual, volume 2, 7.2). The Go memory model does not let the compiler split it.

// Uint64 stores v.
func Uint64(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }

// Int64 stores v.
func Int64(w *atomic.Int64, v int64) { *(*int64)(unsafe.Pointer(w)) = v }
