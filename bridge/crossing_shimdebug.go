//go:build shimdebug

package bridge

import (
	"runtime"

	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// crossing runs at each crossing of the C boundary. With the build tag shimdebug it collects garbage and gives others a
// turn, so that memory which the shim is still using, though Go no longer is, is found soon.
func crossing() {
	lockcheck.NoneHeld("the shim, or a callback of it,")
	runtime.GC()
	runtime.Gosched()
}
