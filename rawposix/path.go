package rawposix

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
)

// This file implements confinement: every path is resolved beneath the directory that it is relative to, and one that
// would leave it, by "..", by being absolute or through a symbolic link, is abi.EXDEV.
//
//   - Opening resolves the whole path, by the kernel (openat2 with RESOLVE_BENEATH) or by walk.
//   - A call on a directory entry (mkdirat, unlinkat, ...) resolves the path's directory that way, and then makes the
//     system call on the last component alone. None of these calls follows a link in the last component, whether a slash
//     comes after it or not.
//   - A call on what a path leads to (newfstatat, utimensat, ...) opens that with O_PATH and acts on the descriptor.
//
// What a descriptor stands for cannot be exchanged by renaming or linking meanwhile, so no check comes too late.

const (
	// beneath is how paths are resolved.
	beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
	// tryAgain is how often openat2 is repeated that met a rename or mount somewhere in the system while it resolved a
	// "..", before walk gets the path, which needs no luck.
	tryAgain = 16
	// pathFlags is every flag that means something beside O_PATH.
	pathFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// probeOpenat2 reports whether the kernel has openat2 and lets this process use it.
func probeOpenat2() bool {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: beneath}
	fd, e := sysOpenat2(unix.AT_FDCWD, []byte("/\x00"), &how)
	if e == 0 { // an absolute path is beneath nothing: whoever answers this call does not do what is needed
		dropHost(fd)
	}
	return e == abi.EXDEV
}

// openBeneath opens path beneath dir. The path ends in a NUL and is not empty. It neither follows links out of dir nor
// waits; O_CLOEXEC is implied. mode counts only with O_CREAT.
func (h *Host) openBeneath(dir int, path []byte, flags int, mode uint32) (int, abi.Errno) {
	if path[0] == '/' {
		return -1, abi.EXDEV
	}
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH != 0 {
		flags &= pathFlags
	}
	if flags&unix.O_CREAT == 0 {
		mode = 0
	}
	if h.openat2 {
		fd, e := openat2Beneath(dir, path, flags, mode)
		// ELOOP says "too many links", but also "a magic link", which is a way out of dir: walk tells them apart.
		if e != abi.EAGAIN && e != abi.ELOOP {
			return fd, newFDErrno(e)
		}
	}
	fd, e := h.walk(dir, path, flags, mode)
	return fd, newFDErrno(e)
}

func openat2Beneath(dir int, path []byte, flags int, mode uint32) (int, abi.Errno) {
	how := unix.OpenHow{Flags: uint64(flags), Mode: uint64(mode), Resolve: beneath}
	for try := 0; ; try++ {
		fd, e := sysOpenat2(dir, path, &how)
		if e == abi.EINTR || e == abi.EAGAIN && try < tryAgain {
			continue
		}
		return fd, e
	}
}

// place is a name in a directory that path resolution arrived at.
type place struct {
	dir   int
	name  []byte // one component, perhaps with slashes after it, and a NUL
	close bool   // dir belongs to the place
}

func (p *place) release() {
	if p.close {
		dropHost(p.dir)
	}
}

// placeOf is the directory that the last component of b lies in, and that component. The caller releases it, and keeps b
// until then. It changes b.
func (h *Host) placeOf(dir int, b *pathBuf) (place, abi.Errno) {
	if b.n == 0 {
		return place{}, abi.ENOENT
	}
	path := b.b[:b.n+1]
	if path[0] == '/' {
		return place{}, abi.EXDEV
	}
	end := len(bytes.TrimRight(b.bytes(), "/"))
	cut := bytes.LastIndexByte(path[:end], '/')
	if last := path[cut+1 : end]; len(last) == 2 && last[0] == '.' && last[1] == '.' {
		// The calls refuse ".." as a last component, each with its own errno. Whether it leaves dir comes first.
		fd, e := h.openBeneath(dir, path, unix.O_PATH, 0)
		if e != 0 {
			return place{}, e
		}
		dropHost(fd)
	}
	if cut < 0 {
		return place{dir: dir, name: path}, 0
	}
	path[cut] = 0
	fd, e := h.openBeneath(dir, path[:cut+1], unix.O_PATH|unix.O_DIRECTORY, 0)
	if e != 0 {
		return place{}, e
	}
	return place{dir: fd, name: path[cut+1:], close: true}, 0
}

// isName reports whether path, which ends in a NUL, is a single component that names an entry of the directory itself,
// so that looking at it without following it cannot leave the directory.
func isName(path []byte) bool {
	return bytes.IndexByte(path, '/') < 0 && !isDots(path[:len(path)-1])
}

// isDots reports whether name is "." or "..".
func isDots(name []byte) bool {
	return len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.'
}

// emptyPath is "" as the kernel takes it: with AT_EMPTY_PATH, the descriptor itself.
var emptyPath = []byte{0}
