package cage_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/cage"
)

// hammerSize is how often a hammer test does its thing.
func hammerSize(full int) int {
	if testing.Short() {
		return full / 10
	}
	return full
}

func TestHammer_EachZombieIsReapedByOneWait(t *testing.T) {
	const waiters, enders = 6, 4
	children := hammerSize(5000)
	table := cage.New(cage.Config{MaxCages: 64})
	p := alloc(t, table, abi.CageInit)
	keeper := alloc(t, table, p.ID()) // as long as it runs a wait for any child does not fail

	var cancels [waiters]atomic.Pointer[context.CancelFunc] // of the wait that each is in
	var reaped sync.Map                                     // Handle -> nothing
	var count, withdrawn atomic.Int64
	var enderGroup, waiterGroup sync.WaitGroup
	room := make(chan struct{}, 4) // a token for each child that is not reaped: so few that waiters do sleep
	current := make(chan abi.CageID, 1)

	// Each waiter's first wait is withdrawn before there is any child to find: whatever the scheduler does, each has slept once.
	asleep, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer end()
	for range waiters {
		waiterGroup.Go(func() {
			if _, err := table.Wait(asleep, p.ID(), cage.AnyChild(), cage.Options{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a wait without a zombie: %v; want the context's end", err)
			}
		})
	}
	waiterGroup.Wait()

	start := make(chan struct{})
	for i := range waiters {
		waiterGroup.Go(func() {
			<-start
			for {
				ctx, cancel := context.WithCancel(context.Background())
				cancels[i].Store(&cancel)
				sel, opts := cage.AnyChild(), cage.Options{}
				switch {
				case i == 0:
					opts.NoReap = true
				case i == 1: // for a child that others wait for too
					select {
					case id := <-current:
						sel = cage.OneChild(id)
					default:
					}
				}
				got, err := table.Wait(ctx, p.ID(), sel, opts)
				cancel()
				switch {
				case errors.Is(err, context.Canceled):
					withdrawn.Add(1)
				case errors.Is(err, cage.ErrNoChild):
					if sel == cage.AnyChild() {
						return
					}
				case err != nil:
					t.Error(err)
					return
				case opts.NoReap:
					if got.Child == keeper.Handle() {
						return
					}
				default:
					if _, twice := reaped.LoadOrStore(got.Child, nil); twice {
						t.Errorf("cage %v was reaped twice", got.Child)
					}
					if got.Child == keeper.Handle() {
						return
					}
					if uint64(got.Status) != got.Child.Generation {
						t.Errorf("cage %v: the status is %d, another's", got.Child, got.Status)
					}
					count.Add(1)
					<-room
				}
			}
		})
	}
	for range enders {
		enderGroup.Go(func() {
			<-start
			for range children {
				room <- struct{}{}
				c, err := table.Alloc(p.ID())
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case current <- c.ID():
				default:
				}
				if rand.IntN(2) == 0 {
					(*cancels[rand.IntN(waiters)].Load())()
				}
				if err := table.Zombie(c, uint32(c.Generation())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range cancels {
		nothing := context.CancelFunc(func() {})
		cancels[i].Store(&nothing)
	}
	close(start)
	enderGroup.Wait()
	must(t, table.Zombie(keeper, 0))
	waiterGroup.Wait()
	if n := count.Load(); n != int64(enders*children) {
		t.Fatalf("%d of %d zombies were reaped", n, enders*children)
	}
	t.Logf("%d waits were withdrawn", withdrawn.Load())
	verify(t, table)
}

// lives records who has an id, to see whether two ever do.
type lives struct {
	table *cage.Table
	owner [1 << 12]atomic.Pointer[cage.Cage]
	ends  atomic.Int64 // OnChild calls
	reaps atomic.Int64
	wrong atomic.Pointer[string]
}

func (l *lives) fail(what string) { l.wrong.CompareAndSwap(nil, &what) }

func (l *lives) alloc(parent abi.CageID) (*cage.Cage, error) {
	c, err := l.table.Alloc(parent)
	if err == nil && !l.owner[c.ID()].CompareAndSwap(nil, c) {
		l.fail("the id of " + c.Handle().String() + " has another owner")
	}
	return c, err
}

func (l *lives) onReap(c *cage.Cage) {
	l.reaps.Add(1)
	if !l.owner[c.ID()].CompareAndSwap(c, nil) {
		l.fail("OnReap of " + c.Handle().String() + ", which does not have its id")
	}
}

// family runs a cage whose children end while it does, and which may wait for them.
func (l *lives) family(t *testing.T, born *atomic.Int64) {
	p, err := l.alloc(abi.CageInit)
	if err != nil {
		t.Error(err)
		return
	}
	born.Add(1)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for range 4 {
				c, err := l.alloc(p.ID())
				if errors.Is(err, cage.ErrNoParent) {
					return // p gave its children away
				}
				if err != nil {
					t.Error(err)
					return
				}
				if rand.IntN(8) == 0 {
					l.owner[c.ID()].Store(nil)
					err := l.table.Discard(c)
					if err == nil {
						continue
					}
					// Some family's late call, for a cage that had c's id before, made a child of c (see below): so c
					// is no cage that never ran, and ends like any other.
					if !errors.Is(err, cage.ErrState) {
						t.Error(err)
					}
					l.owner[c.ID()].Store(c)
				}
				born.Add(1)
				if got, err := l.table.Resolve(c.Handle()); err != nil || got != c {
					t.Errorf("Resolve of a running cage = %v, %v", got, err)
				}
				if err := l.table.Zombie(c, 0); err != nil {
					t.Error(err)
				}
				// It may be reaped and its id another's by now, but it never is another.
				if got, err := l.table.Resolve(c.Handle()); err == nil && got != c || err != nil && c.State() != cage.Reaped {
					t.Errorf("Resolve of cage %v = %v, %v", c.Handle(), got, err)
				}
			}
		})
	}
	for range 2 {
		group.Go(func() {
			for {
				if _, err := l.table.Wait(context.Background(), p.ID(), cage.AnyChild(), cage.Options{}); err != nil {
					if !errors.Is(err, cage.ErrNoChild) && !errors.Is(err, cage.ErrNoParent) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	if rand.IntN(2) == 0 {
		if err := l.table.Reparent(p); err != nil {
			t.Error(err)
		}
	}
	if err := l.table.Zombie(p, 0); err != nil {
		t.Error(err)
	}
	if rand.IntN(2) == 0 { // else p's id may be another's while calls for p are still made, which then are for that
		group.Wait()
	}
	if err := l.table.Reap(p); err != nil {
		t.Error(err)
	}
	group.Wait()
}

func TestHammer_FamiliesEndInAnyOrderAndLeaveNothing(t *testing.T) {
	l := new(lives)
	l.table = cage.New(cage.Config{
		OnChild: func(cage.Handle, cage.Handle, uint32) { l.ends.Add(1) },
		OnReap:  l.onReap,
	})
	var born atomic.Int64
	start := make(chan struct{})
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			<-start
			for range hammerSize(1000) {
				l.family(t, &born)
			}
		})
	}
	close(start)
	group.Wait()
	if wrong := l.wrong.Load(); wrong != nil {
		t.Error(*wrong)
	}
	if n := l.table.Len(); n != 0 {
		t.Errorf("%d cages are left", n)
	}
	if ends, reaps := l.ends.Load(), l.reaps.Load(); ends != born.Load() || reaps != born.Load() {
		t.Errorf("of %d cages %d ended and %d were reaped", born.Load(), ends, reaps)
	}
	verify(t, l.table)
}
