package wasip1_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

func TestBuffers_OutsideMemoryAreFault(t *testing.T) {
	for _, tt := range []struct {
		pairs []uint64
		errno wasip1.Errno
	}{
		{[]uint64{memorySize - 16, 16}, 0},
		{[]uint64{memorySize - 16, 17}, wasip1.ErrnoFault},
		{[]uint64{0, memorySize}, 0},
		{[]uint64{0, memorySize + 1}, wasip1.ErrnoFault},
		{[]uint64{1, 1<<32 - 1}, wasip1.ErrnoFault}, // the sum is 2^32
		{[]uint64{1<<32 - 1, 1}, wasip1.ErrnoFault},
		{[]uint64{1<<32 - 1, 1<<32 - 1}, wasip1.ErrnoFault},
		{[]uint64{0, 16, 0, 16, memorySize, 1}, wasip1.ErrnoFault}, // a bad one after good ones
		{[]uint64{1<<32 - 1, 0, 0, 16}, 0},                         // an empty one is not looked at
	} {
		for _, fn := range []string{"fd_read", "fd_write", "fd_pread", "fd_pwrite", "sock_recv", "sock_send"} {
			r, g := newRecorder(t, wasip1.EnvConfig{})
			list, n := g.iovecs(0x100, tt.pairs...)
			args := map[string][]uint64{
				"fd_read": {5, list, n, 0x80}, "fd_write": {5, list, n, 0x80},
				"fd_pread": {5, list, n, 0, 0x80}, "fd_pwrite": {5, list, n, 0, 0x80},
				"sock_recv": {5, list, n, 0, 0x80, 0x90}, "sock_send": {5, list, n, 0, 0x80},
			}[fn]
			if errno := g.call(fn, args...); errno != tt.errno {
				t.Errorf("%s of %#x: %v, want %v", fn, tt.pairs, errno, tt.errno)
			}
			if calls := r.take(); (calls == "") != (tt.errno != 0) {
				t.Errorf("%s of %#x: system calls %q", fn, tt.pairs, calls)
			}
		}
	}
}

func TestBuffers_ListsThatDoNotFitInMemoryAreFault(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	for _, list := range [][2]uint64{
		{memorySize - 8, 2},
		{memorySize, 1},
		{0, memorySize/8 + 1},
		{0, 1<<32 - 1},
		{8, 1 << 29}, // the size in bytes is 2^32
		{1<<32 - 1, 1<<32 - 1},
	} {
		g.want(wasip1.ErrnoFault, "fd_read", 5, list[0], list[1], 0x80)
		g.want(wasip1.ErrnoFault, "sock_send", 5, list[0], list[1], 0, 0x80)
	}
	if calls := r.take(); calls != "" {
		t.Errorf("system calls %s", calls)
	}
}

func TestBuffers_TakeTheFirst1024Entries(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	var pairs []uint64
	for range 1024 {
		pairs = append(pairs, 0x20, 1)
	}
	pairs = append(pairs, 1<<32-1, 1<<32-1) // the 1025th would be fault
	list, n := g.iovecs(0x100, pairs...)
	g.ok("fd_write", 5, list, n, 0x80)
	if got := r.take(); !strings.HasSuffix(got, "...], 1024)") {
		t.Errorf("%s, want 1024 buffers", got)
	}
	g.ok("fd_write", 5, list, 1023, 0x80)
	if got := r.take(); !strings.HasSuffix(got, "...], 1023)") {
		t.Errorf("%s, want 1023 buffers", got)
	}
}

func TestBuffers_StopAtTheMostThatLinuxTransfers(t *testing.T) {
	// Seventeen times all of a memory of 128 MiB are more than the 0x7ffff000 bytes of MAX_RW_COUNT. Nothing touches
	// the memory, so none needs to be there.
	const size = 128 << 20
	r, g := newRecorder(t, wasip1.EnvConfig{})
	var pairs []uint64
	for range 17 {
		pairs = append(pairs, 0, size)
	}
	list, n := g.iovecs(0x100, pairs...)
	g.thread.Memory = largeView(g, size)
	total := uint64(0)
	r.record = false
	r.answer = func(_ *threei.Thread, call abi.Call, a *threei.Args) int64 {
		if call != abi.CallReadv {
			t.Errorf("%v, want readv", call)
			return 0
		}
		for i := range a.Val[2] {
			total += le.Uint64(host(a.Val[1]+16*i, 16)[8:])
		}
		return int64(total)
	}
	g.ok("fd_read", 5, list, n, 0x80)
	if total != 0x7ffff000 || g.u32(0x80) != 0x7ffff000 {
		t.Errorf("asked for %#x bytes, reported %#x", total, g.u32(0x80))
	}
}

// TestBuffers_AreTheGuestsInOrder: whatever list a guest makes, what is passed on are its buffers in order without the
// empty ones, cut to what the limits allow, or fault.
func TestBuffers_AreTheGuestsInOrder(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	r.record = false
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(rt, "n")
		var pairs []uint64
		var want []string
		fault := false
		for range n {
			base := rapid.OneOf(rapid.Uint64Range(0, memorySize-1), rapid.Uint64Range(0, 1<<32-1)).Draw(rt, "base")
			size := rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Range(0, 64), rapid.Uint64Range(0, 1<<32-1)).Draw(rt, "size")
			pairs = append(pairs, base, size)
			if size == 0 {
				continue
			}
			fault = fault || base+size > memorySize
			want = append(want, fmt.Sprintf("%#x+%d", base, size))
		}
		list, count := g.iovecs(0x100, pairs...)
		var got []string
		r.answer = func(_ *threei.Thread, call abi.Call, a *threei.Args) int64 {
			add := func(base, size uint64) {
				if size != 0 {
					got = append(got, fmt.Sprintf("%#x+%d", base-uint64(g.memory.Base()), size))
				}
			}
			switch call {
			case abi.CallWrite:
				add(a.Val[1], a.Val[2])
			case abi.CallWritev:
				for i := range a.Val[2] {
					b := host(a.Val[1]+16*i, 16)
					add(le.Uint64(b), le.Uint64(b[8:]))
				}
			}
			return 0
		}
		errno := g.call("fd_write", 5, list, count, 0x80)
		if fault {
			if errno != wasip1.ErrnoFault || got != nil {
				rt.Fatalf("%v and %v passed on, want fault", errno, got)
			}
			return
		}
		if errno != 0 || fmt.Sprint(got) != fmt.Sprint(want) {
			rt.Fatalf("%v and %v passed on, want %v", errno, got, want)
		}
	})
}

// TestBuffers_AreCopiedOnce: the list changes as soon as the system call is made, and what was passed on does not.
func TestBuffers_AreCopiedOnce(t *testing.T) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	r.record = false
	list, n := g.iovecs(0x100, 0x1000, 16, 0x2000, 16)
	r.answer = func(_ *threei.Thread, _ abi.Call, a *threei.Args) int64 {
		clear(g.mem[0x100:0x200])
		for i := range uint64(2) {
			b := host(a.Val[1]+16*i, 16)
			if base, size := le.Uint64(b)-uint64(g.memory.Base()), le.Uint64(b[8:]); base != 0x1000*(i+1) || size != 16 {
				t.Errorf("buffer %d is %#x+%d after the guest changed its list", i, base, size)
			}
		}
		return 32
	}
	g.ok("fd_write", 5, list, n, 0x80)
}
