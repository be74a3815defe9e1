package rawposix

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
)

// This file implements the open of a FIFO that waits for its other end, as POSIX has it for one without O_NONBLOCK.
//
// The kernel has no other way to wait for that than the blocking open itself, and Linux none to end it but a signal. So a
// goroutine makes the blocking open, the guest's thread waits for the goroutine and the cancel token, and on
// cancellation the FIFO is opened for reading and writing for a moment: that is the other end, which ends the
// goroutine's open. Needed are thus both permissions on the FIFO. Without them it is not waited for: see openWriter and
// awaitWriter.

// blockedOpen is one blocking open of a FIFO.
type blockedOpen struct {
	ref    int             // a descriptor of the FIFO, which may be an O_PATH one
	event  int             // an eventfd that becomes readable when the open has ended
	opened chan openResult // gets one result, after event
}

type openResult struct {
	fd int
	e  abi.Errno
}

// openWriter opens the FIFO at path for writing when it has got a reader. It is abi.ENXIO if the file is not a FIFO, or
// one that this process may not read.
func (h *Host) openWriter(t *threei.Thread, dir int, path []byte, flags int) (int, abi.Errno) {
	ref, e := h.openBeneath(dir, path, unix.O_PATH|flags&unix.O_NOFOLLOW, 0)
	if e != 0 {
		return -1, e
	}
	var st unix.Stat_t
	if err := unix.Fstat(ref, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || !mayReadAndWrite(ref) {
		dropHost(ref)
		return -1, abi.ENXIO
	}
	return h.openBlocking(t, ref, flags)
}

// awaitWriter waits until the FIFO that fd reads has a writer, and answers the descriptor to go on with; fd itself is
// used up. A FIFO that this process may not write is not waited for here: the first read does it.
func (h *Host) awaitWriter(t *threei.Thread, fd int, f *file, flags int) (int, abi.Errno) {
	if !mayReadAndWrite(fd) {
		f.lazyFIFO = true
		return fd, 0
	}
	return h.openBlocking(t, fd, flags)
}

// openBlocking opens the FIFO behind ref, which it uses up, and waits for its other end. It answers a descriptor with
// O_NONBLOCK.
func (h *Host) openBlocking(t *threei.Thread, ref, flags int) (int, abi.Errno) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		dropHost(ref)
		return -1, newFDErrno(errnoOf(err))
	}
	b := &blockedOpen{ref: ref, event: event, opened: make(chan openResult, 1)}
	go b.run(flags &^ (unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_NOFOLLOW | unix.O_NONBLOCK))
	if _, e := wait(t, event, unix.POLLIN, time.Time{}); e != 0 {
		if !b.end() {
			h.blocked.add(b)
		}
		return -1, e
	}
	r := <-b.opened
	b.close()
	if r.e == 0 {
		if err := unix.SetNonblock(r.fd, true); err != nil {
			dropHost(r.fd)
			return -1, errnoOf(err)
		}
	}
	return r.fd, newFDErrno(r.e)
}

// run makes the blocking open. It is a goroutine of its own, which openBlocking or end waits for.
func (b *blockedOpen) run(flags int) {
	fd, err := unix.Open(procFD(b.ref), flags|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(procFD(b.ref), flags|unix.O_CLOEXEC, 0)
	}
	one := [8]byte{1}
	// Must precede the send, after which event may be closed. An eventfd takes a first 1 without fail.
	_, _ = unix.Write(b.event, one[:])
	b.opened <- openResult{fd: fd, e: errnoOf(err)}
}

// end makes the blocking open return, and then gives everything back. It answers false, and has done nothing, if it could
// not: the process has no descriptor left.
func (b *blockedOpen) end() bool {
	other, err := unix.Open(procFD(b.ref), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	r := <-b.opened
	if r.e == 0 {
		dropHost(r.fd)
	}
	dropHost(other)
	b.close()
	return true
}

func (b *blockedOpen) close() {
	dropHost(b.ref)
	dropHost(b.event)
}

// blockedOpens are the opens that could not be ended for lack of a descriptor. They are tried again when one was closed.
type blockedOpens struct {
	n    atomic.Int32 // how many there are
	mu   sync.Mutex
	list []*blockedOpen // guarded by mu
}

func (s *blockedOpens) add(b *blockedOpen) {
	s.mu.Lock()
	s.list = append(s.list, b)
	s.n.Add(1)
	s.mu.Unlock()
}

// retry ends what can be ended now.
func (s *blockedOpens) retry() {
	if s.n.Load() == 0 {
		return
	}
	s.mu.Lock()
	list := s.list
	s.list = nil
	s.n.Add(-int32(len(list)))
	s.mu.Unlock()
	for _, b := range list {
		if !b.end() {
			s.add(b)
		}
	}
}

// mayReadAndWrite reports whether this process may open the file behind fd for both.
func mayReadAndWrite(fd int) bool {
	return unix.Faccessat(unix.AT_FDCWD, procFD(fd), unix.R_OK|unix.W_OK, unix.AT_EACCESS) == nil
}
