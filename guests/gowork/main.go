// Command gowork is a guest program for GOOS=wasip1: what Go's own runtime and standard library need from a host.
//
//	gowork goroutines [N]   N goroutines (100 if not said) pass numbers through channels, a mutex and a wait group
//	gowork timers           timers, tickers, a stopped timer and a context's deadline fire in the right order
//	gowork files DIR        makes, writes, reads, renames, lists, walks and removes files below DIR
//	gowork stdin            counts the lines and bytes of standard input
//	gowork args [ARG...]    prints its arguments, and its environment in order
//	gowork exit CODE        os.Exit(CODE)
//	gowork panic            a panic: exits with 2, a stack trace on standard error
//	gowork deadlock         all goroutines asleep: exits with 2, too
//	gowork block            blocks for an hour in a timer, until someone ends it
//	gowork spin             computes without end, until someone ends it
//
// It prints "ok" and a word on what it did. It exits with 1 if something is wrong, and with 64 if it is called wrongly.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

var errUsage = errors.New("usage: gowork goroutines|timers|files|stdin|args|exit|panic|deadlock|block|spin [ARG...]")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gowork:", err)
		if errors.Is(err, errUsage) {
			os.Exit(64)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	mode, args := args[0], args[1:]
	switch mode {
	case "goroutines":
		n := 100
		if len(args) > 0 {
			var err error
			if n, err = strconv.Atoi(args[0]); err != nil || n < 1 {
				return errUsage
			}
		}
		return goroutines(n)
	case "timers":
		return timers()
	case "files":
		if len(args) != 1 {
			return errUsage
		}
		return files(args[0])
	case "stdin":
		return stdin()
	case "args":
		return printArgs(args)
	case "exit":
		if len(args) != 1 {
			return errUsage
		}
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return errUsage
		}
		os.Exit(code)
	case "panic":
		panicDeep(3)
	case "deadlock":
		<-make(chan struct{})
	case "block":
		<-time.After(time.Hour)
	case "spin":
		spin()
	}
	return errUsage
}
