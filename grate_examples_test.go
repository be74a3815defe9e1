package lindbridge_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/guests/matrix"
)

// printed is what several streams have printed.
type printed struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

// Write adds to it.
func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

// library is a runtime with the committed guests, each of which is loaded once.
type library struct {
	*lindbridge.Runtime
	programs, grates map[string]*lindbridge.Module
}

func newLibrary(t *testing.T, change ...func(*lindbridge.Config)) *library {
	return &library{newRuntime(t, change...), map[string]*lindbridge.Module{}, map[string]*lindbridge.Module{}}
}

func (l *library) program(t *testing.T, name string) *lindbridge.Module {
	t.Helper()
	if l.programs[name] == nil {
		l.programs[name] = guest(t, l.Runtime, name)
	}
	return l.programs[name]
}

// example is one of the example grates.
func example(t *testing.T, l *library, name string, args ...string) lindbridge.Grate {
	t.Helper()
	if l.grates[name] == nil {
		b, err := os.ReadFile(filepath.Join("testdata", "guests", "grate-"+name+".wasm"))
		if err != nil {
			t.Fatal(err)
		}
		if l.grates[name], err = l.LoadGrate(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	return lindbridge.Grate{Program: lindbridge.Program{Module: l.grates[name], Args: append([]string{name}, args...)}}
}

// performance is what a program above grates has done, and what they have.
type performance struct {
	code      int
	out, errs string
	made      []string // what is in its directory beside what was there
	report    exitcoord.Report
	grates    []string // what each has printed
	ends      []exitcoord.Report
}

// runAbove runs a program with a directory of its own as "/", in which are the file "there" and the directory "d", to the
// end of all.
func runAbove(t *testing.T, rt *library, name string, args []string, grates ...lindbridge.Grate) performance {
	t.Helper()
	dir := t.TempDir()
	err := errors.Join(os.WriteFile(filepath.Join(dir, "there"), bytes.Repeat([]byte("some bytes\n"), 10000), 0o600),
		os.Mkdir(filepath.Join(dir, "d"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	grates = slices.Clone(grates)
	prints := make([]printed, len(grates))
	for i := range grates {
		grates[i].Stdout, grates[i].Stderr = &prints[i], &prints[i]
	}
	stack := stackUp(t, rt.Runtime, lindbridge.Program{
		Module: rt.program(t, name), Args: append([]string{name}, args...), Stdout: &out, Stderr: &errs,
		Dirs: []lindbridge.Dir{{Host: dir, Guest: "/"}}, Stdin: strings.NewReader("input"),
	}, grates...)
	a := performance{code: finishStack(t, stack), out: out.String(), errs: errs.String(), report: stack.App.Report()}
	for i, g := range stack.Grates {
		a.grates = append(a.grates, prints[i].b.String())
		a.ends = append(a.ends, g.Report())
	}
	a.made = entries(t, dir)
	inD := entries(t, filepath.Join(dir, "d"))
	a.made = append(slices.DeleteFunc(a.made, func(name string) bool { return name == "there" || name == "d" }), inD...)
	return a
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// programs do real work with files, or with threads.
var programs = []struct {
	name string
	args []string
}{
	{"sort", []string{"/", "2", "4"}},
	{"manyfiles", []string{"/d", "100"}},
	{"iocopy", []string{"/there", "/copy", "1000"}},
	{"lind-files", nil},
	{"lind-libc", nil},
	{"workers", []string{"4", "16"}},
	{"hello", []string{"a", "b"}},
	{"exitcode", []string{"42", "exit"}},
}

// TestExamples_ThatLetAllThrough: above grates that have nothing against what it does, alone and in stacks, a program does
// just what it does without them.
func TestExamples_ThatLetAllThrough(t *testing.T) {
	rt := newLibrary(t)
	strace, quiet := example(t, rt, "strace"), example(t, rt, "strace", "-c")
	deny := example(t, rt, "deny", "-r", "deny open /none", "-r", "deny kill")
	memory := example(t, rt, "fs-mem", "/none")
	chaos, slow := example(t, rt, "chaos"), example(t, rt, "chaos", "-d", "3:200")
	uid := example(t, rt, "geteuid", strconv.Itoa(os.Geteuid()))
	single := example(t, rt, "geteuid-single", strconv.Itoa(os.Geteuid()))
	busy := quiet
	busy.MaxWorkers = 1
	for _, p := range programs {
		alone := runAbove(t, rt, p.name, p.args)
		for name, grates := range map[string][]lindbridge.Grate{
			"strace": {strace}, "strace -c": {quiet}, "one worker": {busy}, "deny": {deny}, "fs-mem": {memory}, "chaos": {chaos},
			"slow": {slow}, "geteuid": {uid}, "geteuid-single": {single},
			"strace deny": {strace, deny}, "deny strace": {deny, strace}, "fs-mem deny": {memory, deny}, "strace strace": {quiet, quiet},
			"strace fs-mem deny": {quiet, memory, deny}, "deny fs-mem strace": {deny, memory, strace},
			"chaos geteuid strace": {slow, uid, quiet},
		} {
			t.Run(p.name+"/"+name, func(t *testing.T) {
				a := runAbove(t, rt, p.name, p.args, grates...)
				if a.code != alone.code || a.out != alone.out || a.errs != alone.errs || !slices.Equal(a.made, alone.made) {
					t.Errorf("exit code %d, %q %q, made %q\nalone %d, %q %q, made %q", a.code, a.out, a.errs, a.made,
						alone.code, alone.out, alone.errs, alone.made)
				}
				for i, end := range a.ends {
					if end.Status.ExitCode() != 0 {
						t.Errorf("grate %d:\n%v\n%s", i+1, end, a.grates[i])
					}
				}
			})
		}
	}
}

// countOf is the number of calls that strace's table has for a call; -1 if it has none.
func countOf(table, call string) int {
	m := regexp.MustCompile(`(?m)^ *[0-9.]+ +[0-9.]+ +[0-9.]+ +(\d+)(?: +\d+)? +` + call + `$`).FindStringSubmatch(table)
	if m == nil {
		return -1
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// TestStrace_PrintsWhatTheProgramDoes: its lines and its table agree with the program, and with the runtime's own trace.
func TestStrace_PrintsWhatTheProgramDoes(t *testing.T) {
	var mu sync.Mutex
	traced := map[string]int{}
	paths := map[string]int{}
	rt := newLibrary(t, func(cfg *lindbridge.Config) {
		cfg.Trace = func(tr lindbridge.Trace) {
			mu.Lock()
			defer mu.Unlock()
			traced[tr.Call.String()]++
			paths[tr.Paths[1]]++
			if tr.Depth != 1 || tr.Cage == tr.Grate || tr.Cage == 0 {
				t.Errorf("%+v", tr)
			}
		}
	})
	a := runAbove(t, rt, "iocopy", []string{"/there", "/copy", "1000"}, example(t, rt, "strace", "-s", "9"))
	lines := a.grates[0]
	for _, want := range []string{
		`openat\(3, "there", 0x[0-9a-f]+.*\) = \d+ <0\.\d+>`, `openat\(3, "copy", .*\) = \d+`, `"some byte"\.\.\., 1000.*\) = 1000 <`,
		`100\.00 .* total`,
	} {
		if !regexp.MustCompile(want).MatchString(lines) {
			t.Errorf("%s is not in\n%s", want, lines)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if paths["there"] != 1 || paths["copy"] != 1 {
		t.Errorf("paths of the trace: %v", paths)
	}
	moved := 0
	for call, n := range traced {
		if got := countOf(lines, call); got != n && call != "exit_group" {
			t.Errorf("%s: %d calls in the table, %d in the trace\n%s", call, got, n, lines)
		}
		if strings.HasPrefix(call, "read") || strings.HasPrefix(call, "write") {
			moved += n
		}
	}
	if moved < 220 {
		t.Errorf("%d reads and writes: %v", moved, traced)
	}
	for call, n := range map[string]int{"openat": 2, "total": -2} {
		if got := countOf(lines, call); n >= 0 && got != n || got < 0 {
			t.Errorf("%d %s in the table\n%s", got, call, lines)
		}
	}
}

// TestStrace_PrintsWhatDoesNotComeBack: the call by which a program ends, whose result nobody gets.
func TestStrace_PrintsWhatDoesNotComeBack(t *testing.T) {
	rt := newLibrary(t)
	a := runAbove(t, rt, "exitcode", []string{"42", "_exit"}, example(t, rt, "strace"))
	if a.code != 42 || !strings.Contains(a.grates[0], "exit_group(42) = ?") {
		t.Errorf("exit code %d\n%s", a.code, a.grates[0])
	}
}

// TestDeny_RefusesByItsPolicy, given as rules and as a file, what it says and nothing else.
func TestDeny_RefusesByItsPolicy(t *testing.T) {
	rt := newLibrary(t)
	for _, c := range []struct {
		program string
		args    []string
		rules   []string
		code    int
		words   string // in what it prints, of an error or its output
		made    []string
	}{
		{"sort", []string{"/", "2", "4"}, []string{"deny modify /"}, 1, "Permission denied", nil},
		{"manyfiles", []string{"/d", "10"}, []string{"deny modify /"}, 1, "Permission denied", nil},
		{"manyfiles", []string{"/d", "10"}, []string{"deny rename /"}, 1, "rename", nil},
		{"iocopy", []string{"/there", "/copy"}, []string{"deny modify /"}, 1, "/copy: Permission denied", nil},
		{"iocopy", []string{"/there", "/copy"}, []string{"deny open /there"}, 1, "/there: Permission denied", nil},
		{"iocopy", []string{"/there", "/d/copy"}, []string{"allow modify /d", "deny modify /"}, 0, "110000 bytes", []string{"copy"}},
		{"iocopy", []string{"/d/../there", "/copy"}, []string{"deny open /there"}, 1, "Permission denied", nil},
		{"lind-files", nil, []string{"deny modify /"}, 1, "mkdirat answered -13", nil},
		{"lind-libc", nil, []string{"deny modify /", "deny openat"}, 0, "euid", nil},
		{"lind-libc", nil, []string{"deny geteuid"}, 1, "euid -1", nil},
		{"workers", []string{"4", "16"}, []string{"deny clone"}, 71, "", nil},
		{"hello", nil, []string{"default deny", "allow read", "allow readv", "allow fstat", "allow fcntl"}, 1, "", nil},
	} {
		for _, file := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/file=%v", c.program, strings.Join(c.rules, ","), file), func(t *testing.T) {
				var grate lindbridge.Grate
				if file {
					dir := t.TempDir()
					text := "# a policy\n\n" + strings.Join(c.rules, "\n") + "\n"
					if err := os.WriteFile(filepath.Join(dir, "policy.txt"), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
					grate = example(t, rt, "deny", "policy.txt")
					grate.Dirs = []lindbridge.Dir{{Host: dir, Guest: "/"}}
				} else {
					var args []string
					for _, r := range c.rules {
						args = append(args, "-r", r)
					}
					grate = example(t, rt, "deny", args...)
				}
				a := runAbove(t, rt, c.program, c.args, grate)
				if a.code != c.code || !strings.Contains(a.out+a.errs, c.words) {
					t.Errorf("exit code %d, want %d; %q, want %q in it\n%v", a.code, c.code, a.out+a.errs, c.words, a.report)
				}
				if c.program != "manyfiles" && !slices.Equal(a.made, append([]string{}, c.made...)) {
					t.Errorf("made %q, want %q", a.made, c.made)
				}
				if a.ends[0].Status.ExitCode() != 0 {
					t.Errorf("%v\n%s", a.ends[0], a.grates[0])
				}
			})
		}
	}
}

// TestExamples_RefuseArgumentsThatMakeNoSense before the program runs, by exit code 2.
func TestExamples_RefuseArgumentsThatMakeNoSense(t *testing.T) {
	rt := newLibrary(t)
	m := load(t, rt.Runtime, matrix.Guest{Main: "(call $spin)"}.Wat())
	for _, args := range [][]string{
		{"strace", "-x"},
		{"strace", "-e", "nosuchcall"},
		{"strace", "-s", "many"},
		{"deny", "no-such-policy"},
		{"deny", "-r", "forbid open"},
		{"deny", "-r", "deny open there"},
		{"deny", "-r"},
		{"fs-mem"},
		{"fs-mem", "relative"},
		{"fs-mem", "-s", "0", "/"},
		{"fs-mem", "-s", "961", "/"},
		{"geteuid", "-1"},
		{"geteuid", "2147483648"},
		{"geteuid", "1", "2"},
		{"chaos", "-e"},
		{"chaos", "-e", "101"},
		{"chaos", "-e", "1:ENOSUCH"},
		{"chaos", "-d", "1:10000001"},
		{"chaos", "-k", "-1"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			grate := example(t, rt, args[0], args[1:]...)
			var said printed
			grate.Stderr = &said
			_, err := rt.SpawnStack(t.Context(), lindbridge.Program{Module: m}, example(t, rt, "geteuid"), grate)
			var ge *lindbridge.GrateError
			if !errors.As(err, &ge) || ge.Index != 1 || ge.Report.Status.ExitCode() != 2 || said.b.Len() == 0 {
				t.Errorf("%v; it said %q", err, said.b.String())
			}
			wantNothing(t, rt.Runtime)
		})
	}
}

// TestFSMem_KeepsFilesInMemory: programs work in it as on a disk, and nothing of that is in the directory; beside its mount
// they reach the directory.
func TestFSMem_KeepsFilesInMemory(t *testing.T) {
	rt := newLibrary(t)
	for _, c := range []struct {
		mount, program string
		args           []string
		code           int
		words          string
		made           []string
	}{
		{"/", "sort", []string{"/", "2", "4"}, 0, "merged", nil},
		{"/", "manyfiles", []string{"/", "100"}, 0, "removed all", nil},
		{"/", "lind-files", nil, 0, "answers as expected", nil},
		{"/", "lind-libc", nil, 0, "euid", nil},
		{"/", "iocopy", []string{"/there", "/copy"}, 1, "/there: No such file", nil},
		{"/mem", "iocopy", []string{"/there", "/mem/copy"}, 0, "110000 bytes", nil},
		{"/mem", "iocopy", []string{"/there", "/copy"}, 0, "110000 bytes", []string{"copy"}},
		{"/mem", "manyfiles", []string{"/mem", "50"}, 0, "removed all", nil},
	} {
		for _, more := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s/%s %v/%d more", c.mount, c.program, c.args, more), func(t *testing.T) {
				grates := []lindbridge.Grate{example(t, rt, "fs-mem", c.mount)}
				if more > 0 { // one above it sees none of the calls on files that it serves, one below it all
					grates = append([]lindbridge.Grate{example(t, rt, "strace", "-c")}, grates...)
				}
				if more > 1 {
					grates = append(grates, example(t, rt, "strace", "-c"))
				}
				a := runAbove(t, rt, c.program, c.args, grates...)
				if a.code != c.code || !strings.Contains(a.out+a.errs, c.words) || !slices.Equal(a.made, append([]string{}, c.made...)) {
					t.Errorf("exit code %d, want %d; %q, want %q in it; made %q\n%v", a.code, c.code, a.out+a.errs, c.words, a.made, a.report)
				}
				if n := 0; more > 0 && c.mount == "/" {
					for _, call := range []string{"openat", "mkdirat", "unlinkat", "renameat", "getdents64"} {
						n = max(n, countOf(a.grates[0], call))
					}
					if n > 0 {
						t.Errorf("calls on files came through:\n%s", a.grates[0])
					}
				}
				if more > 1 && c.program == "manyfiles" && countOf(a.grates[2], "openat") < 50 {
					t.Errorf("too few calls on files were seen:\n%s", a.grates[2])
				}
			})
		}
	}
}

// TestChaos_MakesTroubleAsItWasTold, the same with the same seed, and says how much.
func TestChaos_MakesTroubleAsItWasTold(t *testing.T) {
	rt := newLibrary(t)
	for _, c := range []struct {
		args    []string
		code    int
		words   string
		summary string
	}{
		{[]string{"-c", "openat", "-e", "100:EACCES"}, 1, "/there: Permission denied", "failed 1, delayed 0, killed 0"},
		{[]string{"-c", "openat", "-e", "100"}, 1, "/there: I/O error", "failed 1, delayed 0, killed 0"},
		{[]string{"-n", "1", "-c", "openat", "-e", "100:ENOSPC"}, 1, "/copy: No space left", "failed 1, delayed 0, killed 0"},
		{[]string{"-c", "openat", "-k", "100"}, 137, "", "killed 1"},
		{[]string{"-c", "openat", "-d", "100:100"}, 0, "110000 bytes", "delayed 2"},
		{[]string{"-c", "openat", "-K", "100"}, 1, "/there:", ""},
		{[]string{"-c", "openat", "-K", "100:trap"}, 1, "/there:", ""},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			for _, outer := range []bool{false, true} {
				grates := []lindbridge.Grate{example(t, rt, "chaos", c.args...)}
				if outer { // the trouble is made behind another grate
					grates = append(grates, example(t, rt, "strace", "-c"))
				}
				a := runAbove(t, rt, "iocopy", []string{"/there", "/copy"}, grates...)
				if a.code != c.code || !strings.Contains(a.out+a.errs, c.words) || !strings.Contains(a.grates[0], c.summary) {
					t.Errorf("exit code %d, want %d; %q, want %q in it; it said %q, want %q\n%v", a.code, c.code, a.out+a.errs, c.words,
						a.grates[0], c.summary, a.report)
				}
				want := exitcoord.ExitGroup
				if slices.Contains(c.args, "100:trap") {
					want = exitcoord.Trap
				}
				if kind := a.ends[0].Cause.Kind; kind != want && kind != exitcoord.MainReturned {
					t.Errorf("the grate:\n%v", a.ends[0])
				}
				if outer && a.ends[1].Status.ExitCode() != 0 {
					t.Errorf("the grate below it:\n%v\n%s", a.ends[1], a.grates[1])
				}
			}
		})
	}
	some := map[string]bool{}
	for seed := range 12 {
		args := []string{"-s", strconv.Itoa(seed), "-e", "0.5:EIO,ENOSPC"}
		first := runAbove(t, rt, "sort", []string{"/", "2", "4"}, example(t, rt, "chaos", args...))
		again := runAbove(t, rt, "sort", []string{"/", "2", "4"}, example(t, rt, "chaos", args...))
		if first.code != again.code || first.errs != again.errs || first.grates[0] != again.grates[0] {
			t.Errorf("seed %d: %d %q %q, again %d %q %q", seed, first.code, first.errs, first.grates[0], again.code, again.errs, again.grates[0])
		}
		some[first.errs] = true
	}
	if len(some) < 2 {
		t.Errorf("every seed is the same: %v", some)
	}
}

// TestThreads_AboveAGrateWithFewerWorkers: eight threads make 4,000 calls through three workers, and through one; none is
// lost, and each has its answer.
func TestThreads_AboveAGrateWithFewerWorkers(t *testing.T) {
	const threads, calls = 8, 500
	app := matrix.Guest{
		Thread: fmt.Sprintf(`(loop $l
			(if (i32.ne %s (i32.const 77)) (then unreachable))
			(local.set $i (i32.add (local.get $i) (i32.const 1)))
			(br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
			(call $arrive (i32.const 0))`, ask(geteuid), calls),
		Main: fmt.Sprintf(`(loop $l
			(local.set $i (i32.add (local.get $i) (i32.const 1)))
			(call $spawn (local.get $i))
			(br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
			(call $await (i32.const 0) (i32.const %[1]d))`, threads),
	}
	for _, workers := range []int{1, 3, 0} {
		for _, name := range []string{"geteuid", "geteuid-single"} {
			t.Run(fmt.Sprintf("%s/%d workers", name, workers), func(t *testing.T) {
				var mu sync.Mutex
				depths := map[uint32]int{}
				rt := newLibrary(t, func(cfg *lindbridge.Config) {
					cfg.Trace = func(tr lindbridge.Trace) {
						if tr.Call == abi.CallGeteuid && tr.Result == 77 {
							mu.Lock()
							depths[tr.Depth]++
							mu.Unlock()
						}
					}
				})
				answers, counts := example(t, rt, name, "77"), example(t, rt, "strace", "-c")
				answers.MaxWorkers, counts.MaxWorkers = workers, workers
				var table printed
				counts.Stderr = &table
				stack := stackUp(t, rt.Runtime, lindbridge.Program{Module: load(t, rt.Runtime, app.Wat())}, answers, counts)
				if code := finishStack(t, stack); code != 0 {
					t.Errorf("exit code %d\n%v", code, stack.App.Report())
				}
				if n := countOf(table.b.String(), "geteuid"); n != threads*calls {
					t.Errorf("strace has counted %d calls:\n%s", n, table.b.String())
				}
				mu.Lock()
				defer mu.Unlock()
				if depths[1] != threads*calls || depths[2] != threads*calls {
					t.Errorf("calls by their depth: %v", depths)
				}
			})
		}
	}
}

// TestWorkers_AboveGrates: threads that work together on memory and end by themselves, at all numbers of threads.
func TestWorkers_AboveGrates(t *testing.T) {
	rt := newLibrary(t)
	want := runAbove(t, rt, "workers", []string{"1", "16"}).out
	for threads := 1; threads <= 8; threads++ {
		grates := []lindbridge.Grate{example(t, rt, "deny", "-r", "deny kill"), example(t, rt, "strace", "-c")}
		grates[0].MaxWorkers, grates[1].MaxWorkers = 1+threads%3, 1+threads%2
		a := runAbove(t, rt, "workers", []string{strconv.Itoa(threads), "16"}, grates...)
		if a.code != 0 || a.out != want || countOf(a.grates[1], "clone") != threads && threads > 1 {
			t.Errorf("%d threads: exit code %d: %q, want %q\n%s", threads, a.code, a.out, want, a.grates[1])
		}
	}
}
