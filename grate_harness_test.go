package lindbridge_test

import (
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
)

// Results of calls, as guests see them.
const (
	grateErr   = int32(abi.GrateErr)
	lindESRCH  = -0x1FFEFFFE
	lindAbort  = -0x1FFEFFFF
	errnoPerm  = -1
	errnoSrch  = -3
	errnoIntr  = -4
	errnoInval = -22
	errnoNosys = -38
	errnoLoop  = -40
)

// note is what a guest has said by $say of matrix.Guest.
type note struct{ tag, value int32 }

// stage is a runtime with guests that say something, and read what never comes.
type stage struct {
	t      *testing.T
	rt     *lindbridge.Runtime
	silent *os.File // what guests read
	said   *os.File // what they say
	say    *os.File
}

func newStage(t *testing.T, change ...func(*lindbridge.Config)) *stage {
	t.Helper()
	s := &stage{t: t}
	silent, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	said, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(silent.Close(), keep.Close(), said.Close()); err != nil {
			t.Error(err)
		}
		_ = say.Close() // rest may have
	})
	s.silent, s.said, s.say = silent, said, say
	s.rt = newRuntime(t, change...) // closed before the pipes are
	return s
}

// next is what the guests say next.
func (s *stage) next() note {
	s.t.Helper()
	n, err := s.hear()
	if err != nil {
		s.t.Fatalf("nobody says anything: %v\n%s", err, stacks())
	}
	return n
}

func (s *stage) hear() (note, error) {
	if err := s.said.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return note{}, err
	}
	tag, value, err := matrix.ReadNote(s.said)
	return note{tag, value}, err
}

// want wants these to be said next, in this order.
func (s *stage) want(wanted ...note) {
	s.t.Helper()
	for i, w := range wanted {
		if n := s.next(); n != w {
			s.t.Fatalf("note %d is %+v, want %+v", i, n, w)
		}
	}
}

// values are those of the next n notes, sorted, all of which have the tag.
func (s *stage) values(n int, tag int32) []int32 {
	s.t.Helper()
	var values []int32
	for range n {
		heard := s.next()
		if heard.tag != tag {
			s.t.Fatalf("%+v, want tag %d", heard, tag)
		}
		values = append(values, heard.value)
	}
	slices.Sort(values)
	return values
}

// rest is all that is said from here on. All who could say anything must end by themselves.
func (s *stage) rest() []note {
	s.t.Helper()
	if err := s.say.Close(); err != nil {
		s.t.Fatal(err)
	}
	var notes []note
	for {
		n, err := s.hear()
		if errors.Is(err, io.EOF) {
			return notes
		}
		if err != nil {
			s.t.Fatalf("%v after %v\n%s", err, notes, stacks())
		}
		notes = append(notes, n)
	}
}

// program is a program of the module with the stage's streams.
func (s *stage) program(m *lindbridge.Module) lindbridge.Program {
	return lindbridge.Program{Module: m, Stdin: s.silent, Stdout: s.say}
}

func (s *stage) app(g matrix.Guest) lindbridge.Program {
	s.t.Helper()
	return s.program(load(s.t, s.rt, g.Wat()))
}

func (s *stage) grate(g matrix.Guest) lindbridge.Grate {
	s.t.Helper()
	return lindbridge.Grate{Program: s.program(loadGrate(s.t, s.rt, g.Wat()))}
}

func loadGrate(t testing.TB, rt *lindbridge.Runtime, wat string) *lindbridge.Module {
	t.Helper()
	m, err := rt.LoadGrate(t.Context(), []byte(wat))
	if err != nil {
		t.Fatalf("%v\n%s", err, numbered(wat))
	}
	return m
}

// numbered is a text with the numbers of its lines, which errors name.
func numbered(text string) string {
	b, line := []byte("1 "), 1
	for _, c := range []byte(text) {
		b = append(b, c)
		if c == '\n' {
			line++
			b = append(strconv.AppendInt(b, int64(line), 10), ' ')
		}
	}
	return string(b)
}

func stackUp(t testing.TB, rt *lindbridge.Runtime, app lindbridge.Program, grates ...lindbridge.Grate) *lindbridge.Stack {
	t.Helper()
	stack, err := rt.SpawnStack(t.Context(), app, grates...)
	if err != nil {
		t.Fatal(err)
	}
	return stack
}

// finishStack waits for all of a stack, and answers the program's exit code. Grates that do not end are killed.
func finishStack(t testing.TB, s *lindbridge.Stack) int {
	t.Helper()
	code := finish(t, s.App)
	for _, g := range slices.Backward(s.Grates) {
		finish(t, g)
	}
	return code
}

// wantCause wants a cage to have ended by such a cause.
func wantCause(t testing.TB, c *lindbridge.Cage, kind exitcoord.CauseKind) {
	t.Helper()
	if r := c.Report(); r.Cause == nil || r.Cause.Kind != kind {
		t.Errorf("cage %d did not end by %v:\n%v", c.ID(), kind, r)
	}
}

// wantNothing wants the runtime to hold no cage.
func wantNothing(t testing.TB, rt *lindbridge.Runtime) {
	t.Helper()
	s, err := rt.Stats()
	if err != nil || s.Cages != 0 || s.Domains != 0 { // threads may still be on their way home
		t.Errorf("left: %+v, %v", s, err)
	}
}

// ask is a call without arguments.
func ask(call int) string {
	return "(call $call (i32.const " + strconv.Itoa(call) + ") (i64.const 0) (i64.const 0) (i64.const 0))"
}

// say is a note.
func say(tag int, value string) string {
	return "(call $say (i32.const " + strconv.Itoa(tag) + ") " + value + ")"
}

// The main program of a grate that serves its child's getpid, and what else with its first function; then it says how the
// child has ended.
const (
	getpid, geteuid = 39, 107

	mustServe = `(if (call $register (call $child) (i32.const 39) (i32.const 1)) (then unreachable))`
	thenServe = `(call $say (i32.const 100) (call $serve))`
)
