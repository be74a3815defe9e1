package rawposix

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// timerAbstime is TIMER_ABSTIME of clock_nanosleep(2).
const timerAbstime = 1

// nanosleep is nanosleep(2): timespec, timespec for what is left or none. Like every wait it ends by about a thousandth
// late at worst, which is what the kernel allows itself for poll.
func nanosleep(t *threei.Thread, a *threei.Args) int64 {
	d, e := readTimeout(t, a.Val[0], a.Cage[0])
	if e != 0 {
		return e.Result()
	}
	return sleepFor(t, d, a.Val[1], a.Cage[1])
}

// clockNanosleep is clock_nanosleep(2): clock, flags, timespec, timespec for what is left or none. An absolute time of a
// clock that can be set is waited for on that clock, so that setting it counts. The CPU-time clocks cannot be waited for.
func clockNanosleep(t *threei.Thread, a *threei.Args) int64 {
	clock, absolute := int32(a.Val[0]), a.Val[1]&timerAbstime != 0
	if !clockKnown(clock) {
		return abi.EINVAL.Result()
	}
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI:
	case unix.CLOCK_THREAD_CPUTIME_ID:
		return abi.EINVAL.Result()
	case unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
		return abi.EPERM.Result() // they wake the host up
	default:
		return abi.EOPNOTSUPP.Result()
	}
	d, e := readTimeout(t, a.Val[2], a.Cage[2])
	if e != 0 {
		return e.Result()
	}
	switch {
	case clock == unix.CLOCK_MONOTONIC && absolute:
		return sleepUntil(t, t.Deadline(d-time.Duration(of(t).host.clock.now()))).Result()
	case absolute:
		return sleepOn(t, clock, d).Result()
	case clock == unix.CLOCK_BOOTTIME:
		// Relative, but it goes on while the host is suspended.
		var now unix.Timespec
		if e := sysClockGettime(clock, &now); e != 0 {
			return e.Result()
		}
		if d > math.MaxInt64-time.Duration(now.Nano()) {
			d = math.MaxInt64 - time.Duration(now.Nano())
		}
		return sleepOn(t, clock, d+time.Duration(now.Nano())).Result()
	}
	return sleepFor(t, d, a.Val[3], a.Cage[3])
}

// sleepFor waits for d. When it is cancelled, what is left goes to the timespec at addr, if there is one.
func sleepFor(t *threei.Thread, d time.Duration, addr uint64, cage abi.CageID) int64 {
	var left []byte
	if addr != 0 {
		var e abi.Errno
		if left, e = resolve(t, addr, timespecSize, cage); e != 0 {
			return e.Result()
		}
	}
	deadline := t.Deadline(d)
	e := sleepUntil(t, deadline)
	if e == abi.EINTR && left != nil {
		rest := d
		if !deadline.IsZero() {
			rest = time.Until(deadline)
		}
		writeTimespec(left, rest)
	}
	return e.Result()
}

// sleepUntil waits until deadline, the zero one being never. It is abi.EINTR if the domain stops first.
func sleepUntil(t *threei.Thread, deadline time.Time) abi.Errno {
	if !deadline.IsZero() && time.Until(deadline) <= 0 {
		return 0
	}
	_, e := waitOrPark(t, -1, 0, deadline)
	return e
}

// sleepOn waits until clock shows d or more, also if it is set meanwhile.
func sleepOn(t *threei.Thread, clock int32, d time.Duration) abi.Errno {
	base := clock
	if clock == unix.CLOCK_TAI {
		// No timer runs by it. It is as far from CLOCK_REALTIME as the leap seconds that there were, which change
		// every few years at most.
		var tai, utc unix.Timespec
		if e := sysClockGettime(clock, &tai); e != 0 {
			return e
		}
		if e := sysClockGettime(unix.CLOCK_REALTIME, &utc); e != 0 {
			return e
		}
		base = unix.CLOCK_REALTIME
		d -= (time.Duration(tai.Nano()-utc.Nano()) + time.Second/2).Truncate(time.Second)
	}
	fd, err := unix.TimerfdCreate(int(base), unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return newFDErrno(errnoOf(err))
	}
	defer dropHost(fd)
	// A timer set to 0 is one that never fires, while a time of 0 has passed.
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, int64(d)))}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &at, nil); err != nil {
		return errnoOf(err)
	}
	_, e := wait(t, fd, unix.POLLIN, time.Time{})
	return e
}

// schedYield is sched_yield(2).
func schedYield(*threei.Thread, *threei.Args) int64 {
	_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // never fails on Linux
	return 0
}
