package threei

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// token is the cancel token of a call of the host: it fires when the call's context is done. It has a descriptor only if
// the call comes to wait.
type token struct {
	ctx context.Context // immutable

	mu   lockcheck.Mutex[tokenLock]
	fd   int         // -1: none; guarded by mu
	stop func() bool // ends the wait for ctx; guarded by mu
	over bool        // close was called; guarded by mu
}

func newToken(ctx context.Context) *token { return &token{ctx: ctx, fd: -1} }

// Stopping reports whether the context is done.
func (t *token) Stopping() bool { return t.ctx.Err() != nil }

// CancelFD is readable when the context is done.
func (t *token) CancelFD() (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd >= 0 {
		return t.fd, nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	t.fd = fd
	t.stop = context.AfterFunc(t.ctx, t.fire)
	return fd, nil
}

// fire makes the descriptor readable. It may come when the call is over.
func (t *token) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		one := [8]byte{1}
		_, _ = unix.Write(t.fd, one[:]) // an eventfd takes a first 1 without fail
	}
}

// close ends the token.
func (t *token) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.fd >= 0 {
		t.stop()
		_ = unix.Close(t.fd)
		t.fd = -1
	}
}
