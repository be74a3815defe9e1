package lindbridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/internal/fault"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// Spawn starts a program as a cage of its own and returns at once. The cage belongs to the runtime, whose Close ends it;
// whoever spawned it calls Cage.Wait, which also gives its id back. When ctx is done before the program was started, it is
// not; from then on ctx has no effect.
//
// # Errors
//
//   - ErrNoModule: p.Module is nil, was closed, or belongs to another runtime
//   - ErrMemory: the module's memory is larger than p.MaxMemory
//   - ErrExport: the module exports no _start, so that it is a library and no program
//   - ErrTooManyCages, ErrLimit: a limit of the runtime is reached
//   - ErrClosed: the runtime is closed
//   - an *fs.PathError: a directory of p.Dirs cannot be opened
//
// On any error nothing is left behind.
func (rt *Runtime) Spawn(ctx context.Context, p Program) (*Cage, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("spawn: %w", err)
	}
	if !rt.has(p.Module) {
		return nil, fmt.Errorf("spawn: %w", ErrNoModule)
	}
	if !rt.begin() {
		return nil, fmt.Errorf("spawn: %w", ErrClosed)
	}
	defer rt.starting.Done()
	c, err := rt.build(p, nil)
	if err != nil {
		return nil, fmt.Errorf("spawn: %w", err)
	}
	if err := c.start(p); err != nil {
		return nil, fmt.Errorf("spawn: %w", err)
	}
	return c, nil
}

// build makes a cage that is complete but does not run; g is what it has as a grate, if it is to be one. On failure what
// was made is given back, in reverse.
func (rt *Runtime) build(p Program, g *grate) (_ *Cage, err error) {
	var undo []func() error
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
		}
	}()
	names := make([]string, len(p.Dirs))
	for i, dir := range p.Dirs {
		names[i] = dir.Guest
	}
	env, err := wasip1.NewEnv(wasip1.EnvConfig{Args: p.Args, Environ: p.Env, Preopens: names})
	if err != nil {
		return nil, err
	}
	c := &Cage{rt: rt, env: env, timeLimit: p.TimeLimit, done: make(chan struct{}), grate: g}
	if c.entry, err = rt.ids.Alloc(abi.CageInit); err != nil {
		return nil, err
	}
	undo = append(undo, func() error { return rt.ids.Discard(c.entry) })

	if err := c.fail(fault.SpawnProcess); err != nil {
		return nil, err
	}
	c.proc, err = rt.host.NewProcess(rawposix.ProcessConfig{
		Cage: c.ID(), Parent: abi.CageInit, Hooks: (*hooks)(c), Network: p.Network, MaxFDs: p.MaxFDs,
		UID: rt.uid, EUID: rt.euid, GID: rt.gid, EGID: rt.egid,
	})
	if err != nil {
		return nil, err
	}
	undo = append(undo, c.proc.Close)

	undo = append(undo, func() error { c.stdio.abandon(); return nil })
	if err := c.fail(fault.SpawnStreams); err != nil {
		return nil, err
	}
	if err := c.stdio.install(c.proc, rt.null, p); err != nil {
		return nil, err
	}
	if err := c.fail(fault.SpawnDirs); err != nil {
		return nil, err
	}
	for i, dir := range p.Dirs {
		if err := installDir(c.proc, i, dir); err != nil {
			return nil, err
		}
	}
	handlers, err := rt.sys.HandlersAddr(c.ID())
	if err != nil {
		return nil, err
	}
	grace := p.stopGrace()
	if err := c.fail(fault.SpawnDomain); err != nil {
		return nil, err
	}
	c.dom, err = p.Module.native.NewDomain(bridge.DomainConfig{
		User: c, MaxMemoryBytes: p.MaxMemory, MaxThreads: uint64(max(p.MaxThreads, 0)),
		Handlers: handlers, Cage: uint64(c.ID()),
		// Half of what the exit has, so that it does not become stuck for a grate's sake.
		GrateGrace: grace / 2,
	})
	if errors.Is(err, bridge.ErrHandle) {
		err = fmt.Errorf("%w: it was closed", ErrNoModule)
	}
	if err != nil {
		return nil, err
	}
	undo = append(undo, c.dom.Close)

	if err := c.fail(fault.SpawnCage); err != nil {
		return nil, err
	}
	c.exit = exitcoord.New(exitcoord.Config{
		Cage: c.ID(), Stopper: (*stopper)(c), Steps: c.steps(), StopDeadline: grace, Watch: rt.watch,
		Observer: rt.observer,
	})
	err = rt.sys.AddCage(c.ID(), c.exit, threei.CageConfig{Memory: c.memory, Native: c.proc, Cancel: (*canceler)(c)})
	if err != nil {
		return nil, err
	}
	rt.running.Insert(uint64(c.ID()), c) // the id is this cage's alone until it is reaped
	return c, nil
}

// memory is the cage's linear memory as it is now.
func (c *Cage) memory() guestmem.Memory {
	m, err := c.dom.Memory()
	if err != nil {
		return guestmem.Memory{} // it is gone, and so has no bytes
	}
	return m
}

// firstPreopen is the descriptor of the first directory: wasi-libc looks for them from 3 on.
const firstPreopen = 3

// installDir opens a directory and makes it the i-th preopen.
func installDir(proc *rawposix.Process, i int, dir Dir) error {
	fd, err := openDir(dir.Host)
	if err != nil {
		return err
	}
	if err := proc.InstallFD(fdtables.FD(firstPreopen+i), fd, rawposix.Owned, uint64(i)+1); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	return nil
}

// adopt makes a cage that was built the runtime's, which ends it by the one exit only.
func (c *Cage) adopt() {
	c.rt.mu.Lock()
	defer c.rt.mu.Unlock()
	if c.adopted {
		return
	}
	c.adopted = true
	c.rt.cages[c] = struct{}{}
	c.stdio.begin()
}

// start lets the cage run. From here on it ends by the one exit only, also if its first thread cannot be started.
func (c *Cage) start(p Program) error {
	c.adopt()
	c.threads.Store(1)
	err := c.fail(fault.SpawnStart)
	if err == nil {
		err = c.dom.Start("_start")
	}
	if err != nil {
		c.end(exitcoord.Cause{Kind: exitcoord.StartFailed, Message: err.Error()})
		<-c.done // at once: nothing is inside
		c.reap()
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	if p.TimeLimit > 0 {
		c.setTimeLimit(time.AfterFunc(p.TimeLimit, func() {
			_ = c.fail(fault.TimeLimit)
			c.end(exitcoord.Cause{Kind: exitcoord.TimeLimit, Limit: p.TimeLimit})
		}))
	}
	return nil
}
