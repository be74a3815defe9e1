package wasip1_test

import (
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
	"github.com/lindbridge/lindbridge/rawposix"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// This file has guests on the real native layer: the promises of whole functions, seen as a program sees them.

// token is a cancel token as the shim has it: an eventfd that is written once.
type token struct {
	fd       int
	stopping atomic.Bool
}

func (k *token) CancelFD() (int, error) { return k.fd, nil }
func (k *token) Stopping() bool         { return k.stopping.Load() }

// fire makes the cage stop.
func (k *token) fire(tb testing.TB) {
	k.stopping.Store(true)
	if _, err := unix.Write(k.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		tb.Error(err)
	}
}

// hooks records what ends and starts threads and cages.
type hooks struct {
	exits   []int32
	signals []int32
	spawned []uint32
}

func (h *hooks) ExitGroup(_ *threei.Thread, status int32)  { h.exits = append(h.exits, status) }
func (h *hooks) ExitThread(_ *threei.Thread, status int32) { h.exits = append(h.exits, status) }

func (h *hooks) SpawnThread(_ *threei.Thread, arg uint32) (int32, abi.Errno) {
	h.spawned = append(h.spawned, arg)
	if len(h.spawned) > 2 {
		return 0, abi.EAGAIN
	}
	return int32(len(h.spawned)) + 1, 0
}

func (h *hooks) Signal(t *threei.Thread, target abi.CageID, sig int32) abi.Errno {
	if target != t.Cage {
		return abi.EPERM
	}
	h.signals = append(h.signals, sig)
	return 0
}

// posixGuest is a guest with a directory of its own as preopen 3, named /data.
type posixGuest struct {
	*guest
	dir   string
	proc  *rawposix.Process
	token *token
	hooks *hooks
}

// newPosixGuest is a guest on a native layer of its own.
func newPosixGuest(tb testing.TB) *posixGuest {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	host, err := rawposix.NewHost(rawposix.Config{Tables: fdtables.New(fdtables.Config{})})
	must(err)
	p := &posixGuest{dir: tb.TempDir(), hooks: &hooks{}, token: &token{}}
	p.proc, err = host.NewProcess(rawposix.ProcessConfig{Cage: testCage, Hooks: p.hooks})
	must(err)
	tb.Cleanup(func() { must(p.proc.Close()) })
	p.token.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	must(err)
	tb.Cleanup(func() { must(unix.Close(p.token.fd)) })
	sys := threei.NewSystem()
	rawposix.Register(sys)
	p.guest = newGuest(tb, sys, p.proc, wasip1.EnvConfig{Args: []string{"prog"}, Preopens: []string{"/data"}})
	p.thread.Cancel = p.token
	for fd := range 3 {
		p.install(fd, p.open("/dev/null", unix.O_RDWR), 0)
	}
	p.install(3, p.open(p.dir, unix.O_DIRECTORY), 1)
	return p
}

// open opens a host path for the guest.
func (p *posixGuest) open(path string, flags int) int {
	p.tb.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		p.tb.Fatal(err)
	}
	return fd
}

// install gives a host descriptor to the guest.
func (p *posixGuest) install(fd, hostFD int, info uint64) {
	p.tb.Helper()
	if err := p.proc.InstallFD(fdtables.FD(fd), hostFD, rawposix.Owned, info); err != nil {
		p.tb.Fatal(err)
	}
}

// sibling is another thread of the same program.
func (p *posixGuest) sibling() *guest { return p.guest.sibling() }

// Where the helpers below put things in memory.
const (
	pathAt  = 0x2000
	path2At = 0x3100
	listAt  = 0x200
	dataAt  = 0x10000
	replyAt = 0x80
)

// openAs is path_open, and the descriptor.
func (g *guest) openAs(dir uint64, path string, follow, oflags, rights, fdflags uint64) (uint64, wasip1.Errno) {
	ptr, n := g.put(pathAt, path)
	errno := g.call("path_open", dir, follow, ptr, n, oflags, rights, 0, fdflags, replyAt)
	return uint64(g.u32(replyAt)), errno
}

// opened is openAs that must succeed.
func (g *guest) opened(dir uint64, path string, follow, oflags, rights, fdflags uint64) uint64 {
	g.tb.Helper()
	fd, errno := g.openAs(dir, path, follow, oflags, rights, fdflags)
	if errno != 0 {
		g.tb.Fatalf("path_open %q: %v", path, errno)
	}
	return fd
}

// onPath makes a call of a function (fd, path, path_len).
func (g *guest) onPath(fn string, dir uint64, path string) wasip1.Errno {
	ptr, n := g.put(pathAt, path)
	return g.call(fn, dir, ptr, n)
}

// write is fd_write of s, and how much was written.
func (g *guest) write(fd uint64, s string) (uint32, wasip1.Errno) {
	ptr, n := g.put(dataAt, s)
	list, count := g.iovecs(listAt, ptr, n)
	errno := g.call("fd_write", fd, list, count, replyAt)
	return g.u32(replyAt), errno
}

// read is fd_read of up to n bytes.
func (g *guest) read(fd, n uint64) (string, wasip1.Errno) {
	list, count := g.iovecs(listAt, dataAt, n)
	errno := g.call("fd_read", fd, list, count, replyAt)
	if errno != 0 {
		return "", errno
	}
	return string(g.mem[dataAt : dataAt+g.u32(replyAt)]), 0
}

// filestat is what path_filestat_get says.
type filestat struct {
	dev, ino, nlink, size, atim, mtim, ctim uint64
	filetype                                byte
}

func (g *guest) statAt(at uint64) filestat {
	return filestat{
		dev: g.u64(at), ino: g.u64(at + 8), filetype: g.mem[at+16], nlink: g.u64(at + 24), size: g.u64(at + 32),
		atim: g.u64(at + 40), mtim: g.u64(at + 48), ctim: g.u64(at + 56),
	}
}

// stat is path_filestat_get.
func (g *guest) stat(dir uint64, path string, follow uint64) (filestat, wasip1.Errno) {
	ptr, n := g.put(pathAt, path)
	errno := g.call("path_filestat_get", dir, follow, ptr, n, 0x100)
	return g.statAt(0x100), errno
}

// fstat is fd_filestat_get that must succeed.
func (g *guest) fstat(fd uint64) filestat {
	g.tb.Helper()
	g.ok("fd_filestat_get", fd, 0x100)
	return g.statAt(0x100)
}

// file makes a file in the guest's directory, on the host.
func (p *posixGuest) file(name, content string) {
	p.tb.Helper()
	if err := os.WriteFile(p.dir+"/"+name, []byte(content), 0o600); err != nil {
		p.tb.Fatal(err)
	}
}

// content is what the host finds in a file of the guest's directory.
func (p *posixGuest) content(name string) string {
	p.tb.Helper()
	b, err := os.ReadFile(p.dir + "/" + name)
	if err != nil {
		p.tb.Fatal(err)
	}
	return string(b)
}
