package lindbridge_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
)

// A program waits for files of a grate and of the kernel together; it gets the same answers as from the kernel alone.
func TestPipeGrate_IsWaitedForBesideTheKernel(t *testing.T) {
	l := newLibrary(t)
	if code, out, errs := run(t, l.Runtime, lindbridge.Program{Module: l.program(t, "lind-poll")}); code != 0 {
		t.Fatalf("without a grate: %d, %q, %q", code, out, errs)
	}
	for _, grates := range [][]lindbridge.Grate{
		{example(t, l, "pipe")},
		{example(t, l, "pipe", "-s", "4096")},
		{example(t, l, "pipe"), example(t, l, "strace", "-c")},
		{example(t, l, "fs-mem", "/"), example(t, l, "pipe")},
		{example(t, l, "pipe"), example(t, l, "pipe")}, // the inner one serves
	} {
		p := runAbove(t, l, "lind-poll", nil, grates...)
		if p.code != 0 || p.out != "lind-poll: ok\n" || p.errs != "" {
			t.Errorf("under %v: %d, %q, %q", grates[0].Args, p.code, p.out, p.errs)
		}
		if all := strings.Join(p.grates, ""); !strings.Contains(all, "pipe: pipes 2, bytes 20") {
			t.Errorf("under %v: %q", grates[0].Args, all)
		}
	}
}

const (
	grateFDOpen, grateFDNumber, grateFDReady, grateFDOnClose = 1006, 1007, 1008, 1009

	errnoNoent, errnoBadf, errnoFault, errnoExist = -2, -9, -14, -17
)

// openFile is, in a handler, the call that opens a file with the number in $n, ready for events.
func openFile(events int) string {
	return fmt.Sprintf(`(call $on (i32.const %d) (local.get $cage) (i64.extend_i32_u (local.get $n)) (i64.const 0)
		(i64.const 0) (i64.const 0) (i64.const %d) (i64.const 0))`, grateFDOpen, events)
}

// counted is a handler that answers a new file with each call: 1, 2, ...; they are counted at address 64.
func counted(events int) string {
	return `(local.set $n (i32.add (i32.load (i32.const 64)) (i32.const 1))) (i32.store (i32.const 64) (local.get $n))` +
		openFile(events)
}

// waits is programs that wait for a file of the grate, say the answer as 2 and what it has as 3.
var waits = map[string]string{
	"poll": `(i32.store (i32.const 512) (local.get $i)) (i32.store16 (i32.const 516) (i32.const 1))` +
		say(2, `(call $on (i32.const 7) (call $self) (call $address (i32.const 512)) (call $self) (i64.const 1) (i64.const 0)
			(i64.const -1) (i64.const 0))`) + say(3, `(i32.load16_u (i32.const 518))`),
	"select": `(i32.store (i32.const 512) (i32.shl (i32.const 1) (local.get $i)))` +
		say(2, `(call $on (i32.const 23) (call $self) (i64.const 32) (i64.const 0) (call $address (i32.const 512)) (call $self)
			(i64.const 0) (i64.const 0))`) +
		say(3, `(select (i32.const 24) (i32.const 0) (i32.eq (i32.load (i32.const 512)) (i32.shl (i32.const 1) (local.get $i))))`),
	"epoll": `(local.set $n ` + ask(291) + `) (i32.store (i32.const 512) (i32.const 1))
		(if (call $make (i32.const 233) (i64.const 0) (call $self) (call $self) (i64.extend_i32_u (local.get $n)) (i64.const 0)
			(i64.const 1) (i64.const 0) (i64.extend_i32_u (local.get $i)) (i64.const 0) (call $address (i32.const 512))
			(call $self) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)) (then unreachable))` +
		say(2, `(call $make (i32.const 232) (i64.const 0) (call $self) (call $self) (i64.extend_i32_u (local.get $n))
			(i64.const 0) (call $address (i32.const 512)) (call $self) (i64.const 1) (i64.const 0) (i64.const -1) (i64.const 0)
			(i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))`) + say(3, `(i32.load (i32.const 512))`),
}

// Who waits for a file of a grate that dies hears of it, and whoever waits is ended as anywhere else.
func TestGrateFiles_EndTheWaitsForThem(t *testing.T) {
	for how, wait := range waits {
		for _, who := range []string{"grate", "program", "both"} {
			t.Run(how+"/"+who, func(t *testing.T) {
				s := newStage(t)
				app := s.app(matrix.Guest{Main: `(local.set $i ` + ask(getpid) + `)` + say(1, `(local.get $i)`) + wait})
				grate := s.grate(matrix.Guest{Main: mustServe + thenServe, Handlers: []string{counted(0)}})
				stack := stackUp(t, s.rt, app, grate)
				s.want(note{1, 3})
				if who != "grate" {
					stack.App.Kill()
				}
				if who != "program" {
					stack.Grates[0].Kill()
				}
				if who == "grate" {
					s.want(note{2, 1}, note{3, unix.POLLERR | unix.POLLHUP})
				}
				if code, want := finishStack(t, stack), map[bool]int{true: 0, false: 137}[who == "grate"]; code != want {
					t.Errorf("the program ended with %d, want %d", code, want)
				}
				wantNothing(t, s.rt)
			})
		}
	}
}

// A grate hears once of each file that is closed for good: by close, by dup2, with its cage.
func TestGrateFiles_AreClosedOnce(t *testing.T) {
	s := newStage(t)
	drop := func(call int, a, b string) string {
		return fmt.Sprintf(`(if (i32.lt_s (call $call (i32.const %d) (i64.extend_i32_u %s) (i64.extend_i32_u %s) (i64.const 0))
			(i32.const 0)) (then unreachable))`, call, a, b)
	}
	app := s.app(matrix.Guest{Main: strings.Join([]string{
		`(local.set $i ` + ask(getpid) + `)`,       // file 1 at 3
		drop(32, `(i32.const 3)`, `(i32.const 0)`), // and 4
		drop(3, `(i32.const 3)`, `(i32.const 0)`),
		say(1, ask(getpid)),                        // file 2 at 3
		drop(33, `(i32.const 3)`, `(i32.const 4)`), // ends file 1
		drop(3, `(i32.const 3)`, `(i32.const 0)`),
		drop(3, `(i32.const 4)`, `(i32.const 0)`), // ends file 2
		say(1, ask(getpid)), say(1, ask(getpid)),  // files 3 and 4 end with the cage
	}, "\n")})
	grate := s.grate(matrix.Guest{
		Main: mustServe + fmt.Sprintf(`(if (call $call (i32.const %d) (i64.const 2) (i64.const 0) (i64.const 0))
			(then unreachable))`, grateFDOnClose) + thenServe + `(call $await (i32.const 4) (i32.const 4))`,
		Handlers: []string{counted(0), say(5, `(i32.wrap_i64 (local.get $a0))`) + `(call $arrive (i32.const 4)) (i32.const 0)`},
	})
	stack := stackUp(t, s.rt, app, grate)
	if code := finishStack(t, stack); code != 0 {
		t.Fatalf("code %d\n%v", code, stack.App.Report())
	}
	var closed, opened []int32
	for _, n := range s.rest() {
		switch n.tag {
		case 5:
			closed = append(closed, n.value)
		case 1:
			opened = append(opened, n.value)
		}
	}
	if fmt.Sprint(opened) != "[3 3 4]" || fmt.Sprint(closed) != "[1 2 3 4]" {
		t.Errorf("opened at %v, closed %v", opened, closed)
	}
}

// A grate that never answers that it has heard of a closed file is in nobody's way.
func TestGrateFiles_NobodyWaitsForTheGrateToHear(t *testing.T) {
	s := newStage(t)
	app := s.app(matrix.Guest{Main: fmt.Sprintf(`
		(loop $again
			(local.set $i %s)
			(if (call $call (i32.const 3) (i64.extend_i32_u (local.get $i)) (i64.const 0) (i64.const 0)) (then unreachable))
			(br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100))))`, ask(getpid))})
	grate := s.grate(matrix.Guest{
		Main: mustServe + fmt.Sprintf(`(drop (call $call (i32.const %d) (i64.const 2) (i64.const 0) (i64.const 0)))`,
			grateFDOnClose) + thenServe,
		Handlers: []string{counted(0), say(5, `(i32.wrap_i64 (local.get $a0))`) + `(drop (call $block)) (i32.const 0)`},
	})
	stack := stackUp(t, s.rt, app, grate)
	if code := finish(t, stack.App); code != 0 {
		t.Errorf("code %d", code)
	}
	finishStack(t, stack)
	wantNothing(t, s.rt)
}

// A function of another type ends the grate, and nobody else. One that is none is not called.
func TestGrateFiles_AnOnCloseThatIsNoHandlerHarmsNobodyElse(t *testing.T) {
	for _, fn := range []int{3, 4, 5, 1<<24 - 1} { // $spin, null, beyond the table
		s := newStage(t)
		app := s.app(matrix.Guest{Main: `(drop (call $call (i32.const 3) (i64.extend_i32_u ` + ask(getpid) +
			`) (i64.const 0) (i64.const 0)))` + say(1, ask(getpid)) + `(drop (call $block))`})
		grate := s.grate(matrix.Guest{
			Main: mustServe + fmt.Sprintf(`(drop (call $call (i32.const %d) (i64.const %d) (i64.const 0) (i64.const 0)))`,
				grateFDOnClose, fn) + thenServe,
			Handlers: []string{counted(0), `(i32.const 0)`},
		})
		stack := stackUp(t, s.rt, app, grate)
		if fn == 3 {
			finish(t, stack.Grates[0])
			wantCause(t, stack.Grates[0], exitcoord.Trap)
		} else {
			s.want(note{1, 3})
		}
		stack.App.Kill()
		finishStack(t, stack)
		wantNothing(t, s.rt)
	}
}

func TestGrateFiles_BadArgumentsAreErrors(t *testing.T) {
	s := newStage(t)
	on := func(tag, call int, target, args string) string {
		return say(tag, fmt.Sprintf(`(call $make (i32.const %d) (i64.const 0) (call $self) %s %s)`, call, target, args))
	}
	args := func(a ...string) string { // numbers
		var b strings.Builder
		for i := range 6 {
			v := "(i64.const 0)"
			if i < len(a) {
				v = a[i]
			}
			b.WriteString(" " + v + " (i64.const 0)")
		}
		return b.String()
	}
	n := func(v int64) string { return fmt.Sprintf("(i64.const %d)", v) }
	// A program that is no grate has none of these calls.
	var none string
	for i, call := range []int{grateFDOpen, grateFDNumber, grateFDReady, grateFDOnClose} {
		none += on(10+i, call, "(call $self)", args())
	}
	app := s.app(matrix.Guest{Main: none + say(30, ask(getpid)) + say(30, ask(getpid))})
	const cage = "(local.get $cage)"
	handler := strings.Join([]string{
		`(local.set $n (i32.const 1))`,
		say(20, openFile(0)),
		on(21, grateFDOpen, cage, args(n(2), n(0), n(0), n(1))),
		on(22, grateFDOpen, cage, args(n(2), n(5000))),
		on(22, grateFDOpen, cage, args(n(2), n(-1))),
		on(23, grateFDOpen, n(99), args(n(2))),
		on(24, grateFDNumber, cage, args(n(77), n(0))),
		on(25, grateFDNumber, cage, args(n(0), n(0))),
		on(26, grateFDNumber, cage, args(n(3), n(0))),
		on(26, grateFDNumber, cage, args(n(3), n(1<<40))),
		on(27, grateFDReady, "(call $self)", args(n(5), n(1))),
		on(28, grateFDReady, "(call $self)", args(n(1), n(-1))),
		on(29, grateFDOnClose, "(call $self)", args(n(1<<24))),
		`(i32.const 0)`,
	}, "\n")
	grate := s.grate(matrix.Guest{Main: mustServe + thenServe, Handlers: []string{handler}})
	stack := stackUp(t, s.rt, app, grate)
	s.want(note{10, errnoPerm}, note{11, errnoPerm}, note{12, errnoPerm}, note{13, errnoPerm})
	for _, first := range []int32{3, errnoExist} {
		s.want(note{20, first}, note{21, errnoInval}, note{22, errnoInval}, note{22, errnoInval}, note{23, errnoSrch},
			note{24, errnoBadf}, note{25, errnoNoent}, note{26, errnoFault}, note{26, errnoFault}, note{27, errnoNoent}, note{28, 0},
			note{29, lindAbort}, note{30, 0})
	}
	if code := finishStack(t, stack); code != 0 {
		t.Errorf("code %d\n%v", code, stack.App.Report())
	}
	wantNothing(t, s.rt)
}
