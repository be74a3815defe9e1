package threei

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/release"
)

// This file implements who serves which call: changing the rows, and the reverse index by which the rows of a grate are
// found when it goes.
//
// For each cage and each grate that has handlers on it there is a pair, which lists the calls. The cage's pairs and its
// row are guarded by one lock, the cage's rowMu, so that they always agree; a grate's list of pairs only by the grate's
// grateMu, and a pair is in it from before the first handler until the cage or the grate goes. So
//
//   - to register one more call takes the cage's lock and no other;
//   - a grate that goes looks at its own pairs and nothing else, whatever there is besides;
//   - a grate that is retired gets no new pair, and so no handler: what was registered before is found in its list, what
//     comes later is refused.

// pair is what one grate serves of one cage. It is kept when that is nothing, until one of the two goes.
type pair struct {
	cage  *cage  // immutable
	grate *cage  // immutable
	port  uint64 // the grate's; immutable

	// What follows is guarded by cage.rowMu, save at.
	calls [abi.MaxCall / 64]uint64 // bit i of word w: the call w*64+i
	n     int                      // how many bits are set
	gone  bool                     // it is not among cage.pairs any more
	at    int                      // where it is in grate.serves; guarded by grate.grateMu
}

func (p *pair) add(call abi.Call) {
	w := &p.calls[call/64]
	p.n += int(1 &^ (*w >> (call % 64)))
	*w |= 1 << (call % 64)
}

func (p *pair) remove(call abi.Call) {
	if w, bit := &p.calls[call/64], uint64(1)<<(call%64); *w&bit != 0 {
		*w &^= bit
		p.n--
	}
}

// each calls fn with each call of the pair.
func (p *pair) each(fn func(call abi.Call)) {
	for i, w := range p.calls {
		for ; w != 0; w &= w - 1 {
			fn(abi.Call(i*64 + bits.TrailingZeros64(w)))
		}
	}
}

// RegisterHandler makes the function with index fn in the grate's table serve the call of the target, in place of
// whatever does: the last one wins, and to register the same again changes nothing. With abi.CageDeregister as the grate it
// makes the call native again, whether or not it was.
//
// From a guest this is call 1001, with further rules on who may do that: see the package's documentation.
//
// # Errors
//
//   - ErrNoCage, ErrStopping: of the target, or of the grate
//   - ErrNoGrate: the grate has no port
//   - ErrCall: the call number or the index is too large
//   - an error of the host: there is no memory for the target's handlers
//   - the cause of ctx, if it is over before it begins; it never blocks
func (s *System) RegisterHandler(ctx context.Context, target abi.CageID, call abi.Call, grate abi.CageID, fn uint32) error {
	err := ctx.Err()
	if err == nil {
		if err = s.register(nil, target, call, grate, fn); err == nil {
			return nil
		}
	} else {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("register handler of %v: %w", call, err)
}

// RegisterAll is RegisterHandler for every call there is, in one step for any observer: Lind's MATCHALL. With
// abi.CageDeregister as the grate it makes every call native.
func (s *System) RegisterAll(ctx context.Context, target, grate abi.CageID, fn uint32) error {
	if err := done(ctx); err != nil {
		return fmt.Errorf("register handler: %w", err)
	}
	if err := s.register(nil, target, allCalls, grate, fn); err != nil {
		return fmt.Errorf("register handler of all calls: %w", err)
	}
	return nil
}

// allCalls stands for every call, within this file.
const allCalls = abi.MaxCall

// register is RegisterHandler for the cage by, or for the host if by is nil.
func (s *System) register(by *cage, target abi.CageID, call abi.Call, grate abi.CageID, fn uint32) error {
	if call > allCalls || fn > maxFn {
		return ErrCall
	}
	c := s.cages.LoadLow(uint64(target))
	if c == nil || c.stopping() {
		return c.errNamed(target)
	}
	if grate == abi.CageDeregister {
		return s.deregister(by, c, call)
	}
	g := s.cages.LoadLow(uint64(grate))
	if g == nil || g.stopping() {
		return g.errNamed(grate)
	}
	if by != nil && !(s.mayInterpose(by, c) && s.mayInterpose(by, g)) {
		return abi.EPERM
	}
	port := g.port.Load()
	if port == 0 {
		return ErrNoGrate
	}
	return s.assign(by, c, g, call, grateEntry(port, fn))
}

// renewLocked makes e serve the call, if the grate of e does already, or reports false. Then nothing but the function
// changes, which is what most registrations do: it is setLocked without the rest.
func (c *cage) renewLocked(call abi.Call, e entry) bool {
	c.rowMu.AssertHeld()
	if c.row == 0 {
		return false
	}
	word := &rowAt(c.row).active()[call]
	old := entry(word.Load())
	same := (old^e)>>portShift == 0 // so are the kind and the port
	if same && old != e {
		release.Uint64(word, uint64(e))
	}
	return same
}

// assign makes e, an entry of the grate g, serve the call of c, or all of them, for the cage by.
func (s *System) assign(by, c, g *cage, call abi.Call, e entry) (err error) {
	c.rowMu.Lock()
	if call < allCalls && by != c && c.renewLocked(call, e) {
		c.rowMu.Unlock()
		return nil
	}
	p := c.pairOfLocked(e.port())
	if p == nil || by == c {
		if p, err = s.beginPairLocked(by, c, g, call, e.port()); err != nil {
			c.rowMu.Unlock()
			return err
		}
	}
	if call < allCalls {
		c.setLocked(rowAt(c.row), call, e, p)
	} else {
		c.fillLocked(rowAt(c.row), e, p)
	}
	c.rowMu.Unlock()
	return nil
}

// beginPairLocked is the pair of c and g, which have perhaps none yet, for the cage by to add the call to. It gives c a row
// if it has none.
func (s *System) beginPairLocked(by, c, g *cage, call abi.Call, port uint64) (*pair, error) {
	c.rowMu.AssertHeld()
	if c.row == 0 {
		if err := s.giveRowLocked(c); err != nil {
			return nil, err
		}
	}
	if by == c && !c.ownsLocked(rowAt(c.row), call) {
		return nil, abi.EPERM
	}
	if p := c.pairLocked(g, port); p != nil {
		return p, nil
	}
	return nil, g.errStopping()
}

// deregister makes the call, or all of them, native; or, where another cage than the target itself asks for it, what it
// is in that cage's own row: else a cage could let its child do what it may not do itself.
func (s *System) deregister(by, c *cage, call abi.Call) error {
	if by != nil && by != c {
		if !s.mayInterpose(by, c) {
			return abi.EPERM
		}
		unlock := lockRows(by, c)
		defer unlock()
		if by.row != 0 {
			return s.copyLocked(by, c, call)
		}
	} else {
		c.rowMu.Lock()
		defer c.rowMu.Unlock()
	}
	switch {
	case c.over:
		return c.errStopping()
	case c.row == 0:
		return nil
	}
	r := rowAt(c.row)
	switch {
	case by == c && !c.ownsLocked(r, call):
		return abi.EPERM
	case call == allCalls:
		c.fillLocked(r, 0, nil)
	default:
		c.setLocked(r, call, 0, nil)
	}
	return nil
}

// CopyHandlerTable makes the handlers of dst those of src, all of them in one step for any observer. Handlers whose grate
// has gone meanwhile fail as they do in src. From a guest this is call 1003.
//
// # Errors
//
//   - ErrNoCage, ErrStopping: of either
//   - ErrNoHandlers: no handler was ever registered on src
//   - an error of the host: there is no memory for the handlers of dst
//   - the cause of ctx, if it is over before it begins; it never blocks
func (s *System) CopyHandlerTable(ctx context.Context, src, dst abi.CageID) error {
	err := done(ctx)
	if err == nil {
		err = s.copyTable(nil, src, dst)
	}
	if err != nil {
		return fmt.Errorf("copy handler table of cage %d to cage %d: %w", src, dst, err)
	}
	return nil
}

func (s *System) copyTable(by *cage, src, dst abi.CageID) error {
	from, err := s.named(src)
	if err != nil {
		return err
	}
	to, err := s.named(dst)
	if err != nil {
		return err
	}
	if by != nil && !(s.mayInterpose(by, from) && s.mayInterpose(by, to) && (to != by || from == by)) {
		return abi.EPERM
	}
	unlock := lockRows(from, to)
	defer unlock()
	switch {
	case from.over:
		return from.errStopping()
	case from.row == 0:
		return ErrNoHandlers
	case from == to:
		return nil
	}
	return s.copyLocked(from, to, allCalls)
}

// copyLocked makes the call, or all of them, be served on to as on from, which has a row.
func (s *System) copyLocked(from, to *cage, call abi.Call) error {
	from.rowMu.AssertHeld()
	to.rowMu.AssertHeld()
	if to.row == 0 {
		if err := s.giveRowLocked(to); err != nil {
			return err
		}
	}
	r, src := rowAt(to.row), rowAt(from.row)
	if call < allCalls {
		e, p := src.at(call), (*pair)(nil)
		if e.isGrate() {
			if p = to.pairLocked(from.pairOfLocked(e.port()).grate, e.port()); p == nil {
				e = entryGone
			}
		}
		to.setLocked(r, call, e, p)
		return nil
	}
	// The grates that are just going, of which from has not heard yet. There hardly ever is one.
	var going []uint64
	mine := make([]*pair, len(from.pairs))
	for i, p := range from.pairs {
		if p.n == 0 {
			continue
		}
		if mine[i] = to.pairLocked(p.grate, p.port); mine[i] == nil {
			going = append(going, p.port)
		}
	}
	for _, p := range to.pairs {
		p.calls, p.n = [len(p.calls)]uint64{}, 0
	}
	for i, p := range mine {
		if p != nil {
			p.calls, p.n = from.pairs[i].calls, from.pairs[i].n
		}
	}
	if going == nil {
		r.replace(src.at)
		return nil
	}
	r.replace(func(call abi.Call) entry {
		e := src.at(call)
		if e.isGrate() && slices.Contains(going, e.port()) {
			e = entryGone
		}
		return e
	})
	return nil
}

// giveRowLocked gives c, which has none, a row.
func (s *System) giveRowLocked(c *cage) error {
	c.rowMu.AssertHeld()
	if c.over {
		return c.errStopping()
	}
	addr, err := s.table.take()
	if err != nil {
		return err
	}
	c.row = addr
	s.table.publish(c.id, addr)
	return nil
}

// ownsLocked reports whether the call, or each of them, is native or served by c itself.
func (c *cage) ownsLocked(r *row, call abi.Call) bool {
	c.rowMu.AssertHeld()
	if call < allCalls {
		e := r.at(call)
		return e == 0 || e.isGrate() && e.port() == c.port.Load()
	}
	for call = range allCalls {
		if !c.ownsLocked(r, call) {
			return false
		}
	}
	return true
}

// pairOfLocked is the pair of c and the grate that has the port, or nil.
func (c *cage) pairOfLocked(port uint64) *pair {
	c.rowMu.AssertHeld()
	for _, p := range c.pairs {
		if p.port == port {
			return p
		}
	}
	return nil
}

// pairLocked is the pair of c and the grate g, made if there is none; nil if g is retired.
func (c *cage) pairLocked(g *cage, port uint64) *pair {
	c.rowMu.AssertHeld()
	if p := c.pairOfLocked(port); p != nil {
		return p
	}
	g.grateMu.Lock()
	defer g.grateMu.Unlock()
	if g.retired {
		return nil
	}
	p := &pair{cage: c, grate: g, port: port, at: len(g.serves)}
	g.serves = append(g.serves, p)
	c.pairs = append(c.pairs, p)
	return p
}

// setLocked makes e serve the call; p is the pair that it belongs to, nil if it is no grate's.
func (c *cage) setLocked(r *row, call abi.Call, e entry, p *pair) {
	c.rowMu.AssertHeld()
	word := &r.active()[call]
	old := entry(word.Load())
	if old == e {
		return
	}
	if same := p != nil && old.isGrate() && old.port() == p.port; !same {
		if old.isGrate() {
			c.pairOfLocked(old.port()).remove(call)
		}
		if p != nil {
			p.add(call)
		}
	}
	release.Uint64(word, uint64(e)) // one step for every reader
}

// fillLocked makes e serve every call; p is the pair that it belongs to, nil if it is no grate's.
func (c *cage) fillLocked(r *row, e entry, p *pair) {
	c.rowMu.AssertHeld()
	for _, q := range c.pairs {
		q.calls, q.n = [len(q.calls)]uint64{}, 0
	}
	if p != nil {
		for i := range p.calls {
			p.calls[i] = ^uint64(0)
		}
		p.n = int(allCalls)
	}
	r.replace(func(abi.Call) entry { return e })
}

// lockRows locks the rows of two cages, which may be one and the same.
func lockRows(a, b *cage) (unlock func()) {
	if a == b {
		a.rowMu.Lock()
		return a.rowMu.Unlock
	}
	if a.seq > b.seq {
		a, b = b, a
	}
	a.rowMu.LockKeyed(a.seq)
	b.rowMu.LockKeyed(b.seq)
	return func() {
		b.rowMu.Unlock()
		a.rowMu.Unlock()
	}
}

// DropHandlers is the handlers step of the cage that has the id and this exit: its own row is given back, and each entry
// that targets it becomes "target gone": calls that come to it answer ELINDESRCH from now on, and never reach native. It
// costs what the cage had registered and what was registered on it, whatever else there is. It never blocks, and to call it
// again does nothing.
//
// Preconditions:
// The cage is quiescent.
func (s *System) DropHandlers(id abi.CageID, exit *exitcoord.Exit) {
	if c := s.find(id, exit); c != nil {
		s.drop(c)
	}
}

func (s *System) drop(c *cage) {
	c.grateMu.Lock()
	c.retired = true
	serves := c.serves
	c.serves = nil
	c.grateMu.Unlock()
	for _, p := range serves {
		p.fail()
	}

	c.rowMu.Lock()
	defer c.rowMu.Unlock()
	c.over = true
	for _, p := range c.pairs {
		p.gone = true
		p.grate.forget(p)
	}
	c.pairs = nil
	if c.row != 0 {
		s.table.give(c.id, c.row)
		c.row = 0
	}
}

// fail makes the entries of a grate that is retired fail.
func (p *pair) fail() {
	c := p.cage
	c.rowMu.Lock()
	defer c.rowMu.Unlock()
	if p.gone {
		return
	}
	r := rowAt(c.row)
	p.each(func(call abi.Call) { r.set(call, entryGone) })
	p.gone = true
	i := slices.Index(c.pairs, p)
	c.pairs = slices.Delete(c.pairs, i, i+1)
}

// forget takes a pair off the list of its grate, which may have given the list up.
func (c *cage) forget(p *pair) {
	c.grateMu.Lock()
	defer c.grateMu.Unlock()
	if c.retired {
		return
	}
	last := len(c.serves) - 1
	moved := c.serves[last]
	c.serves[p.at] = moved
	moved.at = p.at
	c.serves[last] = nil
	c.serves = c.serves[:last]
}
