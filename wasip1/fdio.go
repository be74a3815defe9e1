package wasip1

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// fdRead is fd_read(fd, iovs, iovs_len) -> size.
func fdRead(c call) Errno {
	return c.transfer(vectored{abi.CallRead, abi.CallReadv}, c.ptr(3), 0)
}

// fdWrite is fd_write(fd, iovs, iovs_len) -> size.
func fdWrite(c call) Errno {
	return c.transfer(vectored{abi.CallWrite, abi.CallWritev}, c.ptr(3), 0)
}

// fdPread is fd_pread(fd, iovs, iovs_len, offset) -> size.
func fdPread(c call) Errno {
	return c.transfer(vectored{abi.CallPread64, abi.CallPreadv}, c.ptr(4), c.u64(3))
}

// fdPwrite is fd_pwrite(fd, iovs, iovs_len, offset) -> size. As on Linux, the offset does not count for a descriptor
// with the append flag.
func fdPwrite(c call) Errno {
	return c.transfer(vectored{abi.CallPwrite64, abi.CallPwritev}, c.ptr(4), c.u64(3))
}

// transfer moves data between the descriptor and the buffers that the first three arguments name, and writes how many
// bytes to out. The position offset is not looked at by the calls that have none.
func (c call) transfer(calls vectored, out, offset uint64) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	if !c.inMemory(out, 4) {
		return ErrnoFault
	}
	v, errno := c.buffers(c.ptr(1), c.ptr(2))
	if errno != 0 {
		return errno
	}
	var r int64
	if v.list == nil {
		r = c.sys(calls.one, threei.Args{
			Val:  [6]uint64{fd, v.addr, v.size, offset},
			Cage: [6]abi.CageID{1: c.t.Cage},
		})
	} else {
		addr, count := v.array(c)
		r = c.sys(calls.many, threei.Args{
			Val:  [6]uint64{fd, addr, count, offset},
			Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
		})
	}
	if r == abi.EISDIR.Result() {
		return ErrnoBadf // a directory does not have the right to be read
	}
	n, errno := v.transferred(r)
	if errno != 0 {
		return errno
	}
	return c.writeU32(out, n)
}
