package soak

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// String is the figures as text, for people: some lines, of which the last has no newline.
func (f Figures) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %v\n", f.Seed, f.Elapsed.Round(time.Millisecond))
	fmt.Fprintf(&b, "cages %d, exits %d, %d of them stuck for a while, refused %d, rests %d, violations %d\n",
		f.Cages, f.Exits, f.Stuck, f.Refused, f.Rests, len(f.Violations))
	fmt.Fprintf(&b, "plans:  %s\n", list(f.Plans))
	fmt.Fprintf(&b, "causes: %s\n", list(f.Causes))
	for i, r := range f.AtRest {
		if i != 0 && i != len(f.AtRest)/2 && i != len(f.AtRest)-1 {
			continue // the first, which is that of the warm-up, one in the middle, and the last
		}
		fmt.Fprintf(&b, "rest %d: %d threads, %d goroutines, %d descriptors, %d mappings, %d MiB resident\n",
			i, r.Threads, r.Goroutines, r.Descriptors, r.Mappings, r.Resident>>20)
	}
	if len(f.Faults) > 0 {
		fmt.Fprintf(&b, "faults: %s\n", list(f.Faults))
	}
	if len(f.Phases) == 0 {
		return strings.TrimSuffix(b.String(), "\n")
	}
	fmt.Fprintf(&b, "%-18s %10s %12s %12s %12s", "phase", "exits", "p50", "p99", "max")
	for _, name := range slices.Sorted(maps.Keys(f.Phases)) {
		q := f.Phases[name]
		fmt.Fprintf(&b, "\n%-18s %10d %12v %12v %12v", name, q.N, short(q.P50), short(q.P99), short(q.Max))
	}
	return b.String()
}

// Line is how far it is, on one line.
func (f Figures) Line() string {
	var faults uint64
	for _, n := range f.Faults {
		faults += n
	}
	return fmt.Sprintf("%v: %d cages, %d exits (%.0f/s), %d alive, %d faults, %d rests", f.Elapsed.Round(time.Second),
		f.Cages, f.Exits, float64(f.Exits)/max(f.Elapsed.Seconds(), 0.001), f.Alive, faults, f.Rests)
}

// short is d with three digits or so.
func short(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
}

func list[N int64 | uint64](m map[string]N) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

// figuresJSON is the figures for programs: times are nanoseconds.
type figuresJSON struct {
	Seed       uint64                   `json:"seed"`
	ElapsedNs  int64                    `json:"elapsed_ns"`
	Cages      int64                    `json:"cages"`
	Exits      int64                    `json:"exits"`
	Stuck      int64                    `json:"stuck"`
	Refused    int64                    `json:"refused"`
	Rests      int64                    `json:"rests"`
	AtRest     []AtRest                 `json:"at_rest"`
	Plans      map[string]int64         `json:"plans"`
	Causes     map[string]int64         `json:"causes"`
	Faults     map[string]uint64        `json:"faults"`
	Phases     map[string]quantilesJSON `json:"phases"`
	Violations []string                 `json:"violations"`
}

type quantilesJSON struct {
	N     int64 `json:"n"`
	P50Ns int64 `json:"p50_ns"`
	P99Ns int64 `json:"p99_ns"`
	MaxNs int64 `json:"max_ns"`
}

// WriteJSON writes the figures as one JSON object.
func (f Figures) WriteJSON(w io.Writer) error {
	out := figuresJSON{
		Seed: f.Seed, ElapsedNs: f.Elapsed.Nanoseconds(), Cages: f.Cages, Exits: f.Exits, Stuck: f.Stuck,
		Refused: f.Refused, Rests: f.Rests, AtRest: f.AtRest, Plans: f.Plans, Causes: f.Causes, Faults: f.Faults,
		Phases: map[string]quantilesJSON{}, Violations: []string{},
	}
	for name, q := range f.Phases {
		out.Phases[name] = quantilesJSON{q.N, q.P50.Nanoseconds(), q.P99.Nanoseconds(), q.Max.Nanoseconds()}
	}
	for _, v := range f.Violations {
		out.Violations = append(out.Violations, v.Error())
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
