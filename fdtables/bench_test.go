package fdtables_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// fill opens n descriptors in t, each of an underfd of its own from base on.
func fill(tb testing.TB, t *fdtables.Table, n int, base uint64) {
	tb.Helper()
	for i := range n {
		if _, errno := t.Open(fdtables.KindKernel, base+uint64(i), false, 0); errno != 0 {
			tb.Fatalf("open %d: %v", i, errno)
		}
	}
}

// perGoroutine runs body(worker, iterations) on n goroutines that share b.N between them.
func perGoroutine(b *testing.B, n int, body func(worker, iterations int)) {
	b.ReportAllocs()
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range n {
		wg.Go(func() { body(w, b.N/n+1) })
	}
	wg.Wait()
}

// Of upstream's default table, dashmaparray, as measured for this project in one run of a harness that times the named
// operation alone: nanoseconds. See ../shared/design/performance.md.
const (
	upstreamTranslate  = 66
	upstreamTranslates = 110 // several threads: 60 to 160, noisy
)

var (
	upstreamOpenClose = map[int]float64{0: 264, 1023: 507} // by how many lower descriptors are used
	upstreamFork      = map[int]float64{0: 1_600, 64: 4_100, 1024: 41_000}
	upstreamRemove    = map[int]float64{64: 5_700, 1024: 57_000}
)

// beside reports the time of one operation as a part of upstream's, where that is known.
func beside(b *testing.B, upstream float64) {
	if upstream > 0 {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/upstream, "of-upstream")
	}
}

var goroutines = []int{1, 2, 4, 8, 16}

// sink keeps results alive; each goroutine writes its own line of it.
var sink [16]struct {
	v atomic.Uint64
	_ [56]byte
}

func BenchmarkTranslate(b *testing.B) {
	for _, own := range []bool{false, true} {
		for _, n := range goroutines {
			name := "one table"
			if own {
				name = "one table each"
			}
			b.Run(fmt.Sprintf("%s/goroutines=%d", name, n), func(b *testing.B) {
				ts := fdtables.New(fdtables.Config{})
				tables := make([]*fdtables.Table, n)
				for i := range tables {
					if i > 0 && !own {
						tables[i] = tables[0]
						continue
					}
					tables[i] = newTable(b, ts, abi.CageID(i+2))
					fill(b, tables[i], 64, 100)
				}
				perGoroutine(b, n, func(w, iterations int) {
					t, sum := tables[w], uint64(0)
					for i := range iterations {
						e, _ := t.Translate(fdtables.FD(i & 63))
						sum += e.UnderFD
					}
					sink[w].v.Store(sum)
				})
				if n == 1 {
					beside(b, upstreamTranslate)
				} else {
					beside(b, upstreamTranslates)
				}
			})
		}
	}
}

// BenchmarkTranslate_BesideChurn translates while another goroutine opens and closes in the same table.
func BenchmarkTranslate_BesideChurn(b *testing.B) {
	ts := fdtables.New(fdtables.Config{})
	t := newTable(b, ts, 2)
	fill(b, t, 64, 100)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			fd, _ := t.Open(fdtables.KindKernel, 5000, false, 0)
			_ = t.Close(fd)
		}
	})
	perGoroutine(b, 1, func(_, iterations int) {
		sum := uint64(0)
		for i := range iterations {
			e, _ := t.Translate(fdtables.FD(i & 63))
			sum += e.UnderFD
		}
		sink[0].v.Store(sum)
	})
	stop.Store(true)
	wg.Wait()
}

// BenchmarkLookupAndTranslate is what a host pays that keeps cage ids and not tables.
func BenchmarkLookupAndTranslate(b *testing.B) {
	ts := fdtables.New(fdtables.Config{})
	for i := range 10000 {
		newTable(b, ts, abi.CageID(i+2))
	}
	t, _ := ts.Table(7000)
	fill(b, t, 64, 100)
	b.ReportAllocs()
	b.ResetTimer()
	sum := uint64(0)
	for i := range b.N {
		t, _ := ts.Table(7000)
		e, _ := t.Translate(fdtables.FD(i & 63))
		sum += e.UnderFD
	}
	sink[0].v.Store(sum)
}

func BenchmarkAcquireRelease(b *testing.B) {
	for _, own := range []bool{true, false} {
		for _, n := range goroutines {
			name := "one fd"
			if own {
				name = "one fd each"
			}
			b.Run(fmt.Sprintf("%s/goroutines=%d", name, n), func(b *testing.B) {
				ts := fdtables.New(fdtables.Config{})
				t := newTable(b, ts, 2)
				fill(b, t, 64, 100)
				perGoroutine(b, n, func(w, iterations int) {
					fd := fdtables.FD(0)
					if own {
						fd = fdtables.FD(w)
					}
					for range iterations {
						r, errno := t.Acquire(fd)
						if errno != 0 {
							panic(errno)
						}
						r.Release()
					}
				})
			})
		}
	}
}

func BenchmarkOpenClose(b *testing.B) {
	for _, limited := range []bool{false, true} {
		for _, lower := range []int{0, 1023} {
			name := fmt.Sprintf("lower=%d", lower)
			cfg := fdtables.Config{}
			if limited {
				name += "/limited"
				cfg.MaxOpen = 4096
			}
			b.Run(name, func(b *testing.B) {
				ts := fdtables.New(cfg)
				t := newTable(b, ts, 2)
				fill(b, t, lower, 100)
				b.ReportAllocs()
				for b.Loop() {
					fd, errno := t.Open(fdtables.KindKernel, 5000, false, 0)
					if errno != 0 {
						b.Fatal(errno)
					}
					if err := t.Close(fd); err != nil {
						b.Fatal(err)
					}
				}
				beside(b, upstreamOpenClose[lower])
			})
		}
	}
}

// BenchmarkOpenClose_ManyTables opens and closes on n goroutines, each in a table of its own.
func BenchmarkOpenClose_ManyTables(b *testing.B) {
	for _, n := range goroutines {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			ts := fdtables.New(fdtables.Config{MaxOpen: 1 << 20})
			tables := make([]*fdtables.Table, n)
			for i := range tables {
				tables[i] = newTable(b, ts, abi.CageID(i+2))
			}
			perGoroutine(b, n, func(w, iterations int) {
				for range iterations {
					fd, _ := tables[w].Open(fdtables.KindKernel, uint64(w*1000), false, 0)
					_ = tables[w].Close(fd)
				}
			})
		})
	}
}

// BenchmarkClose times the close alone.
func BenchmarkClose(b *testing.B) {
	ts := fdtables.New(fdtables.Config{})
	t := newTable(b, ts, 2)
	b.ReportAllocs()
	for done := 0; done < b.N; done += 1024 {
		b.StopTimer()
		fill(b, t, 1024, 100)
		b.StartTimer()
		for fd := range fdtables.FD(1024) {
			_ = t.Close(fd)
		}
	}
}

func BenchmarkDupClose(b *testing.B) {
	ts := fdtables.New(fdtables.Config{})
	t := newTable(b, ts, 2)
	fill(b, t, 1, 100)
	b.ReportAllocs()
	for b.Loop() {
		fd, _ := t.Dup(0)
		_ = t.Close(fd)
	}
}

func BenchmarkDup2(b *testing.B) {
	ts := fdtables.New(fdtables.Config{})
	t := newTable(b, ts, 2)
	fill(b, t, 2, 100)
	b.ReportAllocs()
	for b.Loop() {
		_ = t.Dup2(0, 1, false)
	}
}

// inBatches times op, on cages 1000 and up that have fds descriptors each, and not the making of the cages before it nor
// the removal after. Many at a time where they are small: stopping the clock takes as long as some of them.
func inBatches(b *testing.B, ts *fdtables.Tables, fds int, prepare, op func(abi.CageID)) {
	batch := 16
	if fds == 0 {
		batch = 256
	}
	b.ReportAllocs()
	b.StopTimer()
	for done := 0; done < b.N; done += batch {
		n := abi.CageID(min(batch, b.N-done))
		for i := range n {
			prepare(1000 + i)
		}
		b.StartTimer()
		for i := range n {
			op(1000 + i)
		}
		b.StopTimer()
		for i := range n {
			_, _ = ts.Remove(1000 + i) // some ops do that
		}
	}
}

func BenchmarkInit(b *testing.B) {
	ts := fdtables.New(fdtables.Config{})
	inBatches(b, ts, 0, func(abi.CageID) {}, func(cage abi.CageID) {
		if _, err := ts.Init(cage); err != nil {
			b.Fatal(err)
		}
	})
}

var sizes = []int{0, 64, 1024}

func BenchmarkFork(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("fds=%d", n), func(b *testing.B) {
			ts := fdtables.New(fdtables.Config{})
			fill(b, newTable(b, ts, 2), n, 100)
			inBatches(b, ts, n, func(abi.CageID) {}, func(cage abi.CageID) {
				if err := ts.Fork(2, cage); err != nil {
					b.Fatal(err)
				}
			})
			beside(b, upstreamFork[n])
		})
	}
}

// BenchmarkRemove ends a cage whose descriptors are the last of their underfds, and one whose parent has them too.
func BenchmarkRemove(b *testing.B) {
	for _, shared := range []bool{false, true} {
		for _, n := range sizes {
			name := "last"
			if shared {
				name = "shared"
			}
			b.Run(fmt.Sprintf("%s/fds=%d", name, n), func(b *testing.B) {
				ts := fdtables.New(fdtables.Config{})
				fill(b, newTable(b, ts, 2), n, 100)
				inBatches(b, ts, n, func(cage abi.CageID) {
					if !shared {
						fill(b, newTable(b, ts, cage), n, uint64(cage)<<20)
					} else if err := ts.Fork(2, cage); err != nil {
						b.Fatal(err)
					}
				}, func(cage abi.CageID) {
					if _, err := ts.Remove(cage); err != nil {
						b.Fatal(err)
					}
				})
				beside(b, upstreamRemove[n])
			})
		}
	}
}

// BenchmarkExec closes all of n descriptors, and looks through n of which none is marked.
func BenchmarkExec(b *testing.B) {
	for _, marked := range []bool{true, false} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("marked=%v/fds=%d", marked, n), func(b *testing.B) {
				ts := fdtables.New(fdtables.Config{})
				inBatches(b, ts, n, func(cage abi.CageID) {
					t := newTable(b, ts, cage)
					for i := range n {
						_ = t.OpenAt(fdtables.FD(i), fdtables.KindKernel, uint64(cage)<<20+uint64(i), marked, 0)
					}
				}, func(cage abi.CageID) {
					t, _ := ts.Table(cage)
					t.CloseOnExecAll()
				})
			})
		}
	}
}

// BenchmarkMemory reports what an empty table and a descriptor cost.
func BenchmarkMemory(b *testing.B) {
	measure := func(n int, grow func()) float64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		grow()
		runtime.GC()
		runtime.ReadMemStats(&after)
		return float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
	}
	ts := fdtables.New(fdtables.Config{})
	const cages = 10240
	perTable := measure(cages, func() {
		for i := range abi.CageID(cages) {
			newTable(b, ts, i)
		}
	})
	t, _ := ts.Table(0)
	t.SetLimit(fdtables.MaxLimit)
	perFD := measure(1<<17, func() { fill(b, t, 1<<17, 0) })
	for b.Loop() {
		runtime.KeepAlive(ts)
	}
	b.ReportMetric(perTable, "bytes/table")
	b.ReportMetric(perFD, "bytes/fd")
	b.ReportMetric(0, "ns/op")
}
