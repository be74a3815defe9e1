package lindbridge_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/lindbridge/lindbridge"
)

// A program asks for its user, and a grate answers. SpawnStack returns when the program runs, and Stack.Wait when it has
// ended, and its grates after it.
func ExampleRuntime_SpawnStack() {
	ctx := context.Background()
	rt, err := lindbridge.New(lindbridge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer rt.Close(ctx)

	app, err := rt.LoadFile(ctx, "testdata/guests/lind-geteuid.wasm")
	if err != nil {
		log.Fatal(err)
	}
	bytes, err := os.ReadFile("testdata/guests/grate-geteuid.wasm")
	if err != nil {
		log.Fatal(err)
	}
	geteuid, err := rt.LoadGrate(ctx, bytes)
	if err != nil {
		log.Fatal(err)
	}

	stack, err := rt.SpawnStack(ctx,
		lindbridge.Program{Module: app, Stdout: os.Stdout},
		lindbridge.Grate{Program: lindbridge.Program{Module: geteuid, Args: []string{"geteuid", "77"}, Stderr: os.Stderr}},
	)
	if err != nil {
		log.Fatal(err) // a *GrateError if the grate ended before it served
	}
	status, err := stack.Wait(ctx)
	fmt.Println(status, err)
	// Output:
	// euid 77, ns 0.0
	// exited with code 0 <nil>
}
