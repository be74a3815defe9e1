package bridge

import (
	"fmt"
	"maps"
	"math"
	"sync/atomic"
)

// defaultMaxThreads is the shim's own, for Config.MaxThreads 0.
const defaultMaxThreads = 4096

// Config says how Open makes an Engine. Sizes are in bytes.
type Config struct {
	// Path is the shim's file. Empty: it is searched for, see Open.
	Path string
	// MaxThreads is the most OS threads at once, idle ones included. 0: 4096.
	MaxThreads uint64
	// MaxIdleThreads is the most OS threads that are kept for reuse. 0: 64.
	MaxIdleThreads uint64
	// MaxGoThreads is the most guest threads at once that run on threads of the Go runtime, each in a goroutine of its own;
	// all others run on threads of the shim. A short program is a good deal quicker there: the goroutine that waits for it
	// goes on where it has ended, and no other processor has to wake up for either. So they are for modules whose programs
	// end soon, which each learns as they do; half of them at most are for others, two for each module. Threads of the Go
	// runtime are never given back to the system, and the process dies if the system refuses one. 0: 64. Less: none.
	MaxGoThreads int
	// StackBytes is the native stack of each thread. A call into a grate needs WasmStackBytes and 128 KiB of it to be left.
	// 0: 4 MiB.
	StackBytes uint64
	// WasmStackBytes is how much of it guest code may use; more is a trap. The rest is for host calls: at least 128
	// KiB. 0: 1 MiB.
	WasmStackBytes uint64
	// MaxCallDepth is how many workers of grates deep a thread may be, at most 64. 0: 16.
	MaxCallDepth uint32
	// Trace, if not nil, is told of each call that a grate has served, on the thread that called and before it goes on,
	// many at once. A panic of it is told to OnPanic, and has no other effect.
	Trace func(Trace)
	// CacheDir is a directory for compiled modules, absolute, created when missing. Empty: they are not kept.
	CacheDir string
	// Handler carries out host calls. Not nil.
	Handler Handler
	// OnPanic, if not nil, is told of each panic of the Handler: its value, the stack (as debug.Stack has it) and the
	// domain's DomainConfig.User; of one of Trace, the grate's. It is called on the thread that panicked, many at once.
	// If it panics in turn, that is swallowed. A panic in HostCall traps the guest thread; one in ThreadEnd or Quiescent
	// has no other effect. Without OnPanic the trap is all that is seen of it.
	OnPanic func(value any, stack []byte, user any)
}

// Engine is an instance of the shim's runtime: what it compiles with, and the OS threads that it runs guests on. Its
// methods are safe for concurrent use.
type Engine struct {
	lib     *library                                // immutable
	handler Handler                                 // immutable
	onPanic func(value any, stack []byte, user any) // immutable
	trace   func(Trace)                             // immutable

	runners runners
	handle  atomic.Uint64                     // 0 once closed
	names   atomic.Pointer[map[uint32]string] // of imports, by id; the map is immutable
}

// Open finds and loads the shim, checks that it is one for this program, and makes an engine. The shim is loaded once
// per process and path, however many engines there are, and stays loaded.
//
// The shim is Config.Path; else what the environment variable LINDBRIDGE_SHIM names; else the first that exists of
// liblindshim.so next to the executable, in ../lib of it, in build/ of the working directory or of a parent of it (only
// inside a source tree of lindbridge, up to its go.mod), and where the system's loader looks. Of these the first that
// is set, or exists, decides: when it is of no use, no other is tried.
//
// Open raises the Go runtime's thread limit: see EnsureGoThreads. It may block for as long as reading the library
// takes.
//
// # Errors
//
//   - ErrShimNotFound: no shim could be loaded; the message has each place that was tried, with the reason
//   - ErrABI: the shim is older or newer than this program, or not a shim at all
//   - ErrInvalid, ErrIO, ErrRuntime: the engine could not be made as cfg says
func Open(cfg Config) (*Engine, error) {
	if cfg.Handler == nil {
		return nil, fmt.Errorf("open shim: %w: Config.Handler is nil", ErrInvalid)
	}
	lib, err := findShim(cfg.Path)
	if err != nil {
		return nil, err
	}
	threads := cfg.MaxThreads
	if threads == 0 {
		threads = defaultMaxThreads
	}
	EnsureGoThreads(int(min(threads, math.MaxInt32-goThreadHeadroom)) + goThreadHeadroom)

	e := &Engine{lib: lib, handler: cfg.Handler, onPanic: cfg.OnPanic, trace: cfg.Trace}
	e.runners.init(cfg.MaxGoThreads)
	callbacks := process.callbackAddrs()
	c := engineConfigABI{
		structSize:     engineConfigBytes,
		abiVersion:     abiVersion,
		maxThreads:     cfg.MaxThreads,
		maxIdleThreads: cfg.MaxIdleThreads,
		stackBytes:     cfg.StackBytes,
		wasmStackBytes: cfg.WasmStackBytes,
		hostCall:       callbacks.hostCall,
		threadEnd:      callbacks.threadEnd,
		quiescent:      callbacks.quiescent,
		threadMain:     callbacks.threadMain,
		maxCallDepth:   cfg.MaxCallDepth,
	}
	if cfg.Trace != nil {
		c.trace = callbacks.trace
	}
	c.cacheDir, c.cacheDirBytes = textPtr(cfg.CacheDir)
	handle, err := lib.engineNew(&c)
	if err != nil {
		return nil, fmt.Errorf("make engine of %s: %w", lib.path, err)
	}
	e.handle.Store(handle)
	return e, nil
}

// ShimPath is the file that the shim was loaded from, or its plain name if the system's loader found it.
func (e *Engine) ShimPath() string { return e.lib.path }

// ShimVersion is the shim's own description: "lindshim 0.1.0 (wasmtime 48.0.8)".
func (e *Engine) ShimVersion() string { return e.lib.version }

// Import is a function that guests may import.
type Import struct {
	// Module and Name are the import's two names. The module name "lindshim" is the shim's own.
	Module, Name string
	// Params has a letter for each parameter, Results one for each result, of which there is at most one: i for i32, I
	// for i64, f for f32 and F for f64.
	Params, Results string
	// ID is what Call.Import says.
	ID uint32
}

// Define makes functions known that modules may import. It is ErrBusy once a module was loaded, and ErrInvalid for a
// type or a name that cannot be, after which those before it in the list are known.
func (e *Engine) Define(imports []Import) error {
	handle, err := e.open("define imports")
	if err != nil {
		return err
	}
	list := make([]importABI, len(imports))
	for i, im := range imports {
		c := importABI{id: im.ID}
		c.module, c.moduleBytes = textPtr(im.Module)
		c.name, c.nameBytes = textPtr(im.Name)
		c.params, c.paramsBytes = textPtr(im.Params)
		c.results, c.resultsBytes = textPtr(im.Results)
		list[i] = c
	}
	if err := e.lib.engineDefine(handle, list); err != nil {
		return fmt.Errorf("define imports: %w", err)
	}
	for {
		old := e.names.Load()
		names := make(map[uint32]string, len(imports))
		if old != nil {
			maps.Copy(names, *old)
		}
		for _, im := range imports {
			names[im.ID] = im.Name
		}
		if e.names.CompareAndSwap(old, &names) {
			return nil
		}
	}
}

// Load compiles a module, from WebAssembly's binary format or its text format. b is not copied and must not change
// meanwhile; it is the caller's again when Load returns. A large module may take seconds.
//
// # Errors
//
//   - ErrModule: b is no valid module, or needs a feature that the shim does not have
//   - ErrImport: it imports what was not defined, or with another type; the message has the names
//   - ErrExport: it lacks an export that its kind needs, or has it with another type
//   - ErrMemory: its memory is larger than any allowed
func (e *Engine) Load(b []byte) (*Module, error) {
	handle, err := e.open("load module")
	if err != nil {
		return nil, err
	}
	return e.loaded(e.lib.moduleLoad(e.lib.sym.moduleLoad, handle, b))
}

// LoadGrate is Load for a module whose domains are to be grates: several instances of it can work on one memory. So its
// memory, if it is its own, becomes a shared one that the domain supplies, and its data and its start function are its
// first instance's alone. Its domains may also run as any other's.
func (e *Engine) LoadGrate(b []byte) (*Module, error) {
	handle, err := e.open("load module")
	if err != nil {
		return nil, err
	}
	return e.loaded(e.lib.moduleLoad(e.lib.sym.moduleLoadGrate, handle, b))
}

func (e *Engine) loaded(module uint64, err error) (*Module, error) {
	if err != nil {
		return nil, fmt.Errorf("load module: %w", err)
	}
	m := &Module{engine: e}
	m.lanes.most.Store(trial)
	m.handle.Store(module)
	return m, nil
}

// Stats is what an engine holds.
type Stats struct {
	// ThreadsRunning counts the OS threads that run a guest thread, ThreadsIdle those kept for the next.
	ThreadsRunning, ThreadsIdle uint64
	// Domains and Modules count those that were not closed.
	Domains, Modules uint64
}

// Stats is what the engine holds now.
func (e *Engine) Stats() (Stats, error) {
	handle, err := e.open("engine statistics")
	if err != nil {
		return Stats{}, err
	}
	var c engineStatsABI
	if err := e.lib.engineStats(handle, &c); err != nil {
		return Stats{}, fmt.Errorf("engine statistics: %w", err)
	}
	return Stats{
		ThreadsRunning: c.threadsRunning,
		ThreadsIdle:    c.threadsIdle,
		Domains:        c.domains,
		Modules:        c.modules,
	}, nil
}

// Close frees the engine and waits until its OS threads are gone. It is ErrBusy, and the engine stays open, while
// domains of it are open, and in a Handler's method on a thread of the engine, where it would wait for itself. Modules
// are closed on their own, before or after. Closing the engine again does nothing.
func (e *Engine) Close() error {
	if err := closeHandle(&e.handle, e.lib.engineDelete, "close engine"); err != nil {
		return err
	}
	e.runners.close()
	return nil
}

// open answers the handle, or ErrHandle if the engine was closed.
func (e *Engine) open(what string) (uint64, error) {
	return openHandle(&e.handle, what, "the engine was closed")
}

// threadStates copies what the shim says of threads.
func (e *Engine) threadStates(list []threadABI) []ThreadState {
	var names map[uint32]string
	if p := e.names.Load(); p != nil {
		names = *p
	}
	states := make([]ThreadState, len(list))
	for i := range list {
		states[i] = threadState(&list[i], names)
	}
	return states
}
