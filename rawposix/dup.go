package rawposix

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/threei"
)

// dup is dup(2): fd.
func dup(t *threei.Thread, a *threei.Args) int64 {
	v, e := of(t).table.Dup(guestFD(a.Val[0]))
	return result(int(v), e)
}

// dup2 is dup2(2): old fd, new fd. Two equal ones are only checked.
func dup2(t *threei.Thread, a *threei.Args) int64 {
	return dupTo(of(t).table, guestFD(a.Val[0]), guestFD(a.Val[1]), false)
}

// dup3 is dup3(2): old fd, new fd, flags. Two equal ones are abi.EINVAL.
func dup3(t *threei.Thread, a *threei.Args) int64 {
	flags, from, to := uint32(a.Val[2]), guestFD(a.Val[0]), guestFD(a.Val[1])
	if flags&^oCloexec != 0 || from == to {
		return abi.EINVAL.Result()
	}
	return dupTo(of(t).table, from, to, flags&oCloexec != 0)
}

// guestFD is an argument as a descriptor: as in Linux only its low 32 bits count.
func guestFD(v uint64) fdtables.FD { return fdtables.FD(int32(v)) }

// The commands of fcntl that are served.
const (
	fDupFD        = 0
	fGetFD        = 1
	fSetFD        = 2
	fGetFL        = 3
	fSetFL        = 4
	fDupFDCloexec = 1030
	fdCloexec     = 1
)

// fcntl is fcntl(2): fd, command, argument. Other commands than those above are abi.EINVAL, record locks among them: the
// host's belong to its process, and so to all cages at once.
func fcntl(t *threei.Thread, a *threei.Args) int64 {
	p, fd, arg := of(t), guestFD(a.Val[0]), a.Val[2]
	switch int32(a.Val[1]) {
	case fDupFD:
		return dupFrom(p.table, fd, arg, false)
	case fDupFDCloexec:
		return dupFrom(p.table, fd, arg, true)
	case fGetFD:
		entry, e := p.table.Translate(fd)
		if e != 0 {
			return e.Result()
		}
		if entry.CloseOnExec {
			return fdCloexec
		}
		return 0
	case fSetFD:
		return p.table.SetCloseOnExec(fd, arg&fdCloexec != 0).Result()
	case fGetFL:
		h, e := p.acquire(a.Val[0])
		if e != 0 {
			return e.Result()
		}
		defer h.release()
		flags, e := p.statusFlags(&h)
		return result(int(flags), e)
	case fSetFL:
		h, e := p.acquire(a.Val[0])
		if e != 0 {
			return e.Result()
		}
		defer h.release()
		return p.setStatusFlags(&h, uint32(arg)).Result()
	}
	if _, e := p.table.Translate(fd); e != 0 {
		return e.Result()
	}
	return abi.EINVAL.Result()
}

// statusFlags is what F_GETFL answers: the host's flags, save those that this package keeps itself.
func (p *Process) statusFlags(h *handle) (uint32, abi.Errno) {
	host, err := unix.FcntlInt(uintptr(h.fd), unix.F_GETFL, 0)
	if err != nil {
		return 0, errnoOf(err)
	}
	return toGuestFlags(host)&^oNonblock | p.statusOf(h.f).Load(), 0
}

// setStatusFlags is F_SETFL. On a description that other processes share nothing changes but what this cage sees: its
// O_NONBLOCK, and O_APPEND, which it can add to its writes but not take from the host's.
func (p *Process) setStatusFlags(h *handle, flags uint32) abi.Errno {
	status := p.statusOf(h.f)
	if h.f.access != accessNonblock || h.f.shared {
		status.Store(flags & (oNonblock | oAppend))
		return 0
	}
	const settable = oAppend | oDirect | oNoatime
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	old, err := unix.FcntlInt(uintptr(h.fd), unix.F_GETFL, 0)
	if err != nil {
		return errnoOf(err)
	}
	if toGuestFlags(old)&settable != flags&settable {
		keep := old & unix.O_NONBLOCK // whatever the guest sees
		if _, err := unix.FcntlInt(uintptr(h.fd), unix.F_SETFL, toHostFlags(flags&settable)|keep); err != nil {
			return errnoOf(err)
		}
	}
	status.Store(flags & oNonblock)
	return 0
}

// dupTo makes to stand for what from does. What to stood for before is closed; like Linux this says nothing of how that
// went.
func dupTo(table *fdtables.Table, from, to fdtables.FD, cloexec bool) int64 {
	return result(int(to), replaced(table.Dup2(from, to, cloexec)))
}

// dupFrom gives what from stands for the lowest free number from least on.
func dupFrom(table *fdtables.Table, from fdtables.FD, least uint64, cloexec bool) int64 {
	if least > math.MaxInt32 {
		least = math.MaxInt32 // beyond every limit
	}
	v, e := table.DupFrom(from, fdtables.FD(least), cloexec)
	return result(int(v), e)
}
