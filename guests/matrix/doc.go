// Package matrix writes the guest programs of the exit matrix, as WebAssembly text: one program for each way of ending
// (who ends it, how, and what the other threads are doing at that moment).
//
// It runs nothing and imports nothing of the project: the tests of every layer that can run a guest iterate over Cases.
//
// What each program promises to its test:
//
//   - Every thread that takes part counts itself in just before it begins what it is to be found doing, and the
//     thread that ends the program waits for that count with memory.atomic.wait32. No program waits for time to pass.
//   - A program that waits to be ended from outside (HostKill, TimeLimit) writes the one byte "R" to descriptor 1 when
//     all are there. It writes nothing else, ever.
//   - Descriptor 0 must be a pipe, or another descriptor that can be polled, which nothing is written to and which
//     stays open. Only the activities that say NeedsStdin touch it.
//   - A program that finds something that must not happen (a spawn that fails when none may, a blocked call that comes
//     back) exits with one of the Fail codes, which are no outcome of any case.
package matrix
