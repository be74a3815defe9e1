package wasip1_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// pointer is an argument that points to memory: its index, and how many bytes the function needs there.
type pointer struct{ arg, size uint64 }

// pointerCases has a call of each function that takes pointers, which succeeds, and its pointers. In memory are two
// buffers of 16 bytes in a list at 0x100, the path "a" at 0x200 and a clock subscription at 0x300.
var pointerCases = []struct {
	fn       string
	args     []uint64
	pointers []pointer
}{
	{"args_get", []uint64{0x400, 0x500}, []pointer{{0, 8}, {1, 9}}},
	{"args_sizes_get", []uint64{0x400, 0x500}, []pointer{{0, 4}, {1, 4}}},
	{"environ_get", []uint64{0x400, 0x500}, []pointer{{0, 4}, {1, 4}}},
	{"environ_sizes_get", []uint64{0x400, 0x500}, []pointer{{0, 4}, {1, 4}}},
	{"clock_res_get", []uint64{1, 0x400}, []pointer{{1, 8}}},
	{"clock_time_get", []uint64{1, 0, 0x400}, []pointer{{2, 8}}},
	{"fd_fdstat_get", []uint64{5, 0x400}, []pointer{{1, 24}}},
	{"fd_filestat_get", []uint64{5, 0x400}, []pointer{{1, 64}}},
	{"fd_pread", []uint64{5, 0x100, 2, 0, 0x400}, []pointer{{1, 16}, {4, 4}}},
	{"fd_prestat_get", []uint64{3, 0x400}, []pointer{{1, 8}}},
	{"fd_prestat_dir_name", []uint64{3, 0x400, 9}, []pointer{{1, 9}}},
	{"fd_pwrite", []uint64{5, 0x100, 2, 0, 0x400}, []pointer{{1, 16}, {4, 4}}},
	{"fd_read", []uint64{5, 0x100, 2, 0x400}, []pointer{{1, 16}, {3, 4}}},
	{"fd_readdir", []uint64{6, 0x400, 50, 0, 0x500}, []pointer{{1, 50}, {4, 4}}},
	{"fd_seek", []uint64{5, 0, 0, 0x400}, []pointer{{3, 8}}},
	{"fd_tell", []uint64{5, 0x400}, []pointer{{1, 8}}},
	{"fd_write", []uint64{5, 0x100, 2, 0x400}, []pointer{{1, 16}, {3, 4}}},
	{"path_create_directory", []uint64{3, 0x200, 1}, []pointer{{1, 1}}},
	{"path_filestat_get", []uint64{3, 0, 0x200, 1, 0x400}, []pointer{{2, 1}, {4, 64}}},
	{"path_filestat_set_times", []uint64{3, 0, 0x200, 1, 0, 0, 0}, []pointer{{2, 1}}},
	{"path_link", []uint64{3, 0, 0x200, 1, 4, 0x200, 1}, []pointer{{2, 1}, {5, 1}}},
	{"path_open", []uint64{3, 0, 0x200, 1, 0, 0, 0, 0, 0x400}, []pointer{{2, 1}, {8, 4}}},
	{"path_readlink", []uint64{3, 0x200, 1, 0x400, 30, 0x500}, []pointer{{1, 1}, {3, 30}, {5, 4}}},
	{"path_remove_directory", []uint64{3, 0x200, 1}, []pointer{{1, 1}}},
	{"path_rename", []uint64{3, 0x200, 1, 4, 0x200, 1}, []pointer{{1, 1}, {4, 1}}},
	{"path_symlink", []uint64{0x200, 1, 4, 0x200, 1}, []pointer{{0, 1}, {3, 1}}},
	{"path_unlink_file", []uint64{3, 0x200, 1}, []pointer{{1, 1}}},
	{"poll_oneoff", []uint64{0x300, 0x400, 1, 0x500}, []pointer{{0, 48}, {1, 32}, {3, 4}}},
	{"random_get", []uint64{0x400, 70}, []pointer{{0, 70}}},
	{"sock_accept", []uint64{5, 0, 0x400}, []pointer{{2, 4}}},
	{"sock_recv", []uint64{5, 0x100, 2, 0, 0x400, 0x500}, []pointer{{1, 16}, {4, 4}, {5, 2}}},
	{"sock_send", []uint64{5, 0x100, 2, 0, 0x400}, []pointer{{1, 16}, {4, 4}}},
}

// newPointerGuest is the guest that pointerCases speaks of. Descriptor 6 is a directory.
func newPointerGuest(t *testing.T) (*recorder, *guest) {
	r, g := newRecorder(t, wasip1.EnvConfig{
		Args:     []string{"prog", "arg"},
		Environ:  []string{"A=b"},
		Preopens: []string{"/some/dir"},
	})
	g.iovecs(0x100, 0x1000, 16, 0x2000, 16)
	g.put(0x200, "a")
	r.answer = func(t *threei.Thread, call abi.Call, a *threei.Args) int64 {
		switch {
		case call == abi.CallFstat && a.Val[0] == 6:
			return modes(unix.S_IFDIR, 0)(t, call, a)
		case call == abi.CallGetrandom:
			return int64(a.Val[1])
		}
		return 0
	}
	return r, g
}

func TestCall_TakesPointersAtTheVeryEndOfMemory(t *testing.T) {
	for _, tt := range pointerCases {
		for _, p := range tt.pointers {
			_, g := newPointerGuest(t)
			args := append([]uint64(nil), tt.args...)
			// What the function reads there moves with the pointer.
			copy(g.mem[memorySize-p.size:], g.mem[args[p.arg]:args[p.arg]+p.size])
			args[p.arg] = memorySize - p.size
			if errno := g.call(tt.fn, args...); errno != 0 {
				t.Errorf("%s: argument %d at the end of memory: %v", tt.fn, p.arg, errno)
			}
		}
	}
}

// TestCall_FaultsBeforeItHasAnyEffect holds for each pointer alone, so in particular for those to outputs.
func TestCall_FaultsBeforeItHasAnyEffect(t *testing.T) {
	for _, tt := range pointerCases {
		for _, p := range tt.pointers {
			for _, at := range []uint64{memorySize - p.size + 1, memorySize, memorySize + 1, 1 << 31, 1<<32 - p.size, 1<<32 - 1} {
				r, g := newPointerGuest(t)
				args := append([]uint64(nil), tt.args...)
				args[p.arg] = at
				before := append([]byte(nil), g.mem...)
				if errno := g.call(tt.fn, args...); errno != wasip1.ErrnoFault {
					t.Errorf("%s: argument %d at %#x: %v, want fault", tt.fn, p.arg, at, errno)
				}
				if calls := r.take(); calls != "" {
					t.Errorf("%s: argument %d at %#x: system calls %s, want none", tt.fn, p.arg, at, calls)
				}
				if string(before) != string(g.mem) {
					t.Errorf("%s: argument %d at %#x: memory was written", tt.fn, p.arg, at)
				}
			}
		}
	}
}

func TestPointerCases_AreAllFunctionsWithPointers(t *testing.T) {
	none := map[string]bool{
		"fd_advise": true, "fd_allocate": true, "fd_close": true, "fd_datasync": true, "fd_fdstat_set_flags": true,
		"fd_fdstat_set_rights": true, "fd_filestat_set_size": true, "fd_filestat_set_times": true, "fd_renumber": true,
		"fd_sync": true, "proc_exit": true, "proc_raise": true, "sched_yield": true, "sock_shutdown": true,
		"thread-spawn": true,
	}
	for _, tt := range pointerCases {
		none[tt.fn] = true
	}
	for _, f := range wasip1.Imports() {
		if !none[f.Name] {
			t.Errorf("%s: not in pointerCases", f.Name)
		}
	}
}

func TestCall_FaultsInAGuestWithoutMemory(t *testing.T) {
	for _, tt := range pointerCases {
		_, g := newPointerGuest(t)
		g.thread.Memory = guestmem.Memory{}
		if errno := g.call(tt.fn, tt.args...); errno != wasip1.ErrnoFault {
			t.Errorf("%s: %v, want fault", tt.fn, errno)
		}
	}
}

// TestCall_IgnoresTheUpperHalfOfI32Arguments: a word's upper half is whatever the engine left there.
func TestCall_IgnoresTheUpperHalfOfI32Arguments(t *testing.T) {
	types := map[string]string{}
	for _, f := range wasip1.Imports() {
		types[f.Name] = f.Params
	}
	for _, tt := range pointerCases {
		r, g := newPointerGuest(t)
		if tt.fn == "poll_oneoff" {
			r.answer = nil
		}
		clean := fmt.Sprint(g.call(tt.fn, tt.args...), " ", r.take())
		args := append([]uint64(nil), tt.args...)
		for i, kind := range types[tt.fn] {
			if kind == 'i' {
				args[i] |= 0xdeadbeef << 32
			}
		}
		if dirty := fmt.Sprint(g.call(tt.fn, args...), " ", r.take()); dirty != clean {
			t.Errorf("%s: %s with dirty words, %s with clean ones", tt.fn, dirty, clean)
		}
	}
}

func TestCall_RefusesDescriptorsThatLinuxTakesForOtherThings(t *testing.T) {
	types := map[string]string{}
	for _, f := range wasip1.Imports() {
		types[f.Name] = f.Params
	}
	for _, tt := range pointerCases {
		for i, kind := range types[tt.fn] {
			// In these cases 3 to 6 stand for descriptors, and for nothing else but clocks' ids, which are 1.
			if kind != 'i' || tt.args[i] < 3 || tt.args[i] > 6 {
				continue
			}
			for _, fd := range []uint64{1 << 31, 0xffffff9c, 1<<32 - 1} {
				r, g := newPointerGuest(t)
				args := append([]uint64(nil), tt.args...)
				args[i] = fd
				if errno := g.call(tt.fn, args...); errno != wasip1.ErrnoBadf {
					t.Errorf("%s: descriptor %#x: %v, want badf", tt.fn, fd, errno)
				}
				if calls := r.take(); calls != "" {
					t.Errorf("%s: descriptor %#x: system calls %s", tt.fn, fd, calls)
				}
			}
		}
	}
}
