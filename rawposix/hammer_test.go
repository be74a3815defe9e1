package rawposix_test

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/rawposix"
)

// TestClose_NeverLetsACallReachAnotherFile has threads that use descriptors which others close and replace, while the
// host opens and closes files of its own, which get the numbers that become free. A call may find its descriptor closed
// or replaced, but what it reaches is a file of the cage's.
func TestClose_NeverLetsACallReachAnotherFile(t *testing.T) {
	e := newEnv(t)
	dir := tempDir(t)
	for name, content := range map[string]string{"a": "aaaaaaaa", "b": "bbbbbbbb", "host": "HOSTHOST"} {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := e.preopen(dir)
	names := [2]gp{e.str("a"), e.str("b")}
	ctx, stop := context.WithTimeout(context.Background(), hammerTime)
	defer stop()
	var wg sync.WaitGroup
	const lowest, numbers = 10, 4
	for n := range 2 {
		th := e.thread()
		wg.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				fd := e.sys.Syscall(th, abi.CallOpenat, e.args(root, names[i%2], oRdwr, 0))
				if fd < 0 {
					t.Errorf("openat: %s", show(fd))
					return
				}
				e.sys.Syscall(th, abi.CallDup2, e.args(fd, lowest+i%numbers))
				e.sys.Syscall(th, abi.CallClose, e.args(fd))
				e.sys.Syscall(th, abi.CallClose, e.args(lowest+(i+1)%numbers))
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				fd, err := unix.Open(dir+"/host", unix.O_RDWR|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Errorf("the host's open: %v", err)
					return
				}
				if err := unix.Close(fd); err != nil {
					t.Errorf("the host's close: %v", err) // somebody else has closed it
					return
				}
			}
		})
	}
	reads := [2]int{}
	for n := range reads {
		th, at := e.thread(), e.alloc(8)
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				fd := lowest + i%numbers
				switch r := e.sys.Syscall(th, abi.CallPread64, e.args(fd, at, 8, 0)); r {
				case abi.EBADF.Result():
				case 8:
					reads[n]++
					if s := string(e.bytes(at, 8)); s != "aaaaaaaa" && s != "bbbbbbbb" {
						t.Errorf("read %q", s)
						return
					}
				default:
					t.Errorf("pread64: %s", show(r))
					return
				}
				e.sys.Syscall(th, abi.CallPwrite64, e.args(fd, at, 0, 0))
			}
		})
	}
	wg.Wait()
	if reads[0] == 0 || reads[1] == 0 {
		t.Errorf("%v reads met an open descriptor", reads)
	}
	if got, err := os.ReadFile(dir + "/host"); err != nil || string(got) != "HOSTHOST" {
		t.Errorf("the host's file is %q, %v", got, err)
	}
}

// TestManyThreads_LeaveNothingOpen has threads make random calls on a few numbers. The env's end looks for leaks.
func TestManyThreads_LeaveNothingOpen(t *testing.T) {
	e := newEnv(t)
	dir := e.preopen(tempDir(t))
	path := e.str("f")
	e.must(abi.CallClose, e.open(dir, "f", oCreat))
	ctx, stop := context.WithTimeout(context.Background(), hammerTime)
	defer stop()
	var wg sync.WaitGroup
	for n := range 4 {
		th, at, rng := e.thread(), e.alloc(4096), rand.New(rand.NewPCG(1, uint64(n)))
		wg.Go(func() {
			call := func(n abi.Call, vals ...any) int64 { return e.sys.Syscall(th, n, e.args(vals...)) }
			fd := func() int { return 4 + rng.IntN(24) }
			for ctx.Err() == nil {
				switch rng.IntN(14) {
				case 0:
					call(abi.CallPipe2, at, oNonblock)
				case 1:
					call(abi.CallOpenat, dir, path, oRdwr|oNonblock, 0)
				case 2:
					call(abi.CallSocketpair, unix.AF_UNIX, unix.SOCK_STREAM|oNonblock, 0, at)
				case 3, 4, 5:
					call(abi.CallClose, fd())
				case 6:
					call(abi.CallDup2, fd(), fd())
				case 7:
					call(abi.CallDup, fd())
				case 8:
					if f := fd(); call(abi.CallFcntl, f, fGetFL)&oNonblock != 0 {
						call(abi.CallRead, f, at, 100)
					}
				case 9:
					if f := fd(); call(abi.CallFcntl, f, fGetFL)&oNonblock != 0 {
						call(abi.CallWrite, f, at, 100)
					}
				case 10:
					call(abi.CallFstat, fd(), at)
				case 11:
					call(abi.CallFcntl, fd(), fSetFL, oNonblock|oAppend)
				case 12:
					call(abi.CallLseek, fd(), 0, 0)
				case 13:
					for i := range 8 {
						le.PutUint32(e.bytes(at+gp(8*i), 4), uint32(fd()))
					}
					call(abi.CallPoll, at, 8, 0)
				}
				// What does not fit into the few numbers goes.
				for i := 28; i < 34; i++ {
					call(abi.CallClose, i)
				}
			}
		})
	}
	wg.Wait()
	if err := e.proc.Close(); err != nil {
		t.Error(err)
	}
	e.proc = nil
	if n := e.tables.Open(); n != 0 {
		t.Errorf("%d files are open in no table", n)
	}
}

// TestShare_CagesComeAndGo has cages that get a shared stream, use it and end, all at once.
func TestShare_CagesComeAndGo(t *testing.T) {
	r, w := hostPipe(t)
	e := newEnv(t)
	s, err := e.host.Share(w)
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan int, 1)
	const cages, rounds = 4, 300
	go func() {
		total, buf := 0, make([]byte, 4096)
		for total < cages*rounds {
			n, err := unix.Read(r, buf)
			if err != nil || n == 0 {
				break
			}
			total += n
		}
		drained <- total
	}()
	var wg sync.WaitGroup
	for n := range cages {
		wg.Go(func() {
			for range rounds {
				p, err := e.host.NewProcess(rawposix.ProcessConfig{Cage: abi.CageID(20 + n), Hooks: e.hooks})
				if err != nil {
					t.Error(err)
					return
				}
				th := e.thread()
				th.Native = p
				if err := p.InstallShared(1, s, 0); err != nil {
					t.Error(err)
				}
				e.sys.Syscall(th, abi.CallFcntl, e.args(1, fSetFL, 0))
				if r := e.sys.Syscall(th, abi.CallWrite, e.args(1, gp(0), 1)); r != 1 {
					t.Errorf("write: %s", show(r))
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if total := await(t, "the bytes", drained); total != cages*rounds {
		t.Errorf("%d bytes of %d arrived", total, cages*rounds)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
