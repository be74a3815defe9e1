package rawposix

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// clockKnown reports whether a guest may read the clock. Negative numbers, which name clocks of host processes and
// descriptors, are not for guests.
func clockKnown(clock int32) bool {
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_PROCESS_CPUTIME_ID, unix.CLOCK_THREAD_CPUTIME_ID,
		unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_MONOTONIC_COARSE, unix.CLOCK_BOOTTIME,
		unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM, unix.CLOCK_TAI:
		return true
	}
	return false
}

// clockGettime is clock_gettime(2): clock, timespec. The CPU-time clocks are the host's: of the process that all cages
// run in, and of the thread that runs the caller.
func clockGettime(t *threei.Thread, a *threei.Args) int64 {
	clock := int32(a.Val[0])
	if !clockKnown(clock) {
		return abi.EINVAL.Result()
	}
	dst, e := resolve(t, a.Val[1], timespecSize, a.Cage[1])
	if e != 0 {
		return e.Result()
	}
	// The two that programs read all the time need no system call.
	switch clock {
	case unix.CLOCK_REALTIME:
		now := time.Now()
		le.PutUint64(dst, uint64(now.Unix()))
		le.PutUint64(dst[8:], uint64(now.Nanosecond()))
		return 0
	case unix.CLOCK_MONOTONIC:
		writeTimespec(dst, time.Duration(of(t).host.clock.now()))
		return 0
	}
	var ts unix.Timespec
	if e := sysClockGettime(clock, &ts); e != 0 {
		return e.Result()
	}
	le.PutUint64(dst, uint64(ts.Sec))
	le.PutUint64(dst[8:], uint64(ts.Nsec))
	return 0
}

// clockGetres is clock_getres(2): clock, timespec or none.
func clockGetres(t *threei.Thread, a *threei.Args) int64 {
	clock := int32(a.Val[0])
	if !clockKnown(clock) {
		return abi.EINVAL.Result()
	}
	var ts unix.Timespec
	if e := errnoOf(unix.ClockGetres(clock, &ts)); e != 0 {
		return e.Result()
	}
	if a.Val[1] == 0 {
		return 0
	}
	dst, e := resolve(t, a.Val[1], timespecSize, a.Cage[1])
	if e != 0 {
		return e.Result()
	}
	le.PutUint64(dst, uint64(ts.Sec))
	le.PutUint64(dst[8:], uint64(ts.Nsec))
	return 0
}
