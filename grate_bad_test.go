package lindbridge_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
	"github.com/lindbridge/lindbridge/internal/guestmem"
)

// transparent is a grate that passes getpid on, and answers it where nobody else does.
var transparent = matrix.Guest{Main: mustServe + "(drop (call $serve))", Handlers: []string{matrix.Forward(getpid)}}

// TestSpawnStack_RefusesWhatIsNoGrate with an error that says what is wrong and how to link it, and leaves nothing.
func TestSpawnStack_RefusesWhatIsNoGrate(t *testing.T) {
	rt := newRuntime(t)
	base := transparent.Wat()
	without := func(export string) string {
		changed := strings.Replace(base, `(export "`+export+`")`, "", 1)
		if changed == base {
			t.Fatalf("there is no %s to leave out", export)
		}
		return changed
	}
	with := func(wat, more string) string { return strings.TrimSuffix(strings.TrimSpace(wat), ")") + more + ")" }
	const entry, sp = "pass_fptr_to_wt", "__stack_pointer"
	closed := loadGrate(t, rt, base)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	good := loadGrate(t, rt, base)
	for _, c := range []struct {
		name   string
		wat    string // or
		module *lindbridge.Module
		change func(*lindbridge.Grate)
		kind   error
		words  string
	}{
		{name: "no entry", wat: without(entry), kind: lindbridge.ErrExport, words: "-Wl,--export=pass_fptr_to_wt"},
		{
			name: "an entry with too few parameters", wat: with(without(entry), `(func (export "pass_fptr_to_wt") (param i64) (result i32) i32.const 0)`),
			kind: lindbridge.ErrExport, words: entry,
		},
		{
			name: "an entry with i32 parameters",
			wat:  with(without(entry), `(func (export "pass_fptr_to_wt") (param`+strings.Repeat(" i32", 14)+`) (result i32) i32.const 0)`),
			kind: lindbridge.ErrExport, words: entry,
		},
		{
			name: "an entry without a result", wat: with(without(entry), `(func (export "pass_fptr_to_wt") (param`+strings.Repeat(" i64", 14)+`))`),
			kind: lindbridge.ErrExport, words: entry,
		},
		{
			name: "an entry that is no function", wat: with(without(entry), `(global (export "pass_fptr_to_wt") i32 (i32.const 1))`),
			kind: lindbridge.ErrExport, words: entry,
		},
		{name: "no stack pointer", wat: without(sp), kind: lindbridge.ErrExport, words: "-Wl,--export=__stack_pointer"},
		{
			name: "a stack pointer that is constant", wat: with(without(sp), `(global (export "__stack_pointer") i32 (i32.const 1024))`),
			kind: lindbridge.ErrExport, words: sp,
		},
		{
			name: "a stack pointer of 64 bits", wat: with(without(sp), `(global (export "__stack_pointer") (mut i64) (i64.const 1024))`),
			kind: lindbridge.ErrExport, words: sp,
		},
		{
			name: "half of what TLS needs", wat: with(base, `(global (export "__tls_size") i32 (i32.const 16))`),
			kind: lindbridge.ErrExport, words: "__wasm_init_tls",
		},
		{
			name: "TLS of another type", wat: with(base, `(global (export "__tls_size") i32 (i32.const 16))
				(global (export "__tls_align") i32 (i32.const 16)) (func (export "__wasm_init_tls"))`),
			kind: lindbridge.ErrExport, words: "__wasm_init_tls",
		},
		{
			name: "no memory", wat: `(module (global (export "__stack_pointer") (mut i32) (i32.const 0))
				(func (export "pass_fptr_to_wt") (param` + strings.Repeat(" i64", 14) + `) (result i32) i32.const 0) (func (export "_start")))`,
			kind: lindbridge.ErrExport, words: "memory",
		},
		{name: "a library", wat: without("_start"), kind: lindbridge.ErrExport, words: "_start"},
		{name: "loaded as a program", module: load(t, rt, base), kind: lindbridge.ErrNoGrate},
		{name: "closed", module: closed, kind: lindbridge.ErrNoModule},
		{name: "none", kind: lindbridge.ErrNoModule},
		{name: "another runtime's", module: loadGrate(t, newRuntime(t), base), kind: lindbridge.ErrNoModule},
		{name: "too many workers", module: good, change: func(g *lindbridge.Grate) { g.MaxWorkers = 1025 }, words: "1024"},
		{name: "too much stack", module: good, change: func(g *lindbridge.Grate) { g.WorkerStack = 1<<30 + 1 }, words: "stack"},
	} {
		for place := range 2 {
			t.Run(fmt.Sprintf("%s/%d", c.name, place+1), func(t *testing.T) {
				grates := []lindbridge.Grate{{Program: lindbridge.Program{Module: good}}, {Program: lindbridge.Program{Module: good}}}
				grates[place].Module = c.module
				var err error
				if c.wat != "" { // refused when it is loaded, or when it is to be one
					grates[place].Module, err = rt.LoadGrate(t.Context(), []byte(c.wat))
				}
				if c.change != nil {
					c.change(&grates[place])
				}
				if err == nil {
					var stack *lindbridge.Stack
					if stack, err = rt.SpawnStack(t.Context(), lindbridge.Program{Module: good}, grates...); err == nil {
						stack.Kill()
						finishStack(t, stack)
						t.Fatal("it was started")
					}
				}
				if c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
					t.Errorf("%v; want %v, and %q in it", err, c.kind, c.words)
				}
				wantNothing(t, rt)
				next := spawn(t, rt, lindbridge.Program{Module: load(t, rt, `(module (func (export "_start")))`)})
				if next.ID() != 2 {
					t.Errorf("the next cage has id %d, want 2", next.ID())
				}
				finish(t, next)
			})
		}
	}
	for name, wat := range map[string]string{
		"two memories":     `(module (memory 1) (memory 1) (func (export "_start")))`,
		"a 64-bit memory":  `(module (memory i64 1) (func (export "_start")))`,
		"no module at all": `(module`,
	} {
		if m, err := rt.LoadGrate(t.Context(), []byte(wat)); !errors.Is(err, lindbridge.ErrModule) {
			t.Errorf("%s: %v, want %v", name, err, lindbridge.ErrModule)
			if err == nil {
				m.Close()
			}
		}
	}
}

// TestFunctionIndexes_ThatAreNone: out of the table, null and of another type, found before the grate or by it.
func TestFunctionIndexes_ThatAreNone(t *testing.T) {
	const tooLarge = 1 << 24
	g := matrix.Guest{Handlers: []string{"(i32.const 7)"}}
	g.Main = `(local.set $id (call $child))` + say(1, fmt.Sprintf("(call $register (local.get $id) (i32.const 45) (i32.const %d))", tooLarge)) +
		say(1, "(call $register (local.get $id) (i32.const 45) (i32.const -1))")
	for call, fn := range []int{1, 0, 3, 4, 9999, tooLarge - 1, 2} { // 2 is $spin
		g.Main += fmt.Sprintf("(if (call $register (local.get $id) (i32.const %d) (i32.const %d)) (then unreachable))", 300+call, fn)
	}
	g.Main += "(drop (call $serve))"
	app := matrix.Guest{}
	for call := range 7 {
		app.Main += say(2, ask(300+call))
	}
	app.Main += say(2, ask(300))
	for _, c := range []struct {
		name string
		wat  string
	}{
		{"with a table", g.Wat()},
		{"with a table that is not exported", strings.Replace(g.Wat(), `(export "__indirect_function_table")`, "", 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			stack := stackUp(t, s.rt, s.app(app), lindbridge.Grate{Program: s.program(loadGrate(t, s.rt, c.wat))})
			s.want(note{1, lindAbort}, note{1, lindAbort})
			for _, want := range []int32{7, errnoInval, errnoInval, errnoInval, errnoInval, errnoInval, grateErr, lindESRCH} {
				s.want(note{2, want})
			}
			if code := finishStack(t, stack); code != 0 {
				t.Errorf("the program ended with %d", code)
			}
			wantCause(t, stack.Grates[0], exitcoord.Trap)
		})
	}
}

// mistake is a call that makes no sense, and its answer: to a program alone, and to one above a grate.
type mistake struct {
	expr          string
	alone, served int32
}

const (
	above   = "(i64.add (call $self) (i64.const 1))" // the grate, of a program that has one
	nobody  = "(i64.const 9999)"
	scratch = "(i64.const 777777)" // memory of the runtime
	someAt  = "(call $address (i32.const 2048))"
)

func on(call int, target string, args ...string) string {
	for len(args) < 6 {
		args = append(args, "(i64.const 0)")
	}
	return fmt.Sprintf("(call $on (i32.const %d) %s %s)", call, target, strings.Join(args, " "))
}

func copyData(from, fromCage, to, toCage, bytes string, kind int) string {
	return fmt.Sprintf("(call $copy %s %s %s %s (i64.const %s) (i64.const %d))", from, fromCage, to, toCage, bytes, kind)
}

func both(expr string, want int32) mistake { return mistake{expr, want, want} }

// TestCallsThatMakeNoSense are errors as the Lind ABI has them, each with its own number.
func TestCallsThatMakeNoSense(t *testing.T) {
	const fault = -14
	memory, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	secret := bytes.Repeat([]byte("secret"), len(memory)/6)
	copy(memory, secret)
	host := fmt.Sprintf("(i64.const %d)", guestmem.AddrOf(memory))

	mistakes := []mistake{
		both(`(call $make (i32.const 39) (i64.const 0) (i64.add (call $self) (i64.const 1)) (call $self)`+
			strings.Repeat(" (i64.const 0)", 12)+")", errnoPerm),
		both(on(geteuid, nobody), errnoSrch),
		both(on(geteuid, "(i64.const 0)"), errnoSrch),
		both(on(geteuid, "(i64.const -1)"), errnoSrch),
		{on(geteuid, above), errnoSrch, errnoPerm},
		both(on(231, nobody), 0),
		{on(231, above, "(i64.const 7)"), 0, errnoPerm},
		both(ask(1000), errnoNosys), both(ask(1023), errnoNosys), both(ask(1024), errnoNosys), both(ask(-1), errnoNosys),
		{ask(1004), -10, -10},
		// kill: of another, of a group, of everybody, by no signal
		{`(call $call (i32.const 62) ` + above + ` (i64.const 9) (i64.const 0))`, errnoSrch, errnoPerm},
		both(`(call $call (i32.const 62) (i64.const -9) (i64.const 9) (i64.const 0))`, errnoSrch),
		both(`(call $call (i32.const 62) (i64.const -1) (i64.const 9) (i64.const 0))`, errnoPerm),
		both(`(call $call (i32.const 62) (call $self) (i64.const 65) (i64.const 0))`, errnoInval),
		// register_handler: as a grate that it is none, on and by those that there are not, of calls that there are not
		both("(call $register (call $self) (i32.const 40) (i32.const 1))", lindAbort),
		both("(call $register "+nobody+" (i32.const 40) (i32.const 1))", lindESRCH),
		both("(call $register "+scratch+" (i32.const 40) (i32.const 1))", lindESRCH),
		both("(call $register (i64.const 500) (i32.const 40) (i32.const 1))", lindESRCH),
		both("(call $register (call $self) (i32.const 1024) (i32.const 1))", lindAbort),
		both("(call $register (call $self) (i32.const -1) (i32.const 1))", lindAbort),
		{"(call $register " + above + " (i32.const 40) (i32.const 1))", lindESRCH, errnoPerm},
		both(on(1001, "(call $self)", "(call $self)", "(i64.const 40)", "(i64.const 1)", nobody), lindESRCH),
		{on(1001, "(call $self)", "(call $self)", "(i64.const 40)", "(i64.const 1)", above), lindESRCH, errnoPerm},
		both(on(1001, nobody, "(call $self)", "(i64.const 40)", "(i64.const 1)", "(call $self)"), errnoSrch),
		// and deregister: its own guard, and all
		{on(1001, "(call $self)", "(call $self)", "(i64.const 39)", "(i64.const 1)", "(i64.const 500)"), 0, errnoPerm},
		{on(1001, "(call $self)", above, "(i64.const 39)", "(i64.const 1)", "(i64.const 500)"), lindESRCH, errnoPerm},
		// copy_handler_table_to_cage
		{"(call $copy_table (call $self) (call $self))", lindAbort, 0},
		both("(call $copy_table "+nobody+" (call $self))", lindESRCH),
		both("(call $copy_table (call $self) "+nobody+")", lindESRCH),
		{"(call $copy_table " + above + " (call $self))", lindESRCH, errnoPerm},
		{"(call $copy_table (call $self) " + above + ")", lindESRCH, errnoPerm},
		// copy_data_between_cages
		both(copyData(someAt, "(call $self)", someAt, "(call $self)", "8", 0), lindAbort),
		{copyData("(i64.const 0)", above, someAt, "(call $self)", "8", 0), lindESRCH, lindAbort},
		both(copyData(someAt, "(call $self)", "(i64.const 0)", above, "8", 0), lindAbort),
		both(copyData(host, scratch, someAt, "(call $self)", "8", 0), lindAbort),
		both(copyData(host, "(i64.const 1)", someAt, "(call $self)", "8", 0), lindESRCH),
		both(copyData(host, "(i64.const 0)", someAt, "(call $self)", "8", 0), lindESRCH),
		both(copyData(someAt, "(call $self)", host, scratch, "8", 0), lindAbort),
		both(copyData(someAt, "(call $self)", host, "(call $self)", "8", 0), lindAbort),
	}
	for _, owner := range []string{"(call $self)", scratch, "(i64.const 0)", "(i64.const 1)", above, nobody, "(i64.const -1)"} {
		mistakes = append(mistakes,
			both(on(1, "(call $self)", "(i64.const 1)", "(i64.const 0)", host, owner, "(i64.const 8)"), fault),     // write
			both(on(318, "(call $self)", host, owner, "(i64.const 8)"), fault),                                     // getrandom
			both(on(228, "(call $self)", "(i64.const 1)", "(i64.const 0)", host, owner), fault),                    // clock_gettime
			both(on(258, "(call $self)", "(i64.const 3)", "(i64.const 0)", host, owner, "(i64.const 493)"), fault), // mkdirat
			both(on(20, "(call $self)", "(i64.const 1)", "(i64.const 0)", host, owner, "(i64.const 1)"), fault))    // writev
	}
	// An iovec of its own that leads to the host's memory, or past its own end.
	iovec := func(base string) string {
		return "(i64.store (i32.const 2048) " + base + ") (i64.store (i32.const 2056) (i64.const 8))"
	}
	writev := on(20, "(call $self)", "(i64.const 1)", "(i64.const 0)", someAt, "(call $self)", "(i64.const 1)")
	for _, base := range []string{host, "(call $address (i32.const 131072))", "(i64.sub (call $base) (i64.const 4))", "(i64.const -4)"} {
		mistakes = append(mistakes, both("(block (result i32) "+iovec(base)+writev+")", fault))
	}
	// A path without an end, up to the last byte of the memory.
	mistakes = append(mistakes, both(`(block (result i32) (memory.fill (i32.const 131062) (i32.const 97) (i32.const 10))`+
		on(258, "(call $self)", "(i64.const 3)", "(i64.const 0)", "(call $address (i32.const 131062))", "(call $self)", "(i64.const 493)")+")", fault))

	app := matrix.Guest{}
	for i, m := range mistakes {
		app.Main += say(i, m.expr) + "\n"
	}
	app.Main += say(1000, ask(geteuid)) + "(drop (call $block))"
	for grates := range 3 {
		t.Run(fmt.Sprintf("%d grates", grates), func(t *testing.T) {
			s := newStage(t)
			p := s.app(app)
			dir := t.TempDir()
			p.Dirs = []lindbridge.Dir{{Host: dir, Guest: "/"}}
			stack := stackUp(t, s.rt, p, slices.Repeat([]lindbridge.Grate{s.grate(transparent)}, grates)...)
			for i, m := range mistakes {
				want := m.alone
				if grates > 0 {
					want = m.served
				}
				if n := s.next(); n != (note{int32(i), want}) {
					t.Errorf("%s\nanswers %d (%d), want %d", m.expr, n.value, n.tag, want)
				}
			}
			s.want(note{1000, int32(os.Geteuid())})
			for _, g := range stack.Grates {
				if phase := g.Report().Phase; phase != exitcoord.Running {
					t.Errorf("a grate is %v", phase)
				}
			}
			stack.App.Kill()
			finishStack(t, stack)
			if !bytes.Equal(memory[:len(secret)], secret) {
				t.Error("the host's memory was written to")
			}
			if made, err := os.ReadDir(dir); err != nil || len(made) != 0 {
				t.Errorf("%v was made: %v", made, err)
			}
		})
	}
}

// TestGratesCopies_AreChecked: what a grate copies from and to the program that it serves, by the same rules.
func TestGratesCopies_AreChecked(t *testing.T) {
	memory, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	host := fmt.Sprintf("(i64.const %d)", guestmem.AddrOf(memory))
	const caller, there = "(local.get $cage)", "(local.get $a0)" // a0 is the base of the caller's memory
	past := "(i64.add (local.get $a0) (i64.const 131072))"
	end := "(i64.add (local.get $a0) (i64.const 131068))"
	ok := "(i32.ne (i32.wrap_i64 " + someAt + ") " + copyData(there, caller, someAt, "(call $self)", "8", 0) + ")"
	mistakes := []mistake{
		both(ok, 0),
		both(copyData(past, caller, someAt, "(call $self)", "1", 0), lindAbort),
		both(copyData(end, caller, someAt, "(call $self)", "5", 0), lindAbort),
		both(copyData(there, caller, someAt, "(call $self)", "131073", 0), lindAbort),
		both(copyData(there, caller, someAt, "(call $self)", "4294967296", 0), lindAbort),
		both(copyData(there, caller, someAt, "(call $self)", "4294967297", 0), lindAbort),
		both(copyData(there, caller, someAt, "(call $self)", "-1", 0), lindAbort),
		both(copyData(there, caller, someAt, "(call $self)", "8", 2), lindAbort),
		both(copyData(there, caller, someAt, "(call $self)", "8", -1), lindAbort),
		both(copyData(there, caller, "(i64.const 0)", "(call $self)", "8", 0), lindAbort),
		both(copyData("(i64.sub (local.get $a0) (i64.const 1))", caller, someAt, "(call $self)", "8", 0), lindAbort),
		both(copyData(host, caller, someAt, "(call $self)", "8", 0), lindAbort),
		both(copyData(host, scratch, someAt, "(call $self)", "8", 0), lindAbort),
		both(copyData(someAt, "(call $self)", host, caller, "8", 0), lindAbort),
		both(copyData(someAt, "(call $self)", past, caller, "8", 0), lindAbort),
		both(copyData(someAt, "(call $self)", end, caller, "5", 0), lindAbort),
		both(copyData(someAt, caller, someAt, "(call $self)", "8", 0), lindAbort), // its own address as the caller's
		// The caller's memory is all ones up to its end: a string without one, and one that is just too long.
		both(copyData(end, caller, someAt, "(call $self)", "4", 1), lindAbort),
		both(copyData(end, caller, someAt, "(call $self)", "5", 1), lindAbort),
		both(copyData(end, caller, someAt, "(call $self)", "4096", 1), lindAbort),
		// Native calls on the caller with such addresses.
		both(on(1, caller, "(i64.const 1)", "(i64.const 0)", past, caller, "(i64.const 8)"), -14),
		both(on(1, caller, "(i64.const 1)", "(i64.const 0)", host, caller, "(i64.const 8)"), -14),
		both(on(318, caller, host, caller, "(i64.const 8)"), -14),
		both(on(318, caller, end, caller, "(i64.const 8)"), -14),
	}
	grate := matrix.Guest{Main: mustServe + "(drop (call $serve))"}
	body := ""
	for i, m := range mistakes {
		body += say(i, m.expr)
	}
	grate.Handlers = []string{body + "(i32.const 7)"}
	s := newStage(t)
	stack := stackUp(t, s.rt, s.app(matrix.Guest{
		Main: `(memory.fill (i32.const 131000) (i32.const 1) (i32.const 72))` +
			say(1000, `(call $on (i32.const 39) (call $self) (call $base) (call $self) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))`),
	}), s.grate(grate))
	for i, m := range mistakes {
		if n := s.next(); n != (note{int32(i), m.alone}) {
			t.Errorf("%s\nanswers %d (%d), want %d", m.expr, n.value, n.tag, m.alone)
		}
	}
	s.want(note{1000, 7})
	if code := finishStack(t, stack); code != 0 {
		t.Errorf("the program ended with %d", code)
	}
	if !bytes.Equal(memory, make([]byte, len(memory))) {
		t.Error("the host's memory was written to")
	}
}

// TestSelfRegistration_EndsAtTheDepth: a grate that serves its own calls with a function that makes that call is ELOOP at
// MaxCallDepth, and where it has no more workers; never an overflow, however deep the guest itself is at each level.
func TestSelfRegistration_EndsAtTheDepth(t *testing.T) {
	const (
		atMost    = -1 // the depth: the stack of the thread ends before
		overflows = -2 // its own stack, at whatever level
	)
	for _, c := range []struct {
		depth, workers int
		single         bool
		recursion      int // of the guest at each level
		want           int // levels
	}{
		{depth: 1, want: 1},
		{depth: 4, want: 4},
		{depth: 0, want: 16},
		{depth: 64, workers: 100, want: 64},
		{depth: 16, workers: 3, want: 3},
		{depth: 16, single: true, want: 1},
		{depth: 16, recursion: 500, want: 16},
		{depth: 64, workers: 100, recursion: 2000, want: atMost},
		{depth: 64, workers: 100, recursion: 1 << 30, want: overflows},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			s := newStage(t, func(cfg *lindbridge.Config) { cfg.MaxCallDepth = c.depth })
			grate := s.grate(matrix.Guest{
				Single: c.single,
				More: `(func $deep (param $n i32) (param $a i64) (param $b f64) (result i32)
					(if (result i32) (local.get $n)
					  (then (i32.add (i32.wrap_i64 (i64.mul (local.get $a) (i64.const 0)))
					    (call $deep (i32.sub (local.get $n) (i32.const 1)) (i64.add (local.get $a) (i64.const 1))
					      (f64.add (local.get $b) (f64.const 1)))))
					  (else (call $again))))
					(func $again (result i32)
					  (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))
					  ` + ask(getpid) + `)`,
				Main: mustServe + `(if (call $register (call $self) (i32.const 39) (i32.const 1)) (then unreachable))
					(if (call $register (call $child) (i32.const 41) (i32.const 2)) (then unreachable)) (drop (call $serve))`,
				Handlers: []string{fmt.Sprintf("(call $deep (i32.const %d) (i64.const 1) (f64.const 1))", c.recursion), "(i32.load (i32.const 40))"},
			})
			grate.MaxWorkers = c.workers
			stack := stackUp(t, s.rt, s.app(matrix.Guest{Main: say(1, ask(getpid)) + say(2, ask(41)) + say(3, ask(geteuid))}), grate)
			switch c.want {
			case overflows:
				s.want(note{1, grateErr}, note{2, lindESRCH})
			case atMost:
				s.want(note{1, errnoLoop})
				if n := s.next(); n.tag != 2 || n.value < 8 || int(n.value) > c.depth {
					t.Errorf("%d levels", n.value)
				}
			default:
				s.want(note{1, errnoLoop}, note{2, int32(c.want)})
			}
			s.want(note{3, int32(os.Geteuid())})
			if code := finishStack(t, stack); code != 0 {
				t.Errorf("the program ended with %d", code)
			}
		})
	}
}

// TestDeepStacks: more grates than a call may be deep in are ELOOP, to the one that calls too deep; all live.
func TestDeepStacks(t *testing.T) {
	s := newStage(t, func(cfg *lindbridge.Config) { cfg.MaxCallDepth = 5 })
	grates := slices.Repeat([]lindbridge.Grate{s.grate(transparent)}, 9)
	stack := stackUp(t, s.rt, s.app(matrix.Guest{Main: say(1, ask(getpid)) + say(2, ask(geteuid))}), grates...)
	s.want(note{1, errnoLoop}, note{2, int32(os.Geteuid())})
	if code := finishStack(t, stack); code != 0 {
		t.Errorf("the program ended with %d", code)
	}
	for _, g := range stack.Grates {
		wantCause(t, g, exitcoord.MainReturned)
	}
}

// wasiCall is a function of WASI, with arguments that have all its results between 4096 and 8192 in the guest's memory.
type wasiCall struct {
	name, types string
	args        []int64
	count       int32 // where the function says how many bytes or events there are, or 0
	most        int32 // so many
}

// wasiCalls are the functions that make system calls. At 1024 there are two iovecs of 16 bytes at 4096 and 4112; 1100 is a
// path; at 1200 there are two subscriptions: descriptor 4 readable, and no time passed.
var wasiCalls = []wasiCall{
	{"clock_res_get", "ii", []int64{0, 4096}, 0, 0},
	{"clock_time_get", "iIi", []int64{0, 0, 4096}, 0, 0},
	{"fd_advise", "iIIi", []int64{4, 0, 0, 0}, 0, 0},
	{"fd_allocate", "iII", []int64{4, 0, 1}, 0, 0},
	{"fd_datasync", "i", []int64{4}, 0, 0},
	{"fd_fdstat_get", "ii", []int64{4, 4096}, 0, 0},
	{"fd_fdstat_set_flags", "ii", []int64{4, 0}, 0, 0},
	{"fd_filestat_get", "ii", []int64{4, 4096}, 0, 0},
	{"fd_filestat_set_size", "iI", []int64{4, 0}, 0, 0},
	{"fd_filestat_set_times", "iIIi", []int64{4, 0, 0, 0}, 0, 0},
	{"fd_pread", "iiiIi", []int64{4, 1024, 2, 0, 4200}, 4200, 32},
	{"fd_prestat_get", "ii", []int64{3, 4096}, 0, 0},
	{"fd_prestat_dir_name", "iii", []int64{3, 4096, 1}, 0, 0},
	{"fd_pwrite", "iiiIi", []int64{4, 1024, 2, 0, 4200}, 4200, 32},
	{"fd_read", "iiii", []int64{4, 1024, 2, 4200}, 4200, 32},
	{"fd_readdir", "iiiIi", []int64{3, 4096, 512, 0, 4700}, 4700, 512},
	{"fd_seek", "iIii", []int64{4, 0, 0, 4096}, 0, 0},
	{"fd_sync", "i", []int64{4}, 0, 0},
	{"fd_tell", "ii", []int64{4, 4096}, 0, 0},
	{"fd_write", "iiii", []int64{4, 1024, 2, 4200}, 4200, 32},
	{"path_create_directory", "iii", []int64{3, 1100, 3}, 0, 0},
	{"path_filestat_get", "iiiii", []int64{3, 0, 1100, 3, 4096}, 0, 0},
	{"path_filestat_set_times", "iiiiIIi", []int64{3, 0, 1100, 3, 0, 0, 0}, 0, 0},
	{"path_link", "iiiiiii", []int64{3, 0, 1100, 3, 3, 1100, 2}, 0, 0},
	{"path_open", "iiiiiIIii", []int64{3, 0, 1100, 3, 1, -1, -1, 0, 4096}, 0, 0},
	{"path_readlink", "iiiiii", []int64{3, 1100, 3, 4096, 16, 4200}, 4200, 16},
	{"path_remove_directory", "iii", []int64{3, 1100, 3}, 0, 0},
	{"path_rename", "iiiiii", []int64{3, 1100, 3, 3, 1100, 2}, 0, 0},
	{"path_symlink", "iiiii", []int64{1100, 3, 3, 1100, 2}, 0, 0},
	{"path_unlink_file", "iii", []int64{3, 1100, 3}, 0, 0},
	{"poll_oneoff", "iiii", []int64{1200, 4096, 2, 4200}, 4200, 2},
	{"random_get", "ii", []int64{4096, 16}, 0, 0},
	{"sched_yield", "", nil, 0, 0},
	{"sock_accept", "iii", []int64{4, 0, 4096}, 0, 0},
	{"sock_recv", "iiiiii", []int64{4, 1024, 2, 0, 4200, 4204}, 4200, 32},
	{"sock_send", "iiiii", []int64{4, 1024, 2, 0, 4200}, 4200, 32},
	{"sock_shutdown", "ii", []int64{4, 3}, 0, 0},
	{"fd_renumber", "ii", []int64{4, 4}, 0, 0},
	{"fd_close", "i", []int64{4}, 0, 0},
}

// trusting is a program that makes all of them. Each answer must be an error number of WASI, a count at most what was asked
// for, and nothing else of the memory may change. It says as 1 what is wrong, and 2 at the end.
func trusting() matrix.Guest {
	types := map[byte]string{'i': "i32", 'I': "i64"}
	var g matrix.Guest
	var body strings.Builder
	for i, c := range wasiCalls {
		var params, args strings.Builder
		for k := range c.types {
			fmt.Fprintf(&params, " %s", types[c.types[k]])
			fmt.Fprintf(&args, " (%s.const %d)", types[c.types[k]], c.args[k])
		}
		g.Imports += fmt.Sprintf("(import \"wasi_snapshot_preview1\" \"%s\" (func $%[1]s (param%s) (result i32)))\n", c.name, params.String())
		fmt.Fprintf(&body, `(call $before) (local.set $n (call $%s%s))
			(if (i32.ge_u (local.get $n) (i32.const 77)) (then (call $wrong (i32.const %d))))
			(if (call $changed) (then (call $wrong (i32.const %d))))
			`, c.name, args.String(), i, 1000+i)
		if c.count != 0 {
			fmt.Fprintf(&body, `(if (i32.eqz (local.get $n)) (then
				(if (i32.gt_u (i32.load (i32.const %d)) (i32.const %d)) (then (call $wrong (i32.const %d))))))
				`, c.count, c.most, 2000+i)
		}
	}
	g.Pages = 2
	// What is said goes by fd_write to a descriptor that the grate knows by its number.
	g.Imports += `(import "env" "memory" (memory 2 400 shared))`
	g.More = `
		(data (i32.const 1024) "\00\10\00\00\10\00\00\00\10\10\00\00\10\00\00\00")
		(data (i32.const 1100) "abc")
		(data (i32.const 1208) "\01\00\00\00\00\00\00\00\04") (data (i32.const 1264) "\01")
		(func $before (memory.fill (i32.const 8192) (i32.const 165) (i32.const 40000)))
		(func $changed (result i32) (local $at i32)
		  (local.set $at (i32.const 8192))
		  (loop $l
		    (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 165)) (then (return (i32.const 1))))
		    (local.set $at (i32.add (local.get $at) (i32.const 1)))
		    (br_if $l (i32.lt_u (local.get $at) (i32.const 48192))))
		  (i32.const 0))
		(func $wrong (param $what i32) (call $say (i32.const 1) (local.get $what)))`
	g.Imports = strings.TrimSuffix(g.Imports, `(import "env" "memory" (memory 2 400 shared))`)
	g.Main = body.String() + say(2, "(i32.const 0)")
	return g
}

// garbage is a grate that serves every call of its child but the 8-byte writes to descriptor 1 of $say, and answers what
// makes no sense, also in the structures of the runtime that it is given.
func garbage(answer int32, junk byte) matrix.Guest {
	scribble := ""
	for i := range 6 {
		for _, n := range []int{4096, 512, 144, 64, 32, 16, 8, 4} {
			scribble += fmt.Sprintf(`(if (i32.and (i64.eq (local.get $c%[1]d) %[2]s) (i32.eqz (local.get $n))) (then
				(local.set $n (i32.ne (i32.const %[3]d) (call $copy (call $address (i32.const 4096)) (call $self)
				  (local.get $a%[1]d) (local.get $c%[1]d) (i64.const %[4]d) (i64.const 0))))))
				`, i, scratch, int32(lindAbort), n)
		}
		scribble += "(local.set $n (i32.const 0))\n"
	}
	return matrix.Guest{
		Main: fmt.Sprintf(`(memory.fill (i32.const 4096) (i32.const %d) (i32.const 4096))`, junk) +
			`(local.set $id (call $child))` +
			`(if (call $on (i32.const 1001) (call $self) (local.get $id) (i64.const 0) (i64.const 1) (i64.const 501)
				(i64.const 1) (i64.const 0)) (then unreachable))` +
			`(if (call $register (local.get $id) (i32.const 1) (i32.const 2)) (then unreachable)) (drop (call $serve))`,
		Handlers: []string{
			scribble + fmt.Sprintf("(i32.const %d)", answer),
			matrix.Forward(1),
		},
	}
}

// TestGarbageFromAGrate: whatever a grate answers to the system calls that a WASI function makes, the function answers an
// error number of WASI and counts that can be, and writes nowhere that it should not.
func TestGarbageFromAGrate(t *testing.T) {
	trusting := trusting()
	for _, answer := range []int32{
		0, 1, 5, 7, 33, 511, 513, 4096, 1<<31 - 1, -1, -2, -75, -77, -133, -134, -1000, -4095, -4096, -1 << 31,
		lindESRCH, lindAbort, grateErr,
	} {
		for _, junk := range []byte{0, 1, 0x20, 0x7f, 0xff} {
			t.Run(fmt.Sprintf("%d/%#x", answer, junk), func(t *testing.T) {
				s := newStage(t)
				stack := stackUp(t, s.rt, s.app(trusting), s.grate(garbage(answer, junk)))
				for n := s.next(); n.tag != 2; n = s.next() {
					name := wasiCalls[n.value%1000].name
					t.Errorf("%s: %s", name, []string{"no error number", "memory was written that was not given", "a count too large"}[n.value/1000])
				}
				if code := finishStack(t, stack); code != 0 {
					t.Errorf("the program ended with %d\n%v", code, stack.App.Report())
				}
			})
		}
	}
}

// TestGarbageFromAGrate_ToRealPrograms: they may fail as they like, but nothing else does.
func TestGarbageFromAGrate_ToRealPrograms(t *testing.T) {
	s := newStage(t)
	for _, answer := range []int32{0, 1, 1<<31 - 1, -1, -11, -1 << 31} {
		g := garbage(answer, 0xff)
		g.Main = strings.Replace(g.Main, `(if (call $register (local.get $id) (i32.const 1) (i32.const 2)) (then unreachable))`, "", 1)
		grate := s.grate(g)
		for _, name := range []string{"hello", "sort", "manyfiles", "iocopy", "workers", "threads", "lind-files", "lind-libc", "lind-hostile"} {
			t.Run(fmt.Sprintf("%s/%d", name, answer), func(t *testing.T) {
				stack := stackUp(t, s.rt, lindbridge.Program{
					Module: guest(t, s.rt, name), Args: []string{name, "/", "/b"}, TimeLimit: 300 * time.Millisecond, // some go on for good
					Dirs: []lindbridge.Dir{{Host: t.TempDir(), Guest: "/"}},
				}, grate)
				finishStack(t, stack)
				if kind := stack.App.Report().Cause.Kind; kind == exitcoord.HostFailure {
					t.Errorf("the host failed:\n%v", stack.App.Report())
				}
				wantCause(t, stack.Grates[0], exitcoord.MainReturned)
			})
		}
	}
}

// TestHostileProgram makes calls that make no sense, alone and above each grate and several: each answers, none succeeds,
// and the grates live.
func TestHostileProgram(t *testing.T) {
	rt := newLibrary(t)
	m := rt.program(t, "lind-hostile")
	for _, c := range []struct {
		name   string
		grates []lindbridge.Grate
	}{
		{"alone", nil},
		{"strace", []lindbridge.Grate{example(t, rt, "strace")}},
		{"deny", []lindbridge.Grate{example(t, rt, "deny", "-r", "deny open /none")}},
		{"deny all", []lindbridge.Grate{example(t, rt, "deny", "-r", "deny modify /none", "-r", "allow *")}},
		{"fs-mem", []lindbridge.Grate{example(t, rt, "fs-mem", "/")}},
		{"geteuid", []lindbridge.Grate{example(t, rt, "geteuid", "77")}},
		{"geteuid-single", []lindbridge.Grate{example(t, rt, "geteuid-single", "77")}},
		{"chaos", []lindbridge.Grate{example(t, rt, "chaos")}},
		{"three", []lindbridge.Grate{example(t, rt, "strace", "-c"), example(t, rt, "fs-mem", "/"), example(t, rt, "deny", "-r", "deny open /none")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			dir := t.TempDir()
			stack := stackUp(t, rt.Runtime, lindbridge.Program{
				Module: m, Args: []string{"lind-hostile"}, Stdout: &out, Stderr: &errs, Dirs: []lindbridge.Dir{{Host: dir, Guest: "/"}},
			}, c.grates...)
			if code := finishStack(t, stack); code != 0 || !strings.Contains(out.String(), "calls answered") {
				t.Errorf("exit code %d\n%s%s\n%v", code, out.String(), errs.String(), stack.App.Report())
			}
			for i, g := range stack.Grates {
				if code := finish(t, g); code != 0 {
					t.Errorf("grate %d ended with %d\n%v", i+1, code, g.Report())
				}
			}
		})
	}
}

// TestActiveData_IsWrittenOnce: geteuid-single keeps its answer in data that its start has written over, and goes on
// answering that, by however many workers.
func TestActiveData_IsWrittenOnce(t *testing.T) {
	rt := newLibrary(t)
	m := rt.program(t, "lind-geteuid")
	for _, name := range []string{"geteuid", "geteuid-single"} {
		for _, uid := range []string{"77", "0", "2147483647"} {
			var out bytes.Buffer
			stack := stackUp(t, rt.Runtime, lindbridge.Program{Module: m, Args: []string{"lind-geteuid", "5000"}, Stdout: &out}, example(t, rt, name, uid))
			if code := finishStack(t, stack); code != 0 || !strings.HasPrefix(out.String(), "euid "+uid+",") {
				t.Errorf("%s: exit code %d: %q, want %s", name, code, out.String(), uid)
			}
		}
	}
}
