package ids_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/internal/ids"
)

// setModel is the obviously right set: one bool for each id that the test can reach.
type setModel [26000]bool

// check compares s with the model in everything that can be asked.
func (model *setModel) check(t *rapid.T, s *ids.Set) {
	next, n := uint(0), 0
	for id := range s.All() {
		for ; next < id; next++ {
			if model[next] {
				t.Fatalf("All leaves %d out", next)
			}
		}
		if next != id || !model[id] {
			t.Fatalf("All yields %d", id)
		}
		next, n = id+1, n+1
	}
	if i := slices.Index(model[next:], true); i >= 0 {
		t.Fatalf("All leaves %d out", next+uint(i))
	}
	if s.Len() != n {
		t.Fatalf("Len = %d, want %d", s.Len(), n)
	}
	start := rapid.UintRange(0, 20000).Draw(t, "start")
	free := start
	for model[free] {
		free++
	}
	if got := s.Free(start); got != free {
		t.Fatalf("Free(%d) = %d, want %d", start, got, free)
	}
	if s.Has(start) != model[start] {
		t.Fatalf("Has(%d) = %v", start, s.Has(start))
	}
	next = 0
	for id := range s.Missing(start) {
		for ; next < id && model[next]; next++ {
		}
		if next != id || id >= start || model[id] {
			t.Fatalf("Missing(%d) yields %d, want %d", start, id, next)
		}
		next = id + 1
	}
	for ; next < start; next++ {
		if !model[next] {
			t.Fatalf("Missing(%d) leaves %d out", start, next)
		}
	}
}

func TestSet_AgreesWithABuiltinMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s ids.Set
		var model setModel
		id := rapid.OneOf(rapid.UintRange(0, 200), rapid.UintRange(4000, 4300), rapid.UintRange(0, 20000))
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				i := id.Draw(t, "id")
				s.Add(i)
				model[i] = true
			},
			// Runs fill whole words, and whole words of words.
			"add run": func(t *rapid.T) {
				from, n := id.Draw(t, "from"), rapid.UintRange(1, 5000).Draw(t, "n")
				for i := from; i < from+n; i++ {
					s.Add(i)
					model[i] = true
				}
			},
			"remove": func(t *rapid.T) {
				i := id.Draw(t, "id")
				s.Remove(i)
				model[i] = false
			},
			"clone": func(t *rapid.T) {
				old := s
				s = s.Clone()
				for i := range old.All() {
					old.Remove(i)
				}
			},
			"": func(t *rapid.T) { model.check(t, &s) },
		})
	})
}

func TestSet_FreeIsFlatInWhatIsTaken(t *testing.T) {
	var s ids.Set
	for i := range uint(1 << 20) {
		if got := s.Free(0); got != i {
			t.Fatalf("Free(0) = %d with the ids below %d taken", got, i)
		}
		s.Add(i)
	}
	s.Remove(777777)
	if got := s.Free(0); got != 777777 {
		t.Fatalf("Free(0) = %d, want the one hole", got)
	}
	if got := s.Free(777778); got != 1<<20 {
		t.Fatalf("Free(777778) = %d, want the end", got)
	}
}

func TestSet_AllStopsWhenTold(t *testing.T) {
	var s ids.Set
	s.Add(3)
	s.Add(70)
	for id := range s.All() {
		if id != 3 {
			t.Fatalf("went on to %d after a break", id)
		}
		break
	}
}

func BenchmarkSetFree(b *testing.B) {
	for _, c := range []struct {
		name string
		used uint
	}{{"0", 0}, {"1023", 1023}, {"1048575", 1<<20 - 1}} {
		b.Run("lower="+c.name, func(b *testing.B) {
			var s ids.Set
			for i := range c.used {
				s.Add(i)
			}
			for b.Loop() {
				id := s.Free(0)
				s.Add(id)
				s.Remove(id)
			}
		})
	}
}
