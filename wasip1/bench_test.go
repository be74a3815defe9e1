package wasip1_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkCall is the translation alone: the system calls behind it do nothing.
func BenchmarkCall(b *testing.B) {
	for _, tt := range allocCases {
		g := quietGuest(b)
		name := tt.fn
		if (tt.fn == "fd_read" || tt.fn == "fd_write" || tt.fn == "sock_send") && tt.args[2] > 1 {
			name += "-2"
		}
		b.Run(name, func(b *testing.B) {
			g.raw(tt.fn, tt.args...)
			id := g.ids[tt.fn]
			b.ReportAllocs()
			for b.Loop() {
				g.wasi.Call(g.thread, g.env, id, &g.args)
			}
		})
	}
}

// BenchmarkPosix is whole calls of a guest on the real native layer.
func BenchmarkPosix(b *testing.B) {
	p := newPosixGuest(b)
	p.install(10, p.open("/dev/null", unix.O_RDWR), 0)
	if err := os.WriteFile(p.dir+"/file", make([]byte, 1<<16), 0o600); err != nil {
		b.Fatal(err)
	}
	fd := p.opened(3, "file", 0, 0, fdRead, 0)
	one, _ := p.iovecs(listAt, dataAt, 4096)
	two, _ := p.iovecs(listAt+0x100, dataAt, 2048, dataAt+2048, 2048)
	p.put(pathAt, "file")
	for _, bb := range []struct {
		name, fn string
		args     []uint64
	}{
		{"fd_write of 1 buffer to null", "fd_write", []uint64{10, one, 1, replyAt}},
		{"fd_write of 2 buffers to null", "fd_write", []uint64{10, two, 2, replyAt}},
		{"fd_pread of 4096 bytes", "fd_pread", []uint64{fd, one, 1, 0, replyAt}},
		{"fd_seek", "fd_seek", []uint64{fd, 0, 0, replyAt}},
		{"clock_time_get monotonic", "clock_time_get", []uint64{1, 0, replyAt}},
		{"clock_time_get realtime", "clock_time_get", []uint64{0, 0, replyAt}},
		{"random_get of 16 bytes", "random_get", []uint64{dataAt, 16}},
		{"sched_yield", "sched_yield", nil},
		{"path_filestat_get", "path_filestat_get", []uint64{3, 0, pathAt, 4, dataAt}},
		{"fd_fdstat_get", "fd_fdstat_get", []uint64{fd, dataAt}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p.ok(bb.fn, bb.args...)
			id := p.ids[bb.fn]
			b.ReportAllocs()
			for b.Loop() {
				p.wasi.Call(p.guest.thread, p.env, id, &p.args)
			}
		})
	}
	b.Run("native write of 4096 bytes to null", func(b *testing.B) {
		null := p.open("/dev/null", unix.O_WRONLY)
		defer unix.Close(null)
		data := make([]byte, 4096)
		for b.Loop() {
			if _, err := unix.Write(null, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
