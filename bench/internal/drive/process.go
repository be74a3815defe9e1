package drive

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of a process.
var (
	// ErrNoEnd: a contestant announced an attempt, and did not come back from it in time. It was killed.
	ErrNoEnd = errors.New("announced the attempt and did not come back from it")
	// ErrTimeout: no answer came in time. The contestant was killed.
	ErrTimeout = errors.New("no answer in time")
)

// Spec says how a contestant is started.
type Spec struct {
	// Args are the program and its arguments.
	Args []string
	// Env are added to the environment.
	Env []string
	// CPU is the processor that it is pinned to. Negative: none.
	CPU int
}

// Process is a contestant that runs. Its methods are for one goroutine.
type Process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies chan line
	silent  *os.File // the writing end of its descriptor 3
	pinned  bool
	ended   bool
}

// line is a line of its answers, or why there are no more.
type line struct {
	text []byte
	err  error
}

// Start starts a contestant. Whether it was pinned as asked Pinned tells: not every machine lets one.
func Start(spec Spec) (*Process, error) {
	p := &Process{cmd: exec.Command(spec.Args[0], spec.Args[1:]...), replies: make(chan line)}
	p.cmd.Env = append(os.Environ(), spec.Env...)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its own children are killed with it
	reading, writing, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reading.Close()
	p.silent = writing
	p.cmd.ExtraFiles = []*os.File{reading}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, writing.Close())
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, writing.Close())
	}
	if p.pinned, err = startPinned(p.cmd, spec.CPU); err != nil {
		return nil, errors.Join(err, writing.Close())
	}
	go p.read(out)
	return p, nil
}

// startPinned starts cmd with the processors that it inherits from this thread. Without that right it runs anywhere.
func startPinned(cmd *exec.Cmd, cpu int) (bool, error) {
	if cpu < 0 {
		return false, cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, one unix.CPUSet
	one.Set(cpu)
	if unix.SchedGetaffinity(0, &old) != nil || unix.SchedSetaffinity(0, &one) != nil {
		return false, cmd.Start()
	}
	err := cmd.Start()
	return true, errors.Join(err, unix.SchedSetaffinity(0, &old))
}

// read hands on the answers. It ends with the process.
func (p *Process) read(out io.Reader) {
	defer close(p.replies)
	lines := bufio.NewReader(out)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			p.replies <- line{err: err}
			return
		}
		p.replies <- line{text: text}
	}
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Pinned reports whether it runs on the one processor that was asked for.
func (p *Process) Pinned() bool { return p.pinned }

// Ended reports whether it was killed or closed.
func (p *Process) Ended() bool { return p.ended }

// Ask sends a request and waits for the answer, at most for as long as said, from when an attempt was announced anew. On
// any error of that the process is killed. An answer that says Error is an error, too, and the process goes on.
func (p *Process) Ask(patience time.Duration, n int, words ...string) (Reply, error) {
	request := strings.Join(append(words, fmt.Sprint(n)), " ")
	if p.ended {
		return Reply{}, fmt.Errorf("%s: the process has ended", request)
	}
	if _, err := fmt.Fprintln(p.in, request); err != nil {
		return Reply{}, errors.Join(fmt.Errorf("%s: %w", request, err), p.Kill())
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	armed := false
	for {
		select {
		case got := <-p.replies:
			var reply Reply
			err := got.err
			if err == nil {
				err = json.Unmarshal(got.text, &reply)
			}
			switch {
			case err != nil:
				return Reply{}, errors.Join(fmt.Errorf("%s: %w %q", request, err, got.text), p.Kill())
			case reply.Error != "":
				return Reply{}, fmt.Errorf("%s: %s", request, reply.Error)
			case !reply.Armed:
				return reply, nil
			}
			armed = true
			timer.Reset(patience)
		case <-timer.C:
			err := ErrTimeout
			if armed {
				err = ErrNoEnd
			}
			return Reply{}, errors.Join(fmt.Errorf("%s: %w", request, err), p.Kill())
		}
	}
}

// Kill ends the process and all that it started.
func (p *Process) Kill() error {
	if p.ended {
		return nil
	}
	if err := unix.Kill(-p.PID(), unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return p.finish()
}

// Close lets the process end by itself, and kills it if it does not within 10 s.
func (p *Process) Close() error {
	if p.ended {
		return nil
	}
	err := p.in.Close()
	overdue := time.AfterFunc(10*time.Second, func() { _ = unix.Kill(-p.PID(), unix.SIGKILL) })
	defer overdue.Stop()
	return errors.Join(err, p.finish())
}

// finish collects the process. How it ended does not matter any more.
func (p *Process) finish() error {
	p.ended = true
	for range p.replies { // until its output ends, which Wait closes
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return errors.Join(err, p.silent.Close())
	}
	return p.silent.Close()
}
