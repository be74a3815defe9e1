package exitcoord_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/exitcoord"
)

func TestCause_StatusAndWords(t *testing.T) {
	code, signal := exitcoord.CodeStatus, exitcoord.SignalStatus
	for _, c := range []struct {
		cause exitcoord.Cause
		want  exitcoord.Status
		shell int
		words string
	}{
		{exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 7, TID: 2}, code(7), 7, "proc_exit(7) by thread 2"},
		{exitcoord.Cause{Kind: exitcoord.ExitGroup, Message: "exit_group"}, code(0), 0, "exit_group(0)"},
		{exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 256}, code(256), 0, "proc_exit(256)"},
		{exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: -1}, code(-1), 255, "proc_exit(-1)"},
		{exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 3, Signal: 9}, code(3), 3, "proc_exit(3)"},
		{exitcoord.Cause{Kind: exitcoord.MainReturned, TID: 1}, code(0), 0, "main returned"},
		{exitcoord.Cause{Kind: exitcoord.MainReturned, Code: 5, TID: 1}, code(5), 5, "main returned 5"},
		{exitcoord.Cause{Kind: exitcoord.LastThread, TID: 4}, code(0), 0, "thread 4, the last one, exited"},
		{exitcoord.Cause{Kind: exitcoord.LastThread, Code: 3}, code(3), 3, "the last thread exited with 3"},
		{
			exitcoord.Cause{Kind: exitcoord.Trap, TID: 3, Message: "unreachable"},
			signal(6), 134, "thread 3 trapped: unreachable",
		},
		{exitcoord.Cause{Kind: exitcoord.Trap, Signal: 4}, signal(6), 134, "a thread trapped"},
		{exitcoord.Cause{Kind: exitcoord.Signal, Signal: 15}, signal(15), 143, "killed by SIGTERM"},
		{exitcoord.Cause{Kind: exitcoord.Signal, Signal: 6, TID: 2}, signal(6), 134, "killed by SIGABRT, raised by thread 2"},
		{exitcoord.Cause{Kind: exitcoord.Signal, Signal: 40}, signal(40), 168, "killed by signal 40"},
		{exitcoord.Cause{Kind: exitcoord.Signal}, signal(9), 137, "killed by SIGKILL"},
		{exitcoord.Cause{Kind: exitcoord.Signal, Signal: -5}, signal(9), 137, "killed by SIGKILL"},
		{exitcoord.Cause{Kind: exitcoord.Signal, Signal: 65}, signal(9), 137, "killed by SIGKILL"},
		{exitcoord.Cause{Kind: exitcoord.HostKill}, signal(9), 137, "killed by the host"},
		{exitcoord.Cause{Kind: exitcoord.HostKill, Signal: 2}, signal(2), 130, "killed by the host with SIGINT"},
		{exitcoord.Cause{Kind: exitcoord.HostKill, Message: "quota"}, signal(9), 137, "killed by the host: quota"},
		{
			exitcoord.Cause{Kind: exitcoord.TimeLimit, Limit: 5 * time.Second, Signal: 15},
			signal(9), 137, "time limit of 5s passed",
		},
		{exitcoord.Cause{Kind: exitcoord.TimeLimit}, signal(9), 137, "time limit passed"},
		{exitcoord.Cause{Kind: exitcoord.RuntimeClose}, signal(9), 137, "the runtime closed"},
		{exitcoord.Cause{Kind: exitcoord.RuntimeClose, Signal: 15}, signal(15), 143, "the runtime closed with SIGTERM"},
		{
			exitcoord.Cause{Kind: exitcoord.GrateFailure, TID: 2, Message: "cage 9 trapped"},
			signal(9), 137, "a grate failed under thread 2: cage 9 trapped",
		},
		{exitcoord.Cause{Kind: exitcoord.StartFailed, Message: "no memory"}, code(126), 126, "could not start: no memory"},
		{exitcoord.Cause{Kind: exitcoord.StartFailed, Code: 127}, code(127), 127, "could not start"},
		{exitcoord.Cause{Kind: exitcoord.StartFailed, Code: 256}, code(126), 126, "could not start"},
		{
			exitcoord.Cause{Kind: exitcoord.HostFailure, TID: 1, Message: "panic: nil map"},
			signal(9), 137, "the host failed under thread 1: panic: nil map",
		},
		{exitcoord.Cause{Kind: exitcoord.HostFailure, Signal: 6}, signal(6), 134, "the host failed"},
		{exitcoord.Cause{}, signal(9), 137, "cause unknown"},
		{exitcoord.Cause{Kind: 200, Message: "?"}, signal(9), 137, "cause unknown: ?"},
	} {
		if got := c.cause.Status(); got != c.want {
			t.Errorf("%+v: status %v, want %v", c.cause, got, c.want)
		}
		if got := c.cause.Status().ExitCode(); got != c.shell {
			t.Errorf("%+v: exit code %d, want %d", c.cause, got, c.shell)
		}
		if got := c.cause.String(); got != c.words {
			t.Errorf("%+v: in words %q, want %q", c.cause, got, c.words)
		}
	}
}

func TestCause_WordsAreOneLineThatNoTerminalObeys(t *testing.T) {
	c := exitcoord.Cause{Kind: exitcoord.Trap, TID: 1, Message: " a\nb\x1b[2Jc\u202ed\xffe\u00a0f\x07 "}
	const want = `thread 1 trapped: a b\x1b[2Jc\u202ed\xffe\u00a0f\a`
	if got := c.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The host's own decoder of wait statuses is the reference: Linux's encoding is the same everywhere.
func TestStatus_WaitStatusIsWhatLinuxEncodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		code := rapid.Int32().Draw(t, "code")
		ws := syscall.WaitStatus(exitcoord.CodeStatus(code).WaitStatus())
		if !ws.Exited() || ws.Signaled() || ws.Stopped() || ws.ExitStatus() != int(uint8(code)) {
			t.Fatalf("code %d: encoded as %#x: exited %v with %d", code, ws, ws.Exited(), ws.ExitStatus())
		}
		signal := rapid.Int32Range(1, 64).Draw(t, "signal")
		ws = syscall.WaitStatus(exitcoord.SignalStatus(signal).WaitStatus())
		if !ws.Signaled() || ws.Exited() || ws.CoreDump() || ws.Signal() != syscall.Signal(signal) {
			t.Fatalf("signal %d: encoded as %#x: signaled %v by %d", signal, ws, ws.Signaled(), ws.Signal())
		}
	})
}

func TestSignalName_IsTheHostsForEverySignalWithAName(t *testing.T) {
	for s, name := range map[int32]string{1: "SIGHUP", 9: "SIGKILL", 11: "SIGSEGV", 17: "SIGCHLD", 31: "SIGSYS"} {
		if got := exitcoord.SignalName(s); got != name {
			t.Errorf("signal %d is called %q, want %q", s, got, name)
		}
	}
	seen := map[string]int32{}
	for s := int32(-1); s <= 70; s++ {
		name := exitcoord.SignalName(s)
		if was, taken := seen[name]; taken || name == "SIG" {
			t.Errorf("signals %d and %d are both called %q", was, s, name)
		}
		seen[name] = s
		if named := strings.HasPrefix(name, "SIG"); named != (s >= 1 && s <= 31) {
			t.Errorf("signal %d is called %q", s, name)
		}
	}
}
