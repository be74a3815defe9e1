package threei

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/lindbridge/lindbridge/abi"
)

// CopyKind says what CopyData copies.
type CopyKind uint64

// The kinds, by Lind's numbers.
const (
	// CopyBytes copies all bytes, as memcpy.
	CopyBytes CopyKind = 0
	// CopyString copies a string and its NUL, which has to be among the bytes, and nothing after it.
	CopyString CopyKind = 1
)

// copyStep bounds how long a cage that stops waits for a copy, and how long the host holds on to it: some 100 us.
const copyStep = 1 << 20

// Data is what CopyData copies.
type Data struct {
	Src     uint64     // the address of the first byte, in the host
	SrcCage abi.CageID // whose memory that is
	Dst     uint64     // where it goes
	DstCage abi.CageID
	Len     uint64 // how many bytes, for a string the most that it may have with its NUL
	Kind    CopyKind
}

// CopyData copies between the memories of two cages. The memories of both are there until it returns, whatever becomes of
// the cages. While a guest changes the source meanwhile, what arrives is some of the one and some of the other; a string
// ends where it ended at first. From a guest this is call 1002.
//
// # Errors
//
//   - ErrRange: the length is over 4 GiB, the kind unknown, both cages are the same, the destination is 0, a range does
//     not lie in memory, or a string does not end within the length. Nothing was copied
//   - ErrNoCage, ErrStopping: of either. Some may have been copied
//   - the cause of ctx. Some may have been copied
func (s *System) CopyData(ctx context.Context, d Data) error {
	t := &Thread{far: far{sys: s, host: true}}
	err := done(ctx)
	if err == nil {
		err = s.copyData(ctx, t, d)
		t.endUses(0)
	}
	if err != nil {
		return fmt.Errorf("copy data of cage %d to cage %d: %w", d.SrcCage, d.DstCage, err)
	}
	return nil
}

// copyData is CopyData for the thread t, which uses the two cages until its call ends.
func (s *System) copyData(ctx context.Context, t *Thread, d Data) error {
	switch {
	case d.SrcCage == d.DstCage, d.Dst == 0, d.Len > math.MaxUint32, d.Kind > CopyString:
		return ErrRange
	}
	c := copier{ctx: ctx, s: s, t: t}
	var err error
	if c.src, err = s.side(t, d.SrcCage); err != nil {
		return err
	}
	if c.dst, err = s.side(t, d.DstCage); err != nil {
		return err
	}
	// Less than all of it is good enough for a string that ends before.
	src, errno := t.ResolveMost(d.Src, d.Len, d.SrcCage)
	if errno != 0 || d.Kind == CopyBytes && uint64(len(src)) < d.Len {
		return c.outOfRange()
	}
	if d.Kind == CopyString {
		end, err := c.find(src)
		if err != nil {
			return err
		}
		src = src[:end+1]
	}
	dst, errno := t.Resolve(d.Dst, uint64(len(src)), d.DstCage)
	if errno != 0 {
		return c.outOfRange()
	}
	if err := c.copy(dst, src); err != nil {
		return err
	}
	if d.Kind == CopyString {
		dst[len(dst)-1] = 0 // whatever the source has become
	}
	return nil
}

// side is the cage of one side, or nil for memory of the runtime or of t's own cage where nobody knows that.
func (s *System) side(t *Thread, id abi.CageID) (*cage, error) {
	if id == abi.CageRawPOSIX {
		return nil, nil //nolint:nilnil // it is no cage's, and nothing is wrong with that
	}
	if id == t.Cage && !t.host {
		if c := s.cages.LoadLow(uint64(id)); c == nil || !c.stopping() {
			return c, nil
		}
	}
	return s.named(id)
}

// copier is one copy in progress.
type copier struct {
	ctx      context.Context // it lives as long as the call that it is for
	s        *System
	t        *Thread
	src, dst *cage // nil for memory of the runtime
}

// goesOn is an error if the copy has to end.
func (c *copier) goesOn() error {
	for _, side := range [2]*cage{c.src, c.dst} {
		if side != nil && side.stopping() {
			return side.errStopping()
		}
	}
	return done(c.ctx)
}

// outOfRange is the error of a range that does not resolve: perhaps only because a cage has just stopped.
func (c *copier) outOfRange() error {
	if err := c.goesOn(); err != nil {
		return err
	}
	return ErrRange
}

// find is where the first NUL of b is.
func (c *copier) find(b []byte) (int, error) {
	for at := 0; at < len(b); at += copyStep {
		if i := bytes.IndexByte(b[at:min(at+copyStep, len(b))], 0); i >= 0 {
			return at + i, nil
		}
		if err := c.goesOn(); err != nil {
			return 0, err
		}
	}
	return 0, ErrRange
}

// copy copies src to dst, which is as long.
func (c *copier) copy(dst, src []byte) error {
	for len(src) > copyStep {
		copy(dst, src[:copyStep])
		dst, src = dst[copyStep:], src[copyStep:]
		if err := c.goesOn(); err != nil {
			return err
		}
	}
	copy(dst, src)
	return nil
}
