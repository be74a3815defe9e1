package cage

import "github.com/lindbridge/lindbridge/internal/lockcheck"

// tableLock is the class of Table.mu.
type tableLock struct{}

// Order is the place of Table.mu: a leaf.
func (tableLock) Order() lockcheck.Order { return lockcheck.Order{Name: "cage Table.mu"} }
