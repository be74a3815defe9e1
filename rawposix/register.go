package rawposix

import (
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// Register makes this package serve its calls in sys.
//
// Preconditions:
// No cage of sys runs yet. Each of its threads will have a *Process in Native.
func Register(sys *threei.System) {
	for _, c := range &calls {
		sys.SetNative(c.number, c.serve)
	}
}

// calls is every call that this package carries out. Immutable.
var calls = [...]struct {
	number abi.Call
	serve  threei.Native
}{
	{abi.CallRead, read},
	{abi.CallWrite, write},
	{abi.CallPread64, pread64},
	{abi.CallPwrite64, pwrite64},
	{abi.CallReadv, readv},
	{abi.CallWritev, writev},
	{abi.CallPreadv, preadv},
	{abi.CallPwritev, pwritev},

	{abi.CallClose, closeFD},
	{abi.CallLseek, lseek},
	{abi.CallFtruncate, ftruncate},
	{abi.CallFallocate, fallocate},
	{abi.CallFadvise64, fadvise64},
	{abi.CallFsync, fsync},
	{abi.CallFdatasync, fdatasync},
	{abi.CallGetdents64, getdents64},
	{abi.CallIoctl, ioctl},
	{abi.CallDup, dup},
	{abi.CallDup2, dup2},
	{abi.CallDup3, dup3},
	{abi.CallFcntl, fcntl},
	{abi.CallFstat, fstat},

	{abi.CallOpenat, openat},
	{abi.CallNewfstatat, newfstatat},
	{abi.CallUtimensat, utimensat},
	{abi.CallMkdirat, mkdirat},
	{abi.CallUnlinkat, unlinkat},
	{abi.CallRenameat, renameat},
	{abi.CallRenameat2, renameat2},
	{abi.CallLinkat, linkat},
	{abi.CallSymlinkat, symlinkat},
	{abi.CallReadlinkat, readlinkat},

	{abi.CallPoll, poll},
	{abi.CallPpoll, ppollCall},
	{abi.CallSelect, selectCall},
	{abi.CallPselect6, pselect6},
	{abi.CallEpollCreate, epollCreate},
	{abi.CallEpollCreate1, epollCreate1},
	{abi.CallEpollCtl, epollCtl},
	{abi.CallEpollWait, epollWait},
	{abi.CallEpollPwait, epollPwait},
	{abi.CallEpollPwait2, epollPwait2},
	{abi.CallPipe, pipe},
	{abi.CallPipe2, pipe2},

	{abi.CallSocket, socket},
	{abi.CallBind, bind},
	{abi.CallListen, listen},
	{abi.CallConnect, connect},
	{abi.CallGetsockname, getsockname},
	{abi.CallGetpeername, getpeername},
	{abi.CallSetsockopt, setsockopt},
	{abi.CallSocketpair, socketpair},
	{abi.CallAccept, accept},
	{abi.CallAccept4, accept4},
	{abi.CallRecvfrom, recvfrom},
	{abi.CallRecvmsg, recvmsg},
	{abi.CallSendto, sendto},
	{abi.CallSendmsg, sendmsg},
	{abi.CallShutdown, shutdown},
	{abi.CallGetsockopt, getsockopt},

	{abi.CallSchedYield, schedYield},
	{abi.CallNanosleep, nanosleep},
	{abi.CallClockGettime, clockGettime},
	{abi.CallClockGetres, clockGetres},
	{abi.CallClockNanosleep, clockNanosleep},
	{abi.CallGetrandom, getrandom},

	{abi.CallGetrlimit, getrlimit},
	{abi.CallSetrlimit, setrlimit},
	{abi.CallPrlimit64, prlimit64},

	{abi.CallGetpid, getpid},
	{abi.CallGetppid, getppid},
	{abi.CallGettid, gettid},
	{abi.CallGetuid, getuid},
	{abi.CallGeteuid, geteuid},
	{abi.CallGetgid, getgid},
	{abi.CallGetegid, getegid},

	{abi.CallClone, clone},
	{abi.CallExit, exit},
	{abi.CallExitGroup, exitGroup},
	{abi.CallKill, kill},
	{abi.CallTgkill, tgkill},
}
