// lind_abi.h: the numbers and structures of the Lind ABI. It declares nothing, so that logic of a grate can use it in tests
// that run on the host.
#ifndef LIND_ABI_H
#define LIND_ABI_H

#include <stdint.h>

// Call numbers: Linux x86-64's, and 3i's own. LIND_CALL_MAX is one more than the largest that can have a handler.
enum {
    LIND_SYS_READ = 0,
    LIND_SYS_WRITE = 1,
    LIND_SYS_OPEN = 2,
    LIND_SYS_CLOSE = 3,
    LIND_SYS_STAT = 4,
    LIND_SYS_FSTAT = 5,
    LIND_SYS_LSTAT = 6,
    LIND_SYS_POLL = 7,
    LIND_SYS_LSEEK = 8,
    LIND_SYS_IOCTL = 16,
    LIND_SYS_PREAD64 = 17,
    LIND_SYS_PWRITE64 = 18,
    LIND_SYS_READV = 19,
    LIND_SYS_WRITEV = 20,
    LIND_SYS_ACCESS = 21,
    LIND_SYS_PIPE = 22,
    LIND_SYS_SELECT = 23,
    LIND_SYS_SCHED_YIELD = 24,
    LIND_SYS_DUP = 32,
    LIND_SYS_DUP2 = 33,
    LIND_SYS_NANOSLEEP = 35,
    LIND_SYS_GETPID = 39,
    LIND_SYS_SOCKET = 41,
    LIND_SYS_CONNECT = 42,
    LIND_SYS_ACCEPT = 43,
    LIND_SYS_BIND = 49,
    LIND_SYS_LISTEN = 50,
    LIND_SYS_GETSOCKNAME = 51,
    LIND_SYS_SOCKETPAIR = 53,
    LIND_SYS_SETSOCKOPT = 54,
    LIND_SYS_CLONE = 56,
    LIND_SYS_FORK = 57,
    LIND_SYS_EXECVE = 59,
    LIND_SYS_EXIT = 60,
    LIND_SYS_WAIT4 = 61,
    LIND_SYS_KILL = 62,
    LIND_SYS_FCNTL = 72,
    LIND_SYS_FSYNC = 74,
    LIND_SYS_FDATASYNC = 75,
    LIND_SYS_TRUNCATE = 76,
    LIND_SYS_FTRUNCATE = 77,
    LIND_SYS_CHDIR = 80,
    LIND_SYS_RENAME = 82,
    LIND_SYS_MKDIR = 83,
    LIND_SYS_RMDIR = 84,
    LIND_SYS_CREAT = 85,
    LIND_SYS_LINK = 86,
    LIND_SYS_UNLINK = 87,
    LIND_SYS_SYMLINK = 88,
    LIND_SYS_READLINK = 89,
    LIND_SYS_CHMOD = 90,
    LIND_SYS_CHOWN = 92,
    LIND_SYS_LCHOWN = 94,
    LIND_SYS_GETUID = 102,
    LIND_SYS_GETEUID = 107,
    LIND_SYS_UTIME = 132,
    LIND_SYS_MKNOD = 133,
    LIND_SYS_STATFS = 137,
    LIND_SYS_CHROOT = 161,
    LIND_SYS_FUTEX = 202,
    LIND_SYS_GETDENTS64 = 217,
    LIND_SYS_FADVISE64 = 221,
    LIND_SYS_CLOCK_GETTIME = 228,
    LIND_SYS_EXIT_GROUP = 231,
    LIND_SYS_EPOLL_WAIT = 232,
    LIND_SYS_EPOLL_CTL = 233,
    LIND_SYS_UTIMES = 235,
    LIND_SYS_OPENAT = 257,
    LIND_SYS_MKDIRAT = 258,
    LIND_SYS_MKNODAT = 259,
    LIND_SYS_FCHOWNAT = 260,
    LIND_SYS_FUTIMESAT = 261,
    LIND_SYS_NEWFSTATAT = 262,
    LIND_SYS_UNLINKAT = 263,
    LIND_SYS_RENAMEAT = 264,
    LIND_SYS_LINKAT = 265,
    LIND_SYS_SYMLINKAT = 266,
    LIND_SYS_READLINKAT = 267,
    LIND_SYS_FCHMODAT = 268,
    LIND_SYS_FACCESSAT = 269,
    LIND_SYS_PPOLL = 271,
    LIND_SYS_UTIMENSAT = 280,
    LIND_SYS_FALLOCATE = 285,
    LIND_SYS_ACCEPT4 = 288,
    LIND_SYS_EPOLL_CREATE1 = 291,
    LIND_SYS_DUP3 = 292,
    LIND_SYS_PIPE2 = 293,
    LIND_SYS_PREADV = 295,
    LIND_SYS_PWRITEV = 296,
    LIND_SYS_RENAMEAT2 = 316,
    LIND_SYS_GETRANDOM = 318,
    LIND_SYS_EXECVEAT = 322,
    LIND_SYS_STATX = 332,
    LIND_SYS_OPENAT2 = 437,
    LIND_SYS_FACCESSAT2 = 439,

    LIND_CALL_REGISTER_HANDLER = 1001,
    LIND_CALL_COPY_DATA = 1002,
    LIND_CALL_COPY_HANDLER_TABLE = 1003,
    LIND_CALL_GRATE_SERVE = 1004,     // lindbridge's own, see lind_grate_serve
    LIND_CALL_HARSH_CAGE_EXIT = 1005, // lindbridge's own: a notification, (cage id, wait status)
    LIND_CALL_GRATE_FD_OPEN = 1006,   // lindbridge's own, see lind_fd_open and what follows it
    LIND_CALL_GRATE_FD_NUMBER = 1007,
    LIND_CALL_GRATE_FD_READY = 1008,
    LIND_CALL_GRATE_FD_ON_CLOSE = 1009,

    LIND_CALL_MAX = 1024,
};

// Error numbers, positive. Calls answer their negative.
enum {
    LIND_EPERM = 1,
    LIND_ENOENT = 2,
    LIND_ESRCH = 3,
    LIND_EINTR = 4,
    LIND_EIO = 5,
    LIND_EBADF = 9,
    LIND_EAGAIN = 11,
    LIND_ENOMEM = 12,
    LIND_EACCES = 13,
    LIND_EFAULT = 14,
    LIND_EBUSY = 16,
    LIND_EEXIST = 17,
    LIND_EXDEV = 18,
    LIND_ENOTDIR = 20,
    LIND_EISDIR = 21,
    LIND_EINVAL = 22,
    LIND_EMFILE = 24,
    LIND_ENOTTY = 25,
    LIND_EFBIG = 27,
    LIND_ENOSPC = 28,
    LIND_ESPIPE = 29,
    LIND_EPIPE = 32,
    LIND_EMLINK = 31,
    LIND_ENAMETOOLONG = 36,
    LIND_ENOSYS = 38,
    LIND_ENOTEMPTY = 39,
    LIND_ELOOP = 40,
    LIND_EOVERFLOW = 75,
    LIND_EOPNOTSUPP = 95,
};

// Errors of 3i, as calls answer them.
#define LIND_ELINDAPIABORTED ((int)0xE0010001u) // the arguments of a 3i call make no sense
#define LIND_ELINDESRCH ((int)0xE0010002u)      // the cage that a 3i call names is unknown, stopping or gone
#define LIND_GRATE_ERR (-0x1FFF0003)            // the grate died while it served the call

// Ids that never name a program's cage.
#define LIND_CAGE_DEREGISTER UINT64_C(500) // in a grate's place: no handler any more
#define LIND_CAGE_MATCHALL UINT64_C(501)   // in a grate's place: the caller serves every call
#define LIND_CAGE_RUNTIME UINT64_C(777777) // as an argcage: memory of the runtime, such as a WASI program's copied path

// Other constants of Linux that the functions below take.
enum {
    LIND_AT_FDCWD = -100,
    LIND_CLOCK_REALTIME = 0,
    LIND_CLOCK_MONOTONIC = 1,
    LIND_PATH_MAX = 4096, // bytes, with the NUL
    LIND_IOV_MAX = 1024,
    LIND_RW_MAX = 0x7ffff000, // bytes that one read or write moves at most
    LIND_SIGKILL = 9,
    LIND_O_NONBLOCK = 04000,
    LIND_O_CLOEXEC = 02000000,
    LIND_AF_INET = 2,
    LIND_SOCK_STREAM = 1,
    LIND_F_GETFL = 3,
    LIND_F_SETFL = 4,
    LIND_EPOLL_CTL_ADD = 1,
    LIND_EPOLL_CTL_DEL = 2,
    LIND_EPOLL_CTL_MOD = 3,
};

// Events of poll(2), which are those of epoll too.
enum {
    LIND_POLLIN = 0x1,
    LIND_POLLPRI = 0x2,
    LIND_POLLOUT = 0x4,
    LIND_POLLERR = 0x8,
    LIND_POLLHUP = 0x10,
    LIND_POLLNVAL = 0x20,
};

// struct pollfd, struct epoll_event and struct sockaddr_in of Linux x86-64. Port and address are in the order of the network.
typedef struct {
    int32_t fd;
    int16_t events, revents;
} lind_pollfd_t;

typedef struct {
    uint32_t events;
    uint64_t data;
} __attribute__((packed)) lind_epoll_event_t;

typedef struct {
    uint16_t family;
    uint8_t port[2], address[4], zero[8];
} lind_sockaddr_in_t;

// struct iovec and struct timespec of Linux x86-64. An iovec's base is an address of the host.
typedef struct {
    uint64_t base, length;
} lind_iovec_t;

typedef struct {
    int64_t seconds, nanoseconds;
} lind_timespec_t;

// One argument of a call: a word, and the cage whose memory it points into, or 0.
typedef struct {
    uint64_t value, cage;
} lind_arg_t;

#endif
