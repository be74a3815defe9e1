// Package lockcheck has the mutexes whose order is documented. In a normal build Mutex is a sync.Mutex and nothing else: of
// the same size, with the same methods, and NoneHeld and AssertHeld are empty. With the build tag invariants each use is
// checked as it happens:
//
//   - order: a lock is taken only while all that the goroutine holds of these locks is among those that its class may
//     follow (Order.After), or of its own class with a smaller key (Order.Keyed, LockKeyed);
//   - ownership: who unlocks is who locked, and functions that need a lock (AssertHeld) are called by who has it;
//   - leaves: at a call that may lead anywhere, as of the shim, a callback, a step or a Stopper, none is held (NoneHeld).
//
// What is found wrong ends the process, since a panic would be recovered by whoever runs steps and callbacks; tests of
// the checks catch it (Catch). A check takes a microsecond or two, so nothing is to be measured with the tag.
//
// Locks that the package does not know are no part of any check.
//
// It starts no goroutines.
package lockcheck

// Order is where a class of locks stands among the others.
type Order struct {
	// Name is how a report calls a lock of the class: "threei cage.rowMu".
	Name string
	// After are the classes of which a goroutine may hold locks when it takes one of this class. None: the class comes
	// first. Of whatever is not listed none may be held.
	After []Class
	// Keyed means that a goroutine may hold several of the class, taken by LockKeyed in ascending order of their keys.
	Keyed bool
}

// Class is a type that stands for all locks that have one place in the order. It has no fields: a comparable type whose
// zero value answers Order.
type Class interface{ Order() Order }
