package cage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/cage"
)

// modelCage is all that is to be known of a cage, in plain words and without any index.
type modelCage struct {
	c      *cage.Cage
	id     abi.CageID
	parent *modelCage // nil for init
	orphan bool
	sealed bool
	state  cage.State
	status uint32
	ended  int // when it became a zombie
}

// modelWait is a Wait that is blocked.
type modelWait struct {
	parent *modelCage
	child  *modelCage // nil for any
	opts   cage.Options
	w      waiting
}

// model is the obviously right tree: it looks at every cage for every question.
type model struct {
	table    *cage.Table
	max      int
	init     *modelCage
	cages    []*modelCage // all that ever were
	waits    []*modelWait
	ends     int
	onChild  []string // calls that are wanted, and those that came
	gotChild []string
	onReap   []string
	gotReap  []string
}

func newModel(maxCages int) *model {
	m := &model{max: maxCages}
	m.table = cage.New(cage.Config{
		MaxCages: maxCages,
		OnChild: func(parent, child cage.Handle, status uint32) {
			m.gotChild = append(m.gotChild, fmt.Sprint(parent, child, status))
		},
		OnReap: func(c *cage.Cage) { m.gotReap = append(m.gotReap, c.Handle().String()) },
	})
	m.init = &modelCage{c: m.table.Lookup(abi.CageInit), id: abi.CageInit}
	m.cages = []*modelCage{m.init}
	return m
}

func (c *modelCage) holdsID() bool { return c.state == cage.Running || c.state == cage.Zombie }

// byID is the cage that has the id now, or nil.
func (m *model) byID(id abi.CageID) *modelCage {
	for _, c := range m.cages {
		if c.id == id && c.holdsID() {
			return c
		}
	}
	return nil
}

// children are those that p's waits are about.
func (m *model) children(p *modelCage) []*modelCage {
	var found []*modelCage
	for _, c := range m.cages {
		if c.parent == p && c.holdsID() && !c.orphan {
			found = append(found, c)
		}
	}
	return found
}

func (m *model) reap(c *modelCage) {
	c.state = cage.Reaped
	m.onReap = append(m.onReap, c.c.Handle().String())
}

func (m *model) reparent(p *modelCage) {
	p.sealed = true
	for _, c := range m.children(p) {
		c.parent, c.orphan = m.init, true
		if c.state == cage.Zombie {
			m.reap(c)
		}
	}
}

// zombie ends c. Who waits for it is settle's.
func (m *model) zombie(c *modelCage, status uint32) {
	m.reparent(c)
	m.ends++
	c.state, c.status, c.ended = cage.Zombie, status, m.ends
	m.onChild = append(m.onChild, fmt.Sprint(c.parent.c.Handle(), c.c.Handle(), status))
	if c.orphan {
		m.reap(c)
	}
}

// settle compares what the waits did with what they must do now that fresh, if not nil, became a zombie.
func (m *model) settle(t *rapid.T, fresh *modelCage) {
	synctest.Wait()
	var left []*modelWait
	takers, taken := 0, 0
	answers := map[*modelWait]outcome{}
	for _, w := range m.waits {
		matches := fresh != nil && !fresh.orphan && w.parent == fresh.parent && (w.child == nil || w.child == fresh)
		if matches && !w.opts.NoReap {
			takers++
		}
		select {
		case o := <-w.w.done:
			answers[w] = o
			if o.err == nil {
				if !matches || o.result != (cage.WaitResult{Child: fresh.c.Handle(), Status: fresh.status}) {
					t.Fatalf("a wait of cage %d was given %v", w.parent.id, o.result)
				}
				if !w.opts.NoReap {
					taken++
				}
			}
		default:
			if matches && w.opts.NoReap {
				t.Fatalf("a wait that does not reap was not told of cage %d", fresh.id)
			}
			left = append(left, w)
		}
	}
	if taken != min(takers, 1) {
		t.Fatalf("%d waits took one zombie, of %d that could", taken, takers)
	}
	if taken == 1 {
		m.reap(fresh)
	}
	// With the zombie gone, exactly those waits are disappointed that no child is left for.
	for _, w := range m.waits {
		o, isAnswered := answers[w]
		hope := slices.ContainsFunc(m.children(w.parent), func(c *modelCage) bool { return w.child == nil || w.child == c })
		switch {
		case isAnswered && o.err == nil:
		case isAnswered && (!errors.Is(o.err, cage.ErrNoChild) || hope):
			t.Fatalf("a wait of cage %d with a child left: %v: %v", w.parent.id, hope, o.err)
		case !isAnswered && !hope:
			t.Fatalf("a wait of cage %d is blocked for good", w.parent.id)
		}
	}
	m.waits = left
}

// check compares everything that can be asked.
func (m *model) check(t *rapid.T) {
	if err := m.table.Verify(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range m.cages {
		if c.c.State() != c.state {
			t.Fatalf("cage %v is %s, want %s", c.c.Handle(), c.c.State(), c.state)
		}
		if c.parent != nil && c.holdsID() && c.c.Parent() != c.parent.id {
			t.Fatalf("cage %v: parent %d, want %d", c.c.Handle(), c.c.Parent(), c.parent.id)
		}
		status, ok := c.c.WaitStatus()
		if ok != (c.state == cage.Zombie || c.state == cage.Reaped) || status != c.status {
			t.Fatalf("cage %v: status %d, %v; want %d", c.c.Handle(), status, ok, c.status)
		}
		if want := m.byID(c.id); want == nil && m.table.Lookup(c.id) != nil || want != nil && m.table.Lookup(c.id) != want.c {
			t.Fatalf("Lookup(%d) = %v", c.id, m.table.Lookup(c.id))
		}
		if got, err := m.table.Resolve(c.c.Handle()); (err == nil) != c.holdsID() || err == nil && got != c.c {
			t.Fatalf("Resolve(%v) = %v, %v of a cage that is %s", c.c.Handle(), got, err, c.state)
		}
		if c.holdsID() && c != m.init {
			n++
		}
	}
	if m.table.Len() != n {
		t.Fatalf("Len = %d, want %d", m.table.Len(), n)
	}
	if !slices.Equal(m.gotChild, m.onChild) {
		t.Fatalf("OnChild: %v, want %v", m.gotChild, m.onChild)
	}
	slices.Sort(m.gotReap) // a call that reaps several may do so in any order
	slices.Sort(m.onReap)
	if !slices.Equal(m.gotReap, m.onReap) {
		t.Fatalf("OnReap: %v, want %v", m.gotReap, m.onReap)
	}
}

// any draws a cage, rather one of those that are still there.
func (m *model) any(t *rapid.T) *modelCage {
	var there []*modelCage
	for _, c := range m.cages {
		if c.holdsID() {
			there = append(there, c)
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "of all") == 0 {
		there = m.cages
	}
	return there[rapid.IntRange(0, len(there)-1).Draw(t, "cage")]
}

// anyParent draws a cage, rather one that has children.
func (m *model) anyParent(t *rapid.T) *modelCage {
	parents := slices.DeleteFunc(slices.Clone(m.cages), func(c *modelCage) bool { return len(m.children(c)) == 0 })
	if len(parents) == 0 || rapid.IntRange(0, 3).Draw(t, "of any") == 0 {
		return m.any(t)
	}
	return parents[rapid.IntRange(0, len(parents)-1).Draw(t, "parent")]
}

// verdict compares an error with whether there must be one.
func verdict(t *rapid.T, what string, err, want error) {
	if !errors.Is(err, want) { // errors.Is(nil, nil) holds
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func (m *model) alloc(t *rapid.T) {
	id := m.any(t).id
	p := m.byID(id)
	c, err := m.table.Alloc(id)
	count := 0
	for _, c := range m.cages[1:] {
		if c.holdsID() {
			count++
		}
	}
	switch {
	case p == nil || p.sealed:
		verdict(t, "Alloc without a parent", err, cage.ErrNoParent)
		return
	case count >= m.max:
		verdict(t, "Alloc past the limit", err, cage.ErrLimit)
		return
	}
	verdict(t, "Alloc", err, nil)
	want := abi.CageID(2)
	for m.byID(want) != nil {
		want++
	}
	if c.ID() != want {
		t.Fatalf("Alloc: id %d, want %d", c.ID(), want)
	}
	for _, other := range m.cages {
		if other.c.Generation() == c.Generation() {
			t.Fatalf("Alloc: %v and %v", c.Handle(), other.c.Handle())
		}
	}
	m.cages = append(m.cages, &modelCage{c: c, id: c.ID(), parent: p})
}

func (m *model) end(t *rapid.T) {
	c := m.any(t)
	if rapid.IntRange(0, 2).Draw(t, "a parent") == 0 {
		c = m.anyParent(t)
	}
	status := rapid.Uint32().Draw(t, "status")
	err := m.table.Zombie(c.c, status)
	if c == m.init || c.state != cage.Running {
		verdict(t, "Zombie", err, cage.ErrState)
		return
	}
	verdict(t, "Zombie", err, nil)
	m.zombie(c, status)
	m.settle(t, c)
}

func (m *model) reapByHost(t *rapid.T) {
	c := m.any(t)
	err := m.table.Reap(c.c)
	switch {
	case c.state != cage.Zombie:
		verdict(t, "Reap", err, cage.ErrState)
	case c.parent != m.init:
		verdict(t, "Reap", err, cage.ErrNotHeld)
	default:
		verdict(t, "Reap", err, nil)
		m.reap(c)
		m.settle(t, nil)
	}
}

func (m *model) discard(t *rapid.T) {
	c := m.any(t)
	err := m.table.Discard(c.c)
	if c == m.init || c.state != cage.Running || len(m.children(c)) > 0 {
		verdict(t, "Discard", err, cage.ErrState)
		return
	}
	verdict(t, "Discard", err, nil)
	c.state = cage.Discarded
	m.settle(t, nil)
}

func (m *model) reparentByHost(t *rapid.T) {
	c := m.anyParent(t)
	err := m.table.Reparent(c.c)
	if c == m.init || c.state != cage.Running {
		verdict(t, "Reparent", err, cage.ErrState)
		return
	}
	verdict(t, "Reparent", err, nil)
	m.reparent(c)
	m.settle(t, nil)
}

// wait asks for a child, and keeps the wait if it blocks.
func (m *model) wait(t *rapid.T) {
	id := m.anyParent(t).id
	p := m.byID(id)
	sel, matching := cage.AnyChild(), []*modelCage(nil)
	if p != nil {
		matching = m.children(p)
	}
	var child *modelCage
	if rapid.Bool().Draw(t, "one") {
		child = m.any(t)
		if len(matching) > 0 && rapid.Bool().Draw(t, "own") {
			child = matching[rapid.IntRange(0, len(matching)-1).Draw(t, "child")]
		}
		sel = cage.OneChild(child.id)
		matching = slices.DeleteFunc(matching, func(c *modelCage) bool { return c.id != child.id })
		child = m.byID(child.id)
	}
	opts := cage.Options{NoHang: rapid.Bool().Draw(t, "no hang"), NoReap: rapid.Bool().Draw(t, "no reap")}
	w := startWait(m.table, id, sel, opts)
	synctest.Wait()

	var zombie *modelCage
	for _, c := range matching {
		if c.state == cage.Zombie && (zombie == nil || c.ended < zombie.ended) {
			zombie = c
		}
	}
	var o outcome
	select {
	case o = <-w.done:
	default:
		if p == nil || len(matching) == 0 || zombie != nil || opts.NoHang {
			t.Fatalf("a wait of cage %d is blocked for nothing", id)
		}
		m.waits = append(m.waits, &modelWait{parent: p, child: child, opts: opts, w: w})
		return
	}
	switch {
	case p == nil:
		verdict(t, "Wait of no cage", o.err, cage.ErrNoParent)
	case len(matching) == 0:
		verdict(t, "Wait without a child", o.err, cage.ErrNoChild)
	case zombie != nil:
		verdict(t, "Wait with a zombie", o.err, nil)
		if o.result != (cage.WaitResult{Child: zombie.c.Handle(), Status: zombie.status}) {
			t.Fatalf("Wait = %v, want cage %d, which ended first", o.result, zombie.id)
		}
		if !opts.NoReap {
			m.reap(zombie)
			m.settle(t, nil)
		}
	default:
		verdict(t, "Wait with NoHang", o.err, nil)
		if o.result != (cage.WaitResult{}) || !opts.NoHang {
			t.Fatalf("Wait = %v with no zombie", o.result)
		}
	}
}

func (m *model) cancel(t *rapid.T) {
	if len(m.waits) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.waits)-1).Draw(t, "wait")
	w := m.waits[i]
	m.waits = slices.Delete(m.waits, i, i+1)
	w.w.cancel(context.DeadlineExceeded)
	synctest.Wait()
	select {
	case o := <-w.w.done:
		verdict(t, "a Wait that was cancelled", o.err, context.DeadlineExceeded)
	default:
		t.Fatal("a Wait that was cancelled is blocked")
	}
	m.settle(t, nil)
}

// inBubble runs f in a synctest bubble, and hands on its panic, which is how rapid ends a failed run.
func inBubble(t *testing.T, f func()) {
	var panicked any
	synctest.Test(t, func(*testing.T) {
		defer func() { panicked = recover() }()
		f()
	})
	if panicked != nil {
		panic(panicked)
	}
}

func TestTable_AgreesWithAModelThatLooksAtEveryCage(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			m := newModel(rapid.IntRange(1, 12).Draw(rt, "max"))
			defer func() { // so that the bubble ends
				for _, w := range m.waits {
					w.w.cancel(context.Canceled)
				}
			}()
			actions := []func(*rapid.T){
				m.alloc, m.alloc, m.alloc, m.wait, m.wait, m.wait, m.end, m.end,
				m.reapByHost, m.discard, m.reparentByHost, m.cancel,
			}
			// Not T.Repeat, whose runs are too short for a tree to grow and be orphaned.
			for range rapid.IntRange(1, 200).Draw(rt, "steps") {
				actions[rapid.IntRange(0, len(actions)-1).Draw(rt, "action")](rt)
				m.check(rt)
			}
		})
	})
}
