//go:build race

package leakcheck

// memoryTells: the race detector keeps shadow memory for every thread that there ever was, and frees none.
const memoryTells = false
