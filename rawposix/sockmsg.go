package rawposix

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements messages on sockets. Control data is neither sent nor received: descriptors in it would be the
// host's. What a peer sends of it the kernel drops, and says so with MSG_CTRUNC.

const (
	// recvFlags and sendFlags are what is passed on of a guest's flags.
	recvFlags = unix.MSG_OOB | unix.MSG_PEEK | unix.MSG_TRUNC
	sendFlags = unix.MSG_OOB | unix.MSG_DONTROUTE | unix.MSG_EOR | unix.MSG_CONFIRM | unix.MSG_MORE
	// refusedFlags are those that would need control data, or connect a socket.
	refusedFlags = unix.MSG_ERRQUEUE | unix.MSG_ZEROCOPY | unix.MSG_FASTOPEN
)

// struct msghdr of Linux x86-64.
const (
	msghdrSize       = 56
	msghdrName       = 0
	msghdrNamelen    = 8
	msghdrIov        = 16
	msghdrIovlen     = 24
	msghdrControllen = 40
	msghdrFlags      = 48
)

// recvfrom is recvfrom(2): fd, buffer, size, flags, address or none, its length in and out.
func recvfrom(t *threei.Thread, a *threei.Args) int64 {
	v, h, e := socketBuffer(t, a)
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	out, e := nameOut(t, a, 4)
	if e != 0 {
		return e.Result()
	}
	var name [maxName]byte
	room := name[:]
	if out.length == nil {
		room = nil
	}
	bufs := [1]iovec{v}
	n, info, e := of(t).receive(t, &h, bufs[:], room, uint32(a.Val[3]))
	if e != 0 {
		return e.Result()
	}
	out.write(room, info.nameLen)
	return int64(n)
}

// sendto is sendto(2): fd, buffer, size, flags, address or none, its length.
func sendto(t *threei.Thread, a *threei.Args) int64 {
	v, h, e := socketBuffer(t, a)
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	var room [maxName]byte
	name, e := h.nameIn(t, room[:], a.Val[4], uint64(uint32(a.Val[5])), a.Cage[4], false)
	if e != 0 {
		return e.Result()
	}
	bufs := [1]iovec{v}
	n, e := of(t).send(t, &h, bufs[:], name, uint32(a.Val[3]))
	return result(int(n), e)
}

// socketBuffer is the socket of argument 0 and the buffer of arguments 1 and 2. The caller releases the socket.
func socketBuffer(t *threei.Thread, a *threei.Args) (iovec, handle, abi.Errno) {
	addr, size := a.Val[1], a.Val[2]
	if size > math.MaxInt64 {
		return iovec{}, handle{}, abi.EINVAL
	}
	h, e := of(t).acquireSocket(a.Val[0])
	if e != 0 {
		return iovec{}, handle{}, e
	}
	if size == 0 {
		return iovec{}, h, 0
	}
	if _, e := t.Resolve(addr, size, a.Cage[1]); e != 0 {
		h.release()
		return iovec{}, handle{}, e
	}
	return iovec{base: addr, len: min(size, maxTransfer)}, h, 0
}

func (p *Process) acquireSocket(v uint64) (handle, abi.Errno) {
	h, e := p.acquire(v)
	if e == 0 && h.f.typ != typeSocket {
		h.release()
		return handle{}, abi.ENOTSOCK
	}
	return h, e
}

// nameIn copies the address of n bytes that a socket is bound to, or that a message goes to, into room. Only addresses
// of the Internet are taken: one of AF_UNIX would lead to any socket in the host's file system. unspec says that
// AF_UNSPEC is one, which ends the connection of a datagram socket.
func (h *handle) nameIn(t *threei.Thread, room []byte, addr, n uint64, cage abi.CageID, unspec bool) ([]byte, abi.Errno) {
	if addr == 0 || n == 0 {
		return nil, 0
	}
	if n > maxName {
		return nil, abi.EINVAL
	}
	src, e := t.Resolve(addr, n, cage)
	if e != 0 {
		return nil, e
	}
	name := room[:copy(room, src)]
	if len(name) < 2 {
		return nil, abi.EINVAL
	}
	switch family := le.Uint16(name); {
	case family == unix.AF_UNSPEC && unspec:
	case family != unix.AF_INET && family != unix.AF_INET6, !h.f.mayReach(name):
		return nil, abi.EACCES
	}
	return name, 0
}

// recvmsg is recvmsg(2): fd, struct msghdr, flags.
func recvmsg(t *threei.Thread, a *threei.Args) int64 { return withMsghdr(t, a, recvMessage) }

// sendmsg is sendmsg(2): fd, struct msghdr, flags. Control data is abi.EOPNOTSUPP.
func sendmsg(t *threei.Thread, a *threei.Args) int64 { return withMsghdr(t, a, sendMessage) }

// message is a msghdr of a guest's, copied and checked.
type message struct {
	hdr     []byte // the guest's memory, to answer in
	name    uint64
	nameLen uint32
	cage    abi.CageID // whose memory all its addresses are in
	control bool       // it has control data, or room for it
}

// withMsghdr reads the msghdr at argument 1 for fn, with its buffers.
func withMsghdr(t *threei.Thread, a *threei.Args, fn func(*threei.Thread, *handle, message, []iovec, uint32) int64) int64 {
	p := of(t)
	h, e := p.acquireSocket(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	hdr, e := resolve(t, a.Val[1], msghdrSize, a.Cage[1])
	if e != 0 {
		return e.Result()
	}
	m := message{
		hdr: hdr, cage: a.Cage[1],
		name: le.Uint64(hdr[msghdrName:]), nameLen: le.Uint32(hdr[msghdrNamelen:]),
		control: le.Uint64(hdr[msghdrControllen:]) != 0,
	}
	iov, count := le.Uint64(hdr[msghdrIov:]), le.Uint64(hdr[msghdrIovlen:])
	switch {
	case count > iovMax:
		return abi.EMSGSIZE.Result()
	case int32(m.nameLen) < 0:
		return abi.EINVAL.Result()
	}
	room := p.host.vectors.Get().(*vector)
	defer p.host.vectors.Put(room)
	v, e := buffers(t, room[:], iov, count, m.cage)
	if e != 0 {
		return e.Result()
	}
	return fn(t, &h, m, v, uint32(a.Val[2]))
}

func recvMessage(t *threei.Thread, h *handle, m message, v []iovec, flags uint32) int64 {
	var room [maxName]byte
	var name, dst []byte
	if m.name != 0 {
		var e abi.Errno
		if dst, e = t.Resolve(m.name, uint64(min(m.nameLen, maxName)), m.cage); e != 0 {
			return e.Result()
		}
		name = room[:]
	}
	n, info, e := of(t).receive(t, h, v, name, flags)
	if e != 0 {
		return e.Result()
	}
	if m.name != 0 {
		copy(dst, name[:min(info.nameLen, maxName)])
		le.PutUint32(m.hdr[msghdrNamelen:], info.nameLen)
	}
	le.PutUint64(m.hdr[msghdrControllen:], 0)
	le.PutUint32(m.hdr[msghdrFlags:], info.flags&^unix.MSG_DONTWAIT)
	return int64(n)
}

func sendMessage(t *threei.Thread, h *handle, m message, v []iovec, flags uint32) int64 {
	if m.control {
		return abi.EOPNOTSUPP.Result()
	}
	var room [maxName]byte
	name, e := h.nameIn(t, room[:], m.name, uint64(m.nameLen), m.cage, false)
	if e != 0 {
		return e.Result()
	}
	n, e := of(t).send(t, h, v, name, flags)
	return result(int(n), e)
}

// receive takes a message, or what there is of a stream: with MSG_WAITALL, all that v has room for. MSG_WAITALL with
// MSG_PEEK does not wait for more than something. It uses v up.
func (p *Process) receive(t *threei.Thread, h *handle, v []iovec, name []byte, flags uint32) (uint64, msgInfo, abi.Errno) {
	if flags&refusedFlags != 0 {
		return 0, msgInfo{}, abi.EOPNOTSUPP
	}
	// Urgent data is there or not: Linux does not wait for it.
	dontwait := flags&(unix.MSG_DONTWAIT|unix.MSG_OOB) != 0
	all := flags&unix.MSG_WAITALL != 0 && flags&unix.MSG_PEEK == 0 && h.f.stream() && !dontwait && !p.nonblock(h.f)
	host := uintptr(flags&recvFlags | unix.MSG_DONTWAIT)
	left, done := vecBytes(v), uint64(0)
	for {
		var n uint64
		var info msgInfo
		e := p.untilReady(t, h, unix.POLLIN, dontwait, done == 0, func() (e abi.Errno) {
			n, info, e = sysMsgName(unix.SYS_RECVMSG, h.fd, v, name, host)
			return e
		})
		if e != 0 && done == 0 {
			return 0, info, e
		}
		done += n
		if e != 0 || !all || n == 0 || n >= left {
			return done, info, 0
		}
		left -= n
		v = vecSkip(v, n)
	}
}

// send sends a message, or puts v into a stream: all of it if the guest is ready to wait. It uses v up.
func (p *Process) send(t *threei.Thread, h *handle, v []iovec, name []byte, flags uint32) (uint64, abi.Errno) {
	if flags&refusedFlags != 0 {
		return 0, abi.EOPNOTSUPP
	}
	dontwait := flags&unix.MSG_DONTWAIT != 0
	all := h.f.stream() && !dontwait && !p.nonblock(h.f)
	host := uintptr(flags&sendFlags | unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL)
	left, done := vecBytes(v), uint64(0)
	for {
		var n uint64
		e := p.untilReady(t, h, unix.POLLOUT, dontwait, done == 0, func() (e abi.Errno) {
			n, _, e = sysMsgName(unix.SYS_SENDMSG, h.fd, v, name, host)
			return e
		})
		if e != 0 && done == 0 {
			return 0, e
		}
		done += n
		if e != 0 || !all || n == 0 || n >= left {
			return done, 0
		}
		left -= n
		v = vecSkip(v, n)
	}
}
