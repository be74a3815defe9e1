package lindbridge

import (
	"context"
	"fmt"
	"sync"

	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/wasip1"
)

// Module is a compiled program. Any number of cages can be spawned of it, at once. Its methods are safe for concurrent
// use.
type Module struct {
	rt     *Runtime       // immutable
	native *bridge.Module // immutable
	info   bridge.ModuleInfo
	grate  bool // it was loaded by LoadGrate; immutable

	closeOnce sync.Once
	closeErr  error
}

// Load compiles a module, in WebAssembly's binary or text format, or takes the result from Config.CacheDir. Large modules
// take seconds, during which ctx is not looked at: a compilation cannot be interrupted.
//
// # Errors
//
//   - ErrModule: b is no valid module
//   - ErrImport: it imports what no cage is offered; all such imports are named
//   - ErrExport: it exports wasi_thread_start with another type than the proposal's
//   - ErrThreads: it imports wasi.thread-spawn, but no shared memory, or exports no wasi_thread_start
//   - ErrClosed: the runtime is closed
func (rt *Runtime) Load(ctx context.Context, b []byte) (*Module, error) {
	return rt.load(ctx, b, rt.engine.Load, false)
}

func (rt *Runtime) load(
	ctx context.Context, b []byte, compile func([]byte) (*bridge.Module, error), grate bool,
) (*Module, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("load module: %w", err)
	}
	if !rt.begin() {
		return nil, fmt.Errorf("load module: %w", ErrClosed)
	}
	defer rt.starting.Done()
	native, err := compile(b)
	if err != nil {
		return nil, err
	}
	m := &Module{rt: rt, native: native, grate: grate}
	if err := m.inspect(); err != nil {
		_ = native.Close() // the error to report is the module's
		return nil, fmt.Errorf("load module: %w", err)
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.modules[m] = struct{}{}
	return m, nil
}

// has reports whether m is a module of this runtime.
func (rt *Runtime) has(m *Module) bool { return m != nil && m.rt == rt }

// inspect refuses what could only fail later.
func (m *Module) inspect() (err error) {
	if m.info, err = m.native.Info(); err != nil {
		return err
	}
	imports, err := m.native.Imports()
	if err != nil {
		return err
	}
	threads := false
	for _, imp := range imports {
		threads = threads || imp.Module == wasip1.ModuleThreads && imp.Kind == bridge.ExternFunc
	}
	if !threads {
		return nil
	}
	if !m.info.SharedMemory {
		return fmt.Errorf("%w: it imports no shared memory (link with --import-memory --shared-memory)", ErrThreads)
	}
	exports, err := m.native.Exports()
	if err != nil {
		return err
	}
	for _, exp := range exports {
		if exp.Name == "wasi_thread_start" {
			return nil
		}
	}
	return fmt.Errorf("%w: it exports no wasi_thread_start (link with --export=wasi_thread_start)", ErrThreads)
}

// Close gives the compiled code back once no cage needs it any more. Nothing can be spawned of it from here on. A second
// Close does nothing.
func (m *Module) Close() error {
	m.closeOnce.Do(func() {
		m.rt.mu.Lock()
		delete(m.rt.modules, m)
		m.rt.mu.Unlock()
		m.closeErr = m.native.Close()
	})
	return m.closeErr
}
