package rawposix_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/rawposix"
)

// pathCalls is each call that takes a path, with path as one of its arguments, such that it would do something to, or
// tell something of, what is there.
var pathCalls = map[string]func(e *env, dir int, path gp) int64{
	"openat": func(e *env, dir int, path gp) int64 { return e.call(abi.CallOpenat, dir, path, oPath, 0) },
	"openat creat": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallOpenat, dir, path, oRdwr|oCreat, 0o600)
	},
	"mkdirat":  func(e *env, dir int, path gp) int64 { return e.call(abi.CallMkdirat, dir, path, 0o700) },
	"unlinkat": func(e *env, dir int, path gp) int64 { return e.call(abi.CallUnlinkat, dir, path, 0) },
	"rmdir":    func(e *env, dir int, path gp) int64 { return e.call(abi.CallUnlinkat, dir, path, unix.AT_REMOVEDIR) },
	"renameat from": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallRenameat, dir, path, dir, e.str("new"))
	},
	"renameat to": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallRenameat, dir, e.str("f"), dir, path)
	},
	"renameat2 from": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallRenameat2, dir, path, dir, e.str("f"), unix.RENAME_EXCHANGE)
	},
	"linkat from": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallLinkat, dir, path, dir, e.str("new"), 0)
	},
	"linkat from, following": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallLinkat, dir, path, dir, e.str("new"), unix.AT_SYMLINK_FOLLOW)
	},
	"linkat to": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallLinkat, dir, e.str("f"), dir, path, 0)
	},
	"symlinkat": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallSymlinkat, e.str("target"), dir, path)
	},
	"readlinkat": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallReadlinkat, dir, path, e.alloc(64), 64)
	},
	"newfstatat": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallNewfstatat, dir, path, e.alloc(rawposix.StatSize), 0)
	},
	"newfstatat nofollow": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallNewfstatat, dir, path, e.alloc(rawposix.StatSize), unix.AT_SYMLINK_NOFOLLOW)
	},
	"utimensat": func(e *env, dir int, path gp) int64 { return e.call(abi.CallUtimensat, dir, path, 0, 0) },
	"utimensat nofollow": func(e *env, dir int, path gp) int64 {
		return e.call(abi.CallUtimensat, dir, path, 0, unix.AT_SYMLINK_NOFOLLOW)
	},
}

func TestEscapes_AreEXDEVForEveryCall(t *testing.T) {
	paths := []string{
		"/", "/etc/passwd", "/root/f", "..", "../", "../outside", "../outside/secret", "../root/f", "d/../../outside/secret",
		"../..", "d/../..", "to_d/../../outside", "out/secret", "d/out/secret", "abs/passwd", "abs_inside/etc/passwd",
		"out/", "out/.", "out_deep/", "root_up/root/f", "dots/../../outside/secret",
		// The way back in is none: outside, somebody else may have put anything in its place.
		"out_and_back/", "out/../root/f",
	}
	bothResolvers(t, func(t *testing.T, e *env) {
		base := tempDir(t) + "/t"
		buildTree(t, base)
		before := snapshot(t, base)
		dir := e.preopen(base + "/root")
		for _, path := range paths {
			for name, call := range pathCalls {
				func() {
					defer e.mark()()
					if r := call(e, dir, e.str(path)); r != abi.EXDEV.Result() && !refused(name, path, r) {
						t.Errorf("%s %q = %s", name, path, show(r))
					}
				}()
			}
		}
		if after := snapshot(t, base); after != before {
			t.Errorf("something was done:\n%s\nwas\n%s", after, before)
		}
		if r := e.call(abi.CallOpenat, dir, e.str("out_file"), oRdonly, 0); r != abi.EXDEV.Result() {
			t.Errorf("openat of a link out: %s", show(r))
		}
	})
}

// refused says that a call on a link with a slash after it never looks where the link leads: it acts on the link itself,
// and refuses, since that is no directory, or is one that exists.
func refused(name, path string, r int64) bool {
	switch path {
	case "out/", "out_deep/", "out_and_back/":
	default:
		return false
	}
	switch name {
	case "mkdirat", "symlinkat", "linkat to":
		return r == abi.EEXIST.Result()
	case "unlinkat", "rmdir", "renameat from", "renameat to", "renameat2 from":
		return r == abi.ENOTDIR.Result()
	case "openat creat":
		return r == abi.EISDIR.Result()
	}
	return false
}

func TestProc_MagicLinksAreWaysOut(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		dir := e.preopen("/proc")
		self := fmt.Sprint(os.Getpid())
		for _, path := range []string{
			"self/root", "self/root/etc/passwd", "self/cwd", "self/cwd/", "self/exe", "self/fd/0", "self/ns/mnt", "self/ns/net",
			self + "/root/etc", self + "/exe", "thread-self/cwd", "self/task/" + self + "/root/etc/passwd",
		} {
			e.fails(abi.EXDEV, abi.CallOpenat, dir, e.str(path), oRdonly|oNonblock, 0)
			e.fails(abi.EXDEV, abi.CallNewfstatat, dir, e.str(path+"/"), e.alloc(rawposix.StatSize), 0)
		}
		for _, path := range []string{"self/status", "thread-self/status", "mounts", "self/../version", "net/dev"} {
			e.must(abi.CallClose, e.open(dir, path, oRdonly))
		}
		e.fails(abi.ELOOP, abi.CallOpenat, dir, e.str("self/cwd"), oNofollow, 0)
	})
}

func TestAbsentWorkingDirectory_IsEBADF(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		for name, call := range pathCalls {
			if r := call(e, int(int64(-100)), e.str("x")); r != abi.EBADF.Result() {
				t.Errorf("%s at AT_FDCWD = %s", name, show(r))
			}
			if r := call(e, 77, e.str("x")); r != abi.EBADF.Result() {
				t.Errorf("%s at a closed descriptor = %s", name, show(r))
			}
		}
		file := e.file("content")
		for name, call := range pathCalls {
			if r := call(e, file, e.str("x")); r != abi.ENOTDIR.Result() {
				t.Errorf("%s at a file = %s", name, show(r))
			}
		}
	})
}

func TestPathArguments_AreBoundedStrings(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		dir := e.preopen(t.TempDir())
		if err := unix.Mkdir(fmt.Sprintf("/proc/self/fd/%d", hostOf(e, dir))+"/f", 0o700); err != nil {
			t.Fatal(err)
		}
		long := make([]byte, 5000)
		for i := range long {
			long[i] = "./"[i%2]
		}
		longest := append(append([]byte{}, long[:4094]...), 'f')
		for name, call := range pathCalls {
			func() {
				defer e.mark()()
				if r := call(e, dir, e.put(append(long, 0))); r != abi.ENAMETOOLONG.Result() {
					t.Errorf("%s of 5000 bytes = %s", name, show(r))
				}
				if r := call(e, dir, e.put(append(longest, 'x', 0))); r != abi.ENAMETOOLONG.Result() {
					t.Errorf("%s of 4096 bytes = %s", name, show(r))
				}
				if r := call(e, dir, e.put(append(longest, 0))); r == abi.ENAMETOOLONG.Result() {
					t.Errorf("%s of 4095 bytes = %s", name, show(r))
				}
				if r := call(e, dir, e.str("")); r != abi.ENOENT.Result() {
					t.Errorf("%s of nothing = %s", name, show(r))
				}
				copy(e.bytes(memSize-3, 3), "fff") // and no NUL before the end of memory
				for _, at := range []gp{memSize - 3, memSize, memSize + 100, gp(^uint64(0) - 5)} {
					if r := call(e, dir, at); r != abi.EFAULT.Result() {
						t.Errorf("%s at %#x = %s", name, uint64(at), show(r))
					}
				}
			}()
		}
	})
}

func TestPathArguments_MayBeTheRuntimesOwn(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		dir := e.preopen(t.TempDir())
		for _, n := range []int{1, 100, 255} {
			b := e.th.Scratch(n + 1)
			for i := range n {
				b[i] = 'x'
			}
			path := rp(guestmem.AddrOf(b))
			e.must(abi.CallMkdirat, dir, path, 0o700)
			e.must(abi.CallNewfstatat, dir, path, e.alloc(rawposix.StatSize), 0)
		}
		long := e.th.Scratch(5000)
		for i := range long {
			long[i] = '/'
		}
		e.fails(abi.ENAMETOOLONG, abi.CallMkdirat, dir, rp(guestmem.AddrOf(long)), 0o700)
		e.fails(abi.EFAULT, abi.CallMkdirat, dir, rp(0), 0o700)
	})
}

// hostOf is the host's descriptor behind one of the cage's.
func hostOf(e *env, vfd int) int {
	for _, d := range e.proc.Table().Snapshot() {
		if int(d.FD) == vfd {
			return int(d.Entry.UnderFD)
		}
	}
	e.t.Fatalf("descriptor %d is not open", vfd)
	return -1
}
