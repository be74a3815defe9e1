package rawposix

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements epoll. Which descriptors are members of which epoll, and until when, is fdtables' to say. Behind
// each epoll stands one of the host's kernel, with the members that the kernel knows and, once it has virtual members
// too, a bell that rings while one of those may be ready: so that who waits for the epoll, by whichever call, waits for
// all of them.

const (
	epollEventSize = 12 // of x86-64, where struct epoll_event has no padding
	maxEpollEvents = math.MaxInt32 / epollEventSize
	// epollAtOnce is how many events one wait answers at most.
	epollAtOnce = 512
	// fewEvents is how many of them need no allocation.
	fewEvents = 32

	epollET      = 1 << 31
	epollOneshot = 1 << 30
	epollWakeup  = 1 << 29
	// epollOptions is what of a member's events says how it is told, not what of.
	epollOptions = epollET | epollOneshot | epollWakeup | fdtables.EpollExclusive
)

// epoll is the kernel's side of one virtual epoll, and its virtual members.
type epoll struct {
	fd    int        // the kernel's epoll; immutable
	ctlMu sync.Mutex // held while members are added, changed or taken out by a guest; before all others

	mu     sync.Mutex // a leaf
	closed bool       // guarded by mu: fd is not the epoll's any more
	bell   *bell      // guarded by mu: nil without virtual members
	mark   uint64     // guarded by mu: the kernel's data of the bell, which that of no member equals
	rings  bool       // guarded by mu
	ready  []*member  // guarded by mu: the virtual members that may be ready, in the order in which they became so
}

// member is one member of an epoll.
type member struct {
	ep *epoll       // immutable
	f  *virtualFile // nil for one that the kernel knows; immutable
	// fd is the descriptor by which the kernel knows it: that of the file or, if own, a duplicate. The kernel takes each
	// descriptor once, and two numbers of a guest may share one. Guarded by ep.ctlMu until the member is added, then
	// immutable.
	fd  int
	own bool

	event    fdtables.EpollEvent // guarded by ep.mu
	disarmed bool                // it is EPOLLONESHOT, and was told; guarded by ep.mu
	queued   bool                // it is in ep.ready; guarded by ep.mu
}

// epollCreate is epoll_create(2): a size, which means nothing but has to be positive.
func epollCreate(t *threei.Thread, a *threei.Args) int64 {
	if int32(a.Val[0]) <= 0 {
		return abi.EINVAL.Result()
	}
	return of(t).newEpoll(false)
}

// epollCreate1 is epoll_create1(2): flags.
func epollCreate1(t *threei.Thread, a *threei.Args) int64 {
	if uint32(a.Val[0])&^oCloexec != 0 {
		return abi.EINVAL.Result()
	}
	return of(t).newEpoll(uint32(a.Val[0])&oCloexec != 0)
}

func (p *Process) newEpoll(cloexec bool) int64 {
	fd, e := p.table.OpenEpoll(cloexec)
	if e != 0 {
		return e.Result()
	}
	h, e := p.acquire(uint64(fd))
	if e != 0 {
		_ = p.table.Close(fd)
		return e.Result()
	}
	h.release()
	return int64(fd)
}

// epollBehind is the kernel's epoll of the virtual one that ref, which holds it open, stands for. It is made when it is
// first asked for.
func (p *Process) epollBehind(ref *fdtables.Ref) (int, *file, abi.Errno) {
	for {
		below, e := ref.EpollUnderFD(fdtables.KindKernel)
		if e == 0 {
			return int(below), p.host.files.Load(below), 0
		}
		if e != abi.ENOENT {
			return -1, nil, e
		}
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return -1, nil, newFDErrno(errnoOf(err))
		}
		f := &file{typ: typeOther, epoll: &epoll{fd: fd}}
		p.host.files.Insert(uint64(fd), f)
		if e = ref.EpollAddUnderFD(fdtables.KindKernel, uint64(fd)); e != 0 {
			p.host.files.Delete(uint64(fd), f)
			dropHost(fd)
		}
		if e != 0 && e != abi.EEXIST { // another thread was first
			return -1, nil, e
		}
	}
}

// end is called before fd is closed: nobody may use its number from here on.
func (ep *epoll) end() {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.closed = true
	if ep.bell != nil {
		ep.bell.close()
		ep.bell = nil
	}
}

// acquireEpoll is the epoll that argument 0 stands for.
func (p *Process) acquireEpoll(v uint64) (handle, abi.Errno) {
	h, e := p.acquire(v)
	if e == abi.EBADF {
		// One that is open but is nothing of the kernel's is no epoll.
		if _, open := p.table.Translate(guestFD(v)); open == 0 {
			return handle{}, abi.EINVAL
		}
	}
	if e == 0 && h.f.epoll == nil {
		h.release()
		return handle{}, abi.EINVAL
	}
	return h, e
}

// epollCtl is epoll_ctl(2): epoll, operation, fd, event.
func epollCtl(t *threei.Thread, a *threei.Args) int64 {
	p, op, fd := of(t), int32(a.Val[1]), guestFD(a.Val[2])
	var event fdtables.EpollEvent
	if op != fdtables.EpollDel {
		src, e := resolve(t, a.Val[3], epollEventSize, a.Cage[3])
		if e != 0 {
			return e.Result()
		}
		event = fdtables.EpollEvent{Events: le.Uint32(src) &^ epollWakeup, Data: le.Uint64(src[4:])}
	}
	if _, e := p.table.Translate(guestFD(a.Val[0])); e != 0 {
		return e.Result()
	}
	h, e := p.acquirePolled(a.Val[2])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	eph, e := p.acquireEpoll(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer eph.release()
	return changeMember(&eph, op, fd, &h, event).Result()
}

// changeMember is epoll_ctl(2) on what is acquired.
func changeMember(eph *handle, op int32, fd fdtables.FD, h *polledFile, event fdtables.EpollEvent) abi.Errno {
	ep := eph.f.epoll
	ep.ctlMu.Lock()
	defer ep.ctlMu.Unlock()
	switch op {
	case fdtables.EpollAdd:
		m := &member{ep: ep, f: h.v, fd: h.fd, event: event}
		if _, e := eph.ref.EpollCtl(op, fd, &h.ref, event, m); e != 0 {
			return e
		}
		e := m.enter()
		if e != 0 {
			_, _ = eph.ref.EpollCtl(fdtables.EpollDel, fd, &h.ref, event, nil) // it is there: both are held open
		}
		return e
	case fdtables.EpollMod:
		w, e := eph.ref.EpollCtl(op, fd, &h.ref, event, nil)
		if m, ok := w.(*member); ok && e == 0 {
			return m.change(event)
		}
		return e
	case fdtables.EpollDel:
		w, e := eph.ref.EpollCtl(op, fd, &h.ref, event, nil)
		if m, ok := w.(*member); ok && e == 0 {
			m.Left(false)
		}
		return e
	}
	_, e := eph.ref.EpollCtl(op, fd, &h.ref, event, nil)
	return e
}

// enter makes the member known to the kernel, or to its provider.
func (m *member) enter() abi.Errno {
	if m.f != nil {
		if e := m.ep.hang(); e != 0 {
			return e
		}
		m.ring(m.f.await(m))
		return 0
	}
	m.ep.mu.Lock()
	defer m.ep.mu.Unlock()
	e := m.controlLocked(unix.EPOLL_CTL_ADD, m.event)
	if e != abi.EEXIST {
		return e
	}
	fd, err := unix.FcntlInt(uintptr(m.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return newFDErrno(errnoOf(err))
	}
	file := m.fd
	m.fd, m.own = fd, true
	if e = m.controlLocked(unix.EPOLL_CTL_ADD, m.event); e != 0 {
		m.fd, m.own = file, false
		dropHost(fd)
	}
	return e
}

// controlLocked is the kernel's epoll_ctl(2). ep.mu is held.
func (m *member) controlLocked(op int, event fdtables.EpollEvent) abi.Errno {
	if op != unix.EPOLL_CTL_DEL && m.ep.bell != nil && event.Data == m.ep.mark {
		if e := m.ep.markLocked(unix.EPOLL_CTL_MOD, event.Data); e != 0 {
			return e
		}
	}
	ev := kernelEvent(event)
	return errnoOf(unix.EpollCtl(m.ep.fd, op, m.fd, &ev))
}

// change changes what the member is waited for. One that was told once, and no more, is waited for again.
func (m *member) change(event fdtables.EpollEvent) abi.Errno {
	m.ep.mu.Lock()
	if m.f == nil {
		defer m.ep.mu.Unlock()
		e := m.controlLocked(unix.EPOLL_CTL_MOD, event)
		if e == 0 {
			m.event = event
		}
		return e
	}
	m.event, m.disarmed = event, false
	m.ep.mu.Unlock()
	m.ring(m.f.ready.Load())
	return 0
}

// Left takes the member out of the kernel's epoll, or from its provider.
func (m *member) Left(over bool) {
	ep := m.ep
	if m.f != nil {
		m.f.leave(m)
		ep.mu.Lock()
		defer ep.mu.Unlock()
		m.disarmed = true // who has just begun to ring it finds this
		for i, r := range ep.ready {
			if r == m {
				ep.ready = append(ep.ready[:i], ep.ready[i+1:]...)
				break
			}
		}
		return
	}
	if !over {
		ep.mu.Lock()
		if !ep.closed {
			_ = m.controlLocked(unix.EPOLL_CTL_DEL, fdtables.EpollEvent{})
		}
		ep.mu.Unlock()
	}
	if m.own {
		dropHost(m.fd)
	}
}

// wantsLocked is the events that a virtual member is told of. ep.mu is held.
func (m *member) wantsLocked() uint32 {
	if m.disarmed {
		return 0
	}
	return m.event.Events&^epollOptions | unix.EPOLLERR | unix.EPOLLHUP
}

// ring queues the virtual member, if it is waited for any of events.
func (m *member) ring(events uint32) {
	ep := m.ep
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if m.queued || ep.bell == nil || events&m.wantsLocked() == 0 {
		return
	}
	m.queued = true
	ep.ready = append(ep.ready, m)
	if !ep.rings {
		ep.rings = true
		ep.bell.ring(0)
	}
}

// hang gives the epoll a bell, if it has none.
func (ep *epoll) hang() abi.Errno {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.bell != nil {
		return 0
	}
	b, e := newBell()
	if e != 0 {
		return e
	}
	ep.bell = b
	if e := ep.markLocked(unix.EPOLL_CTL_ADD, 0); e != 0 {
		ep.bell = nil
		b.close()
		return e
	}
	return 0
}

// markLocked gives the bell another mark than not: a number that no guest can know, so that its members have others.
// ep.mu is held.
func (ep *epoll) markLocked(op int, not uint64) abi.Errno {
	mark := not
	for mark == not {
		var b [8]byte
		_, _ = rand.Read(b[:]) // it does not fail
		mark = binary.NativeEndian.Uint64(b[:])
	}
	ev := kernelEvent(fdtables.EpollEvent{Events: unix.EPOLLIN, Data: mark})
	e := errnoOf(unix.EpollCtl(ep.fd, op, ep.bell.fd, &ev))
	if e == 0 {
		ep.mark = mark
	}
	return e
}

// kernelEvent is an event as the kernel has it.
func kernelEvent(e fdtables.EpollEvent) unix.EpollEvent {
	return unix.EpollEvent{Events: e.Events, Fd: int32(e.Data), Pad: int32(e.Data >> 32)}
}

// guestEvent is an event as a guest has it.
func guestEvent(e *unix.EpollEvent) fdtables.EpollEvent {
	return fdtables.EpollEvent{Events: e.Events, Data: uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32}
}

// collect answers what is ready now. again says that it should be called once more if that is nothing.
func (ep *epoll) collect(events []unix.EpollEvent) (n int, again bool, e abi.Errno) {
	for {
		var err error
		n, err = unix.EpollWait(ep.fd, events, 0)
		if e = errnoOf(err); e != abi.EINTR {
			break
		}
	}
	if e != 0 || n == 0 {
		return 0, false, e
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.bell == nil {
		return n, false, 0
	}
	for i := range n {
		if guestEvent(&events[i]).Data != ep.mark {
			continue
		}
		copy(events[i:n], events[i+1:n])
		return n - 1 + ep.takeLocked(events[n-1:]), true, 0
	}
	return n, false, 0
}

// takeLocked answers virtual members that are ready, and silences the bell if none is left. ep.mu is held.
func (ep *epoll) takeLocked(events []unix.EpollEvent) (n int) {
	queue := ep.ready
	ep.ready = nil
	for i, m := range queue {
		if n == len(events) {
			ep.ready = append(queue[i:len(queue):len(queue)], ep.ready...) // what was told comes last now
			break
		}
		ready := m.f.ready.Load() & m.wantsLocked()
		if ready == 0 {
			m.queued = false
			continue
		}
		events[n] = kernelEvent(fdtables.EpollEvent{Events: ready, Data: m.event.Data})
		n++
		if m.event.Events&(epollET|epollOneshot) != 0 {
			m.queued, m.disarmed = false, m.event.Events&epollOneshot != 0
			continue
		}
		ep.ready = append(ep.ready, m)
	}
	if len(ep.ready) == 0 && ep.rings {
		ep.rings = false
		ep.bell.silence()
	}
	return n
}

// epollWait is epoll_wait(2): epoll, array of events, its length, milliseconds to wait, negative for ever.
func epollWait(t *threei.Thread, a *threei.Args) int64 {
	return waitEvents(t, a, millisDeadline(t, a.Val[3]))
}

// epollPwait is epoll_pwait(2): epoll_wait, signal mask, its size. The mask is checked, and means nothing as long as no
// signal interrupts a call.
func epollPwait(t *threei.Thread, a *threei.Args) int64 {
	if e := checkMask(t, a.Val[4], a.Val[5], a.Cage[4]); e != 0 {
		return e.Result()
	}
	return epollWait(t, a)
}

// epollPwait2 is epoll_pwait2(2): epoll_pwait with a timespec to wait, or none for ever.
func epollPwait2(t *threei.Thread, a *threei.Args) int64 {
	deadline, e := readDeadline(t, a.Val[3], a.Cage[3])
	if e != 0 {
		return e.Result()
	}
	if e := checkMask(t, a.Val[4], a.Val[5], a.Cage[4]); e != 0 {
		return e.Result()
	}
	return waitEvents(t, a, deadline)
}

// waitEvents waits for the members of argument 0 until deadline, the zero one being never.
func waitEvents(t *threei.Thread, a *threei.Args, deadline time.Time) int64 {
	most := int32(a.Val[2])
	if most <= 0 || most > maxEpollEvents {
		return abi.EINVAL.Result()
	}
	guest, e := resolve(t, a.Val[1], uint64(most)*epollEventSize, a.Cage[1])
	if e != 0 {
		return e.Result()
	}
	h, e := of(t).acquireEpoll(a.Val[0])
	if e != 0 {
		return e.Result()
	}
	defer h.release()
	if most <= fewEvents {
		var events [fewEvents]unix.EpollEvent
		return waitInto(t, &h, events[:most], guest, deadline)
	}
	return waitInto(t, &h, make([]unix.EpollEvent, min(most, epollAtOnce)), guest, deadline)
}

func waitInto(t *threei.Thread, h *handle, events []unix.EpollEvent, guest []byte, deadline time.Time) int64 {
	for {
		n, again, e := h.f.epoll.collect(events)
		switch {
		case e != 0:
			return e.Result()
		case n > 0:
			for i := range n {
				ev, dst := guestEvent(&events[i]), guest[i*epollEventSize:]
				le.PutUint32(dst, ev.Events)
				le.PutUint64(dst[4:], ev.Data)
			}
			return int64(n)
		case again:
			continue // what rang is ready no more
		case !deadline.IsZero() && time.Until(deadline) <= 0:
			return 0
		}
		if _, e := waitOrPark(t, h.fd, unix.POLLIN, deadline); e != 0 {
			return e.Result()
		}
	}
}
