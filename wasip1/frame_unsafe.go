package wasip1

import (
	"unsafe"

	"github.com/lindbridge/lindbridge/threei"
)

// newArgs is room for the argument words of a host call's system calls, in the thread's scratch memory: they
// are passed on by pointer, and on the stack they would have to be moved to the heap at each call.
func newArgs(t *threei.Thread) *threei.Args {
	// Scratch memory starts at a multiple of 16 and Args has no pointers.
	return (*threei.Args)(unsafe.Pointer(unsafe.SliceData(t.Scratch(int(unsafe.Sizeof(threei.Args{}))))))
}
