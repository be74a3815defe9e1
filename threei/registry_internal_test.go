package threei

import (
	"context"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// A grate that goes is retired first, and then its entries fail, row by row. A copy may come in between: what it copies of
// such a grate has to fail at once, since nobody will look for it.
func TestCopy_OfAGrateThatIsJustGoing(t *testing.T) {
	const src, dst, third, grate, other, call, kept = 10, 11, 12, 20, 21, abi.CallRead, abi.CallWrite
	s := NewSystem()
	s.Configure(Config{MayInterpose: func(by, target abi.CageID) bool { return by < target }})
	exits := map[abi.CageID]*exitcoord.Exit{}
	for _, id := range []abi.CageID{src, dst, third, grate, other} {
		exits[id] = exitcoord.New(exitcoord.Config{Cage: id})
		if err := s.AddCage(id, exits[id], CageConfig{}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetPort(id, 1<<16|uint64(id)); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	for call, g := range map[abi.Call]abi.CageID{call: grate, kept: other} {
		if err := s.RegisterHandler(ctx, src, call, g, 1); err != nil {
			t.Fatal(err)
		}
	}
	g := s.cages.Load(grate)
	g.grateMu.Lock()
	g.retired = true
	serves := g.serves
	g.serves = nil
	g.grateMu.Unlock()

	if err := s.CopyHandlerTable(ctx, src, dst); err != nil {
		t.Fatal(err)
	}
	if err := s.deregister(s.cages.Load(src), s.cages.Load(third), call); err != nil { // which copies one entry
		t.Fatal(err)
	}
	if err := s.RegisterHandler(ctx, dst, kept, grate, 1); err == nil {
		t.Error("a grate that is retired got a handler")
	}
	for _, id := range []abi.CageID{dst, third} {
		if e := s.table.lookup(id, call); e != entryGone {
			t.Errorf("the copy for cage %d is %#x", id, uint64(e))
		}
	}
	if e := s.table.lookup(dst, kept); !e.isGrate() {
		t.Errorf("the other grate's copy is %#x", uint64(e))
	}
	for _, p := range serves {
		p.fail()
	}
	if e := s.table.lookup(src, call); e != entryGone {
		t.Errorf("the source is %#x", uint64(e))
	}
	if err := s.CheckIndex(); err != nil {
		t.Error(err)
	}
	for id, exit := range exits {
		exit.Begin(exitcoord.Cause{Kind: exitcoord.HostKill})
		if err := exit.Quiescent(nil); err != nil {
			t.Error(err)
		}
		s.RemoveCage(id, exit)
	}
	if rows := s.Stats().Rows; rows != 0 {
		t.Errorf("%d rows at the end", rows)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A reader that is overtaken by whole replacements answers what one of them said, and never a mixture.
func TestLookup_SeesReplacementsInOneStep(t *testing.T) {
	var table table
	if err := table.open(); err != nil {
		t.Fatal(err)
	}
	addr, err := table.take()
	if err != nil {
		t.Fatal(err)
	}
	const id, rounds = 7, 2000
	table.publish(id, addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := entry(1); n <= rounds; n++ {
			rowAt(addr).replace(func(abi.Call) entry { return n })
		}
	}()
	last := entry(0)
	for last < rounds {
		first := table.lookup(id, 0)
		for _, call := range []abi.Call{1, 511, 1023} {
			e := table.lookup(id, call)
			if e < first || first < last {
				t.Fatalf("%v is %d after call 0 was %d and %d before", call, e, first, last)
			}
			first = e
		}
		last = first
	}
	<-done
	table.give(id, addr)
	if table.lookup(id, 0) != 0 || rowAt(addr).at(5) != 0 || rowAt(addr).version.Load() < rounds {
		t.Error("a row that was given back is not empty")
	}
	if err := table.close(); err != nil {
		t.Error(err)
	}
	table.give(id, addr) // nothing is there to give
}
