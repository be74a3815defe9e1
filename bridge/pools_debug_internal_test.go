//go:build race || shimdebug

package bridge

// poolsKeep: the race detector drops some of what is put into a sync.Pool, a garbage collection at each crossing all.
const poolsKeep = false
