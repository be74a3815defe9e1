package fdtables_test

import (
	"maps"
	"slices"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// This file is the reference model: what the package does, written with maps, linear search and nothing that happens at
// the same time. model_test.go runs histories against both.

// pair is what references are counted for.
type pair struct {
	kind    fdtables.Kind
	underfd uint64
}

func pairOf(e fdtables.Entry) pair { return pair{e.Kind, e.UnderFD} }

// refFile is an open underfd.
type refFile struct {
	tables, ios uint64
	owed        fdtables.Entry // the entry that was closed last, while tables is 0
}

type refTable struct {
	fds     map[fdtables.FD]fdtables.Entry
	limit   fdtables.FD
	removed bool
}

type refRef struct {
	file *refFile
	e    fdtables.Entry
}

type reference struct {
	maxOpen int
	files   map[pair]*refFile
	tables  map[abi.CageID]*refTable
	// calls are the handlers that ran, and failed those of them that the caller hears of.
	calls  []call
	failed []fdtables.CloseError
	heard  []fdtables.CloseError
}

func newReference(maxOpen int) *reference {
	return &reference{maxOpen: maxOpen, files: map[pair]*refFile{}, tables: map[abi.CageID]*refTable{}}
}

// failing says which handlers of the test fail: it depends on the entry alone.
func failing(e fdtables.Entry) bool { return e.PerFDInfo%4 == 3 }

// run runs a handler. A nil where is a failure that goes nowhere but to OnCloseError.
func (m *reference) run(e fdtables.Entry, left uint64, where *fdtables.CloseError) {
	if e.Kind == silentKind {
		return
	}
	m.calls = append(m.calls, call{e, left})
	if !failing(e) {
		return
	}
	if where == nil {
		m.heard = append(m.heard, fdtables.CloseError{FD: fdtables.UnknownFD, Entry: e, Remaining: left})
		return
	}
	m.failed = append(m.failed,
		fdtables.CloseError{Cage: where.Cage, FD: where.FD, Entry: e, Remaining: left})
}

func (m *reference) join(e fdtables.Entry) abi.Errno {
	f := m.files[pairOf(e)]
	if f == nil {
		if m.maxOpen > 0 && len(m.files) >= m.maxOpen {
			return abi.ENFILE
		}
		f = &refFile{}
		m.files[pairOf(e)] = f
	} else if f.tables == 0 {
		m.run(f.owed, 1, nil)
	}
	f.tables++
	return 0
}

func (m *reference) drop(cage abi.CageID, fd fdtables.FD, e fdtables.Entry) {
	f, where := m.files[pairOf(e)], &fdtables.CloseError{Cage: cage, FD: fd}
	f.tables--
	switch {
	case f.tables > 0:
		m.run(e, f.tables, where)
	case f.ios > 0:
		f.owed = e
	default:
		delete(m.files, pairOf(e))
		m.run(e, 0, where)
	}
}

func (t *refTable) free(start fdtables.FD, named bool) (fdtables.FD, abi.Errno) {
	if t.removed {
		return -1, abi.EBADF
	}
	if named && (start < 0 || start >= t.limit) {
		return -1, abi.EINVAL
	}
	for fd := start; fd < t.limit; fd++ {
		if _, used := t.fds[fd]; !used {
			return fd, 0
		}
	}
	return -1, abi.EMFILE
}

func (m *reference) init(cage abi.CageID) bool {
	if m.tables[cage] != nil {
		return false
	}
	m.tables[cage] = &refTable{fds: map[fdtables.FD]fdtables.Entry{}, limit: fdtables.DefaultLimit}
	return true
}

func (m *reference) fork(src, dst abi.CageID) error {
	from := m.tables[src]
	if m.tables[dst] != nil {
		return fdtables.ErrCageExists
	}
	if from == nil {
		return fdtables.ErrNoCage
	}
	m.tables[dst] = &refTable{fds: maps.Clone(from.fds), limit: from.limit}
	for _, e := range from.fds {
		m.files[pairOf(e)].tables++
	}
	return nil
}

func (m *reference) remove(cage abi.CageID) bool {
	t := m.tables[cage]
	if t == nil {
		return false
	}
	delete(m.tables, cage)
	t.removed = true
	m.dropAll(cage, t, func(fdtables.Entry) bool { return true })
	return true
}

func (m *reference) dropAll(cage abi.CageID, t *refTable, which func(fdtables.Entry) bool) {
	for _, fd := range slices.Sorted(maps.Keys(t.fds)) {
		if e := t.fds[fd]; which(e) {
			delete(t.fds, fd)
			m.drop(cage, fd, e)
		}
	}
}

func (m *reference) open(t *refTable, start fdtables.FD, named bool, e fdtables.Entry) (fdtables.FD, abi.Errno) {
	if e.Kind >= fdtables.KindReserved {
		return -1, abi.EINVAL
	}
	fd, errno := t.free(start, named)
	if errno == 0 {
		errno = m.join(e)
	}
	if errno != 0 {
		return -1, errno
	}
	t.fds[fd] = e
	return fd, 0
}

func (m *reference) openAt(cage abi.CageID, t *refTable, fd fdtables.FD, e fdtables.Entry) abi.Errno {
	if e.Kind >= fdtables.KindReserved {
		return abi.EINVAL
	}
	if t.removed || fd < 0 || fd >= t.limit {
		return abi.EBADF
	}
	if errno := m.join(e); errno != 0 {
		return errno
	}
	m.replace(cage, t, fd, e)
	return 0
}

func (m *reference) replace(cage abi.CageID, t *refTable, fd fdtables.FD, e fdtables.Entry) {
	old, used := t.fds[fd]
	t.fds[fd] = e
	if used {
		m.drop(cage, fd, old)
	}
}

func (m *reference) dup(t *refTable, old, start fdtables.FD, named, cloexec bool) (fdtables.FD, abi.Errno) {
	e, used := t.fds[old]
	if !used {
		return -1, abi.EBADF
	}
	fd, errno := t.free(start, named)
	if errno != 0 {
		return -1, errno
	}
	m.files[pairOf(e)].tables++
	e.CloseOnExec = cloexec
	t.fds[fd] = e
	return fd, 0
}

func (m *reference) dup2(cage abi.CageID, t *refTable, old, fd fdtables.FD, cloexec bool) abi.Errno {
	e, used := t.fds[old]
	if !used || fd != old && (fd < 0 || fd >= t.limit) {
		return abi.EBADF
	}
	if fd == old {
		return 0
	}
	m.files[pairOf(e)].tables++
	e.CloseOnExec = cloexec
	m.replace(cage, t, fd, e)
	return 0
}

func (m *reference) close(cage abi.CageID, t *refTable, fd fdtables.FD) abi.Errno {
	e, used := t.fds[fd]
	if !used {
		return abi.EBADF
	}
	delete(t.fds, fd)
	m.drop(cage, fd, e)
	return 0
}

func (m *reference) acquire(t *refTable, fd fdtables.FD) (*refRef, bool) {
	e, used := t.fds[fd]
	if !used {
		return nil, false
	}
	f := m.files[pairOf(e)]
	f.ios++
	return &refRef{f, e}, true
}

func (m *reference) release(r *refRef) {
	r.file.ios--
	if r.file.ios == 0 && r.file.tables == 0 {
		delete(m.files, pairOf(r.e))
		m.run(r.file.owed, 0, nil)
	}
}
