package rawposix_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/rawposix"
)

func TestOpenat_MakesFilesWithoutSetIDBits(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		host := t.TempDir()
		dir := e.preopen(host)
		fd := e.must(abi.CallOpenat, dir, e.str("f"), oWronly|oCreat|oExcl, 0o107755)
		if fd != 0 {
			t.Errorf("openat gave %d, not the lowest free number", fd)
		}
		e.must(abi.CallMkdirat, dir, e.str("d"), 0o7750)
		var st unix.Stat_t
		for name, want := range map[string]uint32{"f": unix.S_IFREG | unix.S_ISVTX | 0o755, "d": unix.S_IFDIR | unix.S_ISVTX | 0o750} {
			if err := unix.Lstat(host+"/"+name, &st); err != nil || st.Mode != want {
				t.Errorf("%s has mode %o (%v), want %o", name, st.Mode, err, want)
			}
		}
		e.fails(abi.EEXIST, abi.CallOpenat, dir, e.str("f"), oWronly|oCreat|oExcl, 0o644)
		e.fails(abi.EOPNOTSUPP, abi.CallOpenat, dir, e.str("."), oTmpfile|oRdwr, 0o600)
		e.fails(abi.EINVAL, abi.CallOpenat, dir, e.str("x"), oCreat|oDirectory, 0o600)
		e.fails(abi.EISDIR, abi.CallOpenat, dir, e.str("d"), oWronly, 0)
		e.fails(abi.ELOOP, abi.CallOpenat, dir, e.link(dir, "f", "l"), oNofollow, 0)
		if entries, err := os.ReadDir(host); err != nil || len(entries) != 3 {
			t.Errorf("%d files, %v", len(entries), err)
		}
	})
}

// link makes a symbolic link and answers its path in guest memory.
func (e *env) link(dir int, target, path string) gp {
	e.t.Helper()
	at := e.str(path)
	e.must(abi.CallSymlinkat, e.str(target), dir, at)
	return at
}

func TestOpenat_DescriptorsOfTheHostCloseOnExecAndDoNotBlock(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		dir := e.preopen(t.TempDir())
		fds := []int{dir, e.open(dir, "f", oCreat|oRdwr), e.open(dir, ".", oDirectory), e.open(dir, "f", oPath)}
		r, w := e.pipe(0)
		a, b := e.socketpair(unix.SOCK_STREAM)
		for _, fd := range append(fds, r, w, a, b) {
			if f, err := unix.FcntlInt(uintptr(hostOf(e, fd)), unix.F_GETFD, 0); err != nil || f&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor %d: F_GETFD %#x, %v", fd, f, err)
			}
		}
		for _, fd := range []int{r, w, a, b} {
			e.must(abi.CallFcntl, fd, fSetFL, 0)
			if f, err := unix.FcntlInt(uintptr(hostOf(e, fd)), unix.F_GETFL, 0); err != nil || f&unix.O_NONBLOCK == 0 {
				t.Errorf("descriptor %d: F_GETFL %#x, %v", fd, f, err)
			}
		}
	})
}

func TestStat_TellsWhatTheHostDoes(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		host := t.TempDir()
		dir := e.preopen(host)
		fd := e.open(dir, "f", oCreat|oRdwr)
		e.write(fd, "12345")
		e.link(dir, "f", "l")
		at := e.alloc(rawposix.StatSize)
		check := func(what, path string) {
			t.Helper()
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				t.Fatal(err)
			}
			b := e.bytes(at, rawposix.StatSize)
			for _, f := range []struct {
				name      string
				got, want uint64
			}{
				{"st_dev", le.Uint64(b), st.Dev},
				{"st_ino", le.Uint64(b[8:]), st.Ino},
				{"st_nlink", le.Uint64(b[16:]), uint64(st.Nlink)},
				{"st_mode", uint64(le.Uint32(b[24:])), uint64(st.Mode)},
				{"st_uid", uint64(le.Uint32(b[28:])), uint64(st.Uid)},
				{"st_gid", uint64(le.Uint32(b[32:])), uint64(st.Gid)},
				{"padding", uint64(le.Uint32(b[36:])), 0},
				{"st_rdev", le.Uint64(b[40:]), st.Rdev},
				{"st_size", le.Uint64(b[48:]), uint64(st.Size)},
				{"st_blksize", le.Uint64(b[56:]), uint64(st.Blksize)},
				{"st_blocks", le.Uint64(b[64:]), uint64(st.Blocks)},
				{"st_atime", le.Uint64(b[72:]), uint64(st.Atim.Sec)},
				{"st_atime_nsec", le.Uint64(b[80:]), uint64(st.Atim.Nsec)},
				{"st_mtime", le.Uint64(b[88:]), uint64(st.Mtim.Sec)},
				{"st_mtime_nsec", le.Uint64(b[96:]), uint64(st.Mtim.Nsec)},
				{"st_ctime", le.Uint64(b[104:]), uint64(st.Ctim.Sec)},
				{"st_ctime_nsec", le.Uint64(b[112:]), uint64(st.Ctim.Nsec)},
			} {
				if f.got != f.want {
					t.Errorf("%s: %s is %d, want %d", what, f.name, f.got, f.want)
				}
			}
			for i := range b {
				b[i] = 0xaa
			}
		}
		e.must(abi.CallFstat, fd, at)
		check("fstat", host+"/f")
		e.must(abi.CallNewfstatat, dir, e.str("l"), at, 0)
		check("newfstatat", host+"/f")
		e.must(abi.CallNewfstatat, dir, e.str("l"), at, unix.AT_SYMLINK_NOFOLLOW)
		check("newfstatat nofollow", host+"/l")
		e.must(abi.CallNewfstatat, dir, e.str(""), at, unix.AT_EMPTY_PATH)
		check("newfstatat of the directory", host)
		e.must(abi.CallNewfstatat, fd, e.str(""), at, unix.AT_EMPTY_PATH)
		check("newfstatat of the file", host+"/f")
		e.must(abi.CallNewfstatat, fd, 0, at, unix.AT_EMPTY_PATH)
		check("newfstatat without a path", host+"/f")
		e.must(abi.CallNewfstatat, e.open(dir, "l", oPath|oNofollow), e.str(""), at, unix.AT_EMPTY_PATH)
		check("newfstatat of a link's descriptor", host+"/l")
		e.fails(abi.EFAULT, abi.CallNewfstatat, dir, 0, at, 0)
		e.fails(abi.EINVAL, abi.CallNewfstatat, dir, e.str("f"), at, 1)
		e.fails(abi.EFAULT, abi.CallFstat, fd, gp(memSize-143))
		e.fails(abi.EFAULT, abi.CallFstat, fd, rp(0))
		e.fails(abi.EFAULT, abi.CallNewfstatat, dir, e.str("f"), gp(memSize-143), 0)
	})
}

func TestUtimensat_SetsWhatItIsTold(t *testing.T) {
	const now, omit = 1<<30 - 1, 1<<30 - 2
	bothResolvers(t, func(t *testing.T, e *env) {
		host := t.TempDir()
		dir := e.preopen(host)
		fd := e.open(dir, "f", oCreat|oRdwr)
		e.link(dir, "f", "l")
		e.must(abi.CallMkdirat, dir, e.str("d"), 0o700)
		e.link(dir, "../f", "d/l")
		times := func(a, an, m, mn int64) gp {
			at := e.timespec(a, an)
			e.timespec(m, mn)
			return at
		}
		check := func(what, name string, a, an, m, mn int64) {
			t.Helper()
			var st unix.Stat_t
			if err := unix.Lstat(host+"/"+name, &st); err != nil {
				t.Fatal(err)
			}
			if st.Atim != (unix.Timespec{Sec: a, Nsec: an}) || st.Mtim != (unix.Timespec{Sec: m, Nsec: mn}) {
				t.Errorf("%s: %s has %v and %v, want %d.%09d and %d.%09d", what, name, st.Atim, st.Mtim, a, an, m, mn)
			}
		}
		e.must(abi.CallUtimensat, dir, e.str("f"), times(10, 11, 12, 13), 0)
		check("by name", "f", 10, 11, 12, 13)
		e.must(abi.CallUtimensat, dir, e.str("l"), times(20, 0, 22, 0), 0)
		check("through a link", "f", 20, 0, 22, 0)
		e.must(abi.CallUtimensat, dir, e.str("d/l"), times(21, 0, 23, 0), 0)
		check("through a link further down", "f", 21, 0, 23, 0)
		e.must(abi.CallUtimensat, dir, e.str("l"), times(30, 0, 32, 0), unix.AT_SYMLINK_NOFOLLOW)
		check("a link", "l", 30, 0, 32, 0)
		e.must(abi.CallUtimensat, dir, e.str("d/l"), times(31, 0, 33, 0), unix.AT_SYMLINK_NOFOLLOW)
		check("a link further down", "d/l", 31, 0, 33, 0)
		check("and not its target", "f", 21, 0, 23, 0)
		e.must(abi.CallUtimensat, fd, 0, times(40, 0, 42, 0), 0)
		check("a descriptor", "f", 40, 0, 42, 0)
		e.must(abi.CallUtimensat, fd, e.str(""), times(50, 0, 52, 0), unix.AT_EMPTY_PATH)
		check("a descriptor by the empty path", "f", 50, 0, 52, 0)
		e.must(abi.CallUtimensat, fd, 0, times(60, omit, 62, 5), 0)
		check("one of them", "f", 50, 0, 62, 5)
		e.must(abi.CallUtimensat, fd, 0, times(60, omit, 62, omit), 0)
		check("none of them", "f", 50, 0, 62, 5)
		e.must(abi.CallUtimensat, fd, 0, times(-5, 1, 70, 0), 0)
		check("before 1970", "f", -5, 1, 70, 0)
		var st unix.Stat_t
		for what, at := range map[string]gp{"now": times(0, now, 0, now), "no times": gp(^uint64(0))} {
			e.must(abi.CallUtimensat, fd, 0, times(1, 0, 1, 0), 0)
			arg := any(at)
			if what == "no times" {
				arg = 0
			}
			e.must(abi.CallUtimensat, dir, e.str("f"), arg, 0)
			if err := unix.Lstat(host+"/f", &st); err != nil || st.Atim.Sec < 1e9 || st.Mtim.Sec < 1e9 {
				t.Errorf("%s: %v, %v", what, st.Atim, st.Mtim)
			}
		}
		e.fails(abi.EINVAL, abi.CallUtimensat, fd, 0, times(1, 1e9, 1, 0), 0)
		e.fails(abi.EINVAL, abi.CallUtimensat, fd, 0, times(1, -1, 1, 0), 0)
		e.fails(abi.EINVAL, abi.CallUtimensat, dir, e.str("f"), times(1, 0, 1, 0), 1)
		e.fails(abi.EINVAL, abi.CallUtimensat, fd, 0, times(1, 0, 1, 0), unix.AT_SYMLINK_NOFOLLOW)
		e.fails(abi.ENOENT, abi.CallUtimensat, dir, e.str(""), times(1, 0, 1, 0), 0)
		e.fails(abi.EFAULT, abi.CallUtimensat, dir, e.str("f"), gp(memSize-31), 0)
		e.fails(abi.EBADF, abi.CallUtimensat, 55, 0, times(1, 0, 1, 0), 0)
	})
}

func TestReadlinkat_CutsAndNeverFollows(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		dir := e.preopen(t.TempDir())
		l := e.link(dir, "/absolute/target", "l")
		at := e.alloc(32)
		if n := e.must(abi.CallReadlinkat, dir, l, at, 32); string(e.bytes(at, int(n))) != "/absolute/target" {
			t.Errorf("readlinkat: %q", e.bytes(at, int(n)))
		}
		if n := e.must(abi.CallReadlinkat, dir, l, at, 4); n != 4 {
			t.Errorf("readlinkat into 4 bytes: %d", n)
		}
		if n := e.must(abi.CallReadlinkat, e.open(dir, "l", oPath|oNofollow), e.str(""), at, 32); n != 16 {
			t.Errorf("readlinkat of a descriptor: %d", n)
		}
		e.fails(abi.EINVAL, abi.CallReadlinkat, dir, l, at, 0)
		e.fails(abi.EINVAL, abi.CallReadlinkat, dir, l, at, -1)
		e.fails(abi.EFAULT, abi.CallReadlinkat, dir, l, gp(memSize-2), 4)
		e.open(dir, "f", oCreat)
		e.fails(abi.EINVAL, abi.CallReadlinkat, dir, e.str("f"), at, 32)
		e.fails(abi.EINVAL, abi.CallReadlinkat, dir, e.str("./f"), at, 32)
	})
}

func TestNameCalls_RefuseFlagsThatAreNotTheirs(t *testing.T) {
	e := newEnv(t)
	dir := e.preopen(t.TempDir())
	f := e.open(dir, "f", oCreat)
	path, to := e.str("f"), e.str("g")
	e.fails(abi.EINVAL, abi.CallUnlinkat, dir, path, 1)
	e.fails(abi.EINVAL, abi.CallRenameat2, dir, path, dir, to, 8)
	e.fails(abi.EINVAL, abi.CallRenameat2, dir, path, dir, to, unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE)
	e.fails(abi.EPERM, abi.CallRenameat2, dir, path, dir, to, unix.RENAME_WHITEOUT)
	e.fails(abi.EINVAL, abi.CallLinkat, dir, path, dir, to, 1)
	e.fails(abi.ENOENT, abi.CallLinkat, f, e.str(""), dir, to, unix.AT_EMPTY_PATH)
	e.fails(abi.ENOENT, abi.CallLinkat, f, e.str(""), dir, to, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_FOLLOW)
	e.fails(abi.ENOENT, abi.CallSymlinkat, e.str(""), dir, to)
	e.must(abi.CallRenameat, dir, path, dir, to)
	e.must(abi.CallUnlinkat, dir, to, 0)
}

func TestReadOnlyFileSystem_IsEROFS(t *testing.T) {
	e := newEnv(t)
	dir := e.preopen("/proc") // procfs refuses with its own numbers, which pass through
	e.fails(abi.ENOENT, abi.CallMkdirat, dir, e.str("x"), 0o700)
	e.fails(abi.EPERM, abi.CallUnlinkat, dir, e.str("version"), 0)
	host := t.TempDir()
	if err := unix.Mount("none", host, "tmpfs", unix.MS_RDONLY, "size=4k"); err != nil {
		t.Logf("no mount for EROFS: %v", err)
		return
	}
	defer func() {
		if err := unix.Unmount(host, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	ro := e.preopen(host)
	e.fails(abi.EROFS, abi.CallMkdirat, ro, e.str("x"), 0o700)
	e.fails(abi.EROFS, abi.CallOpenat, ro, e.str("x"), oCreat|oWronly, 0o600)
	e.fails(abi.EROFS, abi.CallSymlinkat, e.str("x"), ro, e.str("y"))
	e.fails(abi.EROFS, abi.CallUtimensat, ro, 0, 0, 0)
}

func TestFullFileSystem_IsENOSPC(t *testing.T) {
	e := newEnv(t)
	full := e.open(e.preopen("/dev"), "full", oWronly)
	at := e.alloc(4096)
	e.fails(abi.ENOSPC, abi.CallWrite, full, at, 100)
	e.fails(abi.ENOSPC, abi.CallPwrite64, full, at, 100, 0)
	host := t.TempDir()
	if err := unix.Mount("none", host, "tmpfs", 0, "size=64k,nr_inodes=8"); err != nil {
		t.Logf("no mount for a small file system: %v", err)
		return
	}
	defer func() {
		if err := unix.Unmount(host, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	dir := e.preopen(host)
	fd := e.open(dir, "f", oCreat|oRdwr)
	total := int64(0)
	for {
		n := e.call(abi.CallWrite, fd, at, 3000)
		if n == abi.ENOSPC.Result() {
			break
		}
		if n <= 0 {
			t.Fatalf("write: %s", show(n))
		}
		total += n
	}
	if total < 32<<10 || total > 64<<10 {
		t.Errorf("%d bytes went into 64 KiB", total)
	}
	e.fails(abi.ENOSPC, abi.CallFallocate, fd, 0, 0, 1<<20)
	e.must(abi.CallFtruncate, fd, 0)
	if n := e.must(abi.CallWrite, fd, at, 3000); n != 3000 {
		t.Errorf("write after ftruncate: %d", n)
	}
	made := 0
	for e.call(abi.CallMkdirat, dir, e.str(string(rune('A'+made))), 0o700) == 0 {
		made++
	}
	e.fails(abi.ENOSPC, abi.CallMkdirat, dir, e.str("one more"), 0o700)
	e.fails(abi.ENOSPC, abi.CallOpenat, dir, e.str("one more"), oCreat|oWronly, 0o600)
}

func TestForeignPermissions_AreEACCES(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("only root can make a file that it gives up the right to")
	}
	bothResolvers(t, func(t *testing.T, e *env) {
		host := t.TempDir()
		if err := os.WriteFile(host+"/f", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(host+"/closed", 0o700); err != nil {
			t.Fatal(err)
		}
		dir := e.preopen(host)
		asNobody(t, func() {
			e.fails(abi.EACCES, abi.CallOpenat, dir, e.str("f"), oRdonly, 0)
			e.fails(abi.EACCES, abi.CallOpenat, dir, e.str("closed/../f"), oPath, 0)
			e.fails(abi.EACCES, abi.CallOpenat, dir, e.str("closed/."), oPath, 0)
			e.fails(abi.EACCES, abi.CallOpenat, dir, e.str("closed/x"), oPath, 0)
			e.fails(abi.EACCES, abi.CallMkdirat, dir, e.str("d"), 0o700)
			e.fails(abi.EACCES, abi.CallUnlinkat, dir, e.str("f"), 0)
			e.must(abi.CallClose, e.open(dir, "closed/", oPath))
		})
	})
}

// TestForeignLinks_InATemporaryDirectoryAreNotFollowed is what fs.protected_symlinks is for. The walk always does it.
func TestForeignLinks_InATemporaryDirectoryAreNotFollowed(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("only root can make a link of another user's")
	}
	sysctl, err := os.ReadFile("/proc/sys/fs/protected_symlinks")
	if err != nil {
		t.Fatal(err)
	}
	bothResolvers(t, func(t *testing.T, e *env) {
		if e.host.HasOpenat2() && sysctl[0] == '0' {
			t.Skip("the host's kernel is told to follow them")
		}
		host := t.TempDir()
		dir := e.preopen(host)
		e.must(abi.CallClose, e.open(dir, "f", oCreat))
		e.must(abi.CallMkdirat, dir, e.str("tmp"), 0o700)
		e.must(abi.CallMkdirat, dir, e.str("d"), 0o700)
		e.link(dir, "../f", "tmp/mine")
		e.link(dir, "../f", "tmp/theirs")
		e.link(dir, "../d", "tmp/dir")
		for _, name := range []string{"theirs", "dir"} {
			if err := os.Lchown(host+"/tmp/"+name, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Chmod(host+"/tmp", 0o1777); err != nil {
			t.Fatal(err)
		}
		e.must(abi.CallClose, e.open(dir, "tmp/mine", oRdonly))
		e.fails(abi.EACCES, abi.CallOpenat, dir, e.str("tmp/theirs"), oRdonly, 0)
		e.fails(abi.EACCES, abi.CallNewfstatat, dir, e.str("tmp/theirs"), e.alloc(rawposix.StatSize), 0)
		e.must(abi.CallNewfstatat, dir, e.str("tmp/theirs"), e.alloc(rawposix.StatSize), unix.AT_SYMLINK_NOFOLLOW)
		e.must(abi.CallClose, e.open(dir, "tmp/dir/.", oPath)) // only a link at the end of a path is meant
	})
}
