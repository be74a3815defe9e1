package wazero

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
)

// calls is how many host calls a sample has.
const calls = 10_000

// functions are those of the guest that do what a mix of threads says.
var functions = map[string]string{"1 0 0": "spin", "0 1 0": "wait", "0 0 1": "read"}

// Driver answers requests. Close it.
type Driver struct {
	rt     wazero.Runtime
	guest  wazero.CompiledModule
	tiny   map[string]wazero.CompiledModule
	there  chan struct{} // a guest says that it is there
	config wazero.ModuleConfig
}

// New makes the runtime that all is measured on. silent is a pipe that nothing comes from; it stays the caller's.
func New(silent *os.File) (*Driver, error) {
	ctx := context.Background()
	cfg := wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(true).
		WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesThreads)
	d := &Driver{
		rt: wazero.NewRuntimeWithConfig(ctx, cfg), there: make(chan struct{}, 1), tiny: map[string]wazero.CompiledModule{},
		config: wazero.NewModuleConfig().WithName("").WithStartFunctions().WithStdin(silent),
	}
	_, err := d.rt.NewHostModuleBuilder("host").
		NewFunctionBuilder().WithFunc(func() { d.there <- struct{}{} }).Export("mark").
		NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) {}), nil, nil).Export("nop").
		Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, d.rt); err != nil {
		return nil, err
	}
	if d.guest, err = d.rt.CompileModule(ctx, guest); err != nil {
		return nil, err
	}
	for name, wasm := range map[string][]byte{"plain": tinyPlain, "memory": tinyMemory} {
		if d.tiny[name], err = d.rt.CompileModule(ctx, wasm); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Close ends everything.
func (d *Driver) Close() error { return d.rt.Close(context.Background()) }

// Do carries out a request.
func (d *Driver) Do(r *drive.Request) (drive.Reply, error) {
	sample := func() (float64, error) { return 0, fmt.Errorf("no such request: %s %v", r.Op, r.Args) }
	switch r.Op {
	case "kill":
		fn, ok := functions[strings.Join(r.Args, " ")]
		if !ok {
			return drive.Reply{Cannot: "a module has one thread"}, nil
		}
		sample = func() (float64, error) { return d.cancel(fn, r) }
	case "spawn":
		if m, ok := d.tiny[r.Arg(0)]; ok {
			sample = func() (float64, error) { return d.whole(m) }
		}
	case "hostcall":
		sample = d.hostcall
	case "version":
		return drive.Reply{Text: "wazero " + version() + ", " + runtime.Version()}, nil
	}
	var reply drive.Reply
	for range r.N {
		ns, err := sample()
		if err != nil {
			return reply, err
		}
		reply.Ns = append(reply.Ns, ns)
	}
	return reply, nil
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/tetratelabs/wazero" {
				return m.Version
			}
		}
	}
	return "unknown"
}

// cancel is from the context's end until the call has returned and its module is closed.
func (d *Driver) cancel(fn string, r *drive.Request) (float64, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m, err := d.rt.InstantiateModule(ctx, d.guest, d.config)
	if err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := m.ExportedFunction(fn).Call(ctx)
		ended <- err
	}()
	select {
	case <-d.there:
	case err := <-ended:
		return 0, fmt.Errorf("%s ended by itself: %w", fn, err)
	}
	<-time.After(time.Millisecond) // it gets to where it spins or blocks
	if fn != "spin" {
		if err := r.Arm(); err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	cancel()
	if err := <-ended; err == nil {
		return 0, errors.New("a call that was canceled returned")
	}
	err = m.Close(context.Background())
	return float64(time.Since(begin).Nanoseconds()), err
}

// whole is a tiny program, from nothing to nothing.
func (d *Driver) whole(m wazero.CompiledModule) (float64, error) {
	ctx := context.Background()
	begin := time.Now()
	instance, err := d.rt.InstantiateModule(ctx, m, d.config)
	if err != nil {
		return 0, err
	}
	_, err = instance.ExportedFunction("_start").Call(ctx)
	err = errors.Join(err, instance.Close(ctx))
	return float64(time.Since(begin).Nanoseconds()), err
}

// hostcall is a call of a host function that does nothing.
func (d *Driver) hostcall() (float64, error) {
	ctx := context.Background()
	m, err := d.rt.InstantiateModule(ctx, d.guest, d.config)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	_, err = m.ExportedFunction("nops").Call(ctx, calls)
	took := float64(time.Since(begin).Nanoseconds()) / calls
	return took, errors.Join(err, m.Close(ctx))
}
