package rawposix_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
)

var le = binary.LittleEndian

const (
	// patience is how long a test waits for what must happen.
	patience = 20 * time.Second
	memSize  = 1 << 20
	pageSize = 4096
	testCage = abi.CageID(7)
	atFDCWD  = 0xffffffffffffff9c
)

// canceler is a domain's cancel token.
type canceler struct {
	fd    int
	fired atomic.Bool
	asked chan struct{} // gets an element each time a call is about to wait
	err   error         // what CancelFD fails with
}

func newCanceler(t testing.TB) *canceler {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatalf("eventfd: %v", err)
	}
	return &canceler{fd: fd, asked: make(chan struct{}, 1<<12)}
}

func (c *canceler) CancelFD() (int, error) {
	select {
	case c.asked <- struct{}{}:
	default:
	}
	return c.fd, c.err
}

func (c *canceler) Stopping() bool { return c.fired.Load() }

func (c *canceler) fire() {
	c.fired.Store(true)
	if _, err := unix.Write(c.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		panic(err)
	}
}

// hooks record what they are asked.
type hooks struct {
	mu    sync.Mutex
	calls []string // guarded by mu
	tid   int32
	errno abi.Errno
}

func (h *hooks) note(format string, args ...any) {
	h.mu.Lock()
	h.calls = append(h.calls, fmt.Sprintf(format, args...))
	h.mu.Unlock()
}

func (h *hooks) ExitGroup(t *threei.Thread, status int32) {
	h.note("exit_group %d by %d", status, t.TID)
}

func (h *hooks) ExitThread(t *threei.Thread, status int32) { h.note("exit %d by %d", status, t.TID) }

func (h *hooks) SpawnThread(_ *threei.Thread, startArg uint32) (int32, abi.Errno) {
	h.note("spawn %d", startArg)
	return h.tid, h.errno
}

func (h *hooks) Signal(_ *threei.Thread, target abi.CageID, sig int32) abi.Errno {
	h.note("signal %d to %d", sig, target)
	return h.errno
}

// env is one cage with native calls, its memory between two inaccessible pages.
type env struct {
	t      testing.TB
	sys    *threei.System
	tables *fdtables.Tables
	host   *rawposix.Host
	proc   *rawposix.Process
	hooks  *hooks
	cancel *canceler
	mem    guestmem.Memory
	th     *threei.Thread
	used   uint64 // how much of mem is taken
	// network is what processes made from now on may reach.
	network rawposix.Network
	// another env of the same test, made earlier, looks for leaks
	unchecked bool
}

// newEnv makes an env whose end is checked: everything closed, nothing leaked.
func newEnv(t testing.TB) *env { return newEnvOn(t, rawposix.NewHost) }

// bothResolvers runs a test with paths resolved by the kernel, and by the walk.
func bothResolvers(t *testing.T, test func(t *testing.T, e *env)) {
	for _, r := range resolvers {
		t.Run(r.name, func(t *testing.T) { test(t, newEnvOn(t, r.make)) })
	}
}

var resolvers = []struct {
	name string
	make func(rawposix.Config) (*rawposix.Host, error)
}{{"openat2", rawposix.NewHost}, {"walk", rawposix.NewWalkingHost}}

func newEnvOn(t testing.TB, newHost func(rawposix.Config) (*rawposix.Host, error)) *env {
	t.Helper()
	before := openFDs(t)
	e := &env{t: t, sys: threei.NewSystem(), hooks: &hooks{tid: 2}, cancel: newCanceler(t)}
	e.tables = fdtables.New(fdtables.Config{})
	host, err := newHost(rawposix.Config{Tables: e.tables})
	if err != nil {
		t.Fatalf("NewHost: %v", err)
	}
	e.host = host
	rawposix.Register(e.sys)
	e.proc = e.newProcess(testCage)
	e.mem = newMemory(t)
	e.th = e.thread()
	t.Cleanup(func() {
		if e.proc != nil {
			if err := e.proc.Close(); err != nil {
				t.Errorf("Process.Close: %v", err)
			}
		}
		if err := unix.Close(e.cancel.fd); err != nil {
			t.Errorf("close the cancel token: %v", err)
		}
		if after := openFDs(t); !e.unchecked && !maps.Equal(before, after) {
			t.Errorf("host descriptors at the end:\n%v\nat the start:\n%v", after, before)
		}
	})
	return e
}

func (e *env) newProcess(id abi.CageID) *rawposix.Process {
	e.t.Helper()
	p, err := e.host.NewProcess(rawposix.ProcessConfig{
		Cage: id, Parent: 3, UID: 1000, EUID: 1001, GID: 1002, EGID: 1003, Hooks: e.hooks, Network: e.network,
	})
	if err != nil {
		e.t.Fatalf("NewProcess: %v", err)
	}
	return p
}

// thread is a further thread of the cage.
func (e *env) thread() *threei.Thread {
	return &threei.Thread{Cage: testCage, TID: 1, Memory: e.mem, Cancel: e.cancel, Native: e.proc}
}

func newMemory(t testing.TB) guestmem.Memory {
	b, err := unix.Mmap(-1, 0, memSize+2*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatalf("mmap: %v", err)
	}
	for _, guard := range [][]byte{b[:pageSize], b[len(b)-pageSize:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatalf("mprotect: %v", err)
		}
	}
	t.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			t.Errorf("munmap: %v", err)
		}
	})
	return guestmem.New(uintptr(unsafe.Pointer(unsafe.SliceData(b)))+pageSize, memSize)
}

// tempDir is a directory in memory, if the host has that, for tests that make and remove many files.
func tempDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "rawposix")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// openFDs is every descriptor of this process and what it stands for.
func openFDs(t testing.TB) map[string]string {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	fds := map[string]string{}
	for _, d := range dir {
		to, err := os.Readlink("/proc/self/fd/" + d.Name())
		if err != nil || strings.HasPrefix(to, "/proc/") && strings.HasSuffix(to, "/fd") {
			continue // the descriptor of this very listing
		}
		fds[d.Name()] = to
	}
	return fds
}

// gp is the offset of something in guest memory.
type gp uint64

// rp is the address of something in memory of the runtime.
type rp uint64

// alloc takes n bytes of guest memory.
func (e *env) alloc(n int) gp {
	e.used = (e.used + 15) &^ 15
	at := e.used
	e.used += uint64(n)
	if e.used > memSize {
		e.t.Fatalf("the test's guest memory is full")
	}
	return gp(at)
}

// put places b in guest memory.
func (e *env) put(b []byte) gp {
	at := e.alloc(max(1, len(b)))
	if !e.mem.WriteCopy(uint64(at), b) {
		e.t.Fatal("outside memory")
	}
	return at
}

// str places a string and its NUL in guest memory.
func (e *env) str(s string) gp { return e.put(append([]byte(s), 0)) }

// bytes is guest memory.
func (e *env) bytes(at gp, n int) []byte {
	b, ok := e.mem.Bytes(uint64(at), uint64(n))
	if !ok {
		e.t.Fatal("outside memory")
	}
	return b
}

// mark is how much memory is taken; reset gives back what was taken since.
func (e *env) mark() func() {
	used := e.used
	return func() { e.used = used }
}

// args are the arguments of a call: numbers, gp and rp.
func (e *env) args(vals ...any) *threei.Args {
	var a threei.Args
	for i, v := range vals {
		switch v := v.(type) {
		case int:
			a.Val[i] = uint64(v)
		case int64:
			a.Val[i] = uint64(v)
		case uint64:
			a.Val[i] = v
		case gp:
			a.Val[i], a.Cage[i] = uint64(e.mem.Base())+uint64(v), testCage
		case rp:
			a.Val[i], a.Cage[i] = uint64(v), abi.CageRawPOSIX
		default:
			e.t.Fatalf("argument of type %T", v)
		}
	}
	return &a
}

// call makes a system call on the env's own thread.
func (e *env) call(n abi.Call, vals ...any) int64 { return e.sys.Syscall(e.th, n, e.args(vals...)) }

// must is call for one that succeeds.
func (e *env) must(n abi.Call, vals ...any) int64 {
	e.t.Helper()
	r := e.call(n, vals...)
	if r < 0 {
		e.t.Fatalf("%v%v: %v", n, vals, abi.Errno(-r))
	}
	return r
}

// fails is call for one that answers errno.
func (e *env) fails(want abi.Errno, n abi.Call, vals ...any) {
	e.t.Helper()
	if r := e.call(n, vals...); r != want.Result() {
		e.t.Fatalf("%v%v = %s, want %v", n, vals, show(r), want)
	}
}

// show is a call's result for people.
func show(r int64) string {
	if r < 0 {
		return abi.Errno(-r).Error()
	}
	return strconv.FormatInt(r, 10)
}

// background makes a call on a thread of its own. Its result arrives on the channel.
func (e *env) background(n abi.Call, vals ...any) <-chan int64 {
	a, th, done := e.args(vals...), e.thread(), make(chan int64, 1)
	go func() { done <- e.sys.Syscall(th, n, a) }()
	return done
}

// await is what arrives on c, in time.
func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("%s: nothing after %v", what, patience)
	}
	panic("unreachable")
}

// preopen opens a host directory and installs it.
func (e *env) preopen(dir string) int {
	e.t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		e.t.Fatalf("open %s: %v", dir, err)
	}
	const vfd = 3
	if err := e.proc.InstallFD(vfd, fd, rawposix.Owned, 1); err != nil {
		e.t.Fatalf("install %s: %v", dir, err)
	}
	return vfd
}

// The open flags of x86-64.
const (
	oRdonly    = 0
	oWronly    = 1
	oRdwr      = 2
	oCreat     = 0o100
	oExcl      = 0o200
	oTrunc     = 0o1000
	oAppend    = 0o2000
	oNonblock  = 0o4000
	oDsync     = 0o10000
	oDirect    = 0o40000
	oLargefile = 0o100000
	oDirectory = 0o200000
	oNofollow  = 0o400000
	oCloexec   = 0o2000000
	oSync      = 0o4010000
	oPath      = 0o10000000
	oTmpfile   = 0o20200000
)

// open opens a path beneath the descriptor dir.
func (e *env) open(dir int, path string, flags int) int {
	e.t.Helper()
	defer e.mark()()
	return int(e.must(abi.CallOpenat, dir, e.str(path), flags, 0o644))
}

// file is a new file with the given content, open for reading and writing.
func (e *env) file(content string) int {
	e.t.Helper()
	dir := e.t.TempDir()
	if err := os.WriteFile(dir+"/f", []byte(content), 0o644); err != nil {
		e.t.Fatal(err)
	}
	return e.open(e.preopen(dir), "f", oRdwr)
}

// pipe is a new pipe of the cage.
func (e *env) pipe(flags int) (r, w int) {
	e.t.Helper()
	defer e.mark()()
	at := e.alloc(8)
	e.must(abi.CallPipe2, at, flags)
	b := e.bytes(at, 8)
	return int(le.Uint32(b)), int(le.Uint32(b[4:]))
}

// iov places an iovec array for the given buffers in guest memory.
func (e *env) iov(bufs ...[2]uint64) gp {
	var b []byte
	for _, v := range bufs {
		b = le.AppendUint64(b, v[0])
		b = le.AppendUint64(b, v[1])
	}
	return e.put(b)
}

// addr is the host address of guest memory.
func (e *env) addr(at gp) uint64 { return uint64(e.mem.Base()) + uint64(at) }

// timespec places a timespec in guest memory.
func (e *env) timespec(sec, nsec int64) gp {
	return e.put(le.AppendUint64(le.AppendUint64(nil, uint64(sec)), uint64(nsec)))
}

// pollfds places an array of pollfds in guest memory.
func (e *env) pollfds(fds ...[2]int) gp {
	var b []byte
	for _, v := range fds {
		b = le.AppendUint32(b, uint32(v[0]))
		b = le.AppendUint32(b, uint32(v[1]))
	}
	return e.put(b)
}

// revents is what poll answered for descriptor i of the array.
func (e *env) revents(at gp, i int) int {
	return int(int16(le.Uint16(e.bytes(at+gp(i*8+6), 2))))
}

// write writes a string to the descriptor fd.
func (e *env) write(fd int, s string) int64 {
	defer e.mark()()
	return e.call(abi.CallWrite, fd, e.put([]byte(s)), len(s))
}

// read reads up to n bytes from the descriptor fd.
func (e *env) read(fd, n int) string {
	e.t.Helper()
	defer e.mark()()
	at := e.alloc(n)
	return string(slices.Clone(e.bytes(at, int(e.must(abi.CallRead, fd, at, n)))))
}
