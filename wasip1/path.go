package wasip1

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

// pathCreateDirectory is path_create_directory(fd, path, path_len).
func pathCreateDirectory(c call) Errno { return c.atPath(abi.CallMkdirat, 0o777) }

// pathRemoveDirectory is path_remove_directory(fd, path, path_len).
func pathRemoveDirectory(c call) Errno { return c.atPath(abi.CallUnlinkat, atRemovedir) }

// pathUnlinkFile is path_unlink_file(fd, path, path_len).
func pathUnlinkFile(c call) Errno { return c.atPath(abi.CallUnlinkat, 0) }

// atPath makes the system call n(fd, path, last) of the first three arguments.
func (c call) atPath(n abi.Call, last uint64) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	path, errno := c.path(c.ptr(1), c.ptr(2))
	if errno != 0 {
		return errno
	}
	return pathErrnoOf(c.sys(n, threei.Args{
		Val:  [6]uint64{fd, path, last},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
	}))
}

// pathLink is path_link(old_fd, old_flags, old_path, old_path_len, new_fd, new_path, new_path_len).
func pathLink(c call) Errno {
	switch c.u32(1) {
	case 0:
	default: // symlink_follow is refused as wasmtime does, and so are flags that WASI does not have
		return ErrnoInval
	}
	return c.twoPaths(abi.CallLinkat, 0, 2, 4)
}

// pathRename is path_rename(fd, old_path, old_path_len, new_fd, new_path, new_path_len).
func pathRename(c call) Errno { return c.twoPaths(abi.CallRenameat, 0, 1, 3) }

// twoPaths makes the system call n(old fd, old path, new fd, new path, 0). The old descriptor is argument fd,
// the old path argument path, the new descriptor argument newFD with its path behind it.
func (c call) twoPaths(n abi.Call, fd, path, newFD uint) Errno {
	oldDir, errno := c.fd(fd)
	if errno != 0 {
		return errno
	}
	newDir, errno := c.fd(newFD)
	if errno != 0 {
		return errno
	}
	oldPath, errno := c.path(c.ptr(path), c.ptr(path+1))
	if errno != 0 {
		return errno
	}
	newPath, errno := c.path(c.ptr(newFD+1), c.ptr(newFD+2))
	if errno != 0 {
		return errno
	}
	r := c.sys(n, threei.Args{
		Val:  [6]uint64{oldDir, oldPath, newDir, newPath},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX, 3: abi.CageRawPOSIX},
	})
	if r == abi.EXDEV.Result() && (c.escapes(oldDir, oldPath) || c.escapes(newDir, newPath)) {
		return ErrnoPerm
	}
	return errnoOf(r)
}

// escapes reports whether path leads outside the directory fd: EXDEV says so of a rename or a link, but also that the
// paths are on two devices, and of no other call on a path anything else.
func (c call) escapes(fd, path uint64) bool { return c.lstat(fd, path) == abi.EXDEV.Result() }

// lstat is what newfstatat of path answers, for an error that says more about the path.
func (c call) lstat(fd, path uint64) int64 {
	_, addr := c.scratch(statSize)
	return c.sys(abi.CallNewfstatat, threei.Args{
		Val:  [6]uint64{fd, path, addr, atSymlinkNofollow},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX, 2: abi.CageRawPOSIX},
	})
}

// pathErrnoOf is errnoOf for a call on one path, for which EXDEV says that the path leads outside its directory.
func pathErrnoOf(r int64) Errno {
	if r == abi.EXDEV.Result() {
		return ErrnoPerm
	}
	return errnoOf(r)
}

// pathSymlink is path_symlink(old_path, old_path_len, fd, new_path, new_path_len). A target that is absolute is
// perm: it could lead nowhere for the guest, and anywhere for who follows it on the host.
func pathSymlink(c call) Errno {
	fd, errno := c.fd(2)
	if errno != 0 {
		return errno
	}
	target, errno := c.pathBytes(c.ptr(0), c.ptr(1))
	if errno != 0 {
		return errno
	}
	path, errno := c.path(c.ptr(3), c.ptr(4))
	if errno != 0 {
		return errno
	}
	if target[0] == '/' {
		return ErrnoPerm
	}
	r := c.sys(abi.CallSymlinkat, threei.Args{
		Val:  [6]uint64{guestmem.AddrOf(target), fd, path},
		Cage: [6]abi.CageID{0: abi.CageRawPOSIX, 2: abi.CageRawPOSIX},
	})
	if r == abi.EEXIST.Result() && c.lstat(fd, path) == abi.ENOTDIR.Result() {
		return ErrnoNotdir // the path is "file/": Linux says only that there is something
	}
	return pathErrnoOf(r)
}

// linkMax is more bytes than a link has. A size that does not fit in an int is inval for Linux.
const linkMax = 1 << 16

// pathReadlink is path_readlink(fd, path, path_len, buf, buf_len) -> size. A target longer than the buffer is cut.
func pathReadlink(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	out, size := c.ptr(5), c.ptr(4)
	addr, ok := c.t.Memory.Addr(c.ptr(3), size)
	if !ok || !c.inMemory(out, 4) {
		return ErrnoFault
	}
	path, errno := c.path(c.ptr(1), c.ptr(2))
	if errno != 0 {
		return errno
	}
	owner, room := c.t.Cage, min(size, linkMax)
	if size == 0 { // inval for Linux, an empty answer for WASI
		_, addr = c.scratch(1)
		owner, room = abi.CageRawPOSIX, 1
	}
	r := c.sys(abi.CallReadlinkat, threei.Args{
		Val:  [6]uint64{fd, path, addr, room},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX, 2: owner},
	})
	if r < 0 {
		return pathErrnoOf(r)
	}
	if uint64(r) > room {
		return ErrnoIO
	}
	return c.writeU32(out, uint32(min(uint64(r), size)))
}
