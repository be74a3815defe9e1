package rawposix

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// fileType says what a host descriptor stands for, as far as reads and writes differ.
type fileType uint8

const (
	typeRegular fileType = iota
	typeDir
	typePipe // a pipe or a FIFO
	typeTTY
	typeSocket
	typeOther // a device, or a file without a name such as an eventfd
)

// access says how a call on a file is kept from blocking in the kernel, where nothing could cancel it.
type access uint8

const (
	// accessNonblock: the open file description is the runtime's own and has O_NONBLOCK, so EAGAIN says "wait".
	accessNonblock access = iota
	// accessPlain: the description is shared with other processes, and calls on it never wait: regular files.
	accessPlain
	// accessMessage: a socket whose description is shared with other processes: MSG_DONTWAIT says it for each call.
	accessMessage
	// accessPolled: the description is shared and blocking, and there is no way to get one's own: poll first.
	accessPolled
)

// file is what is known of one host descriptor of the runtime, which is one open file as guests see it: their dup makes
// another number for the same descriptor.
type file struct {
	typ      fileType // immutable
	access   access   // immutable
	epoll    *epoll   // what else there is to an epoll, else nil; immutable
	sockType uint8    // SOCK_STREAM and so on if typ is typeSocket, else 0; immutable
	// shared says that the descriptor belongs to a Shared and not to the tables. Immutable.
	shared bool
	// loopback says that a socket may reach the host itself only. Immutable.
	loopback bool
	// lazyFIFO says that a FIFO was opened for reading without waiting for a writer, though the guest asked to:
	// its first read waits. Immutable.
	lazyFIFO bool
	// noNowait says that preadv2 and pwritev2 refuse RWF_NOWAIT here. Atomic; only ever set.
	noNowait atomic.Bool
	// status is the guest-visible O_NONBLOCK and, where the description is shared, O_APPEND (x86-64's bits). Atomic.
	// For a shared file see Process.statusOf.
	status atomic.Uint32
	mu     sync.Mutex // held while F_SETFL changes the host's flags
}

// stream reports whether a read may return less than asked for, and a blocking write takes everything, in order.
func (f *file) stream() bool {
	return f.typ == typePipe || f.typ == typeTTY || f.typ == typeSocket && f.sockType == unix.SOCK_STREAM
}

// datagrams reports whether one call moves one message.
func (f *file) datagrams() bool { return f.typ == typeSocket && f.sockType != unix.SOCK_STREAM }

// typeOf is the type of a file with the given mode. A character device that is a terminal is typeOther here: see
// isTerminal.
func typeOf(mode uint32) fileType {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return typeRegular
	case unix.S_IFDIR:
		return typeDir
	case unix.S_IFIFO:
		return typePipe
	case unix.S_IFSOCK:
		return typeSocket
	}
	return typeOther
}

// isTerminal reports whether fd is a terminal, or the master of one.
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// describe is the file behind fd, whose description is the runtime's own and has O_NONBLOCK if it can block.
func describe(fd int) (*file, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	f := &file{typ: typeOf(st.Mode)}
	switch {
	case f.typ == typeSocket:
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err != nil {
			return nil, err
		}
		f.sockType = uint8(n)
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && isTerminal(fd):
		f.typ = typeTTY
	}
	return f, nil
}
