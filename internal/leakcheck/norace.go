//go:build !race

package leakcheck

// memoryTells says that mappings and resident memory tell a leak from none.
const memoryTells = true
