package rawposix

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// randomStep bounds how many random bytes are made at once: about a millisecond's worth.
const randomStep = 256 << 10

// getrandom is getrandom(2): buffer, size, flags. Before the kernel has collected enough to start with, soon after the
// host's boot, it waits as Linux does, unless GRND_NONBLOCK or GRND_INSECURE says not to.
func getrandom(t *threei.Thread, a *threei.Args) int64 {
	addr, size, flags := a.Val[0], a.Val[1], uint32(a.Val[2])
	const known = unix.GRND_NONBLOCK | unix.GRND_RANDOM | unix.GRND_INSECURE
	if flags&^known != 0 || flags&(unix.GRND_RANDOM|unix.GRND_INSECURE) == unix.GRND_RANDOM|unix.GRND_INSECURE {
		return abi.EINVAL.Result()
	}
	size = min(size, math.MaxInt32)
	if size > 0 {
		if _, e := t.Resolve(addr, size, a.Cage[0]); e != 0 {
			return e.Result()
		}
	}
	done := uint64(0)
	for done < size {
		n, _, errno := unix.Syscall(unix.SYS_GETRANDOM, uintptr(addr+done), uintptr(min(size-done, randomStep)),
			uintptr(flags|unix.GRND_NONBLOCK))
		switch e := abi.Errno(errno); {
		case e == 0:
			done += uint64(n)
			if t.Cancel.Stopping() {
				return int64(done)
			}
		case e == abi.EINTR:
		case e == abi.EAGAIN && flags&unix.GRND_NONBLOCK == 0:
			if e := awaitEntropy(t); e != 0 {
				return e.Result()
			}
		case done > 0:
			return int64(done)
		default:
			return e.Result()
		}
	}
	return int64(done)
}

// awaitEntropy waits until getrandom answers without waiting: that is when /dev/random is readable.
func awaitEntropy(t *threei.Thread) abi.Errno {
	fd, err := unix.Open("/dev/random", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return newFDErrno(errnoOf(err))
	}
	defer dropHost(fd)
	_, e := wait(t, fd, unix.POLLIN, time.Time{})
	return e
}
