package rawposix_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/rawposix"
)

func TestReadWrite_MoveBytesAndThePosition(t *testing.T) {
	e := newEnv(t)
	fd := e.file("hello, world")
	if got := e.read(fd, 5); got != "hello" {
		t.Fatalf("read %q", got)
	}
	if got := e.read(fd, 100); got != ", world" {
		t.Fatalf("read %q", got)
	}
	if got := e.read(fd, 100); got != "" {
		t.Fatalf("read at the end: %q", got)
	}
	if n := e.write(fd, "!"); n != 1 {
		t.Fatalf("write: %s", show(n))
	}
	if at := e.must(abi.CallLseek, fd, 0, 0); at != 0 {
		t.Fatalf("lseek: %d", at)
	}
	if got := e.read(fd, 100); got != "hello, world!" {
		t.Fatalf("read %q", got)
	}
}

func TestPreadPwrite_LeaveThePosition(t *testing.T) {
	e := newEnv(t)
	fd := e.file("0123456789")
	at := e.alloc(4)
	if n := e.must(abi.CallPread64, fd, at, 4, 3); string(e.bytes(at, int(n))) != "3456" {
		t.Fatalf("pread: %q", e.bytes(at, int(n)))
	}
	if n := e.must(abi.CallPwrite64, fd, e.put([]byte("AB")), 2, 8); n != 2 {
		t.Fatalf("pwrite: %d", n)
	}
	if got := e.read(fd, 20); got != "01234567AB" {
		t.Fatalf("read %q", got)
	}
	e.fails(abi.EINVAL, abi.CallPread64, fd, at, 4, -1)
	e.fails(abi.EINVAL, abi.CallPwrite64, fd, at, 4, -1)
	e.fails(abi.EINVAL, abi.CallPreadv, fd, at, 1, -1)
	e.fails(abi.EINVAL, abi.CallPwritev, fd, at, 1, -1)
	r, w := e.pipe(0)
	e.fails(abi.ESPIPE, abi.CallPread64, r, at, 4, 0)
	e.fails(abi.ESPIPE, abi.CallPwrite64, w, at, 4, 0)
}

func TestReadvWritev_GatherAndScatter(t *testing.T) {
	e := newEnv(t)
	fd := e.file("")
	a, b := e.put([]byte("abc")), e.put([]byte("defgh"))
	vec := e.iov([2]uint64{e.addr(a), 3}, [2]uint64{0xdead, 0}, [2]uint64{e.addr(b), 5})
	if n := e.must(abi.CallWritev, fd, vec, 3); n != 8 {
		t.Fatalf("writev: %d", n)
	}
	if n := e.must(abi.CallPwritev, fd, vec, 3, 100, 0); n != 8 {
		t.Fatalf("pwritev: %d", n)
	}
	x, y := e.alloc(6), e.alloc(6)
	into := e.iov([2]uint64{e.addr(x), 6}, [2]uint64{e.addr(y), 6})
	if n := e.must(abi.CallPreadv, fd, into, 2, 0, 0); n != 12 || string(e.bytes(x, 6)) != "abcdef" ||
		string(e.bytes(y, 6)) != "gh\x00\x00\x00\x00" {
		t.Fatalf("preadv: %d %q %q", n, e.bytes(x, 6), e.bytes(y, 6))
	}
	e.must(abi.CallLseek, fd, 100, unix.SEEK_SET)
	if n := e.must(abi.CallReadv, fd, into, 2); n != 8 || string(e.bytes(x, 6)) != "abcdef" || string(e.bytes(y, 2)) != "gh" {
		t.Fatalf("readv: %d %q %q", n, e.bytes(x, 6), e.bytes(y, 2))
	}
}

func TestReadvWritev_TakeUpTo1024Buffers(t *testing.T) {
	e := newEnv(t)
	fd := e.file("")
	data := e.put([]byte("abcdefgh"))
	var bufs [][2]uint64
	for i := range 1025 {
		bufs = append(bufs, [2]uint64{e.addr(data) + uint64(i%8), 1})
	}
	vec := e.iov(bufs...)
	e.fails(abi.EINVAL, abi.CallWritev, fd, vec, 1025)
	e.fails(abi.EINVAL, abi.CallWritev, fd, vec, -1)
	if n := e.must(abi.CallWritev, fd, vec, 1024); n != 1024 {
		t.Fatalf("writev: %d", n)
	}
	e.must(abi.CallLseek, fd, 0, 0)
	if got := e.read(fd, 2000); got != strings.Repeat("abcdefgh", 128) {
		t.Fatalf("read %q", got)
	}
	if n := e.must(abi.CallReadv, fd, vec, 0); n != 0 {
		t.Fatalf("readv of no buffers: %d", n)
	}
}

func TestTransfers_RefuseWhatDoesNotLieInMemory(t *testing.T) {
	e := newEnv(t)
	fd := e.file("content")
	end := gp(memSize - 4)
	ok := e.alloc(8)
	for _, c := range []struct {
		name string
		args []any
		call abi.Call
	}{
		{"past the end", []any{fd, end, 5}, abi.CallRead},
		{"before the start", []any{fd, gp(^uint64(0) - 8), 4}, abi.CallRead},
		{"wraps", []any{fd, end, uint64(1)<<63 - 1}, abi.CallWrite},
		{"of the host, without saying so", []any{fd, e.addr(ok), 4}, abi.CallRead},
		{"pread", []any{fd, end, 5, 0}, abi.CallPread64},
		{"array", []any{fd, gp(memSize - 15), 1}, abi.CallReadv},
		{"buffer", []any{fd, e.iov([2]uint64{e.addr(end), 5}), 1}, abi.CallReadv},
		{"second buffer", []any{fd, e.iov([2]uint64{e.addr(ok), 5}, [2]uint64{8, 5}), 2}, abi.CallWritev},
		{"buffer by offset", []any{fd, e.iov([2]uint64{uint64(ok), 5}), 1}, abi.CallPwritev},
		{"no array", []any{fd, rp(0), 1}, abi.CallReadv},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.t = t
			e.fails(abi.EFAULT, c.call, c.args...)
		})
	}
	e.t = t
	e.fails(abi.EINVAL, abi.CallRead, fd, ok, uint64(1)<<63)
	e.fails(abi.EINVAL, abi.CallReadv, fd, e.iov([2]uint64{e.addr(ok), 1 << 63}), 1)
	if got := e.read(fd, 20); got != "content" {
		t.Fatalf("the file is %q after calls that failed", got)
	}
	if n := e.must(abi.CallRead, fd, 0, 0); n != 0 { // a buffer of no bytes may be anywhere
		t.Fatalf("read of nothing: %d", n)
	}
}

func TestTransfers_TakeTheRuntimesOwnArrayWithGuestBuffers(t *testing.T) {
	e := newEnv(t)
	fd := e.file("content")
	at := e.alloc(7)
	vec := e.th.Scratch(16)
	le.PutUint64(vec, e.addr(at))
	le.PutUint64(vec[8:], 7)
	if n := e.must(abi.CallReadv, fd, rp(guestmem.AddrOf(vec)), 1); n != 7 || string(e.bytes(at, 7)) != "content" {
		t.Fatalf("readv: %d, %q", n, e.bytes(at, 7))
	}
}

func TestTransfers_AnswerEBADFToWhatIsNotOpenForThem(t *testing.T) {
	e := newEnv(t)
	dir := e.preopen(t.TempDir())
	w := e.open(dir, "w", oWronly|oCreat)
	r := e.open(dir, "w", oRdonly)
	p := e.open(dir, "w", oPath)
	at := e.alloc(8)
	e.fails(abi.EBADF, abi.CallRead, w, at, 1)
	e.fails(abi.EBADF, abi.CallWrite, r, at, 1)
	e.fails(abi.EBADF, abi.CallRead, p, at, 1)
	e.fails(abi.EBADF, abi.CallWrite, p, at, 1)
	for _, fd := range []int{99, -1, 1 << 30, 5000} {
		e.fails(abi.EBADF, abi.CallRead, fd, at, 1)
		e.fails(abi.EBADF, abi.CallWritev, fd, at, 1)
	}
	e.fails(abi.EISDIR, abi.CallRead, dir, at, 1)
	e.must(abi.CallClose, w)
	e.fails(abi.EBADF, abi.CallWrite, w, at, 1)
	e.fails(abi.EBADF, abi.CallClose, w)
}

func TestFDArguments_CountInTheirLow32Bits(t *testing.T) {
	e := newEnv(t)
	fd := e.file("x")
	at := e.alloc(1)
	if n := e.must(abi.CallRead, 0xabcd<<32|fd, at, 1); n != 1 {
		t.Fatalf("read: %d", n)
	}
}

func TestAppend_WritesAtTheEndWhereverThePositionIs(t *testing.T) {
	e := newEnv(t)
	dir := e.preopen(t.TempDir())
	a := e.open(dir, "log", oWronly|oCreat|oAppend)
	b := e.open(dir, "log", oRdwr)
	e.write(b, "12")
	e.write(a, "34")
	e.must(abi.CallLseek, b, 0, 0)
	e.write(a, "56")
	if got := e.read(b, 10); got != "123456" {
		t.Fatalf("read %q", got)
	}
}

// TestBigTransfer_IsWholeAndRightWhateverItsSteps covers transfers that are cut into steps in the middle of a buffer.
func TestBigTransfer_IsWholeAndRightWhateverItsSteps(t *testing.T) {
	e := newEnv(t)
	const size = 11<<20 + 12345
	b, err := unix.Mmap(-1, 0, size+pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	base := guestmem.AddrOf(b)
	e.mem = guestmem.New(uintptr(base), uint64(len(b)))
	e.th = e.thread()
	seed := [32]byte{1}
	if _, err := io.ReadFull(rand.NewChaCha8(seed), b[:size]); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b[:size])

	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	host, err := unix.Open(dir+"/f", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.proc.InstallFD(4, host, rawposix.Owned, 0); err != nil {
		t.Fatal(err)
	}
	if n := e.must(abi.CallWrite, 4, gp(0), size); n != size {
		t.Fatalf("write: %d of %d", n, size)
	}
	check := func(what string, n int64) {
		t.Helper()
		if n != size || sha256.Sum256(b[:size]) != sum {
			t.Fatalf("%s: %d bytes, right: %v", what, n, sha256.Sum256(b[:size]) == sum)
		}
		clear(b)
	}
	clear(b)
	check("pread", e.must(abi.CallPread64, 4, gp(0), size+pageSize, 0))
	vec := e.th.Scratch(3 * 16)
	for i, v := range [][2]uint64{{base, 100}, {base + 100, 5 << 20}, {base + 100 + 5<<20, size - 100 - 5<<20}} {
		le.PutUint64(vec[i*16:], v[0])
		le.PutUint64(vec[i*16+8:], v[1])
	}
	check("preadv", e.must(abi.CallPreadv, 4, rp(guestmem.AddrOf(vec)), 3, 0, 0))
	e.must(abi.CallLseek, 4, 0, 0)
	check("readv", e.must(abi.CallReadv, 4, rp(guestmem.AddrOf(vec)), 3))
}

func TestBigTransfer_EndsBetweenStepsWhenCancelled(t *testing.T) {
	e := newEnv(t)
	const size = 64 << 20
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	e.mem = guestmem.New(uintptr(guestmem.AddrOf(b)), size)
	e.th = e.thread()
	// Not /dev/zero: the kernel ends a read of that early for any signal, such as those by which Go preempts.
	zeros, err := unix.MemfdCreate("zeros", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.proc.InstallFD(4, zeros, rawposix.Owned, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(zeros, 2*size); err != nil {
		t.Fatal(err)
	}
	if n := e.must(abi.CallRead, 4, gp(0), size); n != size {
		t.Fatalf("read: %d", n)
	}
	e.cancel.fire()
	if n := e.must(abi.CallRead, 4, gp(0), size); n <= 0 || n >= size {
		t.Fatalf("read of a stopping cage: %d of %d bytes", n, size)
	}
}

func TestGetdents_ListsADirectory(t *testing.T) {
	e := newEnv(t)
	host := t.TempDir()
	for _, name := range []string{"a", "bb", "ccc"} {
		if err := os.WriteFile(host+"/"+name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := e.open(e.preopen(host), ".", oRdonly|oDirectory)
	at, names := e.alloc(4096), map[string]bool{}
	for {
		n := e.must(abi.CallGetdents64, dir, at, 64) // room for one or two at a time
		if n == 0 {
			break
		}
		for b := e.bytes(at, int(n)); len(b) > 0; b = b[le.Uint16(b[16:]):] {
			names[string(b[19:19+bytes.IndexByte(b[19:], 0)])] = true
		}
	}
	for _, want := range []string{".", "..", "a", "bb", "ccc"} {
		if !names[want] {
			t.Errorf("no %q in %v", want, names)
		}
	}
	if len(names) != 5 {
		t.Errorf("%v", names)
	}
	e.fails(abi.EINVAL, abi.CallGetdents64, dir, at, 0)
	e.must(abi.CallLseek, dir, 0, 0)
	e.fails(abi.EINVAL, abi.CallGetdents64, dir, at, 8)
	e.fails(abi.EFAULT, abi.CallGetdents64, dir, gp(memSize-8), 64)
	e.fails(abi.ENOTDIR, abi.CallGetdents64, e.file("x"), at, 64)
}

func TestFileCalls_DoWhatTheirNamesSay(t *testing.T) {
	e := newEnv(t)
	fd := e.file("0123456789")
	st := e.alloc(rawposix.StatSize)
	size := func() int64 {
		e.must(abi.CallFstat, fd, st)
		return int64(le.Uint64(e.bytes(st+48, 8)))
	}
	e.must(abi.CallFtruncate, fd, 4)
	if n := size(); n != 4 {
		t.Errorf("size after ftruncate: %d", n)
	}
	e.must(abi.CallFallocate, fd, 0, 0, 8192)
	if n := size(); n != 8192 {
		t.Errorf("size after fallocate: %d", n)
	}
	e.must(abi.CallFsync, fd)
	e.must(abi.CallFdatasync, fd)
	e.must(abi.CallFadvise64, fd, 0, 100, 4)
	if at := e.must(abi.CallLseek, fd, -2, unix.SEEK_END); at != 8190 {
		t.Errorf("lseek from the end: %d", at)
	}
	if at := e.must(abi.CallLseek, fd, -90, unix.SEEK_CUR); at != 8100 {
		t.Errorf("lseek from here: %d", at)
	}
	e.fails(abi.EINVAL, abi.CallLseek, fd, -1, unix.SEEK_SET)
	e.fails(abi.EINVAL, abi.CallLseek, fd, 0, 99)
	e.fails(abi.ENXIO, abi.CallLseek, fd, 1<<40, unix.SEEK_DATA)
	e.fails(abi.EINVAL, abi.CallFtruncate, fd, -1)
	e.fails(abi.EINVAL, abi.CallFallocate, fd, 0, -1, 1)
	e.fails(abi.EINVAL, abi.CallFadvise64, fd, 0, 0, 99)
	r, w := e.pipe(0)
	e.fails(abi.ESPIPE, abi.CallLseek, r, 0, 0)
	e.fails(abi.EINVAL, abi.CallFsync, w)
	e.fails(abi.ESPIPE, abi.CallFadvise64, r, 0, 0, 0)
	e.fails(abi.EINVAL, abi.CallFtruncate, w, 0)
	e.fails(abi.ESPIPE, abi.CallFallocate, w, 0, 0, 1)
	for _, c := range []abi.Call{
		abi.CallLseek, abi.CallFtruncate, abi.CallFallocate, abi.CallFadvise64, abi.CallFsync,
		abi.CallFdatasync, abi.CallGetdents64, abi.CallFstat, abi.CallIoctl, abi.CallShutdown,
	} {
		e.fails(abi.EBADF, c, 77, st, 100, 0)
	}
}

func TestIoctl_AnswersHowMuchIsThereAndNothingElse(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	e.write(w, "12345")
	at := e.alloc(4)
	e.must(abi.CallIoctl, r, 0x541b, at)
	if n := le.Uint32(e.bytes(at, 4)); n != 5 {
		t.Errorf("FIONREAD: %d", n)
	}
	e.fails(abi.EFAULT, abi.CallIoctl, r, 0x541b, gp(memSize-2))
	e.fails(abi.ENOTTY, abi.CallIoctl, r, 0x5401, at)
	e.fails(abi.ENOTTY, abi.CallIoctl, r, 0x5421, at) // FIONBIO
}
