//go:build cgo

package bridge

// This file makes the callbacks C functions by cgo. An OS thread of the shim keeps its place in the Go runtime from its
// first callback until it ends (https://go.dev/issue/51676), so each further callback is cheap. Parameters are declared
// as numbers: a pointer of C's is passed in the same register.

/*
#include <stdint.h>

extern int32_t lindbridgeHostCall(uintptr_t call);
extern void lindbridgeSetHostCall(uintptr_t fn);
extern void lindbridgeThreadEnd(uintptr_t end);
extern void lindbridgeQuiescent(uintptr_t report);
extern void lindbridgeTrace(uintptr_t trace);
extern void lindbridgeThreadMain(uintptr_t body, uintptr_t arg);
*/
import "C"
import "reflect"

//export lindbridgeThreadEnd
func lindbridgeThreadEnd(end C.uintptr_t) { threadEnd(threadEndAt(uintptr(end))) }

//export lindbridgeQuiescent
func lindbridgeQuiescent(report C.uintptr_t) { quiescent(reportAt(uintptr(report))) }

//export lindbridgeTrace
func lindbridgeTrace(trace C.uintptr_t) { traced(traceAt(uintptr(trace))) }

//export lindbridgeThreadMain
func lindbridgeThreadMain(body, arg C.uintptr_t) { threadMain(uintptr(body), uintptr(arg)) }

func makeCallbacks() callbackAddrs {
	C.lindbridgeSetHostCall(C.uintptr_t(reflect.ValueOf(hostCallFrame).Pointer()))
	return callbackAddrs{
		hostCall:   uintptr(C.lindbridgeHostCall),
		threadEnd:  uintptr(C.lindbridgeThreadEnd),
		quiescent:  uintptr(C.lindbridgeQuiescent),
		trace:      uintptr(C.lindbridgeTrace),
		threadMain: uintptr(C.lindbridgeThreadMain),
	}
}
