package lindbridge_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
)

// stays are what a worker of a grate may be in so that it does not come back by itself: for as long as nobody that it
// serves is stopped, and for some of them not even then.
var stays = []struct {
	name, body string
	stubborn   bool // goes on when it is interrupted
}{
	{name: "read", body: `(drop (call $block))`},
	{name: "nanosleep", body: `(i64.store (i32.const 700) (i64.const 3600)) (i64.store (i32.const 708) (i64.const 0))
	  (drop (call $on (i32.const 35) (call $self) (call $address (i32.const 700)) (call $self)
	    (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))`},
	{name: "reading over and over", body: `(loop $l (drop (call $block)) (br $l))`, stubborn: true},
	{name: "spin", body: `(call $spin)`, stubborn: true},
	{name: "host calls", body: `(loop $l (drop ` + ask(geteuid) + `) (br $l))`, stubborn: true},
	{
		name: "atomic wait", body: `(loop $l (drop (memory.atomic.wait32 (i32.const 48) (i32.const 0) (i64.const -1))) (br $l))`,
		stubborn: true,
	},
}

// grateEnds are the ways in which a grate ends whose workers are busy.
var grateEnds = []struct {
	name, main string
	kind       exitcoord.CauseKind
}{
	{"kill", `(loop $l (drop (call $block)) (br $l))`, exitcoord.HostKill},
	{"exit_group", `(drop (call $call (i32.const 231) (i64.const 5) (i64.const 0) (i64.const 0)))`, exitcoord.ExitGroup},
	{"trap", `unreachable`, exitcoord.Trap},
	{"return", `return`, exitcoord.MainReturned},
}

// TestGrateEnds_AllCallersGetAnErrorAtOnce: those inside get GRATE_ERR and those that wait for a worker ELINDESRCH,
// whatever the workers do and however the grate ends; and the callers live on.
func TestGrateEnds_AllCallersGetAnErrorAtOnce(t *testing.T) {
	const workers, callers = 4, 9
	app := matrix.Guest{
		Thread: say(2, ask(getpid)) + `(call $arrive (i32.const 0))`,
		Main: fmt.Sprintf(`
			(loop $l
			  (local.set $i (i32.add (local.get $i) (i32.const 1)))
			  (call $spawn (local.get $i))
			  (br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
			(call $await (i32.const 0) (i32.const %[1]d))
			%s %s`, callers, say(3, ask(getpid)), say(4, ask(geteuid))),
	}
	for _, stay := range stays {
		for _, end := range grateEnds {
			t.Run(stay.name+"/"+end.name, func(t *testing.T) {
				s := newStage(t)
				grate := s.grate(matrix.Guest{
					// A thread of its own serves, so that main can do something about it.
					Thread: `(drop (call $serve))`,
					Main: mustServe + `(call $spawn (i32.const 1))` +
						fmt.Sprintf(`(call $await (i32.const 4) (i32.const %d))`, workers) + say(1, "(i32.const 0)") + end.main,
					Handlers: []string{`(call $arrive (i32.const 4))` + stay.body + `(i32.const 7)`},
				})
				grate.MaxWorkers = workers
				stack := stackUp(t, s.rt, s.app(app), grate)
				s.want(note{1, 0})
				if end.kind == exitcoord.HostKill {
					stack.Grates[0].Kill()
				}
				finish(t, stack.Grates[0])
				wantCause(t, stack.Grates[0], end.kind)
				got := s.values(callers, 2)
				want := slices.Concat(slices.Repeat([]int32{grateErr}, workers), slices.Repeat([]int32{lindESRCH}, callers-workers))
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("callers got %d, want %d", got, want)
				}
				s.want(note{3, lindESRCH}, note{4, int32(os.Geteuid())})
				if code := finishStack(t, stack); code != 0 {
					t.Errorf("the program ended with %d\n%v", code, stack.App.Report())
				}
				inside := 0
				for _, th := range stack.Grates[0].Report().Threads {
					if strings.HasPrefix(th.At, "worker in") {
						inside++
					}
				}
				if inside != workers {
					t.Errorf("%d workers in the grate's report, want %d:\n%v", inside, workers, stack.Grates[0].Report())
				}
				wantNothing(t, s.rt)
			})
		}
	}
}

// TestWorkerEnds_CallerGetsAnErrorAndLives: whatever a worker does to its grate while it serves.
func TestWorkerEnds_CallerGetsAnErrorAndLives(t *testing.T) {
	for _, c := range []struct {
		name, body string
		kind       exitcoord.CauseKind // 0: it lives
		code       int
	}{
		{"exit_group", `(drop (call $call (i32.const 231) (i64.const 5) (i64.const 0) (i64.const 0)))`, exitcoord.ExitGroup, 5},
		{"signal to itself", `(drop (call $call (i32.const 62) (i64.const 0) (i64.const 15) (i64.const 0)))`, exitcoord.Signal, 143},
		{"trap", `unreachable`, exitcoord.Trap, 134},
		{"bad address", `(drop (i32.load (i32.const -4)))`, exitcoord.Trap, 134},
		{"stack overflow", `(call $deep)`, exitcoord.Trap, 134},
		{"proc_exit", `(call $proc_exit (i32.const 6))`, exitcoord.ExitGroup, 6},
		{"exit of the thread", `(drop (call $call (i32.const 60) (i64.const 5) (i64.const 0) (i64.const 0)))`, 0, 0},
	} {
		for _, single := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/single=%v", c.name, single), func(t *testing.T) {
				s := newStage(t)
				grate := s.grate(matrix.Guest{
					Imports: `(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))`,
					More:    `(func $deep (call $deep) (call $deep))`,
					Single:  single,
					Main:    mustServe + thenServe,
					// The first call only.
					Handlers: []string{`(local.set $i (i32.load (i32.const 40))) (i32.store (i32.const 40) (i32.const 1))
						(if (i32.eqz (local.get $i)) (then ` + c.body + `)) (i32.const 7)`},
				})
				app := matrix.Guest{Main: say(1, ask(getpid)) + say(2, ask(getpid)) + say(3, ask(geteuid)) +
					`(drop (call $call (i32.const 231) (i64.const 33) (i64.const 0) (i64.const 0)))`}
				stack := stackUp(t, s.rt, s.app(app), grate)
				again := int32(lindESRCH)
				if c.kind == 0 {
					again = 7
				}
				s.want(note{1, grateErr}, note{2, again}, note{3, int32(os.Geteuid())})
				if c.kind == 0 {
					s.want(note{100, 33 << 8})
				}
				if code := finishStack(t, stack); code != 33 {
					t.Errorf("the program ended with %d\n%v", code, stack.App.Report())
				}
				if code := finish(t, stack.Grates[0]); code != c.code {
					t.Errorf("the grate ended with %d, want %d", code, c.code)
				}
				if c.kind != 0 {
					wantCause(t, stack.Grates[0], c.kind)
				}
				wantNothing(t, s.rt)
			})
		}
	}
}

// TestGrateEndsItsCaller: by exit_group, a signal or exit on the cage that it serves. The program ends so, and the grate
// finishes what it is about, hears of it, and lives.
func TestGrateEndsItsCaller(t *testing.T) {
	on := func(call int, a, b string) string {
		return fmt.Sprintf(`(call $on (i32.const %d) (local.get $cage) %s (i64.const 0) %s (i64.const 0)
			(i64.const 0) (i64.const 0))`, call, a, b)
	}
	for _, c := range []struct {
		name, body string
		kind       exitcoord.CauseKind
		wait       int32 // the wait status
	}{
		{"exit_group", on(231, "(i64.const 42)", "(i64.const 0)"), exitcoord.ExitGroup, 42 << 8},
		{"kill", on(62, "(local.get $cage)", "(i64.const 9)"), exitcoord.Signal, 9},
		{"kill of pid 0", on(62, "(i64.const 0)", "(i64.const 15)"), exitcoord.Signal, 15},
		{"exit", on(60, "(i64.const 43)", "(i64.const 0)"), exitcoord.LastThread, 43 << 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			grate := s.grate(matrix.Guest{
				Main: mustServe + thenServe,
				// It can still do all that it could, but on the caller no more.
				Handlers: []string{say(1, c.body) + say(2, ask(geteuid)) + "(i32.const 7)"},
			})
			// What would end it otherwise has another status.
			app := s.app(matrix.Guest{Main: `(drop ` + ask(getpid) + `) (drop (call $block)) unreachable`})
			app.StopGrace = patience // the grate finishes long before
			stack := stackUp(t, s.rt, app, grate)
			s.want(note{1, 0}, note{2, int32(os.Geteuid())}, note{100, c.wait})
			finishStack(t, stack)
			wantCause(t, stack.App, c.kind)
			wantCause(t, stack.Grates[0], exitcoord.MainReturned)
			wantNothing(t, s.rt)
		})
	}
}

// torn reports whether the report says that a grate was ended in the middle of a call.
func torn(c *lindbridge.Cage) bool {
	return slices.ContainsFunc(c.Report().Threads, func(th exitcoord.ThreadState) bool {
		return strings.Contains(th.At, "ended in the middle of it")
	})
}

// TestCallerKilled_GrateFinishesOrIsDiscarded: what blocks is interrupted, and what then finishes is let; what goes on
// past the grace is ended, and the report says so. Either way the grate lives.
func TestCallerKilled_GrateFinishesOrIsDiscarded(t *testing.T) {
	for _, stay := range stays {
		t.Run(stay.name, func(t *testing.T) {
			s := newStage(t)
			grate := s.grate(matrix.Guest{
				Main:     mustServe + thenServe,
				Handlers: []string{say(1, "(i32.const 0)") + stay.body + say(2, "(i32.const 0)") + "(i32.const 7)"},
			})
			app := s.app(matrix.Guest{Main: say(3, ask(getpid))})
			app.StopGrace = patience
			if stay.stubborn {
				app.StopGrace = 20 * time.Millisecond
			}
			stack := stackUp(t, s.rt, app, grate)
			s.want(note{1, 0})
			stack.App.Kill()
			if code := finish(t, stack.App); code != 137 {
				t.Errorf("the program ended with %d", code)
			}
			if got := torn(stack.App); got != stay.stubborn {
				t.Errorf("the report says that the grate was ended in the middle: %v, want %v\n%v", got, stay.stubborn, stack.App.Report())
			}
			if !stay.stubborn {
				s.want(note{2, 0})
			}
			s.want(note{100, 9})
			if code := finishStack(t, stack); code != 137 {
				t.Errorf("the program ended with %d", code)
			}
			wantCause(t, stack.Grates[0], exitcoord.MainReturned)
			if notes := s.rest(); len(notes) != 0 {
				t.Errorf("more was said: %v", notes)
			}
			wantNothing(t, s.rt)
		})
	}
}

// TestCallersKilledWhileTheyWaitForAWorker: a program whose threads wait for the only worker ends at once, whatever that
// one does.
func TestCallersKilledWhileTheyWaitForAWorker(t *testing.T) {
	const callers = 6
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single=%v", single), func(t *testing.T) {
			s := newStage(t)
			grate := s.grate(matrix.Guest{
				Single: single, Main: mustServe + thenServe,
				Handlers: []string{say(1, "(i32.const 0)") + `(drop (call $block)) (i32.const 7)`},
			})
			grate.MaxWorkers = 1
			stack := stackUp(t, s.rt, s.app(matrix.Guest{
				Thread: say(2, ask(getpid)),
				Main: fmt.Sprintf(`(loop $l
				  (local.set $i (i32.add (local.get $i) (i32.const 1)))
				  (call $spawn (local.get $i))
				  (br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
				  (drop (call $block))`, callers),
			}), grate)
			s.want(note{1, 0})
			stack.App.Kill()
			s.want(note{100, 9})
			if code := finishStack(t, stack); code != 137 {
				t.Errorf("the program ended with %d", code)
			}
			wantCause(t, stack.Grates[0], exitcoord.MainReturned)
		})
	}
}

// chainOf is a stack of grates, each of which passes getpid on to the one before, and says what it got: 21 the outermost,
// which does what stays says. What the program gets it says as 30, and then what it gets when it asks again.
func chainOf(s *stage, n int, last string) *lindbridge.Stack {
	s.t.Helper()
	app := s.app(matrix.Guest{Main: say(30, ask(getpid)) + say(31, ask(getpid)) + say(32, ask(geteuid))})
	app.StopGrace = 50 * time.Millisecond
	var grates []lindbridge.Grate
	for k := 1; k <= n; k++ {
		answer := matrix.Forward(getpid)
		if k == 1 {
			answer = say(10, "(i32.const 0)") + last + "(i32.const -4)"
		}
		g := s.grate(matrix.Guest{
			Main:     mustServe + "(drop (call $serve))",
			Handlers: []string{fmt.Sprintf(`(local.set $i (block (result i32) %s)) %s (local.get $i)`, answer, say(20+k, "(local.get $i)"))},
		})
		g.StopGrace = 50 * time.Millisecond
		grates = append(grates, g)
	}
	return stackUp(s.t, s.rt, app, grates...)
}

// TestChainOfFour_AnyOneKilled: with a call in flight through all of them, the cage that is killed is the only one that ends
// by it; those outside finish or are discarded, those inside get GRATE_ERR, and its calls are not served any more.
func TestChainOfFour_AnyOneKilled(t *testing.T) {
	const n = 4
	for _, stay := range []int{0, 3} { // one that can be interrupted, one that cannot
		for killed := 1; killed <= n+1; killed++ {
			name := fmt.Sprintf("%s/grate %d", stays[stay].name, killed)
			if killed > n {
				name = stays[stay].name + "/the program"
			}
			t.Run(name, func(t *testing.T) {
				s := newStage(t)
				stack := chainOf(s, n, stays[stay].body)
				s.want(note{10, 0})
				cages := append(slices.Clone(stack.Grates), stack.App)
				victim := cages[killed-1]
				victim.Kill()
				if !stays[stay].stubborn {
					for k := 1; k < killed; k++ { // these get the answer of the outermost
						s.want(note{int32(20 + k), errnoIntr})
					}
				}
				for k := killed + 1; k <= n; k++ {
					s.want(note{int32(20 + k), grateErr})
				}
				if killed <= n {
					s.want(note{30, grateErr})
					for k := killed + 1; k <= n; k++ {
						s.want(note{int32(20 + k), lindESRCH})
					}
					s.want(note{31, lindESRCH}, note{32, int32(os.Geteuid())})
				}
				code := finishStack(t, stack)
				for i, c := range cages {
					want := exitcoord.MainReturned
					if c == victim {
						want = exitcoord.HostKill
					}
					wantCause(t, cages[i], want)
					if got, want := torn(c), c == victim && killed > 1 && stays[stay].stubborn; got != want {
						t.Errorf("cage %d of the chain says that a grate was ended in the middle: %v, want %v\n%v", i, got, want, c.Report())
					}
				}
				if killed <= n && code != 0 {
					t.Errorf("the program ended with %d", code)
				}
				if notes := s.rest(); len(notes) != 0 {
					t.Errorf("more was said: %v", notes)
				}
				wantNothing(t, s.rt)
			})
		}
	}
}

// TestChainOfFour_AllKilledAtOnce in every order, and by the runtime's end: nothing waits for anything.
func TestChainOfFour_AllKilledAtOnce(t *testing.T) {
	for _, stay := range []int{0, 3, 5} {
		for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}, nil} {
			t.Run(fmt.Sprintf("%s/%v", stays[stay].name, order), func(t *testing.T) {
				s := newStage(t)
				stack := chainOf(s, 4, stays[stay].body)
				s.want(note{10, 0})
				cages := append(slices.Clone(stack.Grates), stack.App)
				for _, i := range order {
					cages[i].Kill()
				}
				if order == nil {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					if err := s.rt.Close(ctx); err != nil {
						t.Fatal(err)
					}
				}
				finishStack(t, stack)
			})
		}
	}
}

// guardedApp makes directories by a system call and by WASI's function, over and over, until both say that the grate is
// gone; it says anything else that is no error as 1.
func guardedApp(threads int) matrix.Guest {
	return matrix.Guest{
		Imports: `(import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))`,
		More:    `(data (i32.const 600) "x\00")`,
		Thread: `(local.set $n (i32.const -1))
			(loop $l
			  (local.set $i (call $on (i32.const 258) (call $self) (i64.const 3) (i64.const 0)
			    (call $address (i32.const 600)) (call $self) (i64.const 493) (i64.const 0)))
			  (if (i32.ge_s (local.get $i) (i32.const 0)) (then ` + say(1, "(local.get $i)") + `))
			  (if (i32.eqz (call $mkdir (i32.const 3) (i32.const 600) (i32.const 1))) (then ` + say(1, "(i32.const 1000)") + `))
			  (if (local.get $n) (then ` + say(2, "(local.get $i)") + `))
			  (local.set $n (i32.const 0))
			  (br_if $l (i32.ne (local.get $i) (i32.const ` + fmt.Sprint(lindESRCH) + `))))
			(call $arrive (i32.const 0))`,
		Main: fmt.Sprintf(`(loop $l
			  (local.set $i (i32.add (local.get $i) (i32.const 1)))
			  (call $spawn (local.get $i))
			  (br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
			(call $await (i32.const 0) (i32.const %[1]d))`, threads),
	}
}

// TestGuardedCalls_NeverReachNativeByADeath: what a grate forbids stays forbidden when it dies, at any moment, although the
// native function would do it (I4 of the exit protocol).
func TestGuardedCalls_NeverReachNativeByADeath(t *testing.T) {
	s := newStage(t)
	m := load(t, s.rt, guardedApp(4).Wat())
	grate := s.grate(matrix.Guest{
		Main:     `(if (call $register (call $child) (i32.const 258) (i32.const 1)) (then unreachable)) (drop (call $serve))`,
		Handlers: []string{"(i32.const -1)"},
	})
	grate.MaxWorkers = 3
	for round := range times(t, "LINDBRIDGE_ROUNDS", 30) {
		dir := t.TempDir()
		app := s.program(m)
		app.Dirs = []lindbridge.Dir{{Host: dir, Guest: "/"}}
		stack := stackUp(t, s.rt, app, grate)
		if got := s.values(4, 2); !slices.Equal(got, []int32{-1, -1, -1, -1}) {
			t.Fatalf("the guard answers %d", got)
		}
		stack.Grates[0].Kill()
		if code := finishStack(t, stack); code != 0 {
			t.Fatalf("the program ended with %d\n%v", code, stack.App.Report())
		}
		if made, err := os.ReadDir(dir); err != nil || len(made) != 0 {
			t.Fatalf("round %d: %v was made natively: %v", round, made, err)
		}
	}
	// And the native function would have: without a grate the same program makes the directory.
	dir := t.TempDir()
	app := s.program(m)
	app.Dirs = []lindbridge.Dir{{Host: dir, Guest: "/"}}
	c := spawn(t, s.rt, app)
	for n := s.next(); n != (note{1, 0}); n = s.next() {
	}
	c.Kill()
	finish(t, c)
	if made, err := os.ReadDir(dir); err != nil || len(made) != 1 {
		t.Errorf("without a grate %v was made: %v", made, err)
	}
}

// TestWASICalls_OfADeadGrate: programs of WASI, too, get errors and no native service.
func TestWASICalls_OfADeadGrate(t *testing.T) {
	s := newStage(t)
	grate := s.grate(matrix.Guest{
		// All calls, which the first one ends; so that nothing of the program is ever native.
		Main: `(if (call $on (i32.const 1001) (call $self) (call $child) (i64.const 0) (i64.const 1) (i64.const 501)
			(i64.const 1) (i64.const 0)) (then unreachable)) (drop (call $serve))`,
		Handlers: []string{"unreachable"},
	})
	for _, name := range []string{"hello", "manyfiles", "iocopy", "sort", "workers"} {
		t.Run(name, func(t *testing.T) {
			out, err := os.Create(t.TempDir() + "/out")
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			dir := t.TempDir()
			stack := stackUp(t, s.rt, lindbridge.Program{
				Module: guest(t, s.rt, name), Args: []string{name, "/", "1"}, Stdin: strings.NewReader("x"), Stdout: out, Stderr: out,
				Dirs: []lindbridge.Dir{{Host: dir, Guest: "/"}},
			}, grate)
			// Its exit_group is not served either, so that it may trap after it, or return from main all the same.
			finishStack(t, stack)
			wantCause(t, stack.Grates[0], exitcoord.Trap)
			if info, err := out.Stat(); err != nil || info.Size() != 0 {
				t.Errorf("it wrote %d bytes natively: %v", info.Size(), err)
			}
			if made, err := os.ReadDir(dir); err != nil || len(made) != 0 {
				t.Errorf("it made %v natively: %v", made, err)
			}
		})
	}
}

// TestSpawnStack_ThatFailsLeavesNothing: a grate that ends, dies or never serves.
func TestSpawnStack_ThatFailsLeavesNothing(t *testing.T) {
	handlers := []string{"(i32.const 7)"}
	for _, c := range []struct {
		name, main string
		kind       exitcoord.CauseKind
	}{
		{"returns", mustServe, exitcoord.MainReturned},
		{"exits", mustServe + `(drop (call $call (i32.const 231) (i64.const 2) (i64.const 0) (i64.const 0)))`, exitcoord.ExitGroup},
		{"traps", mustServe + "unreachable", exitcoord.Trap},
		{"reads", mustServe + say(1, "(i32.const 0)") + "(drop (call $block))", 0},
		{"spins", mustServe + say(1, "(i32.const 0)") + "(call $spin)", 0},
	} {
		for place := range 3 {
			t.Run(fmt.Sprintf("%s/%d", c.name, place+1), func(t *testing.T) {
				s := newStage(t)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var grates []lindbridge.Grate
				for i := range 3 {
					main := mustServe + "(drop (call $serve))"
					if i == place {
						main = c.main
					}
					grates = append(grates, s.grate(matrix.Guest{Main: main, Handlers: handlers}))
				}
				gaveUp := errors.New("gave up")
				if c.kind == 0 {
					go func() {
						if _, err := s.hear(); err == nil {
							cancel(gaveUp)
						}
					}()
				}
				stack, err := s.rt.SpawnStack(ctx, s.app(matrix.Guest{Main: "(call $spin)"}), grates...)
				if err == nil {
					stack.Kill()
					t.Fatal("it was started")
				}
				var ge *lindbridge.GrateError
				switch {
				case c.kind == 0:
					if !errors.Is(err, gaveUp) {
						t.Errorf("%v, want the context's cause", err)
					}
				case !errors.As(err, &ge) || !errors.Is(err, lindbridge.ErrGrateEnded):
					t.Errorf("%v, want a grate's error", err)
				case ge.Index != place || ge.Report.Cause.Kind != c.kind:
					t.Errorf("%v: index %d, want %d; cause %v, want %v", err, ge.Index, place, ge.Report.Cause, c.kind)
				}
				wantNothing(t, s.rt)
				// The ids are free again.
				next := spawn(t, s.rt, lindbridge.Program{Module: load(t, s.rt, `(module (func (export "_start")))`)})
				if next.ID() != 2 {
					t.Errorf("the next cage has id %d, want 2", next.ID())
				}
				finish(t, next)
			})
		}
	}
}

// TestStackWait_HonoursItsContext: and a grate that does not end when its program has is killed after its grace.
func TestStackWait_HonoursItsContext(t *testing.T) {
	s := newStage(t)
	grate := s.grate(matrix.Guest{
		Main: mustServe + thenServe + "(call $spin)", Handlers: []string{"(i32.const 7)"},
	})
	grate.StopGrace = 20 * time.Millisecond
	stack := stackUp(t, s.rt, s.app(matrix.Guest{Main: say(1, ask(getpid)) + "(drop (call $block))"}), grate)
	s.want(note{1, 7})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := stack.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	stack.App.KillSignal(15)
	s.want(note{100, 15})
	ctx, cancel = context.WithTimeout(context.Background(), patience)
	defer cancel()
	if status, err := stack.Wait(ctx); err != nil || status.ExitCode() != 143 {
		t.Errorf("%v, %v", status, err)
	}
	wantCause(t, stack.Grates[0], exitcoord.HostKill)
	stack.Kill() // nothing
	if status, err := stack.Wait(ctx); err != nil || status.ExitCode() != 143 {
		t.Errorf("%v, %v the second time", status, err)
	}
}

// TestHarshCageExit_IsToldToTheGrate with the cage's id and wait status, while its memory is nobody's any more. The exit
// goes on, whatever the grate does: it may die of it, and it may never answer.
func TestHarshCageExit_IsToldToTheGrate(t *testing.T) {
	for _, c := range []struct {
		name, body string
		kind       exitcoord.CauseKind
		failed     bool // the step
	}{
		{"answers", "", exitcoord.MainReturned, false},
		{"traps", "unreachable", exitcoord.Trap, false},
		{"never answers", "(call $spin)", exitcoord.MainReturned, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			grate := s.grate(matrix.Guest{
				Main: `(if (call $register (call $child) (i32.const 1005) (i32.const 1)) (then unreachable)) (drop (call $serve))`,
				Handlers: []string{
					say(1, "(i32.wrap_i64 (i64.sub (local.get $a0) (local.get $cage)))") + say(2, "(i32.wrap_i64 (local.get $a1))") +
						// The dead cage can be neither acted on nor looked into.
						say(3, `(call $on (i32.const 39) (local.get $cage) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
						(i64.const 0) (i64.const 0))`) + c.body + "(i32.const 0)",
				},
			})
			stack := stackUp(t, s.rt, s.app(matrix.Guest{
				Main: `(drop (call $call (i32.const 231) (i64.const 3) (i64.const 0) (i64.const 0)))`,
			}), grate)
			s.want(note{1, 0}, note{2, 3 << 8}, note{3, errnoSrch})
			if code := finishStack(t, stack); code != 3 {
				t.Errorf("the program ended with %d", code)
			}
			wantCause(t, stack.Grates[0], c.kind)
			r := stack.App.Report()
			if r.Steps[0].Name != "notify" || (r.Steps[0].Err != nil) != c.failed {
				t.Errorf("the step %+v, failed: want %v", r.Steps[0], c.failed)
			}
			wantNothing(t, s.rt)
		})
	}
}
