package exitcoord_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files in testdata instead of comparing with them")

// noon is when everything happens.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

const us, ms = time.Microsecond, time.Millisecond

func stepResults(outcomes ...exitcoord.StepResult) []exitcoord.StepResult {
	for i := range outcomes {
		outcomes[i].Index = i
	}
	return outcomes
}

func okResult(name string, took time.Duration) exitcoord.StepResult {
	return exitcoord.StepResult{Name: name, Outcome: exitcoord.StepOK, Took: took}
}

// golden are the reports whose text and JSON stand in testdata.
func golden() map[string]exitcoord.Report {
	fourSteps := stepResults(
		okResult("descriptors", 41200), okResult("timers", 310), okResult("children", 1045), okResult("memory", 118*us),
	)
	waiting := stepResults(
		exitcoord.StepResult{Name: "descriptors"}, exitcoord.StepResult{Name: "memory", Deadline: time.Second},
	)
	manyThreads := make([]exitcoord.ThreadState, 1000)
	for i := range manyThreads {
		manyThreads[i] = exitcoord.ThreadState{
			TID: int32(i + 1), At: "guest", Function: "spin", Since: 2 * time.Second,
			Left: time.Duration(i*7919%1000) * us, Outcome: "stopped",
		}
	}
	return map[string]exitcoord.Report{
		"running":   {Cage: 7},
		"exec_stop": {Cage: 7, Phase: exitcoord.Stopping, Stopping: 31 * us, Total: 31 * us, Steps: waiting},
		"proc_exit": {
			Cage: 7, Phase: exitcoord.Zombie,
			Cause:    &exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 7, TID: 2, At: noon},
			Status:   exitcoord.CodeStatus(7),
			Stopping: 21300, Cleaning: 160555, Total: 181855, Steps: fourSteps,
			Threads: []exitcoord.ThreadState{
				{TID: 1, At: "guest", Function: "crunch", Since: 1523 * ms, Left: 18400, Outcome: "stopped"},
				{TID: 2, At: "host call proc_exit", Function: "main", Since: 3 * us, Left: 2100, Outcome: "quit"},
				{TID: 3, At: "atomic wait at 0x10040", Function: "worker", Since: 12 * time.Second, Left: 21300, Outcome: "stopped"},
				{TID: 14, At: "host call path_filestat_set_times", Since: 66 * time.Minute, Left: 19777, Outcome: "stopped"},
			},
		},
		"trap": {
			Cage: 1042, Phase: exitcoord.Reaped, Lost: 2,
			Cause: &exitcoord.Cause{
				Kind: exitcoord.Trap, TID: 3, At: noon,
				Message:   "wasm trap: out of bounds memory access, at an address that lies 4096 bytes behind the end of the memory, which has 131072 bytes",
				Backtrace: "0: parse::header (wasm function 12)\n1: parse::file (wasm function 9)\n2: main (wasm function 3)\n3: _start\n",
			},
			Status:   exitcoord.SignalStatus(6),
			Stopping: 1230 * us, Cleaning: 503 * ms, Total: 504230 * us,
			Threads: []exitcoord.ThreadState{
				{TID: 3, At: "guest", Function: "parse::header", Left: 900, Outcome: "trapped"},
			},
			Steps: stepResults(
				exitcoord.StepResult{
					Name: "notify", Outcome: exitcoord.StepTimedOut, Took: 500 * ms, Deadline: 500 * ms,
					Err: errors.New("step notify: no end within 500ms: context deadline exceeded"),
				},
				exitcoord.StepResult{
					Name: "descriptors", Outcome: exitcoord.StepFailed, Took: 2400 * us,
					Err: errors.Join(
						errors.New("close descriptor 5: input/output error"),
						errors.New("close descriptor 9: no space left on device, and so the last 8192 bytes are lost"),
					),
				},
				okResult("timers", 12),
				exitcoord.StepResult{
					Name: "children", Outcome: exitcoord.StepPanicked, Took: 23 * us,
					Err: errors.New("panic: runtime error: index out of range [3] with length 3"),
					Stack: "example.org/cage.(*Table).Reparent(0xc000010000, 0x7)\n" +
						"\t/src/cage/tree.go:88 +0x1d\nexample.org.(*Cage).releaseChildren(...)\n\t/src/exit.go:71\n",
				},
				okResult("memory", 700*us),
			),
			Late: []exitcoord.StepResult{{
				Index: 0, Name: "notify", Outcome: exitcoord.StepFailed, Took: 2510 * ms, Deadline: 500 * ms,
				Err: errors.New("grate 9 is gone"),
			}},
		},
		"stuck": {
			Cage: 7, Phase: exitcoord.Stopping, Lost: 1, Stopping: 4200 * ms, Total: 4200 * ms, Steps: waiting,
			Cause:  &exitcoord.Cause{Kind: exitcoord.TimeLimit, Limit: 5 * time.Second, At: noon},
			Status: exitcoord.SignalStatus(9),
			Stuck: &exitcoord.Stuck{
				Since: noon.Add(time.Second), After: time.Second,
				Threads: []exitcoord.ThreadState{
					{TID: 3, At: "host call fd_read", Function: "read_line", Since: 12345 * ms},
				},
			},
		},
		"stuck_over": {
			Cage: 7, Phase: exitcoord.Zombie, Stopping: 3500 * ms, Cleaning: 100 * us, Total: 3500100 * us,
			Cause:  &exitcoord.Cause{Kind: exitcoord.HostKill, Signal: 15, At: noon},
			Status: exitcoord.SignalStatus(15), Steps: fourSteps,
			Stuck: &exitcoord.Stuck{
				Since: noon.Add(time.Second), After: time.Second, Over: true, Lasted: 2500 * ms,
				Threads: []exitcoord.ThreadState{
					{TID: 1, At: "host call fd_read", Function: "main", Since: 9 * time.Second},
					{TID: 2, At: "host call fd_write", Function: "log", Since: 1234 * us},
				},
			},
			Threads: []exitcoord.ThreadState{
				{TID: 1, At: "host call fd_read", Function: "main", Since: 8 * time.Second, Left: 3500 * ms, Outcome: "stopped"},
				{TID: 2, At: "guest", Function: "log", Since: 90 * ms, Left: 3400 * ms, Outcome: "stopped"},
			},
		},
		"many_threads": {
			Cage: 7, Phase: exitcoord.Zombie, Stopping: 999 * us, Total: 999 * us,
			Cause: &exitcoord.Cause{Kind: exitcoord.RuntimeClose, At: noon}, Status: exitcoord.SignalStatus(9),
			Threads: manyThreads, ObserverPanics: 1, StopErr: errors.New("stop domain 3: stale handle\nand more"),
		},
		"hostile": {
			Cage: 7, Phase: exitcoord.Cleaning, Stopping: -5, Cleaning: 3 * us, Total: 7 * us,
			Cause: &exitcoord.Cause{
				Kind: exitcoord.Trap, TID: 1, At: noon, Message: "\x1b]0;owned\a\x1b[31mred\xff\n<b>&amp;</b>",
				Backtrace: "\x1b[2J0: " + strings.Repeat("very_long_name", 20) + "\r\n\t1: \anext\n" + strings.Repeat("line\n", 40),
			},
			Status: exitcoord.SignalStatus(6),
			Threads: []exitcoord.ThreadState{{
				TID: -1, At: "host call " + strings.Repeat("x", 80), Function: "f\x1b[5m\n" + strings.Repeat("y", 80),
				Since: -3, Left: -4, Outcome: "trapped\x07" + strings.Repeat(" and more", 30),
			}},
			Steps: stepResults(
				exitcoord.StepResult{Name: "running\x1b", Outcome: exitcoord.StepRunning},
				exitcoord.StepResult{
					Name: strings.Repeat("n", 90), Outcome: exitcoord.StepFailed, Err: errors.New(strings.Repeat("e", 250)),
				},
			),
		},
	}
}

func TestReport_MatchesTheGoldenFiles(t *testing.T) {
	for name, r := range golden() {
		t.Run(name, func(t *testing.T) {
			var text, object bytes.Buffer
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			if err := r.WriteJSON(&object); err != nil {
				t.Fatal(err)
			}
			compare(t, name+".txt", text.Bytes())
			compare(t, name+".json", object.Bytes())
		})
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * len(golden()); len(files) != want {
		t.Errorf("testdata has %d files, want %d: is one left over?", len(files), want)
	}
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; if that is meant, run go test -rewrite\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// checkText checks what is promised of every text: it fits a terminal and cannot drive it.
func checkText(text string) error {
	if !strings.HasSuffix(text, "\n") {
		return errors.New("no line feed at the end")
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > 100 {
			return fmt.Errorf("a line of %d columns: %q", n, line)
		}
		if strings.TrimRight(line, " ") != line {
			return fmt.Errorf("blanks at the end of %q", line)
		}
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("something unprintable in %q", line)
		}
	}
	return nil
}

func TestReport_TextFitsATerminalAndCannotDriveIt(t *testing.T) {
	for name, r := range golden() {
		if err := checkText(r.String()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is put in, text and JSON come out.
func TestReport_TakesAnyContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawReport(t)
		if err := checkText(r.String()); err != nil {
			t.Fatalf("%v in\n%s", err, r)
		}
		var b bytes.Buffer
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(b.Bytes()) {
			t.Fatalf("invalid UTF-8 in\n%s", b.Bytes())
		}
		var object map[string]any
		if err := json.Unmarshal(b.Bytes(), &object); err != nil {
			t.Fatalf("%v in\n%s", err, b.Bytes())
		}
		noNegativeDuration(t, object)
		// Marshalled inside of something else it says the same.
		inside, err := json.Marshal(map[string]any{"report": r})
		if err != nil {
			t.Fatal(err)
		}
		var outer struct{ Report map[string]any }
		if err := json.Unmarshal(inside, &outer); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(object, outer.Report) {
			t.Fatalf("MarshalJSON and WriteJSON differ:\n%v\n%v", outer.Report, object)
		}
	})
}

func noNegativeDuration(t *rapid.T, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if n, ok := e.(float64); ok && strings.HasSuffix(k, "_ns") && n < 0 {
				t.Fatalf("%s is %v", k, n)
			}
			noNegativeDuration(t, e)
		}
	case []any:
		for _, e := range v {
			noNegativeDuration(t, e)
		}
	}
}

func drawReport(t *rapid.T) exitcoord.Report {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "guest", "\x1b[2J\xff\n", "a b c d"}),
		rapid.StringOfN(rapid.RuneFrom([]rune{'x', ' ', '\n', '界'}), 0, 300, -1))
	span := rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) })
	fail := rapid.Custom(func(t *rapid.T) error {
		if rapid.Bool().Draw(t, "fails") {
			return errors.New(text.Draw(t, "error"))
		}
		return nil
	})
	thread := rapid.Custom(func(t *rapid.T) exitcoord.ThreadState {
		return exitcoord.ThreadState{
			TID: rapid.Int32().Draw(t, "tid"), At: text.Draw(t, "at"), Function: text.Draw(t, "function"),
			Since: span.Draw(t, "since"), Left: span.Draw(t, "left"), Outcome: text.Draw(t, "outcome"),
		}
	})
	result := rapid.Custom(func(t *rapid.T) exitcoord.StepResult {
		return exitcoord.StepResult{
			Index: rapid.IntRange(-1, 5).Draw(t, "index"), Name: text.Draw(t, "name"),
			Outcome: exitcoord.Outcome(rapid.Byte().Draw(t, "outcome")), Took: span.Draw(t, "took"),
			Deadline: span.Draw(t, "deadline"), Err: fail.Draw(t, "err"), Stack: text.Draw(t, "stack"),
		}
	})
	at := rapid.Map(rapid.Int64(), func(n int64) time.Time { return time.Unix(n, n) })
	r := exitcoord.Report{
		Cage: abi.CageID(rapid.Uint64().Draw(t, "cage")), Phase: exitcoord.Phase(rapid.Int32Range(-1, 7).Draw(t, "phase")),
		Lost: rapid.Int().Draw(t, "lost"), Stopping: span.Draw(t, "stopping"), Cleaning: span.Draw(t, "cleaning"),
		Total: span.Draw(t, "total"), StopErr: fail.Draw(t, "stop error"),
		Threads: rapid.SliceOf(thread).Draw(t, "threads"), Steps: rapid.SliceOf(result).Draw(t, "steps"),
		Late: rapid.SliceOf(result).Draw(t, "late"), ObserverPanics: rapid.Int().Draw(t, "panics"),
	}
	if rapid.Bool().Draw(t, "has a cause") {
		r.Cause = &exitcoord.Cause{
			Kind: exitcoord.CauseKind(rapid.Byte().Draw(t, "kind")), Code: rapid.Int32().Draw(t, "code"),
			Signal: rapid.Int32().Draw(t, "signal"), TID: rapid.Int32().Draw(t, "tid"), Message: text.Draw(t, "message"),
			Backtrace: text.Draw(t, "backtrace"), Limit: span.Draw(t, "limit"), At: at.Draw(t, "at"),
		}
		r.Status = r.Cause.Status()
	}
	if rapid.Bool().Draw(t, "was stuck") {
		r.Stuck = &exitcoord.Stuck{
			Since: at.Draw(t, "since"), After: span.Draw(t, "after"), Over: rapid.Bool().Draw(t, "over"),
			Lasted: span.Draw(t, "lasted"), Threads: rapid.SliceOf(thread).Draw(t, "stuck threads"),
		}
	}
	return r
}

var documentedField = regexp.MustCompile(`^//\t( *)([a-z_]+)  +\S`)

// The list of fields above the JSON report is what programs are written against: it must have every field, and no other.
func TestJSON_FieldsAreThoseDocumented(t *testing.T) {
	source, err := os.ReadFile("report_json.go")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	parent := ""
	for line := range strings.Lines(string(source)) {
		m := documentedField.FindStringSubmatch(line)
		switch {
		case m == nil:
		case m[1] == "":
			parent = m[2]
			documented[parent] = true
		case len(m[1]) == 2:
			documented[parent+"."+m[2]] = true
		}
	}
	// "as below" and "as in steps".
	copyFields := func(from, to string) {
		for name := range maps.Clone(documented) {
			if field, ok := strings.CutPrefix(name, from+"."); ok {
				documented[to+"."+field] = true
			}
		}
	}
	copyFields("threads", "stuck.threads")
	copyFields("steps", "late_steps")

	written := map[string]bool{}
	for name, r := range golden() {
		var object map[string]any
		b, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &object); err != nil {
			t.Fatal(err)
		}
		if len(object) != len(topFields(documented)) {
			t.Errorf("%s has %d fields, want all %d always", name, len(object), len(topFields(documented)))
		}
		collect(written, "", object)
	}
	if w, d := slices.Sorted(maps.Keys(written)), slices.Sorted(maps.Keys(documented)); !slices.Equal(w, d) {
		t.Errorf("fields written and documented differ\nwritten:    %v\ndocumented: %v", w, d)
	}
}

func topFields(names map[string]bool) (top []string) {
	for name := range names {
		if !strings.Contains(name, ".") {
			top = append(top, name)
		}
	}
	return top
}

func collect(names map[string]bool, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			names[prefix+k] = true
			collect(names, prefix+k+".", e)
		}
	case []any:
		for _, e := range v {
			collect(names, prefix, e)
		}
	}
}

// failingWriter takes n bytes and then no more.
type failingWriter struct{ n int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if len(b) > w.n {
		return w.n, errors.New("no space left")
	}
	w.n -= len(b)
	return len(b), nil
}

func TestReport_WriteErrorsAreReturned(t *testing.T) {
	r := golden()["trap"]
	if r.WriteText(&failingWriter{n: 10}) == nil || r.WriteJSON(&failingWriter{n: 10}) == nil {
		t.Error("a report that was not written is no error")
	}
}

func TestReport_SoFarInEveryPhase(t *testing.T) {
	var x *exitcoord.Exit
	var seen []exitcoord.Phase
	look := func() {
		r := x.Report()
		if r.Phase != x.Phase() || r.Total < r.Stopping+r.Cleaning || r.Stopping < 0 || r.Cleaning < 0 {
			t.Errorf("%v: report of %v: stopping %v, cleaning %v, total %v",
				x.Phase(), r.Phase, r.Stopping, r.Cleaning, r.Total)
		}
		if len(r.Steps) != 1 || r.Steps[0].Name != "a" {
			t.Errorf("%v: steps %+v", r.Phase, r.Steps)
		}
		if err := checkText(r.String()); err != nil {
			t.Errorf("%v: %v", r.Phase, err)
		}
		if !strings.Contains(r.String(), "cage 7") {
			t.Errorf("%v: no cage in\n%s", r.Phase, r)
		}
		seen = append(seen, r.Phase)
	}
	x = exitcoord.New(exitcoord.Config{
		Cage: 7, Steps: []exitcoord.Step{okStep("a")},
		Observer: func(e exitcoord.Event) {
			if e.Kind == exitcoord.EventPhase {
				look()
			}
		},
	})
	look()
	if err := errors.Join(x.BeginExec(), x.Quiescent(nil), x.Resume()); err != nil {
		t.Fatal(err)
	}
	x.Begin(kill)
	if err := errors.Join(x.Quiescent(nil), x.Reap()); err != nil {
		t.Fatal(err)
	}
	want := []exitcoord.Phase{
		exitcoord.Running, exitcoord.Stopping, exitcoord.Quiescent, exitcoord.Running,
		exitcoord.Stopping, exitcoord.Quiescent, exitcoord.Cleaning, exitcoord.Zombie, exitcoord.Reaped,
	}
	if !slices.Equal(seen, want) {
		t.Errorf("looked at %v, want %v", seen, want)
	}
}
