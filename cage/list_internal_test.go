package cage

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type item struct {
	links link[item]
	n     int
}

func (i *item) place() *link[item] { return &i.links }

func TestList_AgreesWithASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l list[item, *item]
		var model []*item
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"push back": func(*rapid.T) {
				n++
				m := &item{n: n}
				l.pushBack(m)
				model = append(model, m)
			},
			"push front": func(*rapid.T) {
				n++
				m := &item{n: n}
				l.pushFront(m)
				model = slices.Insert(model, 0, m)
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				l.remove(model[i])
				if model[i].links != (link[item]{}) {
					t.Fatal("a member that left still has a place")
				}
				model = slices.Delete(model, i, i+1)
			},
			"pop front": func(t *rapid.T) {
				var want *item
				if len(model) > 0 {
					want, model = model[0], model[1:]
				}
				if got := l.popFront(); got != want {
					t.Fatalf("popFront = %v, want %v", got, want)
				}
			},
			"": func(t *rapid.T) {
				if l.empty() != (len(model) == 0) {
					t.Fatalf("empty = %v with %d members", l.empty(), len(model))
				}
				if got := slices.Collect(l.members()); !slices.Equal(got, model) {
					t.Fatalf("members %v, want %v", got, model)
				}
			},
		})
	})
}
