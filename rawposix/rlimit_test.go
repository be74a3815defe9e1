package rawposix_test

import (
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/rawposix"
)

// rlimit places a struct rlimit64 in guest memory.
func (e *env) rlimit(cur, max uint64) gp {
	return e.put(le.AppendUint64(le.AppendUint64(nil, cur), max))
}

func (e *env) wantLimit(at gp, cur, max uint64) {
	e.t.Helper()
	b := e.bytes(at, 16)
	if c, m := le.Uint64(b), le.Uint64(b[8:]); c != cur || m != max {
		e.t.Errorf("limit %d of %d, want %d of %d", c, m, cur, max)
	}
}

func TestRlimit_OfDescriptorsIsTheCages(t *testing.T) {
	const nofile = 7
	e := newEnv(t)
	at := e.alloc(16)
	e.must(abi.CallGetrlimit, nofile, at)
	e.wantLimit(at, 1024, 1<<20)
	e.must(abi.CallPrlimit64, 0, nofile, e.rlimit(4, 2000), at)
	e.wantLimit(at, 1024, 1<<20)
	r, w := e.pipe(0)
	e.pipe(0)
	e.fails(abi.EMFILE, abi.CallDup, r)
	e.must(abi.CallSetrlimit, nofile, e.rlimit(5, 2000))
	e.must(abi.CallDup, w)
	e.fails(abi.EINVAL, abi.CallSetrlimit, nofile, e.rlimit(6, 5))
	e.fails(abi.EPERM, abi.CallSetrlimit, nofile, e.rlimit(5, 2001)) // once lowered, never raised
	e.fails(abi.EFAULT, abi.CallSetrlimit, nofile, 0)
	e.fails(abi.EFAULT, abi.CallPrlimit64, 0, nofile, e.rlimit(9, 9), gp(memSize-8))
	e.must(abi.CallPrlimit64, int(testCage), nofile, 0, at)
	e.wantLimit(at, 5, 2000)
	e.fails(abi.EPERM, abi.CallPrlimit64, 1, nofile, 0, at)
	e.fails(abi.EINVAL, abi.CallGetrlimit, 16, at)
	e.fails(abi.EINVAL, abi.CallGetrlimit, -1, at)
	e.must(abi.CallGetrlimit, 3, at) // the stack: not the runtime's to limit
	e.wantLimit(at, 1<<64-1, 1<<64-1)
	e.fails(abi.EPERM, abi.CallSetrlimit, 3, e.rlimit(1, 1))

	p, err := e.host.NewProcess(rawposix.ProcessConfig{Cage: 99, Hooks: e.hooks, MaxFDs: 100})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Table().Limit(); got != 100 {
		t.Errorf("a limit of %d where 100 is the most", got)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
