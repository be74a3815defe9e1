package wasip1_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// TestCall_DoesNotTrustCounts: a grate may answer anything.
func TestCall_DoesNotTrustCounts(t *testing.T) {
	for _, tt := range []struct {
		fn   string
		args []uint64
		good int64 // the largest answer that makes sense
	}{
		{"fd_read", []uint64{5, 0x100, 1, 0x80}, 16},
		{"fd_read", []uint64{5, 0x100, 2, 0x80}, 32},
		{"fd_write", []uint64{5, 0x100, 1, 0x80}, 16},
		{"fd_pread", []uint64{5, 0x100, 2, 0, 0x80}, 32},
		{"fd_pwrite", []uint64{5, 0x100, 1, 0, 0x80}, 16},
		{"sock_recv", []uint64{5, 0x100, 2, 0, 0x80, 0x90}, 32},
		{"sock_send", []uint64{5, 0x100, 1, 0, 0x80}, 16},
		{"path_readlink", []uint64{3, 0x200, 1, 0x400, 30, 0x80}, 30},
		{"path_open", []uint64{3, 0, 0x200, 1, 0, 0, 0, 0, 0x80}, 1<<31 - 1},
		{"sock_accept", []uint64{5, 0, 0x80}, 1<<31 - 1},
		{"random_get", []uint64{0x400, 30}, 30},
	} {
		for _, answer := range []int64{tt.good, tt.good + 1, 1 << 32, 1<<63 - 1} {
			r, g := newRecorder(t, wasip1.EnvConfig{})
			g.iovecs(0x100, 0x1000, 16, 0x2000, 16)
			g.put(0x200, "a")
			r.answer = answers(answer)
			want := wasip1.ErrnoIO
			if answer == tt.good {
				want = 0
			}
			if errno := g.call(tt.fn, tt.args...); errno != want {
				t.Errorf("%s, system call answers %d: %v, want %v", tt.fn, answer, errno, want)
			}
			if n := int64(g.u32(0x80)); want == 0 && n != tt.good && tt.fn != "random_get" {
				t.Errorf("%s, system call answers %d: count %d", tt.fn, answer, n)
			}
		}
	}
}

func TestRandomGet_GoesOnUntilTheBufferIsFull(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	left := []int64{10, 1, 19}
	r.answer = func(*threei.Thread, abi.Call, *threei.Args) int64 {
		n := left[0]
		left = left[1:]
		return n
	}
	g.ok("random_get", 0x400, 30)
	if got, want := r.take(), "getrandom(g0x400, 30, 0); getrandom(g0x40a, 20, 0); getrandom(g0x40b, 19, 0)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	r.answer = answers(0) // no progress, for ever
	g.want(wasip1.ErrnoIO, "random_get", 0x400, 30)
	r.answer = answers(abi.EAGAIN.Result())
	g.want(wasip1.ErrnoAgain, "random_get", 0x400, 30)
}

func TestRandomGet_EndsBetweenChunksWhenTheCageStops(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	const size = 1 << 30
	g.thread.Memory = largeView(g, size)
	calls := 0
	r.record = false
	r.answer = func(_ *threei.Thread, _ abi.Call, a *threei.Args) int64 {
		calls++
		return int64(a.Val[1])
	}
	g.thread.Cancel = canceler{stopping: func() bool { return calls == 3 }}
	g.want(wasip1.ErrnoIntr, "random_get", 0, size)
	if calls != 3 {
		t.Errorf("%d system calls, want 3", calls)
	}
}

func TestClockTimeGet_IsInNanoseconds(t *testing.T) {
	for _, tt := range []struct {
		sec, nsec uint64
		want      uint64
		errno     wasip1.Errno
	}{
		{0, 0, 0, 0},
		{1, 2, 1_000_000_002, 0},
		{18446744073, 709551615, 1<<64 - 1, 0},
		{18446744073, 709551616, 0, wasip1.ErrnoOverflow},
		{18446744074, 0, 0, wasip1.ErrnoOverflow},
		{1<<64 - 1, 0, 0, wasip1.ErrnoOverflow}, // a second before 1970
		{0, 1_000_000_000, 0, wasip1.ErrnoOverflow},
	} {
		r, g := newRecorder(t, wasip1.EnvConfig{})
		r.answer = func(_ *threei.Thread, _ abi.Call, a *threei.Args) int64 {
			ts := host(a.Val[1], 16)
			le.PutUint64(ts, tt.sec)
			le.PutUint64(ts[8:], tt.nsec)
			return 0
		}
		for _, fn := range []string{"clock_time_get", "clock_res_get"} {
			args := []uint64{0, 0, 0x80}
			if fn == "clock_res_get" {
				args = []uint64{0, 0x80}
			}
			le.PutUint64(g.mem[0x80:], 0)
			g.want(tt.errno, fn, args...)
			if got := g.u64(0x80); got != tt.want {
				t.Errorf("%s of %d.%d: %d, want %d", fn, tt.sec, tt.nsec, got, tt.want)
			}
		}
	}
}

// fillStat is a stat with every field different.
func fillStat(mode uint32) func(*threei.Thread, abi.Call, *threei.Args) int64 {
	return func(_ *threei.Thread, call abi.Call, a *threei.Args) int64 {
		at := a.Val[1]
		if call == abi.CallNewfstatat {
			at = a.Val[2]
		}
		if call != abi.CallFstat && call != abi.CallNewfstatat {
			return 0
		}
		st := host(at, 144)
		for off, v := range map[int]uint64{0: 11, 8: 12, 16: 13, 48: 14, 72: 1, 80: 2, 88: 3, 96: 4, 104: 5, 112: 6} {
			le.PutUint64(st[off:], v)
		}
		le.PutUint32(st[24:], mode)
		return 0
	}
}

func TestFilestat_HasTheFieldsOfStat(t *testing.T) {
	for mode, filetype := range map[uint32]uint64{
		unix.S_IFBLK: 1, unix.S_IFCHR: 2, unix.S_IFDIR: 3, unix.S_IFREG | 0o7777: 4, unix.S_IFSOCK: 6,
		unix.S_IFLNK: 7, unix.S_IFIFO: 0, 0: 0,
	} {
		r, g := newRecorder(t, wasip1.EnvConfig{})
		g.put(0x200, "a")
		r.answer = fillStat(mode)
		for _, fn := range []string{"fd_filestat_get", "path_filestat_get"} {
			for i := range g.mem[0x400:0x500] {
				g.mem[0x400+i] = 0xff
			}
			if fn == "fd_filestat_get" {
				g.ok(fn, 5, 0x400)
			} else {
				g.ok(fn, 3, 0, 0x200, 1, 0x400)
			}
			want := []uint64{11, 12, filetype, 13, 14, 1_000_000_002, 3_000_000_004, 5_000_000_006, 1<<64 - 1}
			for i, v := range want {
				if got := g.u64(0x400 + 8*uint64(i)); got != v {
					t.Errorf("%s of mode %o: word %d is %d, want %d", fn, mode, i, got, v)
				}
			}
		}
	}
}

func TestFilestat_TimesThatDoNotFitAreTheNearest(t *testing.T) {
	for _, tt := range []struct {
		sec  int64
		nsec uint64
		want uint64
	}{
		{-1, 999_999_999, 0},
		{-1 << 63, 0, 0},
		{18446744073, 709551615, 1<<64 - 1},
		{18446744073, 709551616, 1<<64 - 1},
		{1<<63 - 1, 0, 1<<64 - 1},
	} {
		r, g := newRecorder(t, wasip1.EnvConfig{})
		r.answer = func(_ *threei.Thread, _ abi.Call, a *threei.Args) int64 {
			st := host(a.Val[1], 144)
			le.PutUint64(st[88:], uint64(tt.sec))
			le.PutUint64(st[96:], tt.nsec)
			return 0
		}
		g.ok("fd_filestat_get", 5, 0x400)
		if got := g.u64(0x400 + 48); got != tt.want {
			t.Errorf("%d s %d ns: %d, want %d", tt.sec, tt.nsec, got, tt.want)
		}
	}
}

func TestSocketType_TellsDatagramsFromStreams(t *testing.T) {
	for soType, want := range map[uint32]byte{
		unix.SOCK_STREAM: 6, unix.SOCK_DGRAM: 5, unix.SOCK_SEQPACKET: 6,
	} {
		r, g := newRecorder(t, wasip1.EnvConfig{})
		r.answer = func(th *threei.Thread, call abi.Call, a *threei.Args) int64 {
			if call == abi.CallGetsockopt {
				if n := le.Uint32(host(a.Val[4], 4)); n != 4 {
					t.Errorf("option length %d, want 4", n)
				}
				le.PutUint32(host(a.Val[3], 4), soType)
				return 0
			}
			return modes(unix.S_IFSOCK, 2)(th, call, a)
		}
		g.ok("fd_fdstat_get", 5, 0x400)
		g.ok("fd_filestat_get", 5, 0x500)
		if g.mem[0x400] != want || g.mem[0x510] != want {
			t.Errorf("SO_TYPE %d: filetypes %d and %d, want %d", soType, g.mem[0x400], g.mem[0x510], want)
		}
	}
}

// The rights that programs ask fd_fdstat_get for.
const (
	rightSeek    = 1 << 2
	rightTell    = 1 << 5
	rightReaddir = 1 << 14
	rightOpen    = 1 << 13
)

func TestFdFdstatGet_ReportsTypeFlagsAndRights(t *testing.T) {
	espipe := func(mode uint32, open int64) func(*threei.Thread, abi.Call, *threei.Args) int64 {
		return func(th *threei.Thread, call abi.Call, a *threei.Args) int64 {
			if call == abi.CallLseek {
				return abi.ESPIPE.Result()
			}
			return modes(mode, open)(th, call, a)
		}
	}
	const readWrite = fdRead | fdWrite
	for _, tt := range []struct {
		name             string
		answer           func(*threei.Thread, abi.Call, *threei.Args) int64
		filetype         byte
		flags            uint16
		has, lacks       uint64
		inherits, denies uint64
	}{
		{"file read", modes(unix.S_IFREG, 0), 4, 0, fdRead | rightSeek | rightTell, fdWrite | rightReaddir | rightOpen, 0, ^uint64(0)},
		{"file write", modes(unix.S_IFREG, 1), 4, 0, fdWrite | rightSeek, fdRead | rightReaddir, 0, ^uint64(0)},
		{"file both", modes(unix.S_IFREG, 2), 4, 0, readWrite, rightReaddir, 0, ^uint64(0)},
		{"append", modes(unix.S_IFREG, 2|unix.O_APPEND), 4, 1, readWrite, 0, 0, ^uint64(0)},
		{"dsync", modes(unix.S_IFREG, 2|unix.O_DSYNC), 4, 2, readWrite, 0, 0, ^uint64(0)},
		{"sync", modes(unix.S_IFREG, 2|unix.O_SYNC), 4, 2 | 16, readWrite, 0, 0, ^uint64(0)},
		{"nonblock", modes(unix.S_IFIFO, unix.O_NONBLOCK), 0, 4, fdRead, fdWrite | rightSeek | rightTell, 0, ^uint64(0)},
		{"directory", modes(unix.S_IFDIR, 0), 3, 0, rightReaddir | rightOpen, readWrite | rightSeek, readWrite | rightOpen | rightSeek, 0},
		{"terminal", espipe(unix.S_IFCHR, 2), 2, 0, readWrite, rightSeek | rightTell, 0, ^uint64(0)},
		{"null device", modes(unix.S_IFCHR, 2), 2, 0, readWrite | rightSeek | rightTell, 0, 0, ^uint64(0)},
		{"socket", modes(unix.S_IFSOCK, 2), 6, 0, readWrite | 1<<28 | 1<<29, rightSeek, 0, ^uint64(0)},
	} {
		r, g := newRecorder(t, wasip1.EnvConfig{})
		r.answer = tt.answer
		g.ok("fd_fdstat_get", 5, 0x400)
		base, inheriting := g.u64(0x408), g.u64(0x410)
		if g.mem[0x400] != tt.filetype || g.u16(0x402) != tt.flags {
			t.Errorf("%s: filetype %d, flags %d, want %d, %d", tt.name, g.mem[0x400], g.u16(0x402), tt.filetype, tt.flags)
		}
		if base&tt.has != tt.has || base&tt.lacks != 0 {
			t.Errorf("%s: base rights %#x, want %#x in and %#x out", tt.name, base, tt.has, tt.lacks)
		}
		if inheriting&tt.inherits != tt.inherits || inheriting&tt.denies != 0 {
			t.Errorf("%s: inheriting rights %#x, want %#x in and %#x out", tt.name, inheriting, tt.inherits, tt.denies)
		}
	}
}

func TestPrestat_HasTheNameWithoutANUL(t *testing.T) {
	_, g := newRecorder(t, wasip1.EnvConfig{Preopens: []string{"/data", ""}})
	g.ok("fd_prestat_get", 3, 0x400)
	if g.mem[0x400] != 0 || g.u32(0x404) != 5 {
		t.Errorf("prestat %v", g.mem[0x400:0x408])
	}
	copy(g.mem[0x500:], "........")
	g.ok("fd_prestat_dir_name", 3, 0x500, 8)
	if got := string(g.mem[0x500:0x508]); got != "/data..." {
		t.Errorf("name %q", got)
	}
	g.want(wasip1.ErrnoNametoolong, "fd_prestat_dir_name", 3, 0x500, 4)
	g.ok("fd_prestat_get", 4, 0x400)
	if g.u32(0x404) != 0 {
		t.Errorf("name length %d, want 0", g.u32(0x404))
	}
	g.ok("fd_prestat_dir_name", 4, memorySize, 0)
	g.thread.Native = nil // a native layer that knows no preopens
	g.want(wasip1.ErrnoBadf, "fd_prestat_get", 3, 0x400)
}

func TestPaths_MustBeUTF8WithoutNULAndFitInLinux(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	long := make([]byte, 5000)
	for i := range long {
		long[i] = 'a'
	}
	for _, tt := range []struct {
		path  string
		errno wasip1.Errno
	}{
		{"", 0}, // Linux has its own answer to it
		{"Действие", 0},
		{string(long[:4095]), 0},
		{string(long[:4096]), wasip1.ErrnoNametoolong},
		{string(long), wasip1.ErrnoNametoolong},
		{"a\xff", wasip1.ErrnoIlseq},
		{"\xed\xa0\x80", wasip1.ErrnoIlseq}, // a surrogate
		{"a\x00", wasip1.ErrnoInval},
		{"\x00", wasip1.ErrnoInval},
		{"a\x00b\xff", wasip1.ErrnoIlseq},
	} {
		p, n := g.put(0x1000, tt.path)
		g.put(0x80, "x")
		for fn, args := range map[string][]uint64{
			"path_create_directory":   {3, p, n},
			"path_filestat_get":       {3, 0, p, n, 0x400},
			"path_filestat_set_times": {3, 0, p, n, 0, 0, 0},
			"path_open":               {3, 0, p, n, 0, 0, 0, 0, 0x400},
			"path_readlink":           {3, p, n, 0x400, 9, 0x500},
			"path_remove_directory":   {3, p, n},
			"path_unlink_file":        {3, p, n},
		} {
			g.want(tt.errno, fn, args...)
		}
		g.want(tt.errno, "path_link", 3, 0, p, n, 3, 0x80, 1)
		g.want(tt.errno, "path_link", 3, 0, 0x80, 1, 3, p, n)
		g.want(tt.errno, "path_rename", 3, p, n, 3, 0x80, 1)
		g.want(tt.errno, "path_rename", 3, 0x80, 1, 3, p, n)
		g.want(tt.errno, "path_symlink", p, n, 3, 0x80, 1)
		g.want(tt.errno, "path_symlink", 0x80, 1, 3, p, n)
		if calls := r.take(); (calls == "") != (tt.errno != 0) {
			t.Errorf("path %.20q: system calls %.200s", tt.path, calls)
		}
	}
}

// TestPaths_TellEscapesFromDevices: EXDEV is a path that leads outside its directory, but for rename and link it may be
// one on another device as well.
func TestPaths_TellEscapesFromDevices(t *testing.T) {
	escaping := func(paths string) func(*threei.Thread, abi.Call, *threei.Args) int64 {
		return func(_ *threei.Thread, call abi.Call, a *threei.Args) int64 {
			if call == abi.CallNewfstatat && !strings.Contains(paths, string(host(a.Val[1], 1))) {
				return abi.ENOENT.Result()
			}
			return abi.EXDEV.Result()
		}
	}
	for _, tt := range []struct {
		escaping string
		want     wasip1.Errno
	}{{"", wasip1.ErrnoXdev}, {"a", wasip1.ErrnoPerm}, {"b", wasip1.ErrnoPerm}, {"ab", wasip1.ErrnoPerm}} {
		r, g := newRecorder(t, wasip1.EnvConfig{})
		g.put(0x200, "ab")
		r.answer = escaping(tt.escaping)
		g.want(tt.want, "path_rename", 3, 0x200, 1, 4, 0x201, 1)
		g.want(tt.want, "path_link", 3, 0, 0x200, 1, 4, 0x201, 1)
		if calls := r.take(); strings.Contains(calls, "BAD") {
			t.Errorf("system calls %s", calls)
		}
	}
	r, g := newRecorder(t, wasip1.EnvConfig{})
	g.put(0x200, "a")
	r.answer = answers(abi.EXDEV.Result())
	g.want(wasip1.ErrnoPerm, "path_create_directory", 3, 0x200, 1)
	g.want(wasip1.ErrnoPerm, "path_filestat_get", 3, 0, 0x200, 1, 0x400)
	g.want(wasip1.ErrnoPerm, "path_filestat_set_times", 3, 0, 0x200, 1, 0, 0, 0)
	g.want(wasip1.ErrnoPerm, "path_open", 3, 0, 0x200, 1, 0, 0, 0, 0, 0x400)
	g.want(wasip1.ErrnoPerm, "path_readlink", 3, 0x200, 1, 0x400, 9, 0x500)
	g.want(wasip1.ErrnoPerm, "path_remove_directory", 3, 0x200, 1)
	g.want(wasip1.ErrnoPerm, "path_symlink", 0x200, 1, 3, 0x200, 1)
	g.want(wasip1.ErrnoPerm, "path_unlink_file", 3, 0x200, 1)
}

func TestSockRecv_SaysThatTheMessageWasCut(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	list, n := g.iovecs(0x100, 0x1000, 16)
	for _, tt := range []struct {
		msgFlags uint32
		want     uint16
	}{{0, 0}, {unix.MSG_TRUNC, 1}, {unix.MSG_CTRUNC | unix.MSG_EOR, 0}} {
		r.answer = func(_ *threei.Thread, _ abi.Call, a *threei.Args) int64 {
			le.PutUint32(host(a.Val[1], 56)[48:], tt.msgFlags)
			return 9
		}
		le.PutUint16(g.mem[0x90:], 0xffff)
		g.ok("sock_recv", 5, list, n, 0, 0x80, 0x90)
		if g.u16(0x90) != tt.want || g.u32(0x80) != 9 {
			t.Errorf("msg_flags %#x: roflags %d, size %d", tt.msgFlags, g.u16(0x90), g.u32(0x80))
		}
	}
}

func TestCall_TakesScratchMemoryBack(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	var at []uint64
	r.answer = func(_ *threei.Thread, _ abi.Call, a *threei.Args) int64 {
		at = append(at, a.Val[1])
		return 0
	}
	for range 3 {
		g.ok("clock_time_get", 1, 0, 0x80)
	}
	if at[1] != at[2] {
		t.Errorf("the same structure is at %#x, then at %#x", at[1], at[2])
	}
}
