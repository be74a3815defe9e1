package threei

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/ids"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// Native serves one system call for the thread t. It answers the call's result, or a negative abi.Errno. It may block,
// as long as it returns soon after t.Cancel fires. What it learns from t.Resolve is good until it returns.
type Native func(t *Thread, a *Args) int64

// DefaultNotifyDeadline is how long a grate may take to hear of a cage's end, where Config leaves it at 0.
const DefaultNotifyDeadline = time.Second

// Config is what 3i needs of the rest of the runtime. The zero Config is that of one without grates.
type Config struct {
	// CallGrate has a grate serve a call of the cage t.Cage which is to act on the cage target, mostly the same: t may name
	// it. It hands over entry, a word of the handler table, to the
	// shim and answers the result, or one of the numbers that stand for a grate which is gone. t is the calling guest
	// thread, on its own OS thread; or, for a call of the host, a Thread that belongs to no guest. It blocks for as long as
	// the grate takes. When ctx is done the answer is not waited for any more, so that to return early is a courtesy; a
	// guest thread's ctx never is. Nil: calls that a grate should serve answer ELINDESRCH.
	CallGrate func(ctx context.Context, t *Thread, target abi.CageID, entry uint64, call abi.Call, a *Args) int64
	// MayInterpose says whether the cage by may decide who serves the calls of the cage target, which is another one: its
	// descendant. Nil: no. It is called with no lock held, and must not block.
	MayInterpose func(by, target abi.CageID) bool
	// Trace is told of each call that was handed to CallGrate, and of each that failed because its grate is gone, when it
	// has returned, on the thread that made it. Nil: nobody is. It must not keep Args.
	Trace func(Traced)
	// NotifyDeadline is how long a grate may take to hear of a cage's end. 0: DefaultNotifyDeadline.
	NotifyDeadline time.Duration
}

// Traced is a call that a grate served, or should have.
type Traced struct {
	Cage   abi.CageID
	TID    int32 // 0 for a call of the host
	Call   abi.Call
	Args   *Args
	Entry  uint64 // the word of the handler table
	Result int64
	Begin  time.Time
	Took   time.Duration
}

// System is the 3i state of one runtime. Its methods are safe for concurrent use, save SetNative and Configure.
type System struct {
	native [abi.MaxCall]Native // immutable once the first cage runs
	cfg    Config              // immutable once the first cage runs
	table  table
	cages  ids.Map[cage]
	seq    atomic.Uint64 // how many cages there have been
	late   late
}

// NewSystem is a system of which nothing but 3i's own calls is served: every other one answers ENOSYS. The owner ends it
// with Close.
func NewSystem() *System {
	s := &System{}
	s.SetNative(abi.CallRegisterHandler, s.registerHandlerCall)
	s.SetNative(abi.CallCopyDataBetweenCages, s.copyDataCall)
	s.SetNative(abi.CallCopyHandlerTableToCage, s.copyHandlerTableCall)
	s.SetNative(abi.CallHarshCageExit, harshCageExitCall)
	return s
}

// Configure says how s reaches the rest of the runtime.
//
// Preconditions:
// No cage of the runtime runs yet.
func (s *System) Configure(cfg Config) {
	if cfg.NotifyDeadline <= 0 {
		cfg.NotifyDeadline = DefaultNotifyDeadline
	}
	s.cfg = cfg
}

// Close gives the handler table back. To call it again does nothing.
//
// Preconditions:
// All cages were removed, and the shim has no domain any more.
func (s *System) Close() error { return s.table.close() }

// SetNative makes fn serve call wherever no grate does.
//
// Preconditions:
// call < abi.MaxCall.
// No cage of the runtime runs yet.
func (s *System) SetNative(call abi.Call, fn Native) { s.native[call] = fn }

// Stats says what a System holds.
type Stats struct {
	// Rows are those that cages have, FreeRows those that are kept for more.
	Rows, FreeRows int
	// Late are calls of the host, with a context that can end, that grates have not answered yet.
	Late int
}

// Stats says what s holds now.
func (s *System) Stats() Stats {
	s.table.mu.Lock()
	rows, free := s.table.used, len(s.table.free)
	s.table.mu.Unlock()
	return Stats{Rows: rows, FreeRows: free, Late: s.late.count()}
}

// late counts calls of the host that grates are carrying out on goroutines of this package's.
type late struct {
	mu   lockcheck.Mutex[lateLock]
	n    int           // guarded by mu
	none chan struct{} // closed when n becomes 0; nil unless somebody waits for that; guarded by mu
}

func (l *late) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func (l *late) add(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n += n
	if l.n == 0 && l.none != nil {
		close(l.none)
		l.none = nil
	}
}

// WaitLate waits until no call of the host is left in a grate, such as a notification past its deadline, or one whose
// context was done: see MakeSyscall. It answers ctx's cause if that is done first.
func (s *System) WaitLate(ctx context.Context) error {
	l := &s.late
	l.mu.Lock()
	if l.n == 0 {
		l.mu.Unlock()
		return nil
	}
	if l.none == nil {
		l.none = make(chan struct{})
	}
	none := l.none
	l.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
