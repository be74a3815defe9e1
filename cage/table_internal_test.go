package cage

import (
	"testing"

	"github.com/lindbridge/lindbridge/abi"
)

func TestAlloc_SkipsEachReservedIdAndNothingElse(t *testing.T) {
	table := New(Config{})
	id := firstID
	for _, reserved := range []abi.CageID{
		abi.CageDeregister, abi.CageMatchAll, abi.CageRawPOSIX, abi.CageWasmtime, abi.CageThreeI,
	} {
		for ; abi.CageID(id) < reserved-1; id++ {
			table.used.Add(id) // as if cages had them: making a million would take long
		}
		for ; abi.CageID(id) <= reserved+1; id++ {
			if abi.CageID(id).IsReserved() || table.used.Has(id) {
				continue
			}
			c, err := table.Alloc(abi.CageInit)
			if err != nil {
				t.Fatal(err)
			}
			if c.id != abi.CageID(id) {
				t.Fatalf("near %d: id %d, want %d", reserved, c.id, id)
			}
		}
	}
}
