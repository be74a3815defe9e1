package threei_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// handlerModel is the handler table as a map: what serves a call of a cage, as a grate's id and a function.
type handlerModel struct {
	w       *world
	rows    map[abi.CageID]map[abi.Call]served // a cage without a row has none here
	living  map[abi.CageID]bool
	stopped map[abi.CageID]bool
}

// served is a handler: the zero grate is one that is gone.
type served struct {
	grate abi.CageID
	fn    uint32
}

// modelCages are all grates too, so that each may serve any other, or itself.
const modelCages = 6

// modelCalls are the calls that the model looks at, at the edges of the words that the index keeps.
var modelCalls = []abi.Call{0, 1, 63, 64, 500, 1022, 1023}

func (m *handlerModel) drawCage(t *rapid.T, name string) abi.CageID {
	return abi.CageID(rapid.IntRange(10, 10+modelCages).Draw(t, name)) // the last one never lives
}

func (m *handlerModel) usable(id abi.CageID) bool { return m.living[id] && !m.stopped[id] }

func (m *handlerModel) register(t *rapid.T) {
	target, grate := m.drawCage(t, "target"), m.drawCage(t, "grate")
	call, fn := rapid.SampledFrom(modelCalls).Draw(t, "call"), rapid.Uint32Range(0, 3).Draw(t, "function")
	all := rapid.IntRange(0, 9).Draw(t, "all") == 0
	remove := rapid.IntRange(0, 3).Draw(t, "deregister") == 0
	if remove {
		grate = abi.CageDeregister
	}
	var err error
	if all {
		err = m.w.RegisterAll(bg, target, grate, fn)
	} else {
		err = m.w.RegisterHandler(bg, target, call, grate, fn)
	}
	if ok := m.usable(target) && (remove || m.usable(grate)); ok != (err == nil) {
		t.Fatalf("register on %d from %d: %v", target, grate, err)
	}
	if err != nil {
		return
	}
	if m.rows[target] == nil {
		if remove {
			return
		}
		m.rows[target] = map[abi.Call]served{}
	}
	for _, c := range modelCalls {
		if c != call && !all {
			continue
		}
		if remove {
			delete(m.rows[target], c)
		} else {
			m.rows[target][c] = served{grate, fn}
		}
	}
}

func (m *handlerModel) copyTable(t *rapid.T) {
	src, dst := m.drawCage(t, "source"), m.drawCage(t, "destination")
	err := m.w.CopyHandlerTable(bg, src, dst)
	if ok := m.usable(src) && m.usable(dst) && m.rows[src] != nil; ok != (err == nil) {
		t.Fatalf("copy %d to %d: %v", src, dst, err)
	}
	if err == nil {
		row := map[abi.Call]served{}
		for c, s := range m.rows[src] {
			row[c] = s
		}
		m.rows[dst] = row
	}
}

func (m *handlerModel) stop(t *rapid.T) {
	if id := m.drawCage(t, "cage"); m.living[id] {
		m.w.cages[id].stop()
		m.stopped[id] = true
	}
}

func (m *handlerModel) kill(t *rapid.T) {
	id := m.drawCage(t, "cage")
	if !m.living[id] {
		return
	}
	m.w.cages[id].kill()
	delete(m.living, id)
	delete(m.stopped, id)
	delete(m.rows, id)
	for _, row := range m.rows {
		for c, s := range row {
			if s.grate == id {
				row[c] = served{}
			}
		}
	}
}

func (m *handlerModel) spawn(t *rapid.T) {
	if id := abi.CageID(rapid.IntRange(10, 9+modelCages).Draw(t, "cage")); !m.living[id] {
		m.w.grate(id)
		m.living[id] = true
	}
}

// check compares everything that can be seen.
func (m *handlerModel) check(t *rapid.T) {
	for id := range abi.CageID(modelCages + 1) {
		id += 10
		for _, call := range modelCalls {
			want := uint64(0)
			if s, ok := m.rows[id][call]; ok {
				want = threei.EntryGone
				if s.grate != 0 {
					want = 1<<62 | port(s.grate)<<24 | uint64(s.fn)
				}
			}
			if got := m.w.Lookup(id, call); got != want {
				t.Fatalf("%v of cage %d is served by %#x, want %#x", call, id, got, want)
			}
		}
	}
	if rows := m.w.Stats().Rows; rows != len(m.rows) {
		t.Fatalf("%d rows, want %d", rows, len(m.rows))
	}
	if err := m.w.CheckIndex(); err != nil {
		t.Fatal(err)
	}
}

func TestHandlers_AgreeWithASimpleModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		m := &handlerModel{
			w: w, rows: map[abi.CageID]map[abi.Call]served{}, living: map[abi.CageID]bool{}, stopped: map[abi.CageID]bool{},
		}
		for id := abi.CageID(10); id < 10+modelCages; id++ {
			w.grate(id)
			m.living[id] = true
		}
		rt.Repeat(map[string]func(*rapid.T){
			"register": m.register, "register too": m.register, "copy": m.copyTable, "stop": m.stop, "kill": m.kill,
			"spawn": m.spawn, "": m.check,
		})
		for _, c := range w.cages {
			c.kill()
		}
		if err := w.CheckIndex(); err != nil || w.Stats().Rows != 0 {
			rt.Fatalf("at the end: %v, %+v", err, w.Stats())
		}
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

func FuzzRegisterHandler(f *testing.F) {
	f.Add(uint64(app), uint64(1), uint64(policy), uint64(11))
	f.Add(uint64(app), uint64(1), uint64(abi.CageDeregister), uint64(0))
	f.Add(uint64(app), uint64(1023), uint64(abi.CageMatchAll), uint64(1<<24-1))
	f.Add(uint64(abi.CageRawPOSIX), uint64(1024), uint64(app), uint64(1<<24))
	f.Add(uint64(1<<63), uint64(1<<32), uint64(1<<20), uint64(1<<63))
	f.Fuzz(func(t *testing.T, target, call, grate, fn uint64) {
		w := newWorld(t)
		g, a := w.grate(policy), w.cage(app)
		w.child(policy, app)
		r := g.registers(abi.CageID(target), call, abi.CageID(grate), fn)
		guarded, want := 0, 0
		flag := grate == uint64(abi.CageDeregister)
		switch {
		case call > 1023 || fn > 1<<24-1:
			expect(t, "out of range", r, aborted)
		case target != uint64(app) && target != uint64(policy):
			expect(t, "no such target", r, esrch)
		case grate == uint64(policy):
			expect(t, "a good one", r, 0)
			want = 1
		case grate == uint64(abi.CageMatchAll):
			expect(t, "a good one", r, 0)
			want = 1024
		case flag:
			expect(t, "nothing to take off", r, 0)
		case grate == uint64(app):
			expect(t, "no grate", r, aborted)
		default:
			expect(t, "no such grate", r, esrch)
		}
		for c := range abi.MaxCall {
			for _, id := range []abi.CageID{a.id, g.id} {
				if e := w.Lookup(id, c); e != 0 {
					guarded++
					if uint64(id) != target || e&(1<<24-1) != fn {
						t.Errorf("%v of cage %d is served by %#x", c, id, e)
					}
				}
			}
		}
		if guarded != want {
			t.Errorf("%d calls are served, want %d", guarded, want)
		}
	})
}
