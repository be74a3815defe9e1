package bridge

import (
	"math"
	"runtime/debug"
)

// goThreadHeadroom is what Open adds to Config.MaxThreads for threads that are no guest's: goroutines in system calls,
// and in calls of the shim, which may compile or join.
const goThreadHeadroom = 10_000

// EnsureGoThreads raises the Go runtime's limit on OS threads to at least n; it never lowers it. The limit is the
// process's: the program dies when it is exceeded. It is 10,000 unless debug.SetMaxThreads says otherwise.
//
// Threads that the shim creates do not count towards it, even while they run Go code (https://go.dev/issue/60004). What
// counts are threads that Go creates: one for each goroutine that is in a system call or in a call of the shim.
//
// Open calls it with Config.MaxThreads and some headroom, so that as many goroutines as there are guest threads can be
// in such calls at once. Programs with more of them call it themselves.
func EnsureGoThreads(n int) {
	process.goThreadsMu.Lock()
	defer process.goThreadsMu.Unlock()
	// The limit can be read only by setting it, and the runtime dies at once of one that is below the number of
	// threads it has: so first it is raised to what no process reaches.
	old := debug.SetMaxThreads(math.MaxInt32)
	debug.SetMaxThreads(max(old, min(n, math.MaxInt32)))
}
