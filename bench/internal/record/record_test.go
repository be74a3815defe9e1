package record_test

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/bench/internal/record"
	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

func limit(v float64) *float64 { return &v }

// line is one whose ours took so long, and whose ratio is known with that interval.
func line(id string, us float64, ratio stat.Estimate) record.Line {
	samples := slices.Repeat([]float64{us * 1e3}, 10)
	return record.Line{
		ID: id, Group: "G", What: id, Unit: record.Nanoseconds, Compared: &ratio, Must: limit(0.5),
		Ours: record.CellOf("ours", samples, false), Peer: record.CellOf("peer", []float64{2e5}, false),
	}
}

func sure(lo, mid, hi float64) stat.Estimate { return stat.Estimate{N: 50, Lo: lo, Mid: mid, Hi: hi} }

func markdown(t *testing.T, r *record.Record) string {
	t.Helper()
	var b strings.Builder
	if err := r.Markdown(&b, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestMarkdown_PrintsNoRatioThatIsNoise(t *testing.T) {
	r := &record.Record{Lines: []record.Line{
		line("clear", 20, sure(0.19, 0.2, 0.21)), line("noise", 190, sure(0.8, 0.95, 1.2)),
		line("few", 20, stat.Estimate{N: 3, Lo: 0.1, Mid: 0.123, Hi: 0.2}),
	}}
	text := markdown(t, r)
	for _, want := range []string{
		"| clear | 20.0 µs | max 20.0 µs | peer | 200 µs | max 200 µs | 10, 1 | 0.20 (0.19–0.21) | ≤ 0.50: met |",
		"no difference shown (0.80–1.20) | ≤ 0.50: **missed** |", "too few samples (3) | ≤ 0.50: **undecided** |",
		"1 met, 1 missed, 1 undecided",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "0.95") || strings.Contains(text, "0.123") {
		t.Errorf("a ratio that is noise was printed:\n%s", text)
	}
}

func TestMarkdown_MarksReferencesAndWhatCannotBe(t *testing.T) {
	ref, cannot := line("ref", 20, sure(0.1, 0.1, 0.1)), line("cannot", 20, sure(0, 0, 0))
	ref.Reference = true
	cannot.Peer = record.Cell{Who: "peer", Cannot: "no end within 3s"}
	cannot.Compared = nil
	text := markdown(t, &record.Record{Lines: []record.Line{ref, cannot}})
	for _, want := range []string{"*reference:* peer", "| cannot: no end within 3s |  | 10 |  | ≤ 0.50 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestMarkdown_TellsDifferencesInTheirUnit(t *testing.T) {
	l := line("memory", 0, sure(40, 41, 42))
	l.Unit, l.Difference, l.Must, l.Ours = record.KiB, true, limit(64), record.CellOf("ours", []float64{45, 46, 47}, false)
	noise := l
	e := sure(-3, 1, 4)
	noise.Compared = &e
	text := markdown(t, &record.Record{Lines: []record.Line{l, noise}})
	for _, want := range []string{"46.0 KiB", "+41.0 (+40.0 to +42.0) KiB | ≤ +64.0 KiB: met", "no difference shown (-3.00 to +4.00) KiB"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestSave_KeepsWhatLoadReads(t *testing.T) {
	empty := line("empty", 1, sure(1, 1, 1))
	empty.Ours, empty.Compared = record.CellOf("ours", nil, false), nil // whose quantiles are NaN
	r := &record.Record{When: time.Unix(1e9, 0).UTC(), Mode: "quick", Lines: []record.Line{line("a", 20, sure(0.1, 0.2, 0.3)), empty}}
	r.Add("plot", "curve", 1, sure(1, 2, 3))
	r.Add("plot", "curve", 2, sure(2, 3, 4))
	path := filepath.Join(t.TempDir(), "x.json")
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := record.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Lines[0].Ours != r.Lines[0].Ours || *got.Lines[0].Compared != *r.Lines[0].Compared || !got.When.Equal(r.When) {
		t.Errorf("%+v", got.Lines[0])
	}
	if len(got.Series) != 1 || len(got.Series[0].Points) != 2 || got.Series[0].Points[1].Y.Mid != 3 {
		t.Errorf("%+v", got.Series)
	}
	if got.Lines[1].Ours.Of.N != 0 {
		t.Errorf("%+v", got.Lines[1].Ours)
	}
}

func TestCompare_ShowsWhatHasChangedAndNothingElse(t *testing.T) {
	old := &record.Record{Mode: "full", Lines: []record.Line{
		line("faster", 40, sure(0.39, 0.4, 0.41)), line("same", 20, sure(0.2, 0.2, 0.2)), line("gone", 1, sure(1, 1, 1)),
	}}
	now := &record.Record{Mode: "full", Lines: []record.Line{
		line("faster", 20, sure(0.19, 0.2, 0.21)), line("same", 20, sure(0.2, 0.2, 0.2)), line("new", 1, sure(1, 1, 1)),
	}}
	var b strings.Builder
	if err := now.Compare(&b, old); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| faster | 40.0 µs | 20.0 µs | 0.50 (0.50–0.50) | peer | 0.40 (0.39–0.41) | 0.20 (0.19–0.21) |",
		"| same | 20.0 µs | 20.0 µs | 1.00 (1.00–1.00) |", "Only before: gone",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "| new |") {
		t.Errorf("what is new has no before:\n%s", b.String())
	}
}

func TestFormat_HasThreeDigitsAndAUnit(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0 ns", 4.04: "4.04 ns", 123.4: "123 ns", 1234: "1.23 µs", 56_789: "56.8 µs", 2.5e6: "2.50 ms", 3e9: "3.00 s",
		math.NaN(): "-",
	} {
		if got := record.Nanoseconds.Format(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}
