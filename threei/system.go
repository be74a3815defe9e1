package threei

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/ids"
)

// Native serves one system call for the thread t. It answers the call's result, or a negative abi.Errno. It may block,
// as long as it returns soon after t.Cancel fires.
type Native func(t *Thread, a *Args) int64

// System is the 3i state of one runtime. Its methods are safe for concurrent use, save SetNative.
type System struct {
	native [abi.MaxCall]Native // immutable once the first cage runs
	exits  ids.Map[exitcoord.Exit]
}

// NewSystem is a system in which every call answers ENOSYS.
func NewSystem() *System { return &System{} }

// SetNative makes fn serve call wherever no grate does.
//
// Preconditions:
// call < abi.MaxCall.
// No cage of the runtime runs yet.
func (s *System) SetNative(call abi.Call, fn Native) { s.native[call] = fn }

// Syscall carries out one system call of the thread t and answers its result or a negative abi.Errno: -ENOSYS for a
// number that nobody serves. It blocks for as long as the call does.
func (s *System) Syscall(t *Thread, call abi.Call, a *Args) int64 {
	if call >= abi.MaxCall || s.native[call] == nil {
		return abi.ENOSYS.Result()
	}
	return s.native[call](t, a)
}
