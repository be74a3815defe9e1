package rawposix

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/internal/fault"
	"github.com/lindbridge/lindbridge/internal/ids"
)

// ErrNoTables is answered by NewHost for a configuration without descriptor tables.
var ErrNoTables = errors.New("rawposix: no descriptor tables")

// Config is what a Host is made of.
type Config struct {
	// Tables are the runtime's descriptor tables. NewHost registers the close handlers of fdtables.KindKernel and
	// KindVirtual there, so that there is one Host to a set of tables.
	Tables *fdtables.Tables
}

// Host is this package's state of one runtime: what it knows of the host's kernel and of each open file. Its methods
// are safe for concurrent use. It owns nothing that must be closed: each descriptor belongs to a cage's table or to a
// Shared.
type Host struct {
	tables *fdtables.Tables // immutable
	clock  monotonic        // immutable
	// openat2 says that the kernel resolves paths beneath a directory; without it, walk does. Immutable.
	openat2  bool
	files    ids.Map[file] // host descriptor -> what is known of it, from its opening until just before its close
	paths    sync.Pool     // of *pathBuf
	vectors  sync.Pool     // of *vector
	selects  sync.Pool     // of *selection
	virtuals virtuals
	blocked  blockedOpens
}

// NewHost probes what the host's kernel can do and takes over the kernel descriptors in cfg.Tables.
func NewHost(cfg Config) (*Host, error) { return newHost(cfg, probeOpenat2()) }

func newHost(cfg Config, openat2 bool) (*Host, error) {
	if cfg.Tables == nil {
		return nil, ErrNoTables
	}
	h := &Host{tables: cfg.Tables, clock: newMonotonic(), openat2: openat2}
	h.paths.New = func() any { return new(pathBuf) }
	h.vectors.New = func() any { return new(vector) }
	h.selects.New = func() any { return new(selection) }
	cfg.Tables.RegisterCloseHandlers(fdtables.KindKernel, fdtables.Handlers{Last: h.closeLast})
	cfg.Tables.RegisterCloseHandlers(KindVirtual, fdtables.Handlers{Last: h.closeVirtual})
	return h, nil
}

// OpenFiles is how many underfds the cages and the Shared of this Host have open. It is for reports and leak checks: exact
// when nothing is opened or closed meanwhile.
func (h *Host) OpenFiles() int { return h.tables.Open() }

// closeLast closes the host's descriptor when the last table entry and the last call in flight are done with it. A
// descriptor that this package did not open is not its to close.
func (h *Host) closeLast(e fdtables.Entry, _ uint64) (err error) {
	if fault.Enabled {
		defer func() { err = errors.Join(err, h.closeFile(e)) }() // whatever happens at the point
		return fault.At(fault.CloseLast, 0)
	}
	return h.closeFile(e)
}

func (h *Host) closeFile(e fdtables.Entry) error {
	f := h.files.Load(e.UnderFD)
	if f == nil {
		return fmt.Errorf("close host descriptor %d, which nobody installed: %w", e.UnderFD, abi.EBADF)
	}
	if f.shared {
		return nil
	}
	if f.epoll != nil {
		f.epoll.end()
	}
	// Must precede the close, after which another open may get the number.
	h.files.Delete(e.UnderFD, f)
	errno := closeHost(int(e.UnderFD))
	h.blocked.retry()
	if errno != 0 {
		return fmt.Errorf("close host descriptor %d: %w", e.UnderFD, errno)
	}
	return nil
}

// closeHost closes fd. Linux has always closed it, also when it reports an error; EINTR is none.
func closeHost(fd int) abi.Errno {
	if e := errnoOf(unix.Close(fd)); e != abi.EINTR {
		return e
	}
	return 0
}

// dropHost closes a descriptor that nothing was written through, so that there is no failure to tell anybody.
func dropHost(fd int) { _ = closeHost(fd) }

// monotonic answers CLOCK_MONOTONIC without a system call.
type monotonic struct {
	start time.Time
	at    int64 // CLOCK_MONOTONIC in nanoseconds at start, or a little more; never less
}

// newMonotonic relates Go's monotonic clock, which is CLOCK_MONOTONIC from an unknown origin, to the kernel's.
func newMonotonic() monotonic {
	m := monotonic{start: time.Now()}
	// The kernel's reading is later than Go's by the time between the two: the smallest difference of several is the
	// closest, and all err to one side.
	for i := range 8 {
		before := time.Since(m.start)
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic(fmt.Sprintf("rawposix: CLOCK_MONOTONIC: %v", err)) // Linux always has it
		}
		if at := ts.Nano() - int64(before); i == 0 || at < m.at {
			m.at = at
		}
	}
	return m
}

// now is CLOCK_MONOTONIC in nanoseconds.
func (m monotonic) now() int64 { return m.at + int64(time.Since(m.start)) }
