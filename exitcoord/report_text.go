package exitcoord

import (
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file holds the exit report for people: no line has more than lineWidth columns, nothing that came from the guest
// is obeyed by the terminal, and what takes many lines is shortened. Its form may change at any time: programs read
// the JSON report.

const (
	lineWidth     = 100
	mostThreads   = 24  // rows of threads
	mostFrames    = 24  // lines of the guest's backtrace
	mostOfStack   = 16  // lines of the stack of one panic
	mostOfError   = 300 // characters of the error of one step
	mostOfOutcome = 40  // characters of how one thread ended
	indentBlock   = "  "
	indentWithin  = "    "
)

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	_, err := io.WriteString(w, r.String())
	return err
}

// String is the report for people: some lines, each ended by a line feed.
func (r Report) String() string {
	var b strings.Builder
	paragraph(&b, "", r.title())
	r.writeFacts(&b)
	r.writeStuck(&b)
	r.writeThreads(&b)
	r.writeSteps(&b)
	r.writeStacks(&b)
	r.writeBacktrace(&b)
	return b.String()
}

// title is what happened, in a sentence.
func (r Report) title() string {
	cage := "cage " + strconv.FormatUint(uint64(r.Cage), 10)
	if r.Cause == nil {
		if r.Phase == Running {
			return cage + " is running"
		}
		return cage + " is " + r.Phase.String() + " for an exec"
	}
	why := ": " + r.Cause.String()
	switch {
	case r.Phase == Zombie || r.Phase == Reaped:
		return cage + " ended" + why
	case r.Phase == Stopping && r.Stuck != nil:
		return cage + " is stuck" + why
	case r.Phase == Cleaning:
		return cage + " is being cleaned up" + why
	}
	return cage + " is " + r.Phase.String() + why
}

// writeFacts writes what fits on a line each.
func (r Report) writeFacts(b *strings.Builder) {
	var rows [][2]string
	add := func(name, value string) { rows = append(rows, [2]string{name, value}) }
	if r.Cause != nil {
		status := r.Status.String()
		if code := r.Status.ExitCode(); r.Status.Signal != 0 || code != int(r.Status.Code) {
			status += " (shell: " + strconv.Itoa(code) + ")"
		}
		add("status", status)
		add("when", r.Cause.At.Format("2006-01-02 15:04:05.000000 MST"))
	}
	if r.Phase != Running {
		add("took", r.times())
	}
	if r.Lost > 0 {
		add("too late", count(r.Lost, "other cause"))
	}
	if r.StopErr != nil {
		add("stop", "failed: "+printable(firstLine(r.StopErr.Error())))
	}
	if r.ObserverPanics > 0 {
		add("observer", "panicked "+count(r.ObserverPanics, "time"))
	}
	if len(rows) == 0 {
		return
	}
	b.WriteByte('\n')
	names := 0
	for _, row := range rows {
		names = max(names, width(row[0]))
	}
	for _, row := range rows {
		paragraph(b, indentBlock+row[0]+strings.Repeat(" ", names-width(row[0]))+gap, row[1])
	}
}

// times is how long it took, or has been taking.
func (r Report) times() string {
	switch r.Phase {
	case Stopping:
		return duration(r.Stopping) + " so far: stopping"
	case Quiescent:
		return duration(r.Total) + " so far: stopping " + duration(r.Stopping)
	case Cleaning:
		return duration(r.Total) + " so far: stopping " + duration(r.Stopping) + ", cleaning " + duration(r.Cleaning)
	}
	return duration(r.Total) + ": stopping " + duration(r.Stopping) + ", cleaning " + duration(r.Cleaning)
}

func (r Report) writeStuck(b *strings.Builder) {
	s := r.Stuck
	if s == nil {
		return
	}
	head := "stuck after " + duration(s.After)
	if n := len(s.Threads); n > 0 {
		head += ", waiting for " + count(n, "thread")
	} else {
		head += ", though no thread was found inside"
	}
	if s.Over {
		head += "; went on by itself " + duration(s.Lasted) + " later"
	}
	b.WriteByte('\n')
	if len(s.Threads) == 0 {
		paragraph(b, indentBlock, head)
		return
	}
	paragraph(b, indentBlock, head+":")
	writeThreadTable(b, s.Threads, "")
}

func (r Report) writeThreads(b *strings.Builder) {
	if len(r.Threads) == 0 {
		return
	}
	verb := " were"
	if len(r.Threads) == 1 {
		verb = " was"
	}
	b.WriteString("\n" + indentBlock + count(len(r.Threads), "thread") + verb + " inside when the stop began:\n")
	writeThreadTable(b, r.Threads, ", which left sooner")
}

// writeThreadTable writes a row a thread. Of too many it shows those that took longest, and says what the rest did.
func writeThreadTable(b *strings.Builder, threads []ThreadState, rest string) {
	shown := threads
	if len(shown) > mostThreads {
		shown = slices.Clone(threads)
		slices.SortStableFunc(shown, func(p, q ThreadState) int {
			return cmp.Or(cmp.Compare(q.Left, p.Left), cmp.Compare(q.Since, p.Since))
		})
		shown = shown[:mostThreads]
	}
	rows := make([][]string, 0, len(shown))
	for _, t := range shown {
		rows = append(rows, []string{
			strconv.Itoa(int(t.TID)), printable(t.At), printable(t.Function), ifKnown(t.Since), ifKnown(t.Left),
			cut(printable(t.Outcome), mostOfOutcome),
		})
	}
	table(b, indentWithin, []column{
		{head: "thread", right: true},
		{head: "was in"},
		{head: "function"},
		{head: "for", right: true},
		{head: "left after", right: true},
		{head: "ended"},
	}, rows)
	if more := len(threads) - len(shown); more > 0 {
		b.WriteString(indentWithin + "and " + strconv.Itoa(more) + " more" + rest + "\n")
	}
}

func (r Report) writeSteps(b *strings.Builder) {
	if len(r.Steps) == 0 || r.Cause == nil {
		return
	}
	rows := make([][]string, 0, len(r.Steps))
	for _, s := range r.Steps {
		took, note := duration(s.Took), ""
		switch s.Outcome {
		case StepWaiting, StepRunning:
			took = ""
		case StepFailed, StepPanicked:
			note = errorNote(s.Err)
		case StepTimedOut:
			note = r.lateNote(s.Index)
		}
		rows = append(rows, []string{printable(s.Name), s.Outcome.String(), took, note})
	}
	b.WriteByte('\n')
	table(b, indentBlock, []column{
		{head: "step"},
		{head: "result"},
		{head: "took", right: true},
		{head: ""},
	}, rows)
}

// lateNote is what is known of a step that timed out.
func (r Report) lateNote(index int) string {
	for _, s := range r.Late {
		if s.Index != index {
			continue
		}
		note := "came back after " + duration(s.Took) + ": " + s.Outcome.String()
		if s.Err != nil {
			note += ": " + errorNote(s.Err)
		}
		return note
	}
	return "has not come back"
}

// errorNote is an error on one line; those of a joined error one after the other.
func errorNote(err error) string {
	text := strings.ReplaceAll(strings.TrimSpace(errorText(err)), "\n", "; ")
	return cut(printable(text), mostOfError)
}

// ifKnown is d, or nothing if it is not known, which is 0.
func ifKnown(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return duration(d)
}

// writeStacks writes where steps panicked.
func (r Report) writeStacks(b *strings.Builder) {
	for _, s := range slices.Concat(r.Steps, r.Late) {
		if s.Stack != "" {
			writeLines(b, "step "+printable(s.Name)+" panicked at:", lines(s.Stack), mostOfStack)
		}
	}
}

func (r Report) writeBacktrace(b *strings.Builder) {
	if r.Cause == nil || r.Cause.Backtrace == "" {
		return
	}
	head := "backtrace of the guest:"
	if r.Cause.TID != 0 {
		head = "backtrace of thread " + strconv.Itoa(int(r.Cause.TID)) + ":"
	}
	writeLines(b, head, lines(r.Cause.Backtrace), mostFrames)
}

// writeLines writes a block of at most so many lines, each cut rather than wrapped: a frame stays a line.
func writeLines(b *strings.Builder, head string, block []string, most int) {
	b.WriteByte('\n')
	paragraph(b, indentBlock, head)
	for i, line := range block {
		if i == most {
			b.WriteString(indentWithin + "and " + count(len(block)-i, "line") + " more\n")
			return
		}
		indent := indentWithin
		if trimmed := strings.TrimLeft(line, "\t "); len(trimmed) < len(line) {
			indent, line = indent+gap, trimmed
		}
		b.WriteString(cut(strings.TrimRight(indent+printable(line), " "), lineWidth) + "\n")
	}
}
