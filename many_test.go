package lindbridge_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/internal/leakcheck"
)

// crowdWat is a program with eight threads: some spin, some wait, some sleep, some read. Each writes a byte to standard
// output when it begins.
const crowdWat = `(module
  (import "env" "memory" (memory 1 1 shared))
  (export "memory" (memory 0))
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "\10\00\00\00\01\00\00\00")  ;; iovec: one byte at 16
  (data (i32.const 16) "R")
  (data (i32.const 32) "\20\01\00\00\08\00\00\00") ;; iovec: eight bytes at 288
  ;; a subscription: clock, monotonic, an hour
  (data (i32.const 64) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\a0\b8\30\46\03\00\00")
  (func $body (param $kind i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))
    (loop $again
      (if (i32.eqz (local.get $kind))
        (then (loop $l br $l)))
      (if (i32.eq (local.get $kind) (i32.const 1))
        (then (drop (memory.atomic.wait32 (i32.const 128) (i32.const 0) (i64.const -1)))))
      (if (i32.eq (local.get $kind) (i32.const 2))
        (then (drop (call $poll (i32.const 64) (i32.const 512) (i32.const 1) (i32.const 28)))))
      (if (i32.eq (local.get $kind) (i32.const 3))
        (then (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 28)))))
      br $again))
  (func (export "wasi_thread_start") (param i32 i32) (call $body (local.get 1)))
  (func (export "_start") (local $i i32)
    (loop $l
      (if (i32.lt_s (call $spawn (i32.add (i32.const 1) (i32.rem_u (local.get $i) (i32.const 3)))) (i32.const 0))
        (then unreachable))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.const 7))))
    (call $body (i32.const %d))))`

// crowd is crowdWat whose first thread spins if busy, and waits otherwise.
func crowd(busy bool) string {
	if busy {
		return fmt.Sprintf(crowdWat, 0)
	}
	return fmt.Sprintf(crowdWat, 1)
}

// TestThousandCages has 1,000 cages of eight threads each at once, kills them in random order, and leaves nothing.
func TestThousandCages(t *testing.T) {
	n := times(t, "LINDBRIDGE_CAGES", 1000)
	before, err := leakcheck.Take()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("kill", func(t *testing.T) {
		rt := newRuntime(t)
		m := load(t, rt, crowd(false))
		stdin := silence(t)
		out, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cages := make([]*lindbridge.Cage, n)
		for i := range cages {
			cages[i] = spawn(t, rt, lindbridge.Program{Module: m, Stdin: stdin, Stdout: in})
			readBytes(t, out, 8) // all its threads are there
		}
		in.Close()
		stats, err := rt.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if stats.ThreadsRunning != uint64(8*n) || stats.Cages != n {
			t.Errorf("%+v, want %d threads and %d cages", stats, 8*n, n)
		}
		rand.Shuffle(n, func(i, j int) { cages[i], cages[j] = cages[j], cages[i] })
		var killers sync.WaitGroup
		for k := range 4 {
			killers.Go(func() {
				for i := k; i < n; i += 4 {
					cages[i].Kill()
				}
			})
		}
		killers.Wait()
		for _, c := range cages {
			finish(t, c)
			r := c.Report()
			if r.Cause.Kind != exitcoord.HostKill || len(r.Threads) != 8 {
				t.Fatalf("cage %d: %v", c.ID(), r)
			}
		}
	})
	more, err := before.Settled(peakSlack)
	if err != nil || more != "" {
		t.Errorf("left behind: %s %v", more, err)
	}
}

func readBytes(t testing.TB, f *os.File, n int) {
	t.Helper()
	b := make([]byte, n)
	for n > 0 {
		k, err := f.Read(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		n -= k
	}
}

// TestRuns_HoldNothingMore: runtimes that come, run programs that end in many ways, and go, hold no more after many
// rounds than after the first few.
func TestRuns_HoldNothingMore(t *testing.T) {
	round := func() {
		t.Run("round", func(t *testing.T) {
			rt := newRuntime(t)
			stdin := silence(t)
			busy, idle := load(t, rt, crowd(true)), load(t, rt, crowd(false))
			trap, exit := guest(t, rt, "trap"), guest(t, rt, "exitcode")
			var cages []*lindbridge.Cage
			for range 5 {
				cages = append(cages,
					spawn(t, rt, lindbridge.Program{Module: busy, Stdin: stdin}),
					spawn(t, rt, lindbridge.Program{Module: idle, Stdin: stdin, Stdout: new(bytes.Buffer)}),
					spawn(t, rt, lindbridge.Program{Module: trap, Args: []string{"trap"}}),
					spawn(t, rt, lindbridge.Program{
						Module: exit, Args: []string{"exitcode", "3"}, Dirs: []lindbridge.Dir{{Host: ".", Guest: "/"}},
					}))
			}
			for _, c := range cages {
				c.Kill()
			}
			for i, c := range cages {
				if i%2 == 0 { // the others are left to the runtime's Close
					finish(t, c)
				}
			}
		})
	}
	for range 3 {
		round()
	}
	before, err := leakcheck.Take()
	if err != nil {
		t.Fatal(err)
	}
	for range times(t, "LINDBRIDGE_ROUNDS", 30) {
		round()
	}
	if more, err := before.Settled(leakcheck.Slack{Threads: 1, Mappings: 24, Resident: 24 << 20}); err != nil || more != "" {
		t.Errorf("left behind: %s %v", more, err)
	}
}

// TestLeakCheck_SeesTheThreadsOfGuests: the checks of this package would see a thread of a guest that is left.
func TestLeakCheck_SeesTheThreadsOfGuests(t *testing.T) {
	rt := newRuntime(t)
	stdin := silence(t)
	m := load(t, rt, crowd(false))
	before, err := leakcheck.Take()
	if err != nil {
		t.Fatal(err)
	}
	c := spawn(t, rt, lindbridge.Program{Module: m, Stdin: stdin})
	defer c.Kill()
	for end := time.Now().Add(patience); ; {
		now, err := leakcheck.Take()
		if err != nil {
			t.Fatal(err)
		}
		// Two of its eight may be in Go just now.
		if now.Threads >= before.Threads+6 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, before %+v", now, before)
		}
		<-time.After(time.Millisecond)
	}
}
