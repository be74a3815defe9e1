package lindbridge_test

import (
	"os"

	"golang.org/x/sys/unix"
)

// fcntl calls fcntl(2) on a file without changing its mode, as Fd would.
func fcntl(f *os.File, cmd, arg int) (result int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { result, failed = unix.FcntlInt(fd, cmd, arg) })
	if err == nil {
		err = failed
	}
	return result, err
}

func isBlocking(f *os.File) (bool, error) {
	flags, err := fcntl(f, unix.F_GETFL, 0)
	return flags&unix.O_NONBLOCK == 0, err
}

func setBlocking(f *os.File) error {
	flags, err := fcntl(f, unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	_, err = fcntl(f, unix.F_SETFL, flags&^unix.O_NONBLOCK)
	return err
}
