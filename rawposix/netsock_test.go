package rawposix_test

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/rawposix"
)

// newNetEnv is an env whose cage may have sockets of its own.
func newNetEnv(t *testing.T, network rawposix.Network) *env {
	e := newEnv(t)
	if err := e.proc.Close(); err != nil {
		t.Fatal(err)
	}
	e.network = network
	e.proc = e.newProcess(testCage)
	e.th = e.thread()
	return e
}

// sockaddr places the address of an Internet socket in guest memory, and answers its size too.
func (e *env) sockaddr(to string) (gp, int) {
	ap := netip.MustParseAddrPort(to)
	if ap.Addr().Is4() {
		b := le.AppendUint16(nil, unix.AF_INET)
		b = append(b, byte(ap.Port()>>8), byte(ap.Port()))
		return e.put(append(append(b, ap.Addr().AsSlice()...), make([]byte, 8)...)), 16
	}
	b := le.AppendUint16(nil, unix.AF_INET6)
	b = append(b, byte(ap.Port()>>8), byte(ap.Port()), 0, 0, 0, 0)
	return e.put(append(append(b, ap.Addr().AsSlice()...), 0, 0, 0, 0)), 28
}

// port is the port that a socket is bound to.
func (e *env) port(fd int) int {
	e.t.Helper()
	at, size := e.alloc(28), e.put(le.AppendUint32(nil, 28))
	e.must(abi.CallGetsockname, fd, at, size)
	b := e.bytes(at, 4)
	return int(b[2])<<8 | int(b[3])
}

func TestSocket_ServesAndConnectsOnLoopback(t *testing.T) {
	for _, c := range []struct {
		family int
		any    string
	}{{unix.AF_INET, "127.0.0.1:0"}, {unix.AF_INET6, "[::1]:0"}} {
		e := newNetEnv(t, rawposix.NetworkLoopback)
		l := int(e.must(abi.CallSocket, c.family, unix.SOCK_STREAM, 0))
		addr, size := e.sockaddr(c.any)
		if r := e.call(abi.CallBind, l, addr, size); r == abi.EADDRNOTAVAIL.Result() && c.family == unix.AF_INET6 {
			continue // a host without IPv6
		} else if r != 0 {
			t.Fatalf("bind: %s", show(r))
		}
		e.must(abi.CallListen, l, 8)
		to := netip.MustParseAddrPort(c.any)
		addr, size = e.sockaddr(netip.AddrPortFrom(to.Addr(), uint16(e.port(l))).String())
		s := int(e.must(abi.CallSocket, c.family, unix.SOCK_STREAM, unix.IPPROTO_TCP))
		e.must(abi.CallConnect, s, addr, size)
		peer, peerSize := e.alloc(28), e.put(le.AppendUint32(nil, 28))
		conn := int(e.must(abi.CallAccept, l, peer, peerSize))
		at := e.alloc(28)
		e.must(abi.CallGetpeername, conn, at, peerSize)
		if string(e.bytes(at, size)) != string(e.bytes(peer, size)) {
			t.Errorf("peer: %x and %x", e.bytes(at, size), e.bytes(peer, size))
		}
		e.write(s, "hello")
		if got := e.read(conn, 10); got != "hello" {
			t.Errorf("read %q", got)
		}
		one := e.put(le.AppendUint32(nil, 1))
		e.must(abi.CallSetsockopt, conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, one, 4)
		val, valSize := e.alloc(4), e.put(le.AppendUint32(nil, 4))
		e.must(abi.CallGetsockopt, conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, val, valSize)
		if got := le.Uint32(e.bytes(val, 4)); got != 1 {
			t.Errorf("TCP_NODELAY: %d", got)
		}
		e.fails(abi.EISCONN, abi.CallConnect, s, addr, size)
		e.must(abi.CallClose, l)
		s = int(e.must(abi.CallSocket, c.family, unix.SOCK_STREAM, 0))
		e.fails(abi.ECONNREFUSED, abi.CallConnect, s, addr, size)
		udp := int(e.must(abi.CallSocket, c.family, unix.SOCK_DGRAM|oNonblock, unix.IPPROTO_UDP))
		e.must(abi.CallConnect, udp, addr, size)
		e.must(abi.CallConnect, udp, e.put(make([]byte, 16)), 16) // AF_UNSPEC ends that
		e.fails(abi.EAGAIN, abi.CallRecvfrom, udp, e.alloc(8), 8, 0, 0, 0)
	}
}

// A connect that has to wait is ended by a stop: to a listener whose queue is full.
func TestConnect_EndsWithEINTRWhenCancelled(t *testing.T) {
	e := newNetEnv(t, rawposix.NetworkLoopback)
	l := int(e.must(abi.CallSocket, unix.AF_INET, unix.SOCK_STREAM, 0))
	addr, size := e.sockaddr("127.0.0.1:0")
	e.must(abi.CallBind, l, addr, size)
	e.must(abi.CallListen, l, 0)
	addr, size = e.sockaddr(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(e.port(l))).String())
	for range 8 {
		s := int(e.must(abi.CallSocket, unix.AF_INET, unix.SOCK_STREAM|oNonblock, 0))
		e.call(abi.CallConnect, s, addr, size)
	}
	s := int(e.must(abi.CallSocket, unix.AF_INET, unix.SOCK_STREAM, 0))
	done := e.background(abi.CallConnect, s, addr, size)
	await(t, "the wait", e.cancel.asked)
	e.cancel.fire()
	if got := await(t, "connect", done); got != abi.EINTR.Result() {
		t.Errorf("connect: %s", show(got))
	}
}

func TestSocket_ReachesWhatTheNetworkAllows(t *testing.T) {
	e := newEnv(t)
	e.fails(abi.EACCES, abi.CallSocket, unix.AF_INET, unix.SOCK_STREAM, 0)
	e = newNetEnv(t, rawposix.NetworkLoopback)
	e.unchecked = true
	for _, c := range []struct {
		want                   abi.Errno
		family, kind, protocol int
	}{
		{abi.EAFNOSUPPORT, unix.AF_UNIX, unix.SOCK_STREAM, 0},
		{abi.EAFNOSUPPORT, unix.AF_NETLINK, unix.SOCK_DGRAM, 0},
		{abi.EAFNOSUPPORT, -1, unix.SOCK_DGRAM, 0},
		{abi.EACCES, unix.AF_INET, unix.SOCK_RAW, 0},
		{abi.EPROTONOSUPPORT, unix.AF_INET, unix.SOCK_SEQPACKET, 0},
		{abi.EPROTONOSUPPORT, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_UDP},
		{abi.EINVAL, unix.AF_INET, unix.SOCK_STREAM | 0x100, 0},
	} {
		e.fails(c.want, abi.CallSocket, c.family, c.kind, c.protocol)
	}
	s := int(e.must(abi.CallSocket, unix.AF_INET, unix.SOCK_STREAM, 0))
	udp := int(e.must(abi.CallSocket, unix.AF_INET, unix.SOCK_DGRAM, 0))
	udp6 := int(e.must(abi.CallSocket, unix.AF_INET6, unix.SOCK_DGRAM, 0))
	out4, size4 := e.sockaddr("192.0.2.1:9")
	out6, size6 := e.sockaddr("[2001:db8::1]:9")
	mapped, _ := e.sockaddr("[::ffff:192.0.2.1]:9")
	e.fails(abi.EACCES, abi.CallConnect, s, out4, size4)
	e.fails(abi.EACCES, abi.CallBind, s, out4, size4)
	e.fails(abi.EACCES, abi.CallConnect, udp, out4, size4)
	e.fails(abi.EACCES, abi.CallSendto, udp, e.str("x"), 1, 0, out4, size4)
	e.fails(abi.EACCES, abi.CallSendto, udp6, e.str("x"), 1, 0, out6, size6)
	e.fails(abi.EACCES, abi.CallSendto, udp6, e.str("x"), 1, 0, out6, 24) // without its scope
	e.fails(abi.EACCES, abi.CallSendto, udp6, e.str("x"), 1, 0, mapped, size6)
	e.fails(abi.EACCES, abi.CallSendto, udp6, e.str("x"), 1, 0, out4, size4)
	e.fails(abi.EACCES, abi.CallConnect, s, e.put(le.AppendUint16(nil, unix.AF_UNIX)), 2)
	e.fails(abi.EINVAL, abi.CallConnect, s, out4, 1000)
	e.fails(abi.EINVAL, abi.CallConnect, s, out4, -1)
	e.fails(abi.EINVAL, abi.CallConnect, s, out4, 0)
	e.fails(abi.EFAULT, abi.CallConnect, s, 0, 16)
	e.fails(abi.EFAULT, abi.CallBind, s, gp(memSize-8), 16)
	e.fails(abi.ENOTSOCK, abi.CallBind, e.file(""), out4, size4)
	e.fails(abi.ENOTCONN, abi.CallGetpeername, s, e.alloc(16), e.put(le.AppendUint32(nil, 16)))
	// To be bound to any address is to be bound to the loopback interface.
	anywhere, size := e.sockaddr("0.0.0.0:0")
	e.must(abi.CallBind, udp, anywhere, size)
	if dev, err := unix.GetsockoptString(hostFD(e, udp), unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || dev != "lo" {
		t.Errorf("bound to %q, %v", dev, err)
	}
	e = newNetEnv(t, rawposix.NetworkAll)
	e.unchecked = true
	udp = int(e.must(abi.CallSocket, unix.AF_INET, unix.SOCK_DGRAM, 0))
	if dev, err := unix.GetsockoptString(hostFD(e, udp), unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || dev != "" {
		t.Errorf("bound to %q, %v", dev, err)
	}
	local, size := e.sockaddr("127.0.0.1:9")
	e.must(abi.CallConnect, udp, local, size)
}

// hostFD is the host's descriptor behind a guest's.
func hostFD(e *env, fd int) int {
	entry, errno := e.proc.Table().Translate(fdtables.FD(fd))
	if errno != 0 {
		e.t.Fatal(errno)
	}
	return int(entry.UnderFD)
}

func TestSetsockopt_RefusesWhatWouldMakeACallWait(t *testing.T) {
	e := newNetEnv(t, rawposix.NetworkLoopback)
	s := int(e.must(abi.CallSocket, unix.AF_INET, unix.SOCK_STREAM, 0))
	val := e.put(le.AppendUint32(le.AppendUint32(nil, 1), 0))
	e.must(abi.CallSetsockopt, s, unix.SOL_SOCKET, unix.SO_LINGER, val, 8)
	e.must(abi.CallSetsockopt, s, unix.SOL_SOCKET, unix.SO_REUSEADDR, val, 4)
	e.fails(abi.EINVAL, abi.CallSetsockopt, s, unix.SOL_SOCKET, unix.SO_REUSEADDR, val, 3)
	e.fails(abi.EFAULT, abi.CallSetsockopt, s, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0, 4)
	long := e.put(le.AppendUint32(le.AppendUint32(nil, 1), 30))
	e.fails(abi.EINVAL, abi.CallSetsockopt, s, unix.SOL_SOCKET, unix.SO_LINGER, long, 8)
	for _, o := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO, unix.SO_BINDTODEVICE, unix.SO_MARK, unix.SO_ATTACH_FILTER} {
		e.fails(abi.ENOPROTOOPT, abi.CallSetsockopt, s, unix.SOL_SOCKET, o, long, 8)
	}
}

// What the host's process shares with others the cage neither changes nor connects.
func TestInheritedSocket_IsNotTheCagesToConnect(t *testing.T) {
	e := newNetEnv(t, rawposix.NetworkLoopback)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := conn.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	e.unchecked = true // Go's poller
	defer conn.Close()
	defer file.Close()
	if err := e.proc.InstallFD(5, int(file.Fd()), rawposix.Inherited, 0); err != nil {
		t.Fatal(err)
	}
	addr, size := e.sockaddr("127.0.0.1:9")
	e.fails(abi.EOPNOTSUPP, abi.CallConnect, 5, addr, size)
	e.fails(abi.EOPNOTSUPP, abi.CallListen, 5, 1)
	e.fails(abi.EPERM, abi.CallSetsockopt, 5, unix.SOL_SOCKET, unix.SO_BROADCAST, e.put(le.AppendUint32(nil, 1)), 4)
}
