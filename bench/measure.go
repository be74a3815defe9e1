package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
	"github.com/lindbridge/lindbridge/bench/internal/record"
	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

const (
	// patience is how long one answer may take.
	patience = time.Minute
	// attemptPatience is how long a peer may take to end what it was asked to, which takes others microseconds.
	attemptPatience = 3 * time.Second
	// warmUps are rounds that are not counted, and minRounds how many are at the least.
	warmUps, minRounds = 2, 8
)

// run is a run of the benchmarks. It is for one goroutine.
type run struct {
	*arena
	rec *record.Record
	// budget is how long the rounds of a row may take.
	budget time.Duration
	quick  bool
	log    func(format string, args ...any)
}

// side is one side of a row, with what it has answered.
type side struct {
	who     string
	ask     ask
	batch   int
	every   int
	samples []float64
	rounds  map[int]float64 // the median of each round that it took part in
	pinned  bool
	cannot  string
	failed  error
}

func (s *side) cell() record.Cell {
	c := record.CellOf(s.who, s.samples, s.pinned)
	c.Cannot = s.cannot
	return c
}

// measure fills in a row.
func (r *run) measure(w row) {
	r.log("%s: %s", w.group, w.what)
	batch := func(n int) int {
		if r.quick {
			n = (n + 1) / 2
		}
		return max(n, 1)
	}
	ours := &side{who: "lindbridge", ask: w.ours, batch: batch(w.batch), every: 1}
	sides := []*side{ours}
	for _, p := range w.peers {
		s := &side{who: p.who, ask: p.ask, batch: batch(p.batch), every: max(p.every, 1)}
		sides = append(sides, s)
		if p.attempt {
			r.attempt(s)
		}
	}
	r.rounds(sides, len(w.peers) == 0)
	for _, s := range sides {
		if s.failed != nil {
			r.trouble("%s, %s: %v", w.what, s.who, s.failed)
		}
	}
	for i, p := range w.peers {
		peer := sides[i+1]
		line := w.line(ours.cell(), peer.cell())
		line.ID += " : " + p.who
		line.Must, line.Aim = limit(p.must), limit(p.aim)
		line.Compared = compare(ours, peer)
		if w.group == groupStop && i == 0 && ours.failed == nil {
			c := &line.Ours
			line.Note = strings.TrimPrefix(fmt.Sprintf("%s; p99 is %.1f times p50 (aim: 3)", line.Note, c.Of.P99/c.Of.P50), "; ")
		}
		r.rec.Lines = append(r.rec.Lines, line)
	}
	measured := slices.ContainsFunc(sides[1:], func(s *side) bool { return len(s.samples) > 0 })
	for _, ref := range w.refs {
		if ref.instead && measured {
			continue
		}
		cell := record.Cell{Who: ref.who, Of: stat.Summary{N: 1, P50: ref.ns, P99: ref.ns, Max: ref.ns}}
		line := w.line(ours.cell(), cell)
		line.ID += " : " + ref.who
		line.Reference = true
		line.Must, line.Aim = limit(ref.must), limit(ref.aim)
		if e := estimate(ours.samples); e != nil {
			*e = e.Scale(1 / ref.ns)
			line.Compared = e
		}
		r.rec.Lines = append(r.rec.Lines, line)
	}
	if len(w.peers) == 0 && len(w.refs) == 0 {
		r.rec.Lines = append(r.rec.Lines, w.line(ours.cell(), record.Cell{}))
	}
	if w.plot != "" && ours.failed == nil {
		r.rec.Add(w.plot, w.curve, w.x, stat.EstimateOf(ours.samples))
	}
}

func (w *row) line(ours, peer record.Cell) record.Line {
	return record.Line{
		ID: w.id, Group: w.group, What: w.what, Unit: record.Nanoseconds, Ours: ours, Peer: peer, Note: w.note,
	}
}

func limit(v float64) *float64 {
	if v == 0 {
		return nil
	}
	return &v
}

// compare is the ratio of what was measured in the same rounds.
func compare(ours, theirs *side) *stat.Estimate {
	if ours.failed != nil || theirs.failed != nil || theirs.cannot != "" || ours.cannot != "" {
		return nil
	}
	var x, y []float64
	for round, v := range theirs.rounds {
		if mine, ok := ours.rounds[round]; ok {
			x, y = append(x, mine), append(y, v)
		}
	}
	return estimate(stat.Ratios(x, y))
}

// estimate is that of the values, or nil if there are none.
func estimate(values []float64) *stat.Estimate {
	if len(values) == 0 {
		return nil
	}
	e := stat.EstimateOf(values)
	return &e
}

// attempt tries what a contestant is thought to be unable to do, in a process of its own.
func (r *run) attempt(s *side) {
	name, wait := s.ask.contestant+"@attempt", r.scaled(attemptPatience/3, attemptPatience)
	c, err := r.get(name)
	if err == nil {
		_, err = c.Ask(wait, 1, strings.Fields(s.ask.words)...)
		err = errors.Join(err, r.end(name))
	}
	switch {
	case errors.Is(err, drive.ErrNoEnd):
		s.cannot = fmt.Sprintf("no end within %v", wait)
	case errors.Is(err, errAbsent):
		s.cannot = errAbsent.Error()
	case err != nil:
		s.failed = err
	}
}

// rounds asks all sides in turn, each round beginning with another one, until the budget is spent. A side that fails is
// out of it. If alone, the rounds are of ours only, and few are enough: there is nothing to pair.
func (r *run) rounds(sides []*side, alone bool) {
	enough := func(round int) bool {
		if alone {
			return len(sides[0].samples) >= stat.MinSamples
		}
		return round >= minRounds
	}
	var begin time.Time
	for round := -warmUps; ; round++ {
		if round == 0 {
			begin = time.Now()
		}
		if round >= 0 && enough(round) && time.Since(begin) > r.budget {
			return
		}
		for i := range sides {
			at := (i + round + warmUps) % len(sides)
			s := sides[at]
			if round%s.every == 0 || round < 0 && s.every == 1 {
				r.sample(s, round)
			}
		}
		if sides[0].failed != nil {
			return
		}
	}
}

// sample asks a side once.
func (r *run) sample(s *side, round int) {
	if s.failed != nil || s.cannot != "" {
		return
	}
	reply, err := r.ask(s.ask, s.batch)
	switch {
	case errors.Is(err, errAbsent):
		s.cannot = errAbsent.Error()
	case err != nil:
		s.failed = err
	case reply.Cannot != "":
		s.cannot = reply.Cannot
	case round >= 0:
		if s.rounds == nil {
			s.rounds = map[int]float64{}
		}
		s.samples = append(s.samples, reply.Ns...)
		s.rounds[round] = stat.Median(reply.Ns)
	}
	if c, ok := r.running[s.ask.contestant]; ok {
		s.pinned = c.Pinned()
	}
}

// ask is one request.
func (r *run) ask(a ask, n int) (drive.Reply, error) {
	c, err := r.get(a.contestant)
	if err != nil {
		return drive.Reply{}, err
	}
	return c.Ask(patience, n, strings.Fields(a.words)...)
}

// trouble notes something that could not be measured.
func (r *run) trouble(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.log("not measured: %s", text)
	r.rec.Troubles = append(r.rec.Troubles, text)
}
