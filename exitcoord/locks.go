package exitcoord

import "github.com/lindbridge/lindbridge/internal/lockcheck"

// exitLock is the class of Exit.mu, which has nothing but Watch.mu below it, and is under no other lock of the project.
type exitLock struct{}

// Order is the place of Exit.mu: see the package's documentation. Who calls Begin or Quiescent holds nothing, since Stop
// and the steps then run.
func (exitLock) Order() lockcheck.Order { return lockcheck.Order{Name: "exitcoord Exit.mu"} }

// watchLock is the class of Watch.mu.
type watchLock struct{}

// Order is the place of Watch.mu: below Exit.mu, and a leaf.
func (watchLock) Order() lockcheck.Order {
	return lockcheck.Order{Name: "exitcoord Watch.mu", After: []lockcheck.Class{exitLock{}}}
}
