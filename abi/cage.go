package abi

// CageID names one cage of a runtime. Ids are low and are reused, though only after the cage was reaped.
type CageID uint64

// Ids that never name a cage which a program runs in.
const (
	// CageInit is the parent of every cage that the host spawns, and the one that inherits orphans.
	CageInit CageID = 1
	// CageDeregister and CageMatchAll are flags that stand in a grate's place in register_handler.
	CageDeregister CageID = 500
	CageMatchAll   CageID = 501
	// CageRawPOSIX, CageWasmtime and CageThreeI are the pseudo targets of 3i. As the owner of a pointer
	// argument, CageRawPOSIX says that it points into memory of the runtime and not of a guest: only the runtime's
	// own translation layers may say so, never a guest.
	CageRawPOSIX CageID = 777777
	CageWasmtime CageID = 888888
	CageThreeI   CageID = 999999
)

// IsPseudo reports whether id is a pseudo target of 3i: a call that names it acts on its caller's own cage.
func (id CageID) IsPseudo() bool {
	switch id {
	case CageRawPOSIX, CageWasmtime, CageThreeI:
		return true
	}
	return false
}

// IsReserved reports whether id is a flag or a pseudo target, which is never given to a cage.
func (id CageID) IsReserved() bool {
	switch id {
	case 0, CageInit, CageDeregister, CageMatchAll, CageRawPOSIX, CageWasmtime, CageThreeI:
		return true
	}
	return false
}
