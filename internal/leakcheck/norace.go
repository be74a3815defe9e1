//go:build !race

package leakcheck

// MemoryTells says that mappings and resident memory tell a leak from none.
const MemoryTells = true
