//go:build !invariants

package lockcheck_test

import (
	"reflect"
	"sync"
	"testing"

	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

type class struct{}

func (class) Order() lockcheck.Order { panic("a build that does not check asks for no order") }

// Without the tag nothing is checked, and nothing is paid: a Mutex is a sync.Mutex.
func TestMutex_IsNothingMoreWithoutTheTag(t *testing.T) {
	var a, b lockcheck.Mutex[class]
	plain, checked := reflect.TypeFor[sync.Mutex](), reflect.TypeFor[lockcheck.Mutex[class]]()
	if checked.Size() != plain.Size() || checked.NumField() != 1 || checked.Field(0).Type != plain {
		t.Errorf("%v has %d bytes, %v %d", checked, checked.Size(), plain, plain.Size())
	}
	n := testing.AllocsPerRun(100, func() {
		a.LockKeyed(2)
		b.LockKeyed(1)
		lockcheck.NoneHeld("a step")
		b.Unlock()
		b.AssertHeld()
		a.Unlock()
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
