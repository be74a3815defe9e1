package rawposix

import (
	"math"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	rlimitNofile   = 7
	rlimits        = 16 // resources have numbers below
	rlimitSize     = 16 // of struct rlimit64
	rlimitInfinity = math.MaxUint64
)

// rlimit is struct rlimit64: the limit, and what it can be raised to.
type rlimit struct{ cur, max uint64 }

// getrlimit is getrlimit(2): resource, struct rlimit64. How many descriptors a cage may have is limited here; of all other
// resources as much as there is.
func getrlimit(t *threei.Thread, a *threei.Args) int64 {
	return of(t).limitResource(t, a.Val[0], 0, 0, a.Val[1], a.Cage[1]).Result()
}

// setrlimit is setrlimit(2): resource, struct rlimit64. That of descriptors can be set, up to what it may be raised to,
// which can be lowered only; others are abi.EPERM.
func setrlimit(t *threei.Thread, a *threei.Args) int64 {
	if a.Val[1] == 0 {
		return abi.EFAULT.Result()
	}
	return of(t).limitResource(t, a.Val[0], a.Val[1], a.Cage[1], 0, 0).Result()
}

// prlimit64 is prlimit(2): process, resource, new struct rlimit64 or none, where the old one goes or none. The process is 0
// or the cage itself.
func prlimit64(t *threei.Thread, a *threei.Args) int64 {
	if pid := int32(a.Val[0]); pid != 0 && abi.CageID(uint32(pid)) != of(t).cage {
		return abi.EPERM.Result()
	}
	return of(t).limitResource(t, a.Val[1], a.Val[2], a.Cage[2], a.Val[3], a.Cage[3]).Result()
}

// limitResource sets a limit if there is a next one, and answers the one before at old if that is an address.
func (p *Process) limitResource(
	t *threei.Thread, resource, next uint64, nextCage abi.CageID, old uint64, oldCage abi.CageID,
) abi.Errno {
	if uint32(resource) >= rlimits {
		return abi.EINVAL
	}
	var dst []byte
	var e abi.Errno
	if old != 0 {
		if dst, e = resolve(t, old, rlimitSize, oldCage); e != 0 {
			return e
		}
	}
	var to *rlimit
	if next != 0 {
		src, e := resolve(t, next, rlimitSize, nextCage)
		if e != 0 {
			return e
		}
		if to = (&rlimit{le.Uint64(src), le.Uint64(src[8:])}); to.cur > to.max {
			return abi.EINVAL
		}
	}
	was := rlimit{rlimitInfinity, rlimitInfinity}
	if uint32(resource) == rlimitNofile {
		was, e = p.limitFDs(to)
	} else if to != nil {
		e = abi.EPERM
	}
	if e == 0 && dst != nil {
		le.PutUint64(dst, was.cur)
		le.PutUint64(dst[8:], was.max)
	}
	return e
}

// limitFDs is the limit on descriptors, and makes it another one if that is not nil.
func (p *Process) limitFDs(to *rlimit) (was rlimit, e abi.Errno) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was = rlimit{p.table.Limit(), p.maxFDs}
	if to == nil {
		return was, 0
	}
	if to.max > p.maxFDs {
		return was, abi.EPERM
	}
	if e := p.table.SetLimit(to.cur); e != 0 {
		return was, e
	}
	p.maxFDs = to.max
	return was, 0
}
