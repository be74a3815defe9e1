package bridge

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// openHandle answers a handle of the shim, or ErrHandle if it is 0: the object was closed.
func openHandle(h *atomic.Uint64, what, closed string) (uint64, error) {
	if v := h.Load(); v != 0 {
		return v, nil
	}
	return 0, fmt.Errorf("%s: %w: %s", what, ErrHandle, closed)
}

// closeHandle deletes a handle of the shim and sets it to 0. A handle that the shim no longer knows is no error:
// another goroutine, or the closing of what it belonged to, was first. After any other error the object stays open.
func closeHandle(h *atomic.Uint64, del func(uint64) error, what string) error {
	v := h.Load()
	if v == 0 {
		return nil
	}
	if err := del(v); err != nil && !errors.Is(err, ErrHandle) {
		return fmt.Errorf("%s: %w", what, err)
	}
	h.Store(0)
	return nil
}
