package wasip1_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// fakeDir is a directory as Linux lists it: entries with positions that say nothing of their order.
type fakeDir struct {
	names  []string
	offset map[uint64]uint64 // position of each open descriptor
	next   uint64            // the next descriptor that openat answers
	opened []string
	inside func() // called in getdents64
}

// position is what d_off says after entry i.
func position(i int) uint64 { return uint64(i+1) * 0x1_0000_0001 }

func (d *fakeDir) serve(_ *threei.Thread, call abi.Call, a *threei.Args) int64 {
	switch call {
	case abi.CallFstat:
		le.PutUint32(host(a.Val[1], 144)[24:], unix.S_IFDIR)
	case abi.CallOpenat:
		d.next++
		d.offset[d.next] = 0
		d.opened = append(d.opened, fmt.Sprintf("%d %o", a.Val[0], a.Val[2]))
		return int64(d.next)
	case abi.CallClose:
		delete(d.offset, a.Val[0])
	case abi.CallLseek:
		if a.Val[1]%0x1_0000_0001 != 0 || a.Val[1] > position(len(d.names)) {
			return abi.EINVAL.Result()
		}
		d.offset[a.Val[0]] = a.Val[1]
	case abi.CallGetdents64:
		if d.inside != nil {
			d.inside()
		}
		return d.getdents(a)
	}
	return 0
}

func (d *fakeDir) getdents(a *threei.Args) int64 {
	at, known := d.offset[a.Val[0]]
	if !known {
		return abi.EBADF.Result()
	}
	buf, n := host(a.Val[1], a.Val[2]), 0
	for i := int(at / 0x1_0000_0001); i < len(d.names); i++ {
		size := (19 + len(d.names[i]) + 1 + 7) &^ 7
		if n+size > len(buf) {
			if n == 0 {
				return abi.EINVAL.Result()
			}
			break
		}
		b := buf[n : n+size]
		clear(b)
		le.PutUint64(b, uint64(1000+i))
		le.PutUint64(b[8:], position(i))
		le.PutUint16(b[16:], uint16(size))
		b[18] = byte(i % 16)
		copy(b[19:], d.names[i])
		n += size
		d.offset[a.Val[0]] = position(i)
	}
	return int64(n)
}

// newDirGuest is a guest with the directory as descriptor 5.
func newDirGuest(t *testing.T, names ...string) (*fakeDir, *guest) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	d := &fakeDir{names: names, offset: map[uint64]uint64{5: 0}, next: 100}
	r.record = false
	r.answer = d.serve
	return d, g
}

// listing reads descriptor 5 as C libraries do, with a buffer of size bytes, and answers its names.
func listing(t interface{ Fatalf(string, ...any) }, g *guest, size uint64) []string {
	return listingAt(t, g, 5, size, 0x4000)
}

// listingAt is listing of any descriptor, with the buffer a little after at.
func listingAt(t interface{ Fatalf(string, ...any) }, g *guest, fd, size, at uint64) []string {
	buf, used := at+0x100, at
	names, cookie := []string{}, uint64(0)
	for rounds := 0; ; rounds++ {
		if rounds > 10000 {
			t.Fatalf("no end of the directory after %q", names)
		}
		if errno := g.call("fd_readdir", fd, buf, size, cookie, used); errno != 0 {
			t.Fatalf("fd_readdir at %#x: %v", cookie, errno)
		}
		n := uint64(g.u32(used))
		if n > size {
			t.Fatalf("%d bytes of a buffer of %d", n, size)
		}
		whole := 0
		for at := uint64(0); at+24 <= n; {
			next, namlen := g.u64(buf+at), uint64(g.u32(buf+at+16))
			if at+24+namlen > n {
				break // cut
			}
			names = append(names, string(g.mem[buf+at+24:buf+at+24+namlen]))
			cookie = next
			at += 24 + namlen
			whole++
		}
		if n < size {
			return names
		}
		if whole == 0 {
			size *= 2 // the entry does not fit: the rule of the witx
		}
	}
}

func TestFdReaddir_ListsEverythingOnceWithAnyBuffer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfN(rapid.StringMatching(`[a-zé]{1,85}`), 0, 60).Draw(rt, "names")
		size := rapid.Uint64Range(1, 5000).Draw(rt, "buffer")
		_, g := newDirGuest(t, names...)
		if got := listing(rt, g, size); strings.Join(got, "/") != strings.Join(names, "/") {
			rt.Fatalf("listed %q, want %q", got, names)
		}
	})
}

func TestFdReaddir_FieldsOfAnEntry(t *testing.T) {
	_, g := newDirGuest(t, ".", "..", "file")
	g.ok("fd_readdir", 5, 0x400, 200, 0, 0x80)
	if n := g.u32(0x80); n != 24+1+24+2+24+4 {
		t.Fatalf("%d bytes", n)
	}
	at := uint64(0x400 + 25 + 26)
	if g.u64(at) != position(2) || g.u64(at+8) != 1002 || g.u32(at+16) != 4 || g.u32(at+20) != 2 {
		t.Errorf("entry % x", g.mem[at:at+28])
	}
	// d_type: fifo, chr, dir, blk, reg, lnk and sock are the odd ones out of 0..15 that exist.
	want := map[byte]byte{2: 2, 4: 3, 6: 1, 8: 4, 10: 7, 12: 6}
	_, g = newDirGuest(t, strings.Split("abcdefghijklmnop", "")...)
	g.ok("fd_readdir", 5, 0x400, 1000, 0, 0x80)
	for i := range byte(16) {
		if got := g.mem[0x400+25*uint64(i)+20]; got != want[i] {
			t.Errorf("DT %d: filetype %d, want %d", i, got, want[i])
		}
	}
}

func TestFdReaddir_StartsAnywhere(t *testing.T) {
	_, g := newDirGuest(t, "a", "b", "c")
	for _, tt := range []struct {
		cookie uint64
		want   string
	}{
		{0, "abc"},
		{position(0), "bc"},
		{position(1), "c"},
		{position(2), ""},
		{0, "abc"}, // back to the start
		{position(2) + 1, ""},
		{1<<63 - 1, ""},
		{1 << 63, ""},
		{1<<64 - 1, ""},
	} {
		g.ok("fd_readdir", 5, 0x400, 200, tt.cookie, 0x80)
		var got string
		for at := uint64(0); at < uint64(g.u32(0x80)); at += 25 {
			got += string(g.mem[0x400+at+24])
		}
		if got != tt.want {
			t.Errorf("from %#x: %q, want %q", tt.cookie, got, tt.want)
		}
	}
}

// TestFdReaddir_TwoThreadsDoNotDisturbEachOther: a second thread lists the same directory while the first is in the
// middle of it. It gets its entries by a descriptor of its own, which it closes.
func TestFdReaddir_TwoThreadsDoNotDisturbEachOther(t *testing.T) {
	d, g := newDirGuest(t, "a", "b", "c")
	other := g.sibling()
	d.inside = func() {
		d.inside = nil
		if got := listing(t, other, 300); strings.Join(got, "") != "abc" {
			t.Errorf("the second thread listed %q", got)
		}
	}
	g.ok("fd_readdir", 5, 0x8000, 25, position(0), 0x80)
	if name := string(g.mem[0x8000+24]); name != "b" {
		t.Errorf("the first thread got %q, want b", name)
	}
	if want := fmt.Sprintf("5 %o", unix.O_DIRECTORY|unix.O_NOFOLLOW); strings.Join(d.opened, " ") != want {
		t.Errorf("opened %q, want %q", d.opened, want)
	}
	if len(d.offset) != 1 {
		t.Errorf("descriptors left open: %v", d.offset)
	}
	g.ok("fd_readdir", 5, 0x8000, 25, 0, 0x80)
	if len(d.opened) != 1 {
		t.Errorf("a thread alone opened a descriptor of its own")
	}
}

func TestFdReaddir_EntriesThatMakeNoSenseAreIO(t *testing.T) {
	for name, entry := range map[string]func(b []byte) int64{
		"short":         func([]byte) int64 { return 19 },
		"no length":     func([]byte) int64 { return 24 },
		"length 19":     func(b []byte) int64 { le.PutUint16(b[16:], 19); return 24 },
		"length beyond": func(b []byte) int64 { le.PutUint16(b[16:], 25); return 24 },
		"answer beyond": func(b []byte) int64 { le.PutUint16(b[16:], 24); return int64(len(b)) + 1 },
	} {
		d, _ := newDirGuest(t)
		r, g := newRecorder(t, wasip1.EnvConfig{})
		r.answer = func(th *threei.Thread, call abi.Call, a *threei.Args) int64 {
			if call == abi.CallGetdents64 {
				return entry(host(a.Val[1], a.Val[2]))
			}
			return d.serve(th, call, a)
		}
		if errno := g.call("fd_readdir", 5, 0x400, 200, 0, 0x80); errno != wasip1.ErrnoIO {
			t.Errorf("%s: %v, want io", name, errno)
		}
	}
}

func TestFdReaddir_EndsWhenTheCageStops(t *testing.T) {
	d, g := newDirGuest(t, "a")
	rounds := 0
	d.inside = func() {
		rounds++
		d.offset[5] = 0 // the same entry for ever
	}
	g.thread.Cancel = canceler{stopping: func() bool { return rounds == 7 }}
	g.want(wasip1.ErrnoIntr, "fd_readdir", 5, 0x4000, 0x8000, 0, 0x80)
	if rounds != 7 {
		t.Errorf("%d rounds, want 7", rounds)
	}
}

func TestFdReaddir_PassesErrorsOn(t *testing.T) {
	for _, at := range []abi.Call{abi.CallFstat, abi.CallLseek, abi.CallGetdents64} {
		d, _ := newDirGuest(t, "a")
		r, g := newRecorder(t, wasip1.EnvConfig{})
		r.answer = func(th *threei.Thread, call abi.Call, a *threei.Args) int64 {
			if call == at {
				return abi.ENOENT.Result()
			}
			return d.serve(th, call, a)
		}
		g.want(wasip1.ErrnoNoent, "fd_readdir", 5, 0x400, 200, 0, 0x80)
	}
}
