package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/internal/soak"
)

// soakOptions are the flags of soak.
type soakOptions struct {
	soak.Config
	json bool
}

func newSoak() *cobra.Command {
	var o soakOptions
	cmd := &cobra.Command{
		Use:   "soak [flags]",
		Short: "Run random programs for a while, end them in every way, and check that nothing goes wrong",
		Long: `Run random programs, grates and stacks of them, end them in every way at any moment, and
check each exit, and at rest that nothing is left. Progress goes to standard error, the
figures to standard output. Ctrl-C ends it early, with the figures so far.

The exit code is 0 if nothing was wrong, and 1 if something was: what it was, what
happened before, and how to begin again at that place are on standard error then.

A seed determines what each worker does, not when threads run, nor what is there to meet:
see --replay, with which the workers begin their plans in step.`,
		Example: `  lindbridge soak --for 10m --faults
  lindbridge soak --for 8h --cages 1000 --json > figures.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				o.Seed = rand.Uint64()
			}
			if !cmd.Flags().Changed("guests") {
				o.Guests = soak.GuestDir(o.Guests)
			}
			return runSoak(cmd, o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.For, "for", 10*time.Second, "how long, such as 10m")
	f.Uint64Var(&o.Seed, "seed", 0, "what determines the plans (default a new one each time)")
	f.IntVar(&o.Cages, "cages", 1000, "how many programs live at the same time")
	f.IntVar(&o.Workers, "workers", 8, "how many plans go on at the same time")
	f.BoolVar(&o.Faults, "faults", false, "have lindbridge itself fail here and there; needs a build with -tags faults")
	f.BoolVar(&o.Replay, "replay", false, "begin the plans of each number together, as far as that repeats a run with the same seed")
	f.IntVar(&o.From, "from", 0, "the `NUMBER` of the plan to begin with")
	f.DurationVar(&o.Patience, "patience", time.Minute, "how long anything may take that should take microseconds")
	f.IntVar(&o.Programs, "programs", 0, "how many programs of the exit matrix take part (default all, which takes some seconds to compile)")
	f.StringVar(&o.Guests, "guests", filepath.Join("testdata", "guests"), "`DIR` with the programs of testdata/guests (default if there)")
	f.BoolVar(&o.json, "json", false, "write the figures as JSON, with times in nanoseconds")
	addShimFlag(cmd, &o.ShimPath)
	return cmd
}

// runSoak soaks, and writes the figures.
func runSoak(cmd *cobra.Command, o soakOptions) error {
	if o.For <= 0 || o.Cages <= 0 || o.Workers <= 0 || o.From < 0 || o.Patience <= 0 {
		return errors.New("soak: --for, --cages, --workers and --patience must be more than 0, and --from cannot be negative")
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	stderr := cmd.ErrOrStderr()
	show := newShown(stderr)
	o.Progress = show.progress
	fmt.Fprintf(stderr, "soak: seed %d, %v, %d cages\n", o.Seed, o.For, o.Cages)
	figures, err := soak.Run(ctx, o.Config)
	show.end()
	if errors.Is(err, soak.ErrNoFaults) {
		return &exitError{codeUsage, err}
	}
	if err := writeFigures(cmd.OutOrStdout(), figures, o.json); err != nil {
		return &exitError{codeFailure, err}
	}
	var failed *soak.Failure
	switch {
	case errors.As(err, &failed):
		return &exitError{1, failed}
	case err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())):
		return &exitError{codeFailure, err}
	}
	return nil
}

func writeFigures(w io.Writer, f soak.Figures, json bool) error {
	if json {
		return f.WriteJSON(w)
	}
	_, err := fmt.Fprintln(w, f)
	return err
}

// shown shows progress: on a terminal a line that changes, elsewhere one every some seconds.
type shown struct {
	to       io.Writer
	terminal bool
	last     time.Time // of the last line that stays
}

// shownEvery is how often a line is written where it stays.
const shownEvery = 10 * time.Second

func newShown(to io.Writer) *shown {
	s := &shown{to: to, last: time.Now()}
	if f, ok := to.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		s.terminal = err == nil
	}
	return s
}

func (s *shown) progress(f soak.Figures) {
	switch {
	case s.terminal:
		fmt.Fprintf(s.to, "\r\x1b[K%s", f.Line())
	case time.Since(s.last) >= shownEvery:
		s.last = time.Now()
		fmt.Fprintln(s.to, f.Line())
	}
}

// end ends the line that changes.
func (s *shown) end() {
	if s.terminal {
		fmt.Fprint(s.to, "\r\x1b[K")
	}
}
