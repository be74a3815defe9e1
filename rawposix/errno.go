package rawposix

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
)

// errnoOf is the error number of an error of package unix, 0 for none. An error that carries no number is abi.EIO.
//
// The numbers are the same on every architecture that lindbridge builds for.
func errnoOf(err error) abi.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok { //nolint:errorlint // the usual case; wrapped ones are looked for below
		return abi.Errno(e)
	}
	if e := unix.Errno(0); errors.As(err, &e) {
		return abi.Errno(e)
	}
	if e := abi.Errno(0); errors.As(err, &e) {
		return e
	}
	return abi.EIO
}

// newFDErrno is e as a call answers it that needed a new host descriptor. The host's limit for this process says
// nothing about the cage's table, so that EMFILE would mislead: what is full is shared by all cages.
func newFDErrno(e abi.Errno) abi.Errno {
	if e == abi.EMFILE {
		return abi.ENFILE
	}
	return e
}

// result is a count, or the negative of an errno.
func result(n int, e abi.Errno) int64 {
	if e != 0 {
		return e.Result()
	}
	return int64(n)
}
