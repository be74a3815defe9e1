package rawposix

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// Event is something that happens once and that guest threads may wait for. Its methods are safe for concurrent use.
type Event struct{ fd int }

// NewEvent is an event that has not happened. The owner closes it.
func NewEvent() (*Event, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &Event{fd: fd}, nil
}

// Set makes it happen.
func (e *Event) Set() {
	_, _ = unix.Write(e.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // a count of 1 always has room
}

// Wait blocks until it has happened. It is abi.EINTR if the thread's domain stops first, or if the host call is parked.
//
// Preconditions:
// The host call has had no effect yet.
func (e *Event) Wait(t *threei.Thread) abi.Errno {
	r, errno := ready(e.fd, unix.POLLIN)
	if errno == 0 && r == 0 {
		_, errno = waitOrPark(t, e.fd, unix.POLLIN, time.Time{})
	}
	return errno
}

// Close gives it back.
//
// Preconditions:
// Nobody waits for it, nor will.
func (e *Event) Close() error { return unix.Close(e.fd) }
