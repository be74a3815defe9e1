//go:build invariants

package lockcheck_test

import (
	"bytes"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/petermattis/goid"

	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

type (
	outer  struct{}
	inner  struct{}
	other  struct{}
	seldom struct{}
)

func (outer) Order() lockcheck.Order { return lockcheck.Order{Name: "outer", Keyed: true} }
func (other) Order() lockcheck.Order { return lockcheck.Order{Name: "other"} }

func (inner) Order() lockcheck.Order {
	return lockcheck.Order{Name: "inner", After: []lockcheck.Class{outer{}}}
}

func (seldom) Order() lockcheck.Order {
	return lockcheck.Order{Name: "seldom", After: []lockcheck.Class{inner{}}}
}

func TestOrder_IsCheckedAtEachLock(t *testing.T) {
	var o1, o2 lockcheck.Mutex[outer]
	var i1, i2 lockcheck.Mutex[inner]
	var x lockcheck.Mutex[other]
	var s lockcheck.Mutex[seldom]
	for _, c := range []struct {
		name string
		do   func()
		want string // "" if nothing is wrong
	}{
		{"one", func() { x.Lock(); inside(); x.Unlock() }, ""},
		{"in order", func() { o1.Lock(); i1.Lock(); inside(); i1.Unlock(); o1.Unlock() }, ""},
		{"unlocked in the same order", func() { o1.Lock(); i1.Lock(); o1.Unlock(); i1.Unlock() }, ""},
		{"one after the other", func() {
			i1.Lock()
			inside()
			i1.Unlock()
			o1.Lock()
			inside()
			o1.Unlock()
		}, ""},
		{"against the order", func() { i1.Lock(); o1.Lock(); inside(); o1.Unlock(); i1.Unlock() }, "outer is taken while inner is held"},
		{"a leaf in another", func() { o1.Lock(); x.Lock(); inside(); x.Unlock(); o1.Unlock() }, "other is taken while outer is held"},
		{
			"after one that it may follow, and one that it may not",
			func() {
				o1.Lock()
				i1.Lock()
				s.Lock()
				inside()
				s.Unlock()
				i1.Unlock()
				o1.Unlock()
			},
			"seldom is taken while outer is held",
		},
		{"two of a class", func() { i1.Lock(); i2.Lock(); inside(); i2.Unlock(); i1.Unlock() }, "inner is taken while inner is held"},
		{"two by their keys", func() { o1.LockKeyed(1); o2.LockKeyed(2); inside(); o2.Unlock(); o1.Unlock() }, ""},
		{"two against their keys", func() { o1.LockKeyed(2); o2.LockKeyed(1); inside(); o2.Unlock(); o1.Unlock() }, "key 2 before key 1"},
		{"two with the same key", func() { o1.LockKeyed(2); o2.LockKeyed(2); inside(); o2.Unlock(); o1.Unlock() }, "key 2 before key 2"},
		{"two, one without a key", func() { o1.LockKeyed(1); o2.Lock(); inside(); o2.Unlock(); o1.Unlock() }, "need keys"},
		{"keys of a class without", func() { i1.LockKeyed(1); i2.LockKeyed(2); inside(); i2.Unlock(); i1.Unlock() }, "one of the class"},
		{"out of order, without waiting", func() { i1.Lock(); o1.TryLock(); o1.Unlock(); i1.Unlock() }, ""},
		{"nothing held", func() { o1.Lock(); inside(); o1.Unlock(); lockcheck.NoneHeld("a step") }, ""},
		{
			"something held",
			func() { o1.Lock(); i1.Lock(); lockcheck.NoneHeld("a step"); i1.Unlock(); o1.Unlock() },
			"a step is called while outer and inner is held",
		},
		{"held, as is said", func() { o1.Lock(); o1.AssertHeld(); o1.Unlock() }, ""},
		{"not held", func() { o1.AssertHeld() }, "outer has to be held here"},
		{"another of the class held", func() { o2.Lock(); o1.AssertHeld(); o2.Unlock() }, "held by nobody"},
		{"a TryLock that failed", func() {
			o1.Lock()
			elsewhere(func() {
				if o1.TryLock() {
					t.Error("two have it")
				}
				o1.AssertHeld()
			})
			o1.Unlock()
		}, "outer has to be held here"},
		{"held by another goroutine", func() { o1.Lock(); elsewhere(o1.AssertHeld); o1.Unlock() }, "outer has to be held here"},
		{"unlocked by another goroutine", func() { o1.Lock(); elsewhere(o1.Unlock) }, "outer is unlocked by goroutine"},
		{"what another goroutine holds", func() { i1.Lock(); elsewhere(func() { o1.Lock(); inside(); o1.Unlock() }); i1.Unlock() }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			// On a goroutine of its own: one of the cases leaves it with a lock that another has unlocked.
			got := lockcheck.Catch(func() { elsewhere(c.do) })
			if ok := len(got) == 0; c.want == "" && !ok || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
	if got := lockcheck.Catch(func() { lockcheck.NoneHeld("what follows") }); len(got) != 0 {
		t.Errorf("after all that: %q", got)
	}
}

// inside is what is done with a lock.
func inside() {}

// elsewhere calls fn on a goroutine of its own and waits for it.
func elsewhere(fn func()) {
	var group sync.WaitGroup
	group.Go(fn)
	group.Wait()
}

func TestMutex_ExcludesAndForgetsNothing_Hammer(t *testing.T) {
	var o [3]lockcheck.Mutex[outer]
	var i lockcheck.Mutex[inner]
	n := 0 // guarded by i
	got := lockcheck.Catch(func() {
		var group sync.WaitGroup
		for g := range 8 {
			group.Go(func() {
				for round := range 2000 {
					first := (g + round) % 2
					o[first].LockKeyed(uint64(first))
					o[2].LockKeyed(2)
					i.Lock()
					n++
					i.Unlock()
					o[first].Unlock()
					o[2].Unlock()
					lockcheck.NoneHeld("the next round")
				}
			})
		}
		group.Wait()
	})
	if n != 16_000 || len(got) != 0 {
		t.Errorf("counted %d, found %q", n, slices.Compact(got))
	}
}

// The number comes out of the runtime's own structure, at a place that another release of Go may move.
func TestGoroutines_AreToldApartAsTheRuntimeDoes(t *testing.T) {
	seen := map[int64]bool{}
	for range 10 {
		elsewhere(func() {
			var room [64]byte
			line := bytes.TrimPrefix(room[:runtime.Stack(room[:], false)], []byte("goroutine "))
			digits, _, _ := bytes.Cut(line, []byte(" "))
			if want := strconv.FormatInt(goid.Get(), 10); string(digits) != want || seen[goid.Get()] {
				t.Errorf("goroutine %s, the stack says %s", want, digits)
			}
			seen[goid.Get()] = true
		})
	}
}
