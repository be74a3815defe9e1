package threei_test

import (
	"context"
	"errors"
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
	memSize = 1 << 20
	// patience is how long a test waits for what must happen.
	patience = 20 * time.Second
)

var bg = context.Background()

// world is a System whose cages are the test's own: no guest runs, and a grate is a Go function.
type world struct {
	*threei.System
	tb testing.TB
	// serve is what every grate does; nil answers with the function index.
	serve func(ctx context.Context, t *threei.Thread, port uint64, fn uint32, call abi.Call, a *threei.Args) int64
	// children says who is whose descendant.
	children map[[2]abi.CageID]bool
	cages    map[abi.CageID]*cage
}

// cage is a cage of the test's.
type cage struct {
	w     *world
	id    abi.CageID
	exit  *exitcoord.Exit
	mem   guestmem.Memory
	bytes []byte
	freed atomic.Bool // the memory was released
	token *canceler
}

// canceler is a cancel token.
type canceler struct {
	fd   int
	exit *exitcoord.Exit
}

func (c *canceler) CancelFD() (int, error) { return c.fd, nil }
func (c *canceler) Stopping() bool         { return c.exit.Phase() != exitcoord.Running }

// newWorld is a system with the hooks of the test. Its end is checked: nothing may be left of any cage.
func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{System: threei.NewSystem(), tb: tb, children: map[[2]abi.CageID]bool{}, cages: map[abi.CageID]*cage{}}
	w.Configure(w.config())
	tb.Cleanup(func() {
		for _, c := range w.cages {
			c.kill()
		}
		if s := w.Stats(); s.Rows != 0 || s.Late != 0 {
			tb.Errorf("left at the end: %+v", s)
		}
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	return w
}

func (w *world) config() threei.Config {
	return threei.Config{
		CallGrate: func(ctx context.Context, t *threei.Thread, _ abi.CageID, entry uint64, call abi.Call, a *threei.Args) int64 {
			port, fn := entry>>24&(1<<38-1), uint32(entry&(1<<24-1))
			if w.serve == nil {
				return int64(fn)
			}
			return w.serve(ctx, t, port, fn, call, a)
		},
		MayInterpose: func(by, target abi.CageID) bool { return w.children[[2]abi.CageID{by, target}] },
	}
}

// cage adds a cage without memory.
func (w *world) cage(id abi.CageID) *cage { return w.add(id, nil) }

// withMemory adds a cage with memory between two inaccessible pages.
func (w *world) withMemory(id abi.CageID) *cage {
	w.tb.Helper()
	page := unix.Getpagesize()
	all, err := unix.Mmap(-1, 0, memSize+2*page, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		w.tb.Fatal(err)
	}
	b := all[page : page+memSize : page+memSize]
	if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() {
		if err := unix.Munmap(all); err != nil {
			w.tb.Error(err)
		}
	})
	return w.add(id, b)
}

func (w *world) add(id abi.CageID, b []byte) *cage {
	w.tb.Helper()
	c := &cage{w: w, id: id, bytes: b, token: &canceler{fd: -1}}
	c.exit = exitcoord.New(exitcoord.Config{Cage: id, Steps: c.steps()})
	c.token.exit = c.exit
	cfg := threei.CageConfig{Cancel: c.token, Native: c}
	if b != nil {
		c.mem = guestmem.New(uintptr(guestmem.AddrOf(b)), uint64(len(b)))
		cfg.Memory = func() guestmem.Memory {
			if c.freed.Load() {
				panic("the memory of a cage that is gone was asked for")
			}
			return c.mem
		}
	}
	if err := w.AddCage(id, c.exit, cfg); err != nil {
		w.tb.Fatal(err)
	}
	w.cages[id] = c
	return c
}

// grate adds a cage that is a grate, with its id as the port's index.
func (w *world) grate(id abi.CageID) *cage {
	w.tb.Helper()
	c := w.cage(id)
	w.setPort(id)
	return c
}

func (w *world) setPort(id abi.CageID) {
	w.tb.Helper()
	if err := w.SetPort(id, port(id)); err != nil {
		w.tb.Fatal(err)
	}
}

// port is the port of the grate with the id.
func port(id abi.CageID) uint64 { return 1<<16 | uint64(id) }

// steps are those of the exit that concern 3i, in their order.
func (c *cage) steps() []exitcoord.Step {
	return []exitcoord.Step{
		{Name: "notify", Run: func(ctx context.Context) error { return c.w.NotifyGrates(ctx, c.id, c.exit) }},
		{Name: "handlers", Run: func(context.Context) error { c.w.DropHandlers(c.id, c.exit); return nil }},
		{Name: "memory", Run: func(context.Context) error {
			return c.w.ReleaseMemory(c.id, c.exit, func() error { c.freed.Store(true); return nil })
		}},
	}
}

// stop makes the cage stop, and no more.
func (c *cage) stop() {
	c.w.HarshCageExit(c.exit, exitcoord.Cause{Kind: exitcoord.HostKill, Signal: 9})
}

// kill ends the cage wholly, if nobody has.
func (c *cage) kill() {
	c.w.tb.Helper()
	c.stop()
	if err := c.exit.Quiescent(nil); err != nil && !errors.Is(err, exitcoord.ErrPhase) {
		c.w.tb.Error(err)
	}
	if c.exit.Phase() == exitcoord.Zombie {
		c.w.RemoveCage(c.id, c.exit)
		_ = c.exit.Reap()
	}
}

// thread is a new thread of the cage.
func (c *cage) thread() *threei.Thread {
	return &threei.Thread{Cage: c.id, TID: 1, Memory: c.mem, Native: c, Cancel: c.token}
}

// at is the host address of the cage's memory at an offset.
func (c *cage) at(off uint64) uint64 { return uint64(c.mem.Base()) + off }

// register registers as the host, and must succeed.
func (w *world) register(target abi.CageID, call abi.Call, grate abi.CageID, fn uint32) {
	w.tb.Helper()
	if err := w.RegisterHandler(bg, target, call, grate, fn); err != nil {
		w.tb.Fatal(err)
	}
}

// child says that target is a descendant of by.
func (w *world) child(by, target abi.CageID) { w.children[[2]abi.CageID{by, target}] = true }

// native makes the call answer what of the thread's cage it acts on.
func (w *world) native(call abi.Call, result int64) {
	w.SetNative(call, func(*threei.Thread, *threei.Args) int64 { return result })
}
