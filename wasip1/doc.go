// Package wasip1 is WASI preview 1 (module wasi_snapshot_preview1) and wasi-threads (wasi.thread-spawn) as a
// translation onto Linux-numbered system calls.
//
// Each function of WASI becomes one or a few calls of threei.System.Syscall with Linux x86-64 numbers, structures
// and flags, so that grates which interpose on a cage see everything that a WASI program does. The package owns no
// files and no descriptors, and keeps nothing between two calls but a cage's arguments, environment and preopen
// names (Env). It reads and writes memories with 32-bit addresses: for memory64 modules nothing in WASI preview 1
// applies.
//
// The specification is the witx of the WASI repository (legacy/preview1). Where it is silent the package answers
// what wasmtime does, and where that is silent, what Linux does. What a program may notice:
//
//   - A pointer or a length outside memory is errno fault. Nothing has happened then: output pointers are checked
//     before the call has any effect. (The witx says trap; errno fault is what most hosts answered first.)
//   - Paths: not UTF-8 is ilseq, a NUL inside is inval, 4096 bytes and more is nametoolong. A path that leads
//     outside its directory, and a symbolic link with an absolute target, is perm. A rename or link between
//     devices is xdev. path_link with symlink_follow is inval.
//   - Descriptors of 2^31 and more are badf, so that none is ever taken for AT_FDCWD.
//   - Directories: reading, writing, seeking, syncing, advising, resizing or setting flags on one is badf.
//   - Rights are reported by fd_fdstat_get and not enforced. fd_fdstat_set_rights is notsup: a right that is not
//     enforced cannot be given away. path_open opens for reading, writing or both by fd_read and fd_write in the
//     base rights, and for reading if it has neither.
//   - A list of buffers is copied once and checked. fd_read, fd_write, fd_pread and fd_pwrite take the first 1024
//     entries and at most 0x7ffff000 bytes of a longer one (a short read or write); sock_recv and sock_send answer
//     msgsize to more than 1024 entries, since a message must not be cut. Empty buffers are skipped unseen.
//   - fd_readdir gives what the host's directory gives, "." and ".." with it; a cookie is Linux's d_off. A name
//     that is not UTF-8 is given as it is. A cookie that is no position of the directory is its end.
//   - fd_renumber is dup2 and close: another thread may see both numbers for a moment.
//   - poll_oneoff takes up to 16384 subscriptions, more is inval. A relative timeout of either clock is measured
//     by the monotonic clock. A descriptor that is not open gives an event with error badf. POLLERR and POLLHUP
//     give an event without error and with the hangup flag: the read or write that follows says what is wrong.
//   - Times before 1970 are 0 in a filestat and times after 2554 are the largest that fits; a clock that says so
//     is overflow.
//   - proc_exit hands all 32 bits of its code to exit_group. What a process status can hold of it is eight bits.
//   - proc_raise(none) is inval. A signal that does not end the cage returns to the caller.
//   - thread-spawn answers a thread id in 1..2^29-1, or the negative of a WASI errno.
//
// Invariants:
//
//	I1 No guest memory is touched outside [0, Thread.Memory.Size()).
//	I2 What the host decides on is copied out of guest memory once, and the copy is what is checked and used.
//	I3 Output pointers are checked before the first system call of a function.
//	I4 What a system call answers is not trusted either, since a grate may have answered: a count above what was asked
//	   for is errno io, and no loop goes on after Thread.Cancel fired.
//	I5 A host call allocates nothing once its thread's scratch memory has its size.
//
// The package starts no goroutines and blocks only inside system calls.
package wasip1
