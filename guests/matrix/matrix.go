package matrix

import (
	"fmt"
	"slices"
)

// Who ends the program, or reports that it is ready to be ended.
type Who uint8

// The two kinds of thread. With Other, the first thread takes part in what the others do.
const (
	Main Who = iota
	Other
)

// String is the name that stands in a case's name.
func (w Who) String() string { return [...]string{"main", "other"}[w] }

// How the program ends.
type How uint8

// The ways to end.
const (
	// ProcExit calls proc_exit(CodeExit).
	ProcExit How = iota
	// Return comes back from the thread's entry. From _start that ends the program with 0. From wasi_thread_start it
	// must end that thread alone: the first thread, which waits for just that, then calls proc_exit(CodeAfterReturn).
	Return
	// Trap executes unreachable, two named functions deep.
	Trap
	// HostKill writes "R" and waits to be killed by the host.
	HostKill
	// TimeLimit writes "R" and waits for its time limit to pass.
	TimeLimit
)

// String is the name that stands in a case's name.
func (h How) String() string {
	return [...]string{"proc_exit", "return", "trap", "host_kill", "time_limit"}[h]
}

// While is what the other threads are doing when the program ends.
type While uint8

// The activities. Those with a timeout have one of an hour, which no test waits for.
const (
	// Spin is an endless loop that calls nothing.
	Spin While = iota
	// HostCalls is an endless loop of short host calls.
	HostCalls
	// Wait32 and its three likes are memory.atomic.wait32 and wait64, with and without a timeout.
	Wait32
	Wait32Timeout
	Wait64
	Wait64Timeout
	// PollClock is poll_oneoff on a clock, PollFD on descriptor 0 becoming readable.
	PollClock
	PollFD
	// ReadFD is fd_read of descriptor 0.
	ReadFD
	// Spawning keeps spawning threads that return at once, a few at a time for each thread.
	Spawning
	// Relay spawns its successor and returns, and so does that: threads begin and end all the time.
	Relay
	// Returning returns from the thread's entry at the very moment the program ends.
	Returning
	// Exiting calls proc_exit(CodeOther) at the very moment the program ends: either cause may come first.
	Exiting
	// Mixed has threads that Spin, Wait32, ReadFD, Wait64Timeout, PollClock and PollFD, by turns.
	Mixed
	// Blocked is Mixed without Spin: such a program uses no CPU.
	Blocked
)

// turns are what the threads of Mixed do. Those of Blocked do all but the first.
var turns = [...]While{Spin, Wait32, ReadFD, Wait64Timeout, PollClock, PollFD}

var whileNames = [...]string{
	"spin", "host_calls", "wait32", "wait32_timeout", "wait64", "wait64_timeout", "poll_clock", "poll_fd", "read_fd",
	"spawning", "relay", "returning", "exiting", "mixed", "blocked",
}

// String is the name that stands in a case's name.
func (w While) String() string { return whileNames[w] }

// NeedsStdin reports whether the activity uses descriptor 0: see the package doc for what it must be.
func (w While) NeedsStdin() bool { return w == PollFD || w == ReadFD || w == Mixed || w == Blocked }

// Exit codes that the programs use.
const (
	// CodeExit is what ProcExit exits with.
	CodeExit = 42
	// CodeOther is what the other threads of Exiting exit with.
	CodeOther = 43
	// CodeAfterReturn is what the first thread exits with when another thread has returned.
	CodeAfterReturn = 7
	// FailSpawn says that a spawn failed that had no reason to.
	FailSpawn = 70
	// FailCameBack says that a call which blocks for good came back to the guest.
	FailCameBack = 71
	// FailWrite says that "R" could not be written.
	FailWrite = 72
)

// Cause is why a program ended, in the words of exitcoord's causes.
type Cause string

// The causes that a case can end with.
const (
	CauseExitGroup    Cause = "ExitGroup"
	CauseMainReturned Cause = "MainReturned"
	CauseTrap         Cause = "Trap"
	CauseHostKill     Cause = "HostKill"
	CauseTimeLimit    Cause = "TimeLimit"
)

// By is which thread caused the end.
type By uint8

// The authors of an end.
const (
	ByHost By = iota
	ByMain
	ByOther
	ByAny // some thread of the program
)

// Outcome is one end that a case may come to.
type Outcome struct {
	Cause Cause
	// Code is the exit code, if Signal is 0.
	Code int32
	// Signal is the signal that the status shows, or 0.
	Signal int32
	By     By
}

// Signals in outcomes, by their Linux numbers.
const (
	sigAbort = 6
	sigKill  = 9
)

// Case is one program and what it must end with.
type Case struct {
	Name  string
	Who   Who
	How   How
	While While
	// Threads is how many threads are busy with While: with Other, one of them is the first thread, unless How is Return.
	Threads int
	// Wat is the program.
	Wat string
	// Want are the ends that are right. More than one where two causes race.
	Want []Outcome
}

// Accepts reports whether o is an end that the case may come to.
func (c Case) Accepts(o Outcome) bool {
	return slices.ContainsFunc(c.Want, func(w Outcome) bool {
		return w.Cause == o.Cause && w.Code == o.Code && w.Signal == o.Signal &&
			(w.By == o.By || w.By == ByAny && (o.By == ByMain || o.By == ByOther))
	})
}

// Memory names the import that the program's shared memory comes from, and its limits in pages of 64 KiB.
type Memory struct {
	Module, Name string
	Min, Max     uint32
}

// envMemory is what the usual toolchains import.
var envMemory = Memory{Module: "env", Name: "memory", Min: 2, Max: 16}

// MaxThreads is the largest Threads of a case: its scratch memory must fit one page.
const MaxThreads = 64

// New is the case for one triple with the given number of busy threads, over the memory that toolchains import
// (env.memory). It panics unless 1 <= threads <= MaxThreads.
func New(who Who, how How, while While, threads int) Case {
	return newCase(who, how, while, threads, envMemory)
}

func newCase(who Who, how How, while While, threads int, memory Memory) Case {
	if threads < 1 || threads > MaxThreads {
		panic(fmt.Sprintf("matrix: %d threads, want 1 to %d", threads, MaxThreads))
	}
	c := Case{
		Name: fmt.Sprintf("%v/%v/while_%v", who, how, while),
		Who:  who, How: how, While: while, Threads: threads,
		Want: want(who, how, while),
	}
	c.Wat = render(c, memory)
	return c
}

// Cases are all triples with three busy threads each.
func Cases() []Case {
	var cases []Case
	for who := Main; who <= Other; who++ {
		for how := ProcExit; how <= TimeLimit; how++ {
			for while := Spin; while <= Blocked; while++ {
				cases = append(cases, New(who, how, while, 3))
			}
		}
	}
	return cases
}

// want are the right ends of a triple.
func want(who Who, how How, while While) []Outcome {
	by := ByMain
	if who == Other {
		by = ByOther
	}
	var o Outcome
	switch how {
	case ProcExit:
		o = Outcome{Cause: CauseExitGroup, Code: CodeExit, By: by}
	case Return:
		o = Outcome{Cause: CauseMainReturned, By: ByMain}
		if who == Other {
			o = Outcome{Cause: CauseExitGroup, Code: CodeAfterReturn, By: ByMain}
		}
	case Trap:
		o = Outcome{Cause: CauseTrap, Signal: sigAbort, By: by}
	case HostKill:
		o = Outcome{Cause: CauseHostKill, Signal: sigKill}
	case TimeLimit:
		o = Outcome{Cause: CauseTimeLimit, Signal: sigKill}
	}
	if while == Exiting {
		return []Outcome{o, {Cause: CauseExitGroup, Code: CodeOther, By: ByAny}}
	}
	return []Outcome{o}
}
