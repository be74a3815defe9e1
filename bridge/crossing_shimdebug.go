//go:build shimdebug

package bridge

import "runtime"

// crossing runs at each crossing of the C boundary. With the build tag shimdebug it collects garbage and gives others a
// turn, so that memory which the shim is still using, though Go no longer is, is found soon.
func crossing() {
	runtime.GC()
	runtime.Gosched()
}
