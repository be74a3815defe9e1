package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/lindbridge/lindbridge"
)

// Exit codes that are the command's own. A program's own code, 128 + n for signal n, and 134 for a trap pass through.
const (
	codeTimeLimit = 124 // as timeout(1) has it
	codeFailure   = 125 // the command itself failed, as timeout(1) and env(1) have it
	codeUsage     = 2   // the command line makes no sense
	codeNotFound  = 127 // as a shell has it for a program that is not there
	codeCannotRun = 126 // as a shell has it for a program that is there but cannot be run
)

// exitError ends the command with a code; err, if there is one, is still to be printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// execute runs the command line and answers the process's exit code.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(stderr, "lindbridge: %v\n", exit.err)
		}
		return exit.code
	default:
		fmt.Fprintf(stderr, "lindbridge: %v\nTry 'lindbridge --help'.\n", err)
		return codeUsage
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "lindbridge",
		Short: "Run WebAssembly programs, and end them whatever they are doing",
		Long: `lindbridge runs WebAssembly programs for WASI preview 1, with threads (wasi-threads),
and ends them at any time, whatever their threads are doing: spinning, waiting for
each other, or blocked in a read.

Start with:

  lindbridge run prog.wasm`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newRun(), newSoak(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	var shim string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is, and which shim it would use",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "lindbridge %s (%s %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			rt, err := lindbridge.New(lindbridge.Config{ShimPath: shim})
			if err != nil {
				return &exitError{codeFailure, err}
			}
			fmt.Fprintf(out, "%s\n  from %s\n", rt.ShimVersion(), rt.ShimPath())
			return rt.Close(cmd.Context())
		},
	}
	addShimFlag(cmd, &shim)
	return cmd
}

func addShimFlag(cmd *cobra.Command, shim *string) {
	cmd.Flags().StringVar(shim, "shim", "", "the shim's `FILE`, instead of searching for it (or set LINDBRIDGE_SHIM)")
}

// version is the module's version as the Go tool recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// fileCode is the exit code for a program that could not be loaded because of err.
func fileCode(err error) int {
	if errors.Is(err, os.ErrNotExist) {
		return codeNotFound
	}
	return codeCannotRun
}
