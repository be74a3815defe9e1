package fdtables

import "github.com/lindbridge/lindbridge/abi"

// Ref keeps an underfd open while an I/O on it is in flight: from Acquire to Release, whatever happens to the
// descriptor meanwhile. The zero Ref keeps nothing open.
//
// A Ref is owned by one goroutine and must not be copied: each Acquire is followed by one Release.
type Ref struct {
	s  *slot
	ts *Tables
}

// Acquire is Translate for I/O: the result's entry is what stands behind fd at this moment, and its underfd stays open
// until the result is released. It is abi.EBADF if fd is not open. It takes no lock and does not allocate.
//
// However it races with close, dup2, exec or exit, what it answers has not been closed: the Last handler has not run, and
// does not run before Release.
func (t *Table) Acquire(fd FD) (Ref, abi.Errno) {
	for {
		s := t.load(fd)
		if s == nil {
			return Ref{}, abi.EBADF
		}
		switch word := s.under().acquire(); {
		case !isDead(word):
			return Ref{s, t.ts}, 0
		case isClosed(word):
			return Ref{}, abi.EBADF
		}
		// s is no longer at fd: a slot leaves its table before its reference is dropped. Look again.
	}
}

// Entry is what the descriptor stood for when it was acquired; of the zero Ref, the zero Entry.
func (r *Ref) Entry() Entry {
	if r.s == nil {
		return Entry{}
	}
	return r.s.entry()
}

// Release ends the I/O. If the descriptor was closed meanwhile, and this was the last thing that kept its underfd open, it
// runs the Last handler and so may block; what the handler returns goes to Config.OnCloseError. Releasing again, or
// the zero Ref, does nothing.
func (r *Ref) Release() {
	s := r.s
	r.s = nil
	if s == nil {
		return
	}
	u := s.under()
	if owed, v := u.release(&r.ts.open.owed); owed != nil {
		r.ts.open.unlink(u)
		r.ts.runUnheard(owed, 0, v)
	}
}
