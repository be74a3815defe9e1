package exitcoord

import "strconv"

// Status is how a cage ended, as its parent's wait sees it: by a signal if Signal is not 0, else with an exit code.
type Status struct {
	Code   int32 // the whole code that the program gave; a parent sees its low 8 bits. 0 if Signal is not
	Signal int32 // number of the signal on Linux x86-64, 0 if the cage exited
}

// CodeStatus is the status of a cage that exited with code.
func CodeStatus(code int32) Status { return Status{Code: code} }

// SignalStatus is the status of a cage that the signal ended.
func SignalStatus(signal int32) Status { return Status{Signal: signal} }

// ExitCode is the status as a shell shows it in $?: 128 plus the signal's number, or the low 8 bits of the code.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return int(s.Code & 0xff)
}

// WaitStatus is the status as wait4 stores it on Linux: what WIFEXITED, WTERMSIG and their likes take apart. The core
// dump flag is never set. See wait(2).
func (s Status) WaitStatus() uint32 {
	if s.Signal != 0 {
		return uint32(s.Signal) & 0x7f
	}
	return uint32(s.Code&0xff) << 8
}

// String is the status in words: "killed by SIGABRT", "exited with code 7".
func (s Status) String() string {
	if s.Signal != 0 {
		return "killed by " + SignalName(s.Signal)
	}
	return "exited with code " + strconv.Itoa(int(s.Code))
}

// The signals that this package picks by itself. See signal(7).
const (
	sigABRT int32 = 6
	sigKILL int32 = 9

	maxSignal     int32 = 64 // SIGRTMAX of Linux
	firstRealTime int32 = 32 // first of the real-time signals, which have no names of their own
)

// Linux x86-64, by number. Immutable.
var signalNames = [firstRealTime]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1",
	11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP",
	20: "TSTP", 21: "TTIN", 22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH",
	29: "IO", 30: "PWR", 31: "SYS",
}

// SignalName is the name of a signal of Linux x86-64, such as "SIGKILL", or "signal N" for a number without a name of
// its own.
func SignalName(signal int32) string {
	if signal > 0 && signal < firstRealTime {
		return "SIG" + signalNames[signal]
	}
	return "signal " + strconv.Itoa(int(signal))
}
