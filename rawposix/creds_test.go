package rawposix_test

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is a user without rights of its own.
const nobody = 65534

// asNobody runs fn on a thread whose file system user is nobody and that has no capabilities over files. The thread ends
// with it.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is not for others any more
		// The raw calls: those of package unix change every thread of the process.
		if _, _, e := unix.RawSyscall(unix.SYS_SETFSGID, nobody, 0, 0); e != 0 {
			t.Errorf("setfsgid: %v", e)
			return
		}
		if _, _, e := unix.RawSyscall(unix.SYS_SETFSUID, nobody, 0, 0); e != 0 {
			t.Errorf("setfsuid: %v", e)
			return
		}
		fn()
	}()
	<-done
}
