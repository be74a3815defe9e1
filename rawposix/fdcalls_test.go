package rawposix_test

import (
	"testing"

	"github.com/lindbridge/lindbridge/abi"
)

const (
	fDupFD        = 0
	fGetFD        = 1
	fSetFD        = 2
	fGetFL        = 3
	fSetFL        = 4
	fDupFDCloexec = 1030
)

func TestDup_SharesThePositionUnderTheLowestFreeNumber(t *testing.T) {
	e := newEnv(t)
	fd := e.file("abcdef")
	e.open(3, ".", oRdonly) // takes 1
	e.must(abi.CallClose, 1)
	low := int(e.must(abi.CallDup, fd))
	if low != 1 {
		t.Fatalf("dup: %d", low)
	}
	if got := e.read(fd, 3) + e.read(low, 3); got != "abcdef" {
		t.Fatalf("read %q through both", got)
	}
	e.must(abi.CallClose, fd)
	e.must(abi.CallLseek, low, 0, 0)
	if got := e.read(low, 10); got != "abcdef" {
		t.Fatalf("read %q after the other was closed", got)
	}
	e.fails(abi.EBADF, abi.CallDup, fd)
}

func TestDup2_ReplacesAndKeepsEqualOnes(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	fd := e.file("abc")
	if v := e.must(abi.CallDup2, fd, w); v != int64(w) {
		t.Fatalf("dup2: %d", v)
	}
	if got := e.read(r, 1); got != "" { // the only writer is closed
		t.Fatalf("read %q", got)
	}
	if got := e.read(w, 3); got != "abc" {
		t.Fatalf("read %q", got)
	}
	if v := e.must(abi.CallDup2, fd, fd); v != int64(fd) {
		t.Fatalf("dup2 onto itself: %d", v)
	}
	e.fails(abi.EBADF, abi.CallDup2, 55, 55)
	e.fails(abi.EBADF, abi.CallDup2, 55, 56)
	e.fails(abi.EBADF, abi.CallDup2, fd, -1)
	e.fails(abi.EBADF, abi.CallDup2, fd, 1<<20)
	e.fails(abi.EINVAL, abi.CallDup3, fd, fd, 0)
	e.fails(abi.EINVAL, abi.CallDup3, fd, 60, oNonblock)
	e.must(abi.CallDup3, fd, 60, oCloexec)
	if f := e.must(abi.CallFcntl, 60, fGetFD); f != 1 {
		t.Fatalf("F_GETFD after dup3 with O_CLOEXEC: %d", f)
	}
	e.must(abi.CallDup2, 60, 61)
	if f := e.must(abi.CallFcntl, 61, fGetFD); f != 0 {
		t.Fatalf("F_GETFD after dup2: %d", f)
	}
}

func TestFcntl_DuplicatesFromANumberOn(t *testing.T) {
	e := newEnv(t)
	fd := e.file("abc")
	if v := e.must(abi.CallFcntl, fd, fDupFD, 20); v != 20 {
		t.Fatalf("F_DUPFD: %d", v)
	}
	if v := e.must(abi.CallFcntl, fd, fDupFDCloexec, 20); v != 21 {
		t.Fatalf("F_DUPFD_CLOEXEC: %d", v)
	}
	if a, b := e.must(abi.CallFcntl, 20, fGetFD), e.must(abi.CallFcntl, 21, fGetFD); a != 0 || b != 1 {
		t.Fatalf("F_GETFD: %d, %d", a, b)
	}
	e.must(abi.CallFcntl, 20, fSetFD, 1)
	if v := e.must(abi.CallFcntl, 20, fGetFD); v != 1 {
		t.Fatalf("F_GETFD after F_SETFD: %d", v)
	}
	e.fails(abi.EINVAL, abi.CallFcntl, fd, fDupFD, 1<<20)
	e.fails(abi.EINVAL, abi.CallFcntl, fd, fDupFD, -1)
	e.fails(abi.EINVAL, abi.CallFcntl, fd, 6, 0) // F_SETLK
	for _, cmd := range []int{fDupFD, fDupFDCloexec, fGetFD, fSetFD, fGetFL, fSetFL, 6} {
		e.fails(abi.EBADF, abi.CallFcntl, 99, cmd, 0)
	}
}

func TestFcntl_StatusFlagsAreTheGuestsOwn(t *testing.T) {
	e := newEnv(t)
	dir := e.preopen(t.TempDir())
	fd := e.open(dir, "f", oRdwr|oCreat|oTrunc|oSync|oCloexec)
	if f := e.must(abi.CallFcntl, fd, fGetFL); f != oRdwr|oSync|oLargefile {
		t.Errorf("F_GETFL after open: %#o", f)
	}
	e.must(abi.CallFcntl, fd, fSetFL, oAppend|oNonblock|oWronly|oDirectory)
	if f := e.must(abi.CallFcntl, fd, fGetFL); f != oRdwr|oSync|oLargefile|oAppend|oNonblock {
		t.Errorf("F_GETFL after F_SETFL: %#o", f)
	}
	e.write(fd, "123")
	e.must(abi.CallLseek, fd, 0, 0)
	e.write(fd, "456")
	e.must(abi.CallFcntl, fd, fSetFL, 0)
	if f := e.must(abi.CallFcntl, fd, fGetFL); f != oRdwr|oSync|oLargefile {
		t.Errorf("F_GETFL after F_SETFL 0: %#o", f)
	}
	e.must(abi.CallLseek, fd, 0, 0)
	e.write(fd, "x")
	e.must(abi.CallLseek, fd, 0, 0)
	if got := e.read(fd, 10); got != "x23456" {
		t.Errorf("read %q", got)
	}
	if f := e.must(abi.CallFcntl, e.open(dir, "f", oWronly|oAppend|oDsync|oNonblock), fGetFL); f !=
		oWronly|oAppend|oDsync|oNonblock|oLargefile {
		t.Errorf("F_GETFL: %#o", f)
	}
	if f := e.must(abi.CallFcntl, e.open(dir, "f", oPath|oRdwr), fGetFL); f&^oLargefile != oPath {
		t.Errorf("F_GETFL of O_PATH: %#o", f)
	}
	if f := e.must(abi.CallFcntl, dir, fGetFL); f&^oLargefile != oDirectory {
		t.Errorf("F_GETFL of a directory: %#o", f)
	}
}

func TestFcntl_NonblockIsSharedByDuplicatesAndTurnsWaitsIntoEAGAIN(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	other := int(e.must(abi.CallDup, r))
	if f := e.must(abi.CallFcntl, r, fGetFL); f != 0 {
		t.Fatalf("F_GETFL of a new pipe: %#o", f)
	}
	e.must(abi.CallFcntl, other, fSetFL, oNonblock)
	if f := e.must(abi.CallFcntl, r, fGetFL); f != oNonblock {
		t.Fatalf("F_GETFL: %#o", f)
	}
	e.fails(abi.EAGAIN, abi.CallRead, r, e.alloc(1), 1)
	if f := e.must(abi.CallFcntl, w, fGetFL); f != oWronly {
		t.Fatalf("F_GETFL of the other end: %#o", f)
	}
	r, w = e.pipe(oNonblock | oCloexec)
	if a, b := e.must(abi.CallFcntl, r, fGetFL), e.must(abi.CallFcntl, w, fGetFD); a != oNonblock || b != 1 {
		t.Fatalf("after pipe2 with flags: F_GETFL %#o, F_GETFD %d", a, b)
	}
	at := e.alloc(8)
	e.must(abi.CallPipe, at)
	e.must(abi.CallWrite, int(le.Uint32(e.bytes(at+4, 4))), at, 1)
	e.must(abi.CallRead, int(le.Uint32(e.bytes(at, 4))), at, 1)
	e.fails(abi.EINVAL, abi.CallPipe2, e.alloc(8), oAppend)
	e.fails(abi.EINVAL, abi.CallPipe2, e.alloc(8), oExcl) // a notification pipe
	e.fails(abi.EFAULT, abi.CallPipe2, gp(memSize-4), 0)
}

func TestLimit_IsEMFILEAndLeavesNothingOpen(t *testing.T) {
	e := newEnv(t)
	dir := e.preopen(t.TempDir())
	e.open(dir, "f", oCreat)
	n := 0
	for e.call(abi.CallDup, dir) >= 0 {
		n++
	}
	e.fails(abi.EMFILE, abi.CallDup, dir)
	e.fails(abi.EMFILE, abi.CallOpenat, dir, e.str("f"), 0, 0)
	e.fails(abi.EMFILE, abi.CallPipe2, e.alloc(8), 0)
	e.fails(abi.EMFILE, abi.CallSocketpair, 1, 1, 0, e.alloc(8))
	e.must(abi.CallClose, dir)
	e.fails(abi.EMFILE, abi.CallPipe2, e.alloc(8), 0) // room for one end only
	if v := e.must(abi.CallFcntl, 0, fDupFD, 0); v != int64(dir) {
		t.Fatalf("the free number is %d, not %d", v, dir)
	}
	if n < 1000 {
		t.Fatalf("the limit came after %d descriptors", n)
	}
}
