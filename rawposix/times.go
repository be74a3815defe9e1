package rawposix

import (
	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	utimeNow  = 1<<30 - 1
	utimeOmit = 1<<30 - 2
)

// utimensat is utimensat(2): directory fd, path, two timespecs, flags. No path means the descriptor itself, no timespecs
// the present.
func utimensat(t *threei.Thread, a *threei.Args) int64 {
	p := of(t)
	var room [2]unix.Timespec
	times, e := readTimes(t, a, &room)
	if e != 0 {
		return e.Result()
	}
	if times != nil && times[0].Nsec == utimeOmit && times[1].Nsec == utimeOmit {
		return 0 // as Linux has it, without a look at the other arguments
	}
	flags := int(uint32(a.Val[3]))
	if a.Val[1] == 0 && flags&unix.AT_EMPTY_PATH == 0 {
		if flags != 0 {
			return abi.EINVAL.Result()
		}
		h, e := p.acquire(a.Val[0])
		if e != 0 {
			return e.Result()
		}
		defer h.release()
		return sysUtimensat(h.fd, nil, times, 0).Result()
	}
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return abi.EINVAL.Result()
	}
	path, e := p.pathOrEmpty(t, a, 1, flags)
	if e != 0 {
		return e.Result()
	}
	defer p.putPath(path)
	dir, e := p.acquireDir(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer dir.release()
	return p.host.utimes(dir.fd, path.b[:path.n+1], times, flags&unix.AT_SYMLINK_NOFOLLOW != 0).Result()
}

// readTimes reads the timespecs of utimensat into room, or answers nil if there are none.
func readTimes(t *threei.Thread, a *threei.Args, room *[2]unix.Timespec) (*[2]unix.Timespec, abi.Errno) {
	if a.Val[2] == 0 {
		return nil, 0
	}
	var ts [2]timespec
	if e := readTimespecs(t, ts[:], a.Val[2], a.Cage[2]); e != 0 {
		return nil, e
	}
	for i, v := range ts {
		if v.nsec != utimeNow && v.nsec != utimeOmit && (v.nsec < 0 || v.nsec >= 1e9) {
			return nil, abi.EINVAL
		}
		room[i] = unix.Timespec{Sec: v.sec, Nsec: v.nsec}
	}
	return room, 0
}

// utimes sets the times of what path beneath dir leads to, or of dir itself for the empty path.
func (h *Host) utimes(dir int, path []byte, times *[2]unix.Timespec, nofollow bool) abi.Errno {
	if len(path) == 1 {
		return utimesOf(dir, times)
	}
	if nofollow && isName(path) {
		return sysUtimensat(dir, path, times, unix.AT_SYMLINK_NOFOLLOW)
	}
	flags := unix.O_PATH
	if nofollow {
		flags |= unix.O_NOFOLLOW
	}
	fd, e := h.openBeneath(dir, path, flags, 0)
	if e != 0 {
		return e
	}
	e = utimesOf(fd, times)
	dropHost(fd)
	return e
}

// utimesOf sets the times of what fd stands for, which may be an O_PATH descriptor.
func utimesOf(fd int, times *[2]unix.Timespec) abi.Errno {
	e := sysUtimensat(fd, emptyPath, times, unix.AT_EMPTY_PATH)
	if e == abi.EINVAL { // a kernel before 5.8
		e = sysUtimensat(unix.AT_FDCWD, append([]byte(procFD(fd)), 0), times, 0)
	}
	return e
}
