//go:build !shimdebug

package bridge

import "github.com/lindbridge/lindbridge/internal/lockcheck"

// crossing runs at each crossing of the C boundary, in either direction: nobody holds a lock there. See also the build tag
// shimdebug.
func crossing() { lockcheck.NoneHeld("the shim, or a callback of it,") }
