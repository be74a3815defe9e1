package rawposix

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/threei"
)

// ErrNoHooks is answered by NewProcess for a configuration without hooks.
var ErrNoHooks = errors.New("rawposix: no hooks")

// ProcessConfig says who a process is.
type ProcessConfig struct {
	// Cage is its id, which is also what getpid answers.
	Cage abi.CageID
	// Parent is what getppid answers until SetParent.
	Parent abi.CageID
	// UID, EUID, GID and EGID are what the calls of these names answer. They grant and deny nothing: the host's own
	// credentials decide what a cage may do with the files that it reaches.
	UID, EUID, GID, EGID uint32
	// MaxFDs is what it may raise its limit on descriptors to, RLIMIT_NOFILE; the limit itself is the table's, or this if
	// that is less. 0, and more than fdtables.MaxLimit, is that.
	MaxFDs uint64
	// Network is what it may reach by sockets of its own.
	Network Network
	// Hooks start and end its threads. Required.
	Hooks Hooks
	// Table is its descriptor table if it has one already, such as one from Tables.Fork. Without it, NewProcess makes
	// an empty one. Either way it is removed by Close.
	Table *fdtables.Table
}

// Process is the native state of one cage: what its threads carry in threei.Thread.Native. Its methods are safe for
// concurrent use.
type Process struct {
	host    *Host           // immutable
	table   *fdtables.Table // immutable
	hooks   Hooks           // immutable
	cage    abi.CageID      // immutable
	network Network         // immutable
	ids     [4]uint32       // uid, euid, gid, egid; immutable
	parent  atomic.Uint64   // what getppid answers
	mu      sync.Mutex      // held while shared is replaced
	maxFDs  uint64          // what the limit of table may be raised to; guarded by mu
	shared  atomic.Pointer[[]sharedStatus]
}

// sharedStatus is the guest-visible status of a file that other cages have open through the same Shared: each has its
// own, so that one cage cannot make another's reads fail.
type sharedStatus struct {
	f      *file
	status *atomic.Uint32
}

// NewProcess makes the state of a cage, with an empty descriptor table unless cfg brings one. The caller ends it with
// Close.
func (h *Host) NewProcess(cfg ProcessConfig) (*Process, error) {
	if cfg.Hooks == nil {
		return nil, fmt.Errorf("process of cage %d: %w", cfg.Cage, ErrNoHooks)
	}
	p := &Process{
		host: h, table: cfg.Table, hooks: cfg.Hooks, cage: cfg.Cage, network: cfg.Network,
		ids: [4]uint32{cfg.UID, cfg.EUID, cfg.GID, cfg.EGID},
	}
	p.parent.Store(uint64(cfg.Parent))
	if p.table == nil {
		table, err := h.tables.Init(cfg.Cage)
		if err != nil {
			return nil, fmt.Errorf("process of cage %d: %w", cfg.Cage, err)
		}
		p.table = table
	}
	p.maxFDs = fdtables.MaxLimit
	if cfg.MaxFDs != 0 && cfg.MaxFDs < p.maxFDs {
		p.maxFDs = cfg.MaxFDs
	}
	_ = p.table.SetLimit(min(p.table.Limit(), p.maxFDs)) // nobody but the caller has the table yet
	return p, nil
}

// Table is the cage's descriptor table.
func (p *Process) Table() *fdtables.Table { return p.table }

// SetParent changes what getppid answers, when the cage is given to another parent.
func (p *Process) SetParent(id abi.CageID) { p.parent.Store(uint64(id)) }

// Close removes the cage's descriptor table: the descriptors step of its exit. What only this cage had open is closed.
// It answers the close handlers' failures, joined; everything is closed all the same. A second Close, or one after
// somebody else's removal of the table, is fdtables.ErrNoCage. It blocks for as long as the host takes to close files,
// which on a network file system may include writing them back.
//
// Preconditions:
// No thread of the cage runs or ever will.
func (p *Process) Close() error {
	failed, err := p.host.tables.Remove(p.cage)
	if err != nil {
		return err
	}
	var errs []error
	for i := range failed {
		errs = append(errs, &failed[i])
	}
	return errors.Join(errs...)
}

// of is the process that t's call acts on: that of its own cage, or of the one that it makes the call for.
//
// Invariant: the runtime puts a *Process into Native before the thread's first call, and into the CageConfig of each
// cage.
func of(t *threei.Thread) *Process { return t.Native.(*Process) }

// statusOf is the guest-visible status flags of f in this process.
func (p *Process) statusOf(f *file) *atomic.Uint32 {
	if f.shared {
		if list := p.shared.Load(); list != nil {
			for _, s := range *list {
				if s.f == f {
					return s.status
				}
			}
		}
	}
	return &f.status
}

// own gives the process a status of its own for f, which is shared.
func (p *Process) own(f *file) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []sharedStatus
	if old := p.shared.Load(); old != nil {
		list = append(list, *old...)
	}
	for _, s := range list {
		if s.f == f {
			return
		}
	}
	list = append(list, sharedStatus{f: f, status: new(atomic.Uint32)})
	p.shared.Store(&list)
}

// PerFDInfo is the number that the descriptor table keeps with fd, which this package does not look at. It is abi.EBADF
// if fd is not open. It does not block.
func (p *Process) PerFDInfo(fd int32) (uint64, abi.Errno) {
	entry, errno := p.table.Translate(fdtables.FD(fd))
	if errno != 0 {
		return 0, errno
	}
	return entry.PerFDInfo, 0
}
