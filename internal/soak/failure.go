package soak

import (
	"fmt"
	"strings"
)

// Failure is the error of a soak in which something was wrong.
type Failure struct {
	Figures Figures
	// Recent is what happened lately, one line each, and what the plans did in which something was wrong.
	Recent []string
	// Replay are the arguments of the command that begin it again shortly before.
	Replay string

	err error
}

// Error is all that is known: the violations, each with its cage's events and report, the history, and the seed.
func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d violations with seed %d\n", len(f.Figures.Violations), f.Figures.Seed)
	for _, v := range f.Figures.Violations {
		fmt.Fprintf(&b, "\n%v\n", v)
		for _, e := range v.Events {
			fmt.Fprintf(&b, "    %v\n", e)
		}
		if v.Report != nil {
			fmt.Fprintf(&b, "%v\n", v.Report)
		}
	}
	fmt.Fprintf(&b, "\nwhat happened lately:\n")
	for _, line := range f.Recent {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	if f.err != nil {
		fmt.Fprintf(&b, "and at the end: %v\n", f.err)
	}
	fmt.Fprintf(&b, "again: lindbridge soak %s", f.Replay)
	return b.String()
}

// Unwrap is what else went wrong.
func (f *Failure) Unwrap() error { return f.err }
