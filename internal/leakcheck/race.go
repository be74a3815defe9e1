//go:build race

package leakcheck

// MemoryTells: the race detector keeps shadow memory for every thread that there ever was, and frees none.
const MemoryTells = false
