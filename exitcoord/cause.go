package exitcoord

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// CauseKind says what made a cage end.
type CauseKind uint8

// The kinds of causes. The zero kind is none of them, so that a forgotten field shows.
const (
	_ CauseKind = iota
	// ExitGroup: the guest asked for it: exit_group(2), or proc_exit of WASI.
	ExitGroup
	// MainReturned: the function that thread 1 started with returned.
	MainReturned
	// LastThread: the last thread that lived exited, by exit(2) or by returning.
	LastThread
	// Trap: a thread trapped.
	Trap
	// Signal: a signal whose action is to end the process.
	Signal
	// HostKill: the host's program asked for it.
	HostKill
	// TimeLimit: the cage ran for as long as it may.
	TimeLimit
	// RuntimeClose: the runtime ends, and all cages with it.
	RuntimeClose
	// GrateFailure: a grate that the cage cannot run without failed.
	GrateFailure
	// StartFailed: the cage never got to run: its module, its domain or its first thread could not be made.
	StartFailed
	// HostFailure: code of the host that works for the cage failed or panicked.
	HostFailure

	numCauseKinds = iota
)

var causeKindNames = [numCauseKinds]string{
	"unknown", "exit_group", "main_returned", "last_thread", "trap", "signal", "host_kill", "time_limit",
	"runtime_close", "grate_failure", "start_failed", "host_failure",
}

// String is the kind's name in lower case with underscores, as the JSON report has it.
func (k CauseKind) String() string {
	if int(k) >= numCauseKinds {
		return "cause " + strconv.Itoa(int(k))
	}
	return causeKindNames[k]
}

// Cause is why a cage ends. The first one that an Exit is given wins and fixes the cage's status (I5). It is a value;
// an Exit never changes the one that it keeps, save that it fills in At.
type Cause struct {
	Kind CauseKind
	// Code is the exit code, for the kinds that end with one: ExitGroup, MainReturned, LastThread, StartFailed.
	Code int32
	// Signal is the number of the signal, for the kinds that may name one; 0 if none.
	Signal int32
	// TID is the thread of the cage that caused it; 0 if it came from outside.
	TID int32
	// Message is what else there is to say, as one phrase: the trap's text, the grate's error. For ExitGroup it is the
	// name of the call, "proc_exit" if empty. It may come from the guest: String shows it with control characters
	// escaped.
	Message string
	// Backtrace is one frame of the guest a line, innermost first; empty if there is none.
	Backtrace string
	// Limit is the limit that passed, for TimeLimit; 0 if not known.
	Limit time.Duration
	// At is when it happened. Begin fills it in if it is zero.
	At time.Time
}

// Status is how a cage ends that c ends.
//
// A program that ends by itself has the code it gave. A trap is SIGABRT, a time limit SIGKILL. Signal, HostKill,
// RuntimeClose, GrateFailure and HostFailure are the signal that c names, and SIGKILL if it names none that exists. A
// cage that could not start exits with c.Code, and with 126 if that is 0: it never looks like a success.
func (c Cause) Status() Status {
	switch c.Kind {
	case ExitGroup, MainReturned, LastThread:
		return CodeStatus(c.Code)
	case StartFailed:
		// As a shell does for a program that it found and could not run; 0 in the 8 bits that a parent sees is the same
		// success as 0.
		if c.Code&0xff == 0 {
			return CodeStatus(126)
		}
		return CodeStatus(c.Code)
	case Trap:
		return SignalStatus(sigABRT)
	case TimeLimit:
		return SignalStatus(sigKILL)
	}
	if c.Signal > 0 && c.Signal <= maxSignal {
		return SignalStatus(c.Signal)
	}
	return SignalStatus(sigKILL)
}

// String is the cause in words, on one line: "thread 3 trapped: unreachable".
func (c Cause) String() string {
	switch c.Kind {
	case ExitGroup:
		call := c.Message
		if call == "" {
			call = "proc_exit"
		}
		return printable(call) + "(" + strconv.Itoa(int(c.Code)) + ")" + by(c.TID)
	case MainReturned:
		return c.say("main returned" + code(" ", c.Code))
	case LastThread:
		last := "the last thread exited"
		if c.TID != 0 {
			last = fmt.Sprintf("thread %d, the last one, exited", c.TID)
		}
		return c.say(last + code(" with ", c.Code))
	case Trap:
		if c.TID == 0 {
			return c.say("a thread trapped")
		}
		return c.say(fmt.Sprintf("thread %d trapped", c.TID))
	case Signal:
		if c.TID != 0 {
			return c.say(fmt.Sprintf("%v, raised by thread %d", c.Status(), c.TID))
		}
		return c.say(c.Status().String())
	case HostKill:
		return c.say("killed by the host" + c.with())
	case TimeLimit:
		if c.Limit > 0 {
			return c.say("time limit of " + c.Limit.String() + " passed")
		}
		return c.say("time limit passed")
	case RuntimeClose:
		return c.say("the runtime closed" + c.with())
	case GrateFailure:
		return c.say("a grate failed" + under(c.TID))
	case StartFailed:
		return c.say("could not start")
	case HostFailure:
		return c.say("the host failed" + under(c.TID))
	}
	return c.say("cause unknown")
}

// say adds the message, if there is one.
func (c Cause) say(what string) string {
	if msg := strings.TrimSpace(printable(c.Message)); msg != "" {
		return what + ": " + msg
	}
	return what
}

// with names the signal where it is not the one that everybody expects.
func (c Cause) with() string {
	if s := c.Status().Signal; s != sigKILL {
		return " with " + SignalName(s)
	}
	return ""
}

func by(tid int32) string {
	if tid == 0 {
		return ""
	}
	return " by thread " + strconv.Itoa(int(tid))
}

func under(tid int32) string {
	if tid == 0 {
		return ""
	}
	return " under thread " + strconv.Itoa(int(tid))
}

func code(before string, c int32) string {
	if c == 0 {
		return ""
	}
	return before + strconv.Itoa(int(c))
}
