package wasip1_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/wasip1"
)

// pathCalls makes a call of each function that takes a path.
var pathCalls = map[string]func(g *guest, path string) wasip1.Errno{
	"path_create_directory": func(g *guest, path string) wasip1.Errno { return g.onPath("path_create_directory", 3, path) },
	"path_remove_directory": func(g *guest, path string) wasip1.Errno { return g.onPath("path_remove_directory", 3, path) },
	"path_unlink_file":      func(g *guest, path string) wasip1.Errno { return g.onPath("path_unlink_file", 3, path) },
	"path_filestat_get":     func(g *guest, path string) wasip1.Errno { _, errno := g.stat(3, path, follow); return errno },
	"path_filestat_set_times": func(g *guest, path string) wasip1.Errno {
		ptr, n := g.put(pathAt, path)
		return g.call("path_filestat_set_times", 3, follow, ptr, n, 0, 0, 1)
	},
	"path_open": func(g *guest, path string) wasip1.Errno {
		_, errno := g.openAs(3, path, follow, oCreat, readWrite, 0)
		return errno
	},
	"path_readlink": func(g *guest, path string) wasip1.Errno {
		ptr, n := g.put(pathAt, path)
		return g.call("path_readlink", 3, ptr, n, dataAt, 100, replyAt)
	},
	"path_link, old":   func(g *guest, path string) wasip1.Errno { return g.twoPaths("path_link", path, "free") },
	"path_link, new":   func(g *guest, path string) wasip1.Errno { return g.twoPaths("path_link", "file", path) },
	"path_rename, old": func(g *guest, path string) wasip1.Errno { return g.twoPaths("path_rename", path, "free") },
	"path_rename, new": func(g *guest, path string) wasip1.Errno { return g.twoPaths("path_rename", "file", path) },
	"path_symlink":     func(g *guest, path string) wasip1.Errno { return g.symlink("file", path) },
}

// twoPaths is path_link or path_rename, of paths beneath descriptor 3.
func (g *guest) twoPaths(fn, from, to string) wasip1.Errno {
	p1, n1 := g.put(pathAt, from)
	p2, n2 := g.put(path2At, to)
	if fn == "path_link" {
		return g.call(fn, 3, 0, p1, n1, 3, p2, n2)
	}
	return g.call(fn, 3, p1, n1, 3, p2, n2)
}

func (g *guest) symlink(target, path string) wasip1.Errno {
	p1, n1 := g.put(pathAt, target)
	p2, n2 := g.put(path2At, path)
	return g.call("path_symlink", p1, n1, 3, p2, n2)
}

func (g *guest) readlink(path string, size uint64) (string, wasip1.Errno) {
	ptr, n := g.put(pathAt, path)
	errno := g.call("path_readlink", 3, ptr, n, dataAt, size, replyAt)
	if errno != 0 {
		return "", errno
	}
	return string(g.mem[dataAt : dataAt+g.u32(replyAt)]), 0
}

// TestPosix_EscapesArePerm: by "..", by being absolute, and through links, for every function; nothing outside changes.
func TestPosix_EscapesArePerm(t *testing.T) {
	p := newPosixGuest(t)
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/secret", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.file("file", "")
	for name, target := range map[string]string{
		"absolute": outside, "up": "..", "upup": "sub/../../", "chain": "absolute", "inside": "sub",
	} {
		if err := os.Symlink(target, p.dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(p.dir+"/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(p.dir)
	for _, path := range []string{
		"..", "../x", "../" + name, "../" + name + "/file", "sub/../../" + name + "/file", "/", "/file", p.dir + "/file",
		outside + "/secret", "absolute/secret", "chain/secret", "up/" + name + "/file", "upup/x", "inside/../../x",
		"sub/../absolute/secret", "absolute/../x",
	} {
		for fn, do := range pathCalls {
			if errno := do(p.guest, path); errno != wasip1.ErrnoPerm {
				t.Errorf("%s of %q: %v, want perm", fn, path, errno)
			}
		}
	}
	if got, err := os.ReadFile(outside + "/secret"); err != nil || string(got) != "secret" {
		t.Errorf("outside: %q, %v", got, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
	// Beneath the directory ".." is fine.
	if _, errno := p.openAs(3, "sub/.//../sub/../file", 0, 0, fdRead, 0); errno != 0 {
		t.Errorf("a path with .. that stays inside: %v", errno)
	}
}

func TestPosix_RenameAndLinkBetweenDevicesAreXdev(t *testing.T) {
	p := newPosixGuest(t)
	other, err := os.MkdirTemp("/dev/shm", "wasip1-test-")
	if err != nil {
		t.Skipf("no second file system: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(other); err != nil {
			t.Error(err)
		}
	})
	var here, there unix.Stat_t
	if err := unix.Stat(p.dir, &here); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(other, &there); err != nil {
		t.Fatal(err)
	}
	if here.Dev == there.Dev {
		t.Skip("the temporary directory and /dev/shm are one file system")
	}
	p.file("file", "")
	p.install(4, p.open(other, unix.O_DIRECTORY), 0)
	p1, n1 := p.put(pathAt, "file")
	for path, want := range map[string]wasip1.Errno{"file": wasip1.ErrnoXdev, "../file": wasip1.ErrnoPerm} {
		p2, n2 := p.put(path2At, path)
		p.want(want, "path_rename", 3, p1, n1, 4, p2, n2)
		p.want(want, "path_link", 3, 0, p1, n1, 4, p2, n2)
		p.want(want, "path_rename", 4, p2, n2, 3, p1, n1)
	}
}

func TestPosix_SymbolicLinks(t *testing.T) {
	p := newPosixGuest(t)
	p.file("target", "")
	if errno := p.symlink("target", "link"); errno != 0 {
		t.Fatal(errno)
	}
	for size, want := range map[uint64]string{10: "target", 6: "target", 4: "targ", 0: ""} {
		if got, errno := p.readlink("link", size); got != want || errno != 0 {
			t.Errorf("readlink with %d bytes: %q, %v", size, got, errno)
		}
	}
	if _, errno := p.readlink("target", 10); errno != wasip1.ErrnoInval {
		t.Errorf("readlink of a file: %v", errno)
	}
	if st, errno := p.stat(3, "link", 0); errno != 0 || st.filetype != 7 || st.size != 6 {
		t.Errorf("stat of the link: %v, %+v", errno, st)
	}
	if st, errno := p.stat(3, "link", follow); errno != 0 || st.filetype != 4 {
		t.Errorf("stat of the target: %v, %+v", errno, st)
	}
	if _, errno := p.openAs(3, "link", 0, 0, fdRead, 0); errno != wasip1.ErrnoLoop {
		t.Errorf("open without following: %v", errno)
	}
	p.opened(3, "link", follow, 0, fdRead, 0)
	ptr, n := p.put(pathAt, "link")
	p.ok("path_filestat_set_times", 3, 0, ptr, n, 0, 5_000_000_000, 4)
	link, _ := p.stat(3, "link", 0)
	target, _ := p.stat(3, "link", follow)
	if link.mtim != 5_000_000_000 || target.mtim == link.mtim {
		t.Errorf("times: link %d, target %d", link.mtim, target.mtim)
	}
	for _, tt := range []struct {
		target, path string
		errno        wasip1.Errno
	}{
		{"/", "absolute", wasip1.ErrnoPerm},
		{"/etc/passwd", "absolute", wasip1.ErrnoPerm},
		{"", "empty", wasip1.ErrnoNoent},
		{"../outside", "up", 0}, // only following it is refused
		{"loop", "loop", 0},
		{"target", "target", wasip1.ErrnoExist},
		{"source", "dangling/", wasip1.ErrnoNoent},
		{"source", "target/", wasip1.ErrnoNotdir},
	} {
		if errno := p.symlink(tt.target, tt.path); errno != tt.errno {
			t.Errorf("symlink %q -> %q: %v, want %v", tt.path, tt.target, errno, tt.errno)
		}
	}
	if _, errno := p.openAs(3, "up", follow, 0, fdRead, 0); errno != wasip1.ErrnoPerm {
		t.Errorf("open of a link that leads out: %v", errno)
	}
	if _, errno := p.openAs(3, "loop", follow, 0, fdRead, 0); errno != wasip1.ErrnoLoop {
		t.Errorf("open of a loop: %v", errno)
	}
}

func TestPosix_LinksRenamesAndRemovals(t *testing.T) {
	p := newPosixGuest(t)
	mkdir := func(path string) wasip1.Errno { return p.onPath("path_create_directory", 3, path) }
	rmdir := func(path string) wasip1.Errno { return p.onPath("path_remove_directory", 3, path) }
	unlink := func(path string) wasip1.Errno { return p.onPath("path_unlink_file", 3, path) }
	rename := func(from, to string) wasip1.Errno { return p.twoPaths("path_rename", from, to) }
	link := func(from, to string) wasip1.Errno { return p.twoPaths("path_link", from, to) }
	p.file("file", "x")
	for i, step := range []struct {
		got, want wasip1.Errno
	}{
		{mkdir("dir"), 0},
		{mkdir("dir"), wasip1.ErrnoExist},
		{mkdir("slash/"), 0},
		{mkdir("no/dir"), wasip1.ErrnoNoent},
		{mkdir("file/dir"), wasip1.ErrnoNotdir},
		{link("file", "dir/link"), 0},
		{link("file", "dir/link"), wasip1.ErrnoExist},
		{link("file", "link/"), wasip1.ErrnoNoent},
		{link("dir", "link"), wasip1.ErrnoPerm},
		{link("none", "link"), wasip1.ErrnoNoent},
		{rmdir("dir"), wasip1.ErrnoNotempty},
		{rmdir("file"), wasip1.ErrnoNotdir},
		{rmdir("file/"), wasip1.ErrnoNotdir},
		{unlink("dir"), wasip1.ErrnoIsdir},
		{unlink("dir/"), wasip1.ErrnoIsdir},
		{unlink("file/"), wasip1.ErrnoNotdir},
		{unlink("none"), wasip1.ErrnoNoent},
		{rename("file", "dir"), wasip1.ErrnoIsdir},
		{rename("slash", "file"), wasip1.ErrnoNotdir},
		{rename("slash", "dir"), wasip1.ErrnoNotempty},
		{rename("dir", "dir/sub"), wasip1.ErrnoInval},
		{rename("none", "some"), wasip1.ErrnoNoent},
		{rename("file", "dir/link"), 0}, // the same file: nothing happens
		{unlink("dir/link"), 0},
		{rename("slash", "dir"), 0},
		{rename("file", "other"), 0},
		{rename("dir/", "renamed/"), 0},
		{rmdir("renamed"), 0},
		{unlink("other"), 0},
	} {
		if step.got != step.want {
			t.Errorf("step %d: %v, want %v", i, step.got, step.want)
		}
	}
	if entries, err := os.ReadDir(p.dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestPosix_PathFilestatTimes(t *testing.T) {
	p := newPosixGuest(t)
	p.file("file", "")
	before, _ := p.stat(3, "file", 0)
	ptr, n := p.put(pathAt, "file")
	p.want(wasip1.ErrnoInval, "path_filestat_set_times", 3, 0, ptr, n, 0, 0, 4|8)
	p.ok("path_filestat_set_times", 3, 0, ptr, n, 7, 8, 0)
	if after, _ := p.stat(3, "file", 0); after.mtim != before.mtim || after.atim != before.atim {
		t.Errorf("times changed: %+v, %+v", before, after)
	}
	p.ok("path_filestat_set_times", 3, 0, ptr, n, 7, 8, 1|4)
	if after, _ := p.stat(3, "file", 0); after.mtim != 8 || after.atim != 7 {
		t.Errorf("%+v", after)
	}
}

func TestPosix_NamesOfManyBytes(t *testing.T) {
	p := newPosixGuest(t)
	for name, want := range map[string]wasip1.Errno{
		"Действие":                       0,
		string(make255('a')):             0,
		string(make255('a')) + "a":       wasip1.ErrnoNametoolong,
		"a/" + string(make255('a')) + "": wasip1.ErrnoNoent,
	} {
		if _, errno := p.openAs(3, name, 0, oCreat, readWrite, 0); errno != want {
			t.Errorf("%q: %v, want %v", name, errno, want)
		}
	}
}

func make255(c byte) []byte {
	b := make([]byte, 255)
	for i := range b {
		b[i] = c
	}
	return b
}
