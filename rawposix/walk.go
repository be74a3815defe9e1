package rawposix

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
)

// This file implements path resolution beneath a directory for kernels without openat2, and for sandboxes that refuse it.
//
// It looks up one component at a time, each with O_PATH and O_NOFOLLOW and without a slash, so that the kernel itself
// never follows anything; what turns out to be a symbolic link is read through the descriptor that was looked at and put
// in front of the rest of the path. ".." goes back to the descriptor that the walk came from, not to whatever the
// directory's parent has become, and above the first one there is nothing. So whatever is renamed or exchanged during the
// walk, each directory on the stack was reached from the first one by going down.

const (
	// maxLinks is how many symbolic links one path may lead through, as in Linux.
	maxLinks = 40
	// maxDepth bounds the descriptors of one walk. A path from a guest has fewer components unless links add some.
	maxDepth = 4096
	// stNosymfollow is ST_NOSYMFOLLOW of statfs(2): a mount where links are not followed.
	stNosymfollow = 0x2000
)

// walker is the state of one resolution.
type walker struct {
	root  int
	stack []int  // directories below root that the walk is in, innermost last; owned by the walker
	rest  []byte // what is left of the path, without a NUL
	flags int
	mode  uint32
	links int
	// mustDir and follow are set for good once a last component had a slash after it: what it leads to has to
	// be a directory.
	mustDir, follow bool
}

// walk is openBeneath without openat2.
func (h *Host) walk(dir int, path []byte, flags int, mode uint32) (int, abi.Errno) {
	w := walker{
		root: dir, rest: bytes.Clone(path[:len(path)-1]), flags: flags, mode: mode,
		follow: flags&unix.O_NOFOLLOW == 0 && flags&(unix.O_CREAT|unix.O_EXCL) != unix.O_CREAT|unix.O_EXCL,
	}
	defer w.close()
	for {
		fd, done, e := w.next()
		if done || e != 0 {
			return fd, e
		}
	}
}

func (w *walker) close() {
	for _, fd := range w.stack {
		dropHost(fd)
	}
}

// at is the directory that the walk is in.
func (w *walker) at() int {
	if len(w.stack) == 0 {
		return w.root
	}
	return w.stack[len(w.stack)-1]
}

// next resolves one component. It is done when the path is, and answers the descriptor then.
func (w *walker) next() (fd int, done bool, e abi.Errno) {
	if w.links > maxLinks {
		return -1, false, abi.ELOOP
	}
	rest := bytes.TrimLeft(w.rest, "/")
	name, tail, slash := bytes.Cut(rest, []byte("/"))
	last := len(bytes.TrimLeft(tail, "/")) == 0
	w.rest = rest
	if len(name) > 0 && !isDots(name) {
		if last {
			return w.final(name, slash)
		}
		w.rest = tail
		return -1, false, w.enter(name)
	}
	// "." and "..", like every name, may be looked up only by who may search the directory.
	here, e := w.open([]byte("."), unix.O_PATH|unix.O_DIRECTORY)
	if e != 0 {
		return -1, false, e
	}
	dropHost(here)
	w.rest = tail
	if len(name) == 2 {
		if len(w.stack) == 0 {
			return -1, false, abi.EXDEV
		}
		dropHost(w.at())
		w.stack = w.stack[:len(w.stack)-1]
	}
	if !last {
		return -1, false, 0
	}
	fd, e = w.open([]byte("."), w.flags) // the kernel knows what a directory says to the flags
	return fd, true, e
}

// open opens one component of the directory that the walk is in, without following it.
func (w *walker) open(name []byte, flags int) (int, abi.Errno) {
	if len(name) > unix.NAME_MAX {
		return -1, abi.ENAMETOOLONG
	}
	var b [unix.NAME_MAX + 1]byte
	copy(b[:], name)
	for {
		fd, e := sysOpenat(w.at(), b[:], flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, w.mode)
		if e != abi.EINTR {
			return fd, e
		}
	}
}

// look opens one component to see what it is.
func (w *walker) look(name []byte) (fd int, mode uint32, e abi.Errno) {
	fd, e = w.open(name, unix.O_PATH)
	if e != 0 {
		return -1, 0, e
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		dropHost(fd)
		return -1, 0, errnoOf(err)
	}
	return fd, st.Mode & unix.S_IFMT, 0
}

// enter goes into the component name, or where it leads if it is a link.
func (w *walker) enter(name []byte) abi.Errno {
	fd, mode, e := w.look(name)
	if e != 0 {
		return e
	}
	switch {
	case mode == unix.S_IFDIR && len(w.stack) < maxDepth:
		w.stack = append(w.stack, fd)
		return 0
	case mode == unix.S_IFDIR:
		e = abi.ENAMETOOLONG
	case mode == unix.S_IFLNK:
		e = w.expand(fd, w.rest)
	default:
		e = abi.ENOTDIR
	}
	dropHost(fd)
	return e
}

// final opens the last component, or goes on with where it leads if it is a link that is to be followed.
func (w *walker) final(name []byte, slash bool) (fd int, done bool, e abi.Errno) {
	create := w.flags&unix.O_CREAT != 0
	if slash {
		if create {
			return -1, false, abi.EISDIR
		}
		w.mustDir, w.follow = true, true
	}
	flags := w.flags
	if w.mustDir && !create {
		flags |= unix.O_DIRECTORY
	}
	if !w.follow {
		fd, e = w.open(name, flags)
		return fd, true, e
	}
	fd, mode, e := w.look(name)
	switch {
	case e == abi.ENOENT && create:
	case e != 0:
		return -1, false, e
	case mode == unix.S_IFLNK:
		e = w.trailing(fd)
		if e == 0 {
			e = w.expand(fd, nil)
		}
		dropHost(fd)
		return -1, false, e
	case mode != unix.S_IFDIR && flags&unix.O_DIRECTORY != 0 && !create:
		dropHost(fd)
		return -1, false, abi.ENOTDIR
	case flags&unix.O_PATH != 0:
		return fd, true, 0
	default:
		dropHost(fd)
	}
	fd, e = w.open(name, flags)
	if e == abi.ELOOP || e == abi.ENOTDIR && mode == unix.S_IFDIR {
		w.links++ // exchanged for a link or a file since the look: look again, but not for ever
		return -1, false, 0
	}
	return fd, true, e
}

// expand goes on with the text of the link fd and then with rest.
func (w *walker) expand(fd int, rest []byte) abi.Errno {
	if w.links++; w.links > maxLinks {
		return abi.ELOOP
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return errnoOf(err)
	}
	if fs.Flags&stNosymfollow != 0 {
		return abi.ELOOP
	}
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", text)
	if err != nil {
		return errnoOf(err)
	}
	text = text[:n]
	switch {
	case n == 0:
		return abi.ENOENT
	case text[0] == '/':
		return abi.EXDEV
	case int64(fs.Type) == unix.PROC_SUPER_MAGIC && (bytes.Contains(text, []byte(":[")) || text[0] == '('):
		return abi.EXDEV // a magic link: its text is no path
	}
	if len(rest) > 0 {
		text = append(append(text, '/'), rest...)
	}
	w.rest = text
	return 0
}

// trailing refuses to follow the link fd at the end of a path where Linux does with fs.protected_symlinks: in a directory
// that everybody may write to and that is sticky, a link of somebody else's.
func (w *walker) trailing(fd int) abi.Errno {
	var link, dir unix.Stat_t
	if err := unix.Fstat(fd, &link); err != nil {
		return errnoOf(err)
	}
	if err := unix.Fstat(w.at(), &dir); err != nil {
		return errnoOf(err)
	}
	const open = unix.S_ISVTX | unix.S_IWOTH
	if dir.Mode&open == open && link.Uid != dir.Uid && link.Uid != uint32(unix.Geteuid()) {
		return abi.EACCES
	}
	return 0
}
