package threei

import (
	"fmt"

	"github.com/lindbridge/lindbridge/abi"
)

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

// CheckIndex compares the rows of all cages with the reverse index.
func (s *System) CheckIndex() error {
	for _, c := range s.cages.All() {
		if err := c.checkIndex(); err != nil {
			return fmt.Errorf("cage %d: %w", c.id, err)
		}
	}
	return nil
}

func (c *cage) checkIndex() error {
	c.rowMu.Lock()
	defer c.rowMu.Unlock()
	if c.row == 0 {
		if len(c.pairs) != 0 {
			return fmt.Errorf("%d pairs without a row", len(c.pairs))
		}
		return nil
	}
	served := map[abi.Call]uint64{}
	for _, p := range c.pairs {
		n := 0
		p.each(func(call abi.Call) { served[call] = p.port; n++ })
		p.grate.grateMu.Lock()
		listed := p.grate.retired || p.grate.serves[p.at] == p
		p.grate.grateMu.Unlock()
		if n != p.n || p.gone || p.cage != c || !listed {
			return fmt.Errorf("pair with port %#x: %d calls, counted %d, gone %v, listed %v", p.port, n, p.n, p.gone, listed)
		}
	}
	for call := range abi.MaxCall {
		e := rowAt(c.row).at(call)
		if port, ok := served[call]; ok != e.isGrate() || ok && port != e.port() {
			return fmt.Errorf("%v is served by %#x, the index says %#x", call, uint64(e), port)
		}
	}
	return nil
}
