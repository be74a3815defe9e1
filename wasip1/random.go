package wasip1

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// randomChunk is how much is asked for at once, in bytes: a few milliseconds of work, so that a cage that asks for
// gigabytes still stops soon.
const randomChunk = 1 << 20

// randomGet is random_get(buf, buf_len). On an error some of the buffer may have been written.
func randomGet(c call) Errno {
	buf, n := c.ptr(0), c.ptr(1)
	addr, ok := c.t.Memory.Addr(buf, n)
	if !ok {
		return ErrnoFault
	}
	for n > 0 {
		if c.stopping() {
			return ErrnoIntr
		}
		chunk := min(n, randomChunk)
		r := c.sys(abi.CallGetrandom, threei.Args{Val: [6]uint64{addr, chunk}, Cage: [6]abi.CageID{c.t.Cage}})
		if r < 0 {
			return errnoOf(r)
		}
		if r == 0 || uint64(r) > chunk {
			return ErrnoIO
		}
		addr, n = addr+uint64(r), n-uint64(r)
	}
	return ErrnoSuccess
}
