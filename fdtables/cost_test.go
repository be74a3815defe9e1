package fdtables_test

import (
	"reflect"
	"runtime"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

func TestCost_Allocations(t *testing.T) {
	ts := fdtables.New(fdtables.Config{MaxOpen: 1 << 20})
	record := fdtables.Handlers{Last: func(fdtables.Entry, uint64) error { return nil }}
	ts.RegisterCloseHandlers(pipeKind, record)
	tab := newTable(t, ts, 2)
	for fd := range fdtables.FD(600) {
		open(t, tab, uint64(fd), fd)
	}
	full := newTable(t, ts, 3)
	full.SetLimit(0)
	one := newTable(t, fdtables.New(fdtables.Config{MaxOpen: 1}), 2)
	open(t, one, 1, 0)
	next := fdtables.FD(10)
	for _, c := range []struct {
		name string
		most float64
		call func()
	}{
		{"Translate", 0, func() { tab.Translate(5) }},
		{"Translate of a closed fd", 0, func() { tab.Translate(900) }},
		{"Acquire and Release", 0, func() { r, _ := tab.Acquire(5); r.Release() }},
		{"Table", 0, func() { _, _ = ts.Table(2) }},
		{"Close", 0, func() { _ = tab.Close(next); next++ }},
		{"Close of a closed fd", 0, func() { _ = tab.Close(900) }},
		{"Open and Close", 0, func() { fd, _ := tab.Open(pipeKind, 7777, false, 0); _ = tab.Close(fd) }},
		{"Open at the limit", 0, func() { _, _ = full.Open(pipeKind, 7777, false, 0) }},
		{"Open at the limit of all, four times", 0, func() {
			for range 4 {
				_, _ = one.Open(pipeKind, 7777, false, 0)
			}
		}},
		{"Open of an open underfd", 1, func() { fd, _ := tab.Open(pipeKind, 5, true, 0); _ = tab.Close(fd) }},
		{"Dup", 0, func() { fd, _ := tab.Dup(5); _ = tab.Close(fd) }},
		{"Dup with another flag", 1, func() { fd, _ := tab.DupFrom(5, 0, true); _ = tab.Close(fd) }},
		{"Dup2", 0, func() { _ = tab.Dup2(5, 6, false) }},
		{"SetCloseOnExec to what it is", 0, func() { tab.SetCloseOnExec(5, false) }},
		{"CloseOnExecAll of none", 0, func() { tab.CloseOnExecAll() }},
	} {
		if got := testing.AllocsPerRun(100, c.call); got > c.most {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.most)
		}
	}
}

func TestCost_AnEmptyTableIsSmall(t *testing.T) {
	if size := reflect.TypeFor[fdtables.Table]().Size(); size > 256 {
		t.Errorf("a Table is %d bytes", size)
	}
	ts := fdtables.New(fdtables.Config{})
	const n = 8192
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range abi.CageID(n) {
		newTable(t, ts, i)
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / n; each > 256 {
		t.Errorf("an empty cage's table costs %d bytes", each)
	}
	runtime.KeepAlive(ts)
}
