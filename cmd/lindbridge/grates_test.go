package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/abi"
)

// above is a run of program with its arguments under grates, each a word of the command line, the first the outermost.
func above(program string, grates ...string) []string {
	args := []string{"run", "--no-cache"}
	for _, g := range grates {
		args = append(args, "--grate", guests+"grate-"+g)
	}
	return append(args, strings.Fields(guests+program)...)
}

// with puts flags before the program, which is the last but arguments of args.
func with(args []string, arguments int, flags ...string) []string {
	return slices.Insert(args, len(args)-1-arguments, flags...)
}

// want fails the test unless the run's code and what it wrote are as they should be.
func want(t *testing.T, args []string, code int, stdout, stderr []string) (out, errs string) {
	t.Helper()
	got, out, errs := invoke(t, args...)
	if got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	for _, words := range stdout {
		if !strings.Contains(out, words) {
			t.Errorf("standard output lacks %q", words)
		}
	}
	for _, words := range stderr {
		if !strings.Contains(errs, words) {
			t.Errorf("standard error lacks %q", words)
		}
	}
	if t.Failed() {
		t.Logf("lindbridge %q\n%s\n%s", args, out, errs)
	}
	return out, errs
}

// isEmpty fails the test unless there is nothing in the directory.
func isEmpty(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("in the directory: %v %v", entries, err)
	}
}

func TestGrates_Geteuid(t *testing.T) {
	for _, c := range []struct{ grate, euid string }{
		{"geteuid.wasm", "euid 1000,"}, {"geteuid.wasm 77", "euid 77,"}, {"geteuid-single.wasm 5", "euid 5,"},
	} {
		want(t, above("lind-geteuid.wasm 1000", c.grate), 0, []string{c.euid}, nil)
		want(t, above("lind-libc.wasm", c.grate), 0, []string{strings.TrimSuffix(c.euid, ",") + "\n"}, nil)
	}
}

func TestGrates_Strace(t *testing.T) {
	args := with(above("manyfiles.wasm /w 10", "strace.wasm"), 2, "--dir", t.TempDir()+"::/w")
	want(t, args, 0, []string{"made 10 files", "removed all"}, []string{
		`] openat(3, "file-000000.txt", 0xc1, 0666) = `, `"this is file 0\n", 15) = 15 <0.`, " = -1 ENOENT <",
		"% time     seconds", " renameat\n", " total\n",
	})
	args = with(above("manyfiles.wasm /w 10", "strace.wasm -c -e renameat,unlinkat"), 2, "--dir", t.TempDir()+"::/w")
	_, errs := want(t, args, 0, []string{"removed all"}, []string{" renameat\n", " unlinkat\n"})
	if strings.Contains(errs, "openat") || strings.Contains(errs, "[") {
		t.Errorf("more than the summary of what was chosen:\n%s", errs)
	}
}

func TestGrates_DenyByRulesAndByAFile(t *testing.T) {
	policies, files := t.TempDir(), t.TempDir()
	policy := "# files may be made, and stay\ndefault allow\ndeny unlink /\n"
	if err := os.WriteFile(filepath.Join(policies, "my policy.txt"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, grate, dir, complaint string
	}{
		{"rule in quotes", `deny.wasm -r "deny modify /"`, "", "manyfiles: create /w/file-000000.txt: Permission denied"},
		{"two kinds of quotes", `deny.wasm -r 'deny modify /bucket-9' -r "deny kill"`, "", "mkdir /w/bucket-9: Permission denied"},
		{"by call alone", `deny.wasm -r deny\ renameat`, "", "Operation not permitted"},
		{"file", "deny.wasm 'my policy.txt'", policies, "unlink /w/bucket-0/moved-000000.txt: Permission denied"},
		{"file under a name", "deny.wasm 'my policy.txt'", policies + "::/etc", "unlink /w/bucket-0/moved-000000.txt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := above("manyfiles.wasm /w 10", c.grate)
			if c.dir != "" {
				args = with(args, 2, "--grate-dir", c.dir)
			}
			dir := filepath.Join(files, c.name)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			want(t, with(args, 2, "--dir", dir+"::/w"), 1, nil, []string{c.complaint})
		})
	}
}

// TestGrates_DirectoriesAreTheGratesOwn: neither the program nor the next grate has them.
func TestGrates_DirectoriesAreTheGratesOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "policy"), []byte("deny geteuid\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"run", "--no-cache", "--grate", guests + "grate-deny.wasm policy", "--grate-dir", dir + "::/",
		"--grate", guests + "grate-deny.wasm policy", guests + "lind-geteuid.wasm",
	}
	want(t, args, 126, nil, []string{"deny: cannot read policy: ENOENT", "grate-deny.wasm: it ended before it served"})
	args = []string{
		"run", "--no-cache", "--dir", dir + "::/", "--grate", guests + "grate-deny.wasm policy", guests + "lind-geteuid.wasm",
	}
	want(t, args, 126, nil, []string{"deny: cannot read policy: ENOENT"})
	args = above("manyfiles.wasm /w 10", "strace.wasm -c")
	want(t, with(args, 2, "--grate-dir", dir+"::/w"), 1, nil, []string{"manyfiles: create /w/file-000000.txt"})
}

func TestGrates_FSMem(t *testing.T) {
	for _, c := range []struct{ program, last string }{
		{"manyfiles.wasm /w 100", "removed all\n"}, {"lind-files.wasm", "answers as expected\n"}, {"sort.wasm /w 2 1", "merged, "},
	} {
		dir := t.TempDir()
		args := above(c.program, "fs-mem.wasm /")
		out, _ := want(t, with(args, strings.Count(c.program, " "), "--dir", dir+"::/w"), 0, []string{c.last}, nil)
		isEmpty(t, dir)
		native := with(above(c.program), strings.Count(c.program, " "), "--dir", dir+"::/w")
		if _, same, _ := invoke(t, native...); same != out {
			t.Errorf("%s: without the grate it writes\n%s, with it\n%s", c.program, same, out)
		}
	}
}

func TestGrates_ChaosIsTheSameInEachRun(t *testing.T) {
	run := func(options string, code int, complaint ...string) string {
		args := with(above("manyfiles.wasm /w 10", "chaos.wasm "+options), 2, "--dir", t.TempDir()+"::/w")
		_, errs := want(t, args, code, nil, complaint)
		return errs
	}
	run("-c openat -e 100:ENOSPC", 1, "create /w/file-000000.txt: No space left on device", "chaos: calls 1, failed 1,")
	run("-c mkdirat -d 100:10", 0, "chaos: calls 10, failed 0, delayed 10,")
	first := run("-s 3 -c openat,read,write -e 5:EIO,ENOSPC", 1, "failed 1,")
	if again := run("-s 3 -c openat,read,write -e 5:EIO,ENOSPC", 1); again != first {
		t.Errorf("with the same seed:\n%s\n%s", first, again)
	}
}

func TestGrates_ChaosKillsTheProgram(t *testing.T) {
	args := with(above("manyfiles.wasm /w 10", "chaos.wasm -c openat -k 100"), 2, "--dir", t.TempDir()+"::/w")
	want(t, args, 128+9, nil, []string{"chaos: calls 1, failed 0, delayed 0, killed 1\n"})
}

// TestGrates_FirstIsTheOutermost: what the inner one answers the outer does not see, and what the outer answers the inner
// one sees.
func TestGrates_FirstIsTheOutermost(t *testing.T) {
	_, errs := want(t, above("lind-geteuid.wasm", "strace.wasm", "geteuid.wasm 5"), 0, []string{"euid 5,"}, []string{"] write(1, "})
	if strings.Contains(errs, "geteuid()") {
		t.Errorf("the outer one has seen what the inner one serves:\n%s", errs)
	}
	want(t, above("lind-geteuid.wasm", "geteuid.wasm 5", "strace.wasm"), 0, []string{"euid 5,"}, []string{"] geteuid() = 5 <"})
	// The innermost answers for all.
	want(t, above("lind-geteuid.wasm", "geteuid.wasm 5", "geteuid.wasm 6", "geteuid.wasm 7"), 0, []string{"euid 7,"}, nil)
}

func TestGrates_StackOfThree(t *testing.T) {
	dir := t.TempDir()
	args := above("manyfiles.wasm /w 10", "fs-mem.wasm /", "strace.wasm", "deny.wasm -r 'deny unlink /bucket-0'")
	_, errs := want(t, with(args, 2, "--dir", dir+"::/w"), 1, []string{"listed 10 files"}, []string{
		`] renameat(3, "file-000000.txt", 3, "bucket-0/moved-000000.txt") = 0 <`,
		"unlink /w/bucket-0/moved-000000.txt: Permission denied", " total\n",
	})
	if strings.Contains(errs, `unlinkat(3, "bucket-0/moved`) {
		t.Errorf("what was refused has come to the next grate:\n%s", errs)
	}
	isEmpty(t, dir)
}

func TestGrates_ExitCodeAndReportAreTheProgram(t *testing.T) {
	want(t, above("exitcode.wasm 42", "strace.wasm -c"), 42, nil, []string{" total\n"})
	want(t, above("exitcode.wasm 42", "strace.wasm", "strace.wasm"), 42, nil, []string{"] exit_group(42) = ?"})
	want(t, above("trap.wasm", "strace.wasm -c"), 134, nil, []string{"inner", "trap.wasm: thread 1 trapped", " total\n"})
	args := with(above("exitcode.wasm 3", "geteuid.wasm", "geteuid.wasm"), 1, "--exit-report", "-")
	out, _ := want(t, args, 3, []string{"exited with code 3", "notify", "handlers"}, nil)
	if n := strings.Count(out, "  status  "); n != 1 {
		t.Errorf("%d reports, of one program", n)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	want(t, with(above("trap.wasm", "chaos.wasm"), 0, "--exit-report", file), 134, nil, nil)
	if b, err := os.ReadFile(file); err != nil || !bytes.Contains(b, []byte(`"kind": "trap"`)) {
		t.Errorf("%v\n%s", err, b)
	}
}

// TestGrates_LimitsAreTheProgram: a grate needs what it needs.
func TestGrates_LimitsAreTheProgram(t *testing.T) {
	args := with(above("lind-geteuid.wasm", "fs-mem.wasm /", "strace.wasm -c"), 0, "--max-memory", "4000000", "--max-threads", "1")
	want(t, args, 0, []string{"euid "}, nil)
}

func TestGrates_OneThatEndsWhileItServes(t *testing.T) {
	for _, c := range []struct {
		how   string
		words []string
	}{
		{"trap", []string{
			"grate-chaos.wasm: thread ", "trapped: ", "unreachable", "lind_serve_numbered", "pass_fptr_to_wt",
			"it ended while it served (killed by SIGABRT)",
		}},
		{"", []string{"it ended while it served (exited with code 1)"}},
	} {
		grate := strings.TrimSuffix("chaos.wasm -c openat -K 100:"+c.how, ":")
		args := with(above("manyfiles.wasm /w 10", grate), 2, "--dir", t.TempDir()+"::/w")
		want(t, args, 1, nil, append(c.words, "chaos: ends itself", "manyfiles: create /w/file-000000.txt: "))

		// The grate that it was stacked on ends after it, as it should, and with it whatever the program could still do.
		args = with(above("manyfiles.wasm /w 10", "strace.wasm -c", grate), 2, "--dir", t.TempDir()+"::/w")
		_, errs := want(t, args, 1, nil, append(c.words, " total\n"))
		if strings.Contains(errs, "grate-strace.wasm: ") {
			t.Errorf("more than one grate is to blame:\n%s", errs)
		}
	}
}

// serving is a grate in text that says that it serves, and then goes on as then says.
func serving(t *testing.T, then string) (file string) {
	t.Helper()
	const zeros = "(i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) "
	return text(t, `(module
	  (import "lind" "make-syscall" (func $call (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
	  (import "lind" "lind-get-cage-id" (func $self (result i64)))
	  (memory (export "memory") 2 4) (global (export "__stack_pointer") (mut i32) (i32.const 65536))
	  (func (export "pass_fptr_to_wt") (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32) (i32.const 0))
	  (func $serve (drop (call $call (i32.const 1004) (i64.const 0) (call $self) (call $self) `+zeros+zeros+`)))
	  (func (export "_start") `+then+`))`)
}

// text is a file with a module.
func text(t *testing.T, wat string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "grate.wat")
	if err := os.WriteFile(file, []byte(wat), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const forever = " (loop $l br $l)"

func TestGrates_OneThatDoesNotEndIsKilled(t *testing.T) {
	args := []string{"run", "--no-cache", "--stop-grace", "100ms", "--grate", serving(t, "call $serve"+forever), guests + "exitcode.wasm", "4"}
	want(t, args, 4, nil, []string{"grate.wat: it did not end by itself after what it served, and was killed"})
}

func TestGrates_OneThatNeverServes(t *testing.T) {
	args := []string{"run", "--no-cache", "--time-limit", "100ms", "--grate", serving(t, forever), guests + "hello.wasm"}
	want(t, args, 124, nil, []string{"time limit of 100ms passed before its grates served"})
}

func TestGrates_Unusable(t *testing.T) {
	tmp := t.TempDir()
	broken, spaced := filepath.Join(tmp, "broken.wasm"), filepath.Join(tmp, "with space.wasm")
	module, err := os.ReadFile(guests + "grate-deny.wasm")
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string][]byte{broken: module[:300], spaced: module} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	noStackPointer := text(t, `(module (memory (export "memory") 1) (func (export "_start"))
	  (func (export "pass_fptr_to_wt") (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32) (i32.const 0)))`)
	wrongType := text(t, `(module (memory (export "memory") 1) (func (export "_start"))
	  (func (export "pass_fptr_to_wt") (param i32) (result i32) (i32.const 0)))`)
	for _, c := range []struct {
		name  string
		flags []string
		code  int
		words []string
	}{
		{"missing", []string{"--grate", "nowhere.wasm -c"}, 127, []string{"grate nowhere.wasm: no such file", "give its path", "make grates"}},
		{"spaces", []string{"--grate", spaced}, 127, []string{"no such file", "quotes of its own", `"'` + spaced + `'"`}},
		{"directory", []string{"--grate", tmp}, 126, []string{"grate: read " + tmp, "is a directory"}},
		{"no module", []string{"--grate", "run_test.go"}, 126, []string{"grate run_test.go", "invalid module"}},
		{"broken", []string{"--grate", broken}, 126, []string{"broken.wasm", "invalid module", "unexpected end"}},
		{"a program", []string{"--grate", guests + "hello.wasm"}, 126, []string{
			"hello.wasm", "pass_fptr_to_wt", "-Wl,--export=pass_fptr_to_wt", "guests/lind/build.sh --grate",
		}},
		{"second of two", []string{"--grate", guests + "grate-strace.wasm", "--grate", guests + "trap.wasm"}, 126, []string{"trap.wasm", "pass_fptr_to_wt"}},
		{"no stack pointer", []string{"--grate", noStackPointer}, 126, []string{"__stack_pointer", "--export=__stack_pointer"}},
		{"wrong type", []string{"--grate", wrongType}, 126, []string{"pass_fptr_to_wt has to be a function of 14 i64"}},
		{"no arguments", []string{"--grate", guests + "grate-fs-mem.wasm"}, 126, []string{
			"usage: fs-mem", "grate-fs-mem.wasm: it ended before it served, so that the program was not started (exited with code 2)",
		}},
		{"bad arguments", []string{"--grate", guests + "grate-chaos.wasm --bad"}, 126, []string{"usage: chaos", "exited with code 2"}},
		{"bad policy", []string{"--grate", guests + "grate-deny.wasm -r 'forbid all'"}, 126, []string{"deny: -r:1: a line begins with", "exited with code 2"}},
		{"ends without a word", []string{"--grate", serving(t, "")}, 126, []string{"exited with code 0", "grate_serve", "guests/lind/README.md"}},
		{"traps at its start", []string{"--grate", serving(t, "unreachable")}, 126, []string{"thread 1 trapped", "killed by SIGABRT"}},
		{"no directory", []string{"--grate", guests + "grate-deny.wasm", "--grate-dir", "nowhere"}, 126, []string{"nowhere"}},
		{"bad directory", []string{"--grate", guests + "grate-deny.wasm", "--grate-dir", "::"}, 2, []string{"--grate-dir", "HOST::GUEST"}},
		{"directory first", []string{"--grate-dir", ".", "--grate", guests + "grate-deny.wasm"}, 2, []string{"--grate-dir", "no --grate before it"}},
		{"open quote", []string{"--grate", "deny.wasm -r 'deny all"}, 2, []string{"--grate", "a quote in it has no end"}},
		{"open double quote", []string{"--grate", `deny.wasm -r "deny all`}, 2, []string{"a quote in it has no end"}},
		{"last backslash", []string{"--grate", `deny.wasm \`}, 2, []string{"a backslash"}},
		{"empty", []string{"--grate", " "}, 2, []string{"want 'FILE [ARG]...'"}},
		{"option outside", []string{"--grate", guests + "grate-strace.wasm", "-c"}, 2, []string{"unknown", "-c", "one word", "grate-strace.wasm ARG...'"}},
		{"argument outside", []string{"--grate", guests + "grate-geteuid.wasm", "77"}, 127, []string{"open 77: no such file", "one word"}},
		{"nothing to trace", []string{"--trace"}, 2, []string{"there is no --grate"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, _ := want(t, append(append([]string{"run", "--no-cache"}, c.flags...), guests+"hello.wasm"), c.code, nil, c.words)
			if out != "" {
				t.Errorf("the program has run: %s", out)
			}
		})
	}
}

func TestGrateFlag_IsAWordOfTheShell(t *testing.T) {
	for _, c := range []struct {
		word string
		file string
		args []string
	}{
		{"a/deny.wasm", "a/deny.wasm", []string{"deny.wasm"}},
		{" deny.wasm  -r\t'deny open /a b' \n", "deny.wasm", []string{"deny.wasm", "-r", "deny open /a b"}},
		{`"my grate.wasm" "it's" '"' a\ b '' x"y z"`, "my grate.wasm", []string{"my grate.wasm", "it's", `"`, "a b", "", "xy z"}},
		{`g.wasm '#x' a#b`, "g.wasm", []string{"g.wasm", "#x", "a#b"}},
		{`g.wasm $HOME *.txt ~`, "g.wasm", []string{"g.wasm", "$HOME", "*.txt", "~"}},
	} {
		var flags grateFlags
		if err := flags.value(grateFile).Set(c.word); err != nil {
			t.Errorf("%s: %v", c.word, err)
			continue
		}
		if g := flags[0]; g.file != c.file || !slices.Equal(g.args, c.args) {
			t.Errorf("%s: %q %q", c.word, g.file, g.args)
		}
	}
}

// traceLine is a line of --trace: who calls, who serves, how deep it is, the call, its result.
var traceLine = regexp.MustCompile(`(?m)^\[(host|cage \d+)(\.\d+)? -> grate (\d+)\] ((?:  )*)(\w+)\((.*)\) = (.*) <\d+\.\d{9}>$`)

func TestTrace_OfAStack(t *testing.T) {
	args := with(above("manyfiles.wasm /w 10", "fs-mem.wasm /", "deny.wasm -r 'deny rename /bucket-3'"), 2,
		"--trace", "--dir", t.TempDir()+"::/w")
	_, errs := want(t, args, 1, []string{"made 10 files"}, []string{
		`openat(3, "file-000000.txt", 193, 438) = `,
		`renameat(3, "file-000003.txt", 3, "bucket-3/moved-000003.txt") = -1 EACCES`, ") = -1 ENOENT",
	})
	var lines [][]string
	for line := range strings.Lines(errs) {
		m := traceLine.FindStringSubmatch(line)
		if m == nil && strings.HasPrefix(line, "[") {
			t.Errorf("no line of a trace: %s", line)
		}
		if m != nil && m[1] != "host" && m[5] == "openat" {
			lines = append(lines, m)
		}
	}
	if len(lines) < 20 {
		t.Fatalf("%d lines of openat", len(lines))
	}
	// Each call of the program to the inner grate has led to one of that one to the outer, which is over before it.
	for i := 0; i+1 < len(lines); i += 2 {
		outer, inner := lines[i], lines[i+1]
		if outer[4] != "  " || inner[4] != "" || outer[1] != "cage "+inner[3] || outer[3] == inner[3] ||
			inner[1] == outer[1] || inner[1] != lines[1][1] || outer[7] != inner[7] {
			t.Fatalf("not a call and what it led to:\n%s\n%s", outer[0], inner[0])
		}
	}
	if strings.Contains(errs, `  renameat(3, "file-000003.txt"`) {
		t.Errorf("what was refused has come to the next grate:\n%s", errs)
	}
}

// TestTrace_OfACallThatAGrateDiesIn: the line is there, though the grate may be gone by then.
func TestTrace_OfACallThatAGrateDiesIn(t *testing.T) {
	want(t, with(above("lind-geteuid.wasm", "chaos.wasm -c geteuid -K 100:trap"), 0, "--trace"), 0, []string{"euid -"}, []string{
		"] geteuid() = GRATE_ERR (the grate ended while it served) <0.",
	})
}

func TestTrace_Lines(t *testing.T) {
	for _, c := range []struct {
		trace lindbridge.Trace
		line  string
	}{
		{
			lindbridge.Trace{Cage: 2, TID: 1, Grate: 3, Depth: 1, Call: abi.CallGeteuid, Result: 77, Took: 51},
			"[cage 2 -> grate 3] geteuid() = 77 <0.000000051>\n",
		},
		{lindbridge.Trace{
			Cage: 3, TID: 4, Grate: 5, Depth: 3, Call: abi.CallOpenat, Result: -13, Took: 1500 * time.Millisecond,
			Args: [6]uint64{1<<32 - 100, 0x7f0000001000, 0x41}, ArgCages: [6]abi.CageID{0, 3},
			Paths: [6]string{1: "a\"b\x1b\n"},
		}, "[cage 3.4 -> grate 5]     openat(-100, \"a\\\"b\\x1b\\n\", 65) = -1 EACCES: permission denied <1.500000000>\n"},
		{lindbridge.Trace{
			Grate: 3, Depth: 1, Call: abi.CallHarshCageExit, Args: [6]uint64{2, 256},
		}, "[host -> grate 3] harsh_cage_exit(2, 256) = 0 <0.000000000>\n"},
		{lindbridge.Trace{
			Cage: 2, TID: 1, Grate: 3, Depth: 1, Call: abi.CallWrite, Args: [6]uint64{1, 0x7f0000001000, 5},
			ArgCages: [6]abi.CageID{0, 2}, Result: abi.GrateErr,
		}, "[cage 2 -> grate 3] write(1, 0x7f0000001000, 5) = GRATE_ERR (the grate ended while it served) <0.000000000>\n"},
		{
			lindbridge.Trace{Cage: 2, TID: 1, Depth: 1, Call: abi.CallGetpid, Result: abi.GrateErr},
			"[cage 2 -> grate ?] getpid() = GRATE_ERR (the grate ended while it served) <0.000000000>\n",
		},
	} {
		var b bytes.Buffer
		(&tracer{&b}).print(c.trace)
		if b.String() != c.line {
			t.Errorf("%s, want %s", b.String(), c.line)
		}
	}
}

func TestSignals_EndAProgramWithGrates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report")
	cmd, stderr := command(t, "--exit-report", file, "--grate", guests+"grate-chaos.wasm", "--grate", guests+"grate-strace.wasm -c")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGINT) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	// The grates have ended by themselves, each with its last words.
	for _, words := range []string{" total\n", "chaos: calls "} {
		if !strings.Contains(stderr.String(), words) {
			t.Errorf("standard error lacks %q: %s", words, stderr)
		}
	}
	report, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(report), "9 threads were inside") {
		t.Errorf("%v\n%s", err, report)
	}
}

func TestSignals_EndAGrateThatNeverServes(t *testing.T) {
	// It says on standard output that it runs, and turns.
	grate := text(t, `(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
	  (memory (export "memory") 2 4) (global (export "__stack_pointer") (mut i32) (i32.const 65536))
	  (data (i32.const 16) "\20\00\00\00\04\00\00\00") (data (i32.const 32) "runs")
	  (func (export "pass_fptr_to_wt") (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32) (i32.const 0))
	  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))`+forever+`))`)
	cmd, stderr := process(t, "--grate", grate, guests+"hello.wasm")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := stdout.Read(make([]byte, len("runs"))); err != nil || n == 0 {
		t.Fatalf("%v: %s", err, stderr)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stderr.String(), "ended by SIGTERM before its grates served") {
		t.Errorf("standard error: %s", stderr)
	}
}
