package wasip1_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/wasip1"
)

const (
	oCreat = 1 << iota
	oDirectory
	oExcl
	oTrunc
)

const (
	readWrite = fdRead | fdWrite
	follow    = 1
)

func TestPosix_AFileFromCreationToRemoval(t *testing.T) {
	p := newPosixGuest(t)
	fd := p.opened(3, "file", 0, oCreat, readWrite, 0)
	if n, errno := p.write(fd, "hello, world"); n != 12 || errno != 0 {
		t.Fatalf("wrote %d bytes: %v", n, errno)
	}
	p.ok("fd_tell", fd, replyAt)
	if got := p.u64(replyAt); got != 12 {
		t.Errorf("at %d after the write", got)
	}
	p.ok("fd_seek", fd, ^uint64(4), 1, replyAt) // -5
	if got, errno := p.read(fd, 100); got != "world" || errno != 0 {
		t.Errorf("read %q: %v", got, errno)
	}
	if got, errno := p.read(fd, 100); got != "" || errno != 0 {
		t.Errorf("read %q at the end: %v", got, errno)
	}
	p.want(wasip1.ErrnoInval, "fd_seek", fd, ^uint64(99), 1, replyAt)
	p.ok("fd_seek", fd, 1000, 2, replyAt)
	if got := p.u64(replyAt); got != 1012 {
		t.Errorf("at %d after seeking beyond the end", got)
	}

	p.put(dataAt, "HELLO")
	list, n := p.iovecs(listAt, dataAt, 2, dataAt+2, 3)
	p.ok("fd_pwrite", fd, list, n, 0, replyAt)
	clear(p.mem[dataAt : dataAt+100])
	list, n = p.iovecs(listAt, dataAt, 1, dataAt+50, 0, dataAt+10, 100)
	p.ok("fd_pread", fd, list, n, 0, replyAt)
	if got := string(p.mem[dataAt:dataAt+1]) + string(p.mem[dataAt+10:dataAt+21]); got != "HELLO, world" || p.u32(replyAt) != 12 {
		t.Errorf("pread %q, %d bytes", got, p.u32(replyAt))
	}
	p.want(wasip1.ErrnoInval, "fd_pread", fd, list, n, 1<<63, replyAt)
	p.ok("fd_tell", fd, replyAt)
	if got := p.u64(replyAt); got != 1012 {
		t.Errorf("at %d after pread and pwrite", got)
	}

	p.ok("fd_filestat_set_size", fd, 5)
	if st := p.fstat(fd); st.size != 5 || st.filetype != 4 || st.nlink != 1 {
		t.Errorf("%+v", st)
	}
	p.ok("fd_filestat_set_times", fd, 1_000_000_001, 2_000_000_002, 1|4)
	if st := p.fstat(fd); st.atim != 1_000_000_001 || st.mtim != 2_000_000_002 {
		t.Errorf("%+v", st)
	}
	p.ok("fd_filestat_set_times", fd, 9, 9, 8)
	if st := p.fstat(fd); st.atim != 1_000_000_001 || st.mtim < 1e18 {
		t.Errorf("%+v", st)
	}
	p.ok("fd_advise", fd, 0, 100, 3)
	p.ok("fd_sync", fd)
	p.ok("fd_datasync", fd)
	if errno := p.call("fd_allocate", fd, 0, 4096); errno == 0 {
		if st := p.fstat(fd); st.size != 4096 {
			t.Errorf("%d bytes after fd_allocate", st.size)
		}
	} else if errno != wasip1.ErrnoNotsup {
		t.Errorf("fd_allocate: %v", errno)
	}
	p.want(wasip1.ErrnoInval, "fd_allocate", fd, 0, 0)
	p.ok("fd_close", fd)
	p.want(wasip1.ErrnoBadf, "fd_close", fd)
	if got := p.onPath("path_unlink_file", 3, "file"); got != 0 {
		t.Errorf("unlink: %v", got)
	}
	if _, errno := p.openAs(3, "file", 0, 0, fdRead, 0); errno != wasip1.ErrnoNoent {
		t.Errorf("open after unlink: %v", errno)
	}
}

func TestPosix_PathOpenFlags(t *testing.T) {
	p := newPosixGuest(t)
	p.file("full", "content")
	if err := os.Mkdir(p.dir+"/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path                    string
		oflags, rights, fdflags uint64
		errno                   wasip1.Errno
	}{
		{"full", oCreat | oExcl, 0, 0, wasip1.ErrnoExist},
		{"new", oExcl, 0, 0, wasip1.ErrnoNoent},
		{"full", oDirectory, 0, 0, wasip1.ErrnoNotdir},
		{"sub", oDirectory, 0, 0, 0},
		{"sub", 0, fdRead, 0, 0},
		{"sub", oDirectory, readWrite, 0, wasip1.ErrnoIsdir},
		{"sub", oDirectory | oCreat, 0, 0, wasip1.ErrnoInval},
		{".", 0, 0, 4, 0}, // nonblock
		{"full/", 0, 0, 0, wasip1.ErrnoNotdir},
		{"sub///", 0, 0, 0, 0},
		{"", 0, 0, 0, wasip1.ErrnoNoent},
		{"full", 0, fdRead, 16, 0}, // sync
	} {
		fd, errno := p.openAs(3, tt.path, 0, tt.oflags, tt.rights, tt.fdflags)
		if errno != tt.errno {
			t.Errorf("open %q, oflags %d, rights %#x: %v, want %v", tt.path, tt.oflags, tt.rights, errno, tt.errno)
		}
		if errno == 0 {
			p.ok("fd_close", fd)
		}
	}

	fd := p.opened(3, "full", 0, 0, fdRead, 0)
	if _, errno := p.write(fd, "x"); errno != wasip1.ErrnoBadf {
		t.Errorf("write to what is open for reading: %v", errno)
	}
	if _, errno := p.openAs(fd, "x", 0, oCreat, 0, 0); errno != wasip1.ErrnoNotdir {
		t.Errorf("open beneath a file: %v", errno)
	}
	fd = p.opened(3, "full", 0, 0, fdWrite, 1) // append
	if _, errno := p.read(fd, 1); errno != wasip1.ErrnoBadf {
		t.Errorf("read of what is open for writing: %v", errno)
	}
	if _, errno := p.write(fd, "!"); errno != 0 || p.content("full") != "content!" {
		t.Errorf("append: %v, %q", errno, p.content("full"))
	}
	p.ok("fd_fdstat_set_flags", fd, 0)
	p.ok("fd_seek", fd, 0, 0, replyAt)
	if _, errno := p.write(fd, "C"); errno != 0 || p.content("full") != "Content!" {
		t.Errorf("write without append: %v, %q", errno, p.content("full"))
	}
	p.opened(3, "full", 0, oTrunc, fdWrite, 0)
	if got := p.content("full"); got != "" {
		t.Errorf("truncated: %q", got)
	}
}

func TestPosix_DirectoriesHaveFewRights(t *testing.T) {
	p := newPosixGuest(t)
	list, n := p.iovecs(listAt, dataAt, 8)
	for fn, args := range map[string][]uint64{
		"fd_read": {3, list, n, replyAt}, "fd_pread": {3, list, n, 0, replyAt},
		"fd_write": {3, list, n, replyAt}, "fd_pwrite": {3, list, n, 0, replyAt},
		"fd_seek": {3, 0, 0, replyAt}, "fd_tell": {3, replyAt}, "fd_advise": {3, 0, 0, 4},
		"fd_allocate": {3, 0, 0}, "fd_datasync": {3}, "fd_sync": {3}, "fd_fdstat_set_flags": {3, 4},
		"fd_filestat_set_size": {3, 0},
	} {
		p.want(wasip1.ErrnoBadf, fn, args...)
	}
	p.ok("fd_fdstat_get", 3, replyAt)
	// What wasmtime's test programs want of a preopen's rights.
	const base = 1<<9 | 1<<10 | 1<<11 | 1<<12 | 1<<13 | 1<<14 | 1<<15 | 1<<16 | 1<<17 | 1<<24 | 1<<25 | 1<<26 |
		1<<18 | 1<<20 | 1<<21 | 1<<23
	const inheriting = base | 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<21 | 1<<22 | 1<<23 | 1<<27
	if got := p.u64(replyAt + 8); p.mem[replyAt] != 3 || got&base != base || got&(readWrite|rightSeek) != 0 {
		t.Errorf("filetype %d, base rights %#x", p.mem[replyAt], got)
	}
	if got := p.u64(replyAt + 16); got&inheriting != inheriting {
		t.Errorf("inheriting rights %#x", got)
	}
}

func TestPosix_FdReaddirListsAThousandFiles(t *testing.T) {
	p := newPosixGuest(t)
	want := map[string]bool{".": true, "..": true}
	for i := range 1000 {
		name := fmt.Sprintf("file.%d", i)
		p.file(name, "")
		want[name] = true
	}
	dir := p.opened(3, ".", 0, oDirectory, 0, 0)
	p.ok("fd_renumber", dir, 3)
	for _, size := range []uint64{100, 256, 4096, 16 << 10} {
		got := listingAt(t, p.guest, 3, size, 0x10000)
		if len(got) != len(want) {
			t.Fatalf("buffer of %d: %d names, want %d", size, len(got), len(want))
		}
		for _, name := range got {
			if !want[name] {
				t.Fatalf("buffer of %d: %q", size, name)
			}
		}
	}
	p.want(wasip1.ErrnoNotdir, "fd_readdir", p.opened(3, "file.7", 0, 0, fdRead, 0), dataAt, 100, 0, replyAt)
	p.want(wasip1.ErrnoBadf, "fd_readdir", 99, dataAt, 100, 0, replyAt)
}

func TestPosix_FdReaddirOfAnEmptyDirectory(t *testing.T) {
	p := newPosixGuest(t)
	p.ok("fd_readdir", 3, dataAt, 1000, 0, replyAt)
	if n := p.u32(replyAt); n != 24+1+24+2 {
		t.Fatalf("%d bytes", n)
	}
	at, st := uint64(dataAt), p.fstat(3)
	for range 2 {
		name := string(p.mem[at+24 : at+24+uint64(p.u32(at+16))])
		if p.mem[at+20] != 3 || name == "." && p.u64(at+8) != st.ino || name != "." && name != ".." {
			t.Errorf("%q: type %d, inode %d, the directory's is %d", name, p.mem[at+20], p.u64(at+8), st.ino)
		}
		at += 24 + uint64(len(name))
	}
	p.ok("fd_readdir", 3, dataAt, 1000, 1<<63-1, replyAt)
	if n := p.u32(replyAt); n != 0 {
		t.Errorf("%d bytes past the end", n)
	}
}

// TestPosix_ThreadsListOneDescriptorAtOnce: each gets every name, though they share one offset on the host.
func TestPosix_ThreadsListOneDescriptorAtOnce(t *testing.T) {
	p := newPosixGuest(t)
	for i := range 200 {
		p.file(fmt.Sprintf("%s-%d", strings.Repeat("x", 20+i%50), i), "")
	}
	var wg sync.WaitGroup
	for i := range 4 {
		g := p.sibling()
		at := uint64(i) * 0x8000 // a quarter of memory each
		wg.Go(func() {
			for range 20 {
				if got := listingAt(inGoroutine{t}, g, 3, 512, at); len(got) != 202 {
					t.Errorf("thread %d: %d names, want 202", i, len(got))
					return
				}
			}
		})
	}
	wg.Wait()
	next := p.opened(3, ".", 0, 0, 0, 0)
	if next > 8 {
		t.Errorf("the next descriptor is %d: some were left open", next)
	}
}

// inGoroutine is a test of which another goroutine is a part.
type inGoroutine struct{ t *testing.T }

func (g inGoroutine) Fatalf(format string, args ...any) {
	g.t.Errorf(format, args...)
	runtime.Goexit()
}

func TestPosix_FdRenumber(t *testing.T) {
	p := newPosixGuest(t)
	a := p.opened(3, "a", 0, oCreat, readWrite, 0)
	b := p.opened(3, "b", 0, oCreat, readWrite, 0)
	ino := p.fstat(a).ino
	p.ok("fd_renumber", a, b)
	if got := p.fstat(b).ino; got != ino {
		t.Errorf("inode %d, want %d", got, ino)
	}
	p.want(wasip1.ErrnoBadf, "fd_close", a)
	p.want(wasip1.ErrnoBadf, "fd_renumber", b, 127)
	p.want(wasip1.ErrnoBadf, "fd_renumber", 127, b)
	p.ok("fd_renumber", b, b)
	for range 2000 {
		next := p.opened(3, "a", 0, 0, fdRead, 0)
		p.ok("fd_renumber", b, next)
		b = next
	}
	if b > 8 {
		t.Errorf("descriptor %d after 2000 times", b)
	}
}

func TestPosix_PreopensGoWithTheirDescriptor(t *testing.T) {
	p := newPosixGuest(t)
	p.ok("fd_prestat_get", 3, replyAt)
	if p.mem[replyAt] != 0 || p.u32(replyAt+4) != 5 {
		t.Errorf("prestat % x", p.mem[replyAt:replyAt+8])
	}
	p.ok("fd_prestat_dir_name", 3, dataAt, 5)
	if got := string(p.mem[dataAt : dataAt+5]); got != "/data" {
		t.Errorf("name %q", got)
	}
	sub := p.opened(3, ".", 0, oDirectory, 0, 0)
	p.want(wasip1.ErrnoBadf, "fd_prestat_get", sub, replyAt)
	p.want(wasip1.ErrnoBadf, "fd_prestat_get", 77, replyAt)
	other := p.opened(3, "f", 0, oCreat, 0, 0)
	p.ok("fd_renumber", 3, other)
	p.ok("fd_prestat_get", other, replyAt)
	p.want(wasip1.ErrnoBadf, "fd_prestat_get", 3, replyAt)
	p.ok("fd_close", other)
	p.want(wasip1.ErrnoBadf, "fd_prestat_get", other, replyAt)
	p.want(wasip1.ErrnoBadf, "fd_prestat_dir_name", other, dataAt, 5)
	if fd := p.opened(sub, "f", 0, 0, fdRead, 0); fd != 3 {
		t.Errorf("descriptor %d, want the free 3", fd)
	}
	p.want(wasip1.ErrnoBadf, "fd_prestat_get", 3, replyAt)
}

func TestPosix_DescriptorsRunOut(t *testing.T) {
	p := newPosixGuest(t)
	for n := 0; ; n++ {
		_, errno := p.openAs(3, ".", 0, oDirectory, 0, 0)
		if errno == wasip1.ErrnoMfile && n > 100 {
			break
		}
		if errno != 0 || n > 2000 {
			t.Fatalf("descriptor %d: %v", n, errno)
		}
	}
	// A thread alone lists without one of its own.
	p.ok("fd_readdir", 3, dataAt, 1000, 0, replyAt)
}

func TestPosix_NoSpaceIsNospc(t *testing.T) {
	p := newPosixGuest(t)
	p.install(5, p.open("/dev/full", unix.O_WRONLY), 0)
	if _, errno := p.write(5, "x"); errno != wasip1.ErrnoNospc {
		t.Errorf("%v, want nospc", errno)
	}
}
