package rawposix

import (
	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// createMode are the bits of a mode that a guest may give to what it makes. Set-user-ID and set-group-ID are not among
// them: the host's own credentials make the file, and would be lent to whoever runs it.
const createMode = unix.S_IRWXU | unix.S_IRWXG | unix.S_IRWXO | unix.S_ISVTX

// openat is openat(2): directory fd, path, flags, mode. The host's umask applies to mode.
func openat(t *threei.Thread, a *threei.Args) int64 {
	p := of(t)
	flags := uint32(a.Val[2])
	switch {
	case flags&oTmpfile != 0:
		// A file without a name could only be given one through /proc. Programs know file systems that lack this.
		return abi.EOPNOTSUPP.Result()
	case flags&(oCreat|oDirectory) == oCreat|oDirectory && flags&oPath == 0:
		return abi.EINVAL.Result()
	}
	path, e := p.path(t, a, 1)
	if e != 0 {
		return e.Result()
	}
	defer p.putPath(path)
	if path.n == 0 {
		return abi.ENOENT.Result()
	}
	dir, e := p.acquireDir(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer dir.release()
	fd, f, e := p.host.openFile(t, dir.fd, path, flags, uint32(a.Val[3])&createMode)
	if e != 0 {
		return e.Result()
	}
	v, e := p.open(fd, f, flags&oCloexec != 0)
	return result(int(v), e)
}

// openFile opens path beneath dir for a guest. Whatever it is, the open itself does not wait in the kernel.
func (h *Host) openFile(t *threei.Thread, dir int, path *pathBuf, flags, mode uint32) (int, *file, abi.Errno) {
	name, host := path.b[:path.n+1], toHostFlags(flags)
	if flags&oPath != 0 {
		fd, e := h.openBeneath(dir, name, host, 0)
		return fd, &file{typ: typeOther}, e // nothing can be read or written through it
	}
	host |= unix.O_NONBLOCK | unix.O_NOCTTY
	waits := flags&oNonblock == 0
	fd, e := h.openBeneath(dir, name, host, mode)
	if e == abi.ENXIO && waits && flags&oAccmode == oWronly {
		fd, e = h.openWriter(t, dir, name, host)
	}
	if e != 0 {
		return -1, nil, e
	}
	f, err := describe(fd)
	if err != nil {
		dropHost(fd)
		return -1, nil, errnoOf(err)
	}
	f.status.Store(flags & oNonblock)
	if f.typ == typePipe && waits && flags&oAccmode == 0 {
		if fd, e = h.awaitWriter(t, fd, f, host); e != 0 {
			return -1, nil, e
		}
	}
	return fd, f, 0
}
