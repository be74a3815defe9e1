package wasip1

import "github.com/lindbridge/lindbridge/abi"

// fdFdstatGet is fd_fdstat_get(fd) -> fdstat.
func fdFdstatGet(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	out := c.ptr(1)
	if !c.inMemory(out, fdstatSize) {
		return ErrnoFault
	}
	st, errno := c.fstat(fd)
	if errno != 0 {
		return errno
	}
	open := c.sysFD(abi.CallFcntl, fd, fcntlGetfl, 0, 0)
	if open < 0 {
		return errnoOf(open)
	}
	filetype := filetypeOfMode(st.mode())
	var can rights
	switch st.mode() & modeType {
	case modeDir:
		can = rightsDir
	case modeReg, modeBlk:
		can = rightsFile
	case modeSock:
		can, filetype = rightsSocket, c.socketType(fd)
	case modeChar:
		// A terminal is told from other character devices by its having no position: that is how C libraries
		// over WASI answer isatty.
		can = rightsStream
		if c.sysFD(abi.CallLseek, fd, 0, seekCur, 0) >= 0 {
			can = rightsDevice
		}
	default:
		can = rightsStream
	}
	inherits := rights(0)
	if can == rightsDir {
		inherits = rightsDir | rightsFile
	}
	switch open & openAccmode {
	case openWronly:
		can &^= rightFDRead
	case openRdwr:
	default:
		can &^= rightFDWrite | rightFDAllocate | rightFDFilestatSetSize
	}
	var b [fdstatSize]byte
	b[0] = filetype
	le.PutUint16(b[fdstatFlags:], fdflagsOf(open))
	le.PutUint64(b[fdstatRightsBase:], uint64(can))
	le.PutUint64(b[fdstatRightsInherits:], uint64(inherits))
	return c.writeBytes(out, b[:])
}

// fdFdstatSetFlags is fd_fdstat_set_flags(fd, flags). Only append and nonblock can change: the sync flags are inval
// unless the descriptor has them already, and then they stay, as with fcntl(F_SETFL).
func fdFdstatSetFlags(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	flags := c.u32(1)
	if flags&^fdflagsAll != 0 {
		return ErrnoInval
	}
	if errno := c.badfIfDir(fd); errno != 0 {
		return errno
	}
	was := c.sysFD(abi.CallFcntl, fd, fcntlGetfl, 0, 0)
	if was < 0 {
		return errnoOf(was)
	}
	want := openFlagsOf(flags)
	if want&openSync&^uint64(was) != 0 {
		return ErrnoInval
	}
	const changeable = openAppend | openNonblock
	return errnoOf(c.sysFD(abi.CallFcntl, fd, fcntlSetfl, uint64(was)&^changeable|want&changeable, 0))
}

// fdFdstatSetRights is fd_fdstat_set_rights(fd, base, inheriting): notsup for an open descriptor, since rights
// are not enforced.
func fdFdstatSetRights(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	if r := c.sysFD(abi.CallFcntl, fd, fcntlGetfd, 0, 0); r < 0 {
		return errnoOf(r)
	}
	return ErrnoNotsup
}

// fdflagsOf are the fdflags of a descriptor whose open flags are open. Linux's O_SYNC has O_DSYNC in it.
func fdflagsOf(open int64) uint16 {
	flags := uint16(0)
	if open&openAppend != 0 {
		flags |= fdflagAppend
	}
	if open&openNonblock != 0 {
		flags |= fdflagNonblock
	}
	if open&openDsync != 0 {
		flags |= fdflagDsync
	}
	if open&openSync == openSync {
		flags |= fdflagSync
	}
	return flags
}

// openFlagsOf are the open flags of fdflags. O_RSYNC is O_SYNC on Linux.
func openFlagsOf(flags uint32) uint64 {
	open := uint64(0)
	if flags&fdflagAppend != 0 {
		open |= openAppend
	}
	if flags&fdflagNonblock != 0 {
		open |= openNonblock
	}
	if flags&fdflagDsync != 0 {
		open |= openDsync
	}
	if flags&(fdflagSync|fdflagRsync) != 0 {
		open |= openSync
	}
	return open
}
