package fdtables

import (
	"slices"
	"sync"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/ids"
)

// KindEpoll is the kind of virtual epolls: the underfd is a number of this package's, good to tell two open ones apart.
const KindEpoll Kind = 0xff000002

// The operations of EpollCtl, with Linux's numbers.
const (
	EpollAdd int32 = 1
	EpollDel int32 = 2
	EpollMod int32 = 3
)

// Events of epoll_ctl(2) that EpollCtl looks at. All others mean something only to who waits.
const (
	// EpollExclusive may be given when a member is added, with few others, and such a member cannot be changed.
	EpollExclusive uint32 = 1 << 28
	// exclusiveOK is the events that may go with it: in, out, error, hangup, wake-up and edge-triggered.
	exclusiveOK = EpollExclusive | 0x1 | 0x4 | 0x8 | 0x10 | 1<<29 | 1<<31
)

// maxEpollDepth is how many epolls may be in a chain of which each is a member of the one before.
const maxEpollDepth = 5

// EpollEvent is struct epoll_event: what a member is waited for, and what who waits is told then.
type EpollEvent struct {
	Events uint32
	Data   uint64
}

// EpollMember is a member of an epoll.
type EpollMember struct {
	// FD is the number that the member was added by. It may stand for another file by now, or for none: it is the open
	// file that is the member.
	FD FD
	// Entry is what FD stood for then.
	Entry Entry
	Event EpollEvent
}

// EpollWatch is what who waits for an epoll's members keeps with one of them, such as its place in an epoll of the
// host's kernel.
type EpollWatch interface {
	// Left is called once, without any lock held, when the member has left by itself: because its open file was closed,
	// or, with over, the epoll. In the former case it is before the file's Last handler is called, and before the
	// epoll's underfds are closed in the latter. It is not called for a member that EpollCtl takes out. It may not block
	// for long.
	Left(over bool)
}

// interestKey names a member of an epoll: an open file, and a number that it was added by. Duplicates are two members.
type interestKey struct {
	under *under
	fd    FD
}

// interest is one member of one epoll. It is in the epoll's list and in that of the open file.
type interest struct {
	ep         *epoll // immutable
	key        interestKey
	entry      Entry      // immutable
	child      *epoll     // the epoll that the member is, or nil. Immutable
	watch      EpollWatch // immutable, may be nil
	event      EpollEvent // guarded by ep.mu
	index      int        // in ep.list; guarded as that is
	prev, next *interest  // of the same open file; guarded by epolls.mu
}

// epoll is one open virtual epoll.
type epoll struct {
	id     uint64 // immutable
	under  *under // its own count. Immutable once it can be found
	below  []*slot
	nested int // how many members are epolls; guarded by epolls.mu

	mu sync.Mutex // after epolls.mu
	// list and items change with both locks held, so that either is enough to read them.
	list  []*interest
	items map[interestKey]*interest
}

// epolls is the virtual epolls of all cages: who watches which open file. What is waited for is nobody's business here.
type epolls struct {
	byID ids.Map[epoll]
	mu   sync.Mutex
	used ids.Set // guarded by mu: the ids that are taken
	// watched is the first of the list of interests in each open file that has any, guarded by mu. Such a file has the
	// bit watched in its word.
	watched map[*under]*interest
}

// OpenEpoll makes the lowest free descriptor stand for a new epoll without members, as epoll_create1(2) does. The epoll
// lives as long as descriptors and I/Os in flight do, like any underfd: duplicates and forks share it.
//
// Errors: abi.EMFILE at the table's limit, abi.ENFILE at the runtime's, abi.EBADF if the table was removed.
func (t *Table) OpenEpoll(closeOnExec bool) (FD, abi.Errno) {
	all := &t.ts.epolls
	ep := all.reserve()
	e := Entry{Kind: KindEpoll, CloseOnExec: closeOnExec, UnderFD: ep.id}
	t.mu.Lock()
	fd, errno := t.freeLocked(0, false)
	var s *slot
	if errno == 0 {
		s, _, errno = t.joinLocked(e) // nobody has the pair, and it is not open before it can be found
	}
	if errno != 0 {
		t.mu.Unlock()
		all.free(ep)
		return -1, errno
	}
	ep.under = s.under()
	ep.under.watch()
	all.byID.Insert(ep.id, ep)
	t.putLocked(fd, s)
	t.mu.Unlock()
	return fd, 0
}

// EpollAddUnderFD gives the epoll epfd an underfd of kind k, such as an epoll of the host's kernel for KindKernel: the
// place where who serves that kind waits. It is the epoll's from then on, and counts as one more descriptor of
// (k, underfd): its close handler is called when the epoll is closed, and a failure then goes to Config.OnCloseError.
//
// Errors, after which it is still the caller's: abi.EBADF if epfd is not open, abi.EINVAL if it is no epoll or k is
// reserved, abi.EEXIST if it has an underfd of that kind, abi.ENFILE at the runtime's limit.
func (t *Table) EpollAddUnderFD(epfd FD, k Kind, underfd uint64) abi.Errno {
	ref, errno := t.Acquire(epfd)
	if errno != 0 {
		return errno
	}
	defer ref.Release()
	return ref.EpollAddUnderFD(k, underfd)
}

// EpollAddUnderFD is Table.EpollAddUnderFD for the epoll that was acquired.
func (r *Ref) EpollAddUnderFD(k Kind, underfd uint64) abi.Errno {
	ep, errno := r.epoll()
	if errno != 0 {
		return errno
	}
	if k >= KindReserved {
		return abi.EINVAL
	}
	u := new(under)
	u.born(Entry{Kind: k, UnderFD: underfd})
	ep.mu.Lock()
	if ep.belowLocked(k) != nil {
		ep.mu.Unlock()
		return abi.EEXIST
	}
	counting, owed, errno := r.ts.open.join(u)
	if errno != 0 {
		ep.mu.Unlock()
		return errno
	}
	s := &u.first
	if counting != u {
		s = newAlias(s.entry(), counting)
	}
	ep.below = append(ep.below, s)
	ep.mu.Unlock()
	r.ts.settle(owed)
	return 0
}

// EpollUnderFD is the underfd of kind k that EpollAddUnderFD gave to epfd. It is abi.EBADF if epfd is not open,
// abi.EINVAL if it is no epoll, and abi.ENOENT if it has none of that kind.
func (t *Table) EpollUnderFD(epfd FD, k Kind) (uint64, abi.Errno) {
	ref, errno := t.Acquire(epfd)
	if errno != 0 {
		return 0, errno
	}
	defer ref.Release()
	return ref.EpollUnderFD(k)
}

// EpollUnderFD is Table.EpollUnderFD for the epoll that was acquired: the underfd stays open as long as that does.
func (r *Ref) EpollUnderFD(k Kind) (uint64, abi.Errno) {
	ep, errno := r.epoll()
	if errno != 0 {
		return 0, errno
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if s := ep.belowLocked(k); s != nil {
		return s.underFD.Load(), 0
	}
	return 0, abi.ENOENT
}

// epoll is the epoll that was acquired: abi.EBADF of the zero Ref, abi.EINVAL if it is another file.
func (r *Ref) epoll() (*epoll, abi.Errno) {
	if r.s == nil {
		return nil, abi.EBADF
	}
	if ep := r.ts.epolls.of(r.s.entry()); ep != nil {
		return ep, 0
	}
	return nil, abi.EINVAL
}

// EpollUnderFDs is all that EpollAddUnderFD gave to epfd. Its errors are those of EpollUnderFD.
func (t *Table) EpollUnderFDs(epfd FD) (map[Kind]uint64, abi.Errno) {
	ref, ep, errno := t.acquireEpoll(epfd)
	if errno != 0 {
		return nil, errno
	}
	defer ref.Release()
	ep.mu.Lock()
	defer ep.mu.Unlock()
	all := make(map[Kind]uint64, len(ep.below))
	for _, s := range ep.below {
		all[s.kind()] = s.underFD.Load()
	}
	return all, 0
}

// belowLocked is the underfd of kind k, or nil. ep.mu is held.
func (ep *epoll) belowLocked(k Kind) *slot {
	for _, s := range ep.below {
		if s.kind() == k {
			return s
		}
	}
	return nil
}

// EpollCtl is epoll_ctl(2): it adds the open file that fd stands for to the members of epfd, by the number fd, takes it
// out or changes its event. A member leaves by itself when its open file is closed, which is with the last descriptor
// and I/O in flight of its underfd, and not with fd.
//
// Errors, in this order: abi.EBADF if epfd or fd is not open; abi.EPERM if fd cannot be polled (Handlers.Unpollable);
// abi.EINVAL if both are the same open file, epfd is no epoll, or EpollExclusive stands where it may not; abi.ELOOP if
// adding the epoll fd closed a loop or made a chain of more than five; abi.EEXIST for a member that is added;
// abi.ENOENT for one that is not there; abi.EINVAL for another op. After an error nothing has changed.
func (t *Table) EpollCtl(epfd FD, op int32, fd FD, event EpollEvent) abi.Errno {
	ep, errno := t.Acquire(epfd)
	if errno != 0 {
		return errno
	}
	defer ep.Release()
	ref, errno := t.Acquire(fd)
	if errno != 0 {
		return errno
	}
	defer ref.Release()
	_, errno = ep.EpollCtl(op, fd, &ref, event, nil)
	return errno
}

// EpollCtl is Table.EpollCtl for who waits for the members: on the epoll and the file that were acquired, whatever the
// numbers stand for by now. A member that is added has watch, which may be nil; the answer is the watch of one that is
// changed or taken out.
func (r *Ref) EpollCtl(op int32, fd FD, ref *Ref, event EpollEvent, watch EpollWatch) (EpollWatch, abi.Errno) {
	if r.s == nil || ref.s == nil {
		return nil, abi.EBADF
	}
	e := ref.Entry()
	all := &r.ts.epolls
	child := all.of(e)
	if child == nil && r.ts.handlers.unpollable(e) {
		return nil, abi.EPERM
	}
	to, errno := r.epoll()
	if errno != 0 || ref.s.under() == to.under {
		return nil, abi.EINVAL
	}
	if event.Events&EpollExclusive != 0 {
		if op == EpollMod || op == EpollAdd && (child != nil || event.Events&^exclusiveOK != 0) {
			return nil, abi.EINVAL
		}
	}
	key := interestKey{under: ref.s.under(), fd: fd}
	switch op {
	case EpollAdd:
		return nil, all.add(&interest{ep: to, key: key, entry: e, child: child, watch: watch, event: event})
	case EpollDel:
		return all.del(to, key)
	case EpollMod:
		return to.mod(key, event)
	}
	return nil, abi.EINVAL
}

// EpollMembers appends the members of epfd to dst, in no order, all as they were at one moment. Members of which kinds
// are wanted is for the caller to see. It allocates only where dst is too short. It is abi.EBADF if epfd is not open and
// abi.EINVAL if it is no epoll.
func (t *Table) EpollMembers(epfd FD, dst []EpollMember) ([]EpollMember, abi.Errno) {
	ref, ep, errno := t.acquireEpoll(epfd)
	if errno != 0 {
		return dst, errno
	}
	defer ref.Release()
	ep.mu.Lock()
	defer ep.mu.Unlock()
	dst = slices.Grow(dst, len(ep.list))
	for _, in := range ep.list {
		if _, _, alive := in.key.under.refs(); alive { // else it is about to leave
			dst = append(dst, EpollMember{FD: in.key.fd, Entry: in.entry, Event: in.event})
		}
	}
	return dst, 0
}

// acquireEpoll is the epoll of epfd, which stays open until ref is released.
func (t *Table) acquireEpoll(epfd FD) (Ref, *epoll, abi.Errno) {
	ref, errno := t.Acquire(epfd)
	if errno != 0 {
		return Ref{}, nil, errno
	}
	ep, errno := ref.epoll()
	if errno != 0 {
		ref.Release()
		return Ref{}, nil, errno
	}
	return ref, ep, 0
}

// of is the epoll that e stands for, or nil. The caller has a reference to it.
func (all *epolls) of(e Entry) *epoll {
	if e.Kind != KindEpoll {
		return nil
	}
	return all.byID.Load(e.UnderFD)
}

// reserve is a new epoll with an id of its own, which nobody finds yet.
func (all *epolls) reserve() *epoll {
	all.mu.Lock()
	defer all.mu.Unlock()
	id := all.used.Free(0)
	all.used.Add(id)
	return &epoll{id: uint64(id)}
}

// free gives the id of ep back.
func (all *epolls) free(ep *epoll) {
	all.byID.Delete(ep.id, ep)
	all.mu.Lock()
	all.used.Remove(uint(ep.id))
	all.mu.Unlock()
}

// add makes in a member. The caller has an I/O reference to both open files.
func (all *epolls) add(in *interest) abi.Errno {
	all.mu.Lock()
	defer all.mu.Unlock()
	ep := in.ep
	if in.child != nil && !all.mayNestLocked(ep, in.child) {
		return abi.ELOOP
	}
	if ep.items[in.key] != nil {
		return abi.EEXIST
	}
	// Precedes the release of the caller's reference: who then drops the last one sees it, and calls leave.
	in.key.under.watch()
	if all.watched == nil {
		all.watched = map[*under]*interest{}
	}
	if in.next = all.watched[in.key.under]; in.next != nil {
		in.next.prev = in
	}
	all.watched[in.key.under] = in
	if in.child != nil {
		ep.nested++
	}
	ep.mu.Lock()
	if ep.items == nil {
		ep.items = map[interestKey]*interest{}
	}
	in.index = len(ep.list)
	ep.list = append(ep.list, in)
	ep.items[in.key] = in
	ep.mu.Unlock()
	return 0
}

// del takes a member out, and answers its watch.
func (all *epolls) del(ep *epoll, key interestKey) (EpollWatch, abi.Errno) {
	all.mu.Lock()
	defer all.mu.Unlock()
	in := ep.items[key]
	if in == nil {
		return nil, abi.ENOENT
	}
	all.removeLocked(in)
	return in.watch, 0
}

// mod changes the event of a member, and answers its watch.
func (ep *epoll) mod(key interestKey, event EpollEvent) (EpollWatch, abi.Errno) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	in := ep.items[key]
	switch {
	case in == nil:
		return nil, abi.ENOENT
	case in.event.Events&EpollExclusive != 0:
		return nil, abi.EINVAL
	}
	in.event = event
	return in.watch, 0
}

// removeLocked takes in out of both lists that it is in. all.mu is held.
func (all *epolls) removeLocked(in *interest) {
	switch {
	case in.prev != nil:
		in.prev.next = in.next
	case in.next != nil:
		all.watched[in.key.under] = in.next
	default:
		delete(all.watched, in.key.under)
	}
	if in.next != nil {
		in.next.prev = in.prev
	}
	ep := in.ep
	if in.child != nil {
		ep.nested--
	}
	ep.mu.Lock()
	last := len(ep.list) - 1
	moved := ep.list[last]
	ep.list[in.index], moved.index = moved, in.index
	ep.list[last] = nil
	ep.list = ep.list[:last]
	delete(ep.items, in.key)
	ep.mu.Unlock()
}

// leave takes u, which is dead, out of all epolls that it is a member of.
func (all *epolls) leave(u *under) {
	all.mu.Lock()
	var left []EpollWatch
	for in := all.watched[u]; in != nil; in = all.watched[u] {
		all.removeLocked(in)
		left = in.appendWatch(left)
	}
	all.mu.Unlock()
	tellLeft(left, false)
}

// empty takes all members out of ep, which is dead, and answers its underfds, whose references are the caller's.
func (all *epolls) empty(ep *epoll) []*slot {
	all.mu.Lock()
	var left []EpollWatch
	for len(ep.list) > 0 {
		in := ep.list[len(ep.list)-1]
		all.removeLocked(in)
		left = in.appendWatch(left)
	}
	all.mu.Unlock()
	tellLeft(left, true)
	ep.mu.Lock()
	defer ep.mu.Unlock()
	below := ep.below
	ep.below = nil
	return below
}

// appendWatch appends the watch of in, if it has one.
func (in *interest) appendWatch(to []EpollWatch) []EpollWatch {
	if in.watch == nil {
		return to
	}
	return append(to, in.watch)
}

// tellLeft tells the watches of members that have left by themselves. A panic of one is ignored, as that of a close
// handler's report is: what is left to do here is the package's own.
func tellLeft(left []EpollWatch, over bool) {
	for _, w := range left {
		func() {
			defer func() { _ = recover() }()
			w.Left(over)
		}()
	}
}

// mayNestLocked reports whether child may become a member of ep: without a loop, and without a chain of more than
// maxEpollDepth. all.mu is held.
func (all *epolls) mayNestLocked(ep, child *epoll) bool {
	down := height(child, func(e *epoll, to func(*epoll)) {
		if e.nested == 0 {
			return
		}
		for _, in := range e.list {
			if in.child != nil {
				to(in.child)
			}
		}
	}, ep)
	if down > maxEpollDepth {
		return false
	}
	up := height(ep, func(e *epoll, to func(*epoll)) {
		for in := all.watched[e.under]; in != nil; in = in.next {
			to(in.ep)
		}
	}, nil)
	return down+up <= maxEpollDepth
}

// height is how many epolls the longest chain from ep has, or more than maxEpollDepth if it is too long or bad is on the
// way. It looks at each epoll once for each place in a chain that it has.
func height(ep *epoll, next func(e *epoll, to func(*epoll)), bad *epoll) int {
	level := map[*epoll]bool{ep: true}
	for n := 0; n <= maxEpollDepth; n++ {
		if len(level) == 0 {
			return n
		}
		if level[bad] {
			break
		}
		below := map[*epoll]bool{}
		for e := range level {
			next(e, func(to *epoll) { below[to] = true })
		}
		level = below
	}
	return maxEpollDepth + 1
}
