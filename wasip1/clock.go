package wasip1

import (
	"math"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
)

// clockResGet is clock_res_get(id) -> timestamp.
func clockResGet(c call) Errno { return c.clockTo(abi.CallClockGetres, c.u32(0), c.ptr(1)) }

// clockTimeGet is clock_time_get(id, precision) -> timestamp. The precision is not needed: reading a clock is cheap.
func clockTimeGet(c call) Errno { return c.clockTo(abi.CallClockGettime, c.u32(0), c.ptr(2)) }

// clockTo writes what n says of the clock id to out.
func (c call) clockTo(n abi.Call, id uint32, out uint64) Errno {
	if id >= clockIDs {
		return ErrnoInval
	}
	if !c.inMemory(out, 8) {
		return ErrnoFault
	}
	ns, errno := c.clock(n, id, c.t.Scratch(timespecSize))
	if errno != 0 {
		return errno
	}
	return c.writeU64(out, ns)
}

// clock is what n, clock_gettime or clock_getres, says of the clock id, in nanoseconds. WASI's clock ids are
// Linux's. It uses the scratch memory ts for the answer.
func (c call) clock(n abi.Call, id uint32, ts []byte) (uint64, Errno) {
	r := c.sys(n, threei.Args{
		Val:  [6]uint64{uint64(id), guestmem.AddrOf(ts)},
		Cage: [6]abi.CageID{1: abi.CageRawPOSIX},
	})
	if r < 0 {
		return 0, errnoOf(r)
	}
	sec, nsec := le.Uint64(ts), le.Uint64(ts[8:])
	if nsec >= nanosPerSecond || sec > (math.MaxUint64-nsec)/nanosPerSecond {
		return 0, ErrnoOverflow
	}
	return sec*nanosPerSecond + nsec, ErrnoSuccess
}

// putTimespec writes ns as a Linux timespec.
func putTimespec(b []byte, ns uint64) {
	le.PutUint64(b, ns/nanosPerSecond)
	le.PutUint64(b[8:], ns%nanosPerSecond)
}
