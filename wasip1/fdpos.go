package wasip1

import "github.com/lindbridge/lindbridge/abi"

// fdSeek is fd_seek(fd, offset, whence) -> filesize. WASI's whence is Linux's.
func fdSeek(c call) Errno {
	whence := c.u32(2)
	if whence > seekEnd {
		return ErrnoInval
	}
	return c.seek(c.u64(1), uint64(whence), c.ptr(3))
}

// fdTell is fd_tell(fd) -> filesize.
func fdTell(c call) Errno { return c.seek(0, seekCur, c.ptr(1)) }

// seek moves the first argument's offset and writes where it is then to out.
func (c call) seek(offset, whence, out uint64) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	if !c.inMemory(out, 8) {
		return ErrnoFault
	}
	if errno := c.badfIfDir(fd); errno != 0 {
		return errno
	}
	r := c.sysFD(abi.CallLseek, fd, offset, whence, 0)
	if r < 0 {
		return errnoOf(r)
	}
	return c.writeU64(out, uint64(r))
}

// fdSync is fd_sync(fd).
func fdSync(c call) Errno { return c.sync(abi.CallFsync) }

// fdDatasync is fd_datasync(fd).
func fdDatasync(c call) Errno { return c.sync(abi.CallFdatasync) }

// sync makes the system call n of the descriptor that is the first argument.
func (c call) sync(n abi.Call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	if errno := c.badfIfDir(fd); errno != 0 {
		return errno
	}
	return errnoOf(c.sysFD(n, fd, 0, 0, 0))
}

// linuxAdvice has POSIX_FADV_ of each WASI advice: normal, sequential, random, willneed, dontneed, noreuse.
var linuxAdvice = [...]uint64{0, 2, 1, 3, 4, 5}

// fdAdvise is fd_advise(fd, offset, len, advice).
func fdAdvise(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	offset, size, advice := c.u64(1), c.u64(2), c.u32(3)
	if advice >= uint32(len(linuxAdvice)) || int64(offset) < 0 || int64(size) < 0 {
		return ErrnoInval
	}
	if errno := c.badfIfDir(fd); errno != 0 {
		return errno
	}
	return errnoOf(c.sysFD(abi.CallFadvise64, fd, offset, size, linuxAdvice[advice]))
}

// fdAllocate is fd_allocate(fd, offset, len).
func fdAllocate(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	return c.orBadfIfDir(fd, errnoOf(c.sysFD(abi.CallFallocate, fd, 0, c.u64(1), c.u64(2))))
}
