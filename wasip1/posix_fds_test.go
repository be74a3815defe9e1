package wasip1_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/wasip1"
)

// pipe gives the guest both ends of a pipe as the descriptors 10 (read) and 11 (write).
func (p *posixGuest) pipe() {
	p.tb.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		p.tb.Fatal(err)
	}
	p.install(10, fds[0], 0)
	p.install(11, fds[1], 0)
}

// sockets gives the guest one end of a socket pair as descriptor 10 and answers the other.
func (p *posixGuest) sockets(kind int) int {
	p.tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.tb.Fatal(err)
	}
	p.install(10, fds[0], 0)
	p.tb.Cleanup(func() { _ = unix.Close(fds[1]) }) // some tests close it themselves
	return fds[1]
}

func TestPosix_PipesHaveNoPosition(t *testing.T) {
	p := newPosixGuest(t)
	p.pipe()
	p.want(wasip1.ErrnoSpipe, "fd_seek", 10, 0, 1, replyAt)
	p.want(wasip1.ErrnoSpipe, "fd_tell", 11, replyAt)
	list, n := p.iovecs(listAt, dataAt, 4)
	p.want(wasip1.ErrnoSpipe, "fd_pread", 10, list, n, 0, replyAt)
	p.want(wasip1.ErrnoSpipe, "fd_pwrite", 11, list, n, 0, replyAt)
	p.want(wasip1.ErrnoSpipe, "fd_advise", 10, 0, 0, 0)
	p.want(wasip1.ErrnoNotdir, "fd_readdir", 10, dataAt, 100, 0, replyAt)
	for fd, right := range map[uint64]uint64{10: fdRead, 11: fdWrite} {
		p.ok("fd_fdstat_get", fd, replyAt)
		if got := p.u64(replyAt + 8); p.mem[replyAt] != 0 || got&readWrite != right || got&(rightSeek|rightTell) != 0 {
			t.Errorf("descriptor %d: filetype %d, rights %#x", fd, p.mem[replyAt], got)
		}
	}
}

func TestPosix_PipeEndsArePolled(t *testing.T) {
	p := newPosixGuest(t)
	p.pipe()
	poll := func(want string, subs ...sub) {
		t.Helper()
		if got, errno := p.poll(subs...); got != want || errno != 0 {
			t.Errorf("events %q, %v, want %q", got, errno, want)
		}
	}
	poll("101 clock", sub{tag: 1, fd: 10}, sub{clock: 1, timeout: 1000})
	poll("101 write 1B", sub{tag: 1, fd: 10}, sub{tag: 2, fd: 11})
	if n, errno := p.write(11, "abc"); n != 3 || errno != 0 {
		t.Fatal(n, errno)
	}
	poll("100 read 3B", sub{tag: 1, fd: 10})
	p.ok("fd_close", 11)
	poll("100 read 3B flags 1", sub{tag: 1, fd: 10})
	if got, errno := p.read(10, 9); got != "abc" || errno != 0 {
		t.Fatal(got, errno)
	}
	poll("100 read flags 1", sub{tag: 1, fd: 10})
	if got, errno := p.read(10, 9); got != "" || errno != 0 {
		t.Errorf("read %q, %v at the end", got, errno)
	}
	p.ok("fd_close", 10)
	p.pipe()
	p.ok("fd_close", 10)
	poll("100 write 1B flags 1", sub{tag: 2, fd: 11})
	if _, errno := p.write(11, "x"); errno != wasip1.ErrnoPipe {
		t.Errorf("write without a reader: %v", errno)
	}
	poll("100 read wasi errno badf; 101 write wasi errno badf", sub{tag: 1, fd: 10}, sub{tag: 2, fd: 1 << 31})

	p.file("file", "0123456789")
	fd := uint32(p.opened(3, "file", 0, 0, readWrite, 0))
	p.ok("fd_seek", uint64(fd), 3, 0, replyAt)
	poll("100 read 7B; 101 write 1B", sub{tag: 1, fd: fd}, sub{tag: 2, fd: fd})
	p.ok("fd_seek", uint64(fd), 30, 0, replyAt)
	poll("100 read", sub{tag: 1, fd: fd})
}

func TestPosix_SleepsAreExactAndNeverShort(t *testing.T) {
	p := newPosixGuest(t)
	now := func(clock uint64) uint64 {
		p.ok("clock_time_get", clock, 0, replyAt)
		return p.u64(replyAt)
	}
	for range 20 {
		for clock := range uint64(2) {
			const ns = 1_234_567
			start := now(1)
			if got, errno := p.poll(sub{clock: uint32(clock), timeout: ns}); got != "100 clock" || errno != 0 {
				t.Fatal(got, errno)
			}
			if took := now(1) - start; took < ns || took > ns+5_000_000_000 {
				t.Errorf("clock %d: a relative sleep of %d ns took %d", clock, ns, took)
			}
			until := now(clock) + ns
			s := sub{clock: uint32(clock), timeout: until, absolute: true}
			if got, errno := p.poll(s); got != "100 clock" || errno != 0 {
				t.Fatal(got, errno)
			}
			if at := now(clock); at < until {
				t.Errorf("clock %d: an absolute sleep ended %d ns early", clock, until-at)
			}
		}
	}
}

func TestPosix_Clocks(t *testing.T) {
	p := newPosixGuest(t)
	for clock := range uint64(2) {
		p.ok("clock_res_get", clock, replyAt)
		if res := p.u64(replyAt); res == 0 || res > 1e9 {
			t.Errorf("clock %d: resolution %d", clock, res)
		}
		last := uint64(0)
		for range 1000 {
			p.ok("clock_time_get", clock, 0, replyAt)
			if now := p.u64(replyAt); now < last {
				t.Fatalf("clock %d: %d after %d", clock, now, last)
			} else {
				last = now
			}
		}
		if clock == 0 {
			if off := time.Since(time.Unix(0, int64(last))).Abs(); off > time.Minute {
				t.Errorf("the realtime clock is %v off", off)
			}
		}
	}
}

// TestPosix_BlockedCallsEndWhenTheCageStops: the token fires while each of them waits, or before: either ends it.
func TestPosix_BlockedCallsEndWhenTheCageStops(t *testing.T) {
	for name, block := range map[string]func(p *posixGuest) wasip1.Errno{
		"fd_read": func(p *posixGuest) wasip1.Errno { _, errno := p.read(10, 1); return errno },
		"poll_oneoff, descriptor": func(p *posixGuest) wasip1.Errno {
			_, errno := p.poll(sub{tag: 1, fd: 10})
			return errno
		},
		"poll_oneoff, clock": func(p *posixGuest) wasip1.Errno {
			_, errno := p.poll(sub{clock: 1, timeout: 1 << 62})
			return errno
		},
		"poll_oneoff, for ever": func(p *posixGuest) wasip1.Errno {
			_, errno := p.poll(sub{clock: 1, timeout: 1<<64 - 1}, sub{clock: 0, timeout: 1<<64 - 1, absolute: true})
			return errno
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPosixGuest(t)
			p.pipe()
			ended := make(chan wasip1.Errno)
			started := make(chan struct{})
			go func() {
				close(started)
				ended <- block(p)
			}()
			<-started
			p.token.fire(t)
			select {
			case errno := <-ended:
				if errno != wasip1.ErrnoIntr {
					t.Errorf("%v, want intr", errno)
				}
			case <-time.After(30 * time.Second):
				panic("the call did not end") // its goroutine still uses the guest's memory
			}
		})
	}
}

func TestPosix_NonblockingReadsAreAgain(t *testing.T) {
	p := newPosixGuest(t)
	p.pipe()
	p.ok("fd_fdstat_set_flags", 10, 4)
	p.ok("fd_fdstat_get", 10, replyAt)
	if flags := p.u16(replyAt + 2); flags != 4 {
		t.Errorf("flags %d, want nonblock", flags)
	}
	if _, errno := p.read(10, 1); errno != wasip1.ErrnoAgain {
		t.Errorf("%v, want again", errno)
	}
}

func TestPosix_DevicesAndTerminals(t *testing.T) {
	p := newPosixGuest(t)
	p.install(10, p.open("/dev/null", unix.O_RDWR), 0)
	p.ok("fd_fdstat_get", 10, replyAt)
	if rights := p.u64(replyAt + 8); p.mem[replyAt] != 2 || rights&(rightSeek|rightTell) == 0 {
		t.Errorf("/dev/null: filetype %d, rights %#x, which C libraries take for a terminal", p.mem[replyAt], rights)
	}
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no terminals: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(master) })
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no terminals: %v", err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		t.Skipf("no terminals: %v", err)
	}
	p.install(11, p.open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY), 0)
	p.ok("fd_fdstat_get", 11, replyAt)
	const position = rightSeek | rightTell
	if rights := p.u64(replyAt + 8); p.mem[replyAt] != 2 || rights&(position|readWrite) != readWrite {
		t.Errorf("terminal: filetype %d, rights %#x", p.mem[replyAt], rights)
	}
	if _, err := unix.Write(master, []byte("line\n")); err != nil {
		t.Fatal(err)
	}
	if got, errno := p.read(11, 100); got != "line\n" || errno != 0 {
		t.Errorf("read %q, %v from a terminal", got, errno)
	}
}

func TestPosix_Sockets(t *testing.T) {
	p := newPosixGuest(t)
	peer := p.sockets(unix.SOCK_STREAM)
	p.ok("fd_fdstat_get", 10, replyAt)
	if p.mem[replyAt] != 6 {
		t.Errorf("filetype %d, want a stream socket", p.mem[replyAt])
	}
	put := func(s string) {
		t.Helper()
		if _, err := unix.Write(peer, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	recv := func(flags uint64, sizes ...uint64) string {
		t.Helper()
		var pairs []uint64
		at := uint64(dataAt)
		for _, n := range sizes {
			pairs = append(pairs, at, n)
			at += n
		}
		list, n := p.iovecs(listAt, pairs...)
		p.ok("sock_recv", 10, list, n, flags, replyAt, replyAt+8)
		return string(p.mem[dataAt : dataAt+p.u32(replyAt)])
	}
	put("hello")
	if got := recv(1, 3); got != "hel" { // peek
		t.Errorf("peeked %q", got)
	}
	if got := recv(0, 2, 100); got != "hello" {
		t.Errorf("received %q", got)
	}
	put("abc")
	done := make(chan struct{})
	go func() {
		defer close(done)
		put("def")
	}()
	if got := recv(2, 4, 2); got != "abcdef" { // waitall
		t.Errorf("received %q with waitall", got)
	}
	<-done
	p.put(dataAt, "to peer")
	list, n := p.iovecs(listAt, dataAt, 3, dataAt+3, 4)
	p.ok("sock_send", 10, list, n, 0, replyAt)
	p.ok("sock_send", 10, list, 1, 0, replyAt)
	buf := make([]byte, 100)
	if got, err := unix.Read(peer, buf); err != nil || string(buf[:got]) != "to peerto " {
		t.Errorf("the peer got %q, %v", buf[:max(got, 0)], err)
	}
	p.ok("sock_shutdown", 10, 2)
	if got, err := unix.Read(peer, buf); err != nil || got != 0 {
		t.Errorf("the peer read %d, %v after shutdown", got, err)
	}
	p.want(wasip1.ErrnoPipe, "sock_send", 10, list, n, 0, replyAt)
	if err := unix.Close(peer); err != nil {
		t.Fatal(err)
	}
	if got := recv(0, 9); got != "" {
		t.Errorf("received %q from a closed socket", got)
	}
	if got, errno := p.poll(sub{tag: 1, fd: 10}); got != "100 read flags 1" || errno != 0 {
		t.Errorf("events %q, %v", got, errno)
	}
	p.want(wasip1.ErrnoNotsock, "sock_recv", 3, list, n, 0, replyAt, replyAt+8)
	p.want(wasip1.ErrnoNotsock, "sock_send", 3, list, n, 0, replyAt)
	p.want(wasip1.ErrnoNotsock, "sock_shutdown", 3, 1)
	p.want(wasip1.ErrnoNotsock, "sock_accept", 3, 0, replyAt)
}

func TestPosix_DatagramsAreCutOnceAndSayIt(t *testing.T) {
	p := newPosixGuest(t)
	peer := p.sockets(unix.SOCK_DGRAM)
	p.ok("fd_fdstat_get", 10, replyAt)
	if p.mem[replyAt] != 5 {
		t.Errorf("filetype %d, want a datagram socket", p.mem[replyAt])
	}
	for _, s := range []string{"first message", "second"} {
		if _, err := unix.Write(peer, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct {
		data string
		cut  uint16
	}{{"first me", 1}, {"second", 0}} {
		list, n := p.iovecs(listAt, dataAt, 4, dataAt+4, 4)
		p.ok("sock_recv", 10, list, n, 0, replyAt, replyAt+8)
		if got := string(p.mem[dataAt : dataAt+p.u32(replyAt)]); got != want.data || p.u16(replyAt+8) != want.cut {
			t.Errorf("received %q, flags %d, want %q, %d", got, p.u16(replyAt+8), want.data, want.cut)
		}
	}
}

func TestPosix_SockAccept(t *testing.T) {
	p := newPosixGuest(t)
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := &unix.SockaddrUnix{Name: p.dir + "/socket"}
	if err := unix.Bind(listener, name); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 5); err != nil {
		t.Fatal(err)
	}
	p.install(10, listener, 0)
	if st, errno := p.stat(3, "socket", 0); errno != 0 || st.filetype != 6 {
		t.Errorf("the socket's file: %v, filetype %d", errno, st.filetype)
	}
	for _, flags := range []uint64{0, 4} {
		peer, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Connect(peer, name); err != nil {
			t.Fatal(err)
		}
		if got, errno := p.poll(sub{tag: 1, fd: 10}); errno != 0 || got != "100 read 1B" && got != "100 read" {
			t.Errorf("events %q, %v", got, errno)
		}
		p.ok("sock_accept", 10, flags, replyAt)
		fd := uint64(p.u32(replyAt))
		p.ok("fd_fdstat_get", fd, replyAt)
		if got := p.u16(replyAt + 2); uint64(got) != flags {
			t.Errorf("accepted with flags %d, want %d", got, flags)
		}
		if n, errno := p.write(fd, "hi"); n != 2 || errno != 0 {
			t.Errorf("wrote %d, %v", n, errno)
		}
		if err := unix.Close(peer); err != nil {
			t.Fatal(err)
		}
		p.ok("fd_close", fd)
	}
	p.ok("fd_fdstat_set_flags", 10, 4)
	p.want(wasip1.ErrnoAgain, "sock_accept", 10, 0, replyAt)
}

func TestPosix_ProcessAndThreads(t *testing.T) {
	p := newPosixGuest(t)
	if _, verdict := p.raw("proc_exit", 300); verdict != wasip1.QuitThread {
		t.Errorf("proc_exit: verdict %d", verdict)
	}
	p.ok("proc_raise", 6)
	p.ok("sched_yield")
	if fmt.Sprint(p.hooks.exits, p.hooks.signals) != "[300] [6]" {
		t.Errorf("exits %v, signals %v", p.hooks.exits, p.hooks.signals)
	}
	for i, want := range []int32{2, 3, -int32(wasip1.ErrnoAgain)} {
		if tid, _ := p.raw("thread-spawn", uint64(100+i)); int32(tid) != want {
			t.Errorf("thread-spawn %d: %d, want %d", i, int32(tid), want)
		}
	}
	if fmt.Sprint(p.hooks.spawned) != "[100 101 102]" {
		t.Errorf("spawned with %v", p.hooks.spawned)
	}
}

func TestPosix_RandomGet(t *testing.T) {
	p := newPosixGuest(t)
	p.ok("random_get", 0x1000, 0x8000)
	zeros := 0
	for _, v := range p.mem[0x1000:0x9000] {
		if v == 0 {
			zeros++
		}
	}
	if zeros > 0x8000/64 { // 128 are to be expected
		t.Errorf("%d of %d bytes are zero", zeros, 0x8000)
	}
	if p.mem[0x9000] != 0 || p.mem[0xfff] != 0 {
		t.Error("written beyond the buffer")
	}
}

func TestPosix_HotCallsAllocateNothing(t *testing.T) {
	p := newPosixGuest(t)
	p.install(10, p.open("/dev/null", unix.O_RDWR), 0)
	p.file("file", "content")
	fd := p.opened(3, "file", 0, 0, fdRead, 0)
	list, n := p.iovecs(listAt, dataAt, 1)
	for _, tt := range []struct {
		fn   string
		args []uint64
	}{
		{"fd_write", []uint64{10, list, n, replyAt}},
		{"fd_read", []uint64{fd, list, n, replyAt}},
		{"fd_seek", []uint64{fd, 0, 0, replyAt}},
		{"clock_time_get", []uint64{1, 0, replyAt}},
		{"clock_time_get", []uint64{0, 0, replyAt}},
		{"random_get", []uint64{dataAt, 64}},
		{"sched_yield", nil},
	} {
		p.ok(tt.fn, tt.args...)
		id := p.ids[tt.fn]
		if n := testing.AllocsPerRun(100, func() { p.wasi.Call(p.guest.thread, p.env, id, &p.args) }); n != 0 {
			t.Errorf("%s: %v allocations a call", tt.fn, n)
		}
	}
}
