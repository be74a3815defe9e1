package lindbridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/cage"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/internal/ids"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
	"github.com/lindbridge/lindbridge/lindabi"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// Runtime runs cages. Its methods are safe for concurrent use.
type Runtime struct {
	engine   *bridge.Engine        // immutable
	sys      *threei.System        // immutable
	wasi     *wasip1.WASI          // immutable
	host     *rawposix.Host        // immutable
	ids      *cage.Table           // immutable
	null     *rawposix.Shared      // /dev/null; immutable
	observer func(exitcoord.Event) // immutable
	watch    *exitcoord.Watch      // of the deadlines of all stops; immutable
	trace    func(Trace)           // immutable; or nil
	running  ids.Map[Cage]         // those that are known to 3i
	// uid, euid, gid and egid are the process's when the runtime was made: to ask for each cage would be four system calls of
	// a spawn. Immutable.
	uid, euid, gid, egid uint32

	mu      lockcheck.Mutex[runtimeLock]
	closing bool                 // guarded by mu
	cages   map[*Cage]struct{}   // those that are not cleaned up; guarded by mu
	modules map[*Module]struct{} // those that are open; guarded by mu
	// starting counts Spawn and Load under way, which Close waits for: none is added once closing is set.
	starting sync.WaitGroup
}

// New makes a runtime. It may block for as long as loading the shim takes. The user and group ids that programs see are
// those that the process has now.
//
// # Errors
//
//   - ErrShimNotFound: no shim could be loaded; the message says where it was looked for and how to build it
//   - ErrShimABI: the shim is older or newer than this package
func New(cfg Config) (*Runtime, error) {
	rt := &Runtime{
		sys:      threei.NewSystem(),
		observer: cfg.Observer,
		watch:    exitcoord.NewWatch(),
		trace:    cfg.Trace,
		uid:      uint32(unix.Getuid()),
		euid:     uint32(unix.Geteuid()),
		gid:      uint32(unix.Getgid()),
		egid:     uint32(unix.Getegid()),
		cages:    make(map[*Cage]struct{}),
		modules:  make(map[*Module]struct{}),
	}
	maxOpen := cfg.MaxOpenFiles
	if maxOpen == 0 {
		maxOpen = DefaultMaxOpenFiles
	}
	host, err := rawposix.NewHost(rawposix.Config{Tables: fdtables.New(fdtables.Config{MaxOpen: maxOpen})})
	if err != nil {
		return nil, fmt.Errorf("new runtime: %w", err)
	}
	rt.host = host
	if rt.null, err = shareNull(host); err != nil {
		return nil, fmt.Errorf("new runtime: %w", err)
	}
	rawposix.Register(rt.sys)
	rt.registerGrateCalls()
	rt.sys.Configure(threei.Config{CallGrate: rt.callGrate, MayInterpose: rt.mayInterpose})
	rt.wasi = wasip1.New(rt.sys)
	rt.ids = cage.New(cage.Config{MaxCages: or(cfg.MaxCages, DefaultMaxCages)})

	growFutexTable(or(cfg.MaxThreads, DefaultMaxThreads))
	native := bridge.Config{
		Path:           cfg.ShimPath,
		CacheDir:       cfg.CacheDir,
		MaxThreads:     uint64(or(cfg.MaxThreads, DefaultMaxThreads)),
		MaxIdleThreads: uint64(max(cfg.MaxIdleThreads, 0)),
		MaxGoThreads:   cfg.MaxGoThreads,
		Handler:        (*handler)(rt),
		OnPanic:        rt.onPanic,
		MaxCallDepth:   uint32(max(cfg.MaxCallDepth, 0)),
	}
	if cfg.Trace != nil {
		native.Trace = rt.traced
	}
	rt.engine, err = bridge.Open(native)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("new runtime: %w", err), rt.null.Close())
	}
	if err := rt.engine.Define(imports()); err != nil {
		return nil, errors.Join(fmt.Errorf("new runtime: %w", err), rt.engine.Close(), rt.null.Close())
	}
	return rt, nil
}

// imports are all functions that programs may import.
func imports() []bridge.Import {
	var all []bridge.Import
	for _, imp := range wasip1.Imports() {
		all = append(all, bridge.Import(imp))
		if alsoLind[imp.Name] {
			imp.Module = lindabi.Module
			all = append(all, bridge.Import(imp))
		}
	}
	for _, imp := range lindabi.Imports() {
		all = append(all, bridge.Import(imp))
	}
	return all
}

// alsoLind are the functions of WASI that programs which are linked for Lind import from there.
var alsoLind = map[string]bool{
	"args_get": true, "args_sizes_get": true, "environ_get": true, "environ_sizes_get": true, "random_get": true,
}

func or(v, otherwise int) int {
	if v <= 0 {
		return otherwise
	}
	return v
}

// ShimVersion is the shim's name and version, and Wasmtime's.
func (rt *Runtime) ShimVersion() string { return rt.engine.ShimVersion() }

// ShimPath is the file that the shim was loaded from.
func (rt *Runtime) ShimPath() string { return rt.engine.ShimPath() }

// Stats says what the runtime holds.
type Stats struct {
	// Cages are those that are not cleaned up yet.
	Cages int
	// ThreadsRunning are OS threads that run a guest thread, ThreadsIdle those that wait for one.
	ThreadsRunning, ThreadsIdle uint64
	// Domains and Modules are the shim's.
	Domains, Modules uint64
	// IDs are cage ids that are taken: those of Cages, and of cages that have ended and that nobody has waited for.
	IDs int
	// HandlerRows are cages that have a row of their own in the handler table.
	HandlerRows int
	// OpenFiles are open files of cages, duplicates of a descriptor counted once, and what the runtime shares among them.
	OpenFiles int
	// LateCalls are calls of the runtime that grates have not answered in time, and still carry out.
	LateCalls int
}

// Stats says what the runtime holds now.
func (rt *Runtime) Stats() (Stats, error) {
	s, err := rt.engine.Stats()
	if err != nil {
		return Stats{}, fmt.Errorf("stats: %w", err)
	}
	sys, ids, files := rt.sys.Stats(), rt.ids.Len(), rt.host.OpenFiles() // each has locks of its own
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return Stats{
		Cages: len(rt.cages), ThreadsRunning: s.ThreadsRunning, ThreadsIdle: s.ThreadsIdle,
		Domains: s.Domains, Modules: s.Modules,
		IDs: ids, HandlerRows: sys.Rows, OpenFiles: files, LateCalls: sys.Late,
	}, nil
}

// begin counts the caller among those that Close waits for, or answers false if the runtime is closing.
func (rt *Runtime) begin() bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.closing {
		return false
	}
	rt.starting.Add(1)
	return true
}

// CloseError is returned by Runtime.Close when cages are still there: their threads would not leave in time.
type CloseError struct {
	// Cages are those that are left.
	Cages []*Cage
	// Err is the context's error.
	Err error
}

// Error names the cages that are left, and where the threads of the first are.
func (e *CloseError) Error() string {
	ids := make([]abi.CageID, len(e.Cages))
	for i, c := range e.Cages {
		ids[i] = c.ID()
	}
	text := fmt.Sprintf("close runtime: %v: %d cages are still stopping: %v", e.Err, len(e.Cages), ids)
	if len(e.Cages) > 0 {
		if stuck, ok := e.Cages[0].exit.Stuck(); ok && len(stuck.Threads) > 0 {
			text += fmt.Sprintf("; of cage %d, thread %d is in %s", ids[0], stuck.Threads[0].TID, stuck.Threads[0].At)
		}
	}
	return text
}

// Unwrap is the context's error.
func (e *CloseError) Unwrap() error { return e.Err }

// Close ends all cages, waits until each is cleaned up, closes all modules and gives everything back. Nothing can be
// loaded or spawned from when it begins. It blocks until ctx is done at the longest: then it answers a *CloseError, the
// cages that are left go on ending by themselves, and Close may be called again. A second Close of a runtime that is
// closed does nothing.
func (rt *Runtime) Close(ctx context.Context) error {
	rt.mu.Lock()
	rt.closing = true
	rt.mu.Unlock()
	rt.starting.Wait() // bounded: a load compiles, a spawn starts a thread; neither waits for a guest

	rt.mu.Lock()
	left := make([]*Cage, 0, len(rt.cages))
	for c := range rt.cages {
		left = append(left, c)
	}
	rt.mu.Unlock()
	for _, c := range left {
		c.end(exitcoord.Cause{Kind: exitcoord.RuntimeClose})
	}
	for len(left) > 0 {
		select {
		case <-left[0].ended():
			left = left[1:]
		case <-ctx.Done():
			left = slices.DeleteFunc(left, (*Cage).over)
			if len(left) > 0 {
				return &CloseError{Cages: left, Err: context.Cause(ctx)}
			}
		}
	}
	rt.mu.Lock()
	modules := make([]*Module, 0, len(rt.modules))
	for m := range rt.modules {
		modules = append(modules, m)
	}
	rt.mu.Unlock()
	rt.watch.Close()
	var errs []error
	for _, m := range modules {
		errs = append(errs, m.Close())
	}
	errs = append(errs, rt.engine.Close(), rt.sys.Close(), rt.null.Close()) // in this order: the shim reads what sys has
	return errors.Join(errs...)
}

// onPanic ends the cage that the host failed under: its guest can no longer be trusted to see what it should.
func (rt *Runtime) onPanic(value any, stack []byte, user any) {
	c, ok := user.(*Cage)
	if !ok {
		return
	}
	c.end(exitcoord.Cause{
		Kind:      exitcoord.HostFailure,
		Message:   fmt.Sprintf("panic: %v", value),
		Backtrace: string(stack),
	})
}

// LoadFile is Load of the file at path.
func (rt *Runtime) LoadFile(ctx context.Context, path string) (*Module, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load module: %w", err)
	}
	m, err := rt.Load(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}
