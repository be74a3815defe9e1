package rawposix

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/internal/ids"
)

// This file implements descriptors that somebody else than the host's kernel serves, as far as this package has to do
// with them: they are in the table of a cage beside the kernel's, are duplicated and closed with these, and poll, select
// and epoll wait for both kinds together.

// KindVirtual is the kind of the descriptors of all Providers. The underfd is a number of this package's.
const KindVirtual fdtables.Kind = 1

// DefaultReady is what a file without a notion of readiness is ready for, as Linux has it: to be read and written.
const DefaultReady = unix.POLLIN | unix.POLLOUT | pollRdNorm | pollWrNorm

// readyMask is the events of poll(2) that a file can be ready for.
const readyMask = DefaultReady | pollRdBand | 0x200 | unix.POLLPRI | unix.POLLERR | unix.POLLHUP | unix.POLLRDHUP

// Provider serves open files of its own in the tables of cages, such as a grate does. Whatever is done with them but to
// duplicate, close and wait for them it has to do itself, for instance by a handler of read(2). It says when they are
// ready, so that nobody who waits for them depends on it. Its methods are safe for concurrent use and do not block.
type Provider struct {
	host   *Host                   // immutable
	closed func(uint64)            // immutable
	mu     sync.Mutex              // comes before virtualFile.mu
	files  map[uint64]*virtualFile // guarded by mu: the open ones by the provider's own numbers
	gone   bool                    // guarded by mu
}

// virtualFile is an open file of a provider.
type virtualFile struct {
	provider *Provider // immutable
	number   uint64    // the provider's; immutable
	id       uint64    // the underfd; immutable

	ready   atomic.Uint32       // the events of poll(2) that it is ready for; stored under mu
	mu      sync.Mutex          // comes before the locks of those who wait
	waiters map[waiter]struct{} // guarded by mu
}

// waiter waits for virtual files.
type waiter interface {
	// ring tells that a file has become ready for events. It is called with the file's lock held, and does not block.
	ring(events uint32)
}

// NewProvider is a provider without files. closed is called with the number of each of its files once no descriptor and
// no call in flight uses it any more, by whichever call closed it, without any lock held; it may be nil, and must not
// block.
func (h *Host) NewProvider(closed func(number uint64)) *Provider {
	if closed == nil {
		closed = func(uint64) {}
	}
	return &Provider{host: h, closed: closed, files: map[uint64]*virtualFile{}}
}

// virtuals is the open files of all providers, by their underfds.
type virtuals struct {
	byID ids.Map[virtualFile]
	mu   sync.Mutex
	used ids.Set // guarded by mu: the underfds that are taken
}

func (v *virtuals) add(f *virtualFile) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := v.used.Free(0)
	v.used.Add(id)
	f.id = uint64(id)
	v.byID.Insert(f.id, f)
}

func (v *virtuals) remove(f *virtualFile) {
	v.byID.Delete(f.id, f)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.used.Remove(uint(f.id))
}

// Open makes the lowest free descriptor of p from least on stand for a new open file, which the provider knows as number
// and which is ready for the given events of poll(2). info is the entry's PerFDInfo.
//
// Errors: abi.EEXIST if the number is that of an open file, abi.EIO after Close, and those of fdtables.Table.OpenFrom.
// After an error nothing has changed.
func (pr *Provider) Open(
	p *Process, least fdtables.FD, number uint64, ready int16, closeOnExec bool, info uint64,
) (fdtables.FD, abi.Errno) {
	f := &virtualFile{provider: pr, number: number}
	f.ready.Store(uint32(uint16(ready)) & readyMask)
	pr.mu.Lock()
	switch {
	case pr.gone:
		pr.mu.Unlock()
		return -1, abi.EIO
	case pr.files[number] != nil:
		pr.mu.Unlock()
		return -1, abi.EEXIST
	}
	pr.files[number] = f
	pr.mu.Unlock()
	pr.host.virtuals.add(f)
	fd, e := p.table.OpenFrom(least, KindVirtual, f.id, closeOnExec, info)
	if e != 0 {
		pr.forget(f)
	}
	return fd, e
}

// forget makes the file's numbers free.
func (pr *Provider) forget(f *virtualFile) (gone bool) {
	pr.host.virtuals.remove(f)
	pr.mu.Lock()
	defer pr.mu.Unlock()
	delete(pr.files, f.number)
	return pr.gone
}

// SetReady says what the open file is ready for from now on, as events of poll(2): it wakes who waits for one of them.
// Each call is news of what it names, also if that was so before: who waits for edges (EPOLLET) is told once more. It is
// abi.ENOENT if no open file has the number.
func (pr *Provider) SetReady(number uint64, ready int16) abi.Errno {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	f := pr.files[number]
	if f == nil {
		return abi.ENOENT
	}
	f.set(uint32(uint16(ready)) & readyMask)
	return 0
}

// Number is the provider's number of the open file that fd stands for in p. It is abi.EBADF if fd is not open, and
// abi.ENOENT if it is none of the provider's files.
func (pr *Provider) Number(p *Process, fd fdtables.FD) (uint64, abi.Errno) {
	entry, e := p.table.Translate(fd)
	if e != 0 {
		return 0, e
	}
	if entry.Kind == KindVirtual {
		if f := pr.host.virtuals.byID.Load(entry.UnderFD); f != nil && f.provider == pr {
			return f.number, 0
		}
	}
	return 0, abi.ENOENT
}

// Len is how many open files the provider has.
func (pr *Provider) Len() int {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	return len(pr.files)
}

// Close says that nobody serves the files any more: whoever waits for one, now or later, finds an error and a hangup.
// Their descriptors are closed as they would be, and closed is not called any more, save by those who have begun to.
func (pr *Provider) Close() {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	pr.gone = true
	for _, f := range pr.files {
		f.set(unix.POLLERR | unix.POLLHUP)
	}
}

// closeVirtual is the close handler of KindVirtual.
func (h *Host) closeVirtual(e fdtables.Entry, _ uint64) error {
	f := h.virtuals.byID.Load(e.UnderFD)
	if f == nil {
		return errNoVirtual
	}
	if gone := f.provider.forget(f); !gone {
		f.provider.closed(f.number)
	}
	return nil
}

// errNoVirtual is the failure of a close of a descriptor that was not made by Provider.Open.
var errNoVirtual = errors.New("rawposix: a virtual descriptor that no provider has opened")

// set makes the file ready for events.
func (f *virtualFile) set(events uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready.Store(events)
	if events == 0 {
		return
	}
	for w := range f.waiters {
		w.ring(events)
	}
}

// await adds w to those who wait, and answers what the file is ready for.
func (f *virtualFile) await(w waiter) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiters == nil {
		f.waiters = map[waiter]struct{}{}
	}
	f.waiters[w] = struct{}{}
	return f.ready.Load()
}

// leave takes w out again. When it has returned, w is not rung any more.
func (f *virtualFile) leave(w waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.waiters, w)
}

// virtualPoll is one virtual file of a poll or select.
type virtualPoll struct {
	f       *virtualFile
	events  uint32 // asked for, or answered unasked
	revents int16
}

// look sets what each has, and answers how many have anything.
func look(polls []virtualPoll) (n int) {
	for i := range polls {
		p := &polls[i]
		if p.revents = int16(p.f.ready.Load() & p.events); p.revents != 0 {
			n++
		}
	}
	return n
}

// bell is an eventfd that wakes a poll.
type bell struct{ fd int }

func newBell() (*bell, abi.Errno) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, newFDErrno(errnoOf(err))
	}
	return &bell{fd}, 0
}

func (b *bell) ring(uint32) {
	// A count of 1 has room, unless 2^64-2 have gone before, and then it rings already.
	_, _ = unix.Write(b.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// silence makes it silent. It may be already.
func (b *bell) silence() {
	var count [8]byte
	_, _ = unix.Read(b.fd, count[:])
}

func (b *bell) close() { dropHost(b.fd) }

// eventsOf is a mask of poll(2) as that of an epoll.
func eventsOf(events int16) uint32 { return uint32(uint16(events)) & math.MaxUint16 }
