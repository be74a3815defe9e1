package record

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

const method = `## How to read it

- What a row compares was measured in turn in one run, A B A B, each side in a process of its own. The first rounds warm up
  and are not counted; every other sample is. n is the samples of ours and of the peer. A turn is short (3 kills, 5
  spawns), so that a good part of the samples finds caches full of the others' data; rows that say "one after the other"
  have turns of 30. After kills ours waits 10 ms before it answers, until it has woken the threads of what it has ended:
  that is not to be in the others' way.
- A ratio is the median of the ratios round by round, ours to the peer's, with its 95% interval (order statistics). Below 1
  ours is faster. Where the interval is wider than it is away from 1 no ratio is told, but "no difference shown".
- "met" and "missed" take the whole interval; "undecided" is a limit within it. A max stands for p99 where there are fewer
  than 100 samples.
- A row marked "reference" has a figure that others published, or that was measured earlier and elsewhere: it was not
  measured in this run, so that its ratio says nothing about a few tens of percent.
- "cannot" is what a peer was asked to end, in a process of its own, and did not within the time that is said; the process
  was killed.
- "pinned" rows have each side alone on one and the same processor.
`

// Markdown writes the document. plots are the files of the plots, beside it, and their titles.
func (r *Record) Markdown(w io.Writer, plots [][2]string) error {
	b := new(strings.Builder)
	fmt.Fprintf(b, "# Benchmarks\n\nWritten by `make %s` on %s in %v: do not edit. The goals are in the columns \"must\" and \"aim\".\n\n",
		map[bool]string{true: "bench-quick", false: "bench"}[r.Mode == "quick"],
		r.When.UTC().Format("2006-01-02 15:04 UTC"), r.Took.Round(1e9))
	if r.Mode == "quick" {
		b.WriteString("This was a quick run, with few samples: it shows that all can be measured. `make bench` takes its time.\n\n")
	}
	met, missed, open := r.count()
	fmt.Fprintf(b, "Of what must be reached %d met, %d missed, %d undecided.\n\n", met, missed, open)
	for _, m := range r.Machine {
		fmt.Fprintf(b, "- %s\n", m)
	}
	for _, v := range r.Versions {
		fmt.Fprintf(b, "- %s\n", v)
	}
	fmt.Fprintf(b, "- load averages when it began: %s; when it ended: %s\n\n%s", r.Load[0], r.Load[1], method)
	for i, l := range r.Lines {
		if i == 0 || r.Lines[i-1].Group != l.Group {
			fmt.Fprintf(b, "\n## %s\n\n| what | ours p50 | p99 | peer | its p50 | p99 | n | ratio | must | aim |\n"+
				"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n", l.Group)
		}
		b.WriteString(l.row())
	}
	r.notes(b)
	r.scale(b)
	for _, p := range plots {
		fmt.Fprintf(b, "\n## %s\n\n![%s](%s)\n", p[1], p[1], p[0])
	}
	if len(r.Troubles) > 0 {
		b.WriteString("\n## Not measured\n\n")
		for _, t := range r.Troubles {
			fmt.Fprintf(b, "- %s\n", strings.ReplaceAll(strings.TrimSpace(t), "\n", " "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Record) count() (met, missed, open int) {
	for i := range r.Lines {
		l := &r.Lines[i]
		if l.Must == nil || l.Compared == nil {
			continue
		}
		switch l.Compared.AtMost(*l.Must) {
		case stat.Met:
			met++
		case stat.Missed:
			missed++
		case stat.Open:
			open++
		}
	}
	return met, missed, open
}

// notes are those of the lines, each once.
func (r *Record) notes(b *strings.Builder) {
	seen := map[string]bool{}
	for _, l := range r.Lines {
		if l.Note == "" || seen[l.Note] {
			continue
		}
		if len(seen) == 0 {
			b.WriteString("\n## Notes\n\n")
		}
		seen[l.Note] = true
		fmt.Fprintf(b, "- %s: %s\n", l.What, l.Note)
	}
}

func (l *Line) row() string {
	what := l.What
	if l.Ours.Pinned {
		what += " (pinned)"
	}
	peer := l.Peer.Who
	if l.Reference {
		peer = "*reference:* " + peer
	}
	n := fmt.Sprint(l.Ours.Of.N)
	if l.Peer.Of.N > 0 && !l.Reference {
		n += ", " + fmt.Sprint(l.Peer.Of.N)
	}
	its, tail := l.Peer.p50(l.Unit), l.Peer.p99(l.Unit)
	if l.Reference {
		tail = ""
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", what, l.Ours.p50(l.Unit), l.Ours.p99(l.Unit),
		peer, its, tail, n, l.Comparison(), l.limit(l.Must), l.limit(l.Aim))
}

func (c *Cell) p50(u Unit) string {
	if c.Cannot != "" {
		return "cannot: " + c.Cannot
	}
	if c.Of.N == 0 {
		return ""
	}
	return u.Format(c.Of.P50)
}

func (c *Cell) p99(u Unit) string {
	switch {
	case c.Of.N == 0:
		return ""
	case c.Of.N < 100:
		return "max " + u.Format(c.Of.Max)
	}
	return u.Format(c.Of.P99)
}

// Comparison is what may be said of ours and the peer's: a ratio or difference with its interval, or that there is none.
func (l *Line) Comparison() string {
	e := l.Compared
	if e == nil || math.IsNaN(e.Mid) {
		return ""
	}
	if l.Difference {
		text := fmt.Sprintf("%s (%s to %s)", signed(e.Mid), signed(e.Lo), signed(e.Hi))
		if !e.ShowsDifference() {
			text = fmt.Sprintf("no difference shown (%s to %s)", signed(e.Lo), signed(e.Hi))
		}
		return text + " " + string(l.Unit)
	}
	return RatioText(*e)
}

// RatioText is a ratio with its interval, or that no difference is shown.
func RatioText(e stat.Estimate) string {
	if !e.Sure() {
		return fmt.Sprintf("too few samples (%d)", e.N)
	}
	if !e.ShowsRatio() {
		return fmt.Sprintf("no difference shown (%s–%s)", digits(e.Lo), digits(e.Hi))
	}
	return fmt.Sprintf("%s (%s–%s)", digits(e.Mid), digits(e.Lo), digits(e.Hi))
}

func signed(v float64) string {
	if v > 0 {
		return "+" + digits(v)
	}
	return digits(v)
}

// limit is a must or aim, and how it stands to it.
func (l *Line) limit(limit *float64) string {
	if limit == nil {
		return ""
	}
	text := "≤ " + digits(*limit)
	if l.Difference {
		text = "≤ " + signed(*limit) + " " + string(l.Unit)
	}
	if l.Compared == nil {
		return text
	}
	verdict := string(l.Compared.AtMost(*limit))
	if verdict != string(stat.Met) {
		verdict = "**" + verdict + "**"
	}
	return text + ": " + verdict
}

func (r *Record) scale(b *strings.Builder) {
	if len(r.Scale) == 0 {
		return
	}
	b.WriteString("\n## Many cages\n\nOf one process with so many cages of one thread each: its threads and mappings, resident memory for each cage, " +
		"voluntary context switches of all\nthreads and processor time while nothing is asked of it, how long a spawn took, " +
		"how long the kill of one more cage (in an atomic wait) takes until\n" +
		"it is waited for, and the kill of all of them, for each. Where vm.max_map_count or the limit on descriptors allows fewer than 10,000, there\n" +
		"are as many as that.\n\n" +
		"| state | cages | threads | mappings | resident for each | wake-ups | CPU | spawn, each | kill of one, p50 | max | n | kill of all, each |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, s := range r.Scale {
		if s.NotReached != "" {
			fmt.Fprintf(b, "| %s | %d | not reached: %s | | | | | | | | | |\n", s.State, s.Cages, s.NotReached)
			continue
		}
		all := ""
		if s.KillAllNs > 0 {
			all = Nanoseconds.Format(s.KillAllNs)
		}
		fmt.Fprintf(b, "| %s | %d | %d | %d | %s | %s | %s | %s | %s | %s | %d | %s |\n", s.State, s.Cages, s.Threads, s.Mappings,
			KiB.Format(s.Resident), PerSecond.Format(s.WakeUps), PerMille.Format(s.CPU), Nanoseconds.Format(s.SpawnNs),
			Nanoseconds.Format(s.KillP50), Nanoseconds.Format(s.KillMax), s.KillN, all)
	}
}
