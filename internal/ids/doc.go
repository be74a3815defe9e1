// Package ids holds the two structures that tables of small numbers need: Map, from ids to values with wait-free
// lookup, and Set, which finds the lowest id that is free.
//
// fdtables keeps a cage's descriptors and the runtime's tables in them, and package cage its ids and cages. The package
// decides nothing about what an id means, which ids may be given out, or when one may be reused.
//
// It starts no goroutine.
package ids
