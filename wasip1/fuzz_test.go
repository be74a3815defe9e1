package wasip1_test

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// hostile is a native layer that uses everything it is passed to the full: it fills every buffer that it may fill and
// reads every one that it may read, so that one outside memory faults. It answers whatever the test wants.
type hostile struct {
	t     interface{ Fatalf(string, ...any) }
	g     *guest
	next  func() int64 // the next answer
	sum   byte
	calls int
}

// serve is the native function of every call.
func (h *hostile) serve(th *threei.Thread, call abi.Call, a *threei.Args) int64 {
	h.calls++
	switch call {
	case abi.CallRead, abi.CallPread64, abi.CallGetdents64:
		h.fill(th, a.Val[1], a.Val[2], a.Cage[1])
	case abi.CallReadlinkat:
		h.path(th, a.Val[1], a.Cage[1])
		h.fill(th, a.Val[2], a.Val[3], a.Cage[2])
	case abi.CallWrite, abi.CallPwrite64, abi.CallSendto:
		h.use(th, a.Val[1], a.Val[2], a.Cage[1])
	case abi.CallReadv, abi.CallPreadv:
		h.vector(th, a.Val[1], a.Val[2], h.fill)
	case abi.CallWritev, abi.CallPwritev:
		h.vector(th, a.Val[1], a.Val[2], h.use)
	case abi.CallRecvmsg, abi.CallSendmsg:
		do := h.fill
		if call == abi.CallSendmsg {
			do = h.use
		}
		hdr := host(a.Val[1], 56)
		h.vector(th, le.Uint64(hdr[16:]), le.Uint64(hdr[24:]), do)
		le.PutUint32(hdr[48:], uint32(h.next()))
	case abi.CallGetrandom:
		h.fill(th, a.Val[0], a.Val[1], a.Cage[0])
	case abi.CallFstat:
		h.fill(th, a.Val[1], 144, a.Cage[1])
		le.PutUint32(host(a.Val[1], 144)[24:], uint32(h.next()))
	case abi.CallNewfstatat:
		h.path(th, a.Val[1], a.Cage[1])
		h.fill(th, a.Val[2], 144, a.Cage[2])
	case abi.CallClockGettime, abi.CallClockGetres:
		h.fill(th, a.Val[1], 16, a.Cage[1])
		le.PutUint64(host(a.Val[1], 16)[8:], uint64(h.next()))
	case abi.CallOpenat, abi.CallMkdirat, abi.CallUnlinkat:
		h.path(th, a.Val[1], a.Cage[1])
	case abi.CallLinkat, abi.CallRenameat:
		h.path(th, a.Val[1], a.Cage[1])
		h.path(th, a.Val[3], a.Cage[3])
	case abi.CallSymlinkat:
		h.path(th, a.Val[0], a.Cage[0])
		h.path(th, a.Val[2], a.Cage[2])
	case abi.CallPpoll:
		for i := range a.Val[1] {
			le.PutUint16(host(a.Val[0]+8*i, 8)[6:], uint16(h.next()))
		}
	case abi.CallIoctl:
		h.fill(th, a.Val[2], 4, a.Cage[2])
	case abi.CallGetsockopt:
		h.fill(th, a.Val[3], 4, a.Cage[3])
		h.fill(th, a.Val[4], 4, a.Cage[4])
	}
	return h.next()
}

// bytes is the memory that an argument points to. It must all be the guest's or the runtime's.
func (h *hostile) bytes(th *threei.Thread, addr, n uint64, cage abi.CageID) []byte {
	b, errno := th.Resolve(addr, n, cage)
	if errno != 0 {
		h.t.Fatalf("pointer %#x+%d of cage %d is not in its memory", addr, n, cage)
	}
	return b
}

func (h *hostile) fill(th *threei.Thread, addr, n uint64, cage abi.CageID) {
	b := h.bytes(th, addr, n, cage)
	for i := range b {
		b[i] = byte(h.calls)
	}
}

func (h *hostile) use(th *threei.Thread, addr, n uint64, cage abi.CageID) {
	for _, v := range h.bytes(th, addr, n, cage) {
		h.sum += v
	}
}

func (h *hostile) vector(th *threei.Thread, addr, n uint64, do func(*threei.Thread, uint64, uint64, abi.CageID)) {
	if n > 1024 {
		h.t.Fatalf("%d buffers", n)
	}
	for i := range n {
		b := host(addr+16*i, 16)
		do(th, le.Uint64(b), le.Uint64(b[8:]), testCage)
	}
}

func (h *hostile) path(th *threei.Thread, addr uint64, cage abi.CageID) {
	if addr == 0 {
		return
	}
	for n := uint64(1); ; n++ {
		if n > 4096 {
			h.t.Fatalf("path without a NUL")
		}
		if b := h.bytes(th, addr, n, cage); b[n-1] == 0 {
			return
		}
	}
}

// newHostile is a guest over a hostile layer. Its cage stops after a while, which is what ends loops.
func newHostile(tb testing.TB) *hostile {
	r, g := newRecorder(tb, wasip1.EnvConfig{
		Args: []string{"prog", "arg"}, Environ: []string{"A=b"}, Preopens: []string{"/data", "/more"},
	})
	h := &hostile{t: tb, g: g}
	r.record, r.answer = false, h.serve
	g.thread.Cancel = canceler{stopping: func() bool { return h.calls > 200 }}
	return h
}

// run makes one call and checks what must hold of any.
func (h *hostile) run(fn uint32, args [9]uint64) {
	h.calls = 0
	h.g.args = words(args)
	result, verdict := h.g.wasi.Call(h.g.thread, h.g.env, fn, &h.g.args)
	switch name := wasip1.Name(fn); {
	case name == "proc_exit":
		if verdict != wasip1.QuitThread {
			h.t.Fatalf("proc_exit: verdict %d", verdict)
		}
	case verdict != wasip1.Continue:
		h.t.Fatalf("%s: verdict %d", name, verdict)
	case name == "thread-spawn":
		if tid := int32(result); result > 1<<32-1 || tid == 0 || tid >= 1<<29 {
			h.t.Fatalf("thread-spawn: %#x", result)
		}
	case result > uint64(wasip1.ErrnoNotcapable):
		h.t.Fatalf("%s: %#x is no errno", name, result)
	}
}

// TestCall_AnyArgumentsAnyAnswers: no arguments of a guest and no answers of a grate make the package panic, hang, or pass
// on or touch what is not the guest's. Guard pages around the memory, and hostile, see to the last.
func TestCall_AnyArgumentsAnyAnswers(t *testing.T) {
	h := newHostile(t)
	word := rapid.OneOf(
		rapid.Uint64Range(0, 16),
		rapid.Uint64Range(memorySize-80, memorySize+8),
		rapid.Uint64Range(0, memorySize),
		rapid.Uint64Range(1<<32-80, 1<<32-1),
		rapid.Uint64(),
	)
	answer := rapid.OneOf(rapid.Int64Range(0, 70), rapid.Int64Range(-140, 0), rapid.Int64(), rapid.Just[int64](0o040755))
	rapid.Check(t, func(rt *rapid.T) {
		h.t = rt
		for i, v := range rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(rt, "memory") {
			h.g.mem[0x40*i%memorySize] = v
			h.g.mem[memorySize-1-i] = v
			h.g.mem[i] = v
		}
		list := rapid.SliceOfN(answer, 1, 6).Draw(rt, "answers")
		n := 0
		h.next = func() int64 { n++; return list[n%len(list)] }
		fn := rapid.Uint32Range(0, uint32(len(wasip1.Imports())-1)).Draw(rt, "function")
		var args [9]uint64
		for i := range args {
			args[i] = word.Draw(rt, "argument")
		}
		h.run(fn, args)
	})
}

// FuzzCall is TestCall_AnyArgumentsAnyAnswers with the memory, the arguments and the answers from the fuzzer.
func FuzzCall(f *testing.F) {
	ids := map[string]uint32{}
	for _, imp := range wasip1.Imports() {
		ids[imp.Name] = imp.ID
	}
	for _, tt := range allocCases {
		seed := make([]byte, 9*8)
		for i, v := range tt.args {
			le.PutUint64(seed[8*i:], v)
		}
		f.Add(ids[tt.fn], seed, []byte{16, 0, 0, 0, 0x10, 0, 0, 0}, []byte{1, 2, 0xff})
	}
	// Each function, those of threads too, with arguments within the memory, at its end and beyond it.
	for _, imp := range wasip1.Imports() {
		for _, word := range []uint64{0, 3, 0x100, memorySize - 4, memorySize, 1<<32 - 1} {
			f.Add(imp.ID, bytes.Repeat(le.AppendUint64(nil, word), 9), []byte{0x40, 1, 0, 0, 0x20, 0, 0, 0}, []byte{0, 2, 0xf1})
		}
	}
	f.Fuzz(func(t *testing.T, fn uint32, arguments, memory, answer []byte) {
		h := newHostile(t)
		for at := 0; at < memorySize && len(memory) > 0; at += max(len(memory), 256) {
			copy(h.g.mem[at:], memory)
		}
		n := 0
		h.next = func() int64 {
			if len(answer) == 0 {
				return 0
			}
			n++
			switch v := answer[n%len(answer)]; {
			case v < 0x70:
				return int64(v)
			case v < 0xf0:
				return -int64(v)
			case v == 0xf0:
				return unix.S_IFDIR
			default:
				return int64(v) << (v & 63)
			}
		}
		var args [9]uint64
		for i := range args {
			if len(arguments) >= 8*(i+1) {
				args[i] = le.Uint64(arguments[8*i:])
			}
		}
		h.run(fn%uint32(len(wasip1.Imports())), args)
	})
}
