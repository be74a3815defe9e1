package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
	"github.com/lindbridge/lindbridge/bench/internal/record"
	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

func fields(format string, args ...any) []string { return strings.Fields(fmt.Sprintf(format, args...)) }

// scale is what 1 to 10,000 cages cost in each state, or as many as there is room for. Busy ones share the processors: with
// many more than there are, a thread that is to do anything waits for its turn behind all of them, so that there are fewer.
func (r *run) scale() {
	states := []struct {
		state string
		steps []int
	}{
		{"idle", []int{1, 100, 1000, 10_000}},
		{"blocked", []int{1, 100, 1000, 10_000}},
		{"busy", []int{1, 100, 1000}},
	}
	if r.quick {
		states[1].steps, states[2].steps = states[1].steps[:3], states[2].steps[:2]
	}
	for _, s := range states {
		if err := r.grow(s.state, s.steps); err != nil {
			r.trouble("%s cages: %v", s.state, err)
		}
	}
}

// grow fills in the lines of a state, in one process that has ever more cages.
func (r *run) grow(state string, steps []int) (err error) {
	name := "lindbridge@" + state
	p, err := r.process(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end(name)) }()
	// What the first one alone brings in is no part of what each costs.
	for _, words := range []string{"cages " + state + " 1", "kill 0 1 0", "clear"} {
		if _, err := p.Ask(manyPatience, 1, fields("%s", words)...); err != nil {
			return err
		}
	}
	empty, err := p.Usage()
	if err != nil {
		return err
	}
	space := newRoom(p)
	have := 0
	for i, n := range steps {
		r.log("%d %s cages", n, state)
		if n, err = space.fit(p, have, n); err != nil {
			return err
		}
		line := record.Scale{State: state, Cages: n}
		if state == "busy" { // made while none of them spins
			_, err = p.Ask(manyPatience, 0, "clear")
			have = 0
		}
		if err == nil {
			line.SpawnNs, err = r.fill(p, state, n-have)
		}
		have = n
		if err == nil {
			err = r.look(p, &line, empty)
		}
		if err == nil && i == len(steps)-1 {
			var reply drive.Reply
			if reply, err = p.Ask(manyPatience, 0, "clear"); err == nil {
				line.KillAllNs = reply.Ns[0] / float64(n)
			}
		}
		if err != nil {
			r.log("not reached: %v", err)
			line.NotReached = strings.ReplaceAll(err.Error(), "\n", " ")
			r.rec.Scale = append(r.rec.Scale, line)
			return nil
		}
		r.rec.Scale = append(r.rec.Scale, line)
	}
	return nil
}

// fill adds cages, and answers how long each took.
func (r *run) fill(p *drive.Process, state string, n int) (float64, error) {
	wait := manyPatience
	if state == "busy" {
		wait = patience
	}
	reply, err := p.Ask(wait, 0, "cages", state, fmt.Sprint(n))
	if err != nil {
		return 0, err
	}
	return reply.Ns[0] / float64(n), nil
}

// look fills in what the cages of a line cost.
func (r *run) look(p *drive.Process, line *record.Scale, empty drive.Usage) error {
	r.calm()
	usage, err := p.Usage()
	if err != nil {
		return err
	}
	line.Threads, line.Mappings = usage.Threads, usage.Mappings
	line.Resident = (usage.Resident - empty.Resident) / float64(line.Cages) / 1024
	wakeUps, cpu, err := rest(p, r.scaled(500*time.Millisecond, 3*time.Second))
	if err != nil {
		return err
	}
	line.WakeUps, line.CPU = wakeUps, cpu/1e6
	n := 20
	if line.State == "busy" {
		n = 3
	}
	reply, err := p.Ask(patience, n, "kill", "0", "1", "0")
	if err != nil {
		return err
	}
	of := stat.Of(reply.Ns)
	line.KillP50, line.KillMax, line.KillN = of.P50, of.Max, of.N
	return nil
}
