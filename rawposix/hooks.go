package rawposix

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// Hooks are the calls that end or start threads and cages, which this package cannot carry out itself. The runtime
// supplies one value for each cage.
//
// Every method is called on the thread that made the system call, with no lock held. None may wait for that thread, or
// for its cage, to end: the thread leaves its guest only after the call has returned.
//
// What a call acts on is the cage that the value belongs to, and not always t's own: a grate makes calls for the cages that
// it serves (t.Acting is the former, t.Cage the latter).
type Hooks interface {
	// ExitGroup begins the exit of the cage with status, the whole word that the guest gave. See exit_group(2).
	ExitGroup(t *threei.Thread, status int32)
	// ExitThread ends t alone, a thread of the cage, with status. The cage ends with its last thread. See _exit(2), the
	// raw system call. t is the caller, or a thread that the caller serves and that goes on when the caller is done.
	ExitThread(t *threei.Thread, status int32)
	// SpawnThread starts a thread in the cage and answers its id, which is positive; startArg is the word that the
	// guest's thread entry gets. It is abi.EAGAIN if a limit on threads is reached or the cage is stopping.
	SpawnThread(t *threei.Thread, startArg uint32) (tid int32, errno abi.Errno)
	// Signal sends sig, from 0 to 64, to target, or only asks whether that may be done if sig is 0. See kill(2).
	Signal(t *threei.Thread, target abi.CageID, sig int32) abi.Errno
}
