package rawposix_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
)

func TestIDs_AreTheCages(t *testing.T) {
	e := newEnv(t)
	e.th.TID = 42
	for call, want := range map[abi.Call]int64{
		abi.CallGetpid: int64(testCage), abi.CallGetppid: 3, abi.CallGettid: 42, abi.CallGetuid: 1000, abi.CallGeteuid: 1001,
		abi.CallGetgid: 1002, abi.CallGetegid: 1003,
	} {
		if got := e.call(call); got != want {
			t.Errorf("%v = %d, want %d", call, got, want)
		}
	}
	e.proc.SetParent(1)
	if got := e.call(abi.CallGetppid); got != 1 {
		t.Errorf("getppid after SetParent: %d", got)
	}
}

func TestExitSpawnAndSignals_GoToTheHooks(t *testing.T) {
	const thread = 0x10f00
	e := newEnv(t)
	e.th.TID = 5
	e.must(abi.CallExitGroup, 3)
	e.must(abi.CallExit, -1)
	e.hooks.tid = 9
	if tid := e.must(abi.CallClone, thread, 0xfffffff0); tid != 9 {
		t.Errorf("clone: %d", tid)
	}
	e.must(abi.CallKill, 0, 15)
	e.must(abi.CallKill, int(testCage), 9)
	e.must(abi.CallKill, 12, 0)
	e.must(abi.CallTgkill, int(testCage), 5, 6)
	want := []string{
		"exit_group 3 by 5", "exit -1 by 5", "spawn 4294967280", "signal 15 to 7", "signal 9 to 7", "signal 0 to 12",
		"signal 6 to 7",
	}
	if !slices.Equal(e.hooks.calls, want) {
		t.Errorf("hooks got %q, want %q", e.hooks.calls, want)
	}
	e.hooks.errno = abi.EAGAIN
	e.fails(abi.EAGAIN, abi.CallClone, thread, 0)
	e.fails(abi.EAGAIN, abi.CallKill, 12, 15)
	e.hooks.calls = nil
	e.fails(abi.ENOSYS, abi.CallClone, 17, 0)                 // a fork
	e.fails(abi.ENOSYS, abi.CallClone, thread&^0x100, 0)      // without the memory
	e.fails(abi.EINVAL, abi.CallClone, thread|0x80000, 0)     // thread-local storage
	e.fails(abi.EINVAL, abi.CallClone, thread, uint64(1)<<32) // no start_arg
	e.fails(abi.EINVAL, abi.CallKill, 7, 65)
	e.fails(abi.EINVAL, abi.CallKill, 7, -1)
	e.fails(abi.EPERM, abi.CallKill, -1, 15)
	e.fails(abi.ESRCH, abi.CallKill, -7, 15)
	e.fails(abi.EINVAL, abi.CallTgkill, 7, 0, 15)
	e.fails(abi.EINVAL, abi.CallTgkill, 0, 1, 15)
	e.fails(abi.EINVAL, abi.CallTgkill, 7, 1, 65)
	if len(e.hooks.calls) != 0 {
		t.Errorf("hooks got %q of what was refused", e.hooks.calls)
	}
}

func TestConstructors_RefuseWhatIsIncomplete(t *testing.T) {
	if _, err := rawposix.NewHost(rawposix.Config{}); !errors.Is(err, rawposix.ErrNoTables) {
		t.Errorf("NewHost without tables: %v", err)
	}
	e := newEnv(t)
	if _, err := e.host.NewProcess(rawposix.ProcessConfig{Cage: 8}); !errors.Is(err, rawposix.ErrNoHooks) {
		t.Errorf("NewProcess without hooks: %v", err)
	}
	if _, err := e.host.NewProcess(rawposix.ProcessConfig{Cage: testCage, Hooks: e.hooks}); !errors.Is(err, fdtables.ErrCageExists) {
		t.Errorf("a second process of the cage: %v", err)
	}
}

func TestClose_IsTheEndOfTheTable(t *testing.T) {
	e := newEnv(t)
	r, _ := e.pipe(0)
	p := e.proc
	e.proc = nil
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	e.fails(abi.EBADF, abi.CallRead, r, e.alloc(1), 1)
	e.fails(abi.EBADF, abi.CallDup, r)
	if err := p.Close(); !errors.Is(err, fdtables.ErrNoCage) {
		t.Errorf("a second Close: %v", err)
	}
	if n := e.tables.Open(); n != 0 {
		t.Errorf("%d descriptors are open", n)
	}
}

// TestFork_ChildSharesOpenFiles has a process made on a table that was forked.
func TestFork_ChildSharesOpenFiles(t *testing.T) {
	e := newEnv(t)
	fd := e.file("abcdef")
	if err := e.tables.Fork(testCage, 8); err != nil {
		t.Fatal(err)
	}
	table, err := e.tables.Table(8)
	if err != nil {
		t.Fatal(err)
	}
	child, err := e.host.NewProcess(rawposix.ProcessConfig{Cage: 8, Hooks: e.hooks, Table: table})
	if err != nil {
		t.Fatal(err)
	}
	th := &threei.Thread{Cage: testCage, TID: 1, Memory: e.mem, Cancel: e.cancel, Native: child}
	at := e.alloc(3)
	if n := e.sys.Syscall(th, abi.CallRead, e.args(fd, at, 3)); n != 3 || string(e.bytes(at, 3)) != "abc" {
		t.Fatalf("the child read %s, %q", show(n), e.bytes(at, 3))
	}
	e.must(abi.CallClose, fd)
	if n := e.sys.Syscall(th, abi.CallRead, e.args(fd, at, 3)); n != 3 || string(e.bytes(at, 3)) != "def" {
		t.Fatalf("the child read %s, %q after its parent's close", show(n), e.bytes(at, 3))
	}
	if err := child.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestForeignKinds_AreEBADFForTheHost(t *testing.T) {
	e := newEnv(t)
	fd, errno := e.proc.Table().Open(5, 1, false, 0) // a grate's kind, with a number that is a descriptor of the host
	if errno != 0 {
		t.Fatal(errno)
	}
	e.fails(abi.EBADF, abi.CallRead, int(fd), e.alloc(1), 1)
	e.fails(abi.EBADF, abi.CallFstat, int(fd), e.alloc(rawposix.StatSize))
	at := e.pollfds([2]int{int(fd), 1})
	if n := e.must(abi.CallPoll, at, 1, 0); n != 1 || e.revents(at, 0) != 0x20 {
		t.Errorf("poll: %d, %#x", n, e.revents(at, 0))
	}
	e.must(abi.CallClose, int(fd))
	stray, errno := e.proc.Table().Open(fdtables.KindKernel, 1<<40, false, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	e.fails(abi.EBADF, abi.CallRead, int(stray), e.alloc(1), 1)
	e.fails(abi.EBADF, abi.CallClose, int(stray)) // not ours to close: the kernel would take the low 32 bits for a descriptor
	e.fails(abi.EBADF, abi.CallClose, int(stray))
}

func TestPerFDInfo_IsWhatWasInstalled(t *testing.T) {
	e := newEnv(t)
	r, _ := hostPipe(t)
	if err := e.proc.InstallFD(6, r, rawposix.Inherited, 41); err != nil {
		t.Fatal(err)
	}
	if info, errno := e.proc.PerFDInfo(6); info != 41 || errno != 0 {
		t.Errorf("PerFDInfo: %d, %v", info, errno)
	}
	if _, errno := e.proc.PerFDInfo(7); errno != abi.EBADF {
		t.Errorf("PerFDInfo of a closed descriptor: %v", errno)
	}
}
