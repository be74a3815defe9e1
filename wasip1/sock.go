package wasip1

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// sockAccept is sock_accept(fd, flags) -> fd. Of the flags only nonblock means something to a socket; others
// are inval.
func sockAccept(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	flags := uint64(0)
	switch c.u32(1) {
	case 0:
	case fdflagNonblock:
		flags = sockNonblock
	default:
		return ErrnoInval
	}
	out := c.ptr(2)
	if !c.inMemory(out, 4) {
		return ErrnoFault
	}
	return c.newFD(c.sysFD(abi.CallAccept4, fd, 0, 0, flags), out)
}

// sockRecv is sock_recv(fd, ri_data, ri_data_len, ri_flags) -> (size, roflags).
func sockRecv(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	riFlags := c.u32(3)
	if riFlags&^riAll != 0 {
		return ErrnoInval
	}
	flags := uint64(0)
	if riFlags&riPeek != 0 {
		flags |= msgPeek
	}
	if riFlags&riWaitall != 0 {
		flags |= msgWaitall
	}
	out, outFlags := c.ptr(4), c.ptr(5)
	if !c.inMemory(out, 4) || !c.inMemory(outFlags, 2) {
		return ErrnoFault
	}
	v, errno := c.message(c.ptr(1), c.ptr(2))
	if errno != 0 {
		return errno
	}
	hdr, addr := c.msghdr(&v)
	n, errno := v.transferred(c.sys(abi.CallRecvmsg, threei.Args{
		Val:  [6]uint64{fd, addr, flags},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
	}))
	if errno != 0 {
		return errno
	}
	var roFlags [2]byte
	if le.Uint32(hdr[msghdrFlags:])&msgTrunc != 0 {
		roFlags[0] = roDataTruncated
	}
	if errno := c.writeBytes(outFlags, roFlags[:]); errno != 0 {
		return errno
	}
	return c.writeU32(out, n)
}

// sockSend is sock_send(fd, si_data, si_data_len, si_flags) -> size. A connection that is gone is pipe, without
// a signal.
func sockSend(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	if c.u32(3) != 0 {
		return ErrnoInval
	}
	out := c.ptr(4)
	if !c.inMemory(out, 4) {
		return ErrnoFault
	}
	v, errno := c.message(c.ptr(1), c.ptr(2))
	if errno != 0 {
		return errno
	}
	var r int64
	if v.list == nil {
		r = c.sys(abi.CallSendto, threei.Args{
			Val:  [6]uint64{fd, v.addr, v.size, msgNosignal},
			Cage: [6]abi.CageID{1: c.t.Cage},
		})
	} else {
		_, addr := c.msghdr(&v)
		r = c.sys(abi.CallSendmsg, threei.Args{
			Val:  [6]uint64{fd, addr, msgNosignal},
			Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
		})
	}
	n, errno := v.transferred(r)
	if errno != 0 {
		return errno
	}
	return c.writeU32(out, n)
}

// sockShutdown is sock_shutdown(fd, how).
func sockShutdown(c call) Errno {
	fd, errno := c.fd(0)
	if errno != 0 {
		return errno
	}
	how := c.u32(1) // rd 1, wr 2, both 3; Linux has SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2
	if how == 0 || how > 3 {
		return ErrnoInval
	}
	return errnoOf(c.sysFD(abi.CallShutdown, fd, uint64(how-1), 0, 0))
}

// message is buffers for a message, which must not be cut: msgsize if the list is longer than Linux takes.
func (c call) message(off, n uint64) (buffers, Errno) {
	if n > linuxIovMax && c.inMemory(off, n*iovecSize) {
		return buffers{}, ErrnoMsgsize
	}
	return c.buffers(off, n)
}

// msghdr is a Linux msghdr for the buffers v in scratch memory, and its address.
func (c call) msghdr(v *buffers) ([]byte, uint64) {
	list, count := v.array(c)
	hdr, addr := c.scratch(msghdrSize)
	le.PutUint64(hdr[msghdrIov:], list)
	le.PutUint64(hdr[msghdrIovlen:], count)
	return hdr, addr
}
