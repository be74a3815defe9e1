// Command quickstart runs a WebAssembly program for at most five seconds and says how it ended:
//
//	go run ./examples/quickstart prog.wasm [ARG]...
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/lindbridge/lindbridge"
)

func main() {
	ctx := context.Background()
	rt := must(lindbridge.New(lindbridge.Config{}))
	defer rt.Close(ctx) // ends whatever still runs

	cage := must(rt.Spawn(ctx, lindbridge.Program{
		Module: must(rt.LoadFile(ctx, os.Args[1])), Args: os.Args[1:],
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Dirs: []lindbridge.Dir{{Host: ".", Guest: "/"}}, TimeLimit: 5 * time.Second,
	}))
	status := must(cage.Wait(ctx)) // cage.Kill() ends it at any time, from any goroutine
	fmt.Printf("exit code %d\n%v\n", status.ExitCode(), cage.Report())
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
