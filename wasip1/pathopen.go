package wasip1

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// pathOpen is path_open(fd, dirflags, path, path_len, oflags, rights_base, rights_inheriting, fdflags) -> fd.
func pathOpen(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	flags, errno := openFlags(c.u32(1), c.u32(4), rights(c.u64(5)), c.u32(7))
	if errno != 0 {
		return errno
	}
	out := c.ptr(8)
	if !c.inMemory(out, 4) {
		return ErrnoFault
	}
	path, errno := c.path(c.ptr(2), c.ptr(3))
	if errno != 0 {
		return errno
	}
	r := c.sys(abi.CallOpenat, threei.Args{
		Val:  [6]uint64{fd, path, flags, 0o666},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
	})
	if r < 0 {
		return pathErrnoOf(r)
	}
	return c.newFD(r, out)
}

// newFD writes the descriptor that a system call answered to out.
func (c call) newFD(r int64, out uint64) Errno {
	if r < 0 {
		return errnoOf(r)
	}
	if r > maxFD {
		return ErrnoIO
	}
	return c.writeU32(out, uint32(r))
}

// openFlags are the flags of openat(2) for the arguments of path_open.
func openFlags(lookup, oflags uint32, base rights, fdflags uint32) (uint64, Errno) {
	if lookup&^lookupFollow != 0 || oflags&^oflagsAll != 0 || fdflags&^fdflagsAll != 0 {
		return 0, ErrnoInval
	}
	flags := openFlagsOf(fdflags)
	switch base & (rightFDRead | rightFDWrite) {
	case rightFDRead | rightFDWrite:
		flags |= openRdwr
	case rightFDWrite:
		flags |= openWronly
	}
	if lookup&lookupFollow == 0 {
		flags |= openNofollow
	}
	if oflags&oflagDirectory != 0 {
		if oflags != oflagDirectory {
			return 0, ErrnoInval // nothing opens a directory and makes or empties it
		}
		flags |= openDirectory
	}
	if oflags&oflagCreat != 0 {
		flags |= openCreat
		if oflags&oflagExcl != 0 { // without creat Linux gives it another meaning
			flags |= openExcl
		}
	}
	if oflags&oflagTrunc != 0 {
		flags |= openTrunc
	}
	return flags, ErrnoSuccess
}
