package record

import (
	"fmt"
	"io"
	"strings"

	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

// Compare writes a table of what an earlier run has in common with this one: before and after. Machines drift between runs:
// the ratios to the peer, which was measured beside ours each time, are the better part.
func (r *Record) Compare(w io.Writer, old *Record) error {
	b := new(strings.Builder)
	fmt.Fprintf(b, "# Before and after\n\nBefore: %s, %s. After: %s, %s.\n\n"+
		"| what | before | after | after / before | peer | to peer, before | to peer, after |\n"+
		"| --- | --- | --- | --- | --- | --- | --- |\n",
		old.When.UTC().Format("2006-01-02 15:04 UTC"), old.Mode, r.When.UTC().Format("2006-01-02 15:04 UTC"), r.Mode)
	before := map[string]*Line{}
	for i := range old.Lines {
		before[old.Lines[i].ID] = &old.Lines[i]
	}
	for i := range r.Lines {
		now, was := &r.Lines[i], before[r.Lines[i].ID]
		if was == nil || was.Ours.Of.N == 0 || now.Ours.Of.N == 0 {
			continue
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", now.What, was.Ours.p50(was.Unit), now.Ours.p50(now.Unit),
			change(was, now), now.Peer.Who, was.Comparison(), now.Comparison())
		delete(before, now.ID)
	}
	for i := range old.Lines {
		if before[old.Lines[i].ID] != nil {
			fmt.Fprintf(b, "\nOnly before: %s against %s.\n", old.Lines[i].What, old.Lines[i].Peer.Who)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// change is the ratio of two medians of different runs, with the widest interval that theirs allow.
func change(was, now *Line) string {
	x, y := was.Ours.Median, now.Ours.Median
	if x.Mid == 0 || x.Lo <= 0 {
		return ""
	}
	return RatioText(stat.Estimate{N: min(x.N, y.N), Mid: y.Mid / x.Mid, Lo: y.Lo / x.Hi, Hi: y.Hi / x.Lo})
}
