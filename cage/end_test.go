package cage_test

import (
	"slices"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/cage"
)

func TestCage_MovesOnceEach(t *testing.T) {
	table := cage.New(cage.Config{})
	c := alloc(t, table, abi.CageInit)
	if _, ok := c.WaitStatus(); ok || c.State() != cage.Running {
		t.Fatalf("a new cage is %s, has a status: %v", c.State(), ok)
	}
	wantErr(t, "Reap of a running cage", table.Reap(c), cage.ErrState)
	must(t, table.Zombie(c, 0x700))
	wantErr(t, "a second Zombie", table.Zombie(c, 0x900), cage.ErrState)
	if status, ok := c.WaitStatus(); !ok || status != 0x700 || c.State() != cage.Zombie {
		t.Fatalf("it is %s, status %#x, %v", c.State(), status, ok)
	}
	if table.Lookup(c.ID()) != c {
		t.Fatal("a zombie is not to be found")
	}
	must(t, table.Reap(c))
	wantErr(t, "a second Reap", table.Reap(c), cage.ErrState)
	wantErr(t, "Zombie of a reaped cage", table.Zombie(c, 0), cage.ErrState)
	if status, ok := c.WaitStatus(); !ok || status != 0x700 || c.State() != cage.Reaped {
		t.Fatalf("it is %s, status %#x, %v", c.State(), status, ok)
	}
	if table.Lookup(c.ID()) != nil || table.Len() != 0 {
		t.Fatal("something is left of a reaped cage")
	}
}

func TestReap_TakesOnlyWhatTheHostSpawned(t *testing.T) {
	table := cage.New(cage.Config{})
	parent := alloc(t, table, abi.CageInit)
	child := alloc(t, table, parent.ID())
	must(t, table.Zombie(child, 0))
	wantErr(t, "Reap of another cage's child", table.Reap(child), cage.ErrNotHeld)
	if child.State() != cage.Zombie || table.Lookup(child.ID()) != child {
		t.Fatal("a refused Reap took the zombie from its parent")
	}
	must(t, table.Zombie(parent, 0))
	must(t, table.Reap(parent))
}

func TestOnReap_ComesOnceBetweenTheCageAndTheNextUseOfItsId(t *testing.T) {
	var table *cage.Table
	var reaped []cage.Handle
	table = cage.New(cage.Config{OnReap: func(c *cage.Cage) {
		reaped = append(reaped, c.Handle())
		if table.Lookup(c.ID()) != nil || c.State() != cage.Reaped {
			t.Errorf("OnReap of %v, which is %s and can be found", c.Handle(), c.State())
		}
		// Calls of the table must work here: no lock is held.
		other, err := table.Alloc(abi.CageInit)
		if err != nil {
			t.Error(err)
			return
		}
		if other.ID() == c.ID() {
			t.Errorf("the id of %v was given out before OnReap returned", c.Handle())
		}
		if err := table.Discard(other); err != nil {
			t.Error(err)
		}
	}})
	parent := alloc(t, table, abi.CageInit)
	waited, left, orphan := alloc(t, table, parent.ID()), alloc(t, table, parent.ID()), alloc(t, table, parent.ID())
	want := []cage.Handle{waited.Handle(), left.Handle(), orphan.Handle(), parent.Handle()}

	must(t, table.Zombie(waited, 0))
	must(t, table.Zombie(left, 0))
	if len(reaped) != 0 {
		t.Fatal("OnReap of a zombie")
	}
	if _, err := table.Wait(t.Context(), parent.ID(), cage.AnyChild(), cage.Options{}); err != nil {
		t.Fatal(err)
	}
	must(t, table.Reparent(parent)) // reaps left
	must(t, table.Zombie(orphan, 0))
	must(t, table.Zombie(parent, 0))
	must(t, table.Reap(parent))
	if !slices.Equal(reaped, want) {
		t.Fatalf("reaped %v, want %v", reaped, want)
	}
	if table.Len() != 0 {
		t.Fatalf("Len = %d, want 0", table.Len())
	}
	verify(t, table)
}

func TestOnChild_ComesOnceWithTheParentOfThatTime(t *testing.T) {
	type event struct {
		parent, child cage.Handle
		status        uint32
	}
	var table *cage.Table
	var events []event
	table = cage.New(cage.Config{OnChild: func(parent, child cage.Handle, status uint32) {
		events = append(events, event{parent, child, status})
		if parent.ID == abi.CageInit {
			return
		}
		// I6: what is told of here can be waited for, and no lock is held.
		got, err := table.Wait(t.Context(), parent.ID, cage.OneChild(child.ID), cage.Options{NoHang: true})
		if err != nil || got != (cage.WaitResult{Child: child, Status: status}) {
			t.Errorf("Wait in OnChild(%v, %v) = %v, %v", parent, child, got, err)
		}
	}})
	root := table.Lookup(abi.CageInit).Handle()
	parent := alloc(t, table, abi.CageInit)
	child, orphan := alloc(t, table, parent.ID()), alloc(t, table, parent.ID())
	want := []event{
		{parent.Handle(), child.Handle(), 1}, {root, parent.Handle(), 2}, {root, orphan.Handle(), 3},
	}
	must(t, table.Zombie(child, 1))
	must(t, table.Zombie(parent, 2))
	must(t, table.Zombie(orphan, 3))
	must(t, table.Reap(parent))
	if !slices.Equal(events, want) {
		t.Fatalf("events %v, want %v", events, want)
	}
}

func TestReparent_GivesAllChildrenToInitWhichReapsThem(t *testing.T) {
	for _, n := range []int{0, 1, cage.OrphansAtOnce, cage.OrphansAtOnce + 1, 5*cage.OrphansAtOnce + 3} {
		table := cage.New(cage.Config{})
		parent := alloc(t, table, abi.CageInit)
		var running, zombies []*cage.Cage
		for i := range n {
			c := alloc(t, table, parent.ID())
			if i%3 == 0 {
				must(t, table.Zombie(c, 0))
				zombies = append(zombies, c)
			} else {
				running = append(running, c)
			}
		}
		must(t, table.Reparent(parent))
		verify(t, table)
		for _, c := range zombies {
			if c.State() != cage.Reaped || table.Lookup(c.ID()) == c {
				t.Fatalf("of %d: an orphaned zombie is %s", n, c.State())
			}
		}
		for _, c := range running {
			if c.Parent() != abi.CageInit || c.State() != cage.Running || table.Lookup(c.ID()) != c {
				t.Fatalf("of %d: cage %v is %s, child of %d", n, c.Handle(), c.State(), c.Parent())
			}
			// It is nobody's to wait for, or to reap.
			_, err := table.Wait(t.Context(), abi.CageInit, cage.OneChild(c.ID()), cage.Options{NoHang: true})
			wantErr(t, "init's wait for an orphan", err, cage.ErrNoChild)
			_, err = table.Wait(t.Context(), parent.ID(), cage.OneChild(c.ID()), cage.Options{NoHang: true})
			wantErr(t, "the old parent's wait for an orphan", err, cage.ErrNoChild)
		}
		must(t, table.Reparent(parent)) // again is harmless
		must(t, table.Zombie(parent, 0))
		must(t, table.Reap(parent))
		_, err := table.Wait(t.Context(), abi.CageInit, cage.AnyChild(), cage.Options{})
		wantErr(t, "init's wait with nothing but orphans", err, cage.ErrNoChild)
		for _, c := range running {
			must(t, table.Zombie(c, 5))
			if status, ok := c.WaitStatus(); c.State() != cage.Reaped || !ok || status != 5 {
				t.Fatalf("an orphan that ended is %s, status %d", c.State(), status)
			}
			wantErr(t, "Reap of an orphan that ended", table.Reap(c), cage.ErrState)
		}
		if table.Len() != 0 {
			t.Fatalf("of %d cages %d are left", n, table.Len())
		}
		verify(t, table)
	}
}

func TestReparent_LeavesGrandchildrenWithTheirParents(t *testing.T) {
	table := cage.New(cage.Config{})
	a := alloc(t, table, abi.CageInit)
	b := alloc(t, table, a.ID())
	c := alloc(t, table, b.ID())
	must(t, table.Zombie(a, 0))
	if b.Parent() != abi.CageInit || c.Parent() != b.ID() {
		t.Fatalf("parents %d and %d, want 1 and %d", b.Parent(), c.Parent(), b.ID())
	}
	must(t, table.Zombie(c, 7)) // an orphan still is a parent
	got, err := table.Wait(t.Context(), b.ID(), cage.AnyChild(), cage.Options{})
	if err != nil || got.Child != c.Handle() || got.Status != 7 {
		t.Fatalf("an orphan's wait = %v, %v", got, err)
	}
	alloc(t, table, b.ID()) // and can have more children
}

func TestZombie_ReparentsWhatIsLeft(t *testing.T) {
	table := cage.New(cage.Config{})
	parent := alloc(t, table, abi.CageInit)
	for range 3 * cage.OrphansAtOnce {
		alloc(t, table, parent.ID())
	}
	ended := alloc(t, table, parent.ID())
	must(t, table.Zombie(ended, 0))
	must(t, table.Zombie(parent, 0))
	verify(t, table) // T2 among others
	if ended.State() != cage.Reaped || table.Len() != 3*cage.OrphansAtOnce+1 {
		t.Fatalf("its zombie child is %s; Len = %d", ended.State(), table.Len())
	}
}
