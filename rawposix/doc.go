// Package rawposix carries out Linux-numbered system calls natively: on the cage's descriptor table (fdtables) and the
// host's kernel, with the semantics and error numbers of Linux on x86-64 whatever the host's own architecture is.
//
// It keeps no descriptor table of its own, knows nothing of guests but their memory and cancel token, and neither starts
// nor ends threads and cages: Hooks do. It serves what WASI preview 1 and wasi-threads need; Register has the list.
//
// # Invariants
//
//   - I1 Memory is touched only within the bounds that threei.Thread.Resolve checks, whosever it is. What a call decides
//     on is copied once, and the copy is checked and used. Data goes between kernel and guest memory without a copy.
//   - I2 A call that waits for another program does it in one ppoll together with the domain's cancel token, and answers
//     EINTR once that fires (or how much it had moved by then). No lock is held meanwhile.
//   - I3 The host's descriptor that a call uses stays open until the call is over, whoever closes the guest's.
//   - I4 A path never leads out of the directory that it is relative to, whatever is renamed or exchanged meanwhile:
//     that is EXDEV. The way there (openat2, or the walk that replaces it) makes no difference to the answer.
//   - I5 The state of an open file description that the runtime does not own is never changed.
//   - I6 What the kernel decides it decides: ENOSPC, EROFS, EACCES, EDQUOT and their likes pass through.
//
// # Waiting
//
// Files that the runtime opened have O_NONBLOCK on the host, always; the O_NONBLOCK that guests see is kept beside it.
// Inherited pipes and terminals are opened anew to get a description that can have it; inherited sockets use
// MSG_DONTWAIT. What is left, such as an inherited pipe that belongs to another user, is polled first and then used with
// RWF_NOWAIT. Where the kernel refuses that too (pipes before Linux 6.4, and a terminal that is neither the runtime's
// user's nor its controlling one), a reader that loses what poll saw to another process waits in the kernel, and its
// cage's exit is reported as stuck until there is more.
//
// A virtual descriptor is served by a Provider, such as a grate, and not by the host's kernel. This package duplicates,
// closes and waits for it as for any other; all else is abi.EBADF, unless the provider has a handler of the call. A poll
// or select of such ones waits in Go. An epoll has one of the kernel's behind it, and waits outside.
//
// Regular files do not wait: reads and writes are made in steps of 4 MiB with a look at the cancel token between. How
// long one step, an fsync, a rename or a lookup takes is up to the file system; one that hangs (a network file system
// whose server is gone) makes the cage's exit stuck. On a file with a lease that another process must give up first,
// open answers EAGAIN.
//
// Opening a FIFO without O_NONBLOCK waits for its other end, with the help of a goroutine that ends with the call: see
// fifo.go. A FIFO that the runtime's process may not both read and write is not waited for: opening it for writing
// without a reader is ENXIO, and opening it for reading succeeds, and its first read waits for a writer.
//
// # What differs from Linux
//
//   - A cage has no working directory: AT_FDCWD is EBADF. The host's umask applies, and modes lose their set-ID bits.
//   - O_TMPFILE is EOPNOTSUPP, RENAME_WHITEOUT is EPERM, linkat by AT_EMPTY_PATH is ENOENT, record locks are EINVAL.
//   - A buffer that does not lie in memory as a whole is EFAULT, where Linux moves what fits. ENFILE says that the
//     host's limit is reached, EMFILE that the cage's is.
//   - Writing to a pipe or socket without a reader is EPIPE and no signal.
//   - F_SETFL on an inherited file whose description is shared changes what the cage sees, not the description: clearing
//     an O_APPEND that the host set has no effect.
//   - A cage makes sockets of TCP and UDP only, and those as far as its Network lets it; bind, connect, sendto and
//     sendmsg take addresses of the Internet only (else EACCES). Options that would make a call wait by itself are
//     ENOPROTOOPT, a lingering close is EINVAL. accept, listen and connect on an inherited socket are EOPNOTSUPP,
//     control data is not sent (EOPNOTSUPP) and not received (MSG_CTRUNC), MSG_WAITALL with MSG_PEEK does not wait for
//     more than something.
//   - EPOLLWAKEUP is ignored. One wait on an epoll answers 512 events at most. A wait goes on waiting for nothing but
//     its time if another thread closes the epoll meanwhile. Linux's limit on watches (ENOSPC) is the host user's.
//   - gettid counts from 1 within the cage. CPU-time clocks are the host's; sleeping on them is EOPNOTSUPP.
//
// /proc has to be mounted for linkat with AT_SYMLINK_FOLLOW, for FIFOs and for inherited pipes and terminals. Hosts are
// 64-bit and little-endian.
//
// # Goroutines
//
// Only the blocking open of a FIFO starts one. It ends before the call that started it returns; if the process is out of
// descriptors just when that call is cancelled, it ends when the next one is closed.
package rawposix
