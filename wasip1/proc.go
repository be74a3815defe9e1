package wasip1

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// procExit is proc_exit(code). The thread never goes back into the guest, whoever served exit_group: if a grate did not
// pass it on, the code is at least the thread's; and where the grate is gone, or failed, nothing can keep the cage.
func procExit(c call) (uint64, Verdict) {
	c.t.QuitStatus = int32(c.u32(0))
	if c.sys(abi.CallExitGroup, threei.Args{Val: [6]uint64{uint64(c.u32(0))}}) < 0 {
		c.w.sys.SyscallNative(c.t, abi.CallExitGroup, c.sysArgs)
	}
	return 0, QuitThread
}

// procRaise is proc_raise(signal): kill(getpid(), signal).
func procRaise(c call) Errno {
	// WASI's numbers are Linux's up to term (15); Linux has SIGSTKFLT then. none is reserved.
	signal := c.u32(0)
	if signal == 0 || signal > 30 {
		return ErrnoInval
	}
	if signal > 15 {
		signal++
	}
	pid := c.sys(abi.CallGetpid, threei.Args{})
	if pid < 0 {
		return errnoOf(pid)
	}
	return errnoOf(c.sys(abi.CallKill, threei.Args{Val: [6]uint64{uint64(pid), uint64(signal)}}))
}

// schedYield is sched_yield().
func schedYield(c call) Errno { return errnoOf(c.sys(abi.CallSchedYield, threei.Args{})) }

// CloneThread are the flags of the clone(2) call that thread-spawn becomes, as its first argument: those of a thread,
// CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD. The second argument is the guest's start_arg, an
// i32 that is no pointer to the host. The call answers the new thread's id.
const CloneThread = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000

// threadSpawn is thread-spawn(start_arg) -> tid, or the negative of an errno.
func threadSpawn(c call) (uint64, Verdict) {
	r := c.sys(abi.CallClone, threei.Args{Val: [6]uint64{CloneThread, uint64(c.u32(0))}})
	errno := errnoOf(r)
	if r == 0 || r > maxTID {
		errno = ErrnoIO // no thread id of wasi-threads
	}
	if errno != 0 {
		return uint64(uint32(-int32(errno))), Continue
	}
	return uint64(r), Continue
}
