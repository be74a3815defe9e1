package rawposix_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/rawposix"
)

// compare measures a system call of a cage, and the same thing done natively.
func compare(b *testing.B, e *env, native func() error, n abi.Call, vals ...any) {
	b.Helper()
	a := e.args(vals...)
	b.Run("cage", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r := e.sys.Syscall(e.th, n, a); r < 0 {
				b.Fatalf("%v: %v", n, abi.Errno(-r))
			}
		}
	})
	b.Run("native", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := native(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGetpid(b *testing.B) {
	compare(b, newEnv(b), func() error {
		if _, _, e := unix.RawSyscall(unix.SYS_GETEUID, 0, 0, 0); e != 0 {
			return e
		}
		return nil
	}, abi.CallGetpid)
}

func BenchmarkReadZero(b *testing.B) {
	e := newEnv(b)
	fd := e.open(e.preopen("/dev"), "zero", oRdonly)
	host, buf := hostOf(e, fd), make([]byte, 1)
	compare(b, e, func() error { _, err := unix.Read(host, buf); return err }, abi.CallRead, fd, e.alloc(1), 1)
}

func BenchmarkReadvZero(b *testing.B) {
	e := newEnv(b)
	fd := e.open(e.preopen("/dev"), "zero", oRdonly)
	host, bufs := hostOf(e, fd), [][]byte{make([]byte, 1), make([]byte, 1)}
	at := e.alloc(2)
	vec := e.iov([2]uint64{e.addr(at), 1}, [2]uint64{e.addr(at) + 1, 1})
	compare(b, e, func() error { _, err := unix.Readv(host, bufs); return err }, abi.CallReadv, fd, vec, 2)
}

func BenchmarkPread(b *testing.B) {
	e := newEnv(b)
	fd := e.file("content")
	host, buf := hostOf(e, fd), make([]byte, 7)
	compare(b, e, func() error { _, err := unix.Pread(host, buf, 0); return err }, abi.CallPread64, fd, e.alloc(7), 7, 0)
}

func BenchmarkLseek(b *testing.B) {
	e := newEnv(b)
	fd := e.file("content")
	host := hostOf(e, fd)
	compare(b, e, func() error { _, err := unix.Seek(host, 0, 0); return err }, abi.CallLseek, fd, 0, 0)
}

func BenchmarkFstat(b *testing.B) {
	e := newEnv(b)
	fd := e.file("content")
	host := hostOf(e, fd)
	var st unix.Stat_t
	compare(b, e, func() error { return unix.Fstat(host, &st) }, abi.CallFstat, fd, e.alloc(rawposix.StatSize))
}

func BenchmarkClockGettime(b *testing.B) {
	for name, id := range map[string]int{"monotonic": unix.CLOCK_MONOTONIC, "realtime": unix.CLOCK_REALTIME} {
		b.Run(name, func(b *testing.B) {
			e := newEnv(b)
			var ts unix.Timespec
			compare(b, e, func() error { return unix.ClockGettime(int32(id), &ts) }, abi.CallClockGettime, id, e.timespec(0, 0))
		})
	}
}

func BenchmarkPollReady(b *testing.B) {
	e := newEnv(b)
	_, w := e.pipe(0)
	fds := []unix.PollFd{{Fd: int32(hostOf(e, w)), Events: unix.POLLOUT}}
	compare(b, e, func() error { _, err := unix.Ppoll(fds, nil, nil); return err },
		abi.CallPoll, e.pollfds([2]int{w, unix.POLLOUT}), 1, -1)
}

// BenchmarkPipeRoundTrip is a byte written and read: no wait, since it is there.
func BenchmarkPipeRoundTrip(b *testing.B) {
	e := newEnv(b)
	r, w := e.pipe(0)
	at := e.alloc(1)
	wr, rd := e.args(w, at, 1), e.args(r, at, 1)
	host, buf := [2]int{hostOf(e, r), hostOf(e, w)}, make([]byte, 1)
	b.Run("cage", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if e.sys.Syscall(e.th, abi.CallWrite, wr) != 1 || e.sys.Syscall(e.th, abi.CallRead, rd) != 1 {
				b.Fatal("lost")
			}
		}
	})
	b.Run("native", func(b *testing.B) {
		for b.Loop() {
			if n, err := unix.Write(host[1], buf); n != 1 {
				b.Fatal(err)
			}
			if n, err := unix.Read(host[0], buf); n != 1 {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpenClose(b *testing.B) {
	for _, r := range resolvers {
		for _, path := range []string{"f", "a/b/f"} {
			b.Run(r.name+" "+path, func(b *testing.B) {
				e := newEnvOn(b, r.make)
				dir := e.preopen(tempDir(b))
				e.must(abi.CallMkdirat, dir, e.str("a"), 0o700)
				e.must(abi.CallMkdirat, dir, e.str("a/b"), 0o700)
				e.must(abi.CallClose, e.open(dir, path, oCreat))
				open, host := e.args(dir, e.str(path), oRdonly, 0), hostOf(e, dir)
				b.Run("cage", func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						fd := e.sys.Syscall(e.th, abi.CallOpenat, open)
						e.must(abi.CallClose, fd)
					}
				})
				b.Run("native", func(b *testing.B) {
					for b.Loop() {
						fd, err := unix.Openat(host, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
						if err != nil {
							b.Fatal(err)
						}
						if err := unix.Close(fd); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		}
	}
}

func BenchmarkStat(b *testing.B) {
	for _, path := range []string{"f", "a/f"} {
		b.Run(path, func(b *testing.B) {
			e := newEnv(b)
			dir := e.preopen(tempDir(b))
			e.must(abi.CallMkdirat, dir, e.str("a"), 0o700)
			e.must(abi.CallClose, e.open(dir, path, oCreat))
			host := hostOf(e, dir)
			var st unix.Stat_t
			compare(b, e, func() error { return unix.Fstatat(host, path, &st, 0) },
				abi.CallNewfstatat, dir, e.str(path), e.alloc(rawposix.StatSize), 0)
		})
	}
}

// BenchmarkFile100MB writes and reads 100 MB in pieces, through the page cache.
func BenchmarkFile100MB(b *testing.B) {
	const size = 100_000_000
	for name, piece := range map[string]int{"64KiB": 64 << 10, "4MiB": 4 << 20, "100MB": size} {
		b.Run(name, func(b *testing.B) {
			mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = unix.Munmap(mem) }()
			for i := 0; i < size; i += pageSize {
				mem[i] = 1 // so that neither side pays for the pages
			}
			e := newEnv(b)
			dir := e.preopen(tempDir(b))
			fd := e.open(dir, "f", oCreat|oRdwr)
			host := hostOf(e, fd)
			if n, err := unix.Write(host, mem); n != size {
				b.Fatal(err)
			}
			e.mem = guestmem.New(uintptr(guestmem.AddrOf(mem)), size)
			e.th = e.thread()
			move := func(b *testing.B, call func(n int) int64) {
				b.SetBytes(2 * size)
				for b.Loop() {
					for left := size; left > 0; left -= int(call(min(left, piece))) {
					}
				}
			}
			seek, data := e.args(fd, 0, 0), e.args(fd, gp(0), 0)
			b.Run("cage", func(b *testing.B) {
				move(b, func(n int) int64 {
					data.Val[2] = uint64(n)
					for _, call := range []abi.Call{abi.CallWrite, abi.CallRead} {
						e.sys.Syscall(e.th, abi.CallLseek, seek)
						if r := e.sys.Syscall(e.th, call, data); r != int64(n) {
							b.Fatalf("%v: %s of %d", call, show(r), n)
						}
					}
					return int64(n)
				})
			})
			b.Run("native", func(b *testing.B) {
				move(b, func(n int) int64 {
					_, _ = unix.Seek(host, 0, 0)
					if w, err := unix.Write(host, mem[:n]); w != n {
						b.Fatal(err)
					}
					_, _ = unix.Seek(host, 0, 0)
					r, err := unix.Read(host, mem[:n])
					if r != n {
						b.Fatal(err)
					}
					return int64(r)
				})
			})
		})
	}
}

// BenchmarkInstallStdio is what a cage costs that gets the three standard streams: each its own, or shared ones.
func BenchmarkInstallStdio(b *testing.B) {
	r, w := hostPipe(b)
	for _, shared := range []bool{false, true} {
		name := "inherited"
		if shared {
			name = "shared"
		}
		b.Run(name, func(b *testing.B) {
			e := newEnv(b)
			var s [3]*rawposix.Shared
			for i, fd := range []int{r, w, w} {
				var err error
				if s[i], err = e.host.Share(fd); err != nil {
					b.Fatal(err)
				}
				defer func() { _ = s[i].Close() }()
			}
			b.ReportAllocs()
			for b.Loop() {
				p := e.newProcess(8)
				for i, fd := range []int{r, w, w} {
					var err error
					if shared {
						err = p.InstallShared(fdtables.FD(i), s[i], 0)
					} else {
						err = p.InstallFD(fdtables.FD(i), fd, rawposix.Inherited, 0)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
