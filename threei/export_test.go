package threei

import "github.com/lindbridge/lindbridge/abi"

// Lookup is the word of the handler table that says what serves the call of the cage, as Syscall finds it.
func (s *System) Lookup(id abi.CageID, call abi.Call) uint64 { return uint64(s.table.lookup(id, call)) }

// Uses is how many threads of others use the cage now.
func (s *System) Uses(id abi.CageID) int64 {
	if c := s.cages.Load(uint64(id)); c != nil {
		return c.use.inUse()
	}
	return 0
}

// EntryGone is the word of a handler whose grate is gone.
const EntryGone = uint64(entryGone)
