package bridge_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

// faultsShim is where `make shim-faults` puts the shim with failure points.
const faultsShim = "../build/faults/liblindshim.so"

func TestSetFault_IsRefusedByAShimWithoutFaults(t *testing.T) {
	e := openShim(t, newHost(keepGoing))
	list, built := e.Faults()
	if built {
		t.Skip("the shim that the search finds was built with faults")
	}
	for _, name := range append(e.FaultNames(), "no-such-point", "*") {
		err := e.SetFault(name, "off")
		mustBe(t, err, bridge.ErrUnsupported)
		contains(t, err.Error(), "make shim-faults")
	}
	for _, f := range list {
		equal(t, f.Name+" fired", f.Fired, 0)
	}
	must(t, e.Close())
	mustBe(t, e.SetFault("compile", "fail"), bridge.ErrHandle)
}

func TestFaults_AreNamedInAnyShim(t *testing.T) {
	e := openShim(t, newHost(keepGoing))
	names := e.FaultNames()
	for _, want := range []string{"thread-new", "memory-new", "compile", "instantiate", "quiescent"} {
		if !slices.Contains(names, want) {
			t.Errorf("no failure point %q among %v", want, names)
		}
	}
	slices.Sort(names)
	equal(t, "different names", len(slices.Compact(names)), len(e.FaultNames()))
}

// openFaults opens the shim with failure points, all off.
func openFaults(t *testing.T, h *host, imports ...bridge.Import) *bridge.Engine {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(packageDir, faultsShim))
	must(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%v: build it with `make shim-faults`", err)
	}
	e := open(t, bridge.Config{Path: path, Handler: h, OnPanic: h.onPanic})
	t.Cleanup(func() {
		if err := e.SetFault("*", "off"); err != nil && !errors.Is(err, bridge.ErrHandle) {
			t.Error(err)
		}
	})
	must(t, e.Define(imports))
	return e
}

func TestSetFault_FailsWhatItNamesAndSaysWhatItCannot(t *testing.T) {
	e := openFaults(t, newHost(keepGoing))
	err := e.SetFault("no-such-point", "fail")
	mustBe(t, err, bridge.ErrInvalid)
	contains(t, err.Error(), e.FaultNames()...)
	mustBe(t, e.SetFault("compile", "explode"), bridge.ErrInvalid)
	mustBe(t, e.SetFault("quiescent", "fail"), bridge.ErrInvalid)
	mustBe(t, e.SetFault("quiescent", "sleep(2000ms)"), bridge.ErrInvalid)
	mustBe(t, e.SetFault("*", "fail"), bridge.ErrInvalid)

	fired := func(name string) uint64 {
		list, built := e.Faults()
		equal(t, "built", built, true)
		for _, f := range list {
			if f.Name == name {
				return f.Fired
			}
		}
		t.Fatalf("no failure point %q", name)
		return 0
	}
	before := fired("compile")
	must(t, e.SetFault("compile", "1*off->1*fail"))
	const wat = `(module (func (export "_start")))`
	loadWat(t, e, wat)
	_, err = e.Load([]byte(wat))
	mustBe(t, err, bridge.ErrModule)
	contains(t, err.Error(), "injected fault compile")
	loadWat(t, e, wat)
	equal(t, "fired", fired("compile")-before, 1)
	must(t, e.SetFault("compile", "fail"))
	must(t, e.SetFault("*", ""))
	loadWat(t, e, wat)
}
