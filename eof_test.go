package lindbridge_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/lindbridge/lindbridge"
)

// A thread that sleeps for a descriptor is counted out before it wakes, and must not keep the file open meanwhile: when
// the cage can be waited for, the pipe's other end knows.
func TestKill_ClosesWhatASleeperWaitsFor(t *testing.T) {
	rt := newRuntime(t)
	m := load(t, rt, mixWat(0, 0, 1))
	for range 200 {
		stdin, into, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		said, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := spawn(t, rt, lindbridge.Program{Module: m, Stdin: stdin, Stdout: out})
		readBytes(t, said, 1)
		if err := errors.Join(stdin.Close(), out.Close()); err != nil {
			t.Fatal(err)
		}
		c.Kill()
		if _, err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := into.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("a write to a pipe whose reader is gone: %v; want EPIPE", err)
		}
		if n, err := said.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Fatalf("the output goes on: %d, %v; want its end", n, err)
		}
		if err := errors.Join(into.Close(), said.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
