package fdtables_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

// silentKind has no handlers.
const silentKind fdtables.Kind = 3

// choices is where a history comes from: from draws the calls and their arguments, one number after the other.
type choices interface {
	// from is a number from lo to hi.
	from(what string, lo, hi int) int
}

// side is one table, as it is and as the model has it. It stays after the cage was removed.
type side struct {
	cage  abi.CageID
	real  *fdtables.Table
	model *refTable
}

// history runs calls on the package and on the model, and compares all that can be seen.
type history struct {
	c       choices
	ts      *fdtables.Tables
	m       *reference
	sides   []side
	refs    []fdtables.Ref
	refsM   []*refRef
	calls   []call
	heard   []fdtables.CloseError
	last    string // the call, for messages
	problem string
}

func newHistory(c choices) *history {
	maxOpen := c.from("maxOpen", 0, 12)
	h := &history{c: c, m: newReference(maxOpen)}
	h.ts = fdtables.New(fdtables.Config{
		MaxOpen:      uint64(maxOpen),
		OnCloseError: func(e *fdtables.CloseError) { h.heard = append(h.heard, *e) },
	})
	handler := func(e fdtables.Entry, left uint64) error {
		h.calls = append(h.calls, call{e, left})
		switch {
		case !failing(e):
			return nil
		case e.PerFDInfo%8 == 3:
			return errHandler
		}
		panic(errHandler)
	}
	for _, k := range []fdtables.Kind{0, 1, 1000} {
		h.ts.RegisterCloseHandlers(k, fdtables.Handlers{Intermediate: handler, Last: handler})
	}
	h.newTable(2)
	return h
}

// The domains of arguments: small, so that they meet, with the values at the edges.

func (h *history) cage() abi.CageID {
	return []abi.CageID{2, 3, 4, 1 << 20, 1 << 40}[h.c.from("cage", 0, 4)]
}

func (h *history) side() side { return h.sides[h.c.from("table", 0, len(h.sides)-1)] }

func (h *history) fd() fdtables.FD {
	edges := []fdtables.FD{-1, 15, 16, 17, 63, 64, 65, 1023, 1024, 1 << 20, 1<<31 - 1, -1 << 31}
	if i := h.c.from("fd", 0, 2*len(edges)); i < len(edges) {
		return edges[i]
	}
	return fdtables.FD(h.c.from("low fd", 0, 7))
}

func (h *history) flag() bool { return h.c.from("flag", 0, 1) == 1 }

func (h *history) entry() fdtables.Entry {
	kinds := []fdtables.Kind{0, 0, 0, 1, silentKind, 1000, fdtables.KindReserved}
	return fdtables.Entry{
		Kind:        kinds[h.c.from("kind", 0, len(kinds)-1)],
		CloseOnExec: h.flag(),
		UnderFD:     []uint64{0, 1, 2, 63, 64, 1 << 40, 1<<64 - 1}[h.c.from("underfd", 0, 6)],
		PerFDInfo:   uint64(h.c.from("info", 0, 8)),
	}
}

func (h *history) newTable(cage abi.CageID) {
	real, err := h.ts.Init(cage)
	if !h.m.init(cage) {
		h.want(errors.Is(err, fdtables.ErrCageExists), "Init = %v", err)
		return
	}
	h.want(err == nil, "Init = %v", err)
	h.addSide(cage, real)
}

func (h *history) addSide(cage abi.CageID, real *fdtables.Table) {
	if len(h.sides) > 8 { // forget the one that was removed first; at most 5 are not removed
		i := slices.IndexFunc(h.sides, func(s side) bool { return s.model.removed })
		h.sides = slices.Delete(h.sides, i, i+1)
	}
	h.sides = append(h.sides, side{cage, real, h.m.tables[cage]})
}

// want notes the first thing that is not as the model has it.
func (h *history) want(ok bool, format string, args ...any) {
	if !ok && h.problem == "" {
		h.problem = h.last + ": " + fmt.Sprintf(format, args...)
	}
}

// wantFD compares the answers of a call that makes a descriptor.
func (h *history) wantFD(fd fdtables.FD, errno abi.Errno, fdM fdtables.FD, errnoM abi.Errno) {
	h.want(fd == fdM && errno == errnoM, "answers %d, %v; the model %d, %v", fd, errno, fdM, errnoM)
}

// wantClose compares the answer of a call that may close one descriptor, and is an error number, a *CloseError or nil.
func (h *history) wantClose(err error, errnoM abi.Errno) {
	var ce *fdtables.CloseError
	if errors.As(err, &ce) {
		h.wantFailed([]fdtables.CloseError{*ce})
	} else {
		h.want(errnoOf(err) == errnoM && (err == nil) == (errnoM == 0), "answers %v; the model %v", err, errnoM)
		h.wantFailed(nil)
	}
}

// wantFailed compares the handlers that failed.
func (h *history) wantFailed(failed []fdtables.CloseError) {
	h.want(slices.Equal(plain(failed), h.m.failed), "failures %+v; the model %+v", failed, h.m.failed)
	h.m.failed = nil
}

// plain is failed without the errors, which the model does not have. One that is not the handlers' own shows.
func plain(failed []fdtables.CloseError) []fdtables.CloseError {
	var out []fdtables.CloseError
	for _, f := range failed {
		if errors.Is(f.Err, errHandler) {
			f.Err = nil
		}
		out = append(out, f)
	}
	return out
}

// calls are the calls that a history is made of, by their names.
var historyCalls = map[string]func(h *history){
	"init": func(h *history) { h.newTable(h.cage()) },
	"fork": func(h *history) {
		src, dst := h.cage(), h.cage()
		err, errM := h.ts.Fork(src, dst), h.m.fork(src, dst)
		h.want(errors.Is(err, errM), "Fork(%d, %d) = %v; the model %v", src, dst, err, errM)
		if err == nil {
			t, err := h.ts.Table(dst)
			h.want(err == nil, "Table after Fork: %v", err)
			h.addSide(dst, t)
		}
	},
	"remove": func(h *history) {
		cage := h.cage()
		failed, err := h.ts.Remove(cage)
		if h.m.remove(cage) {
			h.want(err == nil, "Remove = %v", err)
		} else {
			h.want(errors.Is(err, fdtables.ErrNoCage), "Remove = %v", err)
		}
		h.wantFailed(failed)
	},
	"open": func(h *history) {
		s, e := h.side(), h.entry()
		fd, errno := s.real.Open(e.Kind, e.UnderFD, e.CloseOnExec, e.PerFDInfo)
		fdM, errnoM := h.m.open(s.model, 0, false, e)
		h.wantFD(fd, errno, fdM, errnoM)
	},
	"openFrom": func(h *history) {
		s, start, e := h.side(), h.fd(), h.entry()
		fd, errno := s.real.OpenFrom(start, e.Kind, e.UnderFD, e.CloseOnExec, e.PerFDInfo)
		fdM, errnoM := h.m.open(s.model, start, true, e)
		h.wantFD(fd, errno, fdM, errnoM)
	},
	"openAt": func(h *history) {
		s, fd, e := h.side(), h.fd(), h.entry()
		err := s.real.OpenAt(fd, e.Kind, e.UnderFD, e.CloseOnExec, e.PerFDInfo)
		h.wantClose(err, h.m.openAt(s.cage, s.model, fd, e))
	},
	"dup": func(h *history) {
		s, old := h.side(), h.fd()
		fd, errno := s.real.Dup(old)
		fdM, errnoM := h.m.dup(s.model, old, 0, false, false)
		h.wantFD(fd, errno, fdM, errnoM)
	},
	"dupFrom": func(h *history) {
		s, old, start, cloexec := h.side(), h.fd(), h.fd(), h.flag()
		fd, errno := s.real.DupFrom(old, start, cloexec)
		fdM, errnoM := h.m.dup(s.model, old, start, true, cloexec)
		h.wantFD(fd, errno, fdM, errnoM)
	},
	"dup2": func(h *history) {
		s, old, fd, cloexec := h.side(), h.fd(), h.fd(), h.flag()
		h.wantClose(s.real.Dup2(old, fd, cloexec), h.m.dup2(s.cage, s.model, old, fd, cloexec))
	},
	"close": func(h *history) {
		s, fd := h.side(), h.fd()
		h.wantClose(s.real.Close(fd), h.m.close(s.cage, s.model, fd))
	},
	"exec": func(h *history) {
		s := h.side()
		failed := s.real.CloseOnExecAll()
		h.m.dropAll(s.cage, s.model, func(e fdtables.Entry) bool { return e.CloseOnExec })
		h.wantFailed(failed)
	},
	"set": func(h *history) {
		s, fd := h.side(), h.fd()
		on, info := h.flag(), uint64(h.c.from("info", 0, 8))
		e, used := s.model.fds[fd]
		if h.flag() {
			e.CloseOnExec = on
			h.want((s.real.SetCloseOnExec(fd, on) == 0) == used, "SetCloseOnExec(%d) of an fd open: %v", fd, used)
		} else {
			e.PerFDInfo = info
			h.want((s.real.SetPerFDInfo(fd, info) == 0) == used, "SetPerFDInfo(%d) of an fd open: %v", fd, used)
		}
		if used {
			s.model.fds[fd] = e
		}
	},
	"setLimit": func(h *history) {
		s := h.side()
		n := []uint64{0, 1, 5, 16, 1024, 1025, fdtables.MaxLimit, fdtables.MaxLimit + 1}[h.c.from("limit", 0, 7)]
		errno, want := s.real.SetLimit(n), abi.Errno(0)
		switch {
		case n > fdtables.MaxLimit:
			want = abi.EPERM
		case s.model.removed:
			want = abi.EBADF
		default:
			s.model.limit = fdtables.FD(n)
		}
		h.want(errno == want, "SetLimit(%d) = %v; the model %v", n, errno, want)
	},
	"acquire": func(h *history) {
		s, fd := h.side(), h.fd()
		r, errno := s.real.Acquire(fd)
		rM, ok := h.m.acquire(s.model, fd)
		h.want((errno == 0) == ok, "Acquire(%d) = %v of an fd open: %v", fd, errno, ok)
		if ok && errno == 0 {
			h.want(r.Entry() == rM.e, "Acquire(%d) = %+v; the model %+v", fd, r.Entry(), rM.e)
			h.refs, h.refsM = append(h.refs, r), append(h.refsM, rM)
		}
	},
	"release": func(h *history) {
		if len(h.refs) == 0 {
			return
		}
		i := h.c.from("ref", 0, len(h.refs)-1)
		h.refs[i].Release()
		h.m.release(h.refsM[i])
		h.refs, h.refsM = slices.Delete(h.refs, i, i+1), slices.Delete(h.refsM, i, i+1)
	},
}

var historyNames = slices.Sorted(maps.Keys(historyCalls))

// step runs one call and answers what is not as the model has it, or "".
func (h *history) step(name string) string {
	h.last = name
	historyCalls[name](h)
	h.check()
	return h.problem
}

// check compares everything that can be asked of the state.
func (h *history) check() {
	h.want(slices.Equal(h.calls, h.m.calls), "handlers %+v; the model %+v", h.calls, h.m.calls)
	h.calls, h.m.calls = nil, nil
	h.want(slices.Equal(plain(h.heard), h.m.heard), "heard %+v; the model %+v", h.heard, h.m.heard)
	h.heard, h.m.heard = nil, nil

	h.want(slices.Equal(h.ts.Cages(), slices.Sorted(maps.Keys(h.m.tables))), "cages %v", h.ts.Cages())
	h.want(h.ts.Open() == len(h.m.files), "%d underfds open; the model %d", h.ts.Open(), len(h.m.files))
	for p, f := range h.m.files {
		n, io := h.ts.References(p.kind, p.underfd)
		h.want(n == f.tables && io == f.ios, "%+v has %d, %d references; the model %+v", p, n, io, f)
	}
	for _, s := range h.sides {
		got := map[fdtables.FD]fdtables.Entry{}
		for _, f := range s.real.Snapshot() {
			got[f.FD] = f.Entry
			e, errno := s.real.Translate(f.FD)
			h.want(errno == 0 && e == f.Entry, "Translate(%d) = %+v, %v beside %+v", f.FD, e, errno, f.Entry)
		}
		h.want(maps.Equal(got, s.model.fds), "cage %d has %v; the model %v", s.cage, got, s.model.fds)
		h.want(s.model.removed || s.real.Limit() == uint64(s.model.limit), "limit %d", s.real.Limit())
	}
}

// end removes all cages and releases all that is in flight, and checks that nothing is left.
func (h *history) end() string {
	for len(h.refs) > 0 {
		h.step("release")
	}
	for _, cage := range h.ts.Cages() {
		h.last = fmt.Sprintf("remove of cage %d at the end", cage)
		failed, err := h.ts.Remove(cage)
		h.m.remove(cage)
		h.want(err == nil, "%v", err)
		h.wantFailed(failed)
		h.check()
	}
	h.want(h.ts.Open() == 0 && len(h.m.files) == 0, "%d underfds left, in the model %d", h.ts.Open(), len(h.m.files))
	return h.problem
}

// random takes the choices from a generator: for histories longer than can be shrunk.
type random struct{ r *rand.Rand }

func (r random) from(_ string, lo, hi int) int { return lo + r.r.IntN(hi-lo+1) }

func TestHistory_LongOnesAgreeWithTheModel(t *testing.T) {
	calls := *modelCalls
	if testing.Short() {
		calls /= 5
	}
	for range calls / 2000 {
		seed := rand.Uint64()
		c := random{rand.New(rand.NewPCG(seed, 0))}
		h := newHistory(c)
		for i := range 2000 {
			if p := h.step(historyNames[c.from("", 0, len(historyNames)-1)]); p != "" {
				t.Fatalf("call %d of the history of seed %d: %s", i, seed, p)
			}
		}
		if p := h.end(); p != "" {
			t.Fatalf("at the end of the history of seed %d: %s", seed, p)
		}
	}
}

// drawn takes the choices from rapid, which shrinks them.
type drawn struct{ t *rapid.T }

func (d drawn) from(what string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(d.t, what) }

func TestHistory_AgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(drawn{t})
		actions := map[string]func(*rapid.T){}
		for _, name := range historyNames {
			actions[name] = func(t *rapid.T) {
				h.c = drawn{t}
				if p := h.step(name); p != "" {
					t.Fatal(p)
				}
			}
		}
		t.Repeat(actions)
		h.c = drawn{t}
		if p := h.end(); p != "" {
			t.Fatal(p)
		}
	})
}
