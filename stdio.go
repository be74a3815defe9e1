package lindbridge

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/rawposix"
)

// stdio is the plumbing of a cage's standard streams: the host's ends of its pipes, and the goroutines that copy.
type stdio struct {
	copies []func()   // what begin starts a goroutine for; set by install
	input  *os.File   // the host's end of the pipe to descriptor 0, or nil; set by install
	ends   []*os.File // all host's ends, for abandon; set by install
	output sync.WaitGroup
}

// install makes descriptors 0, 1 and 2 of the cage.
func (s *stdio) install(proc *rawposix.Process, null *rawposix.Shared, p Program) error {
	if err := s.installIn(proc, null, p.Stdin); err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	if err := s.installOut(proc, null, 1, p.Stdout); err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	if err := s.installOut(proc, null, 2, p.Stderr); err != nil {
		return fmt.Errorf("stderr: %w", err)
	}
	return nil
}

func (s *stdio) installIn(proc *rawposix.Process, null *rawposix.Shared, from io.Reader) error {
	if from == nil {
		return proc.InstallShared(0, null, 0)
	}
	if f, ok := from.(*os.File); ok {
		return installFile(proc, 0, f)
	}
	host, err := s.pipe(proc, 0)
	if err != nil {
		return err
	}
	s.input = host
	s.copies = append(s.copies, func() {
		// An error is the program's: it ended, or closed its input.
		_, _ = io.Copy(host, from)
		_ = host.Close()
	})
	return nil
}

func (s *stdio) installOut(proc *rawposix.Process, null *rawposix.Shared, vfd fdtables.FD, to io.Writer) error {
	if to == nil {
		return proc.InstallShared(vfd, null, 0)
	}
	if f, ok := to.(*os.File); ok {
		return installFile(proc, vfd, f)
	}
	host, err := s.pipe(proc, vfd)
	if err != nil {
		return err
	}
	s.output.Add(1)
	s.copies = append(s.copies, func() {
		defer s.output.Done()
		// When the writer fails the program gets EPIPE from here on, as from a shell's pipe.
		_, _ = io.Copy(to, host)
		_ = host.Close()
	})
	return nil
}

// pipe makes a pipe between the cage's descriptor and the file that it answers.
func (s *stdio) pipe(proc *rawposix.Process, vfd fdtables.FD) (*os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	guest, host := fds[0], fds[1]
	if vfd != 0 {
		guest, host = host, guest
	}
	file := os.NewFile(uintptr(host), fmt.Sprintf("pipe of descriptor %d", vfd))
	if err := proc.InstallFD(vfd, guest, rawposix.Owned, 0); err != nil {
		return nil, errors.Join(err, unix.Close(guest), file.Close())
	}
	s.ends = append(s.ends, file)
	return file, nil
}

// begin starts the copying, when nothing can fail any more.
func (s *stdio) begin() {
	for _, c := range s.copies {
		go c()
	}
}

// abandon closes the host's ends of a cage that never ran.
func (s *stdio) abandon() {
	for _, f := range s.ends {
		_ = f.Close()
	}
}

// finish calls then when the output was copied, which is at once if there is nothing to copy. The cage's ends are closed.
func (s *stdio) finish(then func()) {
	if s.input != nil {
		_ = s.input.Close() // the copying of input ends at its next write, if it has not
	}
	if len(s.copies) == 0 {
		then()
		return
	}
	go func() {
		s.output.Wait()
		then()
	}()
}

// installFile gives the cage a stream of the caller's.
func installFile(proc *rawposix.Process, vfd fdtables.FD, f *os.File) error {
	if f == nil {
		return os.ErrInvalid
	}
	conn, err := f.SyscallConn() // unlike Fd it leaves the file's blocking mode alone
	if err != nil {
		return err
	}
	var installed error
	err = conn.Control(func(fd uintptr) {
		installed = proc.InstallFD(vfd, int(fd), rawposix.Inherited, 0)
	})
	return errors.Join(err, installed)
}

// shareNull opens /dev/null for all cages of a runtime.
func shareNull(host *rawposix.Host) (*rawposix.Shared, error) {
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	shared, err := host.Share(int(f.Fd()))
	return shared, errors.Join(err, f.Close()) // the share has a descriptor of its own
}

// openDir opens a directory for a preopen.
func openDir(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return -1, &os.PathError{Op: "open directory", Path: path, Err: err}
		}
	}
}
