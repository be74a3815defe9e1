package ids_test

import (
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/internal/ids"
)

// anyID draws ids on both sides of the border between pages and the rest, close enough to collide.
func anyID() *rapid.Generator[uint64] {
	return rapid.OneOf(
		rapid.Uint64Range(0, 4), rapid.Uint64Range(1022, 1026), rapid.Uint64Range(1<<20-2, 1<<20+2),
		rapid.Uint64Range(math.MaxUint64-2, math.MaxUint64))
}

func TestMap_AgreesWithABuiltinMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m ids.Map[int]
		model := map[uint64]*int{}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				id, v := anyID().Draw(t, "id"), new(int)
				_, has := model[id]
				if m.Insert(id, v) == has {
					t.Fatalf("Insert(%d) = %v with an id that is present: %v", id, !has, has)
				}
				if !has {
					model[id] = v
				}
			},
			"delete": func(t *rapid.T) {
				id := anyID().Draw(t, "id")
				v, has := model[id]
				if m.Delete(id, new(int)) {
					t.Fatalf("Delete(%d) of a value that is not there", id)
				}
				if !has {
					v = nil
				}
				if m.Delete(id, v) != has {
					t.Fatalf("Delete(%d) = %v", id, !has)
				}
				delete(model, id)
			},
			"": func(t *rapid.T) {
				if got := maps.Collect(m.All()); !maps.Equal(got, model) {
					t.Fatalf("All: %v, want %v", got, model)
				}
				for id, v := range model {
					if m.Load(id) != v {
						t.Fatalf("Load(%d) is not what was inserted", id)
					}
				}
				id := anyID().Draw(t, "probe")
				if m.Load(id) != model[id] {
					t.Fatalf("Load(%d) finds what the model does not have", id)
				}
				for id := range model {
					checkLow(t, &m, id)
				}
				checkLow(t, &m, id)
			},
		})
	})
}

func TestMap_AllStopsWhenTold(t *testing.T) {
	var m ids.Map[int]
	for _, id := range []uint64{1, 2, 1 << 30} {
		m.Insert(id, new(int))
	}
	n := 0
	for range m.All() {
		n++
		break
	}
	if n != 1 {
		t.Fatalf("%d values after a break at the first", n)
	}
}

func TestMap_OneOfManyInsertersWins(t *testing.T) {
	for _, id := range []uint64{7, 5000, 1 << 40} {
		var m ids.Map[int]
		var won atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				v := i
				if m.Insert(id, &v) {
					won.Add(1)
					if m.Load(id) != &v {
						t.Errorf("id %d: the winner's value is not there", id)
					}
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("id %d: %d inserters won", id, won.Load())
		}
	}
}

func BenchmarkMapLoad(b *testing.B) {
	for _, c := range []struct {
		name string
		id   uint64
	}{{"low", 9000}, {"high", 1 << 40}} {
		b.Run(c.name, func(b *testing.B) {
			var m ids.Map[int]
			m.Insert(c.id, new(int))
			b.ReportAllocs()
			for b.Loop() {
				if m.Load(c.id) == nil {
					b.Fatal("lost")
				}
			}
		})
	}
}

// checkLow compares LoadLow with Load, for ids that both know.
func checkLow(t *rapid.T, m *ids.Map[int], id uint64) {
	want := m.Load(id)
	if id >= 1<<20 {
		want = nil
	}
	if got := m.LoadLow(id); got != want {
		t.Fatalf("LoadLow(%d) = %p, want %p", id, got, want)
	}
}
