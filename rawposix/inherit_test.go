package rawposix_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
)

// hostPipe is a pipe of the host whose ends are blocking, as a shell makes them.
func hostPipe(t testing.TB) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, fds[:]...)
	return fds[0], fds[1]
}

func hostSocketpair(t testing.TB, kind int) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, fds[:]...)
	return fds[0], fds[1]
}

// hostPTY is a pseudo terminal: its master and its slave.
func hostPTY(t testing.TB) (master, slave int) {
	t.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, master, slave)
	return master, slave
}

func closeAtEnd(t testing.TB, fds ...int) {
	t.Cleanup(func() {
		for _, fd := range fds {
			if err := unix.Close(fd); err != nil {
				t.Errorf("close %d, which belongs to the test: %v", fd, err)
			}
		}
	})
}

// inherit installs a host descriptor as one that others use too, and checks at the end that nothing about its
// description has changed.
func (e *env) inherit(vfd fdtables.FD, host int) {
	e.t.Helper()
	before, err := unix.FcntlInt(uintptr(host), unix.F_GETFL, 0)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.proc.InstallFD(vfd, host, rawposix.Inherited, 0); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if after, err := unix.FcntlInt(uintptr(host), unix.F_GETFL, 0); err != nil || after != before {
			e.t.Errorf("flags of the inherited description: %#o (%v), were %#o", after, err, before)
		}
	})
}

// inheritables are inherited descriptors to read from, and how to make their reads end.
var inheritables = map[string]func(t testing.TB) (read, write int){
	"pipe":            hostPipe,
	"stream socket":   func(t testing.TB) (int, int) { return hostSocketpair(t, unix.SOCK_STREAM) },
	"datagram socket": func(t testing.TB) (int, int) { return hostSocketpair(t, unix.SOCK_DGRAM) },
	"terminal": func(t testing.TB) (int, int) {
		master, slave := hostPTY(t)
		return slave, master
	},
	"terminal's master": hostPTY,
	"eventfd": func(t testing.TB) (int, int) {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, fd)
		return fd, fd
	},
}

// eight is what is written to an inheritable: an eventfd takes no less, and a terminal passes it on at the newline.
const eight = "1234567\n"

func TestInherited_ReadsWaitAndCanBeCancelled(t *testing.T) {
	for name, make := range inheritables {
		t.Run(name, func(t *testing.T) {
			r, w := make(t)
			e := newEnv(t)
			e.inherit(0, r)
			at := e.alloc(64)
			done := e.background(abi.CallRead, 0, at, 64)
			await(t, "the wait", e.cancel.asked)
			if _, err := unix.Write(w, []byte(eight)); err != nil {
				t.Fatal(err)
			}
			if n := await(t, "the read", done); n < 8 || string(e.bytes(at, 7)) != eight[:7] {
				t.Fatalf("read: %s, %q", show(n), e.bytes(at, 8))
			}
			done = e.background(abi.CallRead, 0, at, 64)
			await(t, "the wait", e.cancel.asked)
			e.cancel.fire()
			if n := await(t, "the read's end", done); n != abi.EINTR.Result() {
				t.Fatalf("read: %s", show(n))
			}
		})
	}
}

func TestInherited_NonblockIsTheGuestsAlone(t *testing.T) {
	for name, make := range inheritables {
		t.Run(name, func(t *testing.T) {
			r, _ := make(t)
			e := newEnv(t)
			e.inherit(0, r)
			if f := e.must(abi.CallFcntl, 0, fGetFL); f&oNonblock != 0 {
				t.Fatalf("F_GETFL: %#o", f)
			}
			e.must(abi.CallFcntl, 0, fSetFL, oNonblock)
			if f := e.must(abi.CallFcntl, 0, fGetFL); f&oNonblock == 0 {
				t.Fatalf("F_GETFL after F_SETFL: %#o", f)
			}
			e.fails(abi.EAGAIN, abi.CallRead, 0, e.alloc(64), 64)
		})
	}
}

// TestInherited_ReaderThatLosesTheRaceStaysCancellable has two readers of which one gets nothing: the byte that woke both
// is gone by the time the other reads.
func TestInherited_ReaderThatLosesTheRaceStaysCancellable(t *testing.T) {
	for name, make := range inheritables {
		if name == "terminal's master" {
			continue // can be neither opened anew nor asked not to wait: see doc.go
		}
		t.Run(name, func(t *testing.T) {
			r, w := make(t)
			e := newEnv(t)
			e.inherit(0, r)
			e.inherit(1, r)
			first := e.background(abi.CallRead, 0, e.alloc(64), 64)
			second := e.background(abi.CallRead, 1, e.alloc(64), 64)
			await(t, "the first wait", e.cancel.asked)
			await(t, "the second wait", e.cancel.asked)
			if _, err := unix.Write(w, []byte(eight)); err != nil {
				t.Fatal(err)
			}
			var loser <-chan int64
			select {
			case n := <-first:
				loser = second
				if n < 8 {
					t.Fatalf("the first read: %s", show(n))
				}
			case n := <-second:
				loser = first
				if n < 8 {
					t.Fatalf("the second read: %s", show(n))
				}
			}
			e.cancel.fire()
			if n := await(t, "the loser", loser); n != abi.EINTR.Result() {
				t.Fatalf("the loser's read: %s", show(n))
			}
		})
	}
}

func TestInherited_BigWritesArriveWholeAndCanBeCancelled(t *testing.T) {
	const size = 300_000
	for name, make := range map[string]func(t testing.TB) (int, int){
		"pipe":          hostPipe,
		"stream socket": func(t testing.TB) (int, int) { return hostSocketpair(t, unix.SOCK_STREAM) },
	} {
		t.Run(name, func(t *testing.T) {
			r, w := make(t)
			e := newEnv(t)
			e.inherit(1, w)
			at := e.alloc(size)
			for i, b := 0, e.bytes(at, size); i < size; i++ {
				b[i] = byte(i % 251)
			}
			done := e.background(abi.CallWrite, 1, at, size)
			await(t, "the wait", e.cancel.asked)
			got := []byte{}
			for buf := [8192]byte{}; len(got) < size; {
				n, err := unix.Read(r, buf[:])
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, buf[:n]...)
			}
			if n := await(t, "the write", done); n != size || string(got) != string(e.bytes(at, size)) {
				t.Fatalf("write: %s", show(n))
			}
			for len(e.cancel.asked) > 0 {
				<-e.cancel.asked
			}
			done = e.background(abi.CallWrite, 1, at, size)
			await(t, "the wait", e.cancel.asked)
			e.cancel.fire()
			if n := await(t, "the write's end", done); n <= 0 || n >= size {
				t.Fatalf("a cancelled write: %s", show(n))
			}
		})
	}
}

func TestInherited_FileSharesItsPositionAndNotItsFlags(t *testing.T) {
	host, err := unix.Open(t.TempDir()+"/f", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, host)
	e := newEnv(t)
	e.inherit(1, host)
	e.write(1, "from the cage, ")
	if _, err := unix.Write(host, []byte("from the host")); err != nil {
		t.Fatal(err)
	}
	e.must(abi.CallFcntl, 1, fSetFL, oAppend)
	if f := e.must(abi.CallFcntl, 1, fGetFL); f&^oLargefile != oRdwr|oAppend {
		t.Fatalf("F_GETFL: %#o", f)
	}
	e.must(abi.CallLseek, 1, 0, 0)
	e.write(1, ", at the end")
	e.must(abi.CallFcntl, 1, fSetFL, 0)
	e.must(abi.CallLseek, 1, 0, 0)
	e.write(1, "From")
	e.must(abi.CallLseek, 1, 0, 0)
	if got := e.read(1, 100); got != "From the cage, from the host, at the end" {
		t.Fatalf("read %q", got)
	}
}

func TestInherited_DescriptorOutlivesTheCage(t *testing.T) {
	r, w := hostPipe(t)
	e := newEnv(t)
	e.inherit(0, r)
	e.inherit(1, w)
	if err := e.proc.Close(); err != nil {
		t.Fatal(err)
	}
	e.proc = nil
	if _, err := unix.Write(w, []byte("x")); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if n, err := unix.Read(r, b[:]); n != 1 || err != nil {
		t.Fatalf("read: %d, %v", n, err)
	}
}

func TestShared_StatusIsEachCagesOwn(t *testing.T) {
	r, w := hostPipe(t)
	e := newEnv(t)
	s, err := e.host.Share(r)
	if err != nil {
		t.Fatal(err)
	}
	other := e.newProcess(8)
	if err := errors.Join(e.proc.InstallShared(0, s, 0), other.InstallShared(0, s, 0)); err != nil {
		t.Fatal(err)
	}
	th := e.thread()
	th.Native = other
	e.must(abi.CallFcntl, 0, fSetFL, oNonblock)
	e.fails(abi.EAGAIN, abi.CallRead, 0, e.alloc(8), 8)
	if f := e.sys.Syscall(th, abi.CallFcntl, e.args(0, fGetFL)); f&^oLargefile != 0 {
		t.Fatalf("F_GETFL in the other cage: %#o", f)
	}
	at, done := e.alloc(8), make(chan int64, 1)
	go func() { done <- e.sys.Syscall(th, abi.CallRead, e.args(0, at, 8)) }()
	await(t, "the wait", e.cancel.asked)
	if _, err := unix.Write(w, []byte("ab")); err != nil {
		t.Fatal(err)
	}
	if n := await(t, "the read", done); n != 2 {
		t.Fatalf("read: %s", show(n))
	}
	// One cage's end leaves the other its descriptor, and all cages' end leaves the Shared.
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	e.fails(abi.EAGAIN, abi.CallRead, 0, at, 8)
	e.must(abi.CallClose, 0)
	if err := e.proc.InstallShared(5, s, 0); err != nil {
		t.Fatal(err)
	}
	e.fails(abi.EAGAIN, abi.CallRead, 5, at, 8)
	e.must(abi.CallClose, 5)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := e.proc.InstallShared(5, s, 0); !errors.Is(err, rawposix.ErrSharedClosed) {
		t.Fatalf("InstallShared after Close: %v", err)
	}
}

func TestInstall_FailureLeavesTheDescriptorToTheCaller(t *testing.T) {
	r, _ := hostPipe(t)
	e := newEnv(t)
	for _, own := range []rawposix.Ownership{rawposix.Owned, rawposix.Inherited} {
		if err := e.proc.InstallFD(-1, r, own, 0); !errors.Is(err, abi.EBADF) {
			t.Fatalf("InstallFD(-1): %v", err)
		}
		if err := e.proc.InstallFD(1<<20, r, own, 0); !errors.Is(err, abi.EBADF) {
			t.Fatalf("InstallFD(1<<20): %v", err)
		}
		if err := e.proc.InstallFD(0, 1<<20, own, 0); !errors.Is(err, unix.EBADF) {
			t.Fatalf("InstallFD of what is not open: %v", err)
		}
	}
	if _, err := e.host.Share(1 << 20); !errors.Is(err, unix.EBADF) {
		t.Fatalf("Share of what is not open: %v", err)
	}
	if _, err := unix.FcntlInt(uintptr(r), unix.F_GETFD, 0); err != nil {
		t.Fatalf("the descriptor: %v", err)
	}
}

func TestAccept_RefusesAnInheritedListener(t *testing.T) {
	fd, _ := listen(t)
	closeAtEnd(t, fd)
	e := newEnv(t)
	e.inherit(9, fd)
	e.fails(abi.EOPNOTSUPP, abi.CallAccept, 9, 0, 0)
}

func TestBrokenPipe_IsEPIPEAlsoForManyThreads(t *testing.T) {
	for name, pair := range map[string]func() ([2]int, error){
		"pipe": func() (fds [2]int, err error) {
			err = unix.Pipe2(fds[:], unix.O_CLOEXEC)
			return fds, err
		},
		"stream socket": func() ([2]int, error) { return unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			fds, err := pair()
			if err != nil {
				t.Fatal(err)
			}
			closeAtEnd(t, fds[1])
			if err := unix.Close(fds[0]); err != nil {
				t.Fatal(err)
			}
			e := newEnv(t)
			e.inherit(1, fds[1])
			at := e.alloc(8)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if n := e.sys.Syscall(e.thread(), abi.CallWrite, e.args(1, at, 8)); n != abi.EPIPE.Result() {
						t.Errorf("write: %s", show(n))
					}
				})
			}
			wg.Wait()
		})
	}
}

// childEnv names what runChild does in a process of its own.
const childEnv = "RAWPOSIX_TEST_CHILD"

// TestBrokenStdout_DoesNotKillTheProcess has a cage write to a broken pipe on descriptors 1 and 2: package os turns that
// into the process's death by SIGPIPE.
func TestBrokenStdout_DoesNotKillTheProcess(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"=stdout")
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		t.Fatalf("the process that wrote to its broken standard output: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestForeignTerminal_IsReadThroughItsOtherName has a process whose standard input is a terminal that it controls and may
// not open, as after sudo.
func TestForeignTerminal_IsReadThroughItsOtherName(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, slave := hostPTY(t)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"=terminal")
	fd, err := unix.FcntlInt(uintptr(slave), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stdin := os.NewFile(uintptr(fd), "terminal")
	defer func() { _ = stdin.Close() }()
	cmd.Stdin = stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Run(); err != nil {
		t.Fatalf("the process on a foreign terminal: %v", err)
	}
}

// runChild is what a test has a process of its own do. It answers the exit status, which tells where it went wrong.
func runChild(what string) int {
	if what == "terminal" {
		return childOnTerminal()
	}
	host, err := rawposix.NewHost(rawposix.Config{Tables: fdtables.New(fdtables.Config{})})
	if err != nil {
		return 10
	}
	p, err := host.NewProcess(rawposix.ProcessConfig{Cage: testCage, Hooks: &hooks{}})
	if err != nil {
		return 11
	}
	sys := threei.NewSystem()
	rawposix.Register(sys)
	th := &threei.Thread{Cage: testCage, TID: 1, Native: p, Cancel: &canceler{fd: -1}}
	for fd := 1; fd <= 2; fd++ {
		for i, own := range []rawposix.Ownership{rawposix.Inherited, rawposix.Owned} {
			if err := p.InstallFD(fdtables.FD(fd), fd, own, 0); err != nil {
				return 12
			}
			var a threei.Args
			b := th.Scratch(8)
			a.Val, a.Cage[1] = [6]uint64{uint64(fd), guestmem.AddrOf(b), 8}, abi.CageRawPOSIX
			if r := sys.Syscall(th, abi.CallWrite, &a); r != abi.EPIPE.Result() {
				return 13 + i
			}
		}
	}
	return 0
}

func childOnTerminal() int {
	runtime.LockOSThread()
	if _, _, e := unix.RawSyscall(unix.SYS_SETFSUID, nobody, 0, 0); e != 0 {
		return 20
	}
	if _, err := unix.Open("/proc/self/fd/0", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0); err != unix.EACCES {
		return 21
	}
	fd, own, err := rawposix.Borrow(0)
	if err != nil || !own {
		return 22
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		return 23
	}
	if flags, err := unix.FcntlInt(0, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		return 24
	}
	return 0
}
