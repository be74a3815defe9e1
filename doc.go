// Package lindbridge runs many isolated WebAssembly programs ("cages") in one process and ends any of them, at any time,
// whatever its threads are doing, with everything it held given back exactly once and the host still alive.
//
// A Runtime loads modules and spawns cages of them. A Cage runs a program for WASI preview 1, with threads if it wants
// them (wasi-threads). However it ends, by itself, by a trap, by a time limit or by Kill, it ends the same way: first all
// its execution is stopped, and then, and only then, what it held is cleaned up, step by step. Cage.Report tells
// how that went. The phases and what each guarantees are those of package exitcoord.
//
//	rt, err := lindbridge.New(lindbridge.Config{})
//	...
//	defer rt.Close(ctx)
//	module, err := rt.LoadFile(ctx, "prog.wasm")
//	...
//	cage, err := rt.Spawn(ctx, lindbridge.Program{Module: module, Stdout: os.Stdout, TimeLimit: 5 * time.Second})
//	...
//	status, err := cage.Wait(ctx)
//	fmt.Println(status.ExitCode(), cage.Report())
//
// The package composes the others and holds no policy of its own. It needs the shim, a shared library: see bridge.Open
// for where it is looked for.
//
// # Goroutines
//
// A cage with a Stdin, Stdout or Stderr that is no *os.File has a goroutine for each, as in os/exec; they end with the
// cage, save that a Stdin whose Read does not return keeps its goroutine until it does. Nothing else outlives a call.
//
// # Locks
//
// Runtime.mu guards the set of cages and is never held across a call of another package.
package lindbridge
