package bridge

import (
	"time"

	"golang.org/x/sys/unix"
)

// MonotonicNow is the reading of CLOCK_MONOTONIC (clock_gettime(2)), the clock of every time in a Report and a
// ThreadState.
func MonotonicNow() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // POSIX has no error for a clock that exists and memory that is ours
	}
	return time.Duration(ts.Nano())
}
