package rawposix

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	// The flags that socketpair, accept4 and socket types share with O_NONBLOCK and O_CLOEXEC.
	sockNonblock = oNonblock
	sockCloexec  = oCloexec
	sockTypeMask = 0xf
	// maxName is room for the address of any socket: struct sockaddr_storage.
	maxName = unix.SizeofSockaddrAny
)

// accept is accept(2): fd, address or none, its length in and out.
func accept(t *threei.Thread, a *threei.Args) int64 { return acceptFlags(t, a, 0) }

// accept4 is accept4(2): accept and flags.
func accept4(t *threei.Thread, a *threei.Args) int64 { return acceptFlags(t, a, uint32(a.Val[3])) }

func acceptFlags(t *threei.Thread, a *threei.Args, flags uint32) int64 {
	if flags&^(sockNonblock|sockCloexec) != 0 {
		return abi.EINVAL.Result()
	}
	p := of(t)
	h, e := p.acquire(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	if h.f.typ != typeSocket {
		return abi.ENOTSOCK.Result()
	}
	if h.f.access != accessNonblock {
		// The description is shared and may be blocking, and accept has no flag not to wait: if another process took
		// the connection that poll saw, nothing could end the call.
		return abi.EOPNOTSUPP.Result()
	}
	out, e := nameOut(t, a, 1)
	if e != 0 {
		return e.Result()
	}
	var name [maxName]byte
	var fd int
	var nameLen uint32
	e = p.untilReady(t, &h, unix.POLLIN, false, true, func() (e abi.Errno) {
		fd, nameLen, e = sysAccept4(h.fd, name[:], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return e
	})
	if e != 0 {
		return newFDErrno(e).Result()
	}
	f := &file{typ: typeSocket, sockType: h.f.sockType, loopback: h.f.loopback}
	f.status.Store(flags & sockNonblock)
	v, e := p.open(fd, f, flags&sockCloexec != 0)
	if e == 0 {
		out.write(name[:], nameLen)
	}
	return result(int(v), e)
}

// untilReady makes a call that does not wait until it answers something else than EAGAIN, waiting for events before each
// repetition, unless the guest's O_NONBLOCK or dontwait says not to. first says that the system call has had no effect
// yet.
func (p *Process) untilReady(
	t *threei.Thread, h *handle, events int16, dontwait, first bool, call func() abi.Errno,
) abi.Errno {
	waits := wait
	if first {
		waits = waitOrPark
	}
	dontwait = dontwait || p.nonblock(h.f)
	for {
		e := call()
		switch {
		case e == abi.EINTR:
		case e != abi.EAGAIN || dontwait:
			return e
		default:
			if _, e := waits(t, h.fd, events, time.Time{}); e != 0 {
				return e
			}
		}
	}
}

// nameDst is where a socket's address goes to, and its length. The zero one is nowhere.
type nameDst struct{ name, length []byte }

// nameOut reads arguments i (address or none) and i+1 (its length) for a call that answers an address.
func nameOut(t *threei.Thread, a *threei.Args, i int) (nameDst, abi.Errno) {
	if a.Val[i] == 0 {
		return nameDst{}, 0
	}
	length, e := resolve(t, a.Val[i+1], 4, a.Cage[i+1])
	if e != 0 {
		return nameDst{}, e
	}
	n := int32(le.Uint32(length))
	if n < 0 {
		return nameDst{}, abi.EINVAL
	}
	name, e := t.Resolve(a.Val[i], uint64(min(n, maxName)), a.Cage[i])
	return nameDst{name: name, length: length}, e
}

// write writes as much of the address as there is room for, and its whole length.
func (d nameDst) write(name []byte, n uint32) {
	if d.length == nil {
		return
	}
	copy(d.name, name[:min(int(n), len(name))])
	le.PutUint32(d.length, n)
}

// shutdown is shutdown(2): fd, how.
func shutdown(t *threei.Thread, a *threei.Args) int64 {
	return onFD(t, a, func(fd int, a *threei.Args) int64 {
		return errnoOf(unix.Shutdown(fd, int(int32(a.Val[1])))).Result()
	})
}

// socketpair is socketpair(2): domain, type and flags, protocol, array of two fds. There are pairs of AF_UNIX only.
func socketpair(t *threei.Thread, a *threei.Args) int64 {
	kind := uint32(a.Val[1])
	flags := kind &^ sockTypeMask
	if flags&^(sockNonblock|sockCloexec) != 0 {
		return abi.EINVAL.Result()
	}
	if int32(a.Val[0]) != unix.AF_UNIX {
		return abi.EAFNOSUPPORT.Result()
	}
	dst, e := resolve(t, a.Val[3], 8, a.Cage[3])
	if e != 0 {
		return e.Result()
	}
	kind &= sockTypeMask
	fds, err := unix.Socketpair(unix.AF_UNIX, int(kind)|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(int32(a.Val[2])))
	if err != nil {
		return newFDErrno(errnoOf(err)).Result()
	}
	if kind == unix.SOCK_RAW {
		kind = unix.SOCK_DGRAM // which is what Linux makes of it
	}
	files := [2]*file{{typ: typeSocket, sockType: uint8(kind)}, {typ: typeSocket, sockType: uint8(kind)}}
	return of(t).openPair(dst, fds, files, flags&sockNonblock, flags&sockCloexec != 0).Result()
}

// getsockopt is getsockopt(2): fd, level, option, value, its length in and out. Served are the options of SOL_SOCKET
// that say what a socket is and which error it has, and those that can be set.
func getsockopt(t *threei.Thread, a *threei.Args) int64 {
	h, e := of(t).acquire(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	if h.f.typ != typeSocket {
		return abi.ENOTSOCK.Result()
	}
	length, e := resolve(t, a.Val[4], 4, a.Cage[4])
	if e != 0 {
		return e.Result()
	}
	room := int32(le.Uint32(length))
	if room < 0 {
		return abi.EINVAL.Result()
	}
	dst, e := t.Resolve(a.Val[3], uint64(min(room, 4)), a.Cage[3])
	if e != 0 {
		return e.Result()
	}
	o := option{int(int32(a.Val[1])), int(int32(a.Val[2]))}
	if !readOptions[o] && !intOptions[o] {
		return abi.ENOPROTOOPT.Result()
	}
	n, err := unix.GetsockoptInt(h.fd, o.level, o.name)
	if err != nil {
		return errnoOf(err).Result()
	}
	var b [4]byte
	le.PutUint32(b[:], uint32(n))
	le.PutUint32(length, uint32(copy(dst, b[:])))
	return 0
}
