package threei_test

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// Lind's figures for the same, from its own benchmark on the machines that this was written on, in nanoseconds.
const (
	lindLookupHot     = 29
	lindLookupCages   = 35
	lindLookupThreads = 88
	lindRegister      = 57
	lindCopy256       = 28_400
)

// against reports how long an operation took, as a share of Lind's figure.
func against(b *testing.B, lind float64) {
	ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	b.ReportMetric(ns/lind, "x-lind")
}

// sink and found keep results alive.
var (
	sink  int64
	found atomic.Int64
)

// BenchmarkLookup is a system call that a grate serves, from the thread to the hook that hands it to the shim: the look-up
// and little else.
func BenchmarkLookup(b *testing.B) {
	const call = abi.CallGetpid
	newSystem := func(b *testing.B, cages int) *world {
		w := newWorld(b)
		w.grate(2)
		for i := range cages {
			id := abi.CageID(10 + i)
			w.cage(id)
			w.register(id, call, 2, 7)
		}
		return w
	}
	loop := func(b *testing.B, w *world, cages int) {
		last := abi.CageID(10 + cages - 1)
		id := last
		b.ReportAllocs()
		for b.Loop() {
			sink += int64(w.Lookup(id, call))
			if id++; id > last {
				id = 10
			}
		}
	}
	b.Run("hot", func(b *testing.B) {
		loop(b, newSystem(b, 1), 1)
		against(b, lindLookupHot)
	})
	b.Run("cages=1000", func(b *testing.B) {
		loop(b, newSystem(b, 1000), 1000)
		against(b, lindLookupCages)
	})
	b.Run("threads=2", func(b *testing.B) {
		w := newSystem(b, 1)
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
		b.RunParallel(func(pb *testing.PB) {
			n := int64(0)
			for pb.Next() {
				n += int64(w.Lookup(10, call))
			}
			found.Add(n)
		})
		against(b, lindLookupThreads)
	})
	b.Run("elsewhere=1000000", func(b *testing.B) {
		w := newSystem(b, 1)
		fill(b, w, 1000)
		loop(b, w, 1)
		against(b, lindLookupHot)
	})
}

// fill registers every call of so many other cages: 1024 handlers each.
func fill(b *testing.B, w *world, cages int) {
	const grate = 3
	w.grate(grate)
	for i := range cages {
		id := abi.CageID(100_000 + i)
		w.cage(id)
		if err := w.RegisterAll(bg, id, grate, 1); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSyscall is a whole system call through this package: native, and to the hook of a grate.
func BenchmarkSyscall(b *testing.B) {
	w := newWorld(b)
	w.grate(2)
	c := w.cage(10)
	w.native(abi.CallGetpid, 1)
	w.register(10, abi.CallGeteuid, 2, 7)
	th, a := c.thread(), &threei.Args{}
	for _, call := range []abi.Call{abi.CallGetpid, abi.CallGeteuid} {
		b.Run(call.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink += w.Syscall(th, call, a)
			}
		})
	}
}

func BenchmarkRegister(b *testing.B) {
	for _, c := range []struct {
		name      string
		elsewhere int
		fn        func(w *world, i int) error
	}{
		{"same", 0, func(w *world, _ int) error { return w.RegisterHandler(bg, 10, 5, 2, 1) }},
		{"other function", 0, func(w *world, i int) error { return w.RegisterHandler(bg, 10, 5, 2, uint32(i&0xffff)) }},
		{"other call", 0, func(w *world, i int) error {
			return w.RegisterHandler(bg, 10, abi.Call(i)%1024, 2, uint32(i&0xffff))
		}},
		{"other grate", 0, func(w *world, i int) error { return w.RegisterHandler(bg, 10, 5, abi.CageID(2+i%2), 1) }},
		{"other call, 1000000 elsewhere", 1000, func(w *world, i int) error {
			return w.RegisterHandler(bg, 10, abi.Call(i)%1024, 2, uint32(i&0xffff))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			w.grate(2)
			if c.elsewhere > 0 {
				fill(b, w, c.elsewhere)
			} else {
				w.grate(3)
			}
			w.cage(10)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if err := c.fn(w, i); err != nil {
					b.Fatal(err)
				}
				i++
			}
			against(b, lindRegister)
		})
	}
}

// BenchmarkDeregister registers and deregisters: two operations, so that half of it is what one takes.
func BenchmarkDeregister(b *testing.B) {
	w := newWorld(b)
	w.grate(2)
	w.cage(10)
	for b.Loop() {
		if w.RegisterHandler(bg, 10, 5, 2, 1) != nil || w.RegisterHandler(bg, 10, 5, abi.CageDeregister, 0) != nil {
			b.Fatal("failed")
		}
	}
	against(b, 2*lindRegister)
}

// BenchmarkCopyTable copies a table of 256 handlers: over one with none of them, and over another with as many.
func BenchmarkCopyTable(b *testing.B) {
	w := newWorld(b)
	w.grate(2)
	w.grate(3)
	for id := abi.CageID(10); id < 13; id++ {
		w.cage(id)
	}
	for call := range abi.Call(256) {
		w.register(10, call, 2, uint32(call))
		w.register(11, call, 3, uint32(call)+1)
	}
	for name, sources := range map[string][2]abi.CageID{"same": {10, 10}, "different": {10, 11}} {
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				if err := w.CopyHandlerTable(bg, sources[i%2], 12); err != nil {
					b.Fatal(err)
				}
				i++
			}
			against(b, lindCopy256)
		})
	}
}

// BenchmarkDropGrate is the removal of a grate that serves 64 calls of one cage, with more or fewer others about.
func BenchmarkDropGrate(b *testing.B) {
	for _, others := range []int{10, 10_000} {
		b.Run("others="+strconv.Itoa(others), func(b *testing.B) {
			w := newWorld(b)
			w.grate(3)
			w.cage(10)
			for i := range others {
				id := abi.CageID(1000 + i)
				w.cage(id)
				w.register(id, 1, 3, 1)
			}
			for b.Loop() {
				b.StopTimer()
				g := w.grate(2)
				for call := range abi.Call(64) {
					w.register(10, call, 2, 1)
				}
				g.stop()
				b.StartTimer()
				w.DropHandlers(2, g.exit)
				b.StopTimer()
				g.kill()
				delete(w.cages, 2)
				b.StartTimer()
			}
		})
	}
}
