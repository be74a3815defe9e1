package fdtables_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// kernel gives out underfd numbers as a kernel does: the lowest that is free, hence the one that was just closed. So an
// underfd that is used after its close is soon another file's, and the test can see it.
type kernel struct {
	mu   sync.Mutex
	free []uint64 // guarded by mu
	next uint64   // guarded by mu
	// file is which file each number is, 0 if it is closed. Files are numbered from 1 on.
	file  [4096]atomic.Uint64
	files atomic.Uint64
	bad   atomic.Pointer[string] // the first thing that went wrong
}

func (k *kernel) fail(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	k.bad.CompareAndSwap(nil, &s)
}

func (k *kernel) open() uint64 {
	k.mu.Lock()
	n := k.next
	if last := len(k.free) - 1; last >= 0 {
		n, k.free = k.free[last], k.free[:last]
	} else {
		k.next++
	}
	k.mu.Unlock()
	if old := k.file[n].Swap(k.files.Add(1)); old != 0 {
		k.fail("underfd %d was given out while it was file %d", n, old)
	}
	return n
}

// close closes n, which must be open.
func (k *kernel) close(n uint64) {
	if k.file[n].Swap(0) == 0 {
		k.fail("underfd %d was closed twice", n)
	}
	k.mu.Lock()
	k.free = append(k.free, n)
	k.mu.Unlock()
}

// inUse checks that n is a file and stays the same until the answered function is called.
func (k *kernel) inUse(n uint64) func() {
	file := k.file[n].Load()
	if file == 0 {
		k.fail("underfd %d was handed out after it was closed", n)
	}
	return func() {
		if now := k.file[n].Load(); now != file {
			k.fail("underfd %d became file %d while it was in use as file %d", n, now, file)
		}
	}
}

func (k *kernel) openFiles() int {
	n := 0
	for i := range k.file {
		if k.file[i].Load() != 0 {
			n++
		}
	}
	return n
}

// world is what the hammer's goroutines share.
type world struct {
	k  kernel
	ts *fdtables.Tables
	// made counts the table references that calls have made, gone the handlers that ran: one for each in the end.
	made, gone atomic.Int64
	cages      atomic.Uint64
}

const hammerCages = 6

func newWorld(maxOpen uint64) *world {
	w := &world{}
	w.ts = fdtables.New(fdtables.Config{MaxOpen: maxOpen})
	w.ts.RegisterCloseHandlers(fdtables.KindKernel, fdtables.Handlers{
		Intermediate: func(e fdtables.Entry, left uint64) error {
			w.gone.Add(1)
			if left == 0 {
				w.k.fail("Intermediate of %+v with none left", e)
			}
			return nil
		},
		Last: func(e fdtables.Entry, left uint64) error {
			w.gone.Add(1)
			if left != 0 {
				w.k.fail("Last of %+v with %d left", e, left)
			}
			w.k.close(e.UnderFD)
			return nil
		},
	})
	return w
}

func (w *world) cage(r *rand.Rand) abi.CageID { return abi.CageID(2 + r.IntN(hammerCages)) }

// openFile opens a new file by one of the calls that can.
func (w *world) openFile(r *rand.Rand, t *fdtables.Table) {
	n := w.k.open()
	var errno abi.Errno
	switch r.IntN(3) {
	case 0:
		_, errno = t.Open(fdtables.KindKernel, n, r.IntN(2) == 0, 0)
	case 1:
		_, errno = t.OpenFrom(fdtables.FD(r.IntN(12)), fdtables.KindKernel, n, false, 0)
	case 2:
		errno = errnoOf(t.OpenAt(fdtables.FD(r.IntN(12)), fdtables.KindKernel, n, r.IntN(2) == 0, 0))
	}
	if errno != 0 {
		w.k.close(n) // it is still ours
		return
	}
	w.made.Add(1)
}

// io uses a descriptor as a read would. Sometimes it passes what it holds on to another cage, by its number.
func (w *world) io(r *rand.Rand, t *fdtables.Table, fd fdtables.FD) {
	ref, errno := t.Acquire(fd)
	if errno != 0 {
		return
	}
	same := w.k.inUse(ref.Entry().UnderFD)
	switch r.IntN(4) {
	case 0:
		_ = t.Close(fd)
	case 1:
		if to, err := w.ts.Table(w.cage(r)); err == nil {
			if _, errno := to.Open(fdtables.KindKernel, ref.Entry().UnderFD, false, 0); errno == 0 {
				w.made.Add(1)
			}
		}
	}
	same()
	ref.Release()
}

// fork makes a cage that nobody else knows, to count its descriptors, and ends it again.
func (w *world) fork(src abi.CageID) {
	dst := abi.CageID(w.cages.Add(1) + 1000)
	if err := w.ts.Fork(src, dst); err != nil {
		return
	}
	t, err := w.ts.Table(dst)
	if err != nil {
		w.k.fail("after Fork: %v", err)
		return
	}
	all := t.Snapshot()
	w.made.Add(int64(len(all)))
	for _, f := range all {
		w.k.inUse(f.Entry.UnderFD)() // the copy holds a reference: it must be open
	}
	if _, err := w.ts.Remove(dst); err != nil {
		w.k.fail("Remove after Fork: %v", err)
	}
}

func (w *world) step(r *rand.Rand) {
	cage, fd := w.cage(r), fdtables.FD(r.IntN(12))
	t, err := w.ts.Table(cage)
	if err != nil {
		_, _ = w.ts.Init(cage)
		return
	}
	switch n := r.IntN(100); {
	case n < 25:
		w.openFile(r, t)
	case n < 45:
		_ = t.Close(fd)
	case n < 70:
		w.io(r, t, fd)
	case n < 80:
		to := fdtables.FD(r.IntN(12))
		if to != fd && errnoOf(t.Dup2(fd, to, n%2 == 0)) == 0 {
			w.made.Add(1)
		}
	case n < 86:
		if _, errno := t.Dup(fd); errno == 0 {
			w.made.Add(1)
		}
	case n < 90:
		t.SetCloseOnExec(fd, n%2 == 0)
	case n < 93:
		t.CloseOnExecAll()
	case n < 97:
		w.fork(cage)
	case n < 98:
		_, _ = w.ts.Remove(cage)
	default:
		_, _ = t.Translate(fd)
		t.SetPerFDInfo(fd, uint64(n))
	}
}

func TestHammer_EveryReferenceIsClosedOnce(t *testing.T) {
	for _, maxOpen := range []uint64{0, 24} {
		t.Run(fmt.Sprintf("maxOpen=%d", maxOpen), func(t *testing.T) {
			w := newWorld(maxOpen)
			steps := 30000
			if testing.Short() {
				steps = 3000
			}
			var wg sync.WaitGroup
			for g := range uint64(8) {
				seed := rand.Uint64()
				t.Logf("goroutine %d: seed %d", g, seed)
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, g))
					for i := 0; i < steps && w.k.bad.Load() == nil; i++ {
						w.step(r)
					}
				})
			}
			wg.Wait()
			for _, cage := range w.ts.Cages() {
				if failed, err := w.ts.Remove(cage); failed != nil || err != nil {
					t.Errorf("Remove(%d) = %v, %v", cage, failed, err)
				}
			}
			if bad := w.k.bad.Load(); bad != nil {
				t.Fatal(*bad)
			}
			if made, gone := w.made.Load(), w.gone.Load(); made != gone || made == 0 {
				t.Errorf("%d references were made, %d handlers ran", made, gone)
			}
			if n := w.k.openFiles(); n != 0 {
				t.Errorf("%d files were never closed", n)
			}
			wantOpen(t, w.ts, 0)
			if maxOpen > 0 { // and no part of the limit was lost
				tab := newTable(t, w.ts, 2)
				for i := range maxOpen {
					open(t, tab, i, fdtables.FD(i))
				}
				fd, errno := tab.Open(pipeKind, 1000, false, 0)
				wantErrno(t, fd, errno, abi.ENFILE)
			}
		})
	}
}

// TestHammer_MaxOpenIsNeitherPassedNorMissed has as many openers as the limit allows, each with one underfd at most: no
// call may fail, though credit moves between shards all the time. One more than that, and some calls must fail.
func TestHammer_MaxOpenIsNeitherPassedNorMissed(t *testing.T) {
	const openers = 8
	for _, maxOpen := range []uint64{openers, openers - 1} {
		ts := fdtables.New(fdtables.Config{MaxOpen: maxOpen})
		var opened, refused atomic.Int64
		var most atomic.Int64
		steps := 5000
		if testing.Short() {
			steps = 500
		}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for g := range uint64(openers) {
			tab := newTable(t, ts, abi.CageID(g))
			wg.Go(func() {
				<-start
				for i := range uint64(steps) {
					fd, errno := tab.Open(pipeKind, (i*openers+g)*64, false, 0) // a shard of its own each time
					if errno != 0 {
						refused.Add(1)
						continue
					}
					n := opened.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					opened.Add(-1) // before the close: never more than are open
					_ = tab.Close(fd)
				}
			})
		}
		close(start)
		wg.Wait()
		if most.Load() > int64(maxOpen) {
			t.Errorf("%d were open at once, over the limit of %d", most.Load(), maxOpen)
		}
		if maxOpen == openers && refused.Load() > 0 {
			t.Errorf("%d calls were refused below the limit", refused.Load())
		}
	}
}

// torn answers what a snapshot of TestHammer_ChangesAreOneStepForReaders shows that never was, or "".
func torn(all []fdtables.FDEntry) string {
	if len(all) < 2 || all[0].FD != 0 || all[1].FD != 1 {
		return "fds 0 and 1 are not both open"
	}
	if d := all[0].Entry.UnderFD - all[1].Entry.UnderFD; d > 1 {
		return fmt.Sprintf("fd 0 is %d ahead of fd 1", d)
	}
	next := fdtables.FD(2) // they are opened one after the other, but closed together
	for _, f := range all {
		if f.Entry.CloseOnExec {
			if f.FD != next {
				return fmt.Sprintf("fd %d is open but not fd %d", f.FD, next)
			}
			next++
		}
	}
	return ""
}

// TestHammer_ChangesAreOneStepForReaders keeps changing a table whose invariants readers check: fd 0 is ahead of fd 1 by
// 0 or 1, fds 2, 3 and 4 are opened in this order and closed by exec, and fd 5 is made a duplicate of fd 0 again and
// again.
func TestHammer_ChangesAreOneStepForReaders(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	steps := uint64(20000)
	if testing.Short() {
		steps = 2000
	}
	var k kernel // for its fail
	set := func(fd fdtables.FD, i uint64, cloexec bool) {
		if err := tab.OpenAt(fd, pipeKind, i, cloexec, i); err != nil {
			k.fail("OpenAt: %v", err)
		}
	}
	dup := func() {
		if err := tab.Dup2(0, 5, false); err != nil {
			k.fail("Dup2: %v", err)
		}
	}
	set(0, 0, false)
	set(1, 0, false)
	dup()
	var done atomic.Bool
	goOn := func() bool { return !done.Load() && k.bad.Load() == nil }
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := abi.CageID(100); goOn(); i++ {
			if err := ts.Fork(2, i); err != nil {
				k.fail("%v", err)
				return
			}
			copied, err := ts.Table(i)
			if err != nil {
				k.fail("%v", err)
				return
			}
			if bad := torn(copied.Snapshot()); bad != "" {
				k.fail("in a fork: %s", bad)
			}
			_, _ = ts.Remove(i)
		}
	})
	wg.Go(func() {
		for goOn() {
			if bad := torn(tab.Snapshot()); bad != "" {
				k.fail("in a snapshot: %s", bad)
			}
		}
	})
	wg.Go(func() { // exec, seen without the lock: once fd 2 is closed, fd 4 of the same round is
		round := uint64(0)
		for goOn() {
			if e, errno := tab.Translate(2); errno == 0 {
				round = e.UnderFD
				continue
			}
			if e, errno := tab.Translate(4); errno == 0 && e.UnderFD == round {
				k.fail("exec closed fd 2 but not fd 4")
			}
		}
	})
	for _, fd := range []fdtables.FD{0, 5} {
		wg.Go(func() {
			last := uint64(0)
			for goOn() {
				e, errno := tab.Translate(fd)
				if errno != 0 || e.UnderFD != e.PerFDInfo || e.UnderFD < last {
					k.fail("Translate(%d) = %+v, %v after %d", fd, e, errno, last)
				}
				last = e.UnderFD
			}
		})
	}
	for i := uint64(1); i <= steps && k.bad.Load() == nil; i++ {
		set(0, i, false)
		set(1, i, false)
		dup()
		for fd := fdtables.FD(2); fd < 5; fd++ {
			set(fd, i, true)
		}
		tab.CloseOnExecAll()
		if i%(steps/6) == 0 { // grow, with readers in the old array
			set(fdtables.FD(16<<(i/(steps/6)-1)), 1<<60, false)
		}
	}
	done.Store(true)
	wg.Wait()
	if bad := k.bad.Load(); bad != nil {
		t.Fatal(*bad)
	}
}

// TestHammer_LifecyclesOfOneCage has goroutines that make, fork and remove the same cages.
func TestHammer_LifecyclesOfOneCage(t *testing.T) {
	w := newWorld(0)
	var wg sync.WaitGroup
	var inits, forks, removes atomic.Int64
	for g := range uint64(6) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), g))
			for range 3000 {
				a, b := abi.CageID(2+r.IntN(2)), abi.CageID(2+r.IntN(2))
				switch r.IntN(4) {
				case 0:
					if _, err := w.ts.Init(a); err == nil {
						inits.Add(1)
					}
				case 1:
					if err := w.ts.Fork(a, b); err == nil {
						forks.Add(1)
					}
				case 2:
					if _, err := w.ts.Remove(a); err == nil {
						removes.Add(1)
					}
				case 3:
					if t, err := w.ts.Table(a); err == nil {
						w.openFile(r, t)
					}
				}
			}
		})
	}
	wg.Wait()
	left := len(w.ts.Cages())
	for _, cage := range w.ts.Cages() {
		_, _ = w.ts.Remove(cage)
	}
	for cage := range abi.CageID(2) {
		newTable(t, w.ts, cage+2) // no half-made table is left
	}
	if made := inits.Load() + forks.Load(); made != removes.Load()+int64(left) {
		t.Errorf("%d tables were made, %d removed, %d left", made, removes.Load(), left)
	}
	if bad := w.k.bad.Load(); bad != nil {
		t.Error(*bad)
	}
	if n := w.k.openFiles(); n != 0 {
		t.Errorf("%d files were never closed", n)
	}
	wantOpen(t, w.ts, 0)
}
