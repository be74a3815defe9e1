package lindbridge

import (
	"errors"
	"time"

	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/cage"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// Limits of a runtime that Config leaves at 0.
const (
	DefaultMaxThreads   = 16384
	DefaultMaxCages     = 16384
	DefaultStopGrace    = time.Second
	DefaultMaxOpenFiles = 1 << 20
	DefaultMaxWorkers   = 64
)

// Errors that are found before a program runs.
var (
	// ErrClosed is returned by a runtime that was closed, or is being closed.
	ErrClosed = errors.New("the runtime is closed")
	// ErrNoModule is returned for a Program without a module, or with one that was closed or belongs to another
	// runtime.
	ErrNoModule = errors.New("no module of this runtime")
	// ErrThreads is returned for a module that starts threads but could not share anything with them.
	ErrThreads = errors.New("module imports wasi.thread-spawn but cannot have threads")
	// ErrStart is returned by Spawn for a program whose first thread could not be started.
	ErrStart = errors.New("program not started")
)

// Errors of the layers below that a caller may want to tell apart, under the names of this package.
var (
	// ErrShimNotFound: no shim could be loaded.
	ErrShimNotFound = bridge.ErrShimNotFound
	// ErrShimABI: the shim is older or newer than this package.
	ErrShimABI = bridge.ErrABI
	// ErrCache: Config.CacheDir cannot be used.
	ErrCache = bridge.ErrIO
	// ErrModule: the bytes are no valid module.
	ErrModule = bridge.ErrModule
	// ErrImport: the module imports what no cage is offered.
	ErrImport = bridge.ErrImport
	// ErrExport: the module lacks an export that a program has, or has it with another type.
	ErrExport = bridge.ErrExport
	// ErrMemory: the module's memory is larger than allowed.
	ErrMemory = bridge.ErrMemory
	// ErrLimit: a limit on threads was reached.
	ErrLimit = bridge.ErrLimit
	// ErrTooManyCages: Config.MaxCages are alive.
	ErrTooManyCages = cage.ErrLimit
)

// Config says how New makes a Runtime. The zero Config is a good one.
type Config struct {
	// ShimPath is the shim's file. Empty: it is searched for, see bridge.Open.
	ShimPath string
	// CacheDir is a directory for compiled modules, absolute, created when missing; whoever can write to it can run code
	// in this process. Empty: modules are compiled each time they are loaded. Wasmtime's cache has a thread of its own,
	// which may write there for a moment after Close.
	CacheDir string
	// MaxThreads is the most guest threads at once, of all cages together. 0: DefaultMaxThreads. Those of a cage whose Wait
	// has returned are in nobody's way, save that a Spawn which needs one waits until it has unwound. New raises Go's own
	// limit on OS threads to fit (runtime/debug.SetMaxThreads) and, on Linux 6.17 and later, the size of the process's table
	// of futexes (PR_FUTEX_HASH), which is otherwise that of a process with few threads. Neither is ever lowered.
	MaxThreads int
	// MaxIdleThreads is the most OS threads that are kept for reuse. 0: 64.
	MaxIdleThreads int
	// MaxGoThreads is the most guest threads at once that run on threads of the Go runtime, which is quicker for programs that
	// end soon: see bridge.Config. 0: 64. Less: none.
	MaxGoThreads int
	// MaxCages is the most cages at once, those included that nobody has waited for. 0: DefaultMaxCages.
	MaxCages int
	// MaxOpenFiles is the most open files at once, of all cages together; duplicates of a descriptor do not count. 0:
	// DefaultMaxOpenFiles. The host's own RLIMIT_NOFILE is usually less, and counts too.
	MaxOpenFiles uint64
	// MaxCallDepth is how many grates deep a call may be, at most 64: one more is ELOOP. 0: 16.
	MaxCallDepth int
	// Trace, if not nil, is told of each call that a grate has served, on the thread that called and before that goes on,
	// many at once. It must not block for long.
	Trace func(Trace)
	// Observer, if not nil, is told of each event of each exit, in order for each cage. It is called on the thread where
	// the event happens and must not block: see exitcoord.Event. Cage.Wait returns when it has heard of phase zombie.
	Observer func(exitcoord.Event)
}
