package rawposix

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/fdtables"
)

// ErrSharedClosed is answered for a Shared that was closed.
var ErrSharedClosed = errors.New("rawposix: shared descriptor is closed")

// Ownership says what InstallFD may do with a host descriptor.
type Ownership uint8

const (
	// Owned gives the descriptor and its open file description to the cage: it is closed with the cage's last
	// reference to it. A pipe, socket, terminal or other file that can block is switched to O_NONBLOCK, which every
	// process that shares the description would see: there should be none.
	Owned Ownership = iota
	// Inherited leaves the descriptor and the state of its open file description as they are, since other processes
	// use them, as with the standard streams. The cage gets a descriptor of its own on the same file.
	Inherited
)

// InstallFD puts a host descriptor into the cage's table as vfd; what was there is closed. info is the entry's
// PerFDInfo, which this package does not look at. The guest sees a descriptor that blocks, whatever O_NONBLOCK says on
// the host. On failure the descriptor still belongs to the caller, save that an Owned one may have O_NONBLOCK now.
//
// A listening socket must be Owned for accept to work on it: see the package's documentation.
func (p *Process) InstallFD(vfd fdtables.FD, hostFD int, own Ownership, info uint64) error {
	fd := hostFD
	var f *file
	var err error
	if own == Owned {
		f, err = adopt(hostFD)
	} else {
		fd, f, err = borrow(hostFD)
	}
	if err != nil {
		return fmt.Errorf("install host descriptor %d as %d: %w", hostFD, vfd, err)
	}
	p.host.files.Insert(uint64(fd), f)
	if errno := p.openAt(vfd, fd, info); errno != 0 {
		p.host.files.Delete(uint64(fd), f)
		if own != Owned {
			dropHost(fd)
		}
		return fmt.Errorf("install host descriptor %d as %d: %w", hostFD, vfd, errno)
	}
	return nil
}

// Shared is an inherited host descriptor that many cages get, such as a standard stream of the runtime's process:
// installing it costs no system call. Its methods are safe for concurrent use.
type Shared struct {
	host *Host // immutable
	fd   int   // the runtime's own descriptor; immutable
	f    *file // immutable
	// closed is set by the first Close.
	closed atomic.Bool
}

// Share makes a Shared of hostFD, which stays the caller's, as Inherited says. The caller ends it with Close.
func (h *Host) Share(hostFD int) (*Shared, error) {
	fd, f, err := borrow(hostFD)
	if err != nil {
		return nil, fmt.Errorf("share host descriptor %d: %w", hostFD, err)
	}
	f.shared = true
	h.files.Insert(uint64(fd), f)
	return &Shared{host: h, fd: fd, f: f}, nil
}

// Close gives the runtime's descriptor back. A second Close does nothing.
//
// Preconditions:
// No cage has it installed any more, and none ever will.
func (s *Shared) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return nil
	}
	s.host.files.Delete(uint64(s.fd), s.f)
	if errno := closeHost(s.fd); errno != 0 {
		return fmt.Errorf("close shared descriptor %d: %w", s.fd, errno)
	}
	return nil
}

// InstallShared puts s into the cage's table as vfd, as InstallFD does. O_NONBLOCK and O_APPEND are the cage's own:
// setting them on one cage's descriptor leaves the others' as they are.
func (p *Process) InstallShared(vfd fdtables.FD, s *Shared, info uint64) error {
	if s.closed.Load() {
		return fmt.Errorf("install shared descriptor as %d: %w", vfd, ErrSharedClosed)
	}
	p.own(s.f)
	if errno := p.openAt(vfd, s.fd, info); errno != 0 {
		return fmt.Errorf("install shared descriptor as %d: %w", vfd, errno)
	}
	return nil
}

// adopt takes over a descriptor whose description is the runtime's from here on.
func adopt(fd int) (*file, error) {
	f, err := describe(fd)
	if err != nil {
		return nil, err
	}
	if f.typ != typeDir {
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, err
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, err
	}
	return f, nil
}

// borrow makes a descriptor of the runtime's own on the file behind hostFD, whose description stays as it is. Pipes,
// FIFOs and terminals are opened anew, which gives a description that can have O_NONBLOCK. What cannot be opened anew,
// or means something else then, is duplicated and never asked to wait in the kernel.
func borrow(hostFD int) (int, *file, error) {
	f, err := describe(hostFD)
	if err != nil {
		return -1, nil, err
	}
	if f.typ == typePipe || f.typ == typeTTY && !isTerminalMaster(hostFD) || f.typ == typeOther && isMemoryDevice(hostFD) {
		fd, err := reopenNonblock(hostFD)
		if err != nil && f.typ == typeTTY {
			fd, err = openControllingTerminal(hostFD)
		}
		if err == nil {
			return fd, f, nil
		}
		// A pipe or a terminal of another user: no error, only less good.
	}
	switch {
	case f.typ == typeSocket:
		f.access = accessMessage
	case f.typ == typeRegular && !isPseudo(hostFD), f.typ == typeDir:
		f.access = accessPlain
	default:
		f.access = accessPolled
	}
	fd, err := unix.FcntlInt(uintptr(hostFD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	return fd, f, nil
}

// reopenNonblock opens the file behind fd anew, with O_NONBLOCK and for what fd is open for.
func reopenNonblock(fd int) (int, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return -1, err
	}
	flags = flags&unix.O_ACCMODE | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	return unix.Open(procFD(fd), flags, 0)
}

// openControllingTerminal opens the terminal behind fd by the name that everybody may open it by, if it is the controlling
// one: after a change of users, as by sudo, it is that name alone.
func openControllingTerminal(fd int) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, err
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, err
	}
	if dev, errno := sysIoctlInt(tty, unix.TIOCGDEV); errno != 0 || uint64(uint32(dev)) != uint64(st.Rdev) {
		dropHost(tty)
		return -1, unix.ENXIO
	}
	return tty, nil
}

// procFD names the file behind fd for calls that take a path.
func procFD(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// isTerminalMaster reports whether fd is the master side of a pseudo terminal: opening that anew makes another one.
func isTerminalMaster(fd int) bool {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	return err == nil
}

// isMemoryDevice reports whether fd is one of /dev/null, /dev/zero and their likes, which have no state.
func isMemoryDevice(fd int) bool {
	var st unix.Stat_t
	const memoryMajor = 1
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(uint64(st.Rdev)) == memoryMajor
}

// isPseudo reports whether fd, a regular file by its mode, is in a file system of the kernel's own, where reading some
// files waits for events.
func isPseudo(fd int) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.CGROUP2_SUPER_MAGIC:
		return true
	}
	return false
}
