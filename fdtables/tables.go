package fdtables

import (
	"fmt"
	"slices"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/ids"
)

// Config is what New needs to know. The zero Config is good.
type Config struct {
	// MaxOpen is how many underfds may be open at once over all cages, as ENFILE has it: duplicates and a fork's
	// copies do not count, an underfd that only an I/O in flight keeps open does. 0 means no limit.
	MaxOpen uint64
	// OnCloseError, if not nil, hears of close handlers that failed where no caller could be told: in Ref.Release, and
	// for a descriptor that was closed in the middle of an I/O when its underfd is opened once more. It is called on
	// the goroutine that ran the handler, without any lock held. A panic of its own is ignored.
	OnCloseError func(*CloseError)
}

// Tables are the descriptor tables of all cages of one runtime. All methods are safe for concurrent use.
type Tables struct {
	tables   ids.Map[Table] // a cage whose Fork is under way is here, but is not live yet
	open     registry
	handlers handlerTable
	epolls   epolls
	onError  func(*CloseError) // immutable, may be nil
}

// New is the tables of a runtime without cages, with handlers that do nothing.
func New(cfg Config) *Tables {
	ts := &Tables{onError: cfg.OnCloseError}
	ts.open.init(cfg.MaxOpen)
	return ts
}

// RegisterCloseHandlers makes h what is called when a descriptor of kind k is closed from now on, in every cage. It
// replaces what was registered before. Handlers that run at this moment go on.
func (ts *Tables) RegisterCloseHandlers(k Kind, h Handlers) { ts.handlers.set(k, h) }

// Init gives cage an empty table with the default limit. It is ErrCageExists if cage has a table.
func (ts *Tables) Init(cage abi.CageID) (*Table, error) {
	t := &Table{ts: ts, cage: cage, limit: DefaultLimit}
	t.now.Store(&noSlots)
	if !ts.tables.Insert(uint64(cage), t) {
		return nil, fmt.Errorf("init table of cage %d: %w", cage, ErrCageExists)
	}
	return t, nil
}

// Table is the table of cage, or ErrNoCage. It takes no lock; a host that serves one cage keeps the result.
func (ts *Tables) Table(cage abi.CageID) (*Table, error) {
	if t := ts.tables.Load(uint64(cage)); t != nil && t.now.Load() != nil {
		return t, nil
	}
	return nil, fmt.Errorf("table of cage %d: %w", cage, ErrNoCage)
}

// Fork gives the cage dst a copy of src's table: the same descriptors, entries and limit, each descriptor one more
// reference to its underfd. The copy is src's table as it was at one moment during the call, and dst has no table at all
// before it is complete. Unlike fork(2) it keeps neither count nor lock of I/Os in flight.
//
// It is ErrCageExists if dst has a table, and ErrNoCage if src has none; then nothing has changed.
func (ts *Tables) Fork(src, dst abi.CageID) error {
	to := &Table{ts: ts, cage: dst} // not live: it has no slots
	if !ts.tables.Insert(uint64(dst), to) {
		return fmt.Errorf("fork table of cage %d to cage %d: %w", src, dst, ErrCageExists)
	}
	if from := ts.tables.Load(uint64(src)); from == nil || !from.copyTo(to) {
		ts.tables.Delete(uint64(dst), to)
		return fmt.Errorf("fork table of cage %d to cage %d: %w", src, dst, ErrNoCage)
	}
	return nil
}

// Remove takes away the table of cage and then closes each of its descriptors, in ascending order. It answers the close
// handlers that failed; the others have run all the same. It is ErrNoCage if cage has no table.
//
// From the moment the table is gone, calls on it answer abi.EBADF and the cage can be given a new one, whether or not
// handlers still run. Remove blocks for as long as they do.
func (ts *Tables) Remove(cage abi.CageID) ([]CloseError, error) {
	t, err := ts.Table(cage)
	if err != nil {
		return nil, fmt.Errorf("remove: %w", err)
	}
	t.mu.Lock()
	a, used := t.now.Load(), t.used
	t.now.Store(nil)
	t.used, t.spare = ids.Set{}, nil
	t.mu.Unlock()
	if a == nil {
		return nil, fmt.Errorf("remove: table of cage %d: %w", cage, ErrNoCage)
	}
	ts.tables.Delete(uint64(cage), t)
	d := dropper{ts: ts, cage: cage}
	for fd := range used.All() {
		d.add(FD(fd), (*a)[fd].Load())
	}
	return d.end(), nil
}

// Cages is the cages that have a table, in ascending order. One that gets or loses its table meanwhile may or may not be
// among them.
func (ts *Tables) Cages() []abi.CageID {
	var cages []abi.CageID
	for id, t := range ts.tables.All() {
		if t.now.Load() != nil {
			cages = append(cages, abi.CageID(id))
		}
	}
	slices.Sort(cages)
	return cages
}

// Open is how many underfds are open: pairs (kind, underfd) with a descriptor or an I/O in flight. It is for reports and
// leak checks: exact when nothing is opened or closed meanwhile.
func (ts *Tables) Open() int { return ts.open.len() }

// References is how many descriptors, over all cages, stand for (k, underfd), and how many I/Os in flight keep it
// open. Both are 0 if it is not open.
func (ts *Tables) References(k Kind, underfd uint64) (descriptors, inFlight uint64) {
	return ts.open.refs(k, underfd)
}
