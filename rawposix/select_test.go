package rawposix_test

import (
	"slices"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

const fdsetSize = 128

// fdset places an fd_set in guest memory.
func (e *env) fdset(fds ...int) gp {
	set := make([]byte, fdsetSize)
	for _, fd := range fds {
		set[fd/8] |= 1 << (fd % 8)
	}
	return e.put(set)
}

// inSet is the content of an fd_set.
func (e *env) inSet(at gp) (fds []int) {
	for i, b := range e.bytes(at, fdsetSize) {
		for j := range 8 {
			if b>>j&1 != 0 {
				fds = append(fds, 8*i+j)
			}
		}
	}
	return fds
}

// wantSets compares the answer of a select.
func (e *env) wantSets(n int64, sets [3]gp, want ...[]int) {
	e.t.Helper()
	count := 0
	for i, at := range sets {
		if got := e.inSet(at); !slices.Equal(got, want[i]) {
			e.t.Errorf("set %d: %v, want %v", i, got, want[i])
		}
		count += len(want[i])
	}
	if n != int64(count) {
		e.t.Errorf("select = %s, want %d", show(n), count)
	}
}

func TestSelect_SaysWhatIsReady(t *testing.T) {
	for _, call := range []abi.Call{abi.CallSelect, abi.CallPselect6} {
		e := newEnv(t)
		r, w := e.pipe(0)
		file := e.file("x")
		again := int(e.must(abi.CallDup, r))
		n := again + 1
		sets := [3]gp{e.fdset(r, again, file), e.fdset(w, file), e.fdset(r, file)}
		e.wantSets(e.call(call, n, sets[0], sets[1], sets[2], 0, 0), sets, []int{file}, []int{w, file}, nil)
		e.write(w, "x")
		sets = [3]gp{e.fdset(r, again), e.fdset(), e.fdset(r)}
		e.wantSets(e.call(call, n, sets[0], sets[1], sets[2], 0, 0), sets, []int{r, again}, nil, nil) // both duplicates
		e.read(r, 1)
		e.must(abi.CallClose, w)
		sets = [3]gp{e.fdset(r), e.fdset(), e.fdset()}
		e.wantSets(e.call(call, n, sets[0], 0, 0, 0, 0), sets, []int{r}, nil, nil) // the end of a file can be read
		e.wantSets(e.call(call, n, e.fdset(), 0, 0, e.timespec(0, 0), 0), [3]gp{e.fdset(), e.fdset(), e.fdset()}, nil, nil, nil)
	}
}

func TestSelect_LooksAtNothingPastN(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	e.write(w, "x")
	set := e.fdset(r, 900)
	if n := e.must(abi.CallSelect, r+1, set, 0, 0, 0); n != 1 || !slices.Equal(e.inSet(set), []int{r, 900}) {
		t.Errorf("%d, %v", n, e.inSet(set))
	}
	at := gp(memSize - 8)
	e.bytes(at, 8)[0] = 1 << r
	if n := e.must(abi.CallSelect, 64, at, 0, 0, 0); n != 1 {
		t.Error(n)
	}
	e.fails(abi.EFAULT, abi.CallSelect, 65, at, 0, 0, 0)
	e.proc.Table().SetLimit(64)
	if n := e.must(abi.CallSelect, 1<<31-1, at, 0, 0, 0); n != 1 { // as Linux: no more than the table has
		t.Error(n)
	}
}

func TestSelect_WaitsUntilSomethingIsReady(t *testing.T) {
	for _, idle := range []int{0, 10} { // few are waited for outside Go, many in it
		e := newEnv(t)
		r, w := e.pipe(0)
		fds, high := []int{r}, w
		for range idle {
			other, _ := e.pipe(0)
			fds, high = append(fds, other), other+1
		}
		sets := [3]gp{e.fdset(fds...), e.fdset(), e.fdset(fds...)}
		done := e.background(abi.CallSelect, high+1, sets[0], sets[1], sets[2], 0)
		await(t, "the wait", e.cancel.asked)
		e.write(w, "x")
		e.wantSets(await(t, "select", done), sets, []int{r}, nil, nil)
	}
}

// A hangup is no exceptional condition: who waits for one alone waits on.
func TestSelect_IsNotEndedByWhatNobodyAskedFor(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	r2, w2 := e.pipe(0)
	e.must(abi.CallClose, w)
	sets := [3]gp{e.fdset(r2), e.fdset(), e.fdset(r)}
	done := e.background(abi.CallSelect, 64, sets[0], sets[1], sets[2], 0)
	await(t, "the wait", e.cancel.asked)
	e.write(w2, "x")
	e.wantSets(await(t, "select", done), sets, []int{r2}, nil, nil)
	set := e.fdset(r)
	start := time.Now()
	if n := e.must(abi.CallSelect, 64, 0, 0, set, e.timespec(0, 20_000)); n != 0 || time.Since(start) < 20*time.Millisecond {
		t.Errorf("%d after %v", n, time.Since(start))
	}
}

func TestSelect_TimesOutAndTellsWhatIsLeft(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	start := time.Now()
	sets := [3]gp{e.fdset(r), e.fdset(), e.fdset()}
	left := e.timespec(0, 20_000) // microseconds
	e.wantSets(e.call(abi.CallSelect, 64, sets[0], 0, 0, left), sets, nil, nil, nil)
	if s, us := le.Uint64(e.bytes(left, 8)), le.Uint64(e.bytes(left+8, 8)); s != 0 || us != 0 {
		t.Errorf("%d s %d us left of a timeout", s, us)
	}
	e.wantSets(e.call(abi.CallPselect6, 64, sets[0], 0, 0, e.timespec(0, 20_000_000), 0), sets, nil, nil, nil)
	if d := time.Since(start); d < 40*time.Millisecond {
		t.Errorf("40 ms took %v", d)
	}
	e.write(w, "x")
	left = e.timespec(998, 2_500_000) // Linux takes more than a second in microseconds
	if n := e.must(abi.CallSelect, 64, e.fdset(r), 0, 0, left); n != 1 {
		t.Errorf("select: %d", n)
	}
	if s, us := le.Uint64(e.bytes(left, 8)), le.Uint64(e.bytes(left+8, 8)); s < 900 || s > 1000 || us >= 1_000_000 {
		t.Errorf("%d s %d us left of 1000.5", s, us)
	}
	left = e.timespec(1000, 5)
	if n := e.must(abi.CallPselect6, 64, e.fdset(r), 0, 0, left, 0); n != 1 {
		t.Errorf("pselect6: %d", n)
	}
	if s := le.Uint64(e.bytes(left, 8)); s < 900 || s >= 1000 {
		t.Errorf("%d s left of 1000", s)
	}
	if n := e.must(abi.CallSelect, 64, e.fdset(r), 0, 0, e.timespec(1<<62, 1<<62)); n != 1 {
		t.Errorf("select with a huge timeout: %d", n)
	}
}

func TestSelect_RefusesBadArguments(t *testing.T) {
	e := newEnv(t)
	r, _ := e.pipe(0)
	set := e.fdset(r)
	for _, call := range []abi.Call{abi.CallSelect, abi.CallPselect6} {
		e.fails(abi.EINVAL, call, -1, set, 0, 0, 0, 0)
		e.fails(abi.EBADF, call, 64, 0, e.fdset(r, 60), 0, 0, 0)
		e.fails(abi.EFAULT, call, 64, gp(memSize-4), 0, 0, 0, 0)
		e.fails(abi.EFAULT, call, 64, 0, 0, gp(memSize-4), 0, 0)
		e.fails(abi.EINVAL, call, 64, set, 0, 0, e.timespec(-1, 0), 0)
		e.fails(abi.EINVAL, call, 64, set, 0, 0, e.timespec(0, -1), 0)
		e.fails(abi.EFAULT, call, 64, set, 0, 0, gp(memSize-15), 0)
	}
	if got := e.inSet(set); !slices.Equal(got, []int{r}) {
		t.Errorf("a failure has changed a set: %v", got)
	}
	// A grate's descriptor, and one that nobody has installed.
	for _, k := range []fdtables.Kind{fdtables.KindKernel, 9} {
		fd, errno := e.proc.Table().Open(k, 1<<40, false, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
		e.fails(abi.EBADF, abi.CallSelect, 64, e.fdset(int(fd)), 0, 0, 0)
		_ = e.proc.Table().Close(fd)
	}
	now := e.timespec(0, 0)
	mask := e.alloc(8)
	e.fails(abi.EFAULT, abi.CallPselect6, 64, set, 0, 0, now, gp(memSize-15))
	e.fails(abi.EINVAL, abi.CallPselect6, 64, set, 0, 0, now, e.timespec(int64(e.addr(mask)), 4))
	e.fails(abi.EFAULT, abi.CallPselect6, 64, set, 0, 0, now, e.timespec(int64(e.addr(memSize-4)), 8))
	for _, m := range []gp{e.timespec(int64(e.addr(mask)), 8), e.timespec(0, 4)} {
		if n := e.must(abi.CallPselect6, 64, set, 0, 0, now, m); n != 0 {
			t.Errorf("pselect6 with a mask: %d", n)
		}
	}
}

func TestSelect_KeepsWhatItWaitsForOpen(t *testing.T) {
	e := newEnv(t)
	r, w := e.pipe(0)
	set := e.fdset(r)
	done := e.background(abi.CallSelect, 64, set, 0, 0, 0)
	await(t, "the wait", e.cancel.asked)
	e.must(abi.CallClose, r)
	if n := e.write(w, "x"); n != 1 {
		t.Fatalf("write: %s: the reader is gone", show(n))
	}
	if n := await(t, "select", done); n != 1 {
		t.Fatalf("select: %s", show(n))
	}
	if n := e.write(w, "x"); n != abi.EPIPE.Result() {
		t.Fatalf("write: %s: something was left open", show(n))
	}
}
