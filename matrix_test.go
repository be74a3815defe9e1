package lindbridge_test

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
)

// TestExitMatrix ends programs in every way, while their other threads do everything that a thread can be doing. Each must
// end with its own cause and status, whatever the timing; LINDBRIDGE_MATRIX_TIMES says how often (see make matrix).
func TestExitMatrix(t *testing.T) {
	runMatrix(t, matrix.Cases(), times(t, "LINDBRIDGE_MATRIX_TIMES", 3))
}

// TestProposalShapes runs programs of the shapes of the wasi-threads proposal's own tests, with their memory imported as
// foo.bar, many times in one process.
func TestProposalShapes(t *testing.T) {
	runMatrix(t, matrix.Proposal(), times(t, "LINDBRIDGE_MATRIX_TIMES", 20))
}

func runMatrix(t *testing.T, cases []matrix.Case, n int) {
	rt := newRuntime(t)
	// Nobody writes to it, and it stays open.
	stdin := silence(t)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			m := load(t, rt, c.Wat)
			defer m.Close()
			for range n {
				runCase(t, rt, m, c, stdin)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func runCase(t *testing.T, rt *lindbridge.Runtime, m *lindbridge.Module, c matrix.Case, stdin *os.File) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := lindbridge.Program{Module: m, Stdin: stdin, Stdout: in}
	if c.How == matrix.TimeLimit {
		p.TimeLimit = 30 * time.Millisecond
	}
	cage := spawn(t, rt, p)
	if err := in.Close(); err != nil { // the cage has its own
		t.Fatal(err)
	}
	if c.How == matrix.HostKill {
		var b [1]byte
		if _, err := io.ReadFull(out, b[:]); err != nil || b[0] != 'R' {
			t.Errorf("the program did not say that it is ready: %q, %v", b, err)
		}
		cage.Kill()
	}
	finish(t, cage)
	r := cage.Report()
	if got := outcome(r); !c.Accepts(got) {
		t.Errorf("ended with %+v, want one of %+v\n%v", got, c.Want, r)
	}
	checkReport(t, r)
}

// outcome is the end of a cage in the words of the matrix.
func outcome(r exitcoord.Report) matrix.Outcome {
	causes := map[exitcoord.CauseKind]matrix.Cause{
		exitcoord.ExitGroup:    matrix.CauseExitGroup,
		exitcoord.MainReturned: matrix.CauseMainReturned,
		exitcoord.Trap:         matrix.CauseTrap,
		exitcoord.HostKill:     matrix.CauseHostKill,
		exitcoord.TimeLimit:    matrix.CauseTimeLimit,
	}
	o := matrix.Outcome{Cause: causes[r.Cause.Kind], Code: r.Status.Code, Signal: r.Status.Signal, By: matrix.ByOther}
	switch r.Cause.TID {
	case 0:
		o.By = matrix.ByHost
	case 1:
		o.By = matrix.ByMain
	}
	return o
}

// checkReport holds a report of an exit that is over against the protocol: every thread left, every step ran once and in
// order, and none before the threads had left.
func checkReport(t *testing.T, r exitcoord.Report) {
	t.Helper()
	if r.Phase != exitcoord.Reaped {
		t.Errorf("phase %v after Wait", r.Phase)
	}
	if r.Stuck != nil {
		t.Errorf("it was stuck: %v", r)
	}
	for _, th := range r.Threads {
		if th.Left == 0 || th.Outcome == "" {
			t.Errorf("thread %d never left: %+v", th.TID, th)
		}
	}
	want := []string{"notify", "handlers", "descriptors", "timers", "children", "memory", "zombie"}
	if len(r.Steps) != len(want) {
		t.Fatalf("%d steps, want %d: %v", len(r.Steps), len(want), r)
	}
	for i, s := range r.Steps {
		if s.Name != want[i] || s.Outcome != exitcoord.StepOK {
			t.Errorf("step %d is %v, want %s to be ok", i, s, want[i])
		}
	}
}
