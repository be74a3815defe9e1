package threei

import (
	"sync/atomic"
	"unsafe"

	"github.com/lindbridge/lindbridge/abi"
)

// This file has the form of the handler table in memory, which the shim reads: see the package's documentation.

// maxCages is one more than the largest cage id that can have handlers.
const maxCages = 1 << 20

// directory holds for each cage id the address of the cage's row, or 0 for a cage without one.
type directory [maxCages]atomic.Uint64

// half is one of the two tables of a row: what serves each call.
type half [abi.MaxCall]atomic.Uint64

// row is the handlers of one cage. The half that counts is halves[version&1].
type row struct {
	version atomic.Uint64
	_       [56]byte
	halves  [2]half
}

const (
	directorySize = unsafe.Sizeof(directory{})
	rowSize       = unsafe.Sizeof(row{})
)

// directoryAt is the directory at a host address.
//
// Preconditions:
// addr is that of a mapping of directorySize bytes that is not unmapped while the directory is used.
func directoryAt(addr uintptr) *directory { return *(**directory)(unsafe.Pointer(&addr)) }

// rowAt is the row at a host address.
//
// Preconditions:
// addr is a multiple of 64 in a mapping that holds the whole row and is not unmapped while the row is used.
func rowAt(addr uintptr) *row { return *(**row)(unsafe.Pointer(&addr)) }

// addr is the host address of the directory's word for a cage.
func (d *directory) addr(id abi.CageID) uintptr { return uintptr(unsafe.Pointer(&d[id])) }
