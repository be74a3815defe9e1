package fdtables_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// This file checks that calls of several threads on one table are linearisable: that each history has an order, in which no
// call comes before one that had ended when it began, and in which a table behind one lock would have answered the same.
// What close handlers are told is no part of it (a close leaves the table and drops its reference in two steps, as F4 has it):
// the hammers count those.

// linearFDs is the limit of the table, and so how many descriptors its calls fight for.
const linearFDs = 4

// linearTable is a table as the model has it: for each descriptor 0, or the underfd, doubled, and whether exec closes it.
type linearTable [linearFDs]uint16

func (t linearTable) free(start int) int {
	for fd := start; fd < linearFDs; fd++ {
		if t[fd] == 0 {
			return fd
		}
	}
	return -1
}

func cell(underfd uint64, cloexec bool) uint16 {
	c := uint16(underfd) << 1
	if cloexec {
		c++
	}
	return c
}

// linearCall is one call: what it is and its arguments.
type linearCall struct {
	name    string
	fd, to  int
	underfd uint64
	cloexec bool
}

// linearAnswer is what a call answers: a descriptor or 0, an error number, and what it has seen of a table.
type linearAnswer struct {
	fd    int
	errno abi.Errno
	seen  linearTable
}

// apply is the call on the model.
func (t linearTable) apply(c linearCall) (linearTable, linearAnswer) {
	at := func(fd int) uint16 {
		if fd < 0 || fd >= linearFDs {
			return 0
		}
		return t[fd]
	}
	put := func(start int, v uint16) (linearTable, linearAnswer) {
		fd := t.free(start)
		if fd < 0 {
			return t, linearAnswer{fd: -1, errno: abi.EMFILE}
		}
		t[fd] = v
		return t, linearAnswer{fd: fd}
	}
	bad := linearAnswer{errno: abi.EBADF}
	switch c.name {
	case "open":
		return put(0, cell(c.underfd, c.cloexec))
	case "openat":
		t[c.fd] = cell(c.underfd, c.cloexec)
		return t, linearAnswer{}
	case "dup":
		if at(c.fd) == 0 {
			return t, linearAnswer{fd: -1, errno: abi.EBADF}
		}
		return put(0, at(c.fd)&^1)
	case "dupfrom":
		if at(c.fd) == 0 {
			return t, linearAnswer{fd: -1, errno: abi.EBADF}
		}
		return put(c.to, cell(uint64(at(c.fd)>>1), c.cloexec))
	case "dup2":
		if at(c.fd) == 0 {
			return t, bad
		}
		if c.fd != c.to {
			t[c.to] = cell(uint64(at(c.fd)>>1), c.cloexec)
		}
		return t, linearAnswer{}
	case "close":
		if at(c.fd) == 0 {
			return t, bad
		}
		t[c.fd] = 0
		return t, linearAnswer{}
	case "cloexec":
		if at(c.fd) == 0 {
			return t, bad
		}
		t[c.fd] = cell(uint64(at(c.fd)>>1), c.cloexec)
		return t, linearAnswer{}
	case "translate", "acquire":
		if at(c.fd) == 0 {
			return t, bad
		}
		seen := linearTable{at(c.fd)}
		return t, linearAnswer{seen: seen}
	case "exec":
		for fd, v := range t {
			if v&1 != 0 {
				t[fd] = 0
			}
		}
		return t, linearAnswer{}
	case "table", "fork":
		return t, linearAnswer{seen: t}
	}
	panic(c.name)
}

var linearNames = []string{
	"open", "open", "openat", "dup", "dupfrom", "dup2", "close", "close", "cloexec", "translate", "acquire", "exec", "table", "fork",
}

func drawCall(t *rapid.T) linearCall {
	fds := rapid.IntRange(0, linearFDs-1)
	return linearCall{
		name: rapid.SampledFrom(linearNames).Draw(t, "call"), fd: fds.Draw(t, "fd"), to: fds.Draw(t, "to"),
		underfd: rapid.Uint64Range(1, 3).Draw(t, "underfd"), cloexec: rapid.Bool().Draw(t, "cloexec"),
	}
}

// snapshotOf is a table as the model has it.
func snapshotOf(tab *fdtables.Table) (seen linearTable) {
	for _, f := range tab.Snapshot() {
		seen[f.FD] = cell(f.Entry.UnderFD, f.Entry.CloseOnExec)
	}
	return seen
}

// makeCall is the call on the real table of cage 2; forks of it are made as cage.
func makeCall(ts *fdtables.Tables, tab *fdtables.Table, cage abi.CageID, c linearCall) (a linearAnswer) {
	const kind = pipeKind
	fd, to := fdtables.FD(c.fd), fdtables.FD(c.to)
	fdAnswer := func(fd fdtables.FD, errno abi.Errno) linearAnswer { return linearAnswer{fd: int(fd), errno: errno} }
	switch c.name {
	case "open":
		return fdAnswer(tab.Open(kind, c.underfd, c.cloexec, 0))
	case "openat":
		return linearAnswer{errno: errnoOf(tab.OpenAt(fd, kind, c.underfd, c.cloexec, 0))}
	case "dup":
		return fdAnswer(tab.Dup(fd))
	case "dupfrom":
		return fdAnswer(tab.DupFrom(fd, to, c.cloexec))
	case "dup2":
		return linearAnswer{errno: errnoOf(tab.Dup2(fd, to, c.cloexec))}
	case "close":
		return linearAnswer{errno: errnoOf(tab.Close(fd))}
	case "cloexec":
		return linearAnswer{errno: tab.SetCloseOnExec(fd, c.cloexec)}
	case "translate":
		e, errno := tab.Translate(fd)
		if errno == 0 {
			a.seen[0] = cell(e.UnderFD, e.CloseOnExec)
		}
		a.errno = errno
		return a
	case "acquire":
		ref, errno := tab.Acquire(fd)
		if e := ref.Entry(); errno == 0 {
			a.seen[0] = cell(e.UnderFD, e.CloseOnExec)
		}
		ref.Release()
		a.errno = errno
		return a
	case "exec":
		tab.CloseOnExecAll()
		return a
	case "table":
		return linearAnswer{seen: snapshotOf(tab)}
	case "fork":
		if err := ts.Fork(2, cage); err != nil {
			panic(err)
		}
		copied, err := ts.Table(cage)
		if err != nil {
			panic(err)
		}
		a.seen = snapshotOf(copied)
		if _, err := ts.Remove(cage); err != nil {
			panic(err)
		}
		return a
	}
	panic(c.name)
}

var linearModel = porcupine.Model{
	Init: func() any { return linearTable{} },
	Step: func(state, input, output any) (bool, any) {
		next, answer := state.(linearTable).apply(input.(linearCall))
		return answer == output.(linearAnswer), next
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v = %+v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprint(state) },
}

// runThreads makes the calls of each thread, all threads at once.
func runThreads(threads [][]linearCall) []porcupine.Operation {
	ts := fdtables.New(fdtables.Config{})
	tab, err := ts.Init(2)
	if err != nil {
		panic(err)
	}
	tab.SetLimit(linearFDs)
	var clock atomic.Int64 // says what came before what, without the resolution of a real one
	var wg sync.WaitGroup
	ops := make([][]porcupine.Operation, len(threads))
	begin := make(chan struct{})
	for i, calls := range threads {
		wg.Go(func() {
			<-begin
			for _, c := range calls {
				called := clock.Add(1)
				answer := makeCall(ts, tab, abi.CageID(10+i), c)
				ops[i] = append(ops[i], porcupine.Operation{
					ClientId: i, Input: c, Call: called, Output: answer, Return: clock.Add(1),
				})
			}
		})
	}
	close(begin)
	wg.Wait()
	var all []porcupine.Operation
	for _, o := range ops {
		all = append(all, o...)
	}
	return all
}

func TestHistory_OfManyThreadsIsLinearisable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		threads := make([][]linearCall, rapid.IntRange(2, 4).Draw(t, "threads"))
		for i := range threads {
			threads[i] = rapid.SliceOfN(rapid.Custom(drawCall), 1, 14).Draw(t, fmt.Sprintf("thread %d", i))
		}
		for range 4 { // the same calls in other orders
			ops := runThreads(threads)
			if result := porcupine.CheckOperationsTimeout(linearModel, ops, 20*time.Second); result != porcupine.Ok {
				for _, o := range ops {
					t.Logf("%d from %d to %d: %+v = %+v", o.ClientId, o.Call, o.Return, o.Input, o.Output)
				}
				t.Fatalf("no order explains these answers: %v", result)
			}
		}
	})
}

// The check can fail: a table that loses what another thread has just opened is found out.
func TestHistory_ThatIsNotLinearisableIsFoundOut(t *testing.T) {
	ops := []porcupine.Operation{
		{ClientId: 0, Input: linearCall{name: "open", underfd: 1}, Call: 1, Output: linearAnswer{fd: 0}, Return: 2},
		{ClientId: 1, Input: linearCall{name: "open", underfd: 2}, Call: 3, Output: linearAnswer{fd: 0}, Return: 4},
	}
	if porcupine.CheckOperations(linearModel, ops) {
		t.Error("descriptor 0 was given out twice, and nobody has noticed")
	}
}
