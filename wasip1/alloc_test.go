package wasip1_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// quietGuest is a guest whose system calls succeed and are not recorded, and whose scratch memory has its size.
func quietGuest(tb testing.TB) *guest {
	r, g := newRecorder(tb, wasip1.EnvConfig{Args: []string{"prog"}, Environ: []string{"A=b"}, Preopens: []string{"/"}})
	r.record = false
	r.answer = func(_ *threei.Thread, call abi.Call, a *threei.Args) int64 {
		switch call {
		case abi.CallGetrandom:
			return int64(a.Val[1])
		case abi.CallFstat:
			if a.Val[0] == 6 {
				le.PutUint32(host(a.Val[1], 144)[24:], unix.S_IFDIR)
			}
		case abi.CallClone:
			return 2
		}
		return 0
	}
	g.iovecs(0x100, 0x1000, 16, 0x2000, 16)
	g.put(0x200, "a/b")
	g.subscribe(sub{clock: 1, timeout: 1}, sub{tag: 1, fd: 9}, sub{clock: 1, absolute: true})
	return g
}

// allocCases is a call of each function.
var allocCases = []struct {
	fn   string
	args []uint64
}{
	{"args_get", []uint64{0x400, 0x500}},
	{"args_sizes_get", []uint64{0x400, 0x500}},
	{"environ_get", []uint64{0x400, 0x500}},
	{"environ_sizes_get", []uint64{0x400, 0x500}},
	{"clock_res_get", []uint64{1, 0x400}},
	{"clock_time_get", []uint64{1, 0, 0x400}},
	{"fd_advise", []uint64{5, 0, 0, 0}},
	{"fd_allocate", []uint64{5, 0, 1}},
	{"fd_close", []uint64{5}},
	{"fd_datasync", []uint64{5}},
	{"fd_fdstat_get", []uint64{5, 0x400}},
	{"fd_fdstat_set_flags", []uint64{5, 4}},
	{"fd_filestat_get", []uint64{5, 0x400}},
	{"fd_filestat_set_size", []uint64{5, 1}},
	{"fd_filestat_set_times", []uint64{5, 1, 1, 5}},
	{"fd_pread", []uint64{5, 0x100, 2, 0, 0x400}},
	{"fd_prestat_get", []uint64{3, 0x400}},
	{"fd_prestat_dir_name", []uint64{3, 0x400, 9}},
	{"fd_pwrite", []uint64{5, 0x100, 2, 0, 0x400}},
	{"fd_read", []uint64{5, 0x100, 1, 0x400}},
	{"fd_read", []uint64{5, 0x100, 2, 0x400}},
	{"fd_readdir", []uint64{6, 0x4000, 0x1000, 0, 0x500}},
	{"fd_renumber", []uint64{5, 6}},
	{"fd_seek", []uint64{5, 0, 0, 0x400}},
	{"fd_sync", []uint64{5}},
	{"fd_tell", []uint64{5, 0x400}},
	{"fd_write", []uint64{5, 0x100, 1, 0x400}},
	{"fd_write", []uint64{5, 0x100, 2, 0x400}},
	{"path_create_directory", []uint64{3, 0x200, 3}},
	{"path_filestat_get", []uint64{3, 0, 0x200, 3, 0x400}},
	{"path_filestat_set_times", []uint64{3, 0, 0x200, 3, 0, 0, 0}},
	{"path_link", []uint64{3, 0, 0x200, 3, 4, 0x200, 3}},
	{"path_open", []uint64{3, 0, 0x200, 3, 0, 0, 0, 0, 0x400}},
	{"path_readlink", []uint64{3, 0x200, 3, 0x400, 30, 0x500}},
	{"path_remove_directory", []uint64{3, 0x200, 3}},
	{"path_rename", []uint64{3, 0x200, 3, 4, 0x200, 3}},
	{"path_symlink", []uint64{0x200, 3, 4, 0x200, 3}},
	{"path_unlink_file", []uint64{3, 0x200, 3}},
	{"poll_oneoff", []uint64{subsAt, eventsAt, 3, countAt}},
	{"proc_exit", []uint64{0}},
	{"proc_raise", []uint64{6}},
	{"random_get", []uint64{0x400, 70}},
	{"sched_yield", nil},
	{"sock_accept", []uint64{5, 0, 0x400}},
	{"sock_recv", []uint64{5, 0x100, 2, 0, 0x400, 0x500}},
	{"sock_send", []uint64{5, 0x100, 1, 0, 0x400}},
	{"sock_send", []uint64{5, 0x100, 2, 0, 0x400}},
	{"sock_shutdown", []uint64{5, 1}},
	{"thread-spawn", []uint64{0}},
}

func TestCall_AllocatesNothing(t *testing.T) {
	for _, tt := range allocCases {
		g := quietGuest(t)
		if result, verdict := g.raw(tt.fn, tt.args...); verdict == wasip1.Continue && result != 0 && tt.fn != "thread-spawn" {
			t.Errorf("%s: %v", tt.fn, wasip1.Errno(result))
			continue
		}
		id := g.ids[tt.fn]
		if n := testing.AllocsPerRun(100, func() { g.wasi.Call(g.thread, g.env, id, &g.args) }); n != 0 {
			t.Errorf("%s: %v allocations a call", tt.fn, n)
		}
	}
}
