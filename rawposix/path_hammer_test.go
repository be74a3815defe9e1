package rawposix_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/rawposix"
)

// TestPaths_NeverLeadOutWhileTheHostRenames has several threads of a cage resolve paths of every shape, while the host
// moves directories out of the cage's and back, and exchanges directories for links that lead out. Whatever a call
// arrives at has to be inside: nothing outside may be opened, made, removed, renamed, linked or touched.
func TestPaths_NeverLeadOutWhileTheHostRenames(t *testing.T) {
	bothResolvers(t, func(t *testing.T, e *env) {
		base := tempDir(t)
		root, outside := base+"/root", base+"/outside"
		check := func(errs ...error) {
			t.Helper()
			for _, err := range errs {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		// Inside and outside have the same names, so that a path that leads out finds something there, and tells by it.
		for _, d := range []string{root, outside} {
			check(os.MkdirAll(d+"/a/b/c", 0o755), os.MkdirAll(d+"/x", 0o755))
			for _, f := range []string{"/f", "/a/f", "/a/b/f", "/a/b/c/f", "/x/f"} {
				check(os.WriteFile(d+f, []byte(strings.TrimPrefix(d, base)), 0o644))
			}
		}
		check(os.Symlink(outside, root+"/evil_abs"), os.Symlink("../outside/a", root+"/evil"), os.Mkdir(base+"/parked", 0o755),
			os.Symlink("../outside", root+"/link"), os.Symlink("a/b", root+"/good"))
		before := snapshot(t, outside)

		dir := e.preopen(root)
		b, err := unix.Open(root+"/a/b", unix.O_PATH|unix.O_CLOEXEC, 0)
		check(err)
		defer func() { _ = unix.Close(b) }()
		ctx, stop := context.WithTimeout(context.Background(), hammerTime)
		defer stop()
		var host, cage sync.WaitGroup
		quiet := func(error) {} // what one swapper moves another may be looking for
		for _, swap := range []func(){
			func() { // the directory a is out of the root for a moment, with all that is in it
				quiet(unix.Rename(root+"/a", base+"/parked/a"))
				quiet(unix.Rename(base+"/parked/a", root+"/a"))
			},
			func() { // a is a link that leads out for a moment
				quiet(unix.Renameat2(unix.AT_FDCWD, root+"/a", unix.AT_FDCWD, root+"/evil", unix.RENAME_EXCHANGE))
				quiet(unix.Renameat2(unix.AT_FDCWD, root+"/a", unix.AT_FDCWD, root+"/evil", unix.RENAME_EXCHANGE))
			},
			func() { // good leads out for a moment
				quiet(unix.Renameat2(unix.AT_FDCWD, root+"/good", unix.AT_FDCWD, root+"/link", unix.RENAME_EXCHANGE))
				quiet(unix.Renameat2(unix.AT_FDCWD, root+"/good", unix.AT_FDCWD, root+"/link", unix.RENAME_EXCHANGE))
			},
			func() { // c moves up, so that its ".." is another
				quiet(unix.Renameat(b, "c", hostOf(e, dir), "c"))
				quiet(unix.Renameat(hostOf(e, dir), "c", b, "c"))
			},
		} {
			host.Go(func() {
				for ctx.Err() == nil {
					swap()
				}
			})
		}

		var inside, refused atomic.Int64
		for n := range 4 {
			th, e := e.thread(), *e
			e.th, e.used = th, uint64(n)*(memSize/4)
			cage.Go(func() {
				for i := n; ctx.Err() == nil; i++ {
					switch found := e.tryPaths(dir, i); {
					case strings.HasPrefix(found, "/outside"):
						t.Errorf("round %d arrived outside", i)
						return
					case found != "":
						inside.Add(1)
					default:
						refused.Add(1)
					}
				}
			})
		}
		cage.Wait()
		host.Wait()
		if after := snapshot(t, outside); after != before {
			t.Errorf("outside is\n%s\nand was\n%s", after, before)
		}
		if inside.Load() == 0 || refused.Load() == 0 {
			t.Errorf("%d calls arrived and %d were refused: the test met no race", inside.Load(), refused.Load())
		}
		t.Logf("%d calls arrived, %d were refused", inside.Load(), refused.Load())
	})
}

// hammerTime is how long a hammer test goes on: long enough for thousands of races.
const hammerTime = 1500 * time.Millisecond

// hammerPaths lead, if anything, to a directory with a file f in it.
var hammerPaths = []string{
	"a/b", "a/b/c", "a/b/c/..", "a/b/c/../..", "a/b/../../x", "a/b/c/../../../x", "good", "good/c", "good/..", "good/c/../../..",
	"evil", "link", "evil/b/c/../../../x", "a/../a/b", "c/../a", "a/b/c/../../../../outside", "good/../../outside", "x/../a/b/c",
}

// tryPaths makes one round of calls. It answers what it read from a file, which tells where that was.
func (e *env) tryPaths(dir, i int) string {
	defer e.mark()()
	path := hammerPaths[i%len(hammerPaths)]
	name := e.str(path + fmt.Sprintf("/n%d", i%7))
	switch i % 11 {
	case 0:
		e.call(abi.CallMkdirat, dir, name, 0o700)
	case 1:
		e.call(abi.CallUnlinkat, dir, name, 0)
	case 2:
		e.call(abi.CallUnlinkat, dir, name, unix.AT_REMOVEDIR)
	case 3:
		if fd := e.call(abi.CallOpenat, dir, name, oRdwr|oCreat|oTrunc, 0o600); fd >= 0 {
			e.must(abi.CallClose, int(fd))
		}
	case 4:
		e.call(abi.CallSymlinkat, e.str("../../.."), dir, name)
	case 5:
		e.call(abi.CallRenameat, dir, e.str("x/n0"), dir, name)
		e.call(abi.CallRenameat, dir, name, dir, e.str("x/n0"))
	case 6:
		e.call(abi.CallLinkat, dir, e.str(path+"/f"), dir, e.str("x/n1"), unix.AT_SYMLINK_FOLLOW)
	case 7:
		e.call(abi.CallUtimensat, dir, e.str(path+"/f"), e.timespec(7, 0), 0)
		e.timespec(8, 0)
	case 8:
		e.call(abi.CallNewfstatat, dir, e.str(path+"/f"), e.alloc(rawposix.StatSize), 0)
	}
	fd := e.call(abi.CallOpenat, dir, e.str(path+"/f"), oRdonly, 0)
	if fd < 0 {
		return ""
	}
	at := e.alloc(16)
	n := e.must(abi.CallRead, int(fd), at, 16)
	e.must(abi.CallClose, int(fd))
	return string(e.bytes(at, int(n)))
}
