package threei

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
	"github.com/lindbridge/lindbridge/internal/release"
)

// This file implements the memory of the handler table: mapping it, giving rows out and taking them back, and reading and
// writing one row. What the rows say, and who may change it, is in registry.go.
//
// Addresses are kept as numbers, never as pointers: what they lead to is not Go's.

// rowsPerMap is how many rows are mapped at a time: the least number that fills whole pages of 4 KiB.
const rowsPerMap = 64

// table is the memory of the rows of one System. The zero table has none.
type table struct {
	// dir is the directory's address, 0 until open. It is set once, and is 0 again from close on.
	dir atomic.Uintptr

	mu   lockcheck.Mutex[tableLock]
	free []uintptr // rows that no cage has, all zero but for their versions; guarded by mu
	used int       // rows that a cage has; guarded by mu
	maps [][]byte  // every mapping; guarded by mu
}

// open maps the directory, unless that was done.
func (t *table) open() error {
	if t.dir.Load() != 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dir.Load() != 0 {
		return nil
	}
	addr, err := t.mapLocked(int(directorySize))
	if err != nil {
		return err
	}
	t.dir.Store(addr)
	return nil
}

// mapLocked maps n zeroed bytes, which cost no memory until they are written to.
func (t *table) mapLocked(n int) (uintptr, error) {
	t.mu.AssertHeld()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return 0, fmt.Errorf("map %d bytes of the handler table: %w", n, err)
	}
	// Little of it is used, here and there: no huge page is to come with a word. A kernel without them refuses.
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	t.maps = append(t.maps, b)
	return uintptr(guestmem.AddrOf(b)), nil
}

// close unmaps everything.
//
// Preconditions:
// Nobody reads the table any more, the shim included.
func (t *table) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dir.Store(0)
	var errs []error
	for _, b := range t.maps {
		errs = append(errs, unix.Munmap(b))
	}
	t.maps, t.free, t.used = nil, nil, 0
	return errors.Join(errs...)
}

// take is a row for a cage: every call of it native.
func (t *table) take() (uintptr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) == 0 {
		base, err := t.mapLocked(int(rowsPerMap * rowSize))
		if err != nil {
			return 0, err
		}
		for i := rowsPerMap - 1; i >= 0; i-- { // so that they are given out in ascending order
			t.free = append(t.free, base+uintptr(i)*rowSize)
		}
	}
	addr := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.used++
	return addr, nil
}

// give takes a row back, and the directory's word of its cage with it.
//
// Preconditions:
// The cage is quiescent: what may still read the row are readers in Go, which look at the word and the version again.
func (t *table) give(id abi.CageID, addr uintptr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.maps == nil {
		return // closed
	}
	directoryAt(t.dir.Load())[id].Store(0)
	rowAt(addr).clear()
	t.free = append(t.free, addr)
	t.used--
}

// publish makes a row the cage's.
func (t *table) publish(id abi.CageID, addr uintptr) {
	directoryAt(t.dir.Load())[id].Store(uint64(addr))
}

// lookup is what serves the call of the cage: 0 for the native function. It takes no lock, makes no call and does not
// allocate. It repeats itself only when the whole row was replaced or given back between its loads, which takes hundreds
// of times as long as they do: so it is wait-free in practice, and lock-free whatever the writers do.
//
// Preconditions:
// call < abi.MaxCall.
func (t *table) lookup(id abi.CageID, call abi.Call) entry {
	dir := t.dir.Load()
	if dir == 0 || id >= maxCages {
		return 0
	}
	word := &directoryAt(dir)[id]
	for {
		addr := word.Load()
		if addr == 0 {
			return 0
		}
		r := rowAt(uintptr(addr))
		v := r.version.Load()
		e := r.halves[v&1][call].Load()
		// The version says that e was in the half that counts, the word that the row was this cage's. In this order: a row
		// that is given back gets another version before it can be this cage's again.
		if word.Load() == addr && r.version.Load() == v {
			return entry(e)
		}
	}
}

// active is the half that counts. The caller holds the lock of the row's cage, as for all that follows.
func (r *row) active() *half { return &r.halves[r.version.Load()&1] }

// at is what serves the call.
func (r *row) at(call abi.Call) entry { return entry(r.active()[call].Load()) }

// set makes e serve the call: one step for every reader.
func (r *row) set(call abi.Call, e entry) { release.Uint64(&r.active()[call], uint64(e)) }

// replace makes each call be served by what fill says, which may look at the row as it is: one step for every reader.
func (r *row) replace(fill func(call abi.Call) entry) {
	other := &r.halves[(r.version.Load()+1)&1]
	for i := range other {
		// Most words are 0 and stay so: who only reads makes no memory of them.
		if e := uint64(fill(abi.Call(i))); other[i].Load() != e {
			release.Uint64(&other[i], e)
		}
	}
	r.version.Add(1)
}

// clear makes every call native, in both halves, and the version another.
func (r *row) clear() {
	for h := range r.halves {
		for i := range r.halves[h] {
			if r.halves[h][i].Load() != 0 {
				release.Uint64(&r.halves[h][i], 0)
			}
		}
	}
	r.version.Add(2) // must follow: see table.lookup
}
