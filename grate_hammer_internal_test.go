package lindbridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/guests/matrix"
	"github.com/lindbridge/lindbridge/threei"
)

// The calls of the hammer. Nothing of the runtime makes or serves them.
const (
	hammerGuarded = 335 // a grate serves it from before the program runs, and nobody takes that away
	hammerFree    = 336 // comes and goes
	hammerNative  = 12345
)

// hammerTime is how long the hammer goes on: LINDBRIDGE_HAMMER, such as 60s, or two seconds.
func hammerTime(t *testing.T) time.Duration {
	text := os.Getenv("LINDBRIDGE_HAMMER")
	if text == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// grateHammer is what sixteen goroutines share who make stacks, register, copy, call and kill at random.
type grateHammer struct {
	*backstage
	app      Program
	answers  Grate
	passes   Grate
	deadline time.Time

	native  atomic.Int64 // guarded calls that reached native: none may
	calls   atomic.Int64 // calls that did, and may
	stacks  atomic.Int64
	changes atomic.Int64 // registrations and copies that were made
	refused atomic.Int64 // those that came too late

	mu   sync.Mutex
	live []*Stack // guarded by mu
}

// TestGrateHammer: 16 goroutines spawn stacks of one to three grates, register and deregister, copy tables, and kill
// programs and grates, while threads of the programs call without an end. Every call returns, since each program and each
// grate ends; none reaches native that was guarded; and nothing is left behind.
func TestGrateHammer(t *testing.T) {
	h := &grateHammer{backstage: newBackstage(t, Config{}), deadline: time.Now().Add(hammerTime(t))}
	h.rt.sys.SetNative(hammerGuarded, func(*threei.Thread, *threei.Args) int64 {
		h.native.Add(1)
		return hammerNative
	})
	h.rt.sys.SetNative(hammerFree, func(*threei.Thread, *threei.Args) int64 {
		h.calls.Add(1)
		return 0
	})
	body := fmt.Sprintf(`(loop $l
		(if (i32.eq %s (i32.const %d)) (then unreachable))
		(drop %s)
		(br $l))`, hammerAsk(hammerGuarded), hammerNative, hammerAsk(hammerFree))
	h.app = h.backstage.app(matrix.Guest{
		Thread: body, Main: `(drop (call $thread_spawn (i32.const 1)))` + body,
	})
	serves := fmt.Sprintf(`(drop %s)`, hammerAsk(int(abi.CallGrateServe)))
	// The outermost answers; the others pass on what they get, under the same number.
	h.answers = h.backstage.grate(matrix.Guest{
		Main: serves, Handlers: []string{`(i32.const 1)`, `(i32.const 2)`},
	})
	h.passes = h.backstage.grate(matrix.Guest{
		Main: serves, Handlers: []string{matrix.Forward(hammerGuarded), matrix.Forward(hammerFree)},
	})

	var group sync.WaitGroup
	for seed := range 16 {
		r := rand.New(rand.NewPCG(uint64(seed), 4))
		group.Go(func() {
			for time.Now().Before(h.deadline) && !t.Failed() {
				if seed%2 == 0 {
					h.liveAndDie(r)
				} else {
					h.change(r)
				}
			}
		})
	}
	group.Wait()
	if n := h.native.Load(); n != 0 {
		t.Errorf("%d guarded calls reached native", n)
	}
	if h.stacks.Load() == 0 || h.changes.Load() == 0 {
		t.Errorf("%d stacks, %d changes", h.stacks.Load(), h.changes.Load())
	}
	t.Logf("%d stacks, %d changes of tables (%d refused), %d native calls", h.stacks.Load(), h.changes.Load(),
		h.refused.Load(), h.calls.Load())
	stats, err := h.rt.Stats()
	// A thread that was counted out may still be on its way; Close waits for it.
	if err != nil || stats.Cages != 0 || stats.Domains != 0 {
		t.Errorf("left behind: %+v, %v", stats, err)
	}
	if s := h.rt.sys.Stats(); s.Rows != 0 || s.Late != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// hammerAsk is a call without arguments on the guest's own cage.
func hammerAsk(call int) string {
	return fmt.Sprintf(`(call $on (i32.const %d) (call $self) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
		(i64.const 0) (i64.const 0))`, call)
}

// liveAndDie makes a stack, lets it run for a moment, and ends it at a random place first.
func (h *grateHammer) liveAndDie(r *rand.Rand) {
	grates := []Grate{h.answers}
	for range r.IntN(3) {
		grates = append(grates, h.passes)
	}
	rt := h.rt
	cages, err := rt.buildStack(h.app, grates)
	if err != nil {
		h.t.Error(err)
		return
	}
	s := &Stack{App: cages[len(grates)], Grates: cages[:len(grates)]}
	for i := range grates { // from before anything runs; the outer ones' are not copied down, so that all are passed through
		if err := rt.sys.RegisterHandler(h.t.Context(), cages[i+1].ID(), hammerGuarded, cages[i].ID(), 1); err != nil {
			h.t.Error(err)
		}
	}
	for i, c := range cages {
		p := h.app
		if i < len(grates) {
			p = grates[i].Program
		}
		if err := rt.startOne(h.t.Context(), c, p, i); err != nil {
			h.t.Error(err)
		}
	}
	h.stacks.Add(1)
	h.mu.Lock()
	h.live = append(h.live, s)
	h.mu.Unlock()

	<-time.After(time.Duration(r.IntN(3000)) * time.Microsecond) // for others to meet it; nothing depends on how long
	h.mu.Lock()
	for i, other := range h.live {
		if other == s {
			h.live = append(h.live[:i], h.live[i+1:]...)
			break
		}
	}
	h.mu.Unlock()
	order := r.Perm(len(cages))
	for _, i := range order {
		cages[i].Kill()
	}
	ctx, cancel := context.WithTimeout(context.Background(), grateWait)
	defer cancel()
	for _, c := range cages {
		if _, err := c.Wait(ctx); err != nil {
			h.t.Errorf("%v\n%v", err, c.Report())
			return
		}
	}
}

// change registers or deregisters the free call on a random cage, or copies the table of one program to another. Whether
// it comes too late is chance; that it is an error then is what matters.
func (h *grateHammer) change(r *rand.Rand) {
	h.mu.Lock()
	if len(h.live) == 0 {
		h.mu.Unlock()
		<-time.After(time.Millisecond)
		return
	}
	a, b := h.live[r.IntN(len(h.live))], h.live[r.IntN(len(h.live))]
	h.mu.Unlock()
	ctx, sys := h.t.Context(), h.rt.sys
	below := b.App.ID()
	if i := r.IntN(len(b.Grates)); i > 0 {
		below = b.Grates[i].ID()
	}
	var err error
	switch r.IntN(4) {
	case 0:
		err = sys.RegisterHandler(ctx, below, hammerFree, abi.CageDeregister, 0)
	case 1:
		err = sys.CopyHandlerTable(ctx, a.App.ID(), b.App.ID()) // both are guarded, and stay so
	default:
		err = sys.RegisterHandler(ctx, below, hammerFree, a.Grates[r.IntN(len(a.Grates))].ID(), 2)
	}
	if err != nil {
		h.refused.Add(1)
		return
	}
	h.changes.Add(1)
}
