//go:build !amd64

package threei

import "sync/atomic"

// storeRelease stores v for readers that load w atomically: see its other form, for processors that keep stores in order.
func storeRelease(w *atomic.Uint64, v uint64) { w.Store(v) }
