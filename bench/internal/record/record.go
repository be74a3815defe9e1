package record

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

// Record is a run.
type Record struct {
	When     time.Time     `json:"when"`
	Took     time.Duration `json:"took_ns"`
	Mode     string        `json:"mode"`
	Machine  []string      `json:"machine"`
	Versions []string      `json:"versions"`
	Load     [2]string     `json:"load"` // the load averages when it began and when it ended
	Lines    []Line        `json:"lines"`
	Scale    []Scale       `json:"scale"`
	Series   []Series      `json:"series"`
	Troubles []string      `json:"troubles"` // what could not be measured, and why
}

// Line compares ours with one peer.
type Line struct {
	// ID names what is measured, and stays the same from run to run.
	ID string `json:"id"`
	// Group is the heading that it stands under, What what is measured.
	Group string `json:"group"`
	What  string `json:"what"`
	Unit  Unit   `json:"unit"`
	Ours  Cell   `json:"ours"`
	Peer  Cell   `json:"peer"`
	// Reference is a peer whose figure is somebody's word, or was measured elsewhere, and not in this run.
	Reference bool `json:"reference,omitempty"`
	// Compared is the ratio of ours to the peer's or, if Difference, ours less the peer's. Nil: there is nothing to
	// compare with.
	Compared   *stat.Estimate `json:"compared,omitempty"`
	Difference bool           `json:"difference,omitempty"`
	// Must and Aim are the most that Compared may be. Nil: nothing was asked.
	Must *float64 `json:"must,omitempty"`
	Aim  *float64 `json:"aim,omitempty"`
	// Note says what else there is to know.
	Note string `json:"note,omitempty"`
}

// Cell is one side of a line.
type Cell struct {
	Who string `json:"who"`
	// Of are all samples, Median the median's interval.
	Of     stat.Summary  `json:"of"`
	Median stat.Estimate `json:"median"`
	// Cannot says why there are none.
	Cannot string `json:"cannot,omitempty"`
	// Pinned says that it ran on one processor of its own.
	Pinned bool `json:"pinned,omitempty"`
}

// CellOf is a cell of samples.
func CellOf(who string, samples []float64, pinned bool) Cell {
	return Cell{Who: who, Of: stat.Of(samples), Median: stat.EstimateOf(samples), Pinned: pinned}
}

// MarshalJSON leaves out what there is nothing of: JSON has no NaN.
func (c Cell) MarshalJSON() ([]byte, error) {
	out := map[string]any{"who": c.Who}
	if c.Cannot != "" {
		out["cannot"] = c.Cannot
	}
	if c.Pinned {
		out["pinned"] = true
	}
	if c.Of.N > 0 {
		out["of"], out["median"] = c.Of, c.Median
	}
	return json.Marshal(out)
}

// Unit is what samples are in.
type Unit string

// The units. What is in nanoseconds is shown in what reads best.
const (
	Nanoseconds Unit = "ns"
	KiB         Unit = "KiB"
	PerSecond   Unit = "/s"
	PerMille    Unit = "ms/s"
)

// Format is a value of the unit, to three digits.
func (u Unit) Format(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	if u != Nanoseconds {
		return digits(v) + " " + string(u)
	}
	switch a := math.Abs(v); {
	case a >= 1e9:
		return digits(v/1e9) + " s"
	case a >= 1e6:
		return digits(v/1e6) + " ms"
	case a >= 1e3:
		return digits(v/1e3) + " µs"
	}
	return digits(v) + " ns"
}

// digits is v with three significant digits, and not in exponents.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// Scale is what so many cages cost.
type Scale struct {
	State      string  `json:"state"`
	Cages      int     `json:"cages"`
	Threads    int     `json:"threads"`
	Mappings   int     `json:"mappings"`
	Resident   float64 `json:"resident_per_cage_kib"`
	WakeUps    float64 `json:"wake_ups_per_s"`
	CPU        float64 `json:"cpu_ms_per_s"`
	SpawnNs    float64 `json:"spawn_ns"`
	KillP50    float64 `json:"kill_p50_ns"`
	KillMax    float64 `json:"kill_max_ns"`
	KillN      int     `json:"kill_n"`
	KillAllNs  float64 `json:"kill_all_ns"` // for each; 0: not measured here
	NotReached string  `json:"not_reached,omitempty"`
}

// Series is a curve of a plot.
type Series struct {
	Plot   string  `json:"plot"`
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// Point is a median with its interval, at X.
type Point struct {
	X float64       `json:"x"`
	Y stat.Estimate `json:"y"`
}

// Add adds a point to the curve of that name, and the curve if it is new.
func (r *Record) Add(plot, name string, x float64, y stat.Estimate) {
	for i := range r.Series {
		if s := &r.Series[i]; s.Plot == plot && s.Name == name {
			s.Points = append(s.Points, Point{x, y})
			return
		}
	}
	r.Series = append(r.Series, Series{Plot: plot, Name: name, Points: []Point{{x, y}}})
}

// Save writes the record as JSON.
func (r *Record) Save(path string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// Load reads what Save wrote.
func Load(path string) (*Record, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
