package rawposix

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// handle is a descriptor in use by one call. It keeps the host's descriptor open until release, also when the guest
// closes its own meanwhile.
type handle struct {
	ref fdtables.Ref
	fd  int   // the host's descriptor
	f   *file // what is known of it
}

// acquire is the guest's descriptor v, for the length of a call. As in Linux only the low 32 bits of v count.
func (p *Process) acquire(v uint64) (handle, abi.Errno) {
	ref, e := p.table.Acquire(fdtables.FD(int32(v)))
	if e != 0 {
		return handle{}, e
	}
	return p.known(&ref)
}

// known is the handle of a descriptor that was acquired. On failure the reference is released.
func (p *Process) known(ref *fdtables.Ref) (handle, abi.Errno) {
	entry := ref.Entry()
	fd, f, e := int(entry.UnderFD), (*file)(nil), abi.Errno(0)
	switch entry.Kind {
	case fdtables.KindKernel:
		f = p.host.files.Load(entry.UnderFD)
	case fdtables.KindEpoll:
		fd, f, e = p.epollBehind(ref)
	}
	if f == nil {
		// A grate's own descriptor, which the host knows nothing of, or one that was put into the table by somebody
		// else, so that nothing says how to wait on it.
		ref.Release()
		if e == 0 {
			e = abi.EBADF
		}
		return handle{}, e
	}
	return handle{ref: *ref, fd: fd, f: f}, 0
}

func (h *handle) release() { h.ref.Release() }

// atFDCWD is Linux's AT_FDCWD as the low 32 bits of an argument.
const atFDCWD = int32(-100)

// acquireDir is the directory that a path is relative to. A cage has no working directory, so AT_FDCWD is abi.EBADF.
func (p *Process) acquireDir(v uint64) (handle, abi.Errno) {
	if int32(v) == atFDCWD {
		return handle{}, abi.EBADF
	}
	return p.acquire(v)
}

// open gives the host's descriptor fd the lowest free number of the cage's table. On failure fd is closed.
func (p *Process) open(fd int, f *file, cloexec bool) (fdtables.FD, abi.Errno) {
	p.host.files.Insert(uint64(fd), f)
	v, e := p.table.Open(fdtables.KindKernel, uint64(fd), cloexec, 0)
	if e != 0 {
		p.host.files.Delete(uint64(fd), f)
		dropHost(fd)
	}
	return v, e
}

// openAt gives the host's descriptor fd the number v. What v was is closed; that this fails is nobody's to hear, as with
// dup2.
func (p *Process) openAt(v fdtables.FD, fd int, info uint64) abi.Errno {
	return replaced(p.table.OpenAt(v, fdtables.KindKernel, uint64(fd), false, info))
}

// replaced is the errno of a call that puts one descriptor in another's place: 0 if it is there, whatever closing the
// other one came to.
func replaced(err error) abi.Errno {
	if failed := (*fdtables.CloseError)(nil); errors.As(err, &failed) {
		return 0
	}
	return errnoOf(err)
}

// nonblock reports whether the guest asked that calls on f do not wait.
func (p *Process) nonblock(f *file) bool { return p.statusOf(f).Load()&unix.O_NONBLOCK != 0 }
