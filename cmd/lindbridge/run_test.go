package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is the command itself when a test runs its own binary with this variable set.
func TestMain(m *testing.M) {
	if os.Getenv("LINDBRIDGE_TEST_COMMAND") != "" {
		main()
	}
	os.Exit(m.Run())
}

const guests = "../../testdata/guests/"

// invoke runs the command in this process.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, strings.NewReader("input\n"), &out, &errs)
	return code, out.String(), errs.String()
}

// cacheless are the flags of a run that leaves nothing behind in the user's cache.
var cacheless = []string{"run", "--no-cache"}

func TestRun_PassesArgumentsEnvironmentAndStreams(t *testing.T) {
	t.Setenv("PASSED_ON", "from here")
	args := append(cacheless, "--env", "A=b c", "--env", "PASSED_ON", guests+"hello.wasm", "--env", "-x", "--", "last")
	code, out, errs := invoke(t, args...)
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for _, want := range []string{"hello.wasm", "--env", "-x", "--", "last", "A=b c", "PASSED_ON=from here", "input\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "PATH=") {
		t.Error("the program has this process's environment")
	}
}

func TestRun_ExitCodes(t *testing.T) {
	tmp := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	spin := write("spin.wat", `(module (func (export "_start") (loop $l br $l)))`)
	raise := write("raise.wat", `(module (import "wasi_snapshot_preview1" "proc_raise" (func $raise (param i32) (result i32)))
	  (memory (export "memory") 1) (func (export "_start") (drop (call $raise (i32.const 15)))))`)
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		words []string // on standard error
	}{
		{"the program's own", []string{guests + "exitcode.wasm", "42"}, 42, nil},
		{"success", []string{guests + "exitcode.wasm", "0"}, 0, nil},
		{"trap", []string{guests + "trap.wasm"}, 134, []string{"unreachable", "inner", "middle", "outer", "wasm backtrace"}},
		{"time limit", []string{"--time-limit", "50ms", spin}, 124, []string{"time limit of 50ms"}},
		{"signal", []string{raise}, 128 + 15, nil},
		{"no such file", []string{"nowhere.wasm"}, 127, []string{"nowhere.wasm", "no such file"}},
		{"no module", []string{"run_test.go"}, 126, []string{"run_test.go", "module"}},
		{"unknown import", []string{"../../guests/wat/bad-import.wat"}, 126, []string{"nowhere.no-such-function"}},
		{"a library", []string{"../../guests/wat/bad-no-start.wat"}, 126, []string{"_start"}},
		{"no directory", []string{"--dir", "nowhere::/", guests + "hello.wasm"}, 126, []string{"nowhere"}},
		{"bad dir", []string{"--dir", "::", guests + "hello.wasm"}, 2, []string{"HOST::GUEST", "--help"}},
		{"bad env", []string{"--env", "=x", guests + "hello.wasm"}, 2, []string{"NAME=VALUE"}},
		{"unset env", []string{"--env", "NOT_SET_ANYWHERE", guests + "hello.wasm"}, 2, []string{"NOT_SET_ANYWHERE"}},
		{"bad time", []string{"--time-limit", "soon", guests + "hello.wasm"}, 2, []string{"time-limit"}},
		{"unknown flag", []string{"--nope", guests + "hello.wasm"}, 2, []string{"--nope"}},
		{"nothing to run", nil, 2, []string{"--help"}},
		{"bad report", []string{"--exit-report", "nowhere/report", guests + "hello.wasm"}, 125, []string{"nowhere/report"}},
		{"no shim", []string{"--shim", "nowhere.so", guests + "hello.wasm"}, 125, []string{"nowhere.so", "make build"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, errs := invoke(t, append(cacheless[:2:2], c.args...)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, errs)
			}
			for _, words := range c.words {
				if !strings.Contains(errs, words) {
					t.Errorf("standard error lacks %q: %s", words, errs)
				}
			}
		})
	}
}

// TestRun_GuestNamesCannotSteerTheTerminal: a guest names its functions as it likes.
func TestRun_GuestNamesCannotSteerTheTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.wat")
	wat := `(module (func $"\1b[2Jname" unreachable) (func (export "_start") call $"\1b[2Jname"))`
	if err := os.WriteFile(path, []byte(wat), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := invoke(t, "run", "--no-cache", "--exit-report", "-", path)
	if code != 134 || !strings.Contains(errs, "[2Jname") || strings.Contains(out+errs, "\x1b") {
		t.Errorf("exit code %d\n%q\n%q", code, out, errs)
	}
}

func TestRun_Report(t *testing.T) {
	code, out, _ := invoke(t, "run", "--no-cache", "--exit-report", "-", guests+"exitcode.wasm", "3")
	if code != 3 || !strings.Contains(out, "exited with code 3") || !strings.Contains(out, "descriptors") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if code, _, errs := invoke(t, "run", "--no-cache", "--exit-report", file, guests+"trap.wasm"); code != 134 {
		t.Errorf("exit code %d: %s", code, errs)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Cause struct {
			Kind string `json:"kind"`
		} `json:"cause"`
		Steps []struct {
			Name string `json:"name"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(b, &report); err != nil || report.Cause.Kind != "trap" || len(report.Steps) != 7 {
		t.Errorf("%v: %+v\n%s", err, report, b)
	}
}

func TestRun_CachesCompiledPrograms(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		// Not in this process: Wasmtime's cache has a thread that may write a moment longer than the runtime lives.
		cmd, errs := process(t, "--no-cache=false", "--cache-dir", dir, guests+"exitcode.wasm", "5")
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 5 {
			t.Errorf("exit code %d: %s", code, errs)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Errorf("nothing in the cache: %v %v", entries, err)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{nil, []string{"lindbridge run prog.wasm", "run ", "version"}},
		{[]string{"--help"}, []string{"lindbridge run prog.wasm"}},
		{[]string{"run", "--help"}, []string{"--dir", "--time-limit", "--exit-report", "--grate", "--grate-dir", "--trace", "124", "134", "128 + n", "Ctrl-C"}},
		{[]string{"version"}, []string{"lindbridge", "lindshim", "wasmtime", "liblindshim.so"}},
	} {
		code, out, errs := invoke(t, c.args...)
		if code != 0 || errs != "" {
			t.Errorf("%q: exit code %d: %s", c.args, code, errs)
		}
		for _, words := range c.words {
			if !strings.Contains(out, words) {
				t.Errorf("%q: no %q in\n%s", c.args, words, out)
			}
		}
	}
}

// command is the command as a process of its own, which runs threads.wasm until a signal ends it. It is there when the
// program has said so.
func command(t *testing.T, flags ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	cmd, stderr = process(t, append(flags, guests+"threads.wasm")...)
	stdin, err := cmd.StdinPipe() // nothing is written to it, and it stays open
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("threads:"))); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	go io.Copy(io.Discard, stdout)
	return cmd, stderr
}

// process is a run of the command as a process of its own, to be started. It is ended with the test.
func process(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, self, append([]string{"run", "--no-cache"}, args...)...)
	cmd.Env = append(os.Environ(), "LINDBRIDGE_TEST_COMMAND=1")
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	return cmd, stderr
}

func TestSignals_EndTheProgramThroughTheSameExit(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		file := filepath.Join(t.TempDir(), "report")
		cmd, stderr := command(t, "--exit-report", file)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 128+int(sig) {
			t.Errorf("%v: exit code %d: %s", sig, code, stderr)
		}
		report, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(report), "9 threads were inside") {
			t.Errorf("%v: %v\n%s", sig, err, report)
		}
	}
}
