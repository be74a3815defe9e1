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
	network    string
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
calls of the next, the first being the outermost. --grate takes a file and its arguments as
one word, in which quotes work as in a shell. Grates have --env's variables and the same
standard output and error, no input, and no files but those of --grate-dir. Limits, the exit
code and the report are the program's. A grate that ends before it serves is why the program
does not run: code 126. Once it serves, it ends by itself after the program, or --stop-grace
later by force.`,
		Example: `  lindbridge run hello.wasm
  lindbridge run --dir .::/ --env LANG=C sort.wasm in.txt out.txt
  lindbridge run --time-limit 5s --exit-report - untrusted.wasm
  lindbridge run --trace --grate 'deny.wasm policy.txt' --grate-dir . prog.wasm`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, o, args)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if strings.HasPrefix(err.Error(), "unknown ") {
			return o.grates.hint(err)
		}
		return err
	})
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
	f.Var(o.grates.value(grateFile), "grate", "put a grate between program and system: `'FILE [ARG]...'` (repeatable, the first is the outermost)")
	f.Var(o.grates.value(grateDir), "grate-dir", "give the grate named last a directory: `HOST[::GUEST]` (repeatable)")
	f.StringVar(&o.network, "network", "none", "what the program may reach by sockets that it makes: `none`, loopback or all")
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

	stderr := cmd.ErrOrStderr()
	if len(o.grates) > 0 {
		stderr = shared(stderr)
	}
	rt, err := o.runtime(stderr)
	if err != nil {
		return &exitError{codeFailure, err}
	}
	module, err := rt.LoadFile(cmd.Context(), args[0])
	if err != nil {
		exit := &exitError{fileCode(err), err}
		if exit.code == codeNotFound {
			exit.err = o.grates.hint(err)
		}
		return errors.Join(exit, closeRuntime(rt, o.stopGrace))
	}
	program.Module = module
	program.Stdin, program.Stdout, program.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), stderr
	if len(o.grates) > 0 {
		program.Stdout = shared(program.Stdout)
	}
	stack, err := o.spawn(cmd.Context(), rt, program, signals)
	if err != nil {
		var exit *exitError
		if !errors.As(err, &exit) {
			exit = &exitError{codeCannotRun, fmt.Errorf("%s: %w", args[0], err)}
		}
		return errors.Join(exit, closeRuntime(rt, o.stopGrace))
	}
	cage := stack.App
	over := wait(cage, signals) && o.waitGrates(stderr, stack, signals)
	r := cage.Report()
	explain(stderr, args[0], r)
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
	ctx context.Context, rt *lindbridge.Runtime, program lindbridge.Program, signals <-chan os.Signal,
) (*lindbridge.Stack, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	grates := make([]lindbridge.Grate, len(o.grates))
	for i := range o.grates {
		module, err := o.grates[i].load(ctx, rt)
		if err != nil {
			return nil, &exitError{fileCode(err), err}
		}
		grates[i] = lindbridge.Grate{Program: lindbridge.Program{
			Module: module, Args: o.grates[i].args, Env: program.Env, Dirs: o.grates[i].dirs,
			Stdout: program.Stdout, Stderr: program.Stderr, StopGrace: program.StopGrace,
		}}
	}
	if len(grates) == 0 {
		return rt.SpawnStack(ctx, program)
	}
	started, early := make(chan struct{}), make(chan syscall.Signal, 1)
	go func() {
		defer close(early)
		o.watchStart(started, signals, early, cancel)
	}()
	stack, err := rt.SpawnStack(ctx, program, grates...)
	close(started)
	sig, signalled := <-early
	if err == nil {
		if signalled {
			stack.App.KillSignal(sig) // it ran already
		}
		return stack, nil
	}
	var ended *lindbridge.GrateError
	if errors.As(err, &ended) {
		err = &exitError{codeCannotRun, o.grates[ended.Index].notServed(program.Stderr, ended.Report)}
	}
	return nil, err
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
	if r.Cause == nil {
		return // it has not ended: lindbridge ends before it
	}
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

// networks is what --network may say.
var networks = map[string]lindbridge.Network{
	"none": lindbridge.NetworkNone, "loopback": lindbridge.NetworkLoopback, "all": lindbridge.NetworkAll,
}

// program turns the flags into what is to be run.
func (o *runOptions) program(args []string) (lindbridge.Program, error) {
	p := lindbridge.Program{
		Args: append([]string{filepath.Base(args[0])}, args[1:]...), TimeLimit: o.timeLimit, StopGrace: o.stopGrace,
		MaxThreads: o.maxThreads, MaxMemory: o.maxMemory,
	}
	network, ok := networks[o.network]
	if !ok {
		return p, fmt.Errorf("--network %s: want none, loopback or all", o.network)
	}
	p.Network = network
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
	if o.trace && len(o.grates) == 0 {
		return p, errors.New("--trace prints the calls that grates serve, and there is no --grate")
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
	// The runtime's limit is for the grates too, so that it is no lower than usual.
	cfg := lindbridge.Config{ShimPath: o.shim, MaxThreads: max(o.maxThreads, lindbridge.DefaultMaxThreads)}
	if o.trace {
		cfg.Trace = (&tracer{stderr}).print
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
