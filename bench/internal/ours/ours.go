package ours

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/bench/internal/drive"
)

// patience is how long anything may take that should take milliseconds at most.
const patience = 2 * time.Minute

// Driver answers requests. Close it.
type Driver struct {
	rt      *lindbridge.Runtime
	modules map[string]*lindbridge.Module
	silent  *os.File // nothing comes from it
	out, in *os.File // the pipe by which threads say that they are there
	crowd   []*lindbridge.Cage
	stacks  []*lindbridge.Stack
	stuck   *stuck
}

// New makes the runtime that all is measured on. The shim is where the environment says. silent is a pipe that nothing
// comes from; it stays the caller's.
func New(silent *os.File) (*Driver, error) {
	d := &Driver{modules: map[string]*lindbridge.Module{}, silent: silent}
	// Ten thousand cages that are blocked have some descriptors each. Who may not raise the limit has fewer cages.
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 16, Max: 1 << 16})
	var err error
	if d.rt, err = lindbridge.New(lindbridge.Config{MaxCages: 40_000, MaxThreads: 40_000}); err != nil {
		return nil, err
	}
	if d.out, d.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	return d, nil
}

// Close ends everything.
func (d *Driver) Close() error {
	_, err := d.clear()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return errors.Join(err, d.rt.Close(ctx), d.out.Close(), d.in.Close())
}

// Do carries out a request.
func (d *Driver) Do(r *drive.Request) (drive.Reply, error) {
	switch r.Op {
	case "kill":
		return d.kill(r)
	case "spawn":
		return d.spawn(r)
	case "crop":
		return d.crop(r)
	case "rate":
		return d.rate(r)
	case "call":
		return d.call(r)
	case "cages":
		return d.grow(r)
	case "stacks":
		return d.guarded(r)
	case "stuck":
		return drive.Reply{}, d.getStuck()
	case "unstuck":
		return drive.Reply{}, d.unstick()
	case "clear":
		return d.clear()
	case "version":
		return drive.Reply{Text: fmt.Sprintf("%s, %s, cgo %s", d.rt.ShimVersion(), runtime.Version(), cgo())}, nil
	}
	return drive.Reply{}, fmt.Errorf("no such request: %s", r.Op)
}

// cgo says whether this was built with cgo.
func cgo() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value == "1" {
			return "on"
		}
	}
	return "off"
}

// module compiles a program, once.
func (d *Driver) module(wat string) (*lindbridge.Module, error) {
	return d.load(wat, d.rt.Load)
}

// grateModule is module for a grate.
func (d *Driver) grateModule(wat string) (*lindbridge.Module, error) {
	return d.load(wat, d.rt.LoadGrate)
}

func (d *Driver) load(
	wat string, load func(context.Context, []byte) (*lindbridge.Module, error),
) (*lindbridge.Module, error) {
	if m, ok := d.modules[wat]; ok {
		return m, nil
	}
	m, err := load(context.Background(), []byte(wat))
	if err == nil {
		d.modules[wat] = m
	}
	return m, err
}

// finish waits for a cage.
func finish(c *lindbridge.Cage) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.Wait(ctx)
	return err
}

// arrivals waits until so many threads have said that they are there.
func (d *Driver) arrivals(n int) error {
	if err := d.out.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	b := make([]byte, n)
	for n > 0 {
		k, err := d.out.Read(b[:n])
		if err != nil {
			return fmt.Errorf("threads do not arrive: %w", err)
		}
		n -= k
	}
	return nil
}

// settle lets threads that have just said that they are there get to where they spin or block. A benchmark may take its
// time: no result depends on it.
func settle() { <-time.After(time.Millisecond) }

// rest lets threads that were ended in their sleep be woken, which is done a little later and is not to be in the way of
// another contestant: see the shim's waker.
func rest() { <-time.After(10 * time.Millisecond) }

// elapsed is the time since begin in nanoseconds.
func elapsed(begin time.Time) float64 { return float64(time.Since(begin).Nanoseconds()) }
