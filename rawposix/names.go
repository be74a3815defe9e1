package rawposix

import (
	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// This file has the calls that make, remove and rename directory entries.

// named is a directory entry that a call acts on.
type named struct {
	p     *Process
	dir   handle
	path  *pathBuf
	place place
}

// entry finds the directory entry that arguments i (directory fd) and i+1 (path) name. The caller releases it.
func (p *Process) entry(t *threei.Thread, a *threei.Args, i int) (named, abi.Errno) {
	path, e := p.path(t, a, i+1)
	if e != 0 {
		return named{}, e
	}
	if path.n == 0 {
		p.putPath(path)
		return named{}, abi.ENOENT
	}
	dir, e := p.acquireDir(a.Val[i])
	if e != 0 {
		p.putPath(path)
		return named{}, e
	}
	at, e := p.host.placeOf(dir.fd, path)
	if e != 0 {
		dir.release()
		p.putPath(path)
		return named{}, e
	}
	return named{p: p, dir: dir, path: path, place: at}, 0
}

func (n *named) release() {
	n.place.release()
	n.dir.release()
	n.p.putPath(n.path)
}

// mkdirat is mkdirat(2): directory fd, path, mode. The host's umask applies to mode.
func mkdirat(t *threei.Thread, a *threei.Args) int64 {
	n, e := of(t).entry(t, a, 0)
	if e != 0 {
		return e.Result()
	}
	defer n.release()
	return sysAt(unix.SYS_MKDIRAT, n.place.dir, n.place.name, uintptr(uint32(a.Val[2])&createMode)).Result()
}

// unlinkat is unlinkat(2): directory fd, path, flags.
func unlinkat(t *threei.Thread, a *threei.Args) int64 {
	flags := uint32(a.Val[2])
	if flags&^unix.AT_REMOVEDIR != 0 {
		return abi.EINVAL.Result()
	}
	n, e := of(t).entry(t, a, 0)
	if e != 0 {
		return e.Result()
	}
	defer n.release()
	return sysAt(unix.SYS_UNLINKAT, n.place.dir, n.place.name, uintptr(flags)).Result()
}

// symlinkat is symlinkat(2): target, directory fd, path. The target is text: where it leads to is looked at when it is
// followed, and only from within the cage is that confined.
func symlinkat(t *threei.Thread, a *threei.Args) int64 {
	p := of(t)
	target, e := p.path(t, a, 0)
	if e != 0 {
		return e.Result()
	}
	defer p.putPath(target)
	if target.n == 0 {
		return abi.ENOENT.Result()
	}
	n, e := p.entry(t, a, 1)
	if e != 0 {
		return e.Result()
	}
	defer n.release()
	return sysSymlinkat(target.b[:target.n+1], n.place.dir, n.place.name).Result()
}

// renameat is renameat(2): directory fd, path, directory fd, path.
func renameat(t *threei.Thread, a *threei.Args) int64 { return rename(t, a, 0) }

// renameat2 is renameat2(2): renameat and flags. RENAME_WHITEOUT, which would make a device, is abi.EPERM as it is for
// the unprivileged.
func renameat2(t *threei.Thread, a *threei.Args) int64 {
	flags := uint32(a.Val[4])
	const known = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE | unix.RENAME_WHITEOUT
	switch {
	case flags&^known != 0,
		flags&unix.RENAME_EXCHANGE != 0 && flags&(unix.RENAME_NOREPLACE|unix.RENAME_WHITEOUT) != 0:
		return abi.EINVAL.Result()
	case flags&unix.RENAME_WHITEOUT != 0:
		return abi.EPERM.Result()
	}
	return rename(t, a, flags)
}

func rename(t *threei.Thread, a *threei.Args, flags uint32) int64 {
	p := of(t)
	from, e := p.entry(t, a, 0)
	if e != 0 {
		return e.Result()
	}
	defer from.release()
	to, e := p.entry(t, a, 2)
	if e != 0 {
		return e.Result()
	}
	defer to.release()
	return sysAt2(unix.SYS_RENAMEAT2, from.place.dir, from.place.name, to.place.dir, to.place.name, uintptr(flags)).Result()
}

// linkat is linkat(2): directory fd, path, directory fd, path, flags. AT_EMPTY_PATH with an empty path is abi.ENOENT, as
// it is for the unprivileged: a cage has files open that none of its directories has.
func linkat(t *threei.Thread, a *threei.Args) int64 {
	flags := uint32(a.Val[4])
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return abi.EINVAL.Result()
	}
	p := of(t)
	to, e := p.entry(t, a, 2)
	if e != 0 {
		return e.Result()
	}
	defer to.release()
	if flags&unix.AT_SYMLINK_FOLLOW == 0 {
		from, e := p.entry(t, a, 0)
		if e != 0 {
			return e.Result()
		}
		defer from.release()
		if name := from.place.name; name[len(name)-2] != '/' {
			return sysAt2(unix.SYS_LINKAT, from.place.dir, name, to.place.dir, to.place.name, 0).Result()
		}
	}
	return p.linkTarget(t, a, &to)
}

// linkTarget links what the path of arguments 0 and 1 leads to, following a link at its end.
func (p *Process) linkTarget(t *threei.Thread, a *threei.Args, to *named) int64 {
	path, e := p.path(t, a, 1)
	if e != 0 {
		return e.Result()
	}
	defer p.putPath(path)
	if path.n == 0 {
		return abi.ENOENT.Result()
	}
	dir, e := p.acquireDir(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer dir.release()
	fd, e := p.host.openBeneath(dir.fd, path.b[:path.n+1], unix.O_PATH, 0)
	if e != 0 {
		return e.Result()
	}
	defer dropHost(fd)
	from := append([]byte(procFD(fd)), 0)
	e = sysAt2(unix.SYS_LINKAT, unix.AT_FDCWD, from, to.place.dir, to.place.name, unix.AT_SYMLINK_FOLLOW)
	return e.Result()
}

// readlinkat is readlinkat(2): directory fd, path, buffer, size. The empty path is the descriptor itself, which is then a
// link that was opened with O_PATH and O_NOFOLLOW.
func readlinkat(t *threei.Thread, a *threei.Args) int64 {
	size := a.Val[3]
	if int32(size) <= 0 {
		return abi.EINVAL.Result()
	}
	size = uint64(uint32(size))
	p := of(t)
	path, e := p.path(t, a, 1)
	if e != 0 {
		return e.Result()
	}
	defer p.putPath(path)
	if _, e := t.Resolve(a.Val[2], size, a.Cage[2]); e != 0 {
		return e.Result()
	}
	dir, e := p.acquireDir(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer dir.release()
	b := iovec{base: a.Val[2], len: size}
	name := path.b[:path.n+1]
	if path.n == 0 || isName(name) {
		return result(sysReadlinkat(dir.fd, name, b))
	}
	fd, e := p.host.openBeneath(dir.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if e != 0 {
		return e.Result()
	}
	defer dropHost(fd)
	n, e := sysReadlinkat(fd, emptyPath, b)
	if e == abi.ENOENT { // what the empty path answers where a name answers EINVAL: not a link
		e = abi.EINVAL
	}
	return result(n, e)
}
