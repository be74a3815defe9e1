package threei_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// copyWorld is a grate that serves a call of one cage, and a stranger; all with memory.
func copyWorld(tb testing.TB) (w *world, g, a, stranger *cage) {
	w = newWorld(tb)
	g, a, stranger = w.withMemory(policy), w.withMemory(app), w.withMemory(other)
	w.setPort(policy)
	w.register(app, 1, policy, 1)
	return w, g, a, stranger
}

// copyCall is copy_data_between_cages as a guest makes it.
func (c *cage) copyCall(th *threei.Thread, d threei.Data) int64 {
	return c.w.Syscall(th, abi.CallCopyDataBetweenCages, &threei.Args{
		Val:  [6]uint64{d.Src, d.Dst, d.Len, uint64(d.Kind)},
		Cage: [6]abi.CageID{d.SrcCage, d.DstCage},
	})
}

func TestCopyData_CopiesExactlyWhatItShould(t *testing.T) {
	w, g, a, _ := copyWorld(t)
	for i := range a.bytes {
		a.bytes[i] = byte(i%251 + 1)
	}
	copy(a.bytes[100:], "hello\x00")
	a.bytes[memSize-1] = 0
	for _, c := range []struct {
		name     string
		src, dst uint64
		n        uint64
		kind     threei.CopyKind
		moved    int
	}{
		{"bytes", 100, 200, 50, threei.CopyBytes, 50},
		{"no bytes", 100, 200, 0, threei.CopyBytes, 0},
		{"no bytes at the end", memSize, memSize, 0, threei.CopyBytes, 0},
		{"all bytes", 0, 0, memSize, threei.CopyBytes, memSize},
		{"a string", 100, 200, 50, threei.CopyString, 6},
		{"a string that just fits", 100, 200, 6, threei.CopyString, 6},
		{"a string, with a length far past the end", 100, 200, math.MaxUint32, threei.CopyString, 6},
		{"the string at the end", memSize - 10, memSize - 10, 100, threei.CopyString, 10},
		{"an empty string", 105, 7, 1, threei.CopyString, 1},
		{"a long string", 106, 0, memSize, threei.CopyString, memSize - 106},
	} {
		clear(g.bytes)
		want := make([]byte, memSize)
		copy(want[c.dst:], a.bytes[c.src:c.src+uint64(c.moved)])
		d := threei.Data{Src: a.at(c.src), SrcCage: app, Dst: g.at(c.dst), DstCage: policy, Len: c.n, Kind: c.kind}
		expect(t, c.name, g.copyCall(g.thread(), d), int64(d.Dst))
		if !bytes.Equal(g.bytes, want) {
			t.Errorf("%s: something else arrived", c.name)
		}
		clear(g.bytes)
		if err := w.CopyData(bg, d); err != nil || !bytes.Equal(g.bytes, want) {
			t.Errorf("%s, by the host: %v", c.name, err)
		}
	}
	if w.Uses(app) != 0 || w.Uses(policy) != 0 {
		t.Error("a cage is still in use")
	}
}

func TestCopyData_Errors(t *testing.T) {
	w, g, a, b := copyWorld(t)
	for i := range a.bytes {
		a.bytes[i] = 1
	}
	stopped := w.withMemory(30)
	w.register(30, 1, policy, 1)
	stopped.stop()
	good := threei.Data{Src: a.at(0), SrcCage: app, Dst: g.at(0), DstCage: policy, Len: 100}
	with := func(edit func(d *threei.Data)) threei.Data {
		d := good
		edit(&d)
		return d
	}
	for _, c := range []struct {
		name string
		d    threei.Data
		want int64
	}{
		{"same cage", with(func(d *threei.Data) { d.SrcCage, d.Src = policy, g.at(500) }), aborted},
		{"destination 0", with(func(d *threei.Data) { d.Dst = 0 }), aborted},
		{"4 GiB", with(func(d *threei.Data) { d.Len = 1 << 32 }), aborted},
		{"4 GiB less 1", with(func(d *threei.Data) { d.Len = 1<<32 - 1 }), aborted},
		{"a length of 64 bits", with(func(d *threei.Data) { d.Len = math.MaxUint64 }), aborted},
		{"unknown kind", with(func(d *threei.Data) { d.Kind = 2 }), aborted},
		{"unknown kind of 64 bits", with(func(d *threei.Data) { d.Kind = math.MaxUint64 }), aborted},
		{"source past its end", with(func(d *threei.Data) { d.Src = a.at(memSize - 99) }), aborted},
		{"source before it", with(func(d *threei.Data) { d.Src = a.at(0) - 1 }), aborted},
		{"source 0", with(func(d *threei.Data) { d.Src = 0 }), aborted},
		{"destination past its end", with(func(d *threei.Data) { d.Dst = g.at(memSize - 99) }), aborted},
		{"destination before it", with(func(d *threei.Data) { d.Dst = g.at(0) - 1 }), aborted},
		{"nothing past the end", with(func(d *threei.Data) { d.Src, d.Len = a.at(memSize+1), 0 }), aborted},
		{"swapped cages", with(func(d *threei.Data) { d.SrcCage, d.DstCage = policy, app }), aborted},
		{"a string without NUL", with(func(d *threei.Data) { d.Kind = threei.CopyString }), aborted},
		{"a string that runs out of memory", with(func(d *threei.Data) {
			d.Kind, d.Src, d.Len = threei.CopyString, a.at(memSize-5), 50
		}), aborted},
		{"a string of no bytes", with(func(d *threei.Data) { d.Kind, d.Len = threei.CopyString, 0 }), aborted},
		{"a string at 0", with(func(d *threei.Data) { d.Kind, d.Src = threei.CopyString, 0 }), aborted},
		{"unknown source", with(func(d *threei.Data) { d.SrcCage = 99 }), esrch},
		{"unknown destination", with(func(d *threei.Data) { d.DstCage = 99 }), esrch},
		{"stopping source", with(func(d *threei.Data) { d.SrcCage, d.Src = 30, stopped.at(0) }), esrch},
		{"stopping destination", with(func(d *threei.Data) { d.DstCage, d.Dst = 30, stopped.at(0) }), esrch},
	} {
		expect(t, c.name, g.copyCall(g.thread(), c.d), c.want)
		err := w.CopyData(bg, c.d)
		if c.want == aborted && !errors.Is(err, threei.ErrRange) ||
			c.want == esrch && !errors.Is(err, threei.ErrNoCage) && !errors.Is(err, threei.ErrStopping) {
			t.Errorf("%s, by the host: %v", c.name, err)
		}
	}
	foreign := with(func(d *threei.Data) { d.SrcCage, d.Src = other, b.at(0) })
	expect(t, "a stranger's memory", g.copyCall(g.thread(), foreign), aborted)
	if err := w.CopyData(bg, foreign); err != nil {
		t.Errorf("a stranger's memory, by the host: %v", err)
	}
	for i, v := range g.bytes {
		if v != b.bytes[i] {
			t.Fatalf("byte %d was written", i)
		}
	}
	ended, end := context.WithCancelCause(bg)
	why := errors.New("enough")
	end(why)
	if err := w.CopyData(ended, good); !errors.Is(err, why) {
		t.Errorf("with a context that is over: %v", err)
	}
	g.stop()
	expect(t, "a caller that is stopping", g.copyCall(g.thread(), good), esrch)
}

func TestCopyData_ReachesScratchMemoryOfTheCaller(t *testing.T) {
	w, g, a, _ := copyWorld(t)
	caller, th := a.thread(), g.thread()
	path := caller.Scratch(64)
	copy(path, "path\x00rest")
	d := threei.Data{
		Src: addrOf(path), SrcCage: abi.CageRawPOSIX, Dst: g.at(10), DstCage: policy, Len: 4096, Kind: threei.CopyString,
	}
	expect(t, "without a caller", g.copyCall(th, d), aborted)
	th.Caller = caller
	expect(t, "from the caller's scratch", g.copyCall(th, d), int64(d.Dst))
	if string(g.bytes[10:16]) != "path\x00\x00" {
		t.Errorf("%q arrived", g.bytes[10:16])
	}
	back := threei.Data{Src: g.at(10), SrcCage: policy, Dst: addrOf(path) + 8, DstCage: abi.CageRawPOSIX, Len: 4}
	expect(t, "to the caller's scratch", g.copyCall(th, back), int64(back.Dst))
	if string(path[8:12]) != "path" {
		t.Errorf("%q arrived", path[8:12])
	}
	if err := w.CopyData(bg, d); !errors.Is(err, threei.ErrRange) {
		t.Errorf("by the host, which has no caller: %v", err)
	}
}

// TestCopyData_LeavesACageThatStops: a long copy ends when either cage does.
func TestCopyData_LeavesACageThatStops(t *testing.T) {
	for _, stops := range []abi.CageID{app, policy} {
		w := newWorld(t)
		const size = 64 << 20
		g, a := w.add(policy, make([]byte, size)), w.add(app, make([]byte, size))
		d := threei.Data{Src: a.at(0), SrcCage: app, Dst: g.at(0), DstCage: policy, Len: size}
		ctx, cancel := context.WithCancel(bg)
		failed := make(chan error)
		go func() {
			for ctx.Err() == nil { // until it meets the stop in the middle, or before
				if err := w.CopyData(bg, d); err != nil {
					failed <- err
					return
				}
			}
		}()
		c := w.cages[stops]
		c.stop()
		if err := <-failed; !errors.Is(err, threei.ErrStopping) {
			t.Errorf("cage %d stops: %v", stops, err)
		}
		cancel()
		if w.Uses(app)+w.Uses(policy) != 0 {
			t.Error("a cage is still in use")
		}
	}
}

// TestCopyData_AgreesWithASimpleModel: for any arguments, it does exactly what the model does, and touches nothing else.
func TestCopyData_AgreesWithASimpleModel(t *testing.T) {
	w, g, a, b := copyWorld(t)
	cages := []*cage{g, a, b}
	rapid.Check(t, func(t *rapid.T) { checkCopy(t, w, cages, drawData(t, cages)) })
}

// drawData is any copy: good ones, and nearly good ones.
func drawData(t *rapid.T, cages []*cage) threei.Data {
	addr := func(name string) (uint64, abi.CageID) {
		c := rapid.SampledFrom(cages).Draw(t, name+" cage")
		off := rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64Range(memSize-300, memSize+2), rapid.Uint64()).Draw(t, name)
		id := rapid.OneOf(rapid.Just(c.id), rapid.Just(c.id), rapid.SampledFrom([]abi.CageID{
			policy, app, other, 99, abi.CageRawPOSIX,
		})).Draw(t, name+" named")
		return c.at(off), id
	}
	var d threei.Data
	d.Src, d.SrcCage = addr("source")
	d.Dst, d.DstCage = addr("destination")
	d.Len = rapid.OneOf(rapid.Uint64Range(0, 400), rapid.Uint64Range(memSize-300, memSize+1),
		rapid.Just[uint64](1<<32), rapid.Uint64()).Draw(t, "length")
	d.Kind = threei.CopyKind(rapid.OneOf(rapid.Uint64Range(0, 1), rapid.Uint64Range(0, 3)).Draw(t, "kind"))
	return d
}

type fataler interface {
	Fatalf(format string, args ...any)
}

// checkCopy makes the copy, as a guest of cages[0], and compares it with what should come of it.
func checkCopy(t fataler, w *world, cages []*cage, d threei.Data) {
	before := make([][]byte, len(cages))
	byID := map[abi.CageID]int{}
	for i, c := range cages {
		for j := range 300 { // strings of all lengths at both ends
			c.bytes[j], c.bytes[memSize-1-j] = byte(j%7+i), byte((j+3)%11+i)
		}
		before[i] = bytes.Clone(c.bytes)
		byID[c.id] = i
	}
	want, moved := int64(d.Dst), uint64(0)
	src, srcOK := byID[d.SrcCage]
	dst, dstOK := byID[d.DstCage]
	switch {
	case d.SrcCage == d.DstCage || d.Dst == 0 || d.Len >= 1<<32 || d.Kind > 1:
		want = aborted
	case !srcOK && d.SrcCage != abi.CageRawPOSIX || !dstOK && d.DstCage != abi.CageRawPOSIX:
		want = esrch
	case d.SrcCage == other || d.DstCage == other:
		want = aborted // a stranger's
	case !srcOK && d.Len > 0 || !dstOK && d.Len > 0:
		want = aborted // nobody's scratch memory
	default:
		moved = d.Len
		from := uint64(0)
		if srcOK {
			from = d.Src - uint64(cages[src].mem.Base())
		}
		if srcOK && from > memSize {
			want = aborted
			break
		}
		if d.Kind == threei.CopyString {
			i := -1
			if srcOK {
				i = bytes.IndexByte(before[src][from:min(memSize, from+d.Len)], 0)
			}
			if i < 0 {
				want = aborted
				break
			}
			moved = uint64(i) + 1
		}
		if srcOK && moved > memSize-from {
			want = aborted
			break
		}
		if to := d.Dst - uint64(cages[min(dst, len(cages)-1)].mem.Base()); dstOK && (to > memSize || moved > memSize-to) {
			want = aborted
		} else if dstOK && srcOK {
			copy(before[dst][to:], before[src][from:from+moved])
		}
	}
	if got := cages[0].copyCall(cages[0].thread(), d); got != want {
		t.Fatalf("%+v: %d, want %d", d, got, want)
	}
	for i, c := range cages {
		if !bytes.Equal(c.bytes, before[i]) {
			t.Fatalf("%+v: memory of cage %d is not what it should be", d, c.id)
		}
		if n := w.Uses(c.id); n != 0 {
			t.Fatalf("%+v: cage %d has %d users", d, c.id, n)
		}
	}
}

func FuzzCopyData(f *testing.F) {
	f.Add(uint8(1), uint8(0), uint64(0), uint64(0), uint64(app), uint64(policy), uint64(100), uint64(0))
	f.Add(uint8(1), uint8(0), uint64(290), uint64(memSize-5), uint64(app), uint64(policy), uint64(300), uint64(1))
	f.Add(uint8(1), uint8(0), uint64(memSize), uint64(memSize), uint64(app), uint64(policy), uint64(0), uint64(0))
	f.Add(uint8(0), uint8(1), uint64(memSize-1), uint64(math.MaxUint64), uint64(policy), uint64(app), uint64(2), uint64(0))
	f.Add(uint8(2), uint8(0), uint64(1), uint64(1), uint64(other), uint64(policy), uint64(8), uint64(0))
	f.Add(uint8(0), uint8(0), uint64(1), uint64(1), uint64(abi.CageRawPOSIX), uint64(policy), uint64(1<<32-1), uint64(1))
	w, g, a, b := copyWorld(f)
	cages := []*cage{g, a, b}
	f.Fuzz(func(t *testing.T, src, dst uint8, srcOff, dstOff, srcCage, dstCage, n, kind uint64) {
		checkCopy(t, w, cages, threei.Data{
			Src: cages[src%3].at(srcOff), SrcCage: abi.CageID(srcCage),
			Dst: cages[dst%3].at(dstOff), DstCage: abi.CageID(dstCage), Len: n, Kind: threei.CopyKind(kind),
		})
	})
}
