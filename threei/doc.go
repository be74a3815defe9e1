// Package threei is system-call interposition (3i): it decides who serves a cage's system call, and it is the one entry
// through which a cage ends.
//
// A system call is a number, six argument words and, for each word, the cage whose memory it points into if it is a
// pointer. The handler table says for each (cage, call) which function of which grate serves it; what no grate serves goes
// to the native function of that number, which package rawposix supplies. The package also has 3i's own calls, for guests
// by number and for the host as methods: registering handlers, copying them, copying data between cages.
//
// It executes no guest code itself (Config.CallGrate does) and knows nothing of descriptors or files.
//
// # The handler table
//
// The table lies outside Go's heap, because the shim reads it: a call between two guests never enters Go. All of it is
// 8-byte words that are read and written atomically.
//
//   - The directory has a word for each cage id: the address of the cage's row, or 0 for a cage of which every call is
//     native. System.HandlersAddr is the address of such a word; it is valid until System.Close.
//   - A row is a version and, 64 bytes on, two halves of abi.MaxCall words. The half that counts is the one that the
//     version's lowest bit names. Rows begin at multiples of 64, come with a cage's first handler and go with the cage.
//   - A word of a half is 0 for the native function, or it names a grate and a function, or it says that the grate is
//     gone: see entry.
//
// A reader loads the version, the word, and the version again; if that has changed it begins anew. Whoever registers writes
// one word of the half that counts; whoever replaces a whole row fills the other half and then increments the version. So a
// reader sees each change in one step, and has to begin anew only if a whole replacement, some 2,000 loads and stores, was
// completed between three loads of its own.
//
// A row is given to another cage only when its own is quiescent, so that the cage's threads, and the shim with them, never
// see that. The host may look at the row of any cage at any time: the look-up in Go also makes sure that the directory
// still leads to the row, and a row that is given back gets a version that it never had.
//
// # Invariants
//
//   - I1 A call that is guarded does not reach native by anybody's death: what targets a grate that is gone fails with
//     ELINDESRCH until somebody who may registers something else (TestGrate_ThatIsGoneFailsClosed, TestHammer).
//   - I2 No guest can make a call of its own, or of a descendant, less guarded than its own calls are
//     (TestGuests_ChangeTheirOwnAndTheirDescendantsHandlersOnly).
//   - I3 Rows and the reverse index agree whenever a row's lock is free (TestHandlers_AgreeWithASimpleModel).
//   - I4 To remove a cage costs what was registered by it and on it (BenchmarkDropGrate).
//   - I5 A cage's memory is there as long as a call uses it, and is released without anybody waiting for that
//     (TestReleaseMemory_WaitsForWhoeverUsesIt).
//   - I6 A look-up takes no lock, and a call that is served allocates nothing (TestSyscall_AllocatesNothing).
//
// # Who may name which cage
//
// The host, by the methods, may name any. The thread of a guest may make calls on, name pointers of, and copy from and to
//
//   - its own cage,
//   - the cages that it serves at the moment, which are those of the chain of Thread.Caller,
//   - a cage that its own has a handler on,
//   - where it makes a call on such a cage, what that cage may name by a handler of its own.
//
// Anything else is EPERM for a target, EFAULT for a pointer and ELINDAPIABORTED for a copy. Memory of the runtime, named
// by abi.CageRawPOSIX, is what Thread.Scratch handed out to a thread of the chain, and nothing else; a list in it may lead
// to the memory of the cages of the chain. A cage that stops can be given nothing new, but those that serve it reach its
// memory until nothing of it runs.
//
// A guest may register handlers on its own cage and on those that Config.MayInterpose allows, its descendants, and may
// register grates of the same. It may copy handlers between them, though not onto itself. With two limits:
//
//   - on its own cage it can neither replace nor remove what another cage registered, nor what is gone;
//   - what it deregisters on a descendant becomes what the same call of its own is, which need not be native.
//
// # Deaths
//
// A cage that has begun to stop is no target, no grate and no side of a copy. The steps of its exit are NotifyGrates before
// the descriptors go, DropHandlers after that, and ReleaseMemory in the place of the memory step. They may run while others
// use the cage, and on a thread that does.
//
// # What differs from Lind
//
//   - What panics there is an error: unknown cages and calls, a handler that is missing, a grate that is gone.
//   - A grate's death does not leave holes, through which its calls would reach native or panic.
//   - Call 1001 takes the numbers 500 and 501 in the grate's place as flags; no cage has them as ids.
//   - harsh_cage_exit has a number, so that it can be registered like any other call; a guest that makes it itself
//     asks whoever serves it, and else nobody.
//
// # Locks and goroutines
//
// Each cage has a lock for its row and the list of grates in it, and one for the list of rows that it serves; in this
// order, and the rows of two cages in the order in which the cages came. No lock is held across a hook, a native function
// or a step.
//
// The only goroutines are those of the host's calls into grates with a context that can end: see System.WaitLate.
package threei
