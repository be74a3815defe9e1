package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
	"github.com/lindbridge/lindbridge/bench/internal/record"
	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

// manyPatience is how long ten thousand cages may take to come or go.
const manyPatience = 3 * time.Minute

// sweep is the cost of an exit as something else grows.
type sweep struct {
	id, what, plot string
	// grow are the words that add so much more, less their last argument, the count; tail comes after it.
	grow, tail string
	steps      []int
	// unit is how much of what the plot shows comes with each count.
	unit float64
	must float64
	aim  float64
}

const (
	plotIdle     = "idle"
	plotHandlers = "handlers"
)

func sweeps() []sweep {
	return []sweep{
		{
			id: "exit beside idle cages", what: "%s, %d idle cages beside it", plot: plotIdle, grow: "cages mixed",
			steps: []int{10, 100, 1000, 10_000}, unit: 1, must: 1.2, aim: 1,
		},
		{
			id: "exit beside handlers", what: "%s, %d handlers of others registered, 1,024 each", plot: plotHandlers, grow: "stacks",
			tail: " 1024", steps: []int{1, 10, 100, 1000}, unit: 1024, must: 1.2, aim: 1,
		},
		{
			id: "exit beside stacks", what: "%s, %d others with a handler each", grow: "stacks", tail: " 1", steps: []int{1000}, unit: 1,
		},
	}
}

// exits are those whose cost is looked at.
var exits = []struct{ what, words string }{
	{"kill of a busy cage", "kill 1 0 0"},
	{"kill of a waiting cage", "kill 0 1 0"},
	{"tiny cage", "spawn memory"},
}

// sweep measures a process that has ever more beside one that has nothing.
func (r *run) sweep(s sweep) {
	name, none := "lindbridge@"+s.plot+s.tail, "lindbridge"
	defer func() {
		if err := r.end(name); err != nil {
			r.trouble("%s: %v", s.id, err)
		}
	}()
	p, err := r.process(name)
	if err != nil {
		r.trouble("%s: %v", s.id, err)
		return
	}
	room := newRoom(p)
	have := 0
	for i, n := range append([]int{0}, s.steps...) {
		r.log("%s: %d", s.id, n)
		n, err = room.fit(p, have, n)
		if err == nil && n > have {
			_, err = p.Ask(manyPatience, 0, fields("%s %d%s", s.grow, n-have, s.tail)...)
			r.calm()
		}
		if err != nil {
			r.trouble("%s, at %d: %v", s.id, n, err)
			return
		}
		have = n
		last := i == len(s.steps)
		for _, e := range exits {
			r.besides(s, e.what, e.words, name, none, n, last)
		}
	}
}

// besides is one point of a sweep. The last one is a row, too.
func (r *run) besides(s sweep, what, words, name, none string, n int, last bool) {
	ours := &side{who: "lindbridge", ask: ask{name, words}, batch: 3, every: 1}
	alone := &side{who: "the same without", ask: ask{none, words}, batch: 3, every: 1}
	whole := r.budget
	if !last {
		r.budget /= 3
	}
	r.rounds([]*side{ours, alone}, false)
	r.budget = whole
	if err := errors.Join(ours.failed, alone.failed); err != nil {
		r.trouble("%s, at %d: %v", s.id, n, err)
		return
	}
	if s.plot != "" {
		r.rec.Add(s.plot, what, float64(n)*s.unit, stat.EstimateOf(ours.samples))
	}
	if last {
		r.rec.Lines = append(r.rec.Lines, record.Line{
			ID: s.id + ": " + what, Group: groupScale, What: fmt.Sprintf(s.what, what, n*int(s.unit)), Unit: record.Nanoseconds,
			Ours: ours.cell(), Peer: alone.cell(), Compared: compare(ours, alone), Must: limit(s.must), Aim: limit(s.aim),
		})
	}
}

// room is how many cages a process has place for: each takes some of the mappings and descriptors that the system lets it
// have. It learns from the first ones what each takes.
type room struct {
	empty    drive.Usage
	mappings int
	err      error
}

func newRoom(p *drive.Process) (r room) {
	r.empty, r.err = p.Usage()
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err == nil {
		r.mappings, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	r.err = errors.Join(r.err, err)
	return r
}

// least is from how many cages on it is looked what each takes.
const least = 100

// fit is how many cages of n the process can have, which has some.
func (r *room) fit(p *drive.Process, have, n int) (int, error) {
	if r.err != nil || have < least {
		return n, r.err
	}
	now, err := p.Usage()
	return r.most(now, have, n), err
}

// most is fit of a process that uses so much now.
func (r *room) most(now drive.Usage, have, n int) int {
	for _, limit := range []struct{ empty, now, most int }{
		{r.empty.Mappings, now.Mappings, r.mappings}, {r.empty.FDs, now.FDs, now.MostFDs},
	} {
		each := float64(limit.now-limit.empty) / float64(have)
		if spare := 0.96*float64(limit.most) - float64(limit.empty); each > 0 && float64(n)*each > spare {
			n = int(spare / each)
		}
	}
	return max(n/100*100, have)
}

// process is a contestant that is a process.
func (r *run) process(name string) (*drive.Process, error) {
	c, err := r.get(name)
	if err != nil {
		return nil, err
	}
	p, ok := c.(*drive.Process)
	if !ok {
		return nil, fmt.Errorf("%s is no process", name)
	}
	return p, nil
}

// rest is what a process does while nothing is asked of it: wake-ups and processor time in nanoseconds, for each second.
func rest(p *drive.Process, window time.Duration) (wakeUps, cpu float64, err error) {
	before, err := p.Usage()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	<-time.After(window)
	after, err := p.Usage()
	if err != nil {
		return 0, 0, err
	}
	seconds := time.Since(begin).Seconds()
	// Threads that have ended meanwhile have taken their count along.
	return math.Max(after.WakeUps-before.WakeUps, 0) / seconds, math.Max(after.CPUNs-before.CPUNs, 0) / seconds, nil
}

// calm lets what the making of many left to do be done.
func (r *run) calm() { <-time.After(r.scaled(500*time.Millisecond, 2*time.Second)) }

// scaled is the first in a quick run.
func (r *run) scaled(quick, full time.Duration) time.Duration {
	if r.quick {
		return quick
	}
	return full
}

// memory is what an idle cage takes, beside an instance of Wasmtime's own: a fresh process of each, in turn.
func (r *run) memory() {
	n := 1000
	if r.quick {
		n = 300
	}
	sides := []struct {
		who, contestant, words string
		kib                    []float64
	}{
		{who: "lindbridge", contestant: "lindbridge@memory", words: "cages blocked"},
		{who: "instance of plain Wasmtime, without a thread", contestant: "floor@memory", words: "idle"},
		{who: "instance of plain Wasmtime, blocked on a thread of its own", contestant: "floor@memory", words: "blocked"},
		{who: "lindbridge, shared memory, in an atomic wait", contestant: "lindbridge@memory", words: "cages idle"},
	}
	for round := range stat.MinSamples {
		r.log("memory of %d idle cages: round %d of %d", n, round+1, stat.MinSamples)
		for i := range sides {
			s := &sides[i]
			kib, err := r.resident(s.contestant, s.words, n)
			if err != nil {
				r.trouble("memory, %s: %v", s.who, err)
				continue
			}
			s.kib = append(s.kib, kib)
		}
	}
	for _, pair := range []struct {
		ours, peer int
		what       string
		must, aim  float64
	}{
		{0, 1, "resident memory of a cage blocked in a read", 64, 16},
		{0, 2, "resident memory of a cage blocked in a read", 0, 0},
		{3, 1, "resident memory of a cage in an atomic wait", 64, 16},
	} {
		ours, peer := sides[pair.ours], sides[pair.peer]
		var less []float64
		for i := range min(len(ours.kib), len(peer.kib)) {
			less = append(less, ours.kib[i]-peer.kib[i])
		}
		r.rec.Lines = append(r.rec.Lines, record.Line{
			ID: "memory: " + ours.who + " : " + peer.who, Group: groupIdle, What: pair.what, Unit: record.KiB,
			Ours: record.CellOf("lindbridge", ours.kib, false), Peer: record.CellOf(peer.who, peer.kib, false),
			Compared: estimate(less), Difference: true, Must: limit(pair.must), Aim: limit(pair.aim),
			Note: "private pages of the process, for each of 1,000 (a quick run: 300); the stack that the kernel keeps for each thread is not among them",
		})
	}
}

// resident is the private memory in KiB that each of n adds to a fresh process.
func (r *run) resident(name, words string, n int) (float64, error) {
	p, err := r.process(name)
	if err != nil {
		return 0, err
	}
	kib, err := func() (float64, error) {
		// What the first one alone brings in is no part of what each costs.
		if _, err := p.Ask(manyPatience, 0, fields("%s 1", words)...); err != nil {
			return 0, err
		}
		before, err := p.Usage()
		if err != nil {
			return 0, err
		}
		grow := n
		if name == "floor@memory" { // it has so many in all, not so many more
			grow++
		}
		if _, err := p.Ask(manyPatience, 0, fields("%s %d", words, grow)...); err != nil {
			return 0, err
		}
		after, err := p.Usage()
		return (after.Resident - before.Resident) / float64(n) / 1024, err
	}()
	return kib, errors.Join(err, r.end(name))
}

// calmness is what 1,000 blocked cages, and one whose exit is stuck, cost while nothing happens.
func (r *run) calmness() {
	for _, c := range []struct{ what, words string }{
		{"1,000 cages blocked in a read", "cages blocked 1000"},
		{"1,000 cages in atomic waits", "cages idle 1000"},
		{"a cage whose exit is stuck", "stuck"},
	} {
		r.log("at rest: %s", c.what)
		const name = "lindbridge@rest"
		var wakeUps, cpu []float64
		p, err := r.process(name)
		if err == nil {
			_, err = p.Ask(manyPatience, 0, fields("%s", c.words)...)
		}
		r.calm()
		for range stat.MinSamples {
			if err != nil {
				break
			}
			var w, t float64
			w, t, err = rest(p, r.scaled(500*time.Millisecond, 3*time.Second))
			wakeUps, cpu = append(wakeUps, w), append(cpu, t/1e6)
		}
		if err = errors.Join(err, r.end(name)); err != nil {
			r.trouble("%s: %v", c.what, err)
			continue
		}
		r.restLine(c.what+": wake-ups", record.PerSecond, wakeUps, true)
		r.restLine(c.what+": processor time", record.PerMille, cpu, false)
	}
}

func (r *run) restLine(what string, unit record.Unit, values []float64, must bool) {
	line := record.Line{
		ID: "rest: " + what, Group: groupIdle, What: what, Unit: unit, Ours: record.CellOf("lindbridge", values, false),
		Peer: record.Cell{Who: "none"}, Compared: estimate(values), Difference: true,
	}
	if must {
		zero := 0.0
		line.Must = &zero
	}
	r.rec.Lines = append(r.rec.Lines, line)
}
