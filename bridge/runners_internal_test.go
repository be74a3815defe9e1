package bridge

import "testing"

// BusyRunners is how many guest threads have a runner, of the engine and of the module, for the external tests.
func BusyRunners(e *Engine, m *Module) (ofEngine, ofModule int) {
	return int(e.runners.busy.Load()), int(m.lanes.used.Load())
}

// TestLanes_FollowWhatAModulesProgramsDo takes as many runners as a module may have, again and again.
func TestLanes_FollowWhatAModulesProgramsDo(t *testing.T) {
	var r runners
	r.init(16)
	modules := make([]lanes, 12)
	for i := range modules {
		modules[i].most.Store(trial)
	}
	takes := func(l *lanes) (n int) {
		for r.take(l) {
			n++
		}
		return n
	}
	gives := func(l *lanes, n int) {
		for range n {
			r.give(l)
		}
	}
	check := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d runners, want %d", what, got, want)
		}
	}
	l := &modules[0]
	check("of which nothing is known", takes(l), trial)
	gives(l, trial)
	for range 5 {
		r.lived(l, true)
	}
	check("after 5 short ones", takes(l), trial+5)
	gives(l, trial+5)
	for range 3 {
		r.lived(l, false)
	}
	check("and 3 long ones", takes(l), trial+2)
	gives(l, trial+2)
	for range 100 {
		r.lived(l, false)
	}
	check("after many long ones", takes(l), trial)
	gives(l, trial)
	for range 100 {
		r.lived(l, true)
	}
	check("after many short ones", takes(l), 16)
	gives(l, 16)

	others := 0
	for i := range modules[1:] {
		others += takes(&modules[1+i])
	}
	check("of all modules of which nothing is known", others, 8)
	check("of the one with short programs", takes(l), 8)
	if busy := r.busy.Load(); busy != 16 {
		t.Errorf("%d are busy", busy)
	}
}
