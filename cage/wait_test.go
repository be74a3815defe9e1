package cage_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/cage"
)

// outcome is what a Wait answered.
type outcome struct {
	result cage.WaitResult
	err    error
}

// waiting is a Wait on a goroutine of its own.
type waiting struct {
	done   chan outcome
	cancel context.CancelCauseFunc
}

// startWait starts a Wait. It is for a synctest bubble.
func startWait(table *cage.Table, parent abi.CageID, sel cage.Select, opts cage.Options) waiting {
	ctx, cancel := context.WithCancelCause(context.Background())
	w := waiting{done: make(chan outcome, 1), cancel: cancel}
	go func() {
		result, err := table.Wait(ctx, parent, sel, opts)
		w.done <- outcome{result, err}
	}()
	return w
}

// blocked fails the test unless the wait has no answer when nothing else goes on.
func (w waiting) blocked(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case o := <-w.done:
		t.Fatalf("the wait answered %v, %v; want it blocked", o.result, o.err)
	default:
	}
}

// answered is the wait's answer, which must be there when nothing else goes on.
func (w waiting) answered(t *testing.T) (cage.WaitResult, error) {
	t.Helper()
	synctest.Wait()
	select {
	case o := <-w.done:
		return o.result, o.err
	default:
		t.Fatal("the wait is blocked")
		return cage.WaitResult{}, nil
	}
}

// gets fails the test unless the wait was answered with c.
func (w waiting) gets(t *testing.T, c *cage.Cage, status uint32) {
	t.Helper()
	got, err := w.answered(t)
	if want := (cage.WaitResult{Child: c.Handle(), Status: status}); err != nil || got != want {
		t.Fatalf("the wait answered %v, %v; want %v", got, err, want)
	}
}

func TestWait_TakesTheZombieThatIsThere(t *testing.T) {
	table := cage.New(cage.Config{})
	p := alloc(t, table, abi.CageInit)
	first, second, third := alloc(t, table, p.ID()), alloc(t, table, p.ID()), alloc(t, table, p.ID())
	must(t, table.Zombie(second, 2))
	must(t, table.Zombie(third, 3))
	must(t, table.Zombie(first, 1))
	// A wait that need not block does not look at its context.
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, want := range []struct {
		sel    cage.Select
		c      *cage.Cage
		status uint32
	}{{cage.OneChild(third.ID()), third, 3}, {cage.AnyChild(), second, 2}, {cage.AnyChild(), first, 1}} {
		for _, opts := range []cage.Options{{NoReap: true}, {NoReap: true, NoHang: true}, {}} {
			got, err := table.Wait(done, p.ID(), want.sel, opts)
			if err != nil || got != (cage.WaitResult{Child: want.c.Handle(), Status: want.status}) {
				t.Fatalf("Wait(%v, %v) = %v, %v; want cage %d", want.sel, opts, got, err, want.c.ID())
			}
			if reaped := table.Lookup(want.c.ID()) == nil; reaped == opts.NoReap {
				t.Fatalf("with %+v the zombie was reaped: %v", opts, reaped)
			}
		}
	}
	_, err := table.Wait(done, p.ID(), cage.AnyChild(), cage.Options{})
	wantErr(t, "a wait when all are reaped", err, cage.ErrNoChild)
	wantErr(t, "the same", err, abi.ECHILD)
	verify(t, table)
}

func TestWait_NoHangAnswersNothingWhileChildrenRun(t *testing.T) {
	table := cage.New(cage.Config{})
	p := alloc(t, table, abi.CageInit)
	c := alloc(t, table, p.ID())
	for _, sel := range []cage.Select{cage.AnyChild(), cage.OneChild(c.ID())} {
		got, err := table.Wait(t.Context(), p.ID(), sel, cage.Options{NoHang: true})
		if err != nil || got != (cage.WaitResult{}) {
			t.Fatalf("Wait(%v) = %v, %v; want nothing", sel, got, err)
		}
	}
}

func TestWait_KnowsOnlyOwnChildren(t *testing.T) {
	table := cage.New(cage.Config{})
	p, other := alloc(t, table, abi.CageInit), alloc(t, table, abi.CageInit)
	child := alloc(t, table, p.ID())
	grandchild, nephew := alloc(t, table, child.ID()), alloc(t, table, other.ID())
	must(t, table.Zombie(nephew, 0))
	gone := alloc(t, table, p.ID())
	must(t, table.Discard(gone))
	for _, id := range []abi.CageID{
		0, abi.CageInit, p.ID(), other.ID(), grandchild.ID(), nephew.ID(), gone.ID(), 500, 1 << 60,
	} {
		_, err := table.Wait(t.Context(), p.ID(), cage.OneChild(id), cage.Options{})
		wantErr(t, "a wait for what is no child", err, cage.ErrNoChild)
	}
	_, err := table.Wait(t.Context(), grandchild.ID(), cage.AnyChild(), cage.Options{NoHang: true})
	wantErr(t, "a wait of a childless cage", err, cage.ErrNoChild)
	for _, id := range []abi.CageID{0, gone.ID(), 501, 1 << 60} {
		_, err := table.Wait(t.Context(), id, cage.AnyChild(), cage.Options{})
		wantErr(t, "a wait of no cage", err, cage.ErrNoParent)
	}
}

func TestWait_TheHostWaitsAsInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := cage.New(cage.Config{})
		c := alloc(t, table, abi.CageInit)
		w := startWait(table, abi.CageInit, cage.AnyChild(), cage.Options{})
		w.blocked(t)
		must(t, table.Zombie(c, 9))
		w.gets(t, c, 9)
		wantErr(t, "Reap of what a wait took", table.Reap(c), cage.ErrState)

		c = alloc(t, table, abi.CageInit)
		w = startWait(table, abi.CageInit, cage.AnyChild(), cage.Options{NoReap: true})
		w.blocked(t)
		must(t, table.Zombie(c, 9))
		w.gets(t, c, 9)
		must(t, table.Reap(c))
	})
}

func TestWait_BlocksUntilItsChildEnds(t *testing.T) {
	for name, any := range map[string]bool{"any child": true, "one child": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := cage.New(cage.Config{})
				p := alloc(t, table, abi.CageInit)
				c, sibling := alloc(t, table, p.ID()), alloc(t, table, p.ID())
				sel := cage.OneChild(c.ID())
				if any {
					sel = cage.AnyChild()
				}
				w := startWait(table, p.ID(), sel, cage.Options{})
				w.blocked(t)
				if !any {
					must(t, table.Zombie(sibling, 1))
					w.blocked(t)
				}
				must(t, table.Zombie(c, 0x2a00))
				w.gets(t, c, 0x2a00)
				if c.State() != cage.Reaped {
					t.Fatalf("it is %s", c.State())
				}
				verify(t, table)
			})
		})
	}
}

func TestWait_OneOfManyGetsTheZombie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := cage.New(cage.Config{})
		p := alloc(t, table, abi.CageInit)
		c, sibling := alloc(t, table, p.ID()), alloc(t, table, p.ID())
		const n = 5
		var anyChild, one [n]waiting
		for i := range n {
			anyChild[i] = startWait(table, p.ID(), cage.AnyChild(), cage.Options{})
			one[i] = startWait(table, p.ID(), cage.OneChild(c.ID()), cage.Options{})
		}
		synctest.Wait()
		must(t, table.Zombie(c, 4))
		verify(t, table)
		won := 0
		for _, w := range one {
			// Those that can take no other go first, and the rest of them must not hang.
			switch got, err := w.answered(t); {
			case err == nil && got.Child == c.Handle() && got.Status == 4:
				won++
			case !errors.Is(err, cage.ErrNoChild):
				t.Fatalf("the wait answered %v, %v", got, err)
			}
		}
		if won != 1 {
			t.Fatalf("%d waits got the zombie, want 1", won)
		}
		for _, w := range anyChild {
			w.blocked(t)
		}
		must(t, table.Zombie(sibling, 5))
		for _, w := range anyChild {
			switch got, err := w.answered(t); {
			case err == nil && got.Child == sibling.Handle():
				won++
			case !errors.Is(err, cage.ErrNoChild):
				t.Fatalf("the wait answered %v, %v", got, err)
			}
		}
		if won != 2 {
			t.Fatalf("%d waits got the second zombie, want 1", won-1)
		}
		verify(t, table)
	})
}

func TestWait_NoReapIsToldWhoeverReaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := cage.New(cage.Config{})
		p := alloc(t, table, abi.CageInit)
		c := alloc(t, table, p.ID())
		alloc(t, table, p.ID())
		reaper := startWait(table, p.ID(), cage.AnyChild(), cage.Options{})
		synctest.Wait() // the reaper is there first, and must not keep it from those that come after
		lookers := []waiting{
			startWait(table, p.ID(), cage.AnyChild(), cage.Options{NoReap: true}),
			startWait(table, p.ID(), cage.OneChild(c.ID()), cage.Options{NoReap: true}),
			startWait(table, p.ID(), cage.AnyChild(), cage.Options{NoReap: true}),
		}
		synctest.Wait()
		verify(t, table)
		must(t, table.Zombie(c, 6))
		reaper.gets(t, c, 6)
		for _, w := range lookers {
			w.gets(t, c, 6)
		}
		if c.State() != cage.Reaped {
			t.Fatalf("it is %s", c.State())
		}
	})
}

func TestWait_NoReapLeavesTheZombie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := cage.New(cage.Config{})
		p := alloc(t, table, abi.CageInit)
		c := alloc(t, table, p.ID())
		w := startWait(table, p.ID(), cage.AnyChild(), cage.Options{NoReap: true})
		w.blocked(t)
		must(t, table.Zombie(c, 6))
		w.gets(t, c, 6)
		if c.State() != cage.Zombie {
			t.Fatalf("it is %s", c.State())
		}
		startWait(table, p.ID(), cage.AnyChild(), cage.Options{}).gets(t, c, 6)
	})
}

func TestWait_EndsWhenTheLastChildThatItCouldGetIsGone(t *testing.T) {
	for name, take := range map[string]func(*testing.T, *cage.Table, *cage.Cage, *cage.Cage){
		"taken by another wait": func(t *testing.T, table *cage.Table, p, c *cage.Cage) {
			other := startWait(table, p.ID(), cage.OneChild(c.ID()), cage.Options{})
			other.blocked(t)
			must(t, table.Zombie(c, 1))
			other.gets(t, c, 1)
		},
		"discarded":  func(t *testing.T, table *cage.Table, _, c *cage.Cage) { must(t, table.Discard(c)) },
		"reparented": func(t *testing.T, table *cage.Table, p, _ *cage.Cage) { must(t, table.Reparent(p)) },
		"orphaned by the end of its parent": func(t *testing.T, table *cage.Table, p, _ *cage.Cage) {
			must(t, table.Zombie(p, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := cage.New(cage.Config{})
				p := alloc(t, table, abi.CageInit)
				c := alloc(t, table, p.ID())
				ws := []waiting{startWait(table, p.ID(), cage.AnyChild(), cage.Options{})}
				if name != "taken by another wait" {
					// Such a wait would be the one that takes it, or is told.
					ws = append(ws,
						startWait(table, p.ID(), cage.OneChild(c.ID()), cage.Options{}),
						startWait(table, p.ID(), cage.OneChild(c.ID()), cage.Options{NoReap: true}),
						startWait(table, p.ID(), cage.AnyChild(), cage.Options{NoReap: true}))
				}
				synctest.Wait()
				take(t, table, p, c)
				for _, w := range ws {
					got, err := w.answered(t)
					wantErr(t, "the wait", err, cage.ErrNoChild)
					if got != (cage.WaitResult{}) {
						t.Fatalf("an error and %v", got)
					}
				}
				verify(t, table)
			})
		})
	}
}

func TestWait_EndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := cage.New(cage.Config{})
		p := alloc(t, table, abi.CageInit)
		c := alloc(t, table, p.ID())
		why := errors.New("the cage stops")
		stays := startWait(table, p.ID(), cage.AnyChild(), cage.Options{})
		synctest.Wait()
		for _, sel := range []cage.Select{cage.AnyChild(), cage.OneChild(c.ID())} {
			for _, opts := range []cage.Options{{}, {NoReap: true}} {
				w := startWait(table, p.ID(), sel, opts)
				w.blocked(t)
				w.cancel(why)
				_, err := w.answered(t)
				wantErr(t, "the wait", err, why)
				verify(t, table)
			}
		}
		stays.blocked(t)
		must(t, table.Zombie(c, 3))
		stays.gets(t, c, 3) // no wait that was withdrawn took it
	})
}

func TestZombie_WakesBeforeItCallsOnChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		called, goOn := make(chan struct{}), make(chan struct{})
		table := cage.New(cage.Config{OnChild: func(cage.Handle, cage.Handle, uint32) {
			close(called)
			<-goOn
		}})
		p := alloc(t, table, abi.CageInit)
		c := alloc(t, table, p.ID())
		w := startWait(table, p.ID(), cage.AnyChild(), cage.Options{})
		w.blocked(t)
		ended := make(chan error, 1)
		go func() { ended <- table.Zombie(c, 8) }()
		synctest.Wait()
		select {
		case <-called:
		default:
			t.Fatal("OnChild was not called")
		}
		w.gets(t, c, 8)               // while OnChild has not returned,
		alloc(t, table, abi.CageInit) // and without a lock
		close(goOn)
		must(t, <-ended)
	})
}

func TestWait_ReturnsWhenTheIdIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, onReap := range []func(*cage.Cage){nil, func(*cage.Cage) {}} {
			table := cage.New(cage.Config{MaxCages: 2, OnReap: onReap})
			p := alloc(t, table, abi.CageInit)
			for range 100 {
				c := alloc(t, table, p.ID())
				ended := make(chan error, 1)
				go func() { ended <- table.Zombie(c, 0) }()
				if _, err := table.Wait(t.Context(), p.ID(), cage.AnyChild(), cage.Options{}); err != nil {
					t.Fatal(err)
				}
				heir := alloc(t, table, p.ID()) // the limit has room
				if heir.ID() != c.ID() {
					t.Fatalf("id %d, want %d again", heir.ID(), c.ID())
				}
				must(t, table.Discard(heir))
				must(t, <-ended)
			}
		}
	})
}

func TestWait_AnswersInTheOrderOfAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := cage.New(cage.Config{})
		p := alloc(t, table, abi.CageInit)
		var children [4]*cage.Cage
		var ws [len(children)]waiting
		for i := range children {
			children[i] = alloc(t, table, p.ID())
		}
		for i := range ws {
			ws[i] = startWait(table, p.ID(), cage.AnyChild(), cage.Options{})
			synctest.Wait()
		}
		for i, c := range children {
			must(t, table.Zombie(c, uint32(i)))
			ws[i].gets(t, c, uint32(i)) // and nobody else, who is still needed for the next
		}
	})
}
