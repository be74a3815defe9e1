package soak

import (
	"reflect"
	"testing"

	"github.com/lindbridge/lindbridge/internal/fault"
)

// A plan is determined by the seed, the worker and its index: a replay has the same ones.
func TestPlanOf_IsTheSameForTheSameSeed(t *testing.T) {
	differ := 0
	for w := range 4 {
		for i := range 200 {
			a, b := PlanOf(7, Who{w, i}, true), PlanOf(7, Who{w, i}, true)
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("%v, then %v", a, b)
			}
			if !reflect.DeepEqual(a, PlanOf(8, Who{w, i}, true)) {
				differ++
			}
			// Without faults the rest is the same.
			c := PlanOf(7, Who{w, i}, false)
			if a.Fault = nil; !reflect.DeepEqual(a, c) {
				t.Fatalf("with faults %v, without %v", a, c)
			}
		}
	}
	if differ < 790 {
		t.Errorf("%d of 800 plans differ between two seeds", differ)
	}
}

// Every kind of plan, every mode, every number of grates, every point and action is drawn.
func TestPlanOf_DrawsEverything(t *testing.T) {
	type drawn struct {
		p fault.Point
		a fault.Action
	}
	kinds, modesDrawn, faults := map[Kind]int{}, map[int]int{}, map[drawn]int{}
	for i := range 60_000 {
		p := PlanOf(1, Who{0, i}, true)
		kinds[p.Kind]++
		modesDrawn[p.Mode]++
		if p.Fault != nil {
			faults[drawn{p.Fault.Point, p.Fault.Action}]++
		}
		if len(p.Victims) == 0 || len(p.Victims) > p.Grates+1 {
			t.Fatalf("%v", p)
		}
	}
	for _, s := range shares {
		if kinds[s.kind] == 0 {
			t.Errorf("%s is never drawn", s.kind)
		}
	}
	if len(modesDrawn) != len(modes) {
		t.Errorf("modes %v of %d", modesDrawn, len(modes))
	}
	for _, point := range fault.Points() {
		for _, action := range point.Actions() {
			if faults[drawn{point, action}] == 0 {
				t.Errorf("%v at %v is never drawn", action, point)
			}
		}
	}
	total := 0
	for _, s := range shares {
		total += s.of
	}
	if total != 1000 {
		t.Errorf("the shares are %d in a thousand", total)
	}
}
