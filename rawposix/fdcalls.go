package rawposix

import (
	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/threei"
)

// This file has the calls on one open file that move no data through guest memory, save getdents64. None of them waits
// for another program; how long the host's file system takes is up to it.

// onFD acquires argument 0 for fn, which gets the host's descriptor.
func onFD(t *threei.Thread, a *threei.Args, fn func(fd int, a *threei.Args) int64) int64 {
	h, e := of(t).acquire(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	return fn(h.fd, a)
}

// lseek is lseek(2): fd, offset, whence, among which are SEEK_DATA and SEEK_HOLE.
func lseek(t *threei.Thread, a *threei.Args) int64 { return onFD(t, a, seekHost) }

func seekHost(fd int, a *threei.Args) int64 {
	n, err := unix.Seek(fd, int64(a.Val[1]), int(int32(a.Val[2])))
	if err != nil {
		return errnoOf(err).Result()
	}
	return n
}

// ftruncate is ftruncate(2): fd, length.
func ftruncate(t *threei.Thread, a *threei.Args) int64 { return onFD(t, a, truncateHost) }

func truncateHost(fd int, a *threei.Args) int64 {
	return retried(func() error { return unix.Ftruncate(fd, int64(a.Val[1])) })
}

// fallocate is fallocate(2): fd, mode, offset, length.
func fallocate(t *threei.Thread, a *threei.Args) int64 { return onFD(t, a, allocateHost) }

func allocateHost(fd int, a *threei.Args) int64 {
	return retried(func() error {
		return unix.Fallocate(fd, uint32(a.Val[1]), int64(a.Val[2]), int64(a.Val[3]))
	})
}

// fadvise64 is posix_fadvise(2): fd, offset, length, advice.
func fadvise64(t *threei.Thread, a *threei.Args) int64 { return onFD(t, a, adviseHost) }

func adviseHost(fd int, a *threei.Args) int64 {
	return errnoOf(unix.Fadvise(fd, int64(a.Val[1]), int64(a.Val[2]), int(int32(a.Val[3])))).Result()
}

// fsync is fsync(2): fd.
func fsync(t *threei.Thread, a *threei.Args) int64 { return onFD(t, a, syncHost) }

func syncHost(fd int, _ *threei.Args) int64 {
	return retried(func() error { return unix.Fsync(fd) })
}

// fdatasync is fdatasync(2): fd.
func fdatasync(t *threei.Thread, a *threei.Args) int64 { return onFD(t, a, datasyncHost) }

func datasyncHost(fd int, _ *threei.Args) int64 {
	return retried(func() error { return unix.Fdatasync(fd) })
}

// retried makes a call until no signal of the host's own runtime interrupts it.
func retried(call func() error) int64 {
	for {
		if e := errnoOf(call()); e != abi.EINTR {
			return e.Result()
		}
	}
}

// getdents64 is getdents64(2): fd, buffer, size. The kernel writes the entries, whose form is the same on every
// architecture.
func getdents64(t *threei.Thread, a *threei.Args) int64 {
	h, e := of(t).acquire(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	size := uint64(uint32(a.Val[2]))
	if size == 0 {
		return abi.EINVAL.Result()
	}
	if _, e := t.Resolve(a.Val[1], size, a.Cage[1]); e != 0 {
		return e.Result()
	}
	n, e := sysBuf(unix.SYS_GETDENTS64, h.fd, iovec{base: a.Val[1], len: size})
	return result(int(n), e)
}

// closeFD is close(2): fd. The number is free even if an error is answered, which is what the host's last close of the
// file had to report. A call of another thread that is using the file goes on with it.
func closeFD(t *threei.Thread, a *threei.Args) int64 {
	return errnoOf(of(t).table.Close(fdtables.FD(int32(a.Val[0])))).Result()
}

// ioctl is ioctl(2): fd, request, pointer. FIONREAD (TIOCINQ) and TIOCOUTQ, how many bytes wait to be read and to be
// sent, are all there is; other requests are abi.ENOTTY.
func ioctl(t *threei.Thread, a *threei.Args) int64 {
	h, e := of(t).acquire(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	request := uint32(a.Val[1])
	if request != unix.TIOCINQ && request != unix.TIOCOUTQ {
		return abi.ENOTTY.Result()
	}
	dst, e := resolve(t, a.Val[2], 4, a.Cage[2])
	if e != 0 {
		return e.Result()
	}
	n, e := sysIoctlInt(h.fd, uintptr(request))
	if e != 0 {
		return e.Result()
	}
	le.PutUint32(dst, uint32(n))
	return 0
}
