package lindbridge

import (
	"io"
	"time"

	"github.com/lindbridge/lindbridge/rawposix"
)

// Program says what Spawn runs, and with what.
type Program struct {
	// Module is the program. Required.
	Module *Module
	// Args are its arguments, its own name first.
	Args []string
	// Env are its environment variables as NAME=value. None are taken from the host's environment.
	Env []string
	// Dirs are the directories that it can reach, with everything beneath them and nothing else of the file system.
	Dirs []Dir
	// Stdin is what it reads at descriptor 0, Stdout and Stderr where it writes with 1 and 2. A nil is /dev/null. An
	// *os.File is handed to the program as it is, stays the caller's, and is not switched to non-blocking for others
	// who share it. For anything else there is a pipe and a goroutine that copies, as in os/exec; Cage.Wait waits
	// until Stdout and Stderr have everything.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// MaxFDs is what it may raise its limit on descriptors to, of 1024 at first. 0: 1,048,576.
	MaxFDs uint64
	// Network is what it may reach by sockets of its own: nothing, unless this says otherwise.
	Network Network
	// TimeLimit ends the program when it has run that long. 0: never.
	TimeLimit time.Duration
	// StopGrace is how long its threads may take to leave once it is ended, before the exit is reported as stuck. A
	// stuck exit goes on by itself when they do. 0: DefaultStopGrace.
	StopGrace time.Duration
	// MaxThreads is the most threads that it may have at once; a thread more is EAGAIN to it. 0: the runtime's limit.
	MaxThreads int
	// MaxMemory is the most linear memory in bytes. A program that declares more is not started; one that asks for more
	// is refused it. 0: what the module says.
	MaxMemory uint64
}

// stopGrace is StopGrace with its default.
func (p *Program) stopGrace() time.Duration {
	if p.StopGrace <= 0 {
		return DefaultStopGrace
	}
	return p.StopGrace
}

// Network says what a program may reach by sockets of its own. Those of WASI have no call to make one: it is for programs
// of the Lind ABI.
type Network = rawposix.Network

// What a Network may be.
const (
	// NetworkNone is no sockets but pairs.
	NetworkNone = rawposix.NetworkNone
	// NetworkLoopback is TCP and UDP by the host's loopback interface.
	NetworkLoopback = rawposix.NetworkLoopback
	// NetworkAll is TCP and UDP wherever the host's own process may go.
	NetworkAll = rawposix.NetworkAll
)

// Dir is a directory that a program can reach.
type Dir struct {
	// Host is the directory's path on the host.
	Host string
	// Guest is its name in the program, such as "/" or "data".
	Guest string
}
