//go:build !amd64 || race

package release

import "sync/atomic"

// Uint64 stores v.
func Uint64(w *atomic.Uint64, v uint64) { w.Store(v) }

// Int64 stores v.
func Int64(w *atomic.Int64, v int64) { w.Store(v) }
