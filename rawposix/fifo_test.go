package rawposix_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
)

func TestFIFO_OpenWaitsForTheOtherEnd(t *testing.T) {
	for name, first := range map[string]int{"reader first": oRdonly, "writer first": oWronly} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			dir, _ := e.fifo()
			path := e.str("f")
			one := e.background(abi.CallOpenat, dir, path, first, 0)
			await(t, "the wait", e.cancel.asked)
			other := await(t, "the second open", e.background(abi.CallOpenat, dir, path, oWronly-first, 0))
			fds := [2]int64{}
			fds[first], fds[oWronly-first] = await(t, "the first open", one), other
			if fds[0] < 0 || fds[1] < 0 {
				t.Fatalf("opened: %s, %s", show(fds[0]), show(fds[1]))
			}
			if n := e.write(int(fds[1]), "through"); n != 7 {
				t.Fatalf("write: %s", show(n))
			}
			if got := e.read(int(fds[0]), 10); got != "through" {
				t.Fatalf("read %q", got)
			}
			e.must(abi.CallClose, int(fds[1]))
			if got := e.read(int(fds[0]), 10); got != "" {
				t.Fatalf("read %q after the writer's close", got)
			}
			if f := e.must(abi.CallFcntl, int(fds[0]), fGetFL); f&oNonblock != 0 {
				t.Fatalf("F_GETFL: %#o", f)
			}
		})
	}
}

func TestFIFO_OpenMeetsAProcessThatIsNotACage(t *testing.T) {
	for name, mode := range map[string][2]int{"native writer": {oRdonly, unix.O_WRONLY}, "native reader": {oWronly, unix.O_RDONLY}} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			dir, path := e.fifo()
			done := e.background(abi.CallOpenat, dir, e.str("f"), mode[0], 0)
			await(t, "the wait", e.cancel.asked)
			native, err := unix.Open(path, mode[1]|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if fd := await(t, "the open", done); fd < 0 {
				t.Fatalf("openat: %s", show(fd))
			}
			if err := unix.Close(native); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFIFO_NonblockingOpenAnswersAtOnce(t *testing.T) {
	e := newEnv(t)
	dir, _ := e.fifo()
	e.fails(abi.ENXIO, abi.CallOpenat, dir, e.str("f"), oWronly|oNonblock, 0)
	r := e.open(dir, "f", oRdonly|oNonblock)
	if got := e.read(r, 8); got != "" {
		t.Fatalf("read %q", got)
	}
	w := e.open(dir, "f", oWronly|oNonblock)
	e.fails(abi.EAGAIN, abi.CallRead, r, e.alloc(8), 8)
	e.write(w, "x")
	if got := e.read(r, 8); got != "x" {
		t.Fatalf("read %q", got)
	}
	both := e.open(dir, "f", oRdwr)
	e.write(both, "y")
	if got := e.read(both, 8); got != "y" {
		t.Fatalf("read %q", got)
	}
}

func TestFIFO_CancelledOpenDisturbsNoOtherReader(t *testing.T) {
	e := newEnv(t)
	dir, path := e.fifo()
	r, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(r) }()
	done := e.background(abi.CallOpenat, dir, e.str("f"), oRdonly, 0)
	await(t, "the wait", e.cancel.asked)
	e.cancel.fire()
	if n := await(t, "the open", done); n != abi.EINTR.Result() {
		t.Fatalf("openat: %s", show(n))
	}
	var b [1]byte
	if n, err := unix.Read(r, b[:]); n != 0 || err != nil {
		t.Fatalf("the other reader got %d, %v", n, err)
	}
}

func TestSocketFile_IsENXIOWithoutAWait(t *testing.T) {
	e := newEnv(t)
	fd, sa := listen(t)
	defer func() { _ = unix.Close(fd) }()
	name := sa.(*unix.SockaddrUnix).Name
	dir := e.preopen(name[:len(name)-2])
	e.fails(abi.ENXIO, abi.CallOpenat, dir, e.str("s"), oWronly, 0)
	e.fails(abi.ENXIO, abi.CallOpenat, dir, e.str("s"), oRdonly, 0)
}

// TestFIFO_OfAnotherUserIsNotWaitedForWhenItIsOpened covers a FIFO whose other end this process could not open to end a
// wait: the first read waits instead.
func TestFIFO_OfAnotherUserIsNotWaitedForWhenItIsOpened(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("only root can make a file that it gives up the right to")
	}
	e := newEnv(t)
	dir, path := e.fifo()
	if err := unix.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var r int64
	asNobody(t, func() { r = e.call(abi.CallOpenat, dir, e.str("f"), oRdonly, 0) })
	if r < 0 {
		t.Fatalf("openat: %s", show(r))
	}
	at := e.alloc(8)
	done := e.background(abi.CallRead, int(r), at, 8)
	await(t, "the wait", e.cancel.asked)
	w := e.open(dir, "f", oWronly)
	e.write(w, "abc")
	if n := await(t, "the read", done); n != 3 {
		t.Fatalf("read: %s", show(n))
	}
	e.must(abi.CallClose, w)
	if got := e.read(int(r), 8); got != "" {
		t.Fatalf("read %q after the writer's close", got)
	}
	e.must(abi.CallClose, int(r))
	if err := unix.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() { r = e.call(abi.CallOpenat, dir, e.str("f"), oWronly, 0) })
	if r != abi.ENXIO.Result() {
		t.Fatalf("openat for writing: %s", show(r))
	}
}
