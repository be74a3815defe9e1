package fdtables

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lindbridge/lindbridge/abi"
)

// Errors of histories.
var (
	// ErrHistorySyntax is the error of a line that is no call.
	ErrHistorySyntax = errors.New("no call of a history")
	// ErrHistoryDiffers is the error of a replay whose call had another result than the one that was recorded.
	ErrHistoryDiffers = errors.New("another result than recorded")
)

// History makes calls that are given as text on Tables of its own, and answers their results as text, so that a history
// of calls can be recorded by one implementation and replayed by another. The package comment has the format.
//
// It is owned by one goroutine. Its calls come one after the other, in the order of the lines.
type History struct {
	ts     *Tables
	to     *bufio.Writer // nil if nothing is recorded
	ran    []byte        // the handlers that ran in the call that is made, as text
	out    []byte        // the result of that
	refs   map[uint64]*Ref
	nextIO uint64
	words  []string
}

// NewHistory is a History without any calls. If record is not nil, each call is written there with its result; Flush
// follows the last.
func NewHistory(record io.Writer) *History {
	h := &History{refs: map[uint64]*Ref{}}
	if record != nil {
		h.to = bufio.NewWriter(record)
	}
	h.ts = New(Config{})
	return h
}

// Call makes one call, "open 2 7 100 0 0", and answers its result, "0". An error wraps ErrHistorySyntax, and nothing has
// happened, or is the recorder's.
func (h *History) Call(line string) (string, error) {
	h.words = append(h.words[:0], strings.Fields(line)...)
	c, ok := historyCalls[first(h.words)]
	if !ok || len(h.words)-1 != c.args {
		return "", fmt.Errorf("%q: %w", line, ErrHistorySyntax)
	}
	var a [6]uint64
	for i, w := range h.words[1:] {
		n, err := number(w)
		if err != nil {
			return "", fmt.Errorf("%q: %w: %w", line, ErrHistorySyntax, err)
		}
		a[i] = n
	}
	h.ran, h.out = h.ran[:0], h.out[:0]
	c.make(h, a)
	result := string(h.out) + string(h.ran)
	if h.to != nil {
		if _, err := fmt.Fprintf(h.to, "%s = %s\n", strings.Join(h.words, " "), result); err != nil {
			return result, fmt.Errorf("record: %w", err)
		}
	}
	return result, nil
}

// Flush writes what has been recorded.
func (h *History) Flush() error {
	if h.to == nil {
		return nil
	}
	return h.to.Flush()
}

// Replay makes the calls of a recorded history and compares their results. It answers how many it made; the first line
// that is no call or has another result ends it with an error that wraps ErrHistorySyntax or ErrHistoryDiffers and has the
// number of the line. Empty lines and those that begin with # are passed over.
func (h *History) Replay(r io.Reader) (calls int, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		call, want, ok := strings.Cut(line, " = ")
		if !ok {
			return calls, fmt.Errorf("line %d: %q: %w", n, line, ErrHistorySyntax)
		}
		got, err := h.Call(call)
		if err != nil {
			return calls, fmt.Errorf("line %d: %w", n, err)
		}
		calls++
		if got != want {
			return calls, fmt.Errorf("line %d: %s = %s: %w: %s", n, call, got, ErrHistoryDiffers, want)
		}
	}
	return calls, lines.Err()
}

func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// number reads a decimal number, which may be negative.
func number(w string) (uint64, error) {
	if strings.HasPrefix(w, "-") {
		n, err := strconv.ParseInt(w, 10, 64)
		return uint64(n), err
	}
	return strconv.ParseUint(w, 10, 64)
}

// fdOf is an argument as a descriptor: one that is none for its size is -1, which never is open.
func fdOf(v uint64) FD {
	if n := int64(v); n >= 0 && n <= math.MaxInt32 {
		return FD(n)
	}
	return -1
}

// kindOf is an argument as a kind: one that is none for its size is reserved.
func kindOf(v uint64) Kind { return Kind(min(v, math.MaxUint32)) }

// historyCalls is the calls of histories by their names. The first argument of all is the cage.
var historyCalls = map[string]struct {
	args int
	make func(h *History, a [6]uint64)
}{
	"init": {1, func(h *History, a [6]uint64) {
		_, err := h.ts.Init(abi.CageID(a[0]))
		h.answer(err)
	}},
	"fork": {2, func(h *History, a [6]uint64) { h.answer(h.ts.Fork(abi.CageID(a[0]), abi.CageID(a[1]))) }},
	"remove": {1, func(h *History, a [6]uint64) {
		_, err := h.ts.Remove(abi.CageID(a[0]))
		h.answer(err)
	}},
	"exec": {1, on(func(h *History, t *Table, _ [6]uint64) {
		t.CloseOnExecAll()
		h.answer(nil)
	})},
	"handlers": {1, func(h *History, a [6]uint64) {
		h.ts.RegisterCloseHandlers(kindOf(a[0]), Handlers{Intermediate: h.handler, Last: h.handler})
		h.answer(nil)
	}},
	"open": {5, on(func(h *History, t *Table, a [6]uint64) {
		h.answerFD(t.Open(kindOf(a[1]), a[2], a[3] != 0, a[4]))
	})},
	"openfrom": {6, on(func(h *History, t *Table, a [6]uint64) {
		h.answerFD(t.OpenFrom(fdOf(a[1]), kindOf(a[2]), a[3], a[4] != 0, a[5]))
	})},
	"openat": {6, on(func(h *History, t *Table, a [6]uint64) {
		h.answer(t.OpenAt(fdOf(a[1]), kindOf(a[2]), a[3], a[4] != 0, a[5]))
	})},
	"dup":     {2, on(func(h *History, t *Table, a [6]uint64) { h.answerFD(t.Dup(fdOf(a[1]))) })},
	"dupfrom": {4, on(func(h *History, t *Table, a [6]uint64) { h.answerFD(t.DupFrom(fdOf(a[1]), fdOf(a[2]), a[3] != 0)) })},
	"dup2":    {4, on(func(h *History, t *Table, a [6]uint64) { h.answer(t.Dup2(fdOf(a[1]), fdOf(a[2]), a[3] != 0)) })},
	"close":   {2, on(func(h *History, t *Table, a [6]uint64) { h.answer(t.Close(fdOf(a[1]))) })},
	"cloexec": {3, on(func(h *History, t *Table, a [6]uint64) { h.answerErrno(t.SetCloseOnExec(fdOf(a[1]), a[2] != 0)) })},
	"info":    {3, on(func(h *History, t *Table, a [6]uint64) { h.answerErrno(t.SetPerFDInfo(fdOf(a[1]), a[2])) })},
	"limit":   {2, on(func(h *History, t *Table, a [6]uint64) { h.answerErrno(t.SetLimit(a[1])) })},
	"translate": {2, on(func(h *History, t *Table, a [6]uint64) {
		e, errno := t.Translate(fdOf(a[1]))
		if errno != 0 {
			h.answerErrno(errno)
			return
		}
		h.out = appendEntry(h.out, e)
	})},
	"table": {1, on(func(h *History, t *Table, _ [6]uint64) {
		h.out = append(h.out, "ok"...)
		for _, f := range t.Snapshot() {
			h.out = fmt.Appendf(h.out, "; %d ", f.FD)
			h.out = appendEntry(h.out, f.Entry)
		}
	})},
	"acquire": {2, on(func(h *History, t *Table, a [6]uint64) {
		r, errno := t.Acquire(fdOf(a[1]))
		if errno != 0 {
			h.answerErrno(errno)
			return
		}
		h.refs[h.nextIO] = &r
		h.out = strconv.AppendUint(h.out, h.nextIO, 10)
		h.nextIO++
	})},
	"release": {1, func(h *History, a [6]uint64) {
		r := h.refs[a[0]]
		if r == nil {
			h.out = append(h.out, "none"...)
			return
		}
		delete(h.refs, a[0])
		r.Release()
		h.answer(nil)
	}},
	"members": {2, on(func(h *History, t *Table, a [6]uint64) {
		all, errno := t.EpollMembers(fdOf(a[1]), nil)
		h.answerErrno(errno)
		slices.SortFunc(all, func(a, b EpollMember) int {
			return cmp.Or(cmp.Compare(a.FD, b.FD), cmp.Compare(a.Entry.Kind, b.Entry.Kind),
				cmp.Compare(a.Entry.UnderFD, b.Entry.UnderFD))
		})
		for _, m := range all {
			h.out = fmt.Appendf(h.out, "; %d ", m.FD)
			h.out = appendEntry(h.out, m.Entry)
			h.out = fmt.Appendf(h.out, " %d %d", m.Event.Events, m.Event.Data)
		}
	})},
	"epoll": {2, on(func(h *History, t *Table, a [6]uint64) { h.answerFD(t.OpenEpoll(a[1] != 0)) })},
	"epollctl": {6, on(func(h *History, t *Table, a [6]uint64) {
		ev := EpollEvent{Events: uint32(a[4]), Data: a[5]}
		h.answerErrno(t.EpollCtl(fdOf(a[1]), int32(a[2]), fdOf(a[3]), ev))
	})},
}

// on is a call of a cage's table.
func on(call func(h *History, t *Table, a [6]uint64)) func(h *History, a [6]uint64) {
	return func(h *History, a [6]uint64) {
		t, err := h.ts.Table(abi.CageID(a[0]))
		if err != nil {
			h.answer(err)
			return
		}
		call(h, t, a)
	}
}

// handler notes a handler that ran.
func (h *History) handler(e Entry, remaining uint64) error {
	h.ran = fmt.Appendf(h.ran, "; closed %d ", remaining)
	h.ran = appendEntry(h.ran, e)
	return nil
}

func appendEntry(b []byte, e Entry) []byte {
	cloexec := 0
	if e.CloseOnExec {
		cloexec = 1
	}
	return fmt.Appendf(b, "%d %d %d %d", uint32(e.Kind), e.UnderFD, cloexec, e.PerFDInfo)
}

func (h *History) answerFD(fd FD, errno abi.Errno) {
	if errno != 0 {
		h.answerErrno(errno)
		return
	}
	h.out = strconv.AppendInt(h.out, int64(fd), 10)
}

func (h *History) answerErrno(errno abi.Errno) {
	if errno == 0 {
		h.answer(nil)
		return
	}
	h.answer(errno)
}

func (h *History) answer(err error) {
	var errno abi.Errno
	switch {
	case err == nil:
		h.out = append(h.out, "ok"...)
	case errors.Is(err, ErrNoCage):
		h.out = append(h.out, "nocage"...)
	case errors.Is(err, ErrCageExists):
		h.out = append(h.out, "exists"...)
	case errors.As(err, &errno):
		h.out = fmt.Appendf(h.out, "-%d", int32(errno))
	default:
		h.out = append(h.out, "failed"...) // a handler, which those of histories never do
	}
}
