package cage_test

import (
	"errors"
	"math"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/cage"
)

// alloc makes a child, which must work.
func alloc(t testing.TB, table *cage.Table, parent abi.CageID) *cage.Cage {
	t.Helper()
	c, err := table.Alloc(parent)
	if err != nil {
		t.Fatalf("Alloc(%d): %v", parent, err)
	}
	return c
}

// must fails the test for an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr fails the test unless err is target.
func wantErr(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: %v, want %v", what, err, target)
	}
}

// verify checks the table's own invariants.
func verify(t testing.TB, table *cage.Table) {
	t.Helper()
	if err := table.Verify(); err != nil {
		t.Fatal(err)
	}
}

func TestAlloc_IdsAreTheLowestFreeAndNeverReserved(t *testing.T) {
	table := cage.New(cage.Config{})
	next := abi.CageID(2)
	for range 2000 {
		if c := alloc(t, table, abi.CageInit); c.ID() != next {
			t.Fatalf("id %d, want %d", c.ID(), next)
		}
		for next++; next == abi.CageDeregister || next == abi.CageMatchAll; next++ {
		}
	}
	for _, id := range []abi.CageID{1503, 499, 502, 2, 1024} {
		c := table.Lookup(id)
		must(t, table.Zombie(c, 0))
		must(t, table.Reap(c))
		verify(t, table)
	}
	for _, want := range []abi.CageID{2, 499, 502, 1024, 1503, next} {
		if c := alloc(t, table, abi.CageInit); c.ID() != want {
			t.Fatalf("id %d, want the lowest free, %d", c.ID(), want)
		}
	}
	verify(t, table)
}

func TestAlloc_LimitCountsZombiesAndNotInit(t *testing.T) {
	table := cage.New(cage.Config{MaxCages: 2})
	a := alloc(t, table, abi.CageInit)
	b := alloc(t, table, a.ID())
	must(t, table.Zombie(b, 0))
	_, err := table.Alloc(abi.CageInit)
	wantErr(t, "one more than the limit", err, cage.ErrLimit)
	wantErr(t, "one more than the limit", err, abi.EAGAIN)
	if n := table.Len(); n != 2 {
		t.Fatalf("Len = %d after a refused Alloc, want 2", n)
	}
	must(t, table.Discard(a2(t, table, a, b)))
	alloc(t, table, abi.CageInit)
}

// a2 makes room by ending b, and takes it again.
func a2(t *testing.T, table *cage.Table, a, b *cage.Cage) *cage.Cage {
	t.Helper()
	if _, err := table.Wait(t.Context(), a.ID(), cage.OneChild(b.ID()), cage.Options{}); err != nil {
		t.Fatal(err)
	}
	return alloc(t, table, a.ID())
}

func TestAlloc_DefaultLimit(t *testing.T) {
	for _, limit := range []int{0, -1} {
		table := cage.New(cage.Config{MaxCages: limit})
		for range cage.DefaultMaxCages {
			alloc(t, table, abi.CageInit)
		}
		_, err := table.Alloc(abi.CageInit)
		wantErr(t, "one more than the default limit", err, cage.ErrLimit)
	}
}

func TestAlloc_NeedsAParentThatCanHaveChildren(t *testing.T) {
	table := cage.New(cage.Config{})
	sealed, zombie, reaped, discarded := alloc(t, table, 1), alloc(t, table, 1), alloc(t, table, 1), alloc(t, table, 1)
	must(t, table.Reparent(sealed))
	must(t, table.Zombie(zombie, 0))
	must(t, table.Zombie(reaped, 0))
	must(t, table.Reap(reaped))
	must(t, table.Discard(discarded))
	for _, parent := range []abi.CageID{
		0, sealed.ID(), zombie.ID(), reaped.ID(), discarded.ID(), 999,
		abi.CageDeregister, abi.CageRawPOSIX, math.MaxUint64,
	} {
		_, err := table.Alloc(parent)
		wantErr(t, "Alloc of a child for "+cage.Handle{ID: parent}.String(), err, cage.ErrNoParent)
		wantErr(t, "the same", err, abi.ESRCH)
	}
	if n := table.Len(); n != 2 {
		t.Fatalf("Len = %d, want the two that are left", n)
	}
	verify(t, table)
}

func TestInit_ExistsAndNeverEnds(t *testing.T) {
	table := cage.New(cage.Config{})
	root := table.Lookup(abi.CageInit)
	if root == nil || root.ID() != abi.CageInit || root.Parent() != 0 || root.State() != cage.Running {
		t.Fatalf("init is %+v", root)
	}
	if got, err := table.Resolve(root.Handle()); err != nil || got != root {
		t.Fatalf("Resolve(init) = %v, %v", got, err)
	}
	wantErr(t, "Discard(init)", table.Discard(root), cage.ErrState)
	wantErr(t, "Reparent(init)", table.Reparent(root), cage.ErrState)
	wantErr(t, "Zombie(init)", table.Zombie(root, 0), cage.ErrState)
	wantErr(t, "Reap(init)", table.Reap(root), cage.ErrState)
	if table.Len() != 0 {
		t.Fatal("init is counted")
	}
}

func TestHandle_OfACageThatIsGoneIsStaleWhoeverHasItsId(t *testing.T) {
	table := cage.New(cage.Config{})
	old := alloc(t, table, abi.CageInit)
	if got, err := table.Resolve(old.Handle()); err != nil || got != old {
		t.Fatalf("Resolve of a running cage = %v, %v", got, err)
	}
	must(t, table.Zombie(old, 0))
	if got, err := table.Resolve(old.Handle()); err != nil || got != old {
		t.Fatalf("Resolve of a zombie = %v, %v", got, err)
	}
	must(t, table.Reap(old))
	_, err := table.Resolve(old.Handle())
	wantErr(t, "Resolve of a reaped cage", err, cage.ErrStale)

	heir := alloc(t, table, abi.CageInit)
	if heir.ID() != old.ID() || heir.Generation() == old.Generation() {
		t.Fatalf("%v after %v: want the same id, another generation", heir.Handle(), old.Handle())
	}
	_, err = table.Resolve(old.Handle())
	wantErr(t, "Resolve of a stale handle", err, cage.ErrStale)
	if got, err := table.Resolve(heir.Handle()); err != nil || got != heir {
		t.Fatalf("Resolve of the heir = %v, %v", got, err)
	}
	for _, h := range []cage.Handle{{}, {ID: heir.ID()}, {ID: 12345, Generation: 1}, {ID: math.MaxUint64}} {
		_, err := table.Resolve(h)
		wantErr(t, "Resolve of "+h.String(), err, cage.ErrStale)
	}
	// Whoever kept the old cage itself gets errors too, and does the heir no harm.
	wantErr(t, "Zombie of a stale cage", table.Zombie(old, 0), cage.ErrState)
	wantErr(t, "Reap of a stale cage", table.Reap(old), cage.ErrState)
	wantErr(t, "Discard of a stale cage", table.Discard(old), cage.ErrState)
	wantErr(t, "Reparent of a stale cage", table.Reparent(old), cage.ErrState)
	if heir.State() != cage.Running {
		t.Fatalf("the heir is %s", heir.State())
	}
}

func TestTable_KnowsNoCageOfAnotherTable(t *testing.T) {
	table, other := cage.New(cage.Config{}), cage.New(cage.Config{})
	alloc(t, table, abi.CageInit)
	running, zombie := alloc(t, other, abi.CageInit), alloc(t, other, abi.CageInit)
	must(t, other.Zombie(zombie, 0))
	for _, c := range []*cage.Cage{running, nil, other.Lookup(abi.CageInit)} {
		wantErr(t, "Zombie", table.Zombie(c, 0), cage.ErrStale)
		wantErr(t, "Discard", table.Discard(c), cage.ErrStale)
		wantErr(t, "Reparent", table.Reparent(c), cage.ErrStale)
	}
	wantErr(t, "Reap", table.Reap(zombie), cage.ErrStale)
	wantErr(t, "Reap", table.Reap(nil), cage.ErrStale)
	verify(t, table)
	verify(t, other)
	must(t, other.Zombie(running, 0))
	must(t, other.Reap(zombie))
}

func TestDiscard_GivesTheIdBackAndTellsNobody(t *testing.T) {
	table := cage.New(cage.Config{
		OnReap:  func(*cage.Cage) { t.Error("OnReap for a cage that never ran") },
		OnChild: func(cage.Handle, cage.Handle, uint32) { t.Error("OnChild for a cage that never ran") },
	})
	parent := alloc(t, table, abi.CageInit)
	c := alloc(t, table, parent.ID())
	must(t, table.Discard(c))
	if c.State() != cage.Discarded || table.Lookup(c.ID()) != nil || table.Len() != 1 {
		t.Fatalf("it is %s, found %v, Len %d", c.State(), table.Lookup(c.ID()), table.Len())
	}
	if _, ok := c.WaitStatus(); ok {
		t.Fatal("a cage that never ran has a status")
	}
	if heir := alloc(t, table, abi.CageInit); heir.ID() != c.ID() {
		t.Fatalf("id %d, want %d again", heir.ID(), c.ID())
	}
	wantErr(t, "a second Discard", table.Discard(c), cage.ErrState)
	verify(t, table)
}

func TestDiscard_RefusesACageThatRan(t *testing.T) {
	table := cage.New(cage.Config{})
	parent, zombie := alloc(t, table, abi.CageInit), alloc(t, table, abi.CageInit)
	alloc(t, table, parent.ID())
	must(t, table.Zombie(zombie, 0))
	wantErr(t, "Discard of a parent", table.Discard(parent), cage.ErrState)
	wantErr(t, "Discard of a zombie", table.Discard(zombie), cage.ErrState)
	if parent.State() != cage.Running || zombie.State() != cage.Zombie {
		t.Fatalf("they are %s and %s", parent.State(), zombie.State())
	}
	alloc(t, table, parent.ID()) // not sealed by the refused Discard
	verify(t, table)
}
