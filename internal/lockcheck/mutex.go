//go:build !invariants

package lockcheck

import "sync"

// Enabled reports whether this build checks.
const Enabled = false

// Mutex is a mutual exclusion lock of a class. The zero value is unlocked. It must not be copied after its first use.
type Mutex[C Class] struct{ sync.Mutex }

// LockKeyed is Lock for a class of which a goroutine may take several: see Order.Keyed.
func (m *Mutex[C]) LockKeyed(uint64) { m.Lock() }

// AssertHeld says that the calling goroutine holds m.
func (m *Mutex[C]) AssertHeld() {}

// NoneHeld says that the calling goroutine holds no lock of any class, for it is about to call what.
func NoneHeld(string) {}
