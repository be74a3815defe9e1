package rawposix_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/rawposix"
)

func TestAccept_GivesAConnectionAndItsPeer(t *testing.T) {
	e := newEnv(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if err := e.proc.InstallFD(9, fd, rawposix.Owned, 0); err != nil {
		t.Fatal(err)
	}
	name, size := e.alloc(128), e.put([]byte{128, 0, 0, 0})
	e.must(abi.CallFcntl, 9, fSetFL, oNonblock)
	e.fails(abi.EAGAIN, abi.CallAccept4, 9, name, size, 0)
	e.must(abi.CallFcntl, 9, fSetFL, 0)

	done := e.background(abi.CallAccept4, 9, name, size, oNonblock|oCloexec)
	await(t, "the wait", e.cancel.asked)
	c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	conn := int(await(t, "the accept", done))
	if conn < 0 {
		t.Fatalf("accept4: %s", show(int64(conn)))
	}
	b := e.bytes(name, 16)
	port := int(b[2])<<8 | int(b[3])
	if n := le.Uint32(e.bytes(size, 4)); n != 16 || le.Uint16(b) != unix.AF_INET || port != c.LocalAddr().(*net.TCPAddr).Port {
		t.Fatalf("peer of %d bytes: % x, want port %d", n, b, c.LocalAddr().(*net.TCPAddr).Port)
	}
	if a, b := e.must(abi.CallFcntl, conn, fGetFL), e.must(abi.CallFcntl, conn, fGetFD); a&oNonblock == 0 || b != 1 {
		t.Fatalf("F_GETFL %#o, F_GETFD %d after accept4 with flags", a, b)
	}
	e.fails(abi.EAGAIN, abi.CallRead, conn, name, 8)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	e.must(abi.CallFcntl, conn, fSetFL, 0)
	if got := e.read(conn, 8); got != "hello" {
		t.Fatalf("read %q", got)
	}
	e.must(abi.CallShutdown, conn, unix.SHUT_WR)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("the peer read %d, %v after shutdown", n, err)
	}
	e.fails(abi.EPIPE, abi.CallWrite, conn, name, 1)
	e.fails(abi.EINVAL, abi.CallAccept4, 9, 0, 0, oAppend)
	e.fails(abi.EINVAL, abi.CallAccept, conn, 0, 0)
	e.fails(abi.EFAULT, abi.CallAccept, 9, name, gp(memSize-2))
	r, _ := e.pipe(0)
	e.fails(abi.ENOTSOCK, abi.CallAccept, r, 0, 0)
	e.fails(abi.ENOTSOCK, abi.CallShutdown, r, 0)
	e.fails(abi.ENOTSOCK, abi.CallRecvfrom, r, name, 1, 0, 0, 0)
	e.fails(abi.ENOTSOCK, abi.CallSendmsg, r, e.msghdr(name, 1), 0)
}

func TestMessages_KeepTheirBoundaries(t *testing.T) {
	for name, kind := range map[string]int{"datagram": unix.SOCK_DGRAM, "seqpacket": unix.SOCK_SEQPACKET} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			a, b := e.socketpair(kind)
			e.must(abi.CallSendto, a, e.put([]byte("first")), 5, 0, 0, 0)
			if n := e.must(abi.CallSendmsg, a, e.msghdr(e.put([]byte("second")), 6), 0); n != 6 {
				t.Fatalf("sendmsg: %d", n)
			}
			at := e.alloc(16)
			if n := e.must(abi.CallRecvfrom, b, at, 16, unix.MSG_PEEK, 0, 0); n != 5 {
				t.Fatalf("peek: %d", n)
			}
			hdr := e.msghdr(at, 3)
			if n := e.must(abi.CallRecvmsg, b, hdr, 0); n != 3 || string(e.bytes(at, 3)) != "fir" {
				t.Fatalf("recvmsg: %d", n)
			}
			if f := le.Uint32(e.bytes(hdr+48, 4)); f&unix.MSG_TRUNC == 0 {
				t.Fatalf("msg_flags: %#x", f)
			}
			if got := e.read(b, 16); got != "second" {
				t.Fatalf("read %q", got)
			}
			e.fails(abi.EAGAIN, abi.CallRecvfrom, b, at, 16, unix.MSG_DONTWAIT, 0, 0)
		})
	}
}

func TestReceiveAll_WaitsForAllOfAStream(t *testing.T) {
	e := newEnv(t)
	a, b := e.socketpair(unix.SOCK_STREAM)
	e.write(b, "123")
	at := e.alloc(8)
	done := e.background(abi.CallRecvfrom, a, at, 8, unix.MSG_WAITALL, 0, 0)
	await(t, "the wait", e.cancel.asked)
	e.write(b, "45678")
	if n := await(t, "recvfrom", done); n != 8 || string(e.bytes(at, 8)) != "12345678" {
		t.Fatalf("recvfrom: %s, %q", show(n), e.bytes(at, 8))
	}
	e.write(b, "12")
	e.must(abi.CallShutdown, b, unix.SHUT_WR)
	if n := e.must(abi.CallRecvfrom, a, at, 8, unix.MSG_WAITALL, 0, 0); n != 2 {
		t.Fatalf("recvfrom up to the end: %d", n)
	}
	if n := e.must(abi.CallRecvfrom, a, at, 8, unix.MSG_WAITALL, 0, 0); n != 0 {
		t.Fatalf("recvfrom at the end: %d", n)
	}
}

func TestBlockingSend_SendsAll(t *testing.T) {
	e := newEnv(t)
	a, b := e.socketpair(unix.SOCK_STREAM)
	const size = 600_000
	at, into := e.alloc(size), e.alloc(64<<10)
	done := e.background(abi.CallSendto, a, at, size, 0, 0, 0)
	await(t, "the wait", e.cancel.asked)
	got := int64(0)
	for got < size {
		got += e.must(abi.CallRead, b, into, 64<<10)
	}
	if n := await(t, "sendto", done); n != size {
		t.Fatalf("sendto: %s", show(n))
	}
}

// TestDescriptorsInMessages_NeitherLeaveNorEnter: what control data carries are numbers of the host.
func TestDescriptorsInMessages_NeitherLeaveNorEnter(t *testing.T) {
	mine, theirs := hostSocketpair(t, unix.SOCK_STREAM)
	e := newEnv(t)
	e.inherit(5, theirs)
	if err := unix.Sendmsg(mine, []byte("x"), unix.UnixRights(mine), nil, 0); err != nil {
		t.Fatal(err)
	}
	at := e.alloc(8)
	hdr := e.msghdr(at, 8)
	control := e.alloc(64)
	le.PutUint64(e.bytes(hdr+32, 8), e.addr(control))
	le.PutUint64(e.bytes(hdr+40, 8), 64)
	before := len(openFDs(t))
	if n := e.must(abi.CallRecvmsg, 5, hdr, 0); n != 1 {
		t.Fatalf("recvmsg: %d", n)
	}
	if n := len(openFDs(t)); n != before {
		t.Fatalf("%d descriptors, %d before", n, before)
	}
	if f, n := le.Uint32(e.bytes(hdr+48, 4)), le.Uint64(e.bytes(hdr+40, 8)); f&unix.MSG_CTRUNC == 0 || n != 0 {
		t.Fatalf("msg_flags %#x, msg_controllen %d", f, n)
	}
	for i, c := range e.bytes(control, 64) {
		if c != 0 {
			t.Fatalf("byte %d of the control buffer is %#x", i, c)
		}
	}
	rights := unix.UnixRights(0)
	copy(e.bytes(control, 64), rights)
	le.PutUint64(e.bytes(hdr+40, 8), uint64(len(rights)))
	e.fails(abi.EOPNOTSUPP, abi.CallSendmsg, 5, hdr, 0)
}

func TestSend_ReachesNoSocketOfTheHostsFileSystem(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, fd)
	path := t.TempDir() + "/s"
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	e := newEnv(t)
	a, _ := e.socketpair(unix.SOCK_DGRAM)
	sa := append([]byte{unix.AF_UNIX, 0}, path...)
	name := e.put(append(sa, 0))
	e.fails(abi.EACCES, abi.CallSendto, a, e.alloc(1), 1, 0, name, len(sa)+1)
	hdr := e.msghdr(e.alloc(1), 1)
	le.PutUint64(e.bytes(hdr, 8), e.addr(name))
	le.PutUint32(e.bytes(hdr+8, 4), uint32(len(sa)+1))
	e.fails(abi.EACCES, abi.CallSendmsg, a, hdr, 0)
	e.fails(abi.EINVAL, abi.CallSendto, a, e.alloc(1), 1, 0, name, 4000)
	e.fails(abi.EFAULT, abi.CallSendto, a, e.alloc(1), 1, 0, gp(memSize-1), 16)
	if n, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Fatalf("the host's socket got %d, %v", n, err)
	}
}

func TestMsghdr_IsChecked(t *testing.T) {
	e := newEnv(t)
	a, _ := e.socketpair(unix.SOCK_DGRAM)
	at := e.alloc(8)
	edit := func(off, size int, v uint64) gp {
		hdr := e.msghdr(at, 8)
		b := le.AppendUint64(nil, v)
		copy(e.bytes(hdr+gp(off), size), b)
		return hdr
	}
	for _, c := range []abi.Call{abi.CallRecvmsg, abi.CallSendmsg} {
		e.fails(abi.EFAULT, c, a, gp(memSize-55), 0)
		e.fails(abi.EFAULT, c, a, edit(16, 8, 1), 0)
		e.fails(abi.EMSGSIZE, c, a, edit(24, 8, 1025), 0)
		hdr := edit(24, 8, 2)
		le.PutUint64(e.bytes(hdr+16, 8), e.addr(e.iov([2]uint64{e.addr(at), 8}, [2]uint64{8, 8})))
		e.fails(abi.EFAULT, c, a, hdr, 0)
		hdr = edit(8, 4, 1<<31)
		le.PutUint64(e.bytes(hdr, 8), e.addr(at))
		e.fails(abi.EINVAL, c, a, hdr, 0)
		e.fails(abi.EOPNOTSUPP, c, a, e.msghdr(at, 8), unix.MSG_ERRQUEUE)
	}
}

func TestSocketpair_IsOfUnixSocketsOnly(t *testing.T) {
	e := newEnv(t)
	at := e.alloc(8)
	e.fails(abi.EAFNOSUPPORT, abi.CallSocketpair, unix.AF_INET, unix.SOCK_STREAM, 0, at)
	e.fails(abi.EINVAL, abi.CallSocketpair, unix.AF_UNIX, unix.SOCK_STREAM|1<<20, 0, at)
	e.fails(abi.EFAULT, abi.CallSocketpair, unix.AF_UNIX, unix.SOCK_STREAM, 0, gp(memSize-4))
	e.fails(abi.ESOCKTNOSUPPORT, abi.CallSocketpair, unix.AF_UNIX, unix.SOCK_RDM, 0, at)
	a, b := e.socketpair(unix.SOCK_STREAM | oNonblock | oCloexec)
	for _, fd := range []int{a, b} {
		if fl, fd := e.must(abi.CallFcntl, fd, fGetFL), e.must(abi.CallFcntl, fd, fGetFD); fl != oRdwr|oNonblock || fd != 1 {
			t.Errorf("F_GETFL %#o, F_GETFD %d", fl, fd)
		}
	}
}

func TestGetsockopt_SaysWhatASocketIs(t *testing.T) {
	e := newEnv(t)
	a, _ := e.socketpair(unix.SOCK_SEQPACKET)
	val, size := e.alloc(4), e.put([]byte{4, 0, 0, 0})
	for option, want := range map[int]uint32{
		unix.SO_TYPE: unix.SOCK_SEQPACKET, unix.SO_DOMAIN: unix.AF_UNIX, unix.SO_ERROR: 0, unix.SO_ACCEPTCONN: 0,
	} {
		e.must(abi.CallGetsockopt, a, unix.SOL_SOCKET, option, val, size)
		if got := le.Uint32(e.bytes(val, 4)); got != want {
			t.Errorf("option %d: %d, want %d", option, got, want)
		}
	}
	le.PutUint32(e.bytes(size, 4), 1)
	e.must(abi.CallGetsockopt, a, unix.SOL_SOCKET, unix.SO_TYPE, val, size)
	if n := le.Uint32(e.bytes(size, 4)); n != 1 {
		t.Errorf("length: %d", n)
	}
	e.fails(abi.ENOPROTOOPT, abi.CallGetsockopt, a, unix.SOL_SOCKET, unix.SO_PEERCRED, val, size)
	e.fails(abi.ENOPROTOOPT, abi.CallGetsockopt, a, unix.IPPROTO_TCP, unix.TCP_INFO, val, size)
	e.fails(abi.EFAULT, abi.CallGetsockopt, a, unix.SOL_SOCKET, unix.SO_TYPE, val, gp(memSize-3))
	e.fails(abi.ENOTSOCK, abi.CallGetsockopt, e.file(""), unix.SOL_SOCKET, unix.SO_TYPE, val, size)
}

func TestDatagrams_CarryInternetAddresses(t *testing.T) {
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	e := newEnv(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.proc.InstallFD(5, fd, rawposix.Owned, 0); err != nil {
		t.Fatal(err)
	}
	port := peer.LocalAddr().(*net.UDPAddr).Port
	to := e.put([]byte{unix.AF_INET, 0, byte(port >> 8), byte(port), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	if n := e.must(abi.CallSendto, 5, e.put([]byte("ping")), 4, 0, to, 16); n != 4 {
		t.Fatalf("sendto: %d", n)
	}
	hdr := e.msghdr(e.put([]byte("pong")), 4)
	le.PutUint64(e.bytes(hdr, 8), e.addr(to))
	le.PutUint32(e.bytes(hdr+8, 4), 16)
	if n := e.must(abi.CallSendmsg, 5, hdr, 0); n != 4 {
		t.Fatalf("sendmsg: %d", n)
	}
	buf := make([]byte, 16)
	for _, want := range []string{"ping", "pong"} {
		n, from, err := peer.ReadFromUDP(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("the peer got %q, %v", buf[:n], err)
		}
		if _, err := peer.WriteToUDP(buf[:n], from); err != nil {
			t.Fatal(err)
		}
	}
	at, name, size := e.alloc(16), e.alloc(16), e.put([]byte{8, 0, 0, 0})
	if n := e.must(abi.CallRecvfrom, 5, at, 16, 0, name, size); n != 4 || string(e.bytes(at, 4)) != "ping" {
		t.Fatalf("recvfrom: %d", n)
	}
	if b := e.bytes(name, 16); le.Uint32(e.bytes(size, 4)) != 16 || int(b[2])<<8|int(b[3]) != port || b[8] != 0 {
		t.Fatalf("address % x of %d bytes", b, le.Uint32(e.bytes(size, 4)))
	}
	clear(e.bytes(name, 16))
	hdr = e.msghdr(at, 16)
	le.PutUint64(e.bytes(hdr, 8), e.addr(name))
	le.PutUint32(e.bytes(hdr+8, 4), 16)
	if n := e.must(abi.CallRecvmsg, 5, hdr, 0); n != 4 || string(e.bytes(at, 4)) != "pong" {
		t.Fatalf("recvmsg: %d", n)
	}
	if b := e.bytes(name, 16); le.Uint32(e.bytes(hdr+8, 4)) != 16 || int(b[2])<<8|int(b[3]) != port {
		t.Fatalf("address % x of %d bytes", b, le.Uint32(e.bytes(hdr+8, 4)))
	}
	e.fails(abi.EINVAL, abi.CallSendto, 5, at, 1, 0, to, 1)
	e.fails(abi.EFAULT, abi.CallRecvfrom, 5, at, 1, 0, gp(memSize-4), size)
}
