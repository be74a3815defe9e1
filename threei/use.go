package threei

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/lockcheck"
)

// This file implements how a cage is kept while a thread of another one, or the host, acts on it: its memory is not
// released before the last of them is done, and each of them is told when the cage stops.
//
// A cage's own threads need none of this: as long as one is inside, the cage is not quiescent.

// use counts who uses a cage from outside.
type use struct {
	n atomic.Int64 // how many, plus usesOver once nobody may begin to, plus usesDone once the release has begun
	// release gives the memory back. Set before usesOver is, and called once.
	release func() error
}

const (
	usesOver = 1 << 40
	usesDone = 1 << 41
)

// begin counts one more, or answers false if it is too late.
func (u *use) begin() bool {
	if u.n.Add(1) < usesOver {
		return true
	}
	u.end()
	return false
}

// end counts one less. The last one after over releases the memory.
func (u *use) end() {
	if u.n.Add(-1) == usesOver {
		_ = u.try() // there is nobody to tell: the step has ended
	}
}

// try releases the memory if nobody uses it, and nobody has released it.
func (u *use) try() error {
	if u.n.CompareAndSwap(usesOver, usesOver+usesDone) {
		lockcheck.NoneHeld("the release of a cage's memory")
		return u.release()
	}
	return nil
}

// inUse is how many use the cage from outside.
func (u *use) inUse() int64 { return u.n.Load() & (usesOver - 1) }

// ReleaseMemory is the memory step of the cage that has the id and this exit. It calls release, which makes the cage's
// addresses invalid, as soon as no other cage's thread and no method of the host uses them: at once, unless there is such
// a one, and then on its thread, as its call ends. It never waits for that, since it may run on the very thread that is in
// the way. The answer is release's error, if it ran at once. To call it again does nothing.
//
// Preconditions:
// The cage is quiescent.
func (s *System) ReleaseMemory(id abi.CageID, exit *exitcoord.Exit, release func() error) error {
	c := s.find(id, exit)
	if c == nil {
		return fmt.Errorf("release memory of cage %d: %w", id, ErrNoCage)
	}
	if !c.releasing.CompareAndSwap(false, true) {
		return nil
	}
	c.use.release = release
	c.use.n.Add(usesOver)
	return c.use.try()
}

// far is what a thread uses of other cages during one call.
type far struct {
	sys    *System
	host   bool     // the thread is no guest's: it may name any cage
	target *cage    // what the call acts on, nil for the thread's own cage
	uses   []*cage  // each counted once
	own    Canceler // the thread's own, while Thread.Cancel is the joined one
	poll   int      // the joined token, 0 for none
}

// use counts t among those that use c until the call ends, or answers false if it is too late.
func (t *Thread) use(c *cage) bool {
	for _, u := range t.uses {
		if u == c {
			return true
		}
	}
	if !c.use.begin() {
		return false
	}
	if len(t.uses) == 0 {
		t.own, t.Cancel = t.Cancel, (*joined)(t)
	}
	t.uses = append(t.uses, c)
	return true
}

// endUses ends all uses but the first n.
func (t *Thread) endUses(n int) {
	if t.poll > 0 {
		_ = unix.Close(t.poll) // it holds nothing
		t.poll = 0
	}
	for i := n; i < len(t.uses); i++ {
		t.uses[i].use.end()
		t.uses[i] = nil
	}
	t.uses = t.uses[:n]
	if n == 0 {
		t.Cancel, t.own = t.own, nil
	}
}

// joined is the cancel token of a thread that uses other cages: it fires when any of them stops, or its own.
type joined Thread

// Stopping reports whether the thread's own cage stops, or one that it uses.
func (j *joined) Stopping() bool {
	if j.own != nil && j.own.Stopping() {
		return true
	}
	for _, c := range j.uses {
		if c.stopping() {
			return true
		}
	}
	return false
}

// CancelFD is readable when any of the tokens is. It is made at the first call, and is good until the system call ends.
func (j *joined) CancelFD() (int, error) {
	if j.poll > 0 {
		return j.poll, nil
	}
	tokens := make([]int, 0, 1+len(j.uses))
	if j.own != nil {
		fd, err := j.own.CancelFD()
		if err != nil {
			return -1, err
		}
		tokens = append(tokens, fd)
	}
	for _, c := range j.uses {
		if c.cfg.Cancel == nil {
			continue
		}
		fd, err := c.cfg.Cancel.CancelFD()
		if err != nil {
			return -1, err
		}
		tokens = append(tokens, fd)
	}
	poll, err := JoinTokens(tokens...)
	if err != nil {
		return -1, err
	}
	j.poll = poll
	return poll, nil
}

// JoinTokens is a descriptor that is readable when any of the given ones is. The caller closes it; it holds none of them
// open. One that is there twice counts once. The error is the host's: EMFILE, ENFILE or ENOMEM.
func JoinTokens(tokens ...int) (int, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, err
	}
	for _, fd := range tokens {
		err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		// Two cages never share a token, but a thread of the host may be given the target's own.
		if err != nil && !errors.Is(err, unix.EEXIST) {
			_ = unix.Close(poll)
			return -1, err
		}
	}
	return poll, nil
}
