package cage_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/cage"
)

// crowd is a table with n cages of the host's that do nothing.
func crowd(b *testing.B, n int, cfg cage.Config) *cage.Table {
	table := cage.New(cfg)
	for range n {
		alloc(b, table, abi.CageInit)
	}
	return table
}

// BenchmarkLife is what this package adds to the spawn and the exit of a cage.
func BenchmarkLife(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  cage.Config
	}{
		{"plain", cage.Config{}},
		{"callbacks", cage.Config{OnChild: func(_, _ cage.Handle, _ uint32) {}, OnReap: func(*cage.Cage) {}}},
	} {
		for _, n := range []int{0, 10_000} {
			b.Run(fmt.Sprintf("%s/live=%d", c.name, n), func(b *testing.B) {
				table := crowd(b, n, c.cfg)
				b.ReportAllocs()
				for b.Loop() {
					c, err := table.Alloc(abi.CageInit)
					if err != nil {
						b.Fatal(err)
					}
					if err := table.Reparent(c); err != nil {
						b.Fatal(err)
					}
					if err := table.Zombie(c, 0); err != nil {
						b.Fatal(err)
					}
					if err := table.Reap(c); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(reflect.TypeFor[cage.Cage]().Size()), "B/entry")
			})
		}
	}
}

func BenchmarkLifeParallel(b *testing.B) {
	table := crowd(b, 10_000, cage.Config{})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := table.Alloc(abi.CageInit)
			if err != nil {
				b.Error(err)
				return
			}
			if err := table.Zombie(c, 0); err != nil {
				b.Error(err)
			}
			if err := table.Reap(c); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("live=%d", n), func(b *testing.B) {
			table := crowd(b, n, cage.Config{})
			b.RunParallel(func(pb *testing.PB) {
				for id := abi.CageID(2); pb.Next(); {
					if table.Lookup(id) == nil && !id.IsReserved() {
						b.Error("lost")
					}
					if id += 7; id > abi.CageID(n) {
						id = 2
					}
				}
			})
		})
	}
}

func BenchmarkResolveParallel(b *testing.B) {
	table := crowd(b, 1, cage.Config{})
	h := table.Lookup(2).Handle()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := table.Resolve(h); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkWait is a child that ends and the wait that reaps it, one after the other, among siblings that run.
func BenchmarkWait(b *testing.B) {
	for _, siblings := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("siblings=%d", siblings), func(b *testing.B) {
			table := cage.New(cage.Config{})
			p := alloc(b, table, abi.CageInit)
			for range siblings {
				alloc(b, table, p.ID())
			}
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				c, err := table.Alloc(p.ID())
				if err != nil {
					b.Fatal(err)
				}
				if err := table.Zombie(c, 0); err != nil {
					b.Fatal(err)
				}
				if _, err := table.Wait(ctx, p.ID(), cage.AnyChild(), cage.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWaitBlocked is from a child's Zombie until a wait on another goroutine, which was blocked, has reaped it.
func BenchmarkWaitBlocked(b *testing.B) {
	table := cage.New(cage.Config{})
	p := alloc(b, table, abi.CageInit)
	alloc(b, table, p.ID()) // keeps the wait from failing
	ctx, reaped, stopped := b.Context(), make(chan struct{}), make(chan struct{})
	last := uint32(1)
	go func() {
		defer close(stopped)
		for {
			got, err := table.Wait(ctx, p.ID(), cage.AnyChild(), cage.Options{})
			if err != nil || got.Status == last {
				return
			}
			reaped <- struct{}{}
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if err := table.Zombie(alloc(b, table, p.ID()), 0); err != nil {
			b.Fatal(err)
		}
		<-reaped
	}
	must(b, table.Zombie(alloc(b, table, p.ID()), last))
	<-stopped
}

// BenchmarkReparent is the end of a cage with children that run. The whole life of all of them is ns/op; reparent-ns
// is the part that counts, which is too short for the timer to be stopped around it.
func BenchmarkReparent(b *testing.B) {
	for _, n := range []int{0, 1, 64, 1024, 10_000} {
		b.Run(fmt.Sprintf("children=%d", n), func(b *testing.B) {
			table := crowd(b, 1000, cage.Config{})
			children := make([]*cage.Cage, n)
			var spent time.Duration
			for b.Loop() {
				p := alloc(b, table, abi.CageInit)
				for i := range children {
					children[i] = alloc(b, table, p.ID())
				}
				begin := time.Now()
				err := table.Reparent(p)
				spent += time.Since(begin)
				must(b, err)
				for _, c := range children {
					must(b, table.Zombie(c, 0))
				}
				must(b, table.Zombie(p, 0))
				must(b, table.Reap(p))
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "reparent-ns")
		})
	}
}
