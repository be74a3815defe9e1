package wasip1_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/internal/guestmem"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// This file has the guest that the tests play: memory with guard pages around it, a thread, and a function to make a
// WASI call by name.

const (
	testCage   = abi.CageID(7)
	memorySize = 128 << 10
)

var le = binary.LittleEndian

// words are the arguments of a WASI call.
type words [9]uint64

func (w *words) Arg(i uint) uint64 { return w[i] }

// canceler is a cancel token that the test sets.
type canceler struct{ stopping func() bool }

func (c canceler) CancelFD() (int, error) { return -1, unix.EMFILE }
func (c canceler) Stopping() bool         { return c.stopping != nil && c.stopping() }

// guest is a program: its memory, its only thread and what it was started with.
type guest struct {
	tb     testing.TB
	mem    []byte // the linear memory itself; the pages around it fault
	memory guestmem.Memory
	thread *threei.Thread
	wasi   *wasip1.WASI
	env    *wasip1.Env
	ids    map[string]uint32
	args   words
}

// newGuest is a guest whose system calls go to sys.
func newGuest(tb testing.TB, sys *threei.System, native any, cfg wasip1.EnvConfig) *guest {
	tb.Helper()
	env, err := wasip1.NewEnv(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	page := unix.Getpagesize()
	all, err := unix.Mmap(-1, 0, memorySize+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := unix.Munmap(all); err != nil {
			tb.Error(err)
		}
	})
	mem := all[page : page+memorySize : page+memorySize]
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		tb.Fatal(err)
	}
	g := &guest{
		tb:     tb,
		mem:    mem,
		memory: guestmem.New(uintptr(guestmem.AddrOf(mem)), memorySize),
		wasi:   wasip1.New(sys),
		env:    env,
		ids:    map[string]uint32{},
	}
	g.thread = &threei.Thread{Cage: testCage, TID: 1, Memory: g.memory, Cancel: canceler{}, Native: native}
	for _, f := range wasip1.Imports() {
		g.ids[f.Name] = f.ID
	}
	return g
}

// sibling is another thread of the same program.
func (g *guest) sibling() *guest {
	other := *g
	other.thread = &threei.Thread{Cage: testCage, TID: 2, Memory: g.memory, Cancel: g.thread.Cancel, Native: g.thread.Native}
	return &other
}

// raw makes a WASI call and answers what the guest would see.
func (g *guest) raw(name string, args ...uint64) (uint64, wasip1.Verdict) {
	id, ok := g.ids[name]
	if !ok {
		g.tb.Fatalf("no function %q", name)
	}
	g.args = words{}
	copy(g.args[:], args)
	return g.wasi.Call(g.thread, g.env, id, &g.args)
}

// call makes a WASI call that answers an errno.
func (g *guest) call(name string, args ...uint64) wasip1.Errno {
	result, verdict := g.raw(name, args...)
	if verdict != wasip1.Continue {
		g.tb.Errorf("%s: verdict %d, want Continue", name, verdict)
	}
	return wasip1.Errno(result)
}

// want makes a WASI call and fails the test unless it answers errno.
func (g *guest) want(errno wasip1.Errno, name string, args ...uint64) {
	g.tb.Helper()
	if got := g.call(name, args...); got != errno {
		g.tb.Fatalf("%s(%x): %v, want %v", name, args, got, errno)
	}
}

// ok is want of success.
func (g *guest) ok(name string, args ...uint64) {
	g.tb.Helper()
	g.want(wasip1.ErrnoSuccess, name, args...)
}

func (g *guest) u16(off uint64) uint16 { return le.Uint16(g.mem[off:]) }
func (g *guest) u32(off uint64) uint32 { return le.Uint32(g.mem[off:]) }
func (g *guest) u64(off uint64) uint64 { return le.Uint64(g.mem[off:]) }

// put writes s at off and answers off and its length, as most functions take a path.
func (g *guest) put(off uint64, s string) (ptr, n uint64) {
	copy(g.mem[off:], s)
	return off, uint64(len(s))
}

// iovecs writes a list of buffers at off from pairs of address and size, and answers off and how many they are.
func (g *guest) iovecs(off uint64, pairs ...uint64) (ptr, n uint64) {
	for i, v := range pairs {
		le.PutUint32(g.mem[off+4*uint64(i):], uint32(v))
	}
	return off, uint64(len(pairs) / 2)
}

// recorder is a native layer that does nothing but write down what it is asked.
type recorder struct {
	sys   *threei.System
	calls []string
	// answer is what a call answers, and may fill what its arguments point to. Nil answers 0.
	answer func(t *threei.Thread, call abi.Call, a *threei.Args) int64
	record bool
	memory guestmem.Memory
}

// newRecorder is a recorder and a guest on it.
func newRecorder(tb testing.TB, cfg wasip1.EnvConfig) (*recorder, *guest) {
	tb.Helper()
	r := &recorder{sys: threei.NewSystem(), record: true}
	for call := range abi.MaxCall {
		r.sys.SetNative(call, func(t *threei.Thread, a *threei.Args) int64 {
			if r.record {
				r.calls = append(r.calls, r.render(call, a))
			}
			if r.answer == nil {
				return 0
			}
			return r.answer(t, call, a)
		})
	}
	g := newGuest(tb, r.sys, preopens{3: 1, 4: 2}, cfg)
	r.memory = g.memory
	return r, g
}

// take is what was recorded since the last take.
func (r *recorder) take() string {
	s := strings.Join(r.calls, "; ")
	r.calls = nil
	return s
}

// preopens is native state with the PerFDInfo of each open descriptor.
type preopens map[int32]uint64

func (p preopens) PerFDInfo(fd int32) (uint64, abi.Errno) {
	info, ok := p[fd]
	if !ok {
		return 0, abi.EBADF
	}
	return info, 0
}

// host is n bytes at a host address that a call passed.
func host(addr, n uint64) []byte { return guestmem.HostBytes(addr, n) }

// operands says how to write the arguments of the calls whose are not all numbers: d a number, o octal flags, x
// hexadecimal flags, b a buffer with its length after it, p a path, v an iovec array with its count after it, t a
// timespec, T two of them, f a pollfd array with its count after it, m a msghdr, w a pointer to fill.
var operands = map[abi.Call]string{
	abi.CallRead: "db", abi.CallWrite: "db", abi.CallPread64: "dbd", abi.CallPwrite64: "dbd",
	abi.CallReadv: "dv", abi.CallWritev: "dv", abi.CallPreadv: "dvd", abi.CallPwritev: "dvd",
	abi.CallFstat: "dw", abi.CallNewfstatat: "dpwx", abi.CallUtimensat: "dpTx",
	abi.CallClockGettime: "dw", abi.CallClockGetres: "dw", abi.CallGetrandom: "bd",
	abi.CallOpenat: "dpoo", abi.CallMkdirat: "dpo", abi.CallUnlinkat: "dpx", abi.CallRenameat: "dpdp",
	abi.CallLinkat: "dpdpx", abi.CallSymlinkat: "pdp", abi.CallReadlinkat: "dpb", abi.CallGetdents64: "db",
	abi.CallPpoll: "ftdd", abi.CallIoctl: "dxw", abi.CallGetsockopt: "dddww", abi.CallRecvmsg: "dmx",
	abi.CallSendmsg: "dmx", abi.CallSendto: "dbxdd", abi.CallAccept4: "dddo", abi.CallFcntl: "ddo",
	abi.CallLseek: "ddd", abi.CallClose: "d", abi.CallFsync: "d", abi.CallFdatasync: "d", abi.CallFtruncate: "dd",
	abi.CallFallocate: "dddd", abi.CallFadvise64: "dddd", abi.CallDup2: "dd", abi.CallSchedYield: "",
	abi.CallExitGroup: "d", abi.CallGetpid: "", abi.CallKill: "dd", abi.CallShutdown: "dd", abi.CallClone: "xx",
}

// render writes a call as text. It fails the test by its text: "BAD" stands for a pointer that is not what it must be.
func (r *recorder) render(call abi.Call, a *threei.Args) string {
	kinds, ok := operands[call]
	if !ok {
		return fmt.Sprintf("BAD call %v", call)
	}
	var out []string
	i := 0
	for _, kind := range kinds {
		v, cage := a.Val[i], a.Cage[i]
		if strings.ContainsRune("dox", kind) && cage != 0 {
			out = append(out, "BAD cage")
		}
		switch kind {
		case 'd':
			out = append(out, fmt.Sprint(int64(v)))
		case 'o':
			out = append(out, fmt.Sprintf("0%o", v))
		case 'x':
			out = append(out, fmt.Sprintf("%#x", v))
		case 'b':
			i++
			out = append(out, r.buffer(v, a.Val[i], cage), fmt.Sprint(a.Val[i]))
		case 'p':
			out = append(out, r.pathOf(v, cage))
		case 'v':
			i++
			out = append(out, r.iovec(v, a.Val[i], cage), fmt.Sprint(a.Val[i]))
		case 't':
			out = append(out, timespecs(v, 1, cage))
		case 'T':
			out = append(out, timespecs(v, 2, cage))
		case 'f':
			i++
			out = append(out, pollfds(v, a.Val[i], cage), fmt.Sprint(a.Val[i]))
		case 'm':
			out = append(out, r.msghdr(v, cage))
		case 'w':
			out = append(out, r.buffer(v, 1, cage))
		}
		i++
	}
	for ; i < 6; i++ {
		if a.Val[i] != 0 || a.Cage[i] != 0 {
			out = append(out, fmt.Sprintf("BAD rest %d: %#x of %d", i, a.Val[i], a.Cage[i]))
		}
	}
	return call.String() + "(" + strings.Join(out, ", ") + ")"
}

// buffer writes where n bytes at addr are: in the guest or in the runtime.
func (r *recorder) buffer(addr, n uint64, cage abi.CageID) string {
	switch {
	case cage == testCage && r.memory.ContainsHost(addr, n):
		return fmt.Sprintf("g%#x", addr-uint64(r.memory.Base()))
	case cage == abi.CageRawPOSIX && addr != 0:
		return "host"
	}
	return fmt.Sprintf("BAD %#x of %d", addr, cage)
}

func (r *recorder) pathOf(addr uint64, cage abi.CageID) string {
	if addr == 0 && cage == 0 {
		return "NULL"
	}
	if cage != abi.CageRawPOSIX {
		return "BAD path"
	}
	for n := uint64(1); n <= 4096; n++ {
		if b := host(addr, n); b[n-1] == 0 {
			return fmt.Sprintf("%q", b[:n-1])
		}
	}
	return "BAD path without NUL"
}

func (r *recorder) iovec(addr, n uint64, cage abi.CageID) string {
	if cage != abi.CageRawPOSIX || n > 1024 {
		return "BAD iovec"
	}
	var out []string
	for i := range n {
		if i == 4 {
			out = append(out, "...")
			break
		}
		b := host(addr+16*i, 16)
		base, size := le.Uint64(b), le.Uint64(b[8:])
		out = append(out, fmt.Sprintf("%s+%d", r.buffer(base, size, testCage), size))
	}
	return "[" + strings.Join(out, " ") + "]"
}

func timespecs(addr uint64, n int, cage abi.CageID) string {
	if addr == 0 && cage == 0 {
		return "NULL"
	}
	if cage != abi.CageRawPOSIX {
		return "BAD timespec"
	}
	var out []string
	for i := range n {
		b := host(addr+16*uint64(i), 16)
		switch nsec := le.Uint64(b[8:]); nsec {
		case unix.UTIME_NOW:
			out = append(out, "now")
		case unix.UTIME_OMIT:
			out = append(out, "omit")
		default:
			out = append(out, fmt.Sprintf("%d.%09d", int64(le.Uint64(b)), nsec))
		}
	}
	return strings.Join(out, " ")
}

func pollfds(addr, n uint64, cage abi.CageID) string {
	if cage != abi.CageRawPOSIX {
		return "BAD pollfd"
	}
	var out []string
	for i := range n {
		b := host(addr+8*i, 8)
		out = append(out, fmt.Sprintf("%d:%#x", int32(le.Uint32(b)), le.Uint16(b[4:])))
	}
	return "{" + strings.Join(out, " ") + "}"
}

func (r *recorder) msghdr(addr uint64, cage abi.CageID) string {
	if cage != abi.CageRawPOSIX {
		return "BAD msghdr"
	}
	b := host(addr, 56)
	for _, off := range []int{0, 8, 32, 40, 48} {
		if le.Uint64(b[off:]) != 0 {
			return fmt.Sprintf("BAD msghdr field %d", off)
		}
	}
	return r.iovec(le.Uint64(b[16:]), le.Uint64(b[24:]), cage)
}

// largeView is a view of g's memory that claims size bytes, for native layers that do not touch what they are passed.
func largeView(g *guest, size uint64) guestmem.Memory { return guestmem.New(g.memory.Base(), size) }
