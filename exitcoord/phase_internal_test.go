package exitcoord

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// edge is a move as a diagram has it.
type edge struct{ from, by, to string }

func (e edge) String() string { return e.from + " -- " + e.by + " --> " + e.to }

var edgeLine = regexp.MustCompile(`^(?://)?\s*([A-Z]\w+)\s+-- (.+?) -+> ([A-Z]\w+)$`)

// edges are the moves that the diagrams in text draw, one on a line.
func edges(text string) (found []edge) {
	for line := range strings.Lines(text) {
		if m := edgeLine.FindStringSubmatch(strings.TrimRight(line, " \r\n")); m != nil {
			found = append(found, edge{m[1], m[2], m[3]})
		}
	}
	return found
}

func tableEdges() (want []edge) {
	for _, tr := range transitions {
		want = append(want, edge{constName(tr.from), tr.by, constName(tr.to)})
	}
	return want
}

// constName is the name of the constant.
func constName(p Phase) string { return strings.ToUpper(p.String()[:1]) + p.String()[1:] }

func TestTransitions_AreThoseOfTheDiagrams(t *testing.T) {
	for _, path := range []string{"doc.go", "../ARCHITECTURE.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := edges(string(text)), tableEdges(); !slices.Equal(got, want) {
			t.Errorf("the diagram in %s and the table differ: please change both\ndiagram: %v\ntable:   %v", path, got, want)
		}
	}
}

// exitIn is an exit that is in the phase p, whatever way leads there.
func exitIn(p Phase) *Exit {
	x := New(Config{Cage: 7})
	x.phase.Store(int32(p))
	return x
}

func TestAdvance_RefusesEveryMoveThatTheTableLacks(t *testing.T) {
	for from := range Phase(numPhases) {
		for to := range Phase(numPhases) {
			x := exitIn(from)
			x.mu.Lock()
			refusal := panicOf(func() { x.advanceLocked(from, to, time.Now()) })
			inTable := slices.ContainsFunc(transitions[:], func(tr transition) bool { return tr.from == from && tr.to == to })
			if inTable {
				x.mu.Unlock()
				if refusal != nil || x.Phase() != to {
					t.Errorf("%v -> %v: phase %v, panic %v, want the move", from, to, x.Phase(), refusal)
				}
				continue
			}
			if refusal == nil || x.Phase() != from {
				t.Errorf("%v -> %v: phase %v, panic %v, want a panic and no move", from, to, x.Phase(), refusal)
				continue
			}
			text := fmt.Sprint(refusal)
			if !strings.Contains(text, from.String()+" -> "+to.String()) || !strings.Contains(text, "cage 7") {
				t.Errorf("%v -> %v: the panic %q does not name the cage and both phases", from, to, text)
			}
			if !x.mu.TryLock() {
				t.Errorf("%v -> %v: mu is locked after the panic: who recovers would hang", from, to)
				continue
			}
			x.mu.Unlock()
		}
	}
}

func TestAdvance_RefusesAMoveFromAnotherPhaseThanTheCageIsIn(t *testing.T) {
	x := exitIn(Running)
	x.mu.Lock()
	refusal := panicOf(func() { x.advanceLocked(Stopping, Quiescent, time.Now()) })
	if text := fmt.Sprint(refusal); refusal == nil || !strings.Contains(text, "while it is running") {
		t.Errorf("panic %v, want one that names the phase running", refusal)
	}
	if x.Phase() != Running {
		t.Errorf("phase %v, want running", x.Phase())
	}
}

func panicOf(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

func TestPhase_CanFreeOnlyFromCleaningOn(t *testing.T) {
	for p := range Phase(numPhases) {
		want := p != Running && p != Stopping && p != Quiescent
		if p.CanFree() != want {
			t.Errorf("%v: CanFree %v, want %v", p, p.CanFree(), want)
		}
	}
	if Phase(numPhases).CanFree() || Phase(-1).CanFree() {
		t.Error("a phase that does not exist can free")
	}
}

func TestNames_AreThereForEveryValueAndForNone(t *testing.T) {
	check := func(kind string, n int, name func(i int) string) {
		seen := map[string]bool{}
		for i := range n {
			s := name(i)
			if s == "" || seen[s] || strings.ContainsAny(s, "0123456789") {
				t.Errorf("%s %d is called %q: empty, a number, or taken", kind, i, s)
			}
			seen[s] = true
		}
		if s := name(n); !strings.Contains(s, fmt.Sprint(n)) {
			t.Errorf("%s %d, which does not exist, is called %q: want its number", kind, n, s)
		}
	}
	check("phase", numPhases, func(i int) string { return Phase(i).String() })
	check("cause", numCauseKinds, func(i int) string { return CauseKind(i).String() })
	check("outcome", numOutcomes, func(i int) string { return Outcome(i).String() })
	check("event", numEventKinds, func(i int) string { return EventKind(i).String() })
	if s := Phase(-1).String(); !strings.Contains(s, "-1") {
		t.Errorf("phase -1 is called %q", s)
	}
}
