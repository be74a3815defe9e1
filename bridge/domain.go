package bridge

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lindbridge/lindbridge/internal/guestmem"
)

// Domain is the execution side of one cage: a linear memory and guest threads. Its methods are safe for concurrent use.
//
// Its life: NewDomain, Start, any number of SpawnThread, Stop, Handler.Quiescent, Close. One that was never started, nor
// opened as a grate, may be closed at once.
type Domain struct {
	engine *Engine       // immutable
	module *Module       // immutable
	user   any           // immutable
	token  uint64        // names the domain in callbacks; immutable
	id     uint64        // the handle, also after Close; immutable
	handle atomic.Uint64 // 0 once closed

	// entries counts the calls that let threads in or stop the domain: those under way and those that succeeded, all of
	// which lead to a report. entriesClosed is added once there can be no more of them. Atomic.
	entries atomic.Int64
	// started is runnersClock when the first thread was started. Atomic.
	started atomic.Int64
	// killed is set by Killed. Atomic.
	killed atomic.Bool
	// reported is set when the report has arrived: from then on no callback looks for the domain. Atomic.
	reported atomic.Bool
}

// entriesClosed is more than any number of calls.
const entriesClosed = 1 << 62

// DomainConfig says how NewDomain makes a domain.
type DomainConfig struct {
	// User is the caller's own, for the Handler: see Call.User.
	User any
	// MaxMemoryBytes is the most linear memory, all memories of the module together. 0: what the module says.
	MaxMemoryBytes uint64
	// MaxThreads is the most guest threads at once, workers aside. 0: the engine's limit.
	MaxThreads uint64
	// Handlers is the address of the word that leads to the domain's row of handlers, as the shim's header describes them,
	// or 0: then the host serves all its system calls. What it leads to stays mapped as long as the engine is open.
	Handlers uintptr
	// Cage is the domain's number in calls of lind.make-syscall: it makes them in the name of no other.
	Cage uint64
	// GrateGrace is how long a grate that serves one of its threads may go on when the domain stops. 0: 100 ms.
	GrateGrace time.Duration
}

// NewDomain makes a domain with a linear memory of its own. Nothing runs in it yet.
//
// # Errors
//
//   - ErrMemory: the memory is larger than MaxMemoryBytes, or its address space could not be reserved
//   - ErrLimit: there are more than four million domains
func (m *Module) NewDomain(cfg DomainConfig) (*Domain, error) {
	module, err := m.open("make domain")
	if err != nil {
		return nil, err
	}
	if _, err := m.engine.open("make domain"); err != nil {
		return nil, err
	}
	d := &Domain{engine: m.engine, module: m, user: cfg.User}
	// Must precede the shim's call, which is given the token.
	if d.token = process.domains.put(d); d.token == 0 {
		return nil, fmt.Errorf("make domain: %w: %d domains are open", ErrLimit, slabLen)
	}
	c := domainConfigABI{
		structSize:     domainConfigBytes,
		user:           d.token,
		maxMemoryBytes: cfg.MaxMemoryBytes,
		maxThreads:     cfg.MaxThreads,
		handlers:       cfg.Handlers,
		cage:           cfg.Cage,
		grateGraceNs:   uint64(max(cfg.GrateGrace, 0)),
	}
	handle, err := m.engine.lib.domainNew(module, &c)
	if err != nil {
		process.domains.drop(d.token)
		return nil, fmt.Errorf("make domain: %w", err)
	}
	d.id = handle
	d.handle.Store(handle)
	return d, nil
}

// User is the domain's DomainConfig.User.
func (d *Domain) User() any { return d.user }

// Handle is the shim's number of the domain, which is never used again for another. It stays readable after Close.
func (d *Domain) Handle() uint64 { return d.id }

// Start starts thread 1 in the export of that name, a function without parameters or results, and returns at once. A
// domain is started once.
//
// # Errors
//
//   - ErrExport: the module has no such export, or it is no such function
//   - ErrLimit: a limit on threads was reached
//   - ErrClosed: the domain is stopping
//   - ErrBusy: it was started before
func (d *Domain) Start(export string) error {
	sym := &d.engine.lib.sym
	_, err := d.launch("start", sym.domainStart, sym.domainBegin, func(fn uintptr, handle uint64) (uint32, error) {
		d.started.CompareAndSwap(0, int64(runnersClock()))
		return mainTID, d.engine.lib.domainStart(fn, handle, export)
	})
	return err
}

// mainTID is the thread that Start starts.
const mainTID = 1

// SpawnThread starts a thread in the module's export wasi_thread_start(tid, arg), as the wasi-threads proposal has it,
// and answers its tid at once.
//
// # Errors
//
//   - ErrExport: the module has no such export, or no shared memory
//   - ErrLimit: a limit on threads was reached
//   - ErrClosed: the domain is stopping
func (d *Domain) SpawnThread(arg uint32) (tid uint32, err error) {
	sym := &d.engine.lib.sym
	return d.launch("spawn thread in", sym.threadSpawn, sym.threadBegin, func(fn uintptr, handle uint64) (uint32, error) {
		return d.engine.lib.threadSpawn(fn, handle, arg)
	})
}

// launch makes a thread by call, which is given the shim's function: begin if there is a runner for the thread, which then
// runs it, and else start.
func (d *Domain) launch(
	what string, start, begin uintptr, call func(fn uintptr, handle uint64) (tid uint32, err error),
) (uint32, error) {
	handle, err := d.enter(what)
	if err != nil {
		return 0, err
	}
	runners, lanes := &d.engine.runners, &d.module.lanes
	if !runners.take(lanes) {
		tid, err := call(start, handle)
		return tid, d.entered(what, err)
	}
	tid, err := call(begin, handle)
	if err != nil {
		runners.give(lanes)
		return 0, d.entered(what, err)
	}
	runners.run(begunThread{d, handle, tid})
	return tid, nil
}

// Stop closes the domain to new threads and calls, interrupts all that is inside, and returns at once: that the last
// thread has left is told by Handler.Quiescent. If nothing is inside, Quiescent is called before Stop returns. Stopping
// again does nothing.
func (d *Domain) Stop() error {
	handle, err := d.enter("stop")
	if err != nil {
		return err
	}
	return d.entered("stop", d.engine.lib.domainStop(handle))
}

// Killed tells that the program is ended from outside, so that the length of its life says nothing of the module's others:
// see Config.MaxGoThreads. It counts if it comes before Handler.Quiescent, and stops nothing.
func (d *Domain) Killed() { d.killed.Store(true) }

// CancelFD is a descriptor that becomes readable, for good, when the domain begins to stop. It belongs to the domain,
// is to be polled and never read, and is closed by Close. The first call makes it, and is ErrIO if there are too many
// open files.
func (d *Domain) CancelFD() (int, error) {
	handle, err := d.open("cancel descriptor of")
	if err != nil {
		return -1, err
	}
	fd, err := d.engine.lib.domainCancelFD(handle)
	if err != nil {
		return -1, d.wrap("cancel descriptor of", err)
	}
	return int(fd), nil
}

// Threads says where the domain's live threads are now.
func (d *Domain) Threads() ([]ThreadState, error) {
	list := make([]threadABI, 16)
	for {
		handle, err := d.open("list threads of")
		if err != nil {
			return nil, err
		}
		n, err := d.engine.lib.domainThreads(handle, list)
		if err != nil {
			return nil, d.wrap("list threads of", err)
		}
		if n <= uint64(len(list)) {
			return d.engine.threadStates(list[:n]), nil
		}
		list = make([]threadABI, n+n/4) // some more than there were: it may be growing
	}
}

// Memory is the domain's linear memory as it is now, or one of no bytes if the module has none. It is valid until
// Close, though the guest may grow the memory beyond it.
func (d *Domain) Memory() (guestmem.Memory, error) {
	handle, err := d.open("memory of")
	if err != nil {
		return guestmem.Memory{}, err
	}
	base, bytes, err := d.engine.lib.domainMemory(handle)
	if err != nil {
		return guestmem.Memory{}, d.wrap("memory of", err)
	}
	return guestmem.New(base, bytes), nil
}

// Close frees the domain and its linear memory: afterwards no address in it is valid. It is ErrBusy, and the domain
// stays open, unless it was never started, opened as a grate nor stopped, or Handler.Quiescent has been called, from
// within which it may be closed. Closing it again does nothing.
func (d *Domain) Close() error {
	// The shim would delete a domain as soon as its last thread has left, which is before the report finds its way here
	// by the token. So the report must have come, or be impossible.
	if !d.reported.Load() && !d.entries.CompareAndSwap(0, entriesClosed) {
		if d.handle.Load() == 0 || d.entries.Load() >= entriesClosed {
			return nil // closed, or being closed, by another
		}
		return d.wrap("close", fmt.Errorf("%w: stop it and wait for its report", ErrBusy))
	}
	if err := closeHandle(&d.handle, d.engine.lib.domainDelete, "close domain"); err != nil {
		d.entries.CompareAndSwap(entriesClosed, 0)
		return err
	}
	process.domains.drop(d.token) // of several closers one finds it
	return nil
}

// enter begins a call that leads to a report, if it succeeds, and answers the domain's handle. entered ends it.
func (d *Domain) enter(what string) (uint64, error) {
	for {
		n := d.entries.Load()
		if n >= entriesClosed {
			return 0, d.closed(what)
		}
		if d.entries.CompareAndSwap(n, n+1) {
			break
		}
	}
	handle, err := d.open(what)
	if err != nil {
		d.entries.Add(-1)
	}
	return handle, err
}

// entered ends what enter began, with the call's error.
func (d *Domain) entered(what string, err error) error {
	if err != nil {
		d.entries.Add(-1)
	}
	return d.wrap(what, err)
}

// open answers the handle, or ErrHandle if the domain was closed.
func (d *Domain) open(what string) (uint64, error) {
	if v := d.handle.Load(); v != 0 {
		return v, nil
	}
	return 0, d.closed(what)
}

func (d *Domain) closed(what string) error {
	return d.wrap(what, fmt.Errorf("%w: the domain was closed", ErrHandle))
}

// wrap adds what was tried, and with which domain, to an error.
func (d *Domain) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s domain %#x: %w", what, d.id, err)
}

// threadState copies what the shim says of a thread. names are those of the imports.
func threadState(c *threadABI, names map[uint32]string) ThreadState {
	t := ThreadState{
		TID:      c.tid,
		At:       At(c.state),
		Address:  c.address,
		Since:    time.Duration(c.sinceNs),
		Left:     time.Duration(c.leftNs),
		Outcome:  Outcome(c.outcome),
		Function: fixedText(c.function[:]),
		Worker:   c.worker != 0,
		Torn:     c.torn != 0,
	}
	switch t.At {
	case AtHostCall:
		t.Import, t.ImportName = c.importID, names[c.importID]
	case AtGrate:
		t.Call = c.importID
	}
	return t
}
