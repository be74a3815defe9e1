// Package fdtables keeps the descriptors of all cages: for each cage a table from the numbers that its guest sees (virtual
// descriptors) to what stands behind them (a kind and an underfd), and for each underfd how often it is in use, so that
// it is closed once, when nobody uses it any more.
//
// It does no I/O and knows nothing of what an underfd is: close handlers, registered for each kind, do what closing
// means. It does not decide which cage may do what, nor when a cage ends.
//
// # In short
//
//	ts := fdtables.New(fdtables.Config{MaxOpen: 100_000})
//	ts.RegisterCloseHandlers(fdtables.KindKernel, fdtables.Handlers{Last: closeHostFD})
//	t, err := ts.Init(cage)
//	fd, errno := t.Open(fdtables.KindKernel, uint64(hostFD), false, 0)
//
//	ref, errno := t.Acquire(fd) // for I/O: the underfd stays open until Release
//	n, err := unix.Read(int(ref.Entry().UnderFD), buf)
//	ref.Release()
//
//	err = t.Close(fd)
//	failed, err := ts.Remove(cage)
//
// # Invariants
//
//   - F1: each table reference (a descriptor in a table) that goes away makes exactly one call of a close handler:
//     Intermediate while other descriptors share the pair (kind, underfd), else Last
//   - F2: Last runs once for each time that the pair is open, after its last descriptor and its last I/O in flight are
//     gone; nothing refers to the underfd any more when it begins
//   - F3: what Acquire answers is open until Release
//   - F4: a change of a table is one step for any observer: dup2 never shows a closed descriptor, exec closes all that
//     it closes at once, a fork's copy is the source as it was at one moment
//   - F5: an error of a close handler, its panic, or that it does not return by its deadline, is reported and changes
//     nothing else
//   - F6: a call that fails with an error number has changed nothing, and called nothing
//   - F7: after Remove the table stays empty, whatever calls race with it
//   - F8: an epoll's members are open files, each by the numbers that it was added by: one is a member until it is taken
//     out or closed, whatever becomes of the number
//
// What a descriptor's close means while an I/O on it is in flight is as Linux has it: the number is free at once, the
// file is closed when the I/O ends. The call of its handler is due then, by whoever releases last. If the host opens
// the same pair again before that, the pair was open all along: the new descriptor joins its count and the one that was
// closed gets its Intermediate call now.
//
// # How it is done
//
// A table is an array of atomic pointers to slots. To translate is to load the array, the element and the slot:
// wait-free, and without a line of memory that another reader writes. Writers of one table take its mutex. A
// table grows, and exec cuts it, by publishing a copy; who still reads the old array sees the table as it was during
// their call. Slots are shared by forks, which so cost a copy of the array and an addition for each descriptor. The
// lowest free descriptor comes from a bitmap of two levels (see internal/ids).
//
// Each open underfd has one word that counts its descriptors and its I/Os, with a state that nothing leaves, dead (see
// under.go). A registry in shards finds it by its pair, since hosts may open a pair by several calls. So Open and Close
// take two uncontended mutexes each, Acquire and Release one atomic addition each.
//
// A slot is immutable, and left to the collector when it is closed, with one exception that most descriptors are: what was
// opened in a table and never duplicated, forked or opened a second time is closed and opened anew in its place, without an
// allocation. A reader tells by a count of its lives that it was closed while it was read, and answers just that (see
// under.go), so that reading stays wait-free. So Close allocates nothing, and Open only where no descriptor as high was
// open before: once in eight calls.
//
// A virtual epoll keeps what a guest asked for and waits for nothing: who serves a kind waits in the underfd that the
// epoll has for it, or reads the members. The word of an open file has a bit that says whether epolls must hear of its
// end, so that those that no epoll watches pay nothing. Adding, taking out and leaving take one lock of all epolls;
// changing and reading members one of the epoll alone.
//
// # Goroutines and locks
//
// Handlers and Config.OnCloseError run on the goroutine of the call that caused them, with no lock held. A handler with a
// deadline has a goroutine of its own instead, which ends with it; there are no others. The order of locks:
//
//	Table.mu
//	  registry.creditMu
//	    shard.mu, several in ascending order of their index, with creditMu held
//	      dropped.mu
//	epolls.mu
//	  epoll.mu
//	    registry.creditMu, shard.mu, dropped.mu
//	handlerTable.mu
//
// No two tables are locked at once: Fork fills a table that nobody can find yet.
//
// # From Lind's fdtables
//
// The semantics are those of the fdtables crate of lind-wasm, except where it and POSIX or Linux disagree: then these win.
//
//	crate                                  here
//	check_cage_exists                      Tables.Table, without an error
//	init_empty_cage                        Tables.Init
//	translate_virtual_fd                   Table.Translate; for I/O Table.Acquire
//	get_unused_virtual_fd                  Table.Open; for a duplicate Table.Dup
//	get_unused_virtual_fd_from_startfd     Table.OpenFrom; for a duplicate Table.DupFrom
//	get_specific_virtual_fd                Table.OpenAt; for a duplicate Table.Dup2
//	set_cloexec                            Table.SetCloseOnExec
//	set_perfdinfo                          Table.SetPerFDInfo
//	close_virtualfd                        Table.Close
//	register_close_handlers, NULL_FUNC     Tables.RegisterCloseHandlers, a nil function
//	copy_fdtable_for_cage                  Tables.Fork
//	remove_cage_from_fdtable               Tables.Remove
//	empty_fds_for_exec                     Table.CloseOnExecAll
//	return_fdtable_copy                    Table.Snapshot
//	prepare_bitmasks_for_select,           Select.Translate
//	  get_bitmask_for_select
//	get_one_virtual_bitmask_from_          Select.Answer, of all kinds at once
//	  select_result
//	_init_fd_set, _fd_set, _fd_isset       FDSet
//	convert_virtualfds_for_poll            Poll.Translate
//	convert_poll_result_back_to_virtual    Poll.Answer
//	epoll_create_empty                     Table.OpenEpoll
//	epoll_add_underfd                      Table.EpollAddUnderFD
//	epoll_get_underfd_hashmap              Table.EpollUnderFDs, or EpollUnderFD for one kind
//	virtualize_epoll_ctl                   Table.EpollCtl
//	get_virtual_epoll_wait_data            Table.EpollMembers
//	refresh                                New: there is no state outside a Tables
//
// The differences:
//
//   - a cage without a table, and one that has one already, are errors (ErrNoCage, ErrCageExists); the crate panics,
//     save that it removes an unknown cage silently
//   - a descriptor that is not open is EBADF everywhere; the crate answers EBADFD, and panics for some that are out of
//     range
//   - OpenAt at exactly the limit is EBADF; the crate panics, or stores it, and keeps a reference
//   - OpenFrom at or past the limit is EINVAL, as F_DUPFD; the crate answers EMFILE
//   - the lowest free descriptor is given out always; one of the crate's tables prefers numbers never used
//   - a handler that fails is reported as an error and the rest go on; the crate panics, passes the number on as an
//     unsigned one, or ignores it, depending on the table and the call. One that panics is reported as well, and one that
//     does not return can be given a deadline; the crate's caller hangs with it
//   - an I/O in flight keeps its underfd open (Acquire); the crate has nothing like it, so that a close and a reuse
//     of the number can hit the I/O (lind-wasm issues 1127 and 1128)
//   - a fork is one instant; the crate reads the source twice
//   - the limit of a cage can be set, to 2^20; the limit over all cages is enforced (ENFILE) and counts open underfds,
//     as Linux counts open files, so that duplicates and forks never meet it
//   - kinds from KindReserved on are refused (EINVAL)
//   - several descriptors that go at once (Remove, CloseOnExecAll) lose their references up to 64 at a time, before
//     their handlers run in ascending order; the crate goes one by one. Each handler's remaining count is the same
//   - an answer of select or poll goes to every descriptor that stands for an underfd; the crate's mapping back keeps one
//     of them. The underfds stay open meanwhile
//   - select takes descriptors up to the limit; from 1024 on the crate answers EINVAL. An underfd too large for a bitmap
//     is among the unparsed ones; the crate writes past its set
//   - poll passes a negative descriptor over, as Linux does, and answers POLLNVAL for one that is not open; the crate
//     panics for those that are out of range, and leaves POLLNVAL to its caller
//   - epoll is as Linux has it: the operations are ADD 1, DEL 2, MOD 3 (the crate swaps the last two); a member leaves when
//     its open file is closed, and its number may be used again meanwhile (the crate keeps members by number, for ever);
//     epolls may be members of epolls, five in a chain, else ELOOP (the crate: ENOSYS); EPERM for what cannot be polled;
//     EINVAL for a duplicate of the epoll itself, and for EPOLLEXCLUSIVE where it may not stand. Linux's limits on wake-up
//     paths (EINVAL) and on watches (ENOSPC) are not kept
//   - an epoll has an end, and its number is given out again then; the crate's never go. The underfds of an epoll are the
//     epoll's own and are closed with it. A second one of a kind is EEXIST; the crate panics
//   - kinds are not sorted apart in an epoll's members: they are one list
//
// # Histories as text
//
// History records calls with their results, and replays what was recorded, so that another implementation can be held
// against this one. A line is one call: its name, its arguments and, after " = ", its result, with one blank between.
// Arguments are decimal numbers, flags 0 or 1, and the first one is the cage:
//
//	init CAGE                fork SRC DST                   remove CAGE
//	exec CAGE                handlers KIND                  table CAGE
//	open CAGE ENTRY          openfrom CAGE START ENTRY      openat CAGE FD ENTRY
//	dup CAGE FD              dupfrom CAGE FD START CLOEXEC  dup2 CAGE FD TO CLOEXEC
//	close CAGE FD            translate CAGE FD              limit CAGE N
//	cloexec CAGE FD ON       info CAGE FD WORD              acquire CAGE FD
//	release REF              epoll CAGE CLOEXEC             members CAGE EPFD
//	epollctl CAGE EPFD OP FD EVENTS DATA
//
// ENTRY is KIND UNDERFD CLOEXEC INFO. REF is what acquire answered: they count from 0. "handlers" begins to note the close
// handlers of a kind. The result of a call is what it gives (a descriptor, an entry, a REF), else "ok"; on failure the
// negative error number, or "nocage", "exists", "none" (of a REF). Behind it stand, each after "; ", the descriptors
// of a table in ascending order as FD ENTRY, the members of an epoll in ascending order as FD ENTRY EVENTS DATA, and
// the handlers that ran, in their order, as "closed" REMAINING ENTRY. Lines that begin with # are comments:
//
//	# two descriptors of one underfd
//	init 2 = ok
//	handlers 7 = ok
//	open 2 7 100 0 0 = 0
//	dup 2 0 = 1
//	close 2 0 = ok; closed 1 7 100 0 0
//	remove 2 = ok; closed 0 7 100 0 0
//
// The tests write a random one: go test -run TestHistory_ReplaysWhatItRecorded -history FILE -calls 1000000
//
// # Beside gVisor's FDTable
//
// The FDTable of gVisor's sentry (pkg/sentry/kernel) solves the same problem for one kernel's tasks. It too has an array
// of atomic pointers to immutable descriptors that grows by a copy, a mutex for writers, and lookups that take a
// reference on the open file. What differs here: a look at an entry (Translate) writes nothing that threads share, so that
// it is flat with threads, and a reference is for I/O alone; the count of an open file and whether it is dead are one
// word, so that whoever drops the last reference is known without a lock; descriptors are of several kinds whose files
// live elsewhere, so that a registry counts by number what there is one object for; and a fork or exec publishes one new
// array, where gVisor goes descriptor by descriptor.
package fdtables
