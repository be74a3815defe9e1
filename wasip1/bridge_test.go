package wasip1_test

import (
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/wasip1"
)

// A bridge call is passed on as it is.
var _ wasip1.Args = (*bridge.Call)(nil)

func TestVerdictsAndImports_AreTheBridges(t *testing.T) {
	for w, b := range map[wasip1.Verdict]bridge.Verdict{
		wasip1.Continue: bridge.Continue, wasip1.QuitThread: bridge.QuitThread, wasip1.TrapThread: bridge.TrapThread,
	} {
		if int32(w) != int32(b) {
			t.Errorf("verdict %d is %d in the bridge", w, b)
		}
	}
	for _, f := range wasip1.Imports() {
		if got := bridge.Import(f); got.Name != f.Name || got.ID != f.ID {
			t.Errorf("%s: %+v", f.Name, got)
		}
	}
}
