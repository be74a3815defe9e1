package threei

import "github.com/lindbridge/lindbridge/internal/lockcheck"

// This file holds the order of the package's locks:
//
//	cage.rowMu, of several cages in the order in which they came
//	  cage.grateMu
//	  table.mu
//	token.mu
//	late.mu
//
// The last two are under nothing and above nothing.

type rowLock struct{}

// Order is the place of cage.rowMu; its key is cage.seq.
func (rowLock) Order() lockcheck.Order {
	return lockcheck.Order{Name: "threei cage.rowMu", Keyed: true}
}

type grateLock struct{}

// Order is the place of cage.grateMu.
func (grateLock) Order() lockcheck.Order {
	return lockcheck.Order{Name: "threei cage.grateMu", After: []lockcheck.Class{rowLock{}}}
}

type tableLock struct{}

// Order is the place of table.mu.
func (tableLock) Order() lockcheck.Order {
	return lockcheck.Order{Name: "threei table.mu", After: []lockcheck.Class{rowLock{}}}
}

type tokenLock struct{}

// Order is the place of token.mu.
func (tokenLock) Order() lockcheck.Order { return lockcheck.Order{Name: "threei token.mu"} }

type lateLock struct{}

// Order is the place of late.mu.
func (lateLock) Order() lockcheck.Order { return lockcheck.Order{Name: "threei late.mu"} }
