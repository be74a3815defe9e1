package lindbridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/fault"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements grates: programs that serve the system calls of others. A stack of them is made from the outside
// in, each knowing the cage that it is to serve before that one runs.

// EnvChildCage is the environment variable by which a grate learns the cage that it is stacked on.
const EnvChildCage = "LIND_CHILD_CAGE"

// Errors of a stack of grates.
var (
	// ErrNoGrate is returned for a grate whose module was loaded by Load, and not by LoadGrate.
	ErrNoGrate = errors.New("module was not loaded as a grate")
	// ErrGrateEnded is returned when a grate ended before it served: see GrateError.
	ErrGrateEnded = errors.New("grate ended before it served")
)

// GrateError says which grate of a stack ended before it served, and how.
type GrateError struct {
	// Index is the grate's place in the list that SpawnStack was given.
	Index int
	// Report is how it ended.
	Report exitcoord.Report
}

// Error names the grate and how it ended.
func (e *GrateError) Error() string {
	return fmt.Sprintf("grate %d: %v: %v", e.Index+1, ErrGrateEnded, e.Report.Cause)
}

// Unwrap is ErrGrateEnded.
func (e *GrateError) Unwrap() error { return ErrGrateEnded }

// Grate is a program that serves system calls of the one below it in a stack.
type Grate struct {
	// Program is the grate itself. Its module is one of LoadGrate.
	Program
	// MaxWorkers is the most calls that it serves at once, at most 1024; further callers wait. 0: DefaultMaxWorkers. It has
	// to be more than threads of the program can block in calls that the grate passes on. A grate that was built without
	// threads serves one call at a time, whatever is said here.
	MaxWorkers int
	// WorkerStack is the stack of each worker in the grate's memory, in bytes. 0: 64 KiB.
	WorkerStack uint64
	// Busy makes callers get EAGAIN, instead of waiting, when MaxWorkers calls are being served.
	Busy bool
}

// Stack is a program with the grates that serve its system calls.
type Stack struct {
	// App is the program.
	App *Cage
	// Grates are those above it, the outermost first. Each has a wait of its own; Stack.Wait waits for all.
	Grates []*Cage

	grace []time.Duration // of the grates
}

// grate is what a cage has as a grate in a stack.
type grate struct {
	below *Cage       // whom it serves; immutable once it runs
	files *grateFiles // immutable once it runs

	ready     chan struct{} // closed when it has said that it serves
	readyOnce sync.Once
	ended     *rawposix.Event // becomes readable when below has ended
}

// LoadGrate is Load for a module whose cages are to be grates. Its memory must be its own or an imported shared one;
// in either case its cages share it among the workers that serve calls. Spawn runs it too, as a program.
//
// # Errors
//
//   - ErrModule also for a module with several memories or a 64-bit one, which cannot be a grate
//   - as Load
func (rt *Runtime) LoadGrate(ctx context.Context, b []byte) (*Module, error) {
	return rt.load(ctx, b, rt.engine.LoadGrate, true)
}

// SpawnStack starts a program with grates above it, the outermost first, and returns when the program runs. The calls of
// the program come to the last of the grates first. What that one does not serve, and what it calls itself, comes to the
// one before, and so on; what none serves is native.
//
// Each grate finds the cage that it is to serve in its environment (EnvChildCage). It registers its handlers on it with
// register_handler, and then says that it serves with grate_serve, call 1004 of the Lind ABI, which waits until that cage
// has ended and answers its wait status. A grate's handlers are copied to the next cage down before that is given its own
// (copy_handler_table_to_cage).
//
// Programs of a stack that are given the same Stdout or Stderr write to it at the same time: one that is no *os.File has to
// bear that.
//
// It blocks until each grate has said that it serves, or ctx is done. On any error nothing is left running.
//
// # Errors
//
//   - a *GrateError: a grate ended before it served
//   - ErrNoGrate: a grate's module is not one of LoadGrate
//   - ErrExport: a grate lacks an export that workers need; the message says how to link it
//   - as Spawn
func (rt *Runtime) SpawnStack(ctx context.Context, app Program, grates ...Grate) (*Stack, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("spawn stack: %w", err)
	}
	if !rt.begin() {
		return nil, fmt.Errorf("spawn stack: %w", ErrClosed)
	}
	cages, err := rt.buildStack(app, grates)
	rt.starting.Done() // Close waits for what is being built, and then ends what there is
	if err != nil {
		return nil, fmt.Errorf("spawn stack: %w", err)
	}
	if err := rt.startStack(ctx, cages, app, grates); err != nil {
		for _, c := range slices.Backward(cages) {
			c.end(exitcoord.Cause{Kind: exitcoord.GrateFailure, Message: "a grate of its stack did not start"})
			<-c.ended()
			c.reap()
		}
		return nil, fmt.Errorf("spawn stack: %w", err)
	}
	s := &Stack{App: cages[len(grates)]}
	for i := range grates {
		s.Grates = append(s.Grates, cages[i])
		s.grace = append(s.grace, grates[i].stopGrace())
	}
	return s, nil
}

// startStack starts the cages of a stack, from the outside in.
func (rt *Runtime) startStack(ctx context.Context, cages []*Cage, app Program, grates []Grate) error {
	for i, c := range cages {
		p := app
		if i < len(grates) {
			p = grates[i].Program
		}
		if i > 0 && i < len(grates) {
			// What serves this grate, which is complete by now, is to serve the one below too, but for what this grate adds.
			err := rt.sys.CopyHandlerTable(ctx, c.ID(), cages[i+1].ID())
			if err != nil && !errors.Is(err, threei.ErrNoHandlers) {
				return err
			}
		}
		if err := rt.startOne(ctx, c, p, i); err != nil {
			return err
		}
	}
	return nil
}

// startOne starts the cage in place i of a stack and, if it is a grate, waits until it serves.
func (rt *Runtime) startOne(ctx context.Context, c *Cage, p Program, i int) error {
	if !rt.begin() {
		return ErrClosed
	}
	err := c.start(p)
	rt.starting.Done()
	if err != nil || c.grate == nil {
		return err
	}
	select {
	case <-c.grate.ready:
		return nil
	case <-c.ended():
		return &GrateError{Index: i, Report: c.Report()}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// buildStack makes the cages, the outermost first.
func (rt *Runtime) buildStack(app Program, grates []Grate) (_ []*Cage, err error) {
	cages := make([]*Cage, len(grates)+1)
	defer func() {
		for _, c := range cages {
			if c == nil {
				continue
			}
			c.adopt()
			if err != nil {
				c.end(exitcoord.Cause{Kind: exitcoord.StartFailed, Message: err.Error()})
				<-c.done // at once: nothing is inside
				c.reap()
			}
		}
	}()
	// From the inside out, since each is told the one below in its environment.
	for i := len(grates); i >= 0; i-- {
		p, g := app, (*grate)(nil)
		if i < len(grates) {
			if p = grates[i].Program; !rt.has(p.Module) {
				return nil, fmt.Errorf("grate %d: %w", i+1, ErrNoModule)
			}
			if !p.Module.grate {
				return nil, fmt.Errorf("grate %d: %w", i+1, ErrNoGrate)
			}
			g = &grate{below: cages[i+1], ready: make(chan struct{})}
			child := strconv.FormatUint(uint64(cages[i+1].ID()), 10)
			p.Env = append(p.Env[:len(p.Env):len(p.Env)], EnvChildCage+"="+child)
		} else if !rt.has(p.Module) {
			return nil, ErrNoModule
		}
		if cages[i], err = rt.build(p, g); err != nil {
			if g != nil {
				err = fmt.Errorf("grate %d: %w", i+1, err)
			}
			return nil, err
		}
		if g == nil {
			continue
		}
		if err := cages[i].openGrate(grates[i]); err != nil {
			return nil, fmt.Errorf("grate %d: %w", i+1, err)
		}
	}
	return cages, nil
}

// openGrate lets the cage serve calls.
func (c *Cage) openGrate(g Grate) (err error) {
	if err := c.fail(fault.SpawnGrate); err != nil {
		return err
	}
	if c.grate.ended, err = rawposix.NewEvent(); err != nil {
		return err
	}
	c.grate.files = c.newGrateFiles()
	below, ended := c.grate.below, c.grate.ended
	go func() {
		<-below.ended()
		ended.Set()
		<-c.ended() // no thread of the cage looks at it any more
		_ = ended.Close()
	}()
	port, err := c.dom.OpenGrate(bridge.GrateConfig{
		MaxWorkers: uint32(or(g.MaxWorkers, DefaultMaxWorkers)), StackBytes: g.WorkerStack, Again: g.Busy,
	})
	if err != nil {
		return err
	}
	return c.rt.sys.SetPort(c.ID(), port)
}

// Wait waits until the program has ended and answers how, as App.Wait does, and then for the grates, the innermost first:
// one that does not end by itself within its StopGrace is killed. When ctx is done first it answers ctx's error, and all
// that runs runs on.
func (s *Stack) Wait(ctx context.Context) (exitcoord.Status, error) {
	status, err := s.App.Wait(ctx)
	if err != nil {
		return status, err
	}
	for i := len(s.Grates) - 1; i >= 0; i-- {
		if err := s.waitGrate(ctx, i); err != nil {
			return status, err
		}
	}
	return status, nil
}

func (s *Stack) waitGrate(ctx context.Context, i int) error {
	c := s.Grates[i]
	timer := time.NewTimer(s.grace[i])
	defer timer.Stop()
	select {
	case <-c.ended():
	case <-ctx.Done():
	case <-timer.C:
		c.Kill()
	}
	_, err := c.Wait(ctx)
	return err
}

// Kill ends the program, and then the grates, as by SIGKILL. It returns at once: Wait tells when it is over.
func (s *Stack) Kill() {
	s.App.Kill()
	for _, c := range slices.Backward(s.Grates) {
		c.Kill()
	}
}

// grateServe is grate_serve, call 1004: the grate has registered what it serves, and waits for the end of the cage that it
// is stacked on. It answers that one's wait status, or -ECHILD where there is none.
func (rt *Runtime) grateServe(t *threei.Thread, _ *threei.Args) int64 {
	c := rt.running.Load(uint64(t.Cage))
	if c == nil || c.grate == nil {
		return abi.ECHILD.Result()
	}
	g := c.grate
	g.readyOnce.Do(func() { close(g.ready) })
	if !g.below.over() {
		if e := g.ended.Wait(t); e != 0 {
			return e.Result()
		}
	}
	status, _ := g.below.exit.Status()
	return int64(status.WaitStatus())
}

// callGrate has a grate serve a call that began in Go: one of WASI's, or the host's.
func (rt *Runtime) callGrate(
	_ context.Context, t *threei.Thread, target abi.CageID, entry uint64, call abi.Call, a *threei.Args,
) int64 {
	var args [12]uint64
	for i := range a.Val {
		args[2*i], args[2*i+1] = a.Val[i], uint64(a.Cage[i])
	}
	result, err := rt.engine.GrateCall(entry, uint64(target), uint64(call), &args)
	switch {
	case err == nil:
		return int64(result)
	case errors.Is(err, bridge.ErrClosed):
		return abi.LindResult(abi.ELindESRCH)
	case errors.Is(err, bridge.ErrLimit):
		return abi.EAGAIN.Result()
	case errors.Is(err, bridge.ErrDepth):
		return abi.ELOOP.Result()
	}
	return abi.EIO.Result()
}

// mayInterpose reports whether by is stacked, directly or not, on the target.
func (rt *Runtime) mayInterpose(by, target abi.CageID) bool {
	c := rt.running.Load(uint64(by))
	for c != nil && c.grate != nil {
		if c = c.grate.below; c.ID() == target {
			return true
		}
	}
	return false
}
