package bridge

import "sync"

// registry is what a process has once: the shims it has loaded, and what their callbacks find their way by.
//
// It is the package's only mutable state, and it has to be the process's: a callback is a plain C function without a
// closure, of which a process can make only so many and can free none; and a shared library can be loaded only once for
// a path and is never unloaded, since OS threads of it may still be on their way out.
type registry struct {
	mu        sync.Mutex
	libraries map[string]*library // by path, as library has it; guarded by mu

	callbacksOnce sync.Once
	callbacks     callbackAddrs // immutable once callbacksOnce is done

	domains slab[*Domain] // tokens are lindshim_domain_config_t.user
	threads slab[any]     // tokens are lindshim_call_t.thread_user; a value is owned by its guest thread

	// threadEnds holds *ThreadEnd for reuse, so that a thread's end allocates for its text alone.
	threadEnds sync.Pool

	goThreadsMu sync.Mutex // held while the Go runtime's thread limit is read and set
}

var process registry

// callbackAddrs are the C addresses of the callbacks.
type callbackAddrs struct{ hostCall, threadEnd, quiescent, trace, threadMain uintptr }

// callbackAddrs makes the callbacks on first use.
func (r *registry) callbackAddrs() callbackAddrs {
	r.callbacksOnce.Do(func() { r.callbacks = makeCallbacks() })
	return r.callbacks
}

// library answers the shim at path, which is loaded on first use.
//
// Preconditions:
// path is absolute and without symbolic links, or a plain soname.
func (r *registry) library(path string) (*library, error) {
	// The lock is held over dlopen so that one path is never loaded twice; nothing of the shim runs in dlopen but
	// its initializers, which know no callbacks yet.
	r.mu.Lock()
	defer r.mu.Unlock()
	if lib := r.libraries[path]; lib != nil {
		return lib, nil
	}
	lib, err := loadLibrary(path)
	if err != nil {
		return nil, err
	}
	if r.libraries == nil {
		r.libraries = make(map[string]*library)
	}
	r.libraries[path] = lib
	return lib, nil
}
