package fdtables

import (
	"unsafe"

	"github.com/lindbridge/lindbridge/internal/release"
)

// under is the count of s's underfd.
func (s *slot) under() *under {
	// A slot is the first field of the one or the other, and never stands alone.
	if s.own {
		return (*under)(unsafe.Pointer(s))
	}
	return (*alias)(unsafe.Pointer(s)).under
}

// following is the next of u, which is not born yet, in its batch, or nil.
func (u *under) following() *under {
	n := u.lives.Load()
	if n == 0 {
		return nil
	}
	next := (*under)(unsafe.Add(unsafe.Pointer(u), unsafe.Sizeof(*u))) // n > 0: it is in the same batch
	release.Uint64(&next.lives, n-1)
	return next
}
