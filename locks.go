package lindbridge

import "github.com/lindbridge/lindbridge/internal/lockcheck"

type runtimeLock struct{}

// Order is the place of Runtime.mu: a leaf.
func (runtimeLock) Order() lockcheck.Order { return lockcheck.Order{Name: "lindbridge Runtime.mu"} }

type timerLock struct{}

// Order is the place of Cage.timerMu: a leaf.
func (timerLock) Order() lockcheck.Order { return lockcheck.Order{Name: "lindbridge Cage.timerMu"} }
