package threei_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	esrch   = int64(-0x1ffefffe) // 0xE0010002 as an i32
	aborted = int64(-0x1ffeffff)
	app     = abi.CageID(10)
	other   = abi.CageID(11)
	policy  = abi.CageID(20)
	second  = abi.CageID(21)
)

// calls makes the call and answers the result.
func (c *cage) calls(call abi.Call) int64 { return c.w.Syscall(c.thread(), call, &threei.Args{}) }

func expect(t *testing.T, what string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s answered %d, want %d", what, got, want)
	}
}

func TestRegisterHandler_LastOneWins(t *testing.T) {
	w := newWorld(t)
	a, b := w.cage(app), w.cage(other)
	w.grate(policy)
	w.grate(second)
	w.native(abi.CallGetpid, 1)
	expect(t, "an unguarded call", a.calls(abi.CallGetpid), 1)
	w.register(app, abi.CallGetpid, policy, 100)
	w.register(app, abi.CallGetpid, policy, 100) // the same again
	expect(t, "a guarded call", a.calls(abi.CallGetpid), 100)
	expect(t, "another cage's", b.calls(abi.CallGetpid), 1)
	expect(t, "another call", a.calls(abi.CallGetppid), abi.ENOSYS.Result())
	w.register(app, abi.CallGetpid, second, 200)
	expect(t, "after a second registration", a.calls(abi.CallGetpid), 200)
	w.register(app, abi.CallGetpid, policy, 1<<24-1)
	expect(t, "the largest function index", a.calls(abi.CallGetpid), 1<<24-1)
	w.register(app, abi.CallGetpid, abi.CageDeregister, 0)
	w.register(app, abi.CallGetpid, abi.CageDeregister, 0) // of what is not there
	expect(t, "after it was deregistered", a.calls(abi.CallGetpid), 1)
	w.register(other, abi.CallGetpid, abi.CageDeregister, 0) // of a cage without any
	if rows := w.Stats().Rows; rows != 1 {
		t.Errorf("%d rows for one cage with handlers", rows)
	}
}

func TestRegisterAll_GuardsEveryCall(t *testing.T) {
	w := newWorld(t)
	a := w.cage(app)
	w.grate(policy)
	w.grate(second)
	w.native(0, 1)
	w.register(app, 5, second, 50)
	if err := w.RegisterAll(bg, app, policy, 9); err != nil {
		t.Fatal(err)
	}
	for call := range abi.MaxCall {
		expect(t, call.String(), a.calls(call), 9)
	}
	expect(t, "a number past the last", a.calls(abi.MaxCall), abi.ENOSYS.Result())
	w.register(app, 5, second, 51)
	expect(t, "one that was registered since", a.calls(5), 51)
	w.cages[policy].kill()
	expect(t, "one of a grate that is gone", a.calls(6), esrch)
	expect(t, "one of the other grate", a.calls(5), 51)
	if err := w.RegisterAll(bg, app, abi.CageDeregister, 0); err != nil {
		t.Fatal(err)
	}
	expect(t, "after all were deregistered", a.calls(0), 1)
}

func TestRegisterHandler_Errors(t *testing.T) {
	w := newWorld(t)
	w.cage(app)
	w.grate(policy)
	stopped, deadGrate := w.cage(30), w.grate(31)
	stopped.stop()
	deadGrate.stop()
	ended, end := context.WithCancelCause(bg)
	why := errors.New("enough")
	end(why)
	for _, c := range []struct {
		name   string
		ctx    context.Context
		target abi.CageID
		call   abi.Call
		grate  abi.CageID
		fn     uint32
		want   error
	}{
		{"unknown target", bg, 99, 1, policy, 0, threei.ErrNoCage},
		{"unknown grate", bg, app, 1, 99, 0, threei.ErrNoCage},
		{"a target beyond all ids", bg, math.MaxUint64, 1, policy, 0, threei.ErrNoCage},
		{"stopping target", bg, 30, 1, policy, 0, threei.ErrStopping},
		{"stopping target, to deregister", bg, 30, 1, abi.CageDeregister, 0, threei.ErrStopping},
		{"stopping grate", bg, app, 1, 31, 0, threei.ErrStopping},
		{"a cage that is no grate", bg, app, 1, app, 0, threei.ErrNoGrate},
		{"call out of range", bg, app, abi.MaxCall + 1, policy, 0, threei.ErrCall},
		{"function out of range", bg, app, 1, policy, 1 << 24, threei.ErrCall},
		{"context over", ended, app, 1, policy, 0, why},
	} {
		if err := w.RegisterHandler(c.ctx, c.target, c.call, c.grate, c.fn); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := w.RegisterAll(ended, app, policy, 0); !errors.Is(err, why) {
		t.Errorf("all calls with a context that is over: %v", err)
	}
	if err := w.CopyHandlerTable(ended, app, policy); !errors.Is(err, why) {
		t.Errorf("copy with a context that is over: %v", err)
	}
	if rows := w.Stats().Rows; rows != 0 {
		t.Errorf("%d rows after failures only", rows)
	}
}

func TestCages_HaveOnePortAndALowID(t *testing.T) {
	w := newWorld(t)
	w.cage(app)
	for _, p := range []uint64{0, 1 << 38} {
		if err := w.SetPort(app, p); !errors.Is(err, threei.ErrPort) {
			t.Errorf("port %#x: %v", p, err)
		}
	}
	if err := w.SetPort(other, port(1)); !errors.Is(err, threei.ErrNoCage) {
		t.Errorf("port of a cage that there is not: %v", err)
	}
	w.setPort(app)
	if err := w.SetPort(app, port(1)); !errors.Is(err, threei.ErrPort) {
		t.Errorf("a second port: %v", err)
	}
	x := exitcoord.New(exitcoord.Config{})
	if err := w.AddCage(1<<20, x, threei.CageConfig{}); !errors.Is(err, threei.ErrCageID) {
		t.Errorf("id 2^20: %v", err)
	}
	for _, id := range []abi.CageID{1 << 20, math.MaxUint64} {
		if a, err := w.HandlersAddr(id); a != 0 || !errors.Is(err, threei.ErrCageID) {
			t.Errorf("the address for id %d: %#x, %v", id, a, err)
		}
	}
}

// TestTable_IsWhatTheShimReads: the words themselves, as the package's documentation says where they are.
func TestTable_IsWhatTheShimReads(t *testing.T) {
	w := newWorld(t)
	addr, err := w.HandlersAddr(app) // before there is a cage
	if err != nil {
		t.Fatal(err)
	}
	next, err := w.HandlersAddr(app + 1)
	if err != nil || next != addr+8 {
		t.Errorf("words at %#x and %#x, %v", addr, next, err)
	}
	word := func(addr uint64) uint64 { return binary.LittleEndian.Uint64(guestmem.HostBytes(addr, 8)) }
	read := func(call abi.Call) uint64 {
		row := word(uint64(addr))
		if row%64 != 0 {
			t.Fatalf("a row at %#x", row)
		}
		return word(row + 64 + word(row)&1*uint64(abi.MaxCall)*8 + uint64(call)*8)
	}
	w.cage(app)
	w.cage(other)
	if row := word(uint64(addr)); row != 0 {
		t.Errorf("a cage without handlers has a row at %#x", row)
	}
	w.grate(policy)
	w.register(app, 5, policy, 0xabcdef)
	w.register(other, 1023, policy, 1)
	const generation, index = 1, uint64(policy)
	want := uint64(1)<<62 | generation<<40 | index<<24 | 0xabcdef
	if e := read(5); e != want {
		t.Errorf("the word is %#x, want %#x", e, want)
	}
	if err := w.CopyHandlerTable(bg, other, app); err != nil {
		t.Fatal(err)
	}
	if e := read(5); e != 0 {
		t.Errorf("the word of a native call is %#x", e)
	}
	w.cages[policy].kill()
	if e := read(1023); e != 3<<62 {
		t.Errorf("the word of a grate that is gone is %#x", e)
	}
	w.cages[app].kill()
	if row := word(uint64(addr)); row != 0 {
		t.Errorf("a cage that is gone has a row at %#x", row)
	}
}

func TestCopyHandlerTable_MakesThemEqual(t *testing.T) {
	w := newWorld(t)
	a, b := w.cage(app), w.cage(other)
	w.grate(policy)
	w.grate(second)
	if err := w.CopyHandlerTable(bg, app, other); !errors.Is(err, threei.ErrNoHandlers) {
		t.Errorf("of a cage without a table: %v", err)
	}
	w.register(app, 1, policy, 11)
	w.register(app, 2, second, 12)
	w.register(other, 2, policy, 22)
	w.register(other, 3, policy, 23)
	if err := w.CopyHandlerTable(bg, app, other); err != nil {
		t.Fatal(err)
	}
	for call, want := range []int64{abi.ENOSYS.Result(), 11, 12, abi.ENOSYS.Result()} {
		expect(t, "the copy", b.calls(abi.Call(call)), want)
	}
	w.register(app, 1, second, 99)
	expect(t, "the copy, after the source changed", b.calls(1), 11)
	// The index was copied too: what comes from it fails, in both.
	w.cages[policy].kill()
	expect(t, "the copy of a handler that is gone", b.calls(1), esrch)
	expect(t, "a handler of another grate", b.calls(2), 12)
	if err := w.CopyHandlerTable(bg, other, app); err != nil {
		t.Fatal(err)
	}
	expect(t, "a copy of what is gone", a.calls(1), esrch)
	if err := w.CopyHandlerTable(bg, app, app); err != nil {
		t.Errorf("onto itself: %v", err)
	}
	b.stop()
	for _, c := range [][2]abi.CageID{{app, other}, {other, app}} {
		if err := w.CopyHandlerTable(bg, c[0], c[1]); !errors.Is(err, threei.ErrStopping) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if err := w.CopyHandlerTable(bg, app, 99); !errors.Is(err, threei.ErrNoCage) {
		t.Errorf("to a cage that there is not: %v", err)
	}
}

// TestGrate_ThatIsGoneFailsClosed: what it guarded never reaches native by its death, whatever dies when.
func TestGrate_ThatIsGoneFailsClosed(t *testing.T) {
	w := newWorld(t)
	a := w.cage(app)
	g := w.grate(policy)
	w.native(1, 1)
	w.register(app, 1, policy, 11)
	g.stop()
	if r := a.calls(1); r == 1 {
		t.Error("the call reached native while the grate stops")
	}
	g.kill()
	expect(t, "the call", a.calls(1), esrch)
	w.grate(policy) // the id's next cage, with the same port, which the shim would not do
	expect(t, "the call, with another cage of the same id", a.calls(1), esrch)
	w.register(app, 1, policy, 12)
	expect(t, "after a new registration", a.calls(1), 12)
	a.kill()
	if rows := w.Stats().Rows; rows != 0 {
		t.Errorf("%d rows without a cage", rows)
	}
	b := w.cage(app)
	expect(t, "the next cage with the id", b.calls(1), 1)
}

func TestRows_AreUsedAgainAndEmpty(t *testing.T) {
	w := newWorld(t)
	w.grate(policy)
	for round := range 300 {
		c := w.cage(app)
		if err := w.RegisterAll(bg, app, policy, 1); err != nil {
			t.Fatal(err)
		}
		c.kill()
		c = w.cage(app)
		w.register(app, 5, policy, uint32(round))
		for call := range abi.MaxCall {
			if e := w.Lookup(app, call); (e != 0) != (call == 5) {
				t.Fatalf("round %d: %v is served by %#x", round, call, e)
			}
		}
		c.kill()
	}
	if s := w.Stats(); s.Rows != 0 || s.FreeRows > 64 {
		t.Errorf("%+v", s)
	}
}

// guestCall makes one of 3i's calls on a thread of the cage.
func (c *cage) guestCall(call abi.Call, val []uint64, owner []abi.CageID) int64 {
	var a threei.Args
	copy(a.Val[:], val)
	copy(a.Cage[:], owner)
	return c.w.Syscall(c.thread(), call, &a)
}

// registers is register_handler as a guest makes it.
func (c *cage) registers(target abi.CageID, call uint64, grate abi.CageID, fn uint64) int64 {
	return c.guestCall(abi.CallRegisterHandler, []uint64{uint64(target), 0, fn}, []abi.CageID{abi.CageID(call), grate})
}

// copies is copy_handler_table_to_cage as a guest makes it.
func (c *cage) copies(src, dst abi.CageID) int64 {
	return c.guestCall(abi.CallCopyHandlerTableToCage, []uint64{uint64(src)}, []abi.CageID{dst})
}

func TestRegisterHandlerCall_AnswersLindsNumbers(t *testing.T) {
	w := newWorld(t)
	g := w.grate(policy)
	a := w.cage(app)
	w.child(policy, app)
	stopped := w.cage(30)
	w.child(policy, 30)
	stopped.stop()
	for _, c := range []struct {
		name   string
		target abi.CageID
		call   uint64
		grate  abi.CageID
		fn     uint64
		want   int64
	}{
		{"a good one", app, 1, policy, 11, 0},
		{"the same", app, 1, policy, 11, 0},
		{"unknown target", 99, 1, policy, 11, esrch},
		{"unknown grate", app, 1, 99, 11, esrch},
		{"pseudo target", abi.CageRawPOSIX, 1, policy, 11, esrch},
		{"stopping target", 30, 1, policy, 11, esrch},
		{"call 1024", app, 1024, policy, 11, aborted},
		{"call of 33 bits", app, 1 << 32, policy, 11, aborted},
		{"function of 25 bits", app, 1, policy, 1 << 24, aborted},
		{"function of 64 bits", app, 1, policy, math.MaxUint64, aborted},
		{"no grate", app, 1, app, 11, aborted},
	} {
		expect(t, c.name, g.registers(c.target, c.call, c.grate, c.fn), c.want)
	}
	expect(t, "the call", a.calls(1), 11)
	expect(t, "match all", g.registers(app, 7, abi.CageMatchAll, 12), 0)
	expect(t, "any call", a.calls(1000), 12)
	expect(t, "deregister", g.registers(app, 1000, abi.CageDeregister, 0), 0)
	expect(t, "the call after that", a.calls(1000), abi.ENOSYS.Result())
	nobody := &cage{w: w, id: 77, token: &canceler{}}
	expect(t, "a caller that nobody knows", nobody.registers(app, 1, policy, 1), esrch)
	expect(t, "a copy by nobody", nobody.copies(app, app), esrch)
}

// TestGuests_ChangeTheirOwnAndTheirDescendantsHandlersOnly: and never so that a call is guarded less than the caller's own.
func TestGuests_ChangeTheirOwnAndTheirDescendantsHandlersOnly(t *testing.T) {
	eperm := abi.EPERM.Result()
	w := newWorld(t)
	w.native(1, 1)
	outer, inner := w.grate(policy), w.grate(second) // inner is outer's child, a is inner's
	a := w.cage(app)
	stranger := w.grate(40)
	w.child(policy, second)
	w.child(policy, app)
	w.child(second, app)
	expect(t, "outer guards inner", outer.registers(second, 1, policy, 11), 0)
	expect(t, "inner passes that on", inner.copies(second, app), 0)
	expect(t, "a's call", a.calls(1), 11)

	expect(t, "a takes it off", a.registers(app, 1, abi.CageDeregister, 0), eperm)
	w.setPort(app)
	expect(t, "a takes it over", a.registers(app, 1, app, 5), eperm)
	expect(t, "a takes all over", a.registers(app, 1, abi.CageMatchAll, 5), eperm)
	expect(t, "a takes another call", a.registers(app, 2, app, 6), 0)
	expect(t, "a's other call", a.calls(2), 6)
	expect(t, "a gives that up", a.registers(app, 2, abi.CageDeregister, 0), 0)
	expect(t, "a's other call then", a.calls(2), abi.ENOSYS.Result())
	expect(t, "a on its parent", a.registers(second, 1, app, 5), eperm)
	expect(t, "a puts a function of its parent's there", a.registers(app, 3, second, 5), eperm)
	expect(t, "a copies its parent's", a.copies(second, app), eperm)
	expect(t, "a stranger", stranger.registers(app, 1, 40, 5), eperm)
	expect(t, "a stranger takes it off", stranger.registers(app, 1, abi.CageDeregister, 0), eperm)
	expect(t, "a stranger copies", stranger.copies(app, 40), eperm)

	expect(t, "inner replaces it", inner.registers(app, 1, second, 22), 0)
	expect(t, "a's call", a.calls(1), 22)
	expect(t, "inner takes its own off", inner.registers(app, 1, abi.CageDeregister, 0), 0)
	expect(t, "a's call, as guarded as inner's", a.calls(1), 11)
	expect(t, "inner takes outer's off itself", inner.registers(second, 1, abi.CageDeregister, 0), eperm)
	expect(t, "inner copies a's onto itself", inner.copies(app, second), eperm)
	expect(t, "inner copies its own onto itself", inner.copies(second, second), 0)
	outer.kill()
	expect(t, "a's call without outer", a.calls(1), esrch)
	expect(t, "inner takes a's off, without outer", inner.registers(app, 1, abi.CageDeregister, 0), 0)
	expect(t, "a's call, as guarded as inner's", a.calls(1), esrch)
	expect(t, "a takes it off, without outer", a.registers(app, 1, abi.CageDeregister, 0), eperm)
	expect(t, "the host may", lind(w.RegisterHandler(bg, app, 1, abi.CageDeregister, 0)), 0)
	expect(t, "a's call", a.calls(1), 1)
}

// lind is 0 for no error, else 1.
func lind(err error) int64 {
	if err != nil {
		return 1
	}
	return 0
}

func TestTrace_HearsOfGrateCallsAlone(t *testing.T) {
	w := newWorld(t)
	var heard []threei.Traced
	cfg := w.config()
	cfg.Trace = func(c threei.Traced) { heard = append(heard, c) }
	w.Configure(cfg)
	a := w.cage(app)
	w.grate(policy)
	w.native(1, 1)
	w.register(app, 2, policy, 22)
	a.calls(1)
	a.calls(2)
	w.cages[policy].kill()
	a.calls(2)
	results := []int64{}
	for _, c := range heard {
		if c.Cage != app || c.Call != 2 || c.TID != 1 || c.Args == nil || c.Entry == 0 || c.Begin.IsZero() || c.Took < 0 {
			t.Errorf("traced %+v", c)
		}
		results = append(results, c.Result)
	}
	if !slices.Equal(results, []int64{22, esrch}) {
		t.Errorf("traced results %v", results)
	}
}

func TestSyscall_AllocatesNothing(t *testing.T) {
	if lockcheck.Enabled {
		t.Skip("the checks of locks allocate")
	}
	w := newWorld(t)
	a := w.cage(app)
	w.grate(policy)
	w.native(1, 1)
	w.register(app, 2, policy, 22)
	th, args := a.thread(), &threei.Args{}
	for _, call := range []abi.Call{1, 2, 3} {
		if n := testing.AllocsPerRun(100, func() { w.Syscall(th, call, args) }); n != 0 {
			t.Errorf("%v: %v allocations", call, n)
		}
	}
}
