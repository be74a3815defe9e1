package threei_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	hammerSlots   = 12
	hammerThreads = 16
	hammerMemory  = 4096
	// guarded is a call that some grate serves for every cage, from before its first call until its end: whoever that
	// is, and whatever becomes of it, the native function must not be reached.
	guarded = abi.CallOpenat
	// free is one that comes and goes; deep one with which grates act on each other; peek reads the caller's memory.
	free, deep, peek = abi.CallRead, abi.CallWrite, abi.CallPread64
	maxDepth         = 3
)

// hammered is a runtime of cages that are born and die at random, each of which is a grate and calls others.
type hammered struct {
	*threei.System
	t      *testing.T
	slots  [hammerSlots]slot
	memory []byte // of all cages; not Go's, since guests may race for theirs as they like
	// bornMu is held for writing while a cage exists that has no guard yet, which nobody may copy from.
	bornMu sync.RWMutex
	calls  atomic.Int64
	deaths atomic.Int64
	served atomic.Int64
	failed atomic.Int64 // calls of grates that were gone
}

// slot is the cages that have one id, one after the other.
type slot struct {
	// gateMu is what the shim has: a caller or a worker inside has it for reading, and who has it for writing knows the cage
	// to be quiescent.
	gateMu     sync.RWMutex
	now        *life  // guarded by gateMu
	generation uint64 // guarded by gateMu
}

// life is one cage of the hammer.
type life struct {
	id    abi.CageID
	port  uint64
	exit  *exitcoord.Exit
	mem   guestmem.Memory
	freed atomic.Bool
}

func (l *life) CancelFD() (int, error) { return -1, os.ErrInvalid }
func (l *life) Stopping() bool         { return l.exit.Phase() != exitcoord.Running }

// birth makes the next cage of a slot. The caller has the gate for writing.
func (h *hammered) birth(i int) {
	s := &h.slots[i]
	s.generation++
	l := &life{id: abi.CageID(10 + i), port: s.generation<<16 | uint64(i)}
	l.mem = guestmem.New(uintptr(guestmem.AddrOf(h.memory))+uintptr(i)*hammerMemory, hammerMemory)
	l.exit = exitcoord.New(exitcoord.Config{Cage: l.id, Steps: []exitcoord.Step{
		{Name: "notify", Run: func(ctx context.Context) error { return h.NotifyGrates(ctx, l.id, l.exit) }},
		{Name: "handlers", Run: func(context.Context) error { h.DropHandlers(l.id, l.exit); return nil }},
		{Name: "memory", Run: func(context.Context) error {
			return h.ReleaseMemory(l.id, l.exit, func() error {
				if l.freed.Swap(true) {
					h.t.Error("memory was released twice")
				}
				return nil
			})
		}},
	}})
	cfg := threei.CageConfig{Native: l, Cancel: l, Memory: func() guestmem.Memory {
		if l.freed.Load() {
			h.t.Error("the memory of a cage was asked for after its release")
		}
		return l.mem
	}}
	h.bornMu.Lock()
	defer h.bornMu.Unlock()
	if err := errors.Join(h.AddCage(l.id, l.exit, cfg), h.SetPort(l.id, l.port)); err != nil {
		h.t.Error(err)
	}
	// As a runtime does it: the guard is there before the cage is. Another's may come in its place.
	if err := h.RegisterHandler(bg, l.id, guarded, l.id, 1); err != nil {
		h.t.Error(err)
	}
	s.now = l
}

// death ends the cage of a slot, and the next one is born.
func (h *hammered) death(i int) {
	s := &h.slots[i]
	s.gateMu.RLock()
	l := s.now
	s.gateMu.RUnlock()
	if !h.HarshCageExit(l.exit, exitcoord.Cause{Kind: exitcoord.HostKill, Signal: 9}) {
		return // another one does it
	}
	s.gateMu.Lock() // everything inside leaves
	defer s.gateMu.Unlock()
	if err := l.exit.Quiescent(nil); err != nil {
		h.t.Error(err)
	}
	h.RemoveCage(l.id, l.exit)
	if err := l.exit.Reap(); err != nil {
		h.t.Error(err)
	}
	h.deaths.Add(1)
	h.birth(i)
}

// enter is a new thread of the cage in the slot, which leaves by leave; nil if the cage takes none just now.
func (h *hammered) enter(i int, caller *threei.Thread) (t *threei.Thread, leave func()) {
	s := &h.slots[i]
	if !s.gateMu.TryRLock() {
		return nil, nil
	}
	if s.now.Stopping() {
		s.gateMu.RUnlock()
		return nil, nil
	}
	return &threei.Thread{
		Cage: s.now.id, TID: 1, Memory: s.now.mem, Cancel: s.now, Native: s.now, Caller: caller,
	}, s.gateMu.RUnlock
}

// serve is the shim: it has the grate of an entry serve the call, with a worker that does something of its own first.
func (h *hammered) serve(
	_ context.Context, caller *threei.Thread, _ abi.CageID, entry uint64, call abi.Call, a *threei.Args,
) int64 {
	port := entry >> 24 & (1<<38 - 1)
	depth := 0
	for t := caller; t != nil; t = t.Caller {
		depth++
	}
	if call == abi.CallHarshCageExit || depth >= maxDepth {
		h.served.Add(1)
		return 0
	}
	if caller.TID == 0 {
		caller = nil // the host's
	}
	t, leave := h.enter(int(port&0xffff), caller)
	if t == nil {
		h.failed.Add(1)
		return esrch
	}
	defer leave()
	if t.Native.(*life).port != port {
		h.failed.Add(1)
		return esrch // the port's cage is gone, and another one has the slot
	}
	h.served.Add(1)
	from := t.Cage
	if caller != nil {
		from = caller.Cage
	}
	h.work(t, from, rand.New(rand.NewPCG(a.Val[4], uint64(h.served.Load()))))
	return 0
}

// hammerArgs are the arguments of a call, with a seed for what comes of it.
func hammerArgs(rnd *rand.Rand, addr uint64, owner abi.CageID) *threei.Args {
	a := &threei.Args{}
	a.Val[0], a.Cage[0], a.Val[1], a.Val[4] = addr, owner, 64, rnd.Uint64()
	return a
}

// work is one thing that a guest may do; from is the cage that it serves, or its own.
func (h *hammered) work(t *threei.Thread, from abi.CageID, rnd *rand.Rand) {
	own := uint64(t.Memory.Base())
	h.calls.Add(1)
	switch rnd.IntN(8) {
	case 0:
		h.Syscall(t, guarded, hammerArgs(rnd, own, t.Cage))
	case 1:
		h.Syscall(t, free, hammerArgs(rnd, own, t.Cage))
	case 2:
		h.SyscallOn(t, from, deep, hammerArgs(rnd, own, t.Cage))
	case 3: // read the memory of the one that it serves, or of anybody
		id := from
		if rnd.IntN(3) == 0 {
			id = abi.CageID(10 + rnd.IntN(hammerSlots))
		}
		h.SyscallOn(t, id, peek, hammerArgs(rnd, own, id))
	case 4:
		d := threei.Data{Src: own, SrcCage: t.Cage, Dst: own + 64, DstCage: from, Len: 64}
		if c := t.Caller; c != nil {
			d.Dst = uint64(c.Memory.Base())
		}
		h.Syscall(t, abi.CallCopyDataBetweenCages, &threei.Args{
			Val: [6]uint64{d.Src, d.Dst, d.Len}, Cage: [6]abi.CageID{d.SrcCage, d.DstCage},
		})
	case 5: // register as a guest
		target := abi.CageID(10 + rnd.IntN(hammerSlots))
		h.Syscall(t, abi.CallRegisterHandler, &threei.Args{
			Val: [6]uint64{uint64(target), 0, 2}, Cage: [6]abi.CageID{abi.CageID(free), t.Cage},
		})
	case 6:
		if h.bornMu.TryRLock() {
			h.Syscall(t, abi.CallCopyHandlerTableToCage, &threei.Args{
				Val: [6]uint64{uint64(10 + rnd.IntN(hammerSlots))}, Cage: [6]abi.CageID{abi.CageID(10 + rnd.IntN(hammerSlots))},
			})
			h.bornMu.RUnlock()
		}
	case 7:
		h.Syscall(t, deep, hammerArgs(rnd, own, t.Cage))
	}
}

// manage is one thing that a host may do.
func (h *hammered) manage(rnd *rand.Rand) {
	id := func() abi.CageID { return abi.CageID(10 + rnd.IntN(hammerSlots)) }
	var err error
	switch rnd.IntN(12) {
	case 0, 1:
		err = h.RegisterHandler(bg, id(), guarded, id(), uint32(rnd.IntN(9)))
	case 2, 3:
		err = h.RegisterHandler(bg, id(), []abi.Call{free, deep, peek, abi.CallHarshCageExit}[rnd.IntN(4)], id(), 1)
	case 4, 5:
		err = h.RegisterHandler(bg, id(), []abi.Call{free, deep, peek}[rnd.IntN(3)], abi.CageDeregister, 0)
	case 6, 7:
		h.bornMu.RLock()
		err = h.CopyHandlerTable(bg, id(), id())
		h.bornMu.RUnlock()
	case 8:
		err = h.RegisterAll(bg, id(), id(), 3)
	case 9:
		ctx, cancel := context.WithTimeout(bg, time.Minute)
		_, err = h.MakeSyscall(ctx, id(), id(), deep, hammerArgs(rnd, 0, 0))
		cancel()
	case 10:
		h.death(rnd.IntN(hammerSlots))
	case 11:
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if e := h.RegisterHandler(ctx, id(), free, id(), 1); !errors.Is(e, context.Canceled) {
			h.t.Errorf("with a context that is over: %v", e)
		}
	}
	switch {
	case err == nil, errors.Is(err, threei.ErrStopping), errors.Is(err, threei.ErrNoCage), errors.Is(err, threei.ErrNoHandlers),
		errors.Is(err, threei.ErrNoGrate): // one that is being born
	default:
		h.t.Errorf("as the host: %v", err)
	}
}

// TestHammer registers, copies, deregisters, calls and kills at random, all at once: every call returns, none that is
// guarded reaches native, memory is there as long as somebody uses it and no longer, and nothing is left.
func TestHammer(t *testing.T) {
	d := 2 * time.Second
	if s := os.Getenv("LINDBRIDGE_HAMMER"); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	memory, err := unix.Mmap(-1, 0, hammerSlots*hammerMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	h := &hammered{System: threei.NewSystem(), t: t, memory: memory}
	h.Configure(threei.Config{
		CallGrate:    h.serve,
		MayInterpose: func(by, target abi.CageID) bool { return by < target },
	})
	h.SetNative(guarded, func(th *threei.Thread, _ *threei.Args) int64 {
		t.Errorf("a guarded call of cage %d reached native", th.Cage)
		return 0
	})
	nothing := func(*threei.Thread, *threei.Args) int64 { return 0 }
	h.SetNative(free, nothing)
	h.SetNative(deep, nothing)
	h.SetNative(peek, func(th *threei.Thread, a *threei.Args) int64 {
		acts := th.Native.(*life)
		if acts.id != th.Acting() || acts.freed.Load() {
			t.Errorf("a call on cage %d acts on cage %d, which was released: %v", th.Acting(), acts.id, acts.freed.Load())
		}
		m := acts.mem
		b, e := th.Resolve(uint64(m.Base())+8, a.Val[1], acts.id)
		if e == 0 && len(b) != 64 {
			t.Errorf("%d bytes", len(b))
		}
		if acts.freed.Load() {
			t.Error("memory was released while a call used it")
		}
		return e.Result()
	})
	for i := range h.slots {
		h.slots[i].gateMu.Lock()
		h.birth(i)
		h.slots[i].gateMu.Unlock()
	}
	ctx, cancel := context.WithTimeout(bg, d)
	defer cancel()
	var all sync.WaitGroup
	for g := range hammerThreads {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), uint64(time.Now().UnixNano())))
			for ctx.Err() == nil {
				if rnd.IntN(4) == 0 {
					h.manage(rnd)
					continue
				}
				i := rnd.IntN(hammerSlots)
				if th, leave := h.enter(i, nil); th != nil {
					h.work(th, th.Cage, rnd)
					leave()
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		all.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(d + patience):
		stacks := make([]byte, 1<<20)
		t.Fatalf("a call does not return:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	if err := h.WaitLate(bg); err != nil {
		t.Error(err)
	}
	if err := h.CheckIndex(); err != nil {
		t.Error(err)
	}
	for i := range h.slots {
		l := h.slots[i].now
		if n := h.Uses(l.id); n != 0 {
			t.Errorf("cage %d has %d users at the end", l.id, n)
		}
		h.HarshCageExit(l.exit, exitcoord.Cause{Kind: exitcoord.RuntimeClose})
		if err := l.exit.Quiescent(nil); err != nil {
			t.Error(err)
		}
		h.RemoveCage(l.id, l.exit)
		if !l.freed.Load() {
			t.Errorf("the memory of cage %d was not released", l.id)
		}
	}
	if s := h.Stats(); s.Rows != 0 || s.Late != 0 || s.FreeRows > 64 {
		t.Errorf("at the end: %+v", s)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d calls, %d served by grates, %d of grates that were gone, %d deaths",
		h.calls.Load(), h.served.Load(), h.failed.Load(), h.deaths.Load())
	if h.served.Load() == 0 || h.failed.Load() == 0 || h.deaths.Load() == 0 {
		t.Error("too little happened")
	}
}
