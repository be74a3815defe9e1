//go:build !cgo

package bridge

import "github.com/ebitengine/purego"

// This file makes the callbacks C functions by purego, for a build without cgo. An OS thread that is not in the Go runtime
// enters it on each callback and leaves it again, which costs some system calls: hence threadMain. A process can make some
// 2,000 of these and free none: the registry makes them once.

func makeCallbacks() callbackAddrs {
	return callbackAddrs{
		hostCall: purego.NewCallback(func(call uintptr) uintptr {
			// Only the low half is the int32 that the shim reads.
			return uintptr(uint32(hostCall(callAt(call))))
		}),
		threadEnd:  purego.NewCallback(func(end uintptr) { threadEnd(threadEndAt(end)) }),
		quiescent:  purego.NewCallback(func(report uintptr) { quiescent(reportAt(report)) }),
		trace:      purego.NewCallback(func(trace uintptr) { traced(traceAt(trace)) }),
		threadMain: purego.NewCallback(func(body, arg uintptr) { threadMain(body, arg) }),
	}
}
