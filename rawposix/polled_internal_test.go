package rawposix

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

// idle is a cancel token that never fires.
type idle struct{ fd int }

func (c idle) CancelFD() (int, error) { return c.fd, nil }
func (c idle) Stopping() bool         { return false }

// stopped is the cancel token of a domain that stops: its descriptor is always readable.
type stopped struct{ idle }

func (c stopped) Stopping() bool { return true }

func eventfd(t *testing.T, n uint) int {
	t.Helper()
	fd, err := unix.Eventfd(n, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dropHost(fd) })
	return fd
}

// blockingPipe is a pipe whose descriptions block.
func blockingPipe(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dropHost(fds[0])
		dropHost(fds[1])
	})
	return fds[0], fds[1]
}

// TestPolled_NeverWaitsInTheKernel covers files that can be neither opened anew nor read with RWF_NOWAIT: every step is
// one that poll says will not wait, on a description that blocks.
func TestPolled_NeverWaitsInTheKernel(t *testing.T) {
	for name, noNowait := range map[string]bool{"with RWF_NOWAIT": false, "without RWF_NOWAIT": true} {
		t.Run(name, func(t *testing.T) {
			r, w := blockingPipe(t)
			b := make([]byte, 1<<20)
			vec := func(n int) []iovec { return []iovec{{guestmem.AddrOf(b), uint64(n)}} }
			transferOf := func(fd int, toFile, waiting bool, c threei.Canceler) transfer {
				f := &file{typ: typePipe, access: accessPolled}
				f.noNowait.Store(noNowait)
				return transfer{t: &threei.Thread{Cancel: c}, fd: fd, f: f, pos: noPos, toFile: toFile, waiting: waiting}
			}
			alive, dying := idle{eventfd(t, 0)}, stopped{idle{eventfd(t, 1)}}

			x := transferOf(r, false, false, alive)
			if n := x.run(vec(8)); n != abi.EAGAIN.Result() {
				t.Errorf("read of an empty pipe with O_NONBLOCK: %d", n)
			}
			x = transferOf(r, false, true, dying)
			if n := x.run(vec(8)); n != abi.EINTR.Result() {
				t.Errorf("cancelled read: %d", n)
			}
			x = transferOf(w, true, true, alive)
			if n := x.run(vec(10_000)); n != 10_000 {
				t.Errorf("write of what fits: %d", n)
			}
			x = transferOf(r, false, true, alive)
			if n := x.run(vec(20_000)); n != 10_000 {
				t.Errorf("read of what is there: %d", n)
			}
			x = transferOf(w, true, false, alive)
			for n := int64(pipeBuf); n > 0; {
				n = x.run(vec(pipeBuf))
			}
			x = transferOf(w, true, true, dying)
			if n := x.run(vec(len(b))); n != abi.EINTR.Result() {
				t.Errorf("cancelled write into a full pipe: %d", n)
			}
			x = transferOf(w, true, false, alive)
			if n := x.run(vec(8)); n != abi.EAGAIN.Result() {
				t.Errorf("write into a full pipe with O_NONBLOCK: %d", n)
			}
			if flags, err := unix.FcntlInt(uintptr(w), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
				t.Errorf("flags of the description: %#x, %v", flags, err)
			}
		})
	}
}

// TestPolled_WritesGoOnAsTheReaderMakesRoom: every piece of at most PIPE_BUF waits for its room in poll.
func TestPolled_WritesGoOnAsTheReaderMakesRoom(t *testing.T) {
	r, w := blockingPipe(t)
	b := make([]byte, 300_000)
	for i := range b {
		b[i] = byte(i % 251)
	}
	f := &file{typ: typePipe, access: accessPolled}
	f.noNowait.Store(true)
	x := transfer{
		t: &threei.Thread{Cancel: idle{eventfd(t, 0)}}, fd: w, f: f, pos: noPos, toFile: true, waiting: true,
	}
	done := make(chan int64, 1)
	go func() { done <- x.run([]iovec{{guestmem.AddrOf(b), uint64(len(b))}}) }()
	got := make([]byte, 0, len(b))
	for buf := make([]byte, 5000); len(got) < len(b); {
		n, err := unix.Read(r, buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	if n := <-done; n != int64(len(b)) || string(got) != string(b) {
		t.Fatalf("wrote %d of %d, right: %v", n, len(b), string(got) == string(b))
	}
}

// TestLazyFIFO_FirstReadWaitsForAWriter covers a FIFO that could not be waited for when it was opened.
func TestLazyFIFO_FirstReadWaitsForAWriter(t *testing.T) {
	path := t.TempDir() + "/f"
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(flags int) int {
		fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	r := open(unix.O_RDONLY)
	defer dropHost(r)
	b := make([]byte, 8)
	read := func(c threei.Canceler) int64 {
		x := transfer{
			t: &threei.Thread{Cancel: c}, fd: r, f: &file{typ: typePipe, lazyFIFO: true}, pos: noPos, waiting: true,
		}
		return x.run([]iovec{{guestmem.AddrOf(b), 8}})
	}
	alive, dying := idle{eventfd(t, 0)}, stopped{idle{eventfd(t, 1)}}
	if n := read(dying); n != abi.EINTR.Result() {
		t.Errorf("cancelled read before there was a writer: %d", n)
	}
	w := open(unix.O_WRONLY)
	if _, err := unix.Write(w, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if n := read(alive); n != 3 {
		t.Errorf("read: %d", n)
	}
	dropHost(w)
	if n := read(alive); n != 0 {
		t.Errorf("read after the writer's close: %d", n)
	}
}

// TestBlockedOpen_EndsWhenADescriptorIsFreeAgain covers a FIFO's open that is cancelled while the process has no
// descriptor left to end it with.
func TestBlockedOpen_EndsWhenADescriptorIsFreeAgain(t *testing.T) {
	path := t.TempDir() + "/f"
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	b := &blockedOpen{ref: ref, event: event, opened: make(chan openResult, 1)}
	go b.run(unix.O_WRONLY)
	var s blockedOpens
	s.add(b)
	s.retry()
	if n := s.n.Load(); n != 0 || len(s.list) != 0 {
		t.Fatalf("%d opens are still blocked", n)
	}
	if _, err := unix.FcntlInt(uintptr(event), unix.F_GETFD, 0); err != unix.EBADF {
		t.Fatalf("its eventfd: %v", err)
	}
	s.retry() // with nothing to do
}
