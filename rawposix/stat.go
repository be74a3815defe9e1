package rawposix

import (
	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	// statSize is the size of struct stat of Linux x86-64.
	statSize = 144
	// statxSyncType is AT_STATX_SYNC_TYPE.
	statxSyncType = 0x6000
)

// putStat writes st as Linux x86-64 has it: see arch/x86/include/uapi/asm/stat.h.
//
// Preconditions:
// len(dst) is statSize.
func putStat(dst []byte, st *unix.Stat_t) {
	var b [statSize]byte
	le.PutUint64(b[0:], uint64(st.Dev))
	le.PutUint64(b[8:], st.Ino)
	le.PutUint64(b[16:], uint64(st.Nlink))
	le.PutUint32(b[24:], st.Mode)
	le.PutUint32(b[28:], st.Uid)
	le.PutUint32(b[32:], st.Gid)
	le.PutUint64(b[40:], uint64(st.Rdev))
	le.PutUint64(b[48:], uint64(st.Size))
	le.PutUint64(b[56:], uint64(st.Blksize))
	le.PutUint64(b[64:], uint64(st.Blocks))
	le.PutUint64(b[72:], uint64(st.Atim.Sec))
	le.PutUint64(b[80:], uint64(st.Atim.Nsec))
	le.PutUint64(b[88:], uint64(st.Mtim.Sec))
	le.PutUint64(b[96:], uint64(st.Mtim.Nsec))
	le.PutUint64(b[104:], uint64(st.Ctim.Sec))
	le.PutUint64(b[112:], uint64(st.Ctim.Nsec))
	copy(dst, b[:])
}

// fstat is fstat(2): fd, struct stat.
func fstat(t *threei.Thread, a *threei.Args) int64 {
	h, e := of(t).acquire(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	dst, e := resolve(t, a.Val[1], statSize, a.Cage[1])
	if e != 0 {
		return e.Result()
	}
	var st unix.Stat_t
	if e := errnoOf(unix.Fstat(h.fd, &st)); e != 0 {
		return e.Result()
	}
	putStat(dst, &st)
	return 0
}

// newfstatat is fstatat(2): directory fd, path, struct stat, flags. AT_STATX_SYNC flags are taken and mean nothing.
func newfstatat(t *threei.Thread, a *threei.Args) int64 {
	const known = unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH | unix.AT_NO_AUTOMOUNT | statxSyncType
	flags := int(uint32(a.Val[3]))
	if flags&^known != 0 {
		return abi.EINVAL.Result()
	}
	p := of(t)
	path, e := p.pathOrEmpty(t, a, 1, flags)
	if e != 0 {
		return e.Result()
	}
	defer p.putPath(path)
	dst, e := resolve(t, a.Val[2], statSize, a.Cage[2])
	if e != 0 {
		return e.Result()
	}
	dir, e := p.acquireDir(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer dir.release()
	var st unix.Stat_t
	if e := p.host.stat(dir.fd, path.b[:path.n+1], &st, flags&unix.AT_SYMLINK_NOFOLLOW != 0); e != 0 {
		return e.Result()
	}
	putStat(dst, &st)
	return 0
}

// pathOrEmpty is path for a call that takes the empty path, and no path, as the descriptor itself if AT_EMPTY_PATH is
// among flags.
func (p *Process) pathOrEmpty(t *threei.Thread, a *threei.Args, i, flags int) (*pathBuf, abi.Errno) {
	if flags&unix.AT_EMPTY_PATH != 0 && a.Val[i] == 0 {
		path := p.host.paths.Get().(*pathBuf)
		path.n, path.b[0] = 0, 0
		return path, 0
	}
	path, e := p.path(t, a, i)
	if e == 0 && path.n == 0 && flags&unix.AT_EMPTY_PATH == 0 {
		p.putPath(path)
		return nil, abi.ENOENT
	}
	return path, e
}

// stat is what path beneath dir leads to, or dir itself for the empty path.
func (h *Host) stat(dir int, path []byte, st *unix.Stat_t, nofollow bool) abi.Errno {
	if len(path) == 1 {
		return errnoOf(unix.Fstat(dir, st))
	}
	if isName(path) {
		// The usual case in one system call: an entry of dir that is no link, or is not to be followed.
		e := sysFstatat(dir, path, st, unix.AT_SYMLINK_NOFOLLOW)
		if e != 0 || nofollow || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return e
		}
	}
	flags := unix.O_PATH
	if nofollow {
		flags |= unix.O_NOFOLLOW
	}
	fd, e := h.openBeneath(dir, path, flags, 0)
	if e != 0 {
		return e
	}
	e = errnoOf(unix.Fstat(fd, st))
	dropHost(fd)
	return e
}
