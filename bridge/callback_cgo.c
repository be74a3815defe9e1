//go:build cgo

// The callback of host calls, without what cgo puts around a function that is exported for any C program to call at any time:
// it waits for the Go runtime's start, and looks for a traceback context, at each call. Here the runtime runs already.

#include <stddef.h>
#include <stdint.h>

// The Go runtime's, for C code that was generated to call Go: cmd/cgo and SWIG do so (runtime/cgo).
extern void crosscall2(void (*fn)(void *), void *frame, int size, size_t context);

static void (*host_call)(void *frame);

void lindbridgeSetHostCall(uintptr_t fn) { host_call = (void (*)(void *))fn; }

int32_t lindbridgeHostCall(uintptr_t call)
{
    struct {
        uintptr_t call;
        int32_t verdict;
    } frame = {call, 0};
    crosscall2(host_call, &frame, sizeof frame, 0);
    return frame.verdict;
}
