package wasip1

import "github.com/lindbridge/lindbridge/abi"

// fdClose is fd_close(fd).
func fdClose(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	return errnoOf(c.sysFD(abi.CallClose, fd, 0, 0, 0))
}

// fdRenumber is fd_renumber(fd, to). Both must be open. Linux has no call that does it in one step: another
// thread may see both numbers open for a moment.
func fdRenumber(c call) Errno {
	from, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	to, errno := c.fd(1)
	if errno != 0 {
		return errno
	}
	for _, fd := range [...]uint64{from, to} {
		if r := c.sysFD(abi.CallFcntl, fd, fcntlGetfd, 0, 0); r < 0 {
			return errnoOf(r)
		}
	}
	if from == to {
		return ErrnoSuccess
	}
	if r := c.sysFD(abi.CallDup2, from, to, 0, 0); r < 0 {
		return errnoOf(r)
	}
	return errnoOf(c.sysFD(abi.CallClose, from, 0, 0, 0))
}

// fdPrestatGet is fd_prestat_get(fd) -> prestat. It is badf for what is no preopen, by which programs know the
// last one.
func fdPrestatGet(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	out := c.ptr(1)
	if !c.inMemory(out, prestatSize) {
		return ErrnoFault
	}
	name, errno := c.preopen(fd)
	if errno != 0 {
		return errno
	}
	var b [prestatSize]byte
	b[0] = preopenDir
	le.PutUint32(b[prestatNameLen:], uint32(len(name)))
	return c.writeBytes(out, b[:])
}

// fdPrestatDirName is fd_prestat_dir_name(fd, path, path_len). It is nametoolong if the name is longer than path_len.
func fdPrestatDirName(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	buf, size := c.ptr(1), c.ptr(2)
	if !c.inMemory(buf, size) {
		return ErrnoFault
	}
	name, errno := c.preopen(fd)
	if errno != 0 {
		return errno
	}
	if uint64(len(name)) > size {
		return ErrnoNametoolong
	}
	dst, ok := c.t.Memory.Bytes(buf, uint64(len(name)))
	if !ok {
		return ErrnoFault
	}
	copy(dst, name)
	return ErrnoSuccess
}
