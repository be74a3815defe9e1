package rawposix

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements sockets that a cage makes itself, as far as its Network lets it.

// Network says what a cage may reach by sockets of its own. Sockets that it is given are not affected.
type Network uint8

const (
	// NetworkNone is no sockets but pairs: socket(2) is abi.EACCES.
	NetworkNone Network = iota
	// NetworkLoopback is TCP and UDP within the host: sockets are bound to the loopback interface, and other addresses
	// are abi.EACCES.
	NetworkLoopback
	// NetworkAll is TCP and UDP wherever the host's own process may go.
	NetworkAll
)

// loopbackDevice is the name of the loopback interface.
const loopbackDevice = "lo"

// socket is socket(2): domain, type and flags, protocol. There are TCP and UDP, over IPv4 and IPv6: other families are
// abi.EAFNOSUPPORT, since one of AF_UNIX would lead to any socket in the host's file system.
func socket(t *threei.Thread, a *threei.Args) int64 {
	p, domain, kind, protocol := of(t), int32(a.Val[0]), uint32(a.Val[1]), int32(a.Val[2])
	flags := kind &^ sockTypeMask
	kind &= sockTypeMask
	switch {
	case flags&^(sockNonblock|sockCloexec) != 0:
		return abi.EINVAL.Result()
	case domain != unix.AF_INET && domain != unix.AF_INET6:
		return abi.EAFNOSUPPORT.Result()
	case p.network == NetworkNone, kind == unix.SOCK_RAW:
		return abi.EACCES.Result()
	case kind != unix.SOCK_STREAM && kind != unix.SOCK_DGRAM:
		return abi.EPROTONOSUPPORT.Result()
	case protocol != 0 && protocol != protocolOf(kind):
		return abi.EPROTONOSUPPORT.Result()
	}
	fd, err := unix.Socket(int(domain), int(kind)|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return newFDErrno(errnoOf(err)).Result()
	}
	f := &file{typ: typeSocket, sockType: uint8(kind), loopback: p.network == NetworkLoopback}
	if f.loopback {
		// Also what is not asked for by address stays inside: a port that the kernel chooses, a bind to any address.
		if err := unix.BindToDevice(fd, loopbackDevice); err != nil {
			dropHost(fd)
			return abi.EACCES.Result()
		}
	}
	f.status.Store(flags & sockNonblock)
	v, e := p.open(fd, f, flags&sockCloexec != 0)
	return result(int(v), e)
}

// protocolOf is the protocol of a type of socket.
func protocolOf(kind uint32) int32 {
	if kind == unix.SOCK_STREAM {
		return unix.IPPROTO_TCP
	}
	return unix.IPPROTO_UDP
}

// mayReach reports whether the socket may be bound to the address, or send to it.
func (f *file) mayReach(name []byte) bool {
	if !f.loopback {
		return true
	}
	addr, ok := netip.Addr{}, false
	switch { // the kernel takes an address of IPv6 without its scope, which is shorter than the structure
	case len(name) >= 8 && le.Uint16(name) == unix.AF_INET:
		addr, ok = netip.AddrFromSlice(name[4:8])
	case len(name) >= 24 && le.Uint16(name) == unix.AF_INET6:
		addr, ok = netip.AddrFromSlice(name[8:24])
	}
	if !ok {
		return true // the kernel refuses it
	}
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsUnspecified() // the latter to bind to: on the loopback interface alone
}

// socketAndName reads the address of arguments 1 and 2 for a call on the socket of argument 0, which the caller
// releases.
func socketAndName(t *threei.Thread, a *threei.Args, room []byte) (handle, []byte, abi.Errno) {
	h, e := of(t).acquireSocket(a.Val[0])
	if e != 0 {
		return handle{}, nil, e
	}
	n := int32(a.Val[2])
	switch {
	case n < 0 || n > maxName:
		e = abi.EINVAL
	case a.Val[1] == 0:
		e = abi.EFAULT
	case n == 0:
		e = abi.EINVAL
	}
	var name []byte
	if e == 0 {
		name, e = h.nameIn(t, room, a.Val[1], uint64(n), a.Cage[1], true)
	}
	if e != 0 {
		h.release()
		return handle{}, nil, e
	}
	return h, name, 0
}

// bind is bind(2): fd, address, its length.
func bind(t *threei.Thread, a *threei.Args) int64 {
	var room [maxName]byte
	h, name, e := socketAndName(t, a, room[:])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	return sysSockName(unix.SYS_BIND, h.fd, name).Result()
}

// listen is listen(2): fd, backlog. Of sockets that the cage was given only those are listened on that are its own.
func listen(t *threei.Thread, a *threei.Args) int64 {
	h, e := of(t).acquireSocket(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	if h.f.access != accessNonblock {
		return abi.EOPNOTSUPP.Result()
	}
	return errnoOf(unix.Listen(h.fd, int(int32(a.Val[1])))).Result()
}

// connect is connect(2): fd, address, its length. One that is ended by a stop goes on in the kernel, as after a signal.
func connect(t *threei.Thread, a *threei.Args) int64 {
	var room [maxName]byte
	h, name, e := socketAndName(t, a, room[:])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	if h.f.access != accessNonblock {
		return abi.EOPNOTSUPP.Result() // its description may be one that waits in the kernel, where nothing could end it
	}
	e = sysSockName(unix.SYS_CONNECT, h.fd, name)
	if e != abi.EINPROGRESS || of(t).nonblock(h.f) {
		return e.Result()
	}
	// Not parked: the connection has begun. The next call answers what became of it, and that the socket is connected by
	// then.
	for {
		if _, e := wait(t, h.fd, unix.POLLOUT, time.Time{}); e != 0 {
			return e.Result()
		}
		switch e := sysSockName(unix.SYS_CONNECT, h.fd, name); e {
		case abi.EISCONN: // another thread has asked before
			return 0
		case abi.EALREADY, abi.EINTR:
		default:
			return e.Result()
		}
	}
}

// getsockname is getsockname(2): fd, address, its length in and out.
func getsockname(t *threei.Thread, a *threei.Args) int64 {
	return answerName(t, a, unix.SYS_GETSOCKNAME)
}

// getpeername is getpeername(2): fd, address, its length in and out.
func getpeername(t *threei.Thread, a *threei.Args) int64 {
	return answerName(t, a, unix.SYS_GETPEERNAME)
}

func answerName(t *threei.Thread, a *threei.Args, trap uintptr) int64 {
	h, e := of(t).acquireSocket(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	if a.Val[1] == 0 {
		return abi.EFAULT.Result()
	}
	out, e := nameOut(t, a, 1)
	if e != 0 {
		return e.Result()
	}
	var name [maxName]byte
	n, e := sysGetName(trap, h.fd, name[:])
	if e == 0 {
		out.write(name[:], n)
	}
	return e.Result()
}

// option is an option of a socket.
type option struct{ level, name int }

// intOptions are the options that can be set, all of them numbers. SO_RCVTIMEO and its likes are not among them, since
// calls wait by themselves, and SO_LINGER has a rule of its own.
var intOptions = map[option]bool{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR}:      true,
	{unix.SOL_SOCKET, unix.SO_REUSEPORT}:      true,
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:      true,
	{unix.SOL_SOCKET, unix.SO_BROADCAST}:      true,
	{unix.SOL_SOCKET, unix.SO_OOBINLINE}:      true,
	{unix.SOL_SOCKET, unix.SO_SNDBUF}:         true,
	{unix.SOL_SOCKET, unix.SO_RCVBUF}:         true,
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT}:       true,
	{unix.IPPROTO_TCP, unix.TCP_NODELAY}:      true,
	{unix.IPPROTO_TCP, unix.TCP_CORK}:         true,
	{unix.IPPROTO_TCP, unix.TCP_QUICKACK}:     true,
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:     true,
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}:    true,
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}:      true,
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}: true,
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG}:       true,
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}:     true,
}

// readOptions are those that can be read only.
var readOptions = map[option]bool{
	{unix.SOL_SOCKET, unix.SO_TYPE}:       true,
	{unix.SOL_SOCKET, unix.SO_ERROR}:      true,
	{unix.SOL_SOCKET, unix.SO_ACCEPTCONN}: true,
	{unix.SOL_SOCKET, unix.SO_PROTOCOL}:   true,
	{unix.SOL_SOCKET, unix.SO_DOMAIN}:     true,
}

// setsockopt is setsockopt(2): fd, level, option, value, its length. Served are those of intOptions; SO_LINGER may be
// off, or on with no time, since a close must not wait. Others are abi.ENOPROTOOPT.
func setsockopt(t *threei.Thread, a *threei.Args) int64 {
	h, e := of(t).acquireSocket(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	o := option{int(int32(a.Val[1])), int(int32(a.Val[2]))}
	linger := o == option{unix.SOL_SOCKET, unix.SO_LINGER}
	if !linger && !intOptions[o] {
		return abi.ENOPROTOOPT.Result()
	}
	if h.f.access != accessNonblock {
		return abi.EPERM.Result() // its state is not the cage's to change
	}
	size := uint64(4)
	if linger {
		size = 8
	}
	if n := int32(a.Val[4]); n < int32(size) {
		return abi.EINVAL.Result()
	}
	src, e := resolve(t, a.Val[3], size, a.Cage[3])
	if e != 0 {
		return e.Result()
	}
	value := int32(le.Uint32(src))
	if !linger {
		return errnoOf(unix.SetsockoptInt(h.fd, o.level, o.name, int(value))).Result()
	}
	seconds := int32(le.Uint32(src[4:]))
	if value != 0 && seconds != 0 {
		return abi.EINVAL.Result()
	}
	return errnoOf(unix.SetsockoptLinger(h.fd, o.level, o.name, &unix.Linger{Onoff: value})).Result()
}
