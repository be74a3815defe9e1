package ours

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/bench/internal/drive"
)

// kill is from Kill until everything is cleaned up and waited for.
func (d *Driver) kill(r *drive.Request) (drive.Reply, error) {
	var reply drive.Reply
	var mix [3]int
	for i := range mix {
		n, err := r.Int(i)
		if err != nil {
			return reply, err
		}
		mix[i] = n
	}
	m, err := d.module(crowd(mix[0], mix[1], mix[2]))
	if err != nil {
		return reply, err
	}
	reply.Parts = map[string][]float64{}
	for range r.N {
		c, err := d.rt.Spawn(context.Background(), lindbridge.Program{Module: m, Stdin: d.silent, Stdout: d.in})
		if err != nil {
			return reply, err
		}
		if err := d.arrivals(mix[0] + mix[1] + mix[2]); err != nil {
			return reply, err
		}
		settle()
		begin := time.Now()
		c.Kill()
		if _, err := c.Wait(context.Background()); err != nil {
			return reply, err
		}
		reply.Ns = append(reply.Ns, elapsed(begin))
		report := c.Report()
		reply.Parts["stopping"] = append(reply.Parts["stopping"], float64(report.Stopping.Nanoseconds()))
		reply.Parts["cleaning"] = append(reply.Parts["cleaning"], float64(report.Cleaning.Nanoseconds()))
	}
	rest()
	return reply, nil
}

// whole is a program from Spawn until it is waited for.
func (d *Driver) whole(m *lindbridge.Module) error {
	c, err := d.rt.Spawn(context.Background(), lindbridge.Program{Module: m})
	if err != nil {
		return err
	}
	_, err = c.Wait(context.Background())
	return err
}

func (d *Driver) spawn(r *drive.Request) (drive.Reply, error) {
	var reply drive.Reply
	m, err := d.module(tiny[r.Arg(0)])
	if err != nil {
		return reply, err
	}
	for range r.N {
		begin := time.Now()
		if err := d.whole(m); err != nil {
			return reply, err
		}
		reply.Ns = append(reply.Ns, elapsed(begin))
	}
	return reply, nil
}

// crop is 100 programs that are spawned and then waited for: nobody waits while the first ones end.
func (d *Driver) crop(r *drive.Request) (drive.Reply, error) {
	var reply drive.Reply
	m, err := d.module(tiny["memory"])
	if err != nil {
		return reply, err
	}
	cages := make([]*lindbridge.Cage, 100)
	for range r.N {
		begin := time.Now()
		for i := range cages {
			if cages[i], err = d.rt.Spawn(context.Background(), lindbridge.Program{Module: m}); err != nil {
				return reply, err
			}
		}
		for _, c := range cages {
			if _, err := c.Wait(context.Background()); err != nil {
				return reply, err
			}
		}
		reply.Ns = append(reply.Ns, elapsed(begin)/float64(len(cages)))
	}
	return reply, nil
}

// rate is how often a second cages come and go, when several goroutines have some.
func (d *Driver) rate(r *drive.Request) (drive.Reply, error) {
	goroutines, err := r.Int(0)
	if err != nil || goroutines == 0 || r.N == 0 {
		return drive.Reply{}, fmt.Errorf("rate of %d by %d: %w", r.N, goroutines, err)
	}
	m, err := d.module(tiny["memory"])
	if err != nil {
		return drive.Reply{}, err
	}
	each := (r.N + goroutines - 1) / goroutines
	failed := make(chan error, goroutines)
	var all sync.WaitGroup
	begin := time.Now()
	for range goroutines {
		all.Go(func() {
			for range each {
				if err := d.whole(m); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	took := elapsed(begin)
	select {
	case err := <-failed:
		return drive.Reply{}, err
	default:
		return drive.Reply{Ns: []float64{took / float64(each*goroutines)}}, nil
	}
}

// call is a system call of a program, served in Go or by grates.
func (d *Driver) call(r *drive.Request) (drive.Reply, error) {
	var reply drive.Reply
	depth, ok := map[string]int{"lind": 0, "grate1": 1, "grate3": 3}[r.Arg(0)]
	if !ok || r.N < 1 || r.N > 1000 {
		return reply, fmt.Errorf("call %v: want 1 to 1000 of lind, grate1 or grate3", r.Args)
	}
	m, err := d.module(caller(r.N))
	if err != nil {
		return reply, err
	}
	var grates []lindbridge.Grate
	for i := range depth {
		g, err := d.grateModule(grate(i > 0))
		if err != nil {
			return reply, err
		}
		grates = append(grates, lindbridge.Grate{Program: lindbridge.Program{Module: g}})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out bytes.Buffer
	stack, err := d.rt.SpawnStack(ctx, lindbridge.Program{Module: m, Stdout: &out}, grates...)
	if err != nil {
		return reply, err
	}
	status, err := stack.Wait(ctx)
	if err != nil {
		return reply, err
	}
	if status.ExitCode() != 0 || out.Len() != 8*r.N {
		return reply, fmt.Errorf("call: exit code %d, %d bytes\n%v", status.ExitCode(), out.Len(), stack.App.Report())
	}
	for sample := range slices.Chunk(out.Bytes(), 8) {
		reply.Ns = append(reply.Ns, float64(binary.LittleEndian.Uint64(sample))/calls)
	}
	return reply, nil
}
