//go:build invariants

package lockcheck

import (
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/petermattis/goid"
)

// Enabled reports whether this build checks.
const Enabled = true

// Mutex is a mutual exclusion lock of a class, each use of which is checked. The zero value is unlocked. It must not be
// copied after its first use.
type Mutex[C Class] struct {
	mu    sync.Mutex
	owner atomic.Uint64 // the goroutine that holds it, 0 for none
}

// Lock locks m.
func (m *Mutex[C]) Lock() { m.lock(false, 0) }

// LockKeyed is Lock for a class of which a goroutine may take several: see Order.Keyed.
func (m *Mutex[C]) LockKeyed(key uint64) { m.lock(true, key) }

func (m *Mutex[C]) lock(keyed bool, key uint64) {
	var class C
	me := goroutine()
	list := heldBy(me)
	taken := held{lock: m, class: class, keyed: keyed, key: key}
	for _, h := range list {
		if wrong := h.before(taken); wrong != "" {
			report("%s is taken while %s is held%s", class.Order().Name, h.class.Order().Name, wrong)
		}
	}
	m.mu.Lock()
	m.took(me, taken)
}

// TryLock locks m unless it is locked, and reports whether it has. As it cannot wait, no order is wrong for it.
func (m *Mutex[C]) TryLock() bool {
	if !m.mu.TryLock() {
		return false
	}
	var class C
	m.took(goroutine(), held{lock: m, class: class})
	return true
}

func (m *Mutex[C]) took(me uint64, h held) {
	m.owner.Store(me)
	holders.Store(me, append(heldBy(me), h))
}

// Unlock unlocks m.
func (m *Mutex[C]) Unlock() {
	var class C
	me := goroutine()
	if owner := m.owner.Load(); owner != me {
		report("%s is unlocked by goroutine %d, and held by %s", class.Order().Name, me, holder(owner))
	}
	list := heldBy(me)
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].lock == any(m) {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		holders.Delete(me)
	} else {
		holders.Store(me, list)
	}
	m.owner.Store(0)
	m.mu.Unlock()
}

// AssertHeld says that the calling goroutine holds m.
func (m *Mutex[C]) AssertHeld() {
	var class C
	if owner, me := m.owner.Load(), goroutine(); owner != me {
		report("%s has to be held here by goroutine %d, and is held by %s", class.Order().Name, me, holder(owner))
	}
}

// NoneHeld says that the calling goroutine holds no lock of any class, for it is about to call what.
func NoneHeld(what string) {
	if list := heldBy(goroutine()); len(list) > 0 {
		names := make([]string, len(list))
		for i, h := range list {
			names[i] = h.class.Order().Name
		}
		report("%s is called while %s is held", what, strings.Join(names, " and "))
	}
}

// Catch calls fn and answers what was found wrong while it ran, by any goroutine, instead of ending the process: for
// tests of the checks. One Catch runs at a time.
func Catch(fn func()) []string {
	catching.Lock()
	defer catching.Unlock()
	caught := new(findings)
	found.Store(caught)
	defer found.Store(nil)
	fn()
	caught.mu.Lock()
	defer caught.mu.Unlock()
	return caught.texts
}

// held is one lock that a goroutine holds.
type held struct {
	lock  any // a *Mutex
	class Class
	keyed bool
	key   uint64
}

// before says what is wrong with taking next while h is held, "" for nothing.
func (h held) before(next held) string {
	order := next.class.Order()
	if h.lock == next.lock {
		return ", and is the same: a deadlock"
	}
	if h.class == next.class {
		switch {
		case !order.Keyed:
			return ": one of the class at a time"
		case !h.keyed || !next.keyed:
			return ": several of the class need keys"
		case h.key >= next.key:
			return fmt.Sprintf(": key %d before key %d", h.key, next.key)
		}
		return ""
	}
	for _, c := range order.After {
		if c == h.class {
			return ""
		}
	}
	return ", which its order does not allow"
}

// holders has what each goroutine holds that holds anything: []held by uint64. Each list is used by its goroutine alone.
var holders sync.Map

func heldBy(goroutine uint64) []held {
	if list, ok := holders.Load(goroutine); ok {
		return list.([]held)
	}
	return nil
}

func holder(owner uint64) string {
	if owner == 0 {
		return "nobody"
	}
	return "goroutine " + strconv.FormatUint(owner, 10)
}

// goroutine is the number of the calling goroutine.
func goroutine() uint64 { return uint64(goid.Get()) }

// findings are what a Catch has caught.
type findings struct {
	mu    sync.Mutex
	texts []string // guarded by mu
}

var (
	catching sync.Mutex
	found    atomic.Pointer[findings] // that of the Catch that runs
)

// report hands a finding to the Catch that runs, or ends the process.
func report(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if f := found.Load(); f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.texts = append(f.texts, text)
		return
	}
	text = "lockcheck: " + text + "\n" + string(debug.Stack())
	// On a goroutine of its own, where nobody recovers. The caller does not go on.
	go panic(text)
	select {}
}
