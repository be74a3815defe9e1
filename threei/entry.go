package threei

// entry is one word of a row: what serves one call of one cage. 0 is the native function.
//
//	bits 63..62  01 a grate, 11 a grate that is gone
//	bits 61..24  the grate's port, as the shim gave it out: 22 bits of generation, which is not 0, and 16 of index
//	bits 23..0   the index of a function in the grate's table
type entry uint64

const (
	entryKind  entry = 3 << 62
	entryGrate entry = 1 << 62
	entryGone  entry = 3 << 62

	portShift = 24
	// maxPort is the largest port, maxFn the largest function index that an entry holds.
	maxPort = 1<<38 - 1
	maxFn   = 1<<portShift - 1
)

// grateEntry is the entry for the function fn of the grate that has the port.
func grateEntry(port uint64, fn uint32) entry { return entryGrate | entry(port<<portShift) | entry(fn) }

func (e entry) isGrate() bool { return e&entryKind == entryGrate }
func (e entry) port() uint64  { return uint64(e) >> portShift & maxPort }
