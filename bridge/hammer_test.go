package bridge_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

// TestHammer_EveryMethodAtOnce uses one domain from many goroutines, while others stop and close it. Whatever the
// order, each call does its work or says why not, the domain becomes quiescent once, and its end is told of each
// thread.
func TestHammer_EveryMethodAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		open func(testing.TB, *host) (*bridge.Engine, *bridge.Module)
	}{
		{"fake", func(tb testing.TB, h *host) (*bridge.Engine, *bridge.Module) {
			e := openFake(tb, h)
			return e, load(tb, e, "import host block", "memory 1",
				"main:", "call 9 1", "block", "thread:", "call 9 1", "block")
		}},
		{"shim", func(tb testing.TB, h *host) (*bridge.Engine, *bridge.Module) {
			e := openShim(tb, h, bridge.Import{Module: "host", Name: "block", ID: 9})
			return e, loadWat(tb, e, threadsWat)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(func(c *bridge.Call) bridge.Verdict {
				if fd, err := c.Domain().CancelFD(); err != nil || poll(fd) != nil {
					return bridge.TrapThread
				}
				return bridge.Continue
			})
			e, m := tt.open(t, h)
			for range 60 {
				hammer(t, h, m)
			}
			stats, err := e.Stats()
			must(t, err)
			equal(t, "domains", stats.Domains, 0)
		})
	}
}

func hammer(t *testing.T, h *host, m *bridge.Module) {
	t.Helper()
	d := newDomain(t, m, bridge.DomainConfig{User: t.Name(), MaxThreads: 50})
	must(t, d.Start("_start"))
	// What may be said of a domain that others stop and close meanwhile.
	fine := func(err error) bool {
		return err == nil || errors.Is(err, bridge.ErrClosed) || errors.Is(err, bridge.ErrHandle) ||
			errors.Is(err, bridge.ErrBusy) || errors.Is(err, bridge.ErrLimit)
	}
	methods := []func() error{
		func() error { _, err := d.SpawnThread(rand.Uint32N(3)); return err },
		func() error { _, err := d.SpawnThread(1); return err },
		func() error { _, err := d.Threads(); return err },
		func() error { _, err := d.Memory(); return err },
		func() error { _, err := d.CancelFD(); return err },
		func() error { _, err := m.Imports(); return err },
		func() error { return d.Start("_start") },
		d.Close,
	}
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			<-begin
			for range 20 {
				if err := methods[rand.IntN(len(methods))](); !fine(err) {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			<-begin
			for range rand.IntN(20) {
				if _, err := d.Threads(); !fine(err) {
					t.Error(err)
				}
			}
			if err := d.Stop(); !fine(err) {
				t.Error(err)
			}
		})
	}
	close(begin)
	wg.Wait()
	r := h.quiet(t)
	must(t, d.Close())
	equal(t, "reports", len(h.quiescent), 0)
	// Each thread has ended by itself, which was told before the report, or was stopped, as the report tells.
	told := uint64(len(h.ends))
	for range told {
		h.end(t)
	}
	for _, s := range r.Threads {
		if s.Outcome == bridge.EndStopped {
			told++
		}
	}
	equal(t, "threads told of", told, r.ThreadsTotal)
}
