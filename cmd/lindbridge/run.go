package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
)

// runOptions are the flags of run.
type runOptions struct {
	dirs       []string
	env        []string
	timeLimit  time.Duration
	stopGrace  time.Duration
	report     string
	maxThreads int
	maxMemory  uint64
	shim       string
	cacheDir   string
	noCache    bool
	grates     grateFlags
	trace      bool
}

func newRun() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] PROG.wasm [ARG]...",
		Short: "Run a program",
		Long: `Run a program: a WebAssembly module, binary or text (.wat), for WASI preview 1, with or
without wasi-threads. It reads and writes this command's standard streams and reaches
no file that --dir does not give it, and no environment variable that --env does not.

The exit code is the program's own, or
  124      the time limit passed
  134      it trapped: the trap and the program's call stack are on standard error
  128 + n  it ended by signal n: Ctrl-C (SIGINT) and SIGTERM end the program
  126 127  it could not be run, or is not there
  125 2    lindbridge itself failed, or the command line makes no sense

A second Ctrl-C ends lindbridge at once, without waiting for the program's cleanup.

With --grate other programs stand between this one and the system: each serves the system
calls of the next, the first being the outermost. They write to the same standard output
and error, and have --env's variables; files they reach by --grate-dir alone.`,
		Example: `  lindbridge run hello.wasm
  lindbridge run --dir .::/ --env LANG=C sort.wasm in.txt out.txt
  lindbridge run --time-limit 5s --exit-report - untrusted.wasm
  lindbridge run --grate 'strace.wasm -c' --trace prog.wasm`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, o, args)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // flags after the program are the program's
	f.StringArrayVar(&o.dirs, "dir", nil, "give the program a directory: `HOST[::GUEST]`, its path here and its name there (repeatable)")
	f.StringArrayVar(&o.env, "env", nil, "set an environment variable: `NAME=VALUE`, or NAME to pass this command's on (repeatable)")
	f.DurationVar(&o.timeLimit, "time-limit", 0, "end the program after this `TIME`, such as 5s or 1m30s")
	f.DurationVar(&o.stopGrace, "stop-grace", lindbridge.DefaultStopGrace, "how long its threads may take to leave, once it is ended, before that is an error")
	f.StringVar(&o.report, "exit-report", "", "write how the program ended to `FILE`, - for standard output; as JSON if its name ends in .json")
	f.IntVar(&o.maxThreads, "max-threads", 0, "the most threads that the program may have at once (default 16384)")
	f.Uint64Var(&o.maxMemory, "max-memory", 0, "the most linear memory, in `BYTES` (default what the program declares)")
	f.StringVar(&o.cacheDir, "cache-dir", "", "keep compiled programs in `DIR` (default lindbridge in your cache directory)")
	f.BoolVar(&o.noCache, "no-cache", false, "keep no compiled programs")
	f.Var(o.grates.value(grateFile), "grate", "put a grate between the program and the system: `'FILE [ARG]...'`, quoted as for a shell (repeatable, the first is the outermost)")
	f.Var(o.grates.value(grateDir), "grate-dir", "give the grate named last a directory: `HOST[::GUEST]` (repeatable)")
	f.BoolVar(&o.trace, "trace", false, "print each call that a grate has served on standard error")
	addShimFlag(cmd, &o.shim)
	return cmd
}

// run runs one program to its end.
func run(cmd *cobra.Command, o runOptions, args []string) (err error) {
	program, err := o.program(args)
	if err != nil {
		return err
	}
	report, err := openReport(o.report, cmd.OutOrStdout())
	if err != nil {
		return &exitError{codeFailure, err}
	}
	defer func() { err = errors.Join(err, report.close()) }()

	// From here on signals are the program's affair.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	rt, err := o.runtime(cmd.ErrOrStderr())
	if err != nil {
		return &exitError{codeFailure, err}
	}
	module, err := rt.LoadFile(cmd.Context(), args[0])
	if err != nil {
		return errors.Join(&exitError{fileCode(err), err}, closeRuntime(rt, o.stopGrace))
	}
	program.Module = module
	program.Stdin, program.Stdout, program.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	stack, err := o.spawn(cmd, rt, program, signals)
	if err != nil {
		var exit *exitError
		if !errors.As(err, &exit) {
			err = &exitError{codeCannotRun, fmt.Errorf("%s: %w", args[0], err)}
		}
		return errors.Join(err, closeRuntime(rt, o.stopGrace))
	}
	cage := stack.App
	over := wait(cage, signals)
	if over {
		err = o.waitGrates(cmd, stack, signals)
	}
	if err != nil {
		return &exitError{codeFailure, err}
	}
	r := cage.Report()
	explain(cmd.ErrOrStderr(), args[0], r)
	if err := report.write(r); err != nil {
		return &exitError{codeFailure, err}
	}
	if over {
		// The program has ended and is cleaned up: nothing is left that could keep the runtime.
		if err := closeRuntime(rt, o.stopGrace); err != nil {
			return &exitError{codeFailure, err}
		}
	}
	if code := exitCode(r); code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// spawn starts the program, with its grates if it has any.
func (o *runOptions) spawn(
	cmd *cobra.Command, rt *lindbridge.Runtime, program lindbridge.Program, signals <-chan os.Signal,
) (*lindbridge.Stack, error) {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	grates := make([]lindbridge.Grate, len(o.grates))
	for i, g := range o.grates {
		module, err := loadGrate(ctx, rt, g.file)
		if err != nil {
			return nil, &exitError{fileCode(err), err}
		}
		p := program // its environment and limits, but for the time limit: it lives as long as what it serves
		p.Module, p.Args, p.Dirs, p.TimeLimit = module, g.args, g.dirs, 0
		p.Stdin = nil
		grates[i] = lindbridge.Grate{Program: p}
	}
	if len(grates) > 0 {
		// A grate that does not come to serve is ended by a signal.
		started := make(chan struct{})
		defer close(started)
		go func() {
			select {
			case sig := <-signals:
				cancel(fmt.Errorf("ended by %v", sig))
			case <-started:
			}
		}()
	}
	stack, err := rt.SpawnStack(ctx, program, grates...)
	var ended *lindbridge.GrateError
	if errors.As(err, &ended) {
		file := o.grates[ended.Index].file
		explain(cmd.ErrOrStderr(), file, ended.Report)
		return nil, &exitError{codeCannotRun, fmt.Errorf("grate %s: it ended before it served (%v)", file, ended.Report.Status)}
	}
	return stack, err
}

// loadGrate reads and compiles a grate.
func loadGrate(ctx context.Context, rt *lindbridge.Runtime, file string) (*lindbridge.Module, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("grate: %w", err)
	}
	m, err := rt.LoadGrate(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("grate %s: %w", file, err)
	}
	return m, nil
}

// waitGrates waits for the grates of a program that has ended, and says of each that failed how it did. A signal ends
// them.
func (o *runOptions) waitGrates(cmd *cobra.Command, stack *lindbridge.Stack, signals <-chan os.Signal) error {
	if len(stack.Grates) == 0 {
		return nil
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-signals:
			stack.Kill()
		case <-over:
		}
	}()
	_, err := stack.Wait(cmd.Context())
	for i, grate := range stack.Grates {
		explain(cmd.ErrOrStderr(), o.grates[i].file, grate.Report())
	}
	return err
}

// wait waits until the program has ended and answers true; or until a second signal, or until its threads do not leave
// in time, and answers false.
func wait(cage *lindbridge.Cage, signals <-chan os.Signal) bool {
	signalled := false
	for {
		select {
		case <-cage.Done():
			return true
		case <-cage.Stuck():
			return false
		case sig := <-signals:
			if signalled {
				return false
			}
			signalled = true
			if s, ok := sig.(syscall.Signal); ok {
				cage.KillSignal(s)
			}
		}
	}
}

// closeRuntime gives everything back.
func closeRuntime(rt *lindbridge.Runtime, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace+10*time.Second)
	defer cancel()
	return rt.Close(ctx)
}

// exitCode is the code for how the program ended.
func exitCode(r exitcoord.Report) int {
	if r.Cause.Kind == exitcoord.TimeLimit {
		return codeTimeLimit
	}
	return r.Status.ExitCode()
}

// explain says on standard error what a program's user has to know of an end that was not its own choice.
func explain(w io.Writer, name string, r exitcoord.Report) {
	switch r.Cause.Kind {
	case exitcoord.Trap, exitcoord.HostFailure, exitcoord.StartFailed, exitcoord.GrateFailure:
		fmt.Fprintf(w, "lindbridge: %s: %v\n", name, r.Cause)
		if r.Cause.Backtrace != "" {
			fmt.Fprintf(w, "wasm backtrace:\n%s", withNewline(printable(r.Cause.Backtrace)))
		}
	case exitcoord.TimeLimit:
		fmt.Fprintf(w, "lindbridge: %s: %v\n", name, r.Cause)
	}
	if r.Phase == exitcoord.Stopping {
		fmt.Fprintf(w, "lindbridge: %s: its threads have not left; lindbridge ends without its cleanup\n", name)
	}
}

// printable escapes what a terminal would act on: the guest chooses the names of its functions.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func withNewline(s string) string {
	if strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}

// program turns the flags into what is to be run.
func (o *runOptions) program(args []string) (lindbridge.Program, error) {
	p := lindbridge.Program{
		Args: append([]string{filepath.Base(args[0])}, args[1:]...), TimeLimit: o.timeLimit, StopGrace: o.stopGrace,
		MaxThreads: o.maxThreads, MaxMemory: o.maxMemory,
	}
	for _, d := range o.dirs {
		dir, err := parseDir(d)
		if err != nil {
			return p, fmt.Errorf("--dir %w", err)
		}
		p.Dirs = append(p.Dirs, dir)
	}
	for _, e := range o.env {
		name, _, found := strings.Cut(e, "=")
		if name == "" {
			return p, fmt.Errorf("--env %q: want NAME=VALUE", e)
		}
		if !found {
			value, ok := os.LookupEnv(name)
			if !ok {
				return p, fmt.Errorf("--env %s: it is not set here; give a value with --env %s=VALUE", name, name)
			}
			e = name + "=" + value
		}
		p.Env = append(p.Env, e)
	}
	if o.timeLimit < 0 || o.stopGrace < 0 {
		return p, errors.New("--time-limit and --stop-grace cannot be negative")
	}
	return p, nil
}

// parseDir reads HOST[::GUEST].
func parseDir(d string) (lindbridge.Dir, error) {
	host, guest, found := strings.Cut(d, "::")
	if !found {
		guest = host
	}
	if host == "" || guest == "" {
		return lindbridge.Dir{}, fmt.Errorf("%q: want HOST::GUEST, such as .::/", d)
	}
	return lindbridge.Dir{Host: host, Guest: guest}, nil
}

// runtime makes the runtime, with the compile cache where that can be had.
func (o *runOptions) runtime(stderr io.Writer) (*lindbridge.Runtime, error) {
	cfg := lindbridge.Config{ShimPath: o.shim, MaxThreads: o.maxThreads}
	if o.trace {
		cfg.Trace = newTracer(stderr).print
	}
	if o.noCache {
		return lindbridge.New(cfg)
	}
	if o.cacheDir != "" {
		dir, err := filepath.Abs(o.cacheDir)
		if err != nil {
			return nil, err
		}
		cfg.CacheDir = dir
		return lindbridge.New(cfg)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return lindbridge.New(cfg) // no home: compiling each time works as well
	}
	cfg.CacheDir = filepath.Join(dir, "lindbridge")
	rt, err := lindbridge.New(cfg)
	if errors.Is(err, lindbridge.ErrCache) {
		fmt.Fprintf(stderr, "lindbridge: running without compile cache: %v\n", err)
		cfg.CacheDir = ""
		return lindbridge.New(cfg)
	}
	return rt, err
}
