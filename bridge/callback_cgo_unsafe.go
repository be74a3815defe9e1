//go:build cgo

package bridge

import "unsafe"

// hostCallFrame is hostCall for callback_cgo.c: frame is what that passes.
func hostCallFrame(frame unsafe.Pointer) {
	f := (*struct {
		call    uintptr
		verdict int32
	})(frame)
	f.verdict = int32(hostCall(callAt(f.call)))
}
