package rawposix

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// getpid is getpid(2): the cage's id.
func getpid(t *threei.Thread, _ *threei.Args) int64 { return int64(of(t).cage) }

// getppid is getppid(2): the id of the cage's parent.
func getppid(t *threei.Thread, _ *threei.Args) int64 { return int64(of(t).parent.Load()) }

// gettid is gettid(2): the thread's id within its cage. Unlike in Linux the first thread's is 1, not the cage's. A grate
// that asks for the cage that it serves gets the thread that it serves.
func gettid(t *threei.Thread, _ *threei.Args) int64 {
	subject := t.Subject()
	if subject == nil {
		return abi.ESRCH.Result()
	}
	return int64(subject.TID)
}

func getuid(t *threei.Thread, _ *threei.Args) int64 { return int64(of(t).ids[0]) }

func geteuid(t *threei.Thread, _ *threei.Args) int64 { return int64(of(t).ids[1]) }

func getgid(t *threei.Thread, _ *threei.Args) int64 { return int64(of(t).ids[2]) }

func getegid(t *threei.Thread, _ *threei.Args) int64 { return int64(of(t).ids[3]) }

// exit is _exit(2), the raw system call: the end of one thread. It answers 0; the thread must not return to its guest. A
// grate that passes it on ends the thread that it serves; of another cage it can end none.
func exit(t *threei.Thread, a *threei.Args) int64 {
	subject := t.Subject()
	if subject == nil {
		return abi.ESRCH.Result()
	}
	of(t).hooks.ExitThread(subject, int32(a.Val[0]))
	return 0
}

// exitGroup is exit_group(2): the end of the cage. It answers 0; the thread must not return to its guest.
func exitGroup(t *threei.Thread, a *threei.Args) int64 {
	of(t).hooks.ExitGroup(t, int32(a.Val[0]))
	return 0
}

// The flags of clone(2) that make a thread: all of threadFlags are needed, those of threadExtras are what C libraries
// add.
const (
	cloneVM           = 0x100
	cloneFS           = 0x200
	cloneFiles        = 0x400
	cloneSighand      = 0x800
	cloneThread       = 0x10000
	cloneSysvsem      = 0x40000
	cloneDetached     = 0x400000
	threadFlags       = cloneVM | cloneFS | cloneFiles | cloneSighand | cloneThread
	threadExtras      = cloneSysvsem | cloneDetached
	maxCloneStartWord = 1<<32 - 1
)

// clone is clone(2) for a thread: flags, and in the place of the stack's address the 32-bit word that the guest's thread
// entry gets, since a guest's threads find their stacks themselves. It answers the new thread's id. Flags that
// do not make a thread are abi.ENOSYS; what this thread could not do, such as setting thread-local storage, is abi.EINVAL.
func clone(t *threei.Thread, a *threei.Args) int64 {
	flags := a.Val[0]
	switch {
	case flags&threadFlags != threadFlags:
		return abi.ENOSYS.Result()
	case flags&^(threadFlags|threadExtras) != 0, a.Val[1] > maxCloneStartWord:
		return abi.EINVAL.Result()
	}
	tid, e := of(t).hooks.SpawnThread(t, uint32(a.Val[1]))
	return result(int(tid), e)
}

// maxSignal is the largest signal number of Linux.
const maxSignal = 64

// kill is kill(2): pid, signal. Pid 0, the caller's process group, is the cage itself; groups of other cages do not
// exist (abi.ESRCH), and "every process" is nobody's to signal (abi.EPERM).
func kill(t *threei.Thread, a *threei.Args) int64 {
	p, pid, sig := of(t), int32(a.Val[0]), int32(a.Val[1])
	target := abi.CageID(pid)
	switch {
	case sig < 0 || sig > maxSignal:
		return abi.EINVAL.Result()
	case pid == -1:
		return abi.EPERM.Result()
	case pid < 0:
		return abi.ESRCH.Result()
	case pid == 0:
		target = p.cage
	}
	return p.hooks.Signal(t, target, sig).Result()
}

// tgkill is tgkill(2): pid, tid, signal. What a signal does, it does to the whole cage, so that only the caller's own
// thread id is looked at no further than that it can be one.
func tgkill(t *threei.Thread, a *threei.Args) int64 {
	p, pid, tid, sig := of(t), int32(a.Val[0]), int32(a.Val[1]), int32(a.Val[2])
	if pid <= 0 || tid <= 0 || sig < 0 || sig > maxSignal {
		return abi.EINVAL.Result()
	}
	return p.hooks.Signal(t, abi.CageID(pid), sig).Result()
}
