package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
	"github.com/lindbridge/lindbridge/bench/internal/record"
)

// fake is a contestant that answers the same each time, and writes down when it was asked.
type fake struct {
	name  string
	ns    float64
	asked *[]string
	err   error
}

func (f *fake) Ask(_ time.Duration, n int, _ ...string) (drive.Reply, error) {
	*f.asked = append(*f.asked, f.name)
	return drive.Reply{Ns: slices.Repeat([]float64{f.ns}, n)}, f.err
}

func (f *fake) Pinned() bool { return false }
func (f *fake) Close() error { return nil }

// fakes is a run of such contestants.
func fakes(all ...*fake) (*run, *[]string) {
	asked := new([]string)
	r := &run{
		arena: &arena{running: map[string]contestant{}}, rec: new(record.Record), log: func(string, ...any) {},
	}
	for _, f := range all {
		f.asked = asked
		r.running[f.name] = f
	}
	return r, asked
}

func TestMeasure_AsksInTurnAndCountsNoWarmUp(t *testing.T) {
	r, asked := fakes(&fake{name: "A", ns: 10}, &fake{name: "B", ns: 40})
	r.measure(row{
		id: "x", what: "x", ours: ask{"A", "go"}, batch: 2,
		peers: []peer{{who: "peer", ask: ask{"B", "go"}, batch: 3, must: 0.5}},
		refs:  []reference{{who: "others", ns: 20, must: 0.1}},
	})
	// Each round begins with another one.
	if got := strings.Join((*asked)[:8], ""); got != "ABBAABBA" {
		t.Errorf("asked %s", got)
	}
	if len(r.rec.Lines) != 2 || len(r.rec.Troubles) != 0 {
		t.Fatalf("%+v", r.rec)
	}
	rounds := len(*asked)/2 - warmUps
	measured, ref := r.rec.Lines[0], r.rec.Lines[1]
	if measured.Ours.Of.N != 2*rounds || measured.Peer.Of.N != 3*rounds || measured.Compared.N != rounds || rounds < minRounds {
		t.Errorf("%d rounds, %+v", rounds, measured)
	}
	if measured.Compared.Mid != 0.25 || !ref.Reference || ref.Compared.Mid != 0.5 || *ref.Must != 0.1 {
		t.Errorf("%+v, %+v", measured, ref)
	}
}

func TestMeasure_GoesOnWithoutAPeerThatFails(t *testing.T) {
	r, _ := fakes(&fake{name: "A", ns: 10}, &fake{name: "B", err: errors.New("on purpose")}, &fake{name: "C", ns: 5})
	r.measure(row{
		id: "x", what: "x", ours: ask{"A", "go"},
		peers: []peer{{who: "broken", ask: ask{"B", "go"}}, {who: "slow", ask: ask{"C", "go"}, every: 3}},
	})
	if len(r.rec.Troubles) != 1 || !strings.Contains(r.rec.Troubles[0], "on purpose") {
		t.Errorf("%v", r.rec.Troubles)
	}
	broken, slow := r.rec.Lines[0], r.rec.Lines[1]
	if broken.Compared != nil || broken.Ours.Of.N < minRounds {
		t.Errorf("%+v", broken)
	}
	// It took part in each third round, and only these are compared.
	if slow.Compared == nil || slow.Compared.N != slow.Peer.Of.N || slow.Peer.Of.N >= broken.Ours.Of.N || slow.Compared.Mid != 2 {
		t.Errorf("%+v", slow)
	}
}

func TestMeasure_TakesEnoughSamplesOfOneAlone(t *testing.T) {
	r, _ := fakes(&fake{name: "A", ns: 10})
	r.measure(row{id: "x", what: "x", ours: ask{"A", "go"}, refs: []reference{{who: "others", ns: 20, must: 1}}})
	if l := r.rec.Lines[0]; !l.Compared.Sure() {
		t.Errorf("%+v", l)
	}
}

// TestRows_AreEachNamedOnce: a comparison with an earlier run finds lines by their ids.
func TestRows_AreEachNamedOnce(t *testing.T) {
	ids := map[string]bool{}
	for _, w := range rows() {
		if ids[w.id] {
			t.Errorf("%s is there twice", w.id)
		}
		ids[w.id] = true
		who := map[string]bool{}
		for _, p := range w.peers {
			if who[p.who] {
				t.Errorf("%s: %s is there twice", w.id, p.who)
			}
			who[p.who] = true
		}
	}
}

func TestRoom_IsWhatTheLimitsAllow(t *testing.T) {
	space := room{mappings: 65_530, empty: drive.Usage{Mappings: 100, FDs: 20}}
	for _, c := range []struct {
		mappings, fds, most int
		want                int
	}{
		{6100, 20, 20_000, 10_400},   // six mappings each, 62,909 to share
		{1100, 4020, 20_000, 4700},   // four descriptors each, 19,180 to share
		{100, 20, 20_000, 1_000_000}, // nothing
	} {
		now := drive.Usage{Mappings: c.mappings, FDs: c.fds, MostFDs: c.most}
		if got := space.most(now, 1000, 1_000_000); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
		if got := space.most(now, 1000, 2000); got != 2000 {
			t.Errorf("%+v: %d of the 2000 that fit", c, got)
		}
	}
}
