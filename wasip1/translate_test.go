package wasip1_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// Rights of path_open.
const (
	fdRead  = 1 << 1
	fdWrite = 1 << 6
)

// modes answers stat with the mode, and fcntl(F_GETFL) with the open flags.
func modes(mode uint32, open int64) func(*threei.Thread, abi.Call, *threei.Args) int64 {
	return func(_ *threei.Thread, call abi.Call, a *threei.Args) int64 {
		switch call {
		case abi.CallFstat:
			le.PutUint32(host(a.Val[1], 144)[24:], mode)
		case abi.CallFcntl:
			if a.Val[1] == unix.F_GETFL {
				return open
			}
		}
		return 0
	}
}

// answers answers every call with r.
func answers(r int64) func(*threei.Thread, abi.Call, *threei.Args) int64 {
	return func(*threei.Thread, abi.Call, *threei.Args) int64 { return r }
}

// TestCall_MakesTheseSystemCalls is the golden translation: each function's system calls and their arguments.
func TestCall_MakesTheseSystemCalls(t *testing.T) {
	const out = 0x8000
	tests := []struct {
		fn     string
		args   []uint64
		answer func(*threei.Thread, abi.Call, *threei.Args) int64
		errno  wasip1.Errno
		calls  string
	}{
		{"clock_res_get", []uint64{0, out}, nil, 0, "clock_getres(0, host)"},
		{"clock_res_get", []uint64{3, out}, nil, 0, "clock_getres(3, host)"},
		{"clock_res_get", []uint64{4, out}, nil, wasip1.ErrnoInval, ""},
		{"clock_time_get", []uint64{1, 1000, out}, nil, 0, "clock_gettime(1, host)"},
		{"clock_time_get", []uint64{2, 0, out}, answers(-22), wasip1.ErrnoInval, "clock_gettime(2, host)"},
		{"clock_time_get", []uint64{1 << 31, 0, out}, nil, wasip1.ErrnoInval, ""},

		{"fd_advise", []uint64{5, 10, 20, 0}, nil, 0, "fstat(5, host); fadvise64(5, 10, 20, 0)"},
		{"fd_advise", []uint64{5, 0, 0, 1}, nil, 0, "fstat(5, host); fadvise64(5, 0, 0, 2)"},
		{"fd_advise", []uint64{5, 0, 0, 2}, nil, 0, "fstat(5, host); fadvise64(5, 0, 0, 1)"},
		{"fd_advise", []uint64{5, 0, 0, 3}, nil, 0, "fstat(5, host); fadvise64(5, 0, 0, 3)"},
		{"fd_advise", []uint64{5, 0, 0, 4}, nil, 0, "fstat(5, host); fadvise64(5, 0, 0, 4)"},
		{"fd_advise", []uint64{5, 0, 0, 5}, nil, 0, "fstat(5, host); fadvise64(5, 0, 0, 5)"},
		{"fd_advise", []uint64{5, 0, 0, 6}, nil, wasip1.ErrnoInval, ""},
		{"fd_advise", []uint64{5, 1 << 63, 0, 0}, nil, wasip1.ErrnoInval, ""},
		{"fd_advise", []uint64{5, 0, 1 << 63, 0}, nil, wasip1.ErrnoInval, ""},
		{"fd_advise", []uint64{5, 0, 0, 0}, modes(unix.S_IFDIR, 0), wasip1.ErrnoBadf, "fstat(5, host)"},
		{"fd_allocate", []uint64{5, 10, 20}, nil, 0, "fallocate(5, 0, 10, 20)"},
		{"fd_allocate", []uint64{5, 0, 1}, answers(-95), wasip1.ErrnoNotsup, "fallocate(5, 0, 0, 1); fstat(5, host)"},
		{"fd_close", []uint64{5}, nil, 0, "close(5)"},
		{"fd_close", []uint64{0xffffff9c}, nil, wasip1.ErrnoBadf, ""},
		{"fd_datasync", []uint64{5}, nil, 0, "fstat(5, host); fdatasync(5)"},
		{"fd_datasync", []uint64{5}, modes(unix.S_IFDIR, 0), wasip1.ErrnoBadf, "fstat(5, host)"},
		{"fd_sync", []uint64{5}, nil, 0, "fstat(5, host); fsync(5)"},

		{
			"fd_fdstat_get",
			[]uint64{5, out},
			modes(unix.S_IFREG, 0), 0,
			"fstat(5, host); fcntl(5, 3, 00)",
		},
		{
			"fd_fdstat_get",
			[]uint64{5, out},
			modes(unix.S_IFCHR, 0), 0,
			"fstat(5, host); fcntl(5, 3, 00); lseek(5, 0, 1)",
		},
		{
			"fd_fdstat_get",
			[]uint64{5, out},
			modes(unix.S_IFSOCK, 0), 0,
			"fstat(5, host); fcntl(5, 3, 00); getsockopt(5, 1, 3, host, host)",
		},
		{
			"fd_fdstat_set_flags",
			[]uint64{5, 1},
			modes(unix.S_IFREG, 0o102004002), 0,
			"fstat(5, host); fcntl(5, 3, 00); fcntl(5, 4, 0102002002)", // append for nonblock, the rest as it was
		},
		{
			"fd_fdstat_set_flags",
			[]uint64{5, 4 | 16},
			modes(unix.S_IFREG, 0o4010001), 0,
			"fstat(5, host); fcntl(5, 3, 00); fcntl(5, 4, 04014001)", // sync is on already
		},
		{
			"fd_fdstat_set_flags",
			[]uint64{5, 2},
			modes(unix.S_IFREG, 1), wasip1.ErrnoInval,
			"fstat(5, host); fcntl(5, 3, 00)", // dsync cannot be turned on
		},
		{"fd_fdstat_set_flags", []uint64{5, 32}, nil, wasip1.ErrnoInval, ""},
		{"fd_fdstat_set_flags", []uint64{5, 4}, modes(unix.S_IFDIR, 0), wasip1.ErrnoBadf, "fstat(5, host)"},
		{"fd_fdstat_set_rights", []uint64{5, 0, 0}, nil, wasip1.ErrnoNotsup, "fcntl(5, 1, 00)"},
		{"fd_fdstat_set_rights", []uint64{5, 0, 0}, answers(-9), wasip1.ErrnoBadf, "fcntl(5, 1, 00)"},
		{"fd_filestat_get", []uint64{5, out}, modes(unix.S_IFREG, 0), 0, "fstat(5, host)"},
		{
			"fd_filestat_get",
			[]uint64{5, out},
			modes(unix.S_IFSOCK, 0), 0,
			"fstat(5, host); getsockopt(5, 1, 3, host, host)",
		},
		{"fd_filestat_set_size", []uint64{5, 100}, nil, 0, "ftruncate(5, 100)"},
		{
			"fd_filestat_set_size",
			[]uint64{5, 1 << 63},
			answers(-22), wasip1.ErrnoInval,
			"ftruncate(5, -9223372036854775808); fstat(5, host)",
		},
		{
			"fd_filestat_set_times",
			[]uint64{5, 1_000_000_002, 3, 1 | 4},
			nil, 0,
			"utimensat(5, NULL, 1.000000002 0.000000003, 0x0)",
		},
		{"fd_filestat_set_times", []uint64{5, 9, 9, 2 | 8}, nil, 0, "utimensat(5, NULL, now now, 0x0)"},
		{"fd_filestat_set_times", []uint64{5, 9, 9, 0}, nil, 0, "utimensat(5, NULL, omit omit, 0x0)"},
		{
			"fd_filestat_set_times",
			[]uint64{5, 1<<64 - 1, 9, 1},
			nil, 0,
			"utimensat(5, NULL, 18446744073.709551615 omit, 0x0)",
		},
		{"fd_filestat_set_times", []uint64{5, 9, 9, 1 | 2}, nil, wasip1.ErrnoInval, ""},
		{"fd_filestat_set_times", []uint64{5, 9, 9, 4 | 8}, nil, wasip1.ErrnoInval, ""},
		{"fd_filestat_set_times", []uint64{5, 9, 9, 16}, nil, wasip1.ErrnoInval, ""},

		{"fd_read", []uint64{5, 0x100, 1, out}, nil, 0, "read(5, g0x1000, 16)"},
		{"fd_read", []uint64{5, 0x100, 0, out}, nil, 0, "read(5, g0x0, 0)"},
		{"fd_read", []uint64{5, 0x100, 3, out}, nil, 0, "readv(5, [g0x1000+16 g0x2000+32], 2)"},
		{"fd_read", []uint64{5, 0x108, 2, out}, nil, 0, "read(5, g0x2000, 32)"}, // the other is empty
		{"fd_read", []uint64{5, 0x100, 1, out}, answers(-21), wasip1.ErrnoBadf, "read(5, g0x1000, 16)"},
		{"fd_write", []uint64{5, 0x100, 1, out}, nil, 0, "write(5, g0x1000, 16)"},
		{"fd_write", []uint64{5, 0x100, 3, out}, nil, 0, "writev(5, [g0x1000+16 g0x2000+32], 2)"},
		{"fd_pread", []uint64{5, 0x100, 1, 7, out}, nil, 0, "pread64(5, g0x1000, 16, 7)"},
		{"fd_pread", []uint64{5, 0x100, 3, 7, out}, nil, 0, "preadv(5, [g0x1000+16 g0x2000+32], 2, 7)"},
		{"fd_pwrite", []uint64{5, 0x100, 1, 7, out}, nil, 0, "pwrite64(5, g0x1000, 16, 7)"},
		{"fd_pwrite", []uint64{5, 0x100, 3, 7, out}, nil, 0, "pwritev(5, [g0x1000+16 g0x2000+32], 2, 7)"},

		{"fd_prestat_get", []uint64{3, out}, nil, 0, "fcntl(3, 1, 00)"},
		{"fd_prestat_get", []uint64{3, out}, answers(-9), wasip1.ErrnoBadf, "fcntl(3, 1, 00)"},
		{"fd_prestat_get", []uint64{5, out}, nil, wasip1.ErrnoBadf, "fcntl(5, 1, 00)"},
		{"fd_prestat_get", []uint64{4, out}, nil, wasip1.ErrnoBadf, "fcntl(4, 1, 00)"}, // no name for it
		{"fd_prestat_dir_name", []uint64{3, out, 100}, nil, 0, "fcntl(3, 1, 00)"},
		{"fd_prestat_dir_name", []uint64{3, out, 0}, nil, wasip1.ErrnoNametoolong, "fcntl(3, 1, 00)"},
		{"fd_readdir", []uint64{5, out, 0, 0, 0x100}, modes(unix.S_IFDIR, 0), 0, "fstat(5, host)"},
		{
			"fd_readdir",
			[]uint64{5, out, 64, 9, 0x100},
			modes(unix.S_IFDIR, 0), 0,
			"fstat(5, host); lseek(5, 9, 0); getdents64(5, host, 1024)",
		},
		{
			"fd_readdir",
			[]uint64{5, out, 0x8000, 0, 0x100},
			modes(unix.S_IFDIR, 0), 0,
			"fstat(5, host); lseek(5, 0, 0); getdents64(5, host, 32768)",
		},
		{"fd_readdir", []uint64{5, out, 64, 1 << 63, 0x100}, modes(unix.S_IFDIR, 0), 0, "fstat(5, host)"},
		{"fd_readdir", []uint64{5, out, 64, 0, 0x100}, modes(unix.S_IFREG, 0), wasip1.ErrnoNotdir, "fstat(5, host)"},
		{"fd_renumber", []uint64{5, 6}, nil, 0, "fcntl(5, 1, 00); fcntl(6, 1, 00); dup2(5, 6); close(5)"},
		{"fd_renumber", []uint64{5, 5}, nil, 0, "fcntl(5, 1, 00); fcntl(5, 1, 00)"},
		{"fd_renumber", []uint64{5, 6}, answers(-9), wasip1.ErrnoBadf, "fcntl(5, 1, 00)"},
		{"fd_renumber", []uint64{5, 1<<32 - 1}, nil, wasip1.ErrnoBadf, ""},
		{"fd_seek", []uint64{5, 1<<64 - 3, 1, out}, nil, 0, "fstat(5, host); lseek(5, -3, 1)"},
		{"fd_seek", []uint64{5, 4, 2, out}, nil, 0, "fstat(5, host); lseek(5, 4, 2)"},
		{"fd_seek", []uint64{5, 4, 3, out}, nil, wasip1.ErrnoInval, ""},
		{"fd_seek", []uint64{5, 4, 0, out}, modes(unix.S_IFDIR, 0), wasip1.ErrnoBadf, "fstat(5, host)"},
		{"fd_tell", []uint64{5, out}, nil, 0, "fstat(5, host); lseek(5, 0, 1)"},

		{"path_create_directory", []uint64{3, 0x200, 3}, nil, 0, `mkdirat(3, "a/b", 0777)`},
		{"path_remove_directory", []uint64{3, 0x200, 3}, nil, 0, `unlinkat(3, "a/b", 0x200)`},
		{"path_unlink_file", []uint64{3, 0x200, 3}, nil, 0, `unlinkat(3, "a/b", 0x0)`},
		{"path_unlink_file", []uint64{0xffffff9c, 0x200, 3}, nil, wasip1.ErrnoBadf, ""},
		{"path_filestat_get", []uint64{3, 0, 0x200, 3, out}, nil, 0, `newfstatat(3, "a/b", host, 0x100)`},
		{"path_filestat_get", []uint64{3, 1, 0x200, 3, out}, nil, 0, `newfstatat(3, "a/b", host, 0x0)`},
		{"path_filestat_get", []uint64{3, 2, 0x200, 3, out}, nil, wasip1.ErrnoInval, ""},
		{
			"path_filestat_set_times",
			[]uint64{3, 0, 0x200, 3, 5, 6, 1 | 8},
			nil, 0,
			`utimensat(3, "a/b", 0.000000005 now, 0x100)`,
		},
		{
			"path_filestat_set_times",
			[]uint64{3, 1, 0x200, 3, 5, 6, 4},
			nil, 0,
			`utimensat(3, "a/b", omit 0.000000006, 0x0)`,
		},
		{"path_filestat_set_times", []uint64{3, 0, 0x200, 3, 5, 6, 1 | 2}, nil, wasip1.ErrnoInval, ""},
		{"path_link", []uint64{3, 0, 0x200, 3, 4, 0x210, 1}, nil, 0, `linkat(3, "a/b", 4, "c", 0x0)`},
		{"path_link", []uint64{3, 1, 0x200, 3, 4, 0x210, 1}, nil, wasip1.ErrnoInval, ""},
		{"path_readlink", []uint64{3, 0x200, 3, out, 0x10001, 0x100}, nil, 0, `readlinkat(3, "a/b", g0x8000, 65536)`},
		{"path_rename", []uint64{3, 0x200, 3, 4, 0x210, 1}, nil, 0, `renameat(3, "a/b", 4, "c")`},
		{"path_symlink", []uint64{0x200, 3, 4, 0x210, 1}, nil, 0, `symlinkat("a/b", 4, "c")`},
		{"path_symlink", []uint64{0x220, 2, 4, 0x210, 1}, nil, wasip1.ErrnoPerm, ""},
		{"path_readlink", []uint64{3, 0x200, 3, out, 9, 0x100}, nil, 0, `readlinkat(3, "a/b", g0x8000, 9)`},
		{"path_readlink", []uint64{3, 0x200, 3, 0, 0, 0x100}, answers(1), 0, `readlinkat(3, "a/b", host, 1)`},

		{"path_open", []uint64{3, 0, 0x200, 3, 0, 0, 0, 0, out}, nil, 0, `openat(3, "a/b", 0400000, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, fdRead, 0, 0, out}, nil, 0, `openat(3, "a/b", 00, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, fdWrite, 0, 0, out}, nil, 0, `openat(3, "a/b", 01, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, 1<<64 - 1, 0, 0, out}, nil, 0, `openat(3, "a/b", 02, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 1, 0, 0, 0, out}, nil, 0, `openat(3, "a/b", 0100, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 2, 0, 0, 0, out}, nil, 0, `openat(3, "a/b", 0200000, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 4, 0, 0, 0, out}, nil, 0, `openat(3, "a/b", 00, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 1 | 4, 0, 0, 0, out}, nil, 0, `openat(3, "a/b", 0300, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 8, 0, 0, 0, out}, nil, 0, `openat(3, "a/b", 01000, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 2 | 1, 0, 0, 0, out}, nil, wasip1.ErrnoInval, ""},
		{"path_open", []uint64{3, 1, 0x200, 3, 2 | 8, 0, 0, 0, out}, nil, wasip1.ErrnoInval, ""},
		{"path_open", []uint64{3, 1, 0x200, 3, 16, 0, 0, 0, out}, nil, wasip1.ErrnoInval, ""},
		{"path_open", []uint64{3, 2, 0x200, 3, 0, 0, 0, 0, out}, nil, wasip1.ErrnoInval, ""},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, 0, 0, 32, out}, nil, wasip1.ErrnoInval, ""},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, 0, 0, 1, out}, nil, 0, `openat(3, "a/b", 02000, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, 0, 0, 2, out}, nil, 0, `openat(3, "a/b", 010000, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, 0, 0, 4, out}, nil, 0, `openat(3, "a/b", 04000, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, 0, 0, 8, out}, nil, 0, `openat(3, "a/b", 04010000, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, 0, 0, 16, out}, nil, 0, `openat(3, "a/b", 04010000, 0666)`},
		{"path_open", []uint64{3, 1, 0x200, 3, 0, 0, 0, 0, out}, answers(-1), wasip1.ErrnoPerm, `openat(3, "a/b", 00, 0666)`},

		{"proc_raise", []uint64{0}, nil, wasip1.ErrnoInval, ""},
		{"proc_raise", []uint64{6}, answers(7), 0, "getpid(); kill(7, 6)"},
		{"proc_raise", []uint64{15}, answers(7), 0, "getpid(); kill(7, 15)"},
		{"proc_raise", []uint64{16}, answers(7), 0, "getpid(); kill(7, 17)"}, // SIGCHLD
		{"proc_raise", []uint64{30}, answers(7), 0, "getpid(); kill(7, 31)"}, // SIGSYS
		{"proc_raise", []uint64{31}, nil, wasip1.ErrnoInval, ""},
		{"random_get", []uint64{0x1000, 64}, answers(64), 0, "getrandom(g0x1000, 64, 0)"},
		{"random_get", []uint64{0x1000, 0}, nil, 0, ""},
		{"sched_yield", nil, nil, 0, "sched_yield()"},
		{"sock_accept", []uint64{5, 0, out}, nil, 0, "accept4(5, 0, 0, 00)"},
		{"sock_accept", []uint64{5, 4, out}, nil, 0, "accept4(5, 0, 0, 04000)"},
		{"sock_accept", []uint64{5, 1, out}, nil, wasip1.ErrnoInval, ""},
		{"sock_recv", []uint64{5, 0x100, 1, 0, out, out + 8}, nil, 0, "recvmsg(5, [g0x1000+16], 0x0)"},
		{"sock_recv", []uint64{5, 0x100, 3, 3, out, out + 8}, nil, 0, "recvmsg(5, [g0x1000+16 g0x2000+32], 0x102)"},
		{"sock_recv", []uint64{5, 0x100, 1, 4, out, out + 8}, nil, wasip1.ErrnoInval, ""},
		{"sock_recv", []uint64{5, 0x1000, 1025, 0, out, out + 8}, nil, wasip1.ErrnoMsgsize, ""},
		{"sock_send", []uint64{5, 0x100, 1, 0, out}, nil, 0, "sendto(5, g0x1000, 16, 0x4000, 0, 0)"},
		{"sock_send", []uint64{5, 0x100, 3, 0, out}, nil, 0, "sendmsg(5, [g0x1000+16 g0x2000+32], 0x4000)"},
		{"sock_send", []uint64{5, 0x100, 1, 1, out}, nil, wasip1.ErrnoInval, ""},
		{"sock_send", []uint64{5, 0x1000, 1025, 0, out}, nil, wasip1.ErrnoMsgsize, ""},
		{"sock_shutdown", []uint64{5, 1}, nil, 0, "shutdown(5, 0)"},
		{"sock_shutdown", []uint64{5, 2}, nil, 0, "shutdown(5, 1)"},
		{"sock_shutdown", []uint64{5, 3}, nil, 0, "shutdown(5, 2)"},
		{"sock_shutdown", []uint64{5, 0}, nil, wasip1.ErrnoInval, ""},
		{"sock_shutdown", []uint64{5, 4}, nil, wasip1.ErrnoInval, ""},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		r, g := newRecorder(t, wasip1.EnvConfig{Args: []string{"prog"}, Preopens: []string{"/data"}})
		g.iovecs(0x100, 0x1000, 16, 0xfffffff0, 0, 0x2000, 32)
		g.put(0x200, "a/b")
		g.put(0x210, "c")
		g.put(0x220, "/c")
		r.answer = tt.answer
		if got := g.call(tt.fn, tt.args...); got != tt.errno {
			t.Errorf("%s(%#x): %v, want %v", tt.fn, tt.args, got, tt.errno)
		}
		if got := r.take(); got != tt.calls {
			t.Errorf("%s(%#x):\n got %s\nwant %s", tt.fn, tt.args, got, tt.calls)
		}
		seen[tt.fn] = true
	}
	// These have tests of their own.
	own := " args_get args_sizes_get environ_get environ_sizes_get poll_oneoff proc_exit thread-spawn "
	for _, f := range wasip1.Imports() {
		if !seen[f.Name] && !strings.Contains(own, " "+f.Name+" ") {
			t.Errorf("%s: no golden translation", f.Name)
		}
	}
}

func TestProcExit_PassesTheCodeAndNeverReturnsToTheGuest(t *testing.T) {
	for _, code := range []uint64{0, 1, 126, 255, 256, 1<<32 - 1} {
		r, g := newRecorder(t, wasip1.EnvConfig{})
		exit := fmt.Sprintf("exit_group(%d)", code)
		for answer, want := range map[int64]string{
			0:  exit,
			-1: exit + "; " + exit, // a grate that serves it says no, or is gone: then natively
		} {
			r.answer = answers(answer)
			if _, verdict := g.raw("proc_exit", 0xabc<<32|code); verdict != wasip1.QuitThread {
				t.Errorf("proc_exit(%d): verdict %d, want QuitThread", code, verdict)
			}
			if got := r.take(); got != want {
				t.Errorf("proc_exit(%d): %s, want %s", code, got, want)
			}
		}
	}
}

func TestThreadSpawn_AnswersAThreadIDOrANegativeErrno(t *testing.T) {
	for _, tt := range []struct{ answer, want int64 }{
		{1, 1},
		{2, 2},
		{1<<29 - 1, 1<<29 - 1},
		{1 << 29, -int64(wasip1.ErrnoIO)},
		{0, -int64(wasip1.ErrnoIO)},
		{abi.EAGAIN.Result(), -int64(wasip1.ErrnoAgain)},
		{abi.ENOSYS.Result(), -int64(wasip1.ErrnoNosys)},
		{int64(abi.GrateErr), -int64(wasip1.ErrnoIO)},
		{-1 << 63, -int64(wasip1.ErrnoIO)},
	} {
		r, g := newRecorder(t, wasip1.EnvConfig{})
		r.answer = answers(tt.answer)
		got, verdict := g.raw("thread-spawn", 0x89abcdef)
		if int64(int32(got)) != tt.want || got > 1<<32-1 || verdict != wasip1.Continue {
			t.Errorf("clone answers %d: %#x, verdict %d, want %d", tt.answer, got, verdict, tt.want)
		}
		if got, want := r.take(), "clone(0x10f00, 0x89abcdef)"; got != want {
			t.Errorf("thread-spawn: %s, want %s", got, want)
		}
	}
}

func TestCall_TrapsOnAnUnknownFunction(t *testing.T) {
	_, g := newRecorder(t, wasip1.EnvConfig{})
	if _, verdict := g.wasi.Call(g.thread, g.env, uint32(len(wasip1.Imports())), &g.args); verdict != wasip1.TrapThread {
		t.Errorf("verdict %d, want TrapThread", verdict)
	}
}
