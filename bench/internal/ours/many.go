package ours

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/bench/internal/drive"
)

// grow has so many more cages in a state. Half of mixed ones are bare, the other half idle.
func (d *Driver) grow(r *drive.Request) (drive.Reply, error) {
	n, err := r.Int(1)
	if err != nil {
		return drive.Reply{}, err
	}
	begin := time.Now()
	if r.Arg(0) == "mixed" {
		err = errors.Join(d.more("bare", n/2), d.more("idle", n-n/2))
	} else {
		err = d.more(r.Arg(0), n)
	}
	took := elapsed(begin)
	if r.Arg(0) != "busy" { // with them a collection takes minutes: each of its steps waits for its turn
		debug.FreeOSMemory()
	}
	return drive.Reply{Ns: []float64{took}}, err
}

func (d *Driver) more(state string, n int) error {
	wat, ok := states[state]
	if !ok {
		return fmt.Errorf("no cages are %q: want bare, idle, blocked, busy or mixed", state)
	}
	m, err := d.module(wat)
	if err != nil {
		return err
	}
	bare, busy := state == "bare", state == "busy"
	p := lindbridge.Program{Module: m, Stdin: d.silent, Stdout: d.in}
	if bare {
		p.Stdout = nil
	}
	if bare || state == "idle" { // descriptors are few, where there are to be ten thousand
		p.Stdin = nil
	}
	var starter *os.File
	if busy {
		var stdin *os.File
		if stdin, starter, err = os.Pipe(); err != nil {
			return err
		}
		defer stdin.Close()
		defer starter.Close()
		p.Stdin = stdin
	}
	for range n {
		c, err := d.rt.Spawn(context.Background(), p)
		if err != nil {
			return fmt.Errorf("after %d cages: %w", len(d.crowd), err)
		}
		d.crowd = append(d.crowd, c)
		if bare { // it cannot say that it is there: who asked gives it the time
			continue
		}
		if err := d.arrivals(1); err != nil {
			return fmt.Errorf("after %d cages: %w", len(d.crowd), err)
		}
	}
	if busy { // all at once: each has a byte to read
		if _, err := starter.Write(make([]byte, n)); err != nil {
			return err
		}
	}
	return nil
}

// guarded has so many programs, each under a grate that serves so many of its calls.
func (d *Driver) guarded(r *drive.Request) (drive.Reply, error) {
	n, err := r.Int(0)
	if err != nil {
		return drive.Reply{}, err
	}
	handlers, err := r.Int(1)
	if err != nil {
		return drive.Reply{}, err
	}
	g, err := d.grateModule(guard(handlers))
	if err != nil {
		return drive.Reply{}, err
	}
	m, err := d.module(waiter)
	if err != nil {
		return drive.Reply{}, err
	}
	begin := time.Now()
	for range n {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		s, err := d.rt.SpawnStack(ctx, lindbridge.Program{Module: m}, lindbridge.Grate{Program: lindbridge.Program{Module: g}})
		cancel()
		if err != nil {
			return drive.Reply{}, fmt.Errorf("after %d stacks: %w", len(d.stacks), err)
		}
		d.stacks = append(d.stacks, s)
	}
	return drive.Reply{Ns: []float64{elapsed(begin)}}, nil
}

// clear ends all cages that were made to be many.
func (d *Driver) clear() (drive.Reply, error) {
	err := d.unstick()
	begin := time.Now()
	for _, c := range d.crowd {
		c.Kill()
	}
	for _, c := range d.crowd {
		err = errors.Join(err, finish(c))
	}
	took := elapsed(begin)
	for _, s := range d.stacks {
		s.Kill()
	}
	for _, s := range d.stacks {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, failed := s.Wait(ctx)
		cancel()
		err = errors.Join(err, failed)
	}
	d.crowd, d.stacks = nil, nil
	debug.FreeOSMemory()
	return drive.Reply{Ns: []float64{took}}, err
}

// stuck is a runtime with a cage whose exit is stuck: the host's own hook of a call does not return.
type stuck struct {
	rt    *lindbridge.Runtime
	stack *lindbridge.Stack
	back  chan struct{}
}

func (d *Driver) getStuck() error {
	if d.stuck != nil {
		return errors.New("one is stuck already")
	}
	entered, back := make(chan struct{}, 1), make(chan struct{})
	rt, err := lindbridge.New(lindbridge.Config{Trace: func(lindbridge.Trace) {
		entered <- struct{}{}
		<-back
	}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	app, err := rt.Load(ctx, []byte(asker))
	if err != nil {
		return err
	}
	g, err := rt.LoadGrate(ctx, []byte(grate(false)))
	if err != nil {
		return err
	}
	s := &stuck{rt: rt, back: back}
	s.stack, err = rt.SpawnStack(ctx, lindbridge.Program{Module: app, StopGrace: 20 * time.Millisecond},
		lindbridge.Grate{Program: lindbridge.Program{Module: g}})
	if err != nil {
		return err
	}
	<-entered
	s.stack.App.Kill()
	select {
	case <-s.stack.App.Stuck():
	case <-ctx.Done():
		return errors.New("the cage is not stuck")
	}
	d.stuck = s
	return nil
}

// unstick lets the call return, if there is one.
func (d *Driver) unstick() error {
	if d.stuck == nil {
		return nil
	}
	close(d.stuck.back)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := d.stuck.stack.Wait(ctx)
	err = errors.Join(err, d.stuck.rt.Close(ctx))
	d.stuck = nil
	return err
}
