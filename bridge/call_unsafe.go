package bridge

import (
	"time"
	"unsafe"

	"github.com/lindbridge/lindbridge/internal/guestmem"
)

// Call is one host call in flight. It lies in the shim's memory, on the stack of the guest thread that makes it, and is
// good until Handler.HostCall returns. Only the goroutine that was given it may use it.
type Call struct{ c callABI }

// callAt is the call at an address that the shim passed to the callback.
func callAt(addr uintptr) *Call { return (*Call)(foreign(addr)) }

// threadEndAt and reportAt are likewise what the shim passed.
func threadEndAt(addr uintptr) *threadEndABI { return (*threadEndABI)(foreign(addr)) }
func reportAt(addr uintptr) *reportABI       { return (*reportABI)(foreign(addr)) }
func traceAt(addr uintptr) *traceABI         { return (*traceABI)(foreign(addr)) }

// Domain is the domain that the calling thread belongs to.
func (c *Call) Domain() *Domain {
	if e := process.domains.at(c.c.user); e != nil {
		return e.value
	}
	return nil // the handler closed the domain, which the shim refuses while a call is in flight
}

// User is the domain's DomainConfig.User. It allocates nothing.
func (c *Call) User() any {
	if e := process.domains.at(c.c.user); e != nil {
		return e.value.user
	}
	return nil
}

// Worker reports whether a worker of a grate makes the call, which serves a call of another domain's thread, or of the
// host. Domain, User and Memory are the grate's then.
func (c *Call) Worker() bool { return c.c.worker != 0 }

// Depth is how many workers deep the call is, 0 for one that no worker makes.
func (c *Call) Depth() uint32 { return c.c.depth }

// TID is the calling thread's id within its domain, 1 for the one that Domain.Start started.
func (c *Call) TID() uint32 { return c.c.tid }

// Import is the Import.ID of the function that is called.
func (c *Call) Import() uint32 { return c.c.importID }

// Arg is argument i, 0 for the first. Of an i32 or f32 only the low 32 bits count: see Arg32.
//
// Preconditions:
// The import has more than i parameters.
func (c *Call) Arg(i uint) uint64 { return *(*uint64)(unsafe.Add(c.c.args, i*argBytes)) }

// Slots are the arguments as the shim has them: argument i is the first word of slot i. It is for functions with many
// arguments: quicker than as many calls of Arg.
//
// Preconditions:
// No slot is used but those of the import's parameters, and none after SetResult or the return of HostCall.
func (c *Call) Slots() *[16][argBytes / 8]uint64 { return (*[16][argBytes / 8]uint64)(c.c.args) }

// Arg32 is argument i of type i32, or the bits of one of type f32.
//
// Preconditions:
// The import has more than i parameters.
func (c *Call) Arg32(i uint) uint32 { return uint32(c.Arg(i)) }

// SetResult sets the call's result; an i32 or f32 is its low 32 bits. Arguments share its place: read them before. Of
// an import without a result the guest sees nothing.
func (c *Call) SetResult(v uint64) { *(*uint64)(c.c.args) = v }

// Resumed is how the wait ended that this call asked for when it was made before, or NotResumed.
func (c *Call) Resumed() Resumed { return Resumed(c.c.resumed) }

// MaxWait is the most descriptors that a call can wait for.
const MaxWait = maxWait

// WaitFD is a descriptor of the host to wait for.
type WaitFD struct {
	// FD is passed over if it is negative.
	FD int32
	// Events are those of poll(2).
	Events uint32
}

// Wait sets what the verdict WaitThread waits for: until one of fds is ready or timeout has passed, a negative one being
// for ever. It must not be combined with SetResult, which would change an argument of the call that is made again.
//
// Preconditions:
// fds has at most MaxWait elements.
func (c *Call) Wait(fds []WaitFD, timeout time.Duration) {
	room := unsafe.Slice((*waitFDABI)(c.c.wait), maxWait)
	for i, fd := range fds {
		room[i] = waitFDABI{fd: fd.FD, events: fd.Events}
	}
	c.c.waitCount = uint32(len(fds))
	c.c.timeoutNs = int64(timeout)
}

// Memory is the domain's linear memory as it is now, or one of no bytes if the module has none. It stays valid until
// Domain.Close, though the guest may grow the memory beyond it.
func (c *Call) Memory() guestmem.Memory {
	return guestmem.New(uintptr(c.c.memory), c.c.memoryBytes)
}

// ThreadData is what SetThreadData set last on this guest thread, or nil. It takes no lock and allocates nothing.
func (c *Call) ThreadData() any {
	if e := process.threads.at(c.c.threadUser); e != nil {
		return e.value
	}
	return nil
}

// SetThreadData keeps v for this guest thread, for ThreadData in later calls and in its ThreadEnd, after which v is
// forgotten. The first of a thread takes a short lock and allocates a few words; later ones do neither.
func (c *Call) SetThreadData(v any) {
	if e := process.threads.at(c.c.threadUser); e != nil {
		e.value = v
		return
	}
	// A full slab gives token 0, and the thread no data: it has room for all threads that Linux can have.
	c.c.threadUser = process.threads.put(v)
}

// argBytes is the distance between arguments: the size of a value slot of the WebAssembly runtime.
const argBytes = 16
