// Package bridge finds, loads and version-checks the Rust shim (liblindshim.so) and gives a typed Go API over its C
// ABI, whose specification is rust-shim/include/lindshim.h.
//
// It decides no policy: it knows engines, modules, domains (the execution side of one cage) and guest threads, and
// nothing of descriptors, parents or exit statuses. It never frees what runs, and it never waits for a domain to end:
// that a domain is quiescent arrives as a call of Handler.Quiescent.
//
// # Two builds
//
// With cgo the shim calls back through functions exported by cgo; an OS thread of the shim keeps its place in the Go
// runtime from its first host call until it ends. With CGO_ENABLED=0 it calls back through purego, which enters and
// leaves the Go runtime on each call. Behaviour is the same; a host call costs some 70 ns in one, and 2 to 4 µs in the
// other.
//
// # Invariants
//
//   - I1 No Go pointer is kept by the shim. What it keeps are tokens: numbers with a generation, of which a stale one
//     finds nothing.
//   - I2 Nothing unwinds into C: a panic of a Handler ends at the callback, is reported through Config.OnPanic, and
//     traps the guest thread.
//   - I3 What a Handler is given is its own: text is copied before the callback goes on. The exceptions are Call and
//     ThreadEnd, which are good only during the callback.
//   - I4 A host call takes no lock and allocates nothing here. It costs two atomic loads to find its domain.
//   - I5 A closed Engine, Module or Domain answers ErrHandle; closing it again does nothing.
//   - I6 No function of the shim is called before its ABI version and the size of every shared structure were found to
//     be ours.
//
// # Threads
//
// The package starts no goroutines. The shim's OS threads run guests; they are started by Domain.Start and
// Domain.SpawnThread, reused, and ended by Engine.Close. Every method may be called from any goroutine, and from within
// a Handler too, at any time, unless it says otherwise.
package bridge
