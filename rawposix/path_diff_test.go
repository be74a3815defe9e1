package rawposix_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/rawposix"
)

// This file has one test: every call that takes a path, with every sort of path, answers the same and does the same
// whether the kernel resolves paths beneath the directory, the walk does, or (for paths that stay inside) nobody
// confines them at all.

// tree is what paths are tried in. A name that ends in a slash is a directory, one with an arrow a symbolic link.
func treeEntries() []string {
	return []string{
		"f", "d/", "d/f", "d/sub/", "d/sub/g", "empty/",
		"to_f -> f", "to_d -> d", "to_d_slash -> d/", "to_sub -> d/sub", "to_self -> .", "to_inner -> d/../f",
		"to_f_slash -> f/", "d/up -> ../f", "d/here -> ./sub/", "d/sub/upup -> ../../f", "dots -> d/sub/../..//./d",
		"dangling -> nope", "dangling_deep -> nope/x", "dangling_in -> d/new", "dangling_slash -> newdir/",
		"loop -> pool", "pool -> loop", "d/loop -> loop", "through_file -> f/x",
		"abs -> /etc", "abs_inside -> /", "out -> ../outside", "out_file -> ../outside/secret", "root_up -> ..",
		"d/out -> ../../outside", "out_deep -> d/../../outside/secret", "out_and_back -> ../root/f",
		strings.Repeat("n", 255),
	}
}

func treePaths() []string {
	var paths []string
	for _, entry := range treeEntries() {
		name, _, _ := strings.Cut(strings.TrimSuffix(entry, "/"), " ")
		paths = append(paths, name, name+"/", name+"/.", name+"/..", name+"/x", name+"/f")
	}
	return append(paths,
		".", "..", "./", "../", "./.", "...", "./..", "../..", "/", "//", "/etc", "/f", "../root/f", "../root/d/f",
		"./f", ".//f", "d//f", "d/./f", "d/../f", "d/../../f", "d/../../root/f", "d/sub/../../f", "d/sub/../../../f",
		"nope", "nope/", "nope/x", "nope/..", "nope/../f", "f/..", "f/.", "f/../f", "d/nope/../f",
		"to_d/sub/g", "to_d/../f", "to_sub/../f", "to_sub/..", "to_d/up", "to_d/../to_d/sub", "empty/../d/sub/../f",
		"out/secret", "out/../root/f", "d/out/secret", "root_up/root/f", "abs/passwd", "abs_inside/etc",
		strings.Repeat("n", 256), strings.Repeat("n", 256)+"/x", "d/"+strings.Repeat("n", 256),
		strings.Repeat("./", 2046)+"f", strings.Repeat("./", 2047)+"f", strings.Repeat("d/../", 400)+"f",
		strings.Repeat("to_self/", 39)+"f", strings.Repeat("to_self/", 40)+"f", strings.Repeat("to_self/", 41)+"f",
		strings.Repeat("to_self/", 40)+"to_f",
	)
}

// buildTree makes a tree in dir/root, and what paths that lead out of it would find.
func buildTree(t testing.TB, dir string) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(dir+"/outside", 0o755))
	check(os.WriteFile(dir+"/outside/secret", []byte("secret"), 0o644))
	check(os.Mkdir(dir+"/root", 0o755))
	for _, entry := range treeEntries() {
		if name, to, link := strings.Cut(entry, " -> "); link {
			check(os.Symlink(to, dir+"/root/"+name))
		} else if strings.HasSuffix(entry, "/") {
			check(os.Mkdir(dir+"/root/"+entry, 0o755))
		} else {
			check(os.WriteFile(dir+"/root/"+entry, []byte(entry), 0o644))
		}
	}
}

// snapshot is everything in dir as text.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := ""
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			text, err = os.Readlink(path)
		case d.Type().IsRegular():
			var content []byte
			content, err = os.ReadFile(path)
			text = string(content)
		}
		at := info.ModTime().Unix()
		if at > 1000 {
			at = 0 // of the present, and not set by a test
		}
		fmt.Fprintf(&b, "%s %v %q %d\n", strings.TrimPrefix(path, dir), info.Mode(), text, at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// op is one call on a path. It answers the result and, where there is one, what was found.
type op struct {
	name string
	// looks says that the call changes nothing.
	looks bool
	cage  func(e *env, dir int, path gp) (int64, string)
	host  func(dir int, path string) (error, string)
}

func openOp(name string, flags int, host int) op {
	return op{
		"openat " + name, flags&(oCreat|oTrunc) == 0,
		func(e *env, dir int, path gp) (int64, string) {
			fd := e.call(abi.CallOpenat, dir, path, flags|oNonblock, 0o600)
			if fd < 0 {
				return fd, ""
			}
			st := e.alloc(rawposix.StatSize)
			e.must(abi.CallFstat, int(fd), st)
			e.must(abi.CallClose, int(fd))
			b := e.bytes(st, rawposix.StatSize)
			return 0, fmt.Sprintf("mode %o, size %d", le.Uint32(b[24:]), sizeUnlessDir(le.Uint32(b[24:]), int64(le.Uint64(b[48:]))))
		},
		func(dir int, path string) (error, string) {
			fd, err := unix.Openat(dir, path, host|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return err, ""
			}
			defer func() { _ = unix.Close(fd) }()
			var st unix.Stat_t
			err = unix.Fstat(fd, &st)
			return err, fmt.Sprintf("mode %o, size %d", st.Mode, sizeUnlessDir(st.Mode, st.Size))
		},
	}
}

func sizeUnlessDir(mode uint32, size int64) int64 {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return 0
	}
	return size
}

func statOp(name string, flags int) op {
	return op{
		"newfstatat " + name, true,
		func(e *env, dir int, path gp) (int64, string) {
			st := e.alloc(rawposix.StatSize)
			r := e.call(abi.CallNewfstatat, dir, path, st, flags)
			if r < 0 {
				return r, ""
			}
			b := e.bytes(st, rawposix.StatSize)
			return r, fmt.Sprintf("mode %o, size %d", le.Uint32(b[24:]), sizeUnlessDir(le.Uint32(b[24:]), int64(le.Uint64(b[48:]))))
		},
		func(dir int, path string) (error, string) {
			var st unix.Stat_t
			if err := unix.Fstatat(dir, path, &st, flags); err != nil {
				return err, ""
			}
			return nil, fmt.Sprintf("mode %o, size %d", st.Mode, sizeUnlessDir(st.Mode, st.Size))
		},
	}
}

func utimeOp(name string, flags int) op {
	return op{
		"utimensat " + name, false,
		func(e *env, dir int, path gp) (int64, string) {
			ts := e.timespec(111, 0)
			e.timespec(222, 0)
			return e.call(abi.CallUtimensat, dir, path, ts, flags), ""
		},
		func(dir int, path string) (error, string) {
			return unix.UtimesNanoAt(dir, path, []unix.Timespec{{Sec: 111}, {Sec: 222}}, flags), ""
		},
	}
}

var pathOps = []op{
	openOp("", oRdonly, unix.O_RDONLY),
	openOp("rw", oRdwr, unix.O_RDWR),
	openOp("nofollow", oNofollow, unix.O_NOFOLLOW),
	openOp("directory", oDirectory, unix.O_DIRECTORY),
	openOp("directory nofollow", oDirectory|oNofollow, unix.O_DIRECTORY|unix.O_NOFOLLOW),
	openOp("path", oPath, unix.O_PATH),
	openOp("path nofollow", oPath|oNofollow, unix.O_PATH|unix.O_NOFOLLOW),
	openOp("path directory", oPath|oDirectory, unix.O_PATH|unix.O_DIRECTORY),
	openOp("path nofollow directory", oPath|oNofollow|oDirectory, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY),
	openOp("creat", oRdwr|oCreat, unix.O_RDWR|unix.O_CREAT),
	openOp("creat nofollow", oRdwr|oCreat|oNofollow, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW),
	openOp("creat excl", oRdwr|oCreat|oExcl, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL),
	openOp("creat trunc", oRdwr|oCreat|oTrunc, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC),
	openOp("trunc", oWronly|oTrunc, unix.O_WRONLY|unix.O_TRUNC),
	statOp("", 0),
	statOp("nofollow", unix.AT_SYMLINK_NOFOLLOW),
	utimeOp("", 0),
	utimeOp("nofollow", unix.AT_SYMLINK_NOFOLLOW),
	{
		"readlinkat", true,
		func(e *env, dir int, path gp) (int64, string) {
			at := e.alloc(100)
			n := e.call(abi.CallReadlinkat, dir, path, at, 100)
			if n < 0 {
				return n, ""
			}
			return 0, string(e.bytes(at, int(n)))
		},
		func(dir int, path string) (error, string) {
			b := make([]byte, 100)
			n, err := unix.Readlinkat(dir, path, b)
			return err, string(b[:max(0, n)])
		},
	},
	{
		"mkdirat", false,
		func(e *env, dir int, path gp) (int64, string) { return e.call(abi.CallMkdirat, dir, path, 0o700), "" },
		func(dir int, path string) (error, string) { return unix.Mkdirat(dir, path, 0o700), "" },
	},
	{
		"unlinkat", false,
		func(e *env, dir int, path gp) (int64, string) { return e.call(abi.CallUnlinkat, dir, path, 0), "" },
		func(dir int, path string) (error, string) { return unix.Unlinkat(dir, path, 0), "" },
	},
	{
		"unlinkat removedir", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallUnlinkat, dir, path, unix.AT_REMOVEDIR), ""
		},
		func(dir int, path string) (error, string) { return unix.Unlinkat(dir, path, unix.AT_REMOVEDIR), "" },
	},
	{
		"symlinkat", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallSymlinkat, e.str("/some/target"), dir, path), ""
		},
		func(dir int, path string) (error, string) { return unix.Symlinkat("/some/target", dir, path), "" },
	},
	{
		"linkat from", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallLinkat, dir, path, dir, e.str("hard"), 0), ""
		},
		func(dir int, path string) (error, string) { return unix.Linkat(dir, path, dir, "hard", 0), "" },
	},
	{
		"linkat from following", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallLinkat, dir, path, dir, e.str("hard"), unix.AT_SYMLINK_FOLLOW), ""
		},
		func(dir int, path string) (error, string) {
			return unix.Linkat(dir, path, dir, "hard", unix.AT_SYMLINK_FOLLOW), ""
		},
	},
	{
		"linkat to", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallLinkat, dir, e.str("f"), dir, path, 0), ""
		},
		func(dir int, path string) (error, string) { return unix.Linkat(dir, "f", dir, path, 0), "" },
	},
	{
		"renameat from", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallRenameat, dir, path, dir, e.str("renamed")), ""
		},
		func(dir int, path string) (error, string) { return unix.Renameat(dir, path, dir, "renamed"), "" },
	},
	{
		"renameat a file to", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallRenameat, dir, e.str("f"), dir, path), ""
		},
		func(dir int, path string) (error, string) { return unix.Renameat(dir, "f", dir, path), "" },
	},
	{
		"renameat a directory to", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallRenameat, dir, e.str("empty"), dir, path), ""
		},
		func(dir int, path string) (error, string) { return unix.Renameat(dir, "empty", dir, path), "" },
	},
	{
		"renameat2 exchanging", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallRenameat2, dir, e.str("f"), dir, path, unix.RENAME_EXCHANGE), ""
		},
		func(dir int, path string) (error, string) {
			return unix.Renameat2(dir, "f", dir, path, unix.RENAME_EXCHANGE), ""
		},
	},
	{
		"renameat2 without replacing", false,
		func(e *env, dir int, path gp) (int64, string) {
			return e.call(abi.CallRenameat2, dir, e.str("f"), dir, path, unix.RENAME_NOREPLACE), ""
		},
		func(dir int, path string) (error, string) {
			return unix.Renameat2(dir, "f", dir, path, unix.RENAME_NOREPLACE), ""
		},
	},
}

// staysInside reports whether nothing that a call may do with path leads out of dir, following a last link or not.
func staysInside(dir int, path string) bool {
	if strings.HasPrefix(path, "/") {
		return false
	}
	trimmed := strings.TrimRight(path, "/")
	for _, p := range []string{path, trimmed, trimmed + "/.", trimmed[:strings.LastIndexByte(trimmed, '/')+1] + "."} {
		for _, flags := range []uint64{unix.O_PATH, unix.O_PATH | unix.O_NOFOLLOW, unix.O_RDWR | unix.O_NONBLOCK} {
			fd, err := unix.Openat2(dir, p, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH})
			if err == nil {
				_ = unix.Close(fd)
			} else if err == unix.EXDEV {
				return false
			}
		}
	}
	return true
}

// party is one of the implementations, with a tree of its own.
type party struct {
	name string
	dir  string
	env  *env // nil: the host
	fd   int  // of dir/root, in the cage or the host
}

func (p *party) rebuild(t testing.TB) {
	t.Helper()
	if p.env != nil {
		p.env.must(abi.CallClose, p.fd)
	} else if err := unix.Close(p.fd); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	p.build(t)
}

func (p *party) build(t testing.TB) {
	t.Helper()
	buildTree(t, p.dir)
	if p.env != nil {
		p.fd = p.env.preopen(p.dir + "/root")
		return
	}
	fd, err := unix.Open(p.dir+"/root", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.fd = fd
}

func (p *party) do(o op, path string) (abi.Errno, string) {
	if p.env == nil {
		err, found := o.host(p.fd, path)
		if errno := unix.Errno(0); errors.As(err, &errno) {
			return abi.Errno(errno), ""
		}
		return 0, found
	}
	defer p.env.mark()()
	r, found := o.cage(p.env, p.fd, p.env.str(path))
	return abi.Errno(-min(0, r)), found
}

func TestPaths_AnswerTheSameHoweverTheyAreResolved(t *testing.T) {
	host := &party{name: "host", dir: tempDir(t) + "/t"}
	parties := []*party{
		{name: "openat2", dir: tempDir(t) + "/t", env: newEnvOn(t, rawposix.NewHost)},
		{name: "walk", dir: tempDir(t) + "/t", env: newEnvOn(t, rawposix.NewWalkingHost)},
		host,
	}
	if !parties[0].env.host.HasOpenat2() {
		t.Fatal("this kernel has no openat2 to compare with")
	}
	parties[1].env.unchecked = true
	for _, p := range parties {
		p.build(t)
	}
	t.Cleanup(func() { _ = unix.Close(host.fd) })
	fresh := snapshot(t, host.dir)
	escapes, inside := 0, 0
	for _, path := range treePaths() {
		safe := staysInside(host.fd, path)
		for _, o := range pathOps {
			ran := parties
			if !safe {
				ran = parties[:2] // nobody is to do it without confinement
			}
			want, wantFound := ran[len(ran)-1].do(o, path)
			changed := want == 0
			for _, p := range ran[:len(ran)-1] {
				got, found := p.do(o, path)
				if got != want || found != wantFound {
					t.Errorf("%s %.60q: %s says %v %q, %s says %v %q", o.name, path, p.name, got, found,
						ran[len(ran)-1].name, want, wantFound)
				}
				changed = changed || got == 0
			}
			switch {
			case want == abi.EXDEV && safe:
				t.Errorf("%s %.60q is EXDEV, though it stays inside", o.name, path)
			case want == abi.EXDEV:
				escapes++
			default:
				inside++
			}
			if !changed || o.looks {
				continue
			}
			after := snapshot(t, ran[0].dir)
			for _, p := range ran[1:] {
				if got := snapshot(t, p.dir); got != after {
					t.Errorf("%s %.60q: %s made\n%s\n%s made\n%s", o.name, path, ran[0].name, after, p.name, got)
				}
			}
			if !strings.Contains(after, "\n/outside/secret -rw-r--r-- \"secret\" 0\n") || strings.Count(after, "\n/outside") != 2 {
				t.Fatalf("%s %.60q changed what is outside:\n%s", o.name, path, after)
			}
			if after != fresh {
				for _, p := range ran {
					p.rebuild(t)
				}
			}
		}
	}
	for _, p := range parties {
		if got := snapshot(t, p.dir); got != fresh {
			t.Errorf("%s: calls that failed have changed the tree:\n%s\nwas\n%s", p.name, got, fresh)
		}
	}
	if escapes < 500 || inside < 3000 {
		t.Errorf("%d calls were escapes and %d were not: that is not what this test is for", escapes, inside)
	}
}
