package abi

import "strconv"

// Call is the number of a system call: Linux x86-64's, and from 1001 on those of 3i itself.
type Call uint32

// MaxCall is one more than the largest call number that a handler can be registered for.
const MaxCall Call = 1024

// The calls that some part of the project names. See the man page of the same name in section 2.
const (
	CallRead                   Call = 0
	CallWrite                  Call = 1
	CallOpen                   Call = 2
	CallClose                  Call = 3
	CallStat                   Call = 4
	CallFstat                  Call = 5
	CallLstat                  Call = 6
	CallPoll                   Call = 7
	CallLseek                  Call = 8
	CallMmap                   Call = 9
	CallMprotect               Call = 10
	CallMunmap                 Call = 11
	CallBrk                    Call = 12
	CallRtSigaction            Call = 13
	CallRtSigprocmask          Call = 14
	CallIoctl                  Call = 16
	CallPread64                Call = 17
	CallPwrite64               Call = 18
	CallReadv                  Call = 19
	CallWritev                 Call = 20
	CallAccess                 Call = 21
	CallPipe                   Call = 22
	CallSelect                 Call = 23
	CallSchedYield             Call = 24
	CallDup                    Call = 32
	CallDup2                   Call = 33
	CallNanosleep              Call = 35
	CallGetpid                 Call = 39
	CallSocket                 Call = 41
	CallConnect                Call = 42
	CallAccept                 Call = 43
	CallSendto                 Call = 44
	CallRecvfrom               Call = 45
	CallSendmsg                Call = 46
	CallRecvmsg                Call = 47
	CallShutdown               Call = 48
	CallBind                   Call = 49
	CallListen                 Call = 50
	CallGetsockname            Call = 51
	CallGetpeername            Call = 52
	CallSocketpair             Call = 53
	CallSetsockopt             Call = 54
	CallGetsockopt             Call = 55
	CallClone                  Call = 56
	CallFork                   Call = 57
	CallExecve                 Call = 59
	CallExit                   Call = 60
	CallWait4                  Call = 61
	CallKill                   Call = 62
	CallFcntl                  Call = 72
	CallFsync                  Call = 74
	CallFdatasync              Call = 75
	CallTruncate               Call = 76
	CallFtruncate              Call = 77
	CallGetcwd                 Call = 79
	CallChdir                  Call = 80
	CallRename                 Call = 82
	CallMkdir                  Call = 83
	CallRmdir                  Call = 84
	CallLink                   Call = 86
	CallUnlink                 Call = 87
	CallSymlink                Call = 88
	CallReadlink               Call = 89
	CallGetrlimit              Call = 97
	CallGetuid                 Call = 102
	CallGetgid                 Call = 104
	CallGeteuid                Call = 107
	CallGetegid                Call = 108
	CallGetppid                Call = 110
	CallSetrlimit              Call = 160
	CallGettid                 Call = 186
	CallFutex                  Call = 202
	CallGetdents64             Call = 217
	CallFadvise64              Call = 221
	CallEpollCreate            Call = 213
	CallClockGettime           Call = 228
	CallClockGetres            Call = 229
	CallClockNanosleep         Call = 230
	CallExitGroup              Call = 231
	CallEpollWait              Call = 232
	CallEpollCtl               Call = 233
	CallTgkill                 Call = 234
	CallOpenat                 Call = 257
	CallMkdirat                Call = 258
	CallNewfstatat             Call = 262
	CallUnlinkat               Call = 263
	CallRenameat               Call = 264
	CallLinkat                 Call = 265
	CallSymlinkat              Call = 266
	CallReadlinkat             Call = 267
	CallPselect6               Call = 270
	CallPpoll                  Call = 271
	CallUtimensat              Call = 280
	CallEpollPwait             Call = 281
	CallFallocate              Call = 285
	CallAccept4                Call = 288
	CallEpollCreate1           Call = 291
	CallDup3                   Call = 292
	CallPipe2                  Call = 293
	CallPreadv                 Call = 295
	CallPwritev                Call = 296
	CallPrlimit64              Call = 302
	CallRenameat2              Call = 316
	CallGetrandom              Call = 318
	CallEpollPwait2            Call = 441
	CallRegisterHandler        Call = 1001
	CallCopyDataBetweenCages   Call = 1002
	CallCopyHandlerTableToCage Call = 1003
	// CallGrateServe is lindbridge's own: a grate has registered what it serves, and waits until the cage that was
	// stacked on it has ended.
	CallGrateServe Call = 1004
	// CallHarshCageExit tells a grate that a cage is ending: cage id, wait status. Lind gives it no number, so that this
	// one is lindbridge's own.
	CallHarshCageExit Call = 1005
	// CallGrateFDOpen opens a file that the calling grate serves in the cage that the call acts on: the grate's number of it,
	// the lowest descriptor to use, the events of poll(2) that it is ready for, O_CLOEXEC or 0. It answers the descriptor.
	// This one and the next three are lindbridge's own: Lind's grates each keep a table of descriptors themselves.
	CallGrateFDOpen Call = 1006
	// CallGrateFDNumber is the calling grate's number of an open file: descriptor, where to put 8 bytes.
	CallGrateFDNumber Call = 1007
	// CallGrateFDReady says what an open file of the calling grate's is ready for: number, events of poll(2).
	CallGrateFDReady Call = 1008
	// CallGrateFDOnClose names the function of the calling grate that is called with the number of each of its files that is
	// closed for good.
	CallGrateFDOnClose Call = 1009
)

var callNames = [...]string{
	CallRead:                   "read",
	CallWrite:                  "write",
	CallOpen:                   "open",
	CallClose:                  "close",
	CallStat:                   "stat",
	CallFstat:                  "fstat",
	CallLstat:                  "lstat",
	CallPoll:                   "poll",
	CallLseek:                  "lseek",
	CallMmap:                   "mmap",
	CallMprotect:               "mprotect",
	CallMunmap:                 "munmap",
	CallBrk:                    "brk",
	CallRtSigaction:            "rt_sigaction",
	CallRtSigprocmask:          "rt_sigprocmask",
	CallIoctl:                  "ioctl",
	CallPread64:                "pread64",
	CallPwrite64:               "pwrite64",
	CallReadv:                  "readv",
	CallWritev:                 "writev",
	CallAccess:                 "access",
	CallPipe:                   "pipe",
	CallSelect:                 "select",
	CallSchedYield:             "sched_yield",
	CallDup:                    "dup",
	CallDup2:                   "dup2",
	CallNanosleep:              "nanosleep",
	CallGetpid:                 "getpid",
	CallSocket:                 "socket",
	CallConnect:                "connect",
	CallAccept:                 "accept",
	CallSendto:                 "sendto",
	CallRecvfrom:               "recvfrom",
	CallSendmsg:                "sendmsg",
	CallRecvmsg:                "recvmsg",
	CallShutdown:               "shutdown",
	CallBind:                   "bind",
	CallListen:                 "listen",
	CallGetsockname:            "getsockname",
	CallGetpeername:            "getpeername",
	CallSocketpair:             "socketpair",
	CallSetsockopt:             "setsockopt",
	CallGetsockopt:             "getsockopt",
	CallClone:                  "clone",
	CallFork:                   "fork",
	CallExecve:                 "execve",
	CallExit:                   "exit",
	CallWait4:                  "wait4",
	CallKill:                   "kill",
	CallFcntl:                  "fcntl",
	CallFsync:                  "fsync",
	CallFdatasync:              "fdatasync",
	CallTruncate:               "truncate",
	CallFtruncate:              "ftruncate",
	CallGetcwd:                 "getcwd",
	CallChdir:                  "chdir",
	CallRename:                 "rename",
	CallMkdir:                  "mkdir",
	CallRmdir:                  "rmdir",
	CallLink:                   "link",
	CallUnlink:                 "unlink",
	CallSymlink:                "symlink",
	CallReadlink:               "readlink",
	CallGetrlimit:              "getrlimit",
	CallGetuid:                 "getuid",
	CallGetgid:                 "getgid",
	CallGeteuid:                "geteuid",
	CallGetegid:                "getegid",
	CallGetppid:                "getppid",
	CallSetrlimit:              "setrlimit",
	CallGettid:                 "gettid",
	CallFutex:                  "futex",
	CallGetdents64:             "getdents64",
	CallFadvise64:              "fadvise64",
	CallEpollCreate:            "epoll_create",
	CallClockGettime:           "clock_gettime",
	CallClockGetres:            "clock_getres",
	CallClockNanosleep:         "clock_nanosleep",
	CallExitGroup:              "exit_group",
	CallEpollWait:              "epoll_wait",
	CallEpollCtl:               "epoll_ctl",
	CallTgkill:                 "tgkill",
	CallOpenat:                 "openat",
	CallMkdirat:                "mkdirat",
	CallNewfstatat:             "newfstatat",
	CallUnlinkat:               "unlinkat",
	CallRenameat:               "renameat",
	CallLinkat:                 "linkat",
	CallSymlinkat:              "symlinkat",
	CallReadlinkat:             "readlinkat",
	CallPselect6:               "pselect6",
	CallPpoll:                  "ppoll",
	CallUtimensat:              "utimensat",
	CallEpollPwait:             "epoll_pwait",
	CallFallocate:              "fallocate",
	CallAccept4:                "accept4",
	CallEpollCreate1:           "epoll_create1",
	CallDup3:                   "dup3",
	CallPipe2:                  "pipe2",
	CallPreadv:                 "preadv",
	CallPwritev:                "pwritev",
	CallPrlimit64:              "prlimit64",
	CallRenameat2:              "renameat2",
	CallGetrandom:              "getrandom",
	CallEpollPwait2:            "epoll_pwait2",
	CallRegisterHandler:        "register_handler",
	CallCopyDataBetweenCages:   "copy_data_between_cages",
	CallCopyHandlerTableToCage: "copy_handler_table_to_cage",
	CallGrateServe:             "grate_serve",
	CallHarshCageExit:          "harsh_cage_exit",
	CallGrateFDOpen:            "grate_fd_open",
	CallGrateFDNumber:          "grate_fd_number",
	CallGrateFDReady:           "grate_fd_ready",
	CallGrateFDOnClose:         "grate_fd_on_close",
}

// String is the call's name as Linux has it, or "call N" for a number without one.
func (c Call) String() string {
	if int(c) < len(callNames) && callNames[c] != "" {
		return callNames[c]
	}
	return "call " + strconv.FormatUint(uint64(c), 10)
}
