package rawposix_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
)

var guestClocks = map[string]int{
	"realtime": unix.CLOCK_REALTIME, "monotonic": unix.CLOCK_MONOTONIC, "process": unix.CLOCK_PROCESS_CPUTIME_ID,
	"thread": unix.CLOCK_THREAD_CPUTIME_ID, "raw": unix.CLOCK_MONOTONIC_RAW, "boot": unix.CLOCK_BOOTTIME, "tai": unix.CLOCK_TAI,
	"realtime coarse": unix.CLOCK_REALTIME_COARSE, "monotonic coarse": unix.CLOCK_MONOTONIC_COARSE,
}

// clock reads a clock of the cage.
func (e *env) clock(id int) time.Duration {
	e.t.Helper()
	defer e.mark()()
	at := e.timespec(0, 0)
	e.must(abi.CallClockGettime, id, at)
	sec, nsec := int64(le.Uint64(e.bytes(at, 8))), int64(le.Uint64(e.bytes(at+8, 8)))
	if nsec < 0 || nsec >= 1e9 {
		e.t.Fatalf("clock %d: %d nanoseconds", id, nsec)
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec)
}

func hostClock(t testing.TB, id int) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(id), &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func TestClockGettime_AgreesWithTheHost(t *testing.T) {
	e := newEnv(t)
	for name, id := range guestClocks {
		if id == unix.CLOCK_THREAD_CPUTIME_ID {
			continue // this goroutine may change threads
		}
		// The cage's monotonic clock is at most the time of a system call ahead, never behind.
		const ahead = time.Millisecond
		before := hostClock(t, id)
		got := e.clock(id)
		after := hostClock(t, id)
		if got < before || got > after+ahead {
			t.Errorf("%s clock shows %v between %v and %v", name, got, before, after)
		}
	}
	e.clock(unix.CLOCK_THREAD_CPUTIME_ID)
}

func TestClockGettime_KnowsNoClocksOfOtherProcesses(t *testing.T) {
	e := newEnv(t)
	at := e.timespec(0, 0)
	for _, id := range []int{-1, -6, -2, 10, 12, 1 << 20, -1 << 31} {
		e.fails(abi.EINVAL, abi.CallClockGettime, id, at)
		e.fails(abi.EINVAL, abi.CallClockGetres, id, at)
		e.fails(abi.EINVAL, abi.CallClockNanosleep, id, 0, at, 0)
	}
	e.fails(abi.EFAULT, abi.CallClockGettime, unix.CLOCK_REALTIME, gp(memSize-15))
	e.fails(abi.EFAULT, abi.CallClockGettime, unix.CLOCK_BOOTTIME, 0)
	for name, id := range guestClocks {
		e.must(abi.CallClockGetres, id, at)
		if ns := le.Uint64(e.bytes(at+8, 8)); ns == 0 || ns > 20e6 {
			t.Errorf("%s: resolution of %d ns", name, ns)
		}
		e.must(abi.CallClockGetres, id, 0)
		e.fails(abi.EFAULT, abi.CallClockGetres, id, gp(memSize-15))
	}
}

func TestSleep_EndsWhenItIsTimeAndNotBefore(t *testing.T) {
	const short = 5_000_000
	e := newEnv(t)
	in := func(id int, d time.Duration) gp {
		at := e.clock(id) + d
		return e.timespec(int64(at/time.Second), int64(at%time.Second))
	}
	for name, c := range map[string]struct {
		call  abi.Call
		args  func() []any
		clock int
	}{
		"nanosleep": {abi.CallNanosleep, func() []any { return []any{e.timespec(0, short), 0} }, unix.CLOCK_MONOTONIC},
		"realtime": {abi.CallClockNanosleep, func() []any {
			return []any{unix.CLOCK_REALTIME, 0, e.timespec(0, short), 0}
		}, unix.CLOCK_MONOTONIC},
		"boot": {abi.CallClockNanosleep, func() []any {
			return []any{unix.CLOCK_BOOTTIME, 0, e.timespec(0, short), 0}
		}, unix.CLOCK_BOOTTIME},
		"until monotonic": {abi.CallClockNanosleep, func() []any {
			return []any{unix.CLOCK_MONOTONIC, 1, in(unix.CLOCK_MONOTONIC, short), 0}
		}, unix.CLOCK_MONOTONIC},
		"until realtime": {abi.CallClockNanosleep, func() []any {
			return []any{unix.CLOCK_REALTIME, 1, in(unix.CLOCK_REALTIME, short), 0}
		}, unix.CLOCK_REALTIME},
		"until boot": {abi.CallClockNanosleep, func() []any {
			return []any{unix.CLOCK_BOOTTIME, 1, in(unix.CLOCK_BOOTTIME, short), 0}
		}, unix.CLOCK_BOOTTIME},
		"until tai": {abi.CallClockNanosleep, func() []any {
			return []any{unix.CLOCK_TAI, 1, in(unix.CLOCK_TAI, short), 0}
		}, unix.CLOCK_TAI},
	} {
		start := e.clock(c.clock)
		e.must(c.call, c.args()...)
		if d := e.clock(c.clock) - start; d < short {
			t.Errorf("%s: slept %v of %v", name, d, time.Duration(short))
		}
	}
}

func TestSleep_UntilTheMonotonicClockShowsATimeNeverEndsEarly(t *testing.T) {
	e := newEnv(t)
	at := e.timespec(0, 0)
	for range 200 {
		until := e.clock(unix.CLOCK_MONOTONIC) + 50*time.Microsecond
		le.PutUint64(e.bytes(at, 8), uint64(until/time.Second))
		le.PutUint64(e.bytes(at+8, 8), uint64(until%time.Second))
		e.must(abi.CallClockNanosleep, unix.CLOCK_MONOTONIC, 1, at, 0)
		if now := e.clock(unix.CLOCK_MONOTONIC); now < until {
			t.Fatalf("slept until %v, woke at %v", until, now)
		}
	}
}

func TestSleep_IntoThePastEndsAtOnceAndNonsenseIsRefused(t *testing.T) {
	e := newEnv(t)
	for _, id := range []int{unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI} {
		e.must(abi.CallClockNanosleep, id, 1, e.timespec(0, 0), 0)
		e.must(abi.CallClockNanosleep, id, 1, e.timespec(1, 0), 0)
		e.must(abi.CallClockNanosleep, id, 0, e.timespec(0, 0), 0)
	}
	e.must(abi.CallNanosleep, e.timespec(0, 0), 0)
	for _, ts := range []gp{e.timespec(0, 1e9), e.timespec(0, -1), e.timespec(-1, 0)} {
		e.fails(abi.EINVAL, abi.CallNanosleep, ts, 0)
		e.fails(abi.EINVAL, abi.CallClockNanosleep, unix.CLOCK_MONOTONIC, 1, ts, 0)
	}
	e.fails(abi.EFAULT, abi.CallNanosleep, gp(memSize-15), 0)
	e.fails(abi.EFAULT, abi.CallNanosleep, 0, 0)
	e.fails(abi.EFAULT, abi.CallNanosleep, e.timespec(0, 1), gp(memSize-15))
	soon := e.timespec(0, 1)
	e.fails(abi.EINVAL, abi.CallClockNanosleep, unix.CLOCK_THREAD_CPUTIME_ID, 0, soon, 0)
	e.fails(abi.EOPNOTSUPP, abi.CallClockNanosleep, unix.CLOCK_PROCESS_CPUTIME_ID, 0, soon, 0)
	e.fails(abi.EPERM, abi.CallClockNanosleep, unix.CLOCK_REALTIME_ALARM, 0, soon, 0)
	e.must(abi.CallSchedYield)
}

func TestGetrandom_FillsTheBufferAndNoMore(t *testing.T) {
	e := newEnv(t)
	at := e.alloc(700_000)
	for _, n := range []int{0, 1, 16, 256, 257, 600_000} {
		clear(e.bytes(at, 700_000))
		if got := e.must(abi.CallGetrandom, at, n, 0); got != int64(n) {
			t.Fatalf("getrandom of %d: %d", n, got)
		}
		zeros := 0
		for _, c := range e.bytes(at, n) {
			if c == 0 {
				zeros++
			}
		}
		if n >= 16 && zeros > n/8 {
			t.Errorf("%d of %d bytes are zero", zeros, n)
		}
		for i, c := range e.bytes(at+gp(n), 64) {
			if c != 0 {
				t.Errorf("byte %d after %d is %#x", i, n, c)
			}
		}
	}
	e.fails(abi.EFAULT, abi.CallGetrandom, gp(memSize-8), 9, 0)
	e.fails(abi.EINVAL, abi.CallGetrandom, at, 8, 8)
	e.fails(abi.EINVAL, abi.CallGetrandom, at, 8, unix.GRND_RANDOM|unix.GRND_INSECURE)
	if n := e.must(abi.CallGetrandom, at, 8, unix.GRND_RANDOM|unix.GRND_NONBLOCK); n != 8 {
		t.Errorf("getrandom: %d", n)
	}
}
