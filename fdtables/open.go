package fdtables

import "github.com/lindbridge/lindbridge/abi"

// Open makes the lowest free descriptor stand for (k, underfd) and answers it. If the pair is open already, in
// whichever cage, the descriptor joins its count.
//
// Errors: abi.EMFILE at the table's limit, abi.ENFILE at the runtime's, abi.EINVAL for a reserved kind, abi.EBADF if the
// table was removed. After an error nothing has changed: no handler was called, and the underfd is still the caller's.
func (t *Table) Open(k Kind, underfd uint64, closeOnExec bool, info uint64) (FD, abi.Errno) {
	return t.open(0, false, Entry{Kind: k, CloseOnExec: closeOnExec, UnderFD: underfd, PerFDInfo: info})
}

// OpenFrom is Open with the lowest free descriptor from start on. It is abi.EINVAL, as fcntl(2) F_DUPFD, if start is
// negative or not below the limit.
func (t *Table) OpenFrom(start FD, k Kind, underfd uint64, closeOnExec bool, info uint64) (FD, abi.Errno) {
	return t.open(start, true, Entry{Kind: k, CloseOnExec: closeOnExec, UnderFD: underfd, PerFDInfo: info})
}

func (t *Table) open(start FD, named bool, e Entry) (FD, abi.Errno) {
	if e.Kind >= KindReserved {
		return -1, abi.EINVAL
	}
	t.mu.Lock()
	fd, errno := t.freeLocked(start, named)
	if errno != 0 {
		t.mu.Unlock()
		return -1, errno
	}
	s, owed, errno := t.makeLocked(fd, e)
	if errno != 0 {
		t.mu.Unlock()
		return -1, errno
	}
	t.putLocked(fd, s)
	t.mu.Unlock()
	t.ts.settle(owed)
	return fd, 0
}

// OpenAt makes fd stand for (k, underfd), and then closes what it stood for before, if anything: as dup2 does. Where
// both are the same underfd, that is an Intermediate call and never the Last. The change is one step for any observer.
//
// Errors: abi.EBADF if fd is negative or not below the limit, or the table was removed; abi.ENFILE at the runtime's
// limit; abi.EINVAL for a reserved kind. After those nothing has changed. A *CloseError says that the handler of the old
// entry failed; the new entry is in place all the same.
func (t *Table) OpenAt(fd FD, k Kind, underfd uint64, closeOnExec bool, info uint64) error {
	if k >= KindReserved {
		return abi.EINVAL
	}
	e := Entry{Kind: k, CloseOnExec: closeOnExec, UnderFD: underfd, PerFDInfo: info}
	t.mu.Lock()
	if !t.inLimitLocked(fd) {
		t.mu.Unlock()
		return abi.EBADF
	}
	s, owed, errno := t.makeLocked(fd, e)
	if errno != 0 {
		t.mu.Unlock()
		return errno
	}
	old := t.putLocked(fd, s)
	t.mu.Unlock()
	t.ts.settle(owed)
	return t.closed(fd, old)
}

// Dup makes the lowest free descriptor a duplicate of old: the same entry, but not closed by exec. It is abi.EBADF if old
// is not open and abi.EMFILE at the table's limit.
func (t *Table) Dup(old FD) (FD, abi.Errno) { return t.dup(old, 0, false, false) }

// DupFrom is fcntl(2) F_DUPFD, and F_DUPFD_CLOEXEC with closeOnExec: Dup with the lowest free descriptor from start on.
// It is abi.EBADF if old is not open, else abi.EINVAL if start is negative or not below the limit, else abi.EMFILE if
// none is free.
func (t *Table) DupFrom(old, start FD, closeOnExec bool) (FD, abi.Errno) {
	return t.dup(old, start, true, closeOnExec)
}

func (t *Table) dup(old, start FD, named, closeOnExec bool) (FD, abi.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.openLocked(old)
	if s == nil {
		return -1, abi.EBADF
	}
	fd, errno := t.freeLocked(start, named)
	if errno != 0 {
		return -1, errno
	}
	t.putLocked(fd, s.duplicate(closeOnExec))
	return fd, 0
}

// Dup2 makes fd a duplicate of old, and then closes what fd stood for before, if anything: dup2(2), and dup3(2) with
// closeOnExec. The change is one step for any observer. With fd == old it does nothing but check that old is open; that
// this is an error of dup3 is for the caller to see.
//
// Errors: abi.EBADF if old is not open, or fd is negative or not below the limit. After that nothing has changed. A
// *CloseError says that the handler of fd's old entry failed; the duplicate is in place all the same.
func (t *Table) Dup2(old, fd FD, closeOnExec bool) error {
	t.mu.Lock()
	s := t.openLocked(old)
	if s == nil || fd != old && !t.inLimitLocked(fd) {
		t.mu.Unlock()
		return abi.EBADF
	}
	if fd == old {
		t.mu.Unlock()
		return nil
	}
	replaced := t.putLocked(fd, s.duplicate(closeOnExec))
	t.mu.Unlock()
	return t.closed(fd, replaced)
}

// inLimitLocked reports whether fd can be opened, or replaced, by its number.
func (t *Table) inLimitLocked(fd FD) bool { return fd >= 0 && fd < t.limit && t.now.Load() != nil }

// makeLocked is joinLocked where fd is what will be opened: in the place of fd, if there is a closed slot. Then fd is open
// before it is put into the table, for all that do not need t.mu.
func (t *Table) makeLocked(fd FD, e Entry) (s, owed *slot, errno abi.Errno) {
	if s = t.load(fd); s == nil || !s.isClosed() {
		return t.joinLocked(e)
	}
	u := s.under()
	u.bornAnew(e)
	counting, owed, errno := t.ts.open.join(u)
	switch {
	case counting == u:
		return s, owed, 0
	case errno != 0:
		return nil, nil, errno // and it is still closed
	}
	return newAlias(e, counting), owed, 0
}

// joinLocked makes a slot for e, to put into t, with a table reference on the count of e's pair. If owed is not nil,
// settle(owed) follows once t.mu is free.
func (t *Table) joinLocked(e Entry) (s, owed *slot, errno abi.Errno) {
	u := t.spare
	if u == nil {
		u = newUnders()
	}
	next, rest := u.following(), u.lives.Load()
	u.born(e)
	counting, owed, errno := t.ts.open.join(u)
	if counting == u {
		t.spare = next
		return &u.first, owed, 0
	}
	u.unborn(rest)
	t.spare = u
	if errno != 0 {
		return nil, nil, errno
	}
	return newAlias(e, counting), owed, 0
}

// duplicate is a slot for one more descriptor of s's underfd, with a table reference. The caller holds the mu of a table
// that s is in.
func (s *slot) duplicate(closeOnExec bool) *slot {
	if s.closesOnExec() == closeOnExec {
		return s.share()
	}
	u, e := s.under(), s.entry()
	u.share()
	e.CloseOnExec = closeOnExec
	return newAlias(e, u)
}
