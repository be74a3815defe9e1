package wasip1

import (
	"math"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

// fdFilestatGet is fd_filestat_get(fd) -> filestat.
func fdFilestatGet(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	out := c.ptr(1)
	if !c.inMemory(out, filestatSize) {
		return ErrnoFault
	}
	st, errno := c.fstat(fd)
	if errno != 0 {
		return errno
	}
	filetype := filetypeOfMode(st.mode())
	if st.is(modeSock) {
		filetype = c.socketType(fd)
	}
	return c.writeFilestat(out, st, filetype)
}

// pathFilestatGet is path_filestat_get(fd, flags, path, path_len) -> filestat.
func pathFilestatGet(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	flags, errno := lookupToAt(c.u32(1))
	if errno != 0 {
		return errno
	}
	out := c.ptr(4)
	if !c.inMemory(out, filestatSize) {
		return ErrnoFault
	}
	path, errno := c.path(c.ptr(2), c.ptr(3))
	if errno != 0 {
		return errno
	}
	b, addr := c.scratch(statSize)
	r := c.sys(abi.CallNewfstatat, threei.Args{
		Val:  [6]uint64{fd, path, addr, flags},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX, 2: abi.CageRawPOSIX},
	})
	if r < 0 {
		return pathErrnoOf(r)
	}
	st := stat(b)
	return c.writeFilestat(out, st, filetypeOfMode(st.mode()))
}

// fdFilestatSetSize is fd_filestat_set_size(fd, size).
func fdFilestatSetSize(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	return c.orBadfIfDir(fd, errnoOf(c.sysFD(abi.CallFtruncate, fd, c.u64(1), 0, 0)))
}

// fdFilestatSetTimes is fd_filestat_set_times(fd, atim, mtim, fst_flags).
func fdFilestatSetTimes(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	times, errno := c.times(c.u64(1), c.u64(2), c.u32(3))
	if errno != 0 {
		return errno
	}
	return errnoOf(c.sys(abi.CallUtimensat, threei.Args{
		Val:  [6]uint64{fd, 0, times, 0}, // no path: the descriptor itself
		Cage: [6]abi.CageID{2: abi.CageRawPOSIX},
	}))
}

// pathFilestatSetTimes is path_filestat_set_times(fd, flags, path, path_len, atim, mtim, fst_flags).
func pathFilestatSetTimes(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	flags, errno := lookupToAt(c.u32(1))
	if errno != 0 {
		return errno
	}
	times, errno := c.times(c.u64(4), c.u64(5), c.u32(6))
	if errno != 0 {
		return errno
	}
	path, errno := c.path(c.ptr(2), c.ptr(3))
	if errno != 0 {
		return errno
	}
	return pathErrnoOf(c.sys(abi.CallUtimensat, threei.Args{
		Val:  [6]uint64{fd, path, times, flags},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX, 2: abi.CageRawPOSIX},
	}))
}

// times is the address of utimensat's two timespecs.
func (c call) times(atim, mtim uint64, flags uint32) (uint64, Errno) {
	if flags&^fstAll != 0 || flags&(fstAtim|fstAtimNow) == fstAtim|fstAtimNow ||
		flags&(fstMtim|fstMtimNow) == fstMtim|fstMtimNow {
		return 0, ErrnoInval
	}
	ts, addr := c.scratch(2 * timespecSize)
	putFileTime(ts, atim, flags&fstAtim != 0, flags&fstAtimNow != 0)
	putFileTime(ts[timespecSize:], mtim, flags&fstMtim != 0, flags&fstMtimNow != 0)
	return addr, ErrnoSuccess
}

// putFileTime writes one of utimensat's timespecs.
func putFileTime(b []byte, ns uint64, set, now bool) {
	switch {
	case set:
		putTimespec(b, ns)
	case now:
		le.PutUint64(b[8:], utimeNow)
	default:
		le.PutUint64(b[8:], utimeOmit)
	}
}

// lookupToAt turns lookupflags into AT_ flags.
func lookupToAt(flags uint32) (uint64, Errno) {
	switch flags {
	case 0:
		return atSymlinkNofollow, ErrnoSuccess
	case lookupFollow:
		return 0, ErrnoSuccess
	}
	return 0, ErrnoInval
}

// stat is a Linux x86-64 struct stat.
type stat []byte

func (st stat) mode() uint32        { return le.Uint32(st[statMode:]) }
func (st stat) is(mode uint32) bool { return st.mode()&modeType == mode }
func (st stat) size() uint64        { return le.Uint64(st[statBytes:]) }

// fstat is the stat of fd, in scratch memory.
func (c call) fstat(fd uint64) (stat, Errno) { return c.fstatIn(fd, c.t.Scratch(statSize)) }

// fstatIn is fstat in the scratch memory b.
func (c call) fstatIn(fd uint64, b []byte) (stat, Errno) {
	r := c.sys(abi.CallFstat, threei.Args{
		Val:  [6]uint64{fd, guestmem.AddrOf(b)},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
	})
	if r < 0 {
		return nil, errnoOf(r)
	}
	return stat(b), ErrnoSuccess
}

// badfIfDir is badf if fd is a directory, fstat's errno if it is not open, and success otherwise.
func (c call) badfIfDir(fd uint64) Errno {
	st, errno := c.fstat(fd)
	if errno == 0 && st.is(modeDir) {
		return ErrnoBadf
	}
	return errno
}

// orBadfIfDir is errno, or badf if the call failed because fd is a directory. Linux says inval or isdir to some
// of what a directory has no right to in WASI.
func (c call) orBadfIfDir(fd uint64, errno Errno) Errno {
	if errno != ErrnoSuccess && c.badfIfDir(fd) == ErrnoBadf {
		return ErrnoBadf
	}
	return errno
}

// writeFilestat writes st as a WASI filestat.
func (c call) writeFilestat(out uint64, st stat, filetype byte) Errno {
	var b [filestatSize]byte
	copy(b[:8], st[:8])
	copy(b[filestatIno:], st[statIno:statIno+8])
	b[filestatType] = filetype
	copy(b[filestatNlink:], st[statNlink:statNlink+8])
	copy(b[filestatBytes:], st[statBytes:statBytes+8])
	le.PutUint64(b[filestatAtim:], fileTime(st[statAtime:]))
	le.PutUint64(b[filestatMtim:], fileTime(st[statMtime:]))
	le.PutUint64(b[filestatCtim:], fileTime(st[statCtime:]))
	return c.writeBytes(out, b[:])
}

// fileTime is a timespec as a WASI timestamp, or the nearest one to it.
func fileTime(ts []byte) uint64 {
	sec, nsec := int64(le.Uint64(ts)), le.Uint64(ts[8:])
	if sec < 0 {
		return 0
	}
	if nsec >= nanosPerSecond || uint64(sec) > (math.MaxUint64-nsec)/nanosPerSecond {
		return math.MaxUint64
	}
	return uint64(sec)*nanosPerSecond + nsec
}

// filetypeOfMode is the WASI filetype of a Linux mode. WASI has none for a FIFO; a socket counts as a stream
// here, see socketType for descriptors.
func filetypeOfMode(mode uint32) byte {
	switch mode & modeType {
	case modeBlk:
		return filetypeBlockDevice
	case modeChar:
		return filetypeCharDevice
	case modeDir:
		return filetypeDirectory
	case modeReg:
		return filetypeRegular
	case modeLnk:
		return filetypeSymlink
	case modeSock:
		return filetypeSocketStream
	}
	return filetypeUnknown
}

// socketType is the WASI filetype of the socket fd.
func (c call) socketType(fd uint64) byte {
	b, addr := c.scratch(8) // the value, and its length
	le.PutUint32(b[4:], 4)
	r := c.sys(abi.CallGetsockopt, threei.Args{
		Val:  [6]uint64{fd, solSocket, soType, addr, addr + 4},
		Cage: [6]abi.CageID{3: abi.CageRawPOSIX, 4: abi.CageRawPOSIX},
	})
	if r >= 0 && le.Uint32(b) == sockDgram {
		return filetypeSocketDgram
	}
	return filetypeSocketStream
}
