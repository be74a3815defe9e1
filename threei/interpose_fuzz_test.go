package threei_test

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/threei"
)

const (
	// interposers are cages that are grates and have memory. What each may do to which other the input says.
	interposers = 4
	// outsider is a cage that none of them may name.
	outsider = abi.CageID(10 + interposers)
	// interposeBytes is how many bytes of input a call has.
	interposeBytes = 4 + 6*5
)

// interposed is a world of cages that make calls, several at once, and die meanwhile.
type interposed struct {
	*world
	t    *testing.T
	gate [interposers]sync.RWMutex // held for reading by what is inside the cage, for writing by who makes it quiescent
}

// FuzzInterpose has cages register handlers, copy tables and data, and make calls that are served by each other, with words
// of any kind, on three threads, while cages are stopped and end. Every answer is documented; one that nobody may name keeps
// its handlers and its memory; nothing of it comes to another's memory; and of cages that end nothing is left.
func FuzzInterpose(f *testing.F) {
	op := func(thread, cage, call byte, args ...uint64) []byte {
		b := []byte{thread, cage, call, 0}
		for i := range 6 {
			v, kind := uint64(0), byte(0)
			if i < len(args) {
				v, kind = args[i]&(1<<32-1), byte(args[i]>>32)
			}
			b = binary.LittleEndian.AppendUint32(append(b, kind), uint32(v))
		}
		return b
	}
	const id, base, wide = 1 << 32, 2 << 32, 3 << 32 // an id of a cage, an address in the memory of one, a large number
	register, copyTable, copyData, call, stop, kill := byte(0), byte(1), byte(2), byte(3), byte(4), byte(5)
	var all []byte
	for i := range byte(3) {
		all = append(all, op(i, i, register, id+1, 7, id+2, 3)...)
		all = append(all, op(i, i+1, register, id, 7, id+3, 3)...)
		all = append(all, op(i, i, copyTable, id+1, id+2)...)
		all = append(all, op(i, i, call, 7)...)
		all = append(all, op(i, i, copyData, base+66, id+1, base+127, id+2, 64)...) // an address is of the cage 10 + itself mod 5
		all = append(all, op(i, 2, copyData, base+65, id, base+127, id+2, 64)...)
		all = append(all, op(i, 3, copyData, base+65, id, base+128, id+3, 64, 1)...)
		all = append(all, op(i, i, copyData, base+4, id+4, base+127, id+2, 64)...)
		all = append(all, op(i, i, copyData, base+127, id+2, base+4, id+4, 64)...)
		all = append(all, op(i, i, register, id+uint64(i), wide+500, id+4, wide)...)
		all = append(all, op(i, i, register, id+1, 1023, id+5)...)
		all = append(all, op(i, i, stop)...)
		all = append(all, op(i, i, call, 7)...)
		all = append(all, op(i, i+1, kill)...)
	}
	f.Add(uint16(0xffff), all)
	f.Add(uint16(0), all)
	f.Add(uint16(0x1248), append(all, all...))
	f.Fuzz(func(t *testing.T, family uint16, input []byte) {
		hung := time.AfterFunc(time.Minute, func() { panic("FuzzInterpose hangs") })
		defer hung.Stop()
		w := &interposed{world: newWorld(t), t: t}
		w.populate(family)
		var group sync.WaitGroup
		for thread := range byte(3) {
			group.Go(func() {
				for at := 0; at+interposeBytes <= min(len(input), 300*interposeBytes); at += interposeBytes {
					if part := input[at : at+interposeBytes]; part[0]%3 == thread {
						w.do(part)
					}
				}
			})
		}
		group.Wait()
		w.verify()
	})
}

// populate adds the cages. Bit 4i+j of the family says that the j-th is a descendant of the i-th.
func (w *interposed) populate(family uint16) {
	// What is native must never be made on the cage that nobody may name.
	for _, call := range []abi.Call{1, 7, 62, 231} {
		w.SetNative(call, func(t *threei.Thread, _ *threei.Args) int64 {
			if acting := t.Acting(); acting == outsider || t.Native != w.cages[acting] {
				w.t.Errorf("%v is made on cage %d", call, acting)
			}
			return 11
		})
	}
	// A grate passes calls on, or acts on the caller, as the function's number says.
	w.serve = func(_ context.Context, t *threei.Thread, port uint64, fn uint32, call abi.Call, a *threei.Args) int64 {
		g := w.cages[abi.CageID(port&0xffff)]
		if fn%2 == 0 || !w.gate[g.id-10].TryRLock() {
			return int64(fn)
		}
		defer w.gate[g.id-10].RUnlock()
		worker := g.thread()
		worker.Caller = t
		return w.SyscallNative(worker, call, a)
	}
	for i := range interposers + 1 {
		c := w.withMemory(abi.CageID(10 + i))
		w.setPort(c.id)
		for at := range c.bytes {
			c.bytes[at] = byte(c.id)
		}
	}
	for i := range interposers {
		for j := range interposers {
			if family>>(4*i+j)&1 != 0 {
				w.child(abi.CageID(10+i), abi.CageID(10+j))
			}
		}
	}
}

// word is a word of a call and whose memory it points into.
func (w *interposed) word(b []byte) (uint64, abi.CageID) {
	v := uint64(binary.LittleEndian.Uint32(b[1:]))
	owner := abi.CageID(10 + v%(interposers+1))
	switch b[0] % 6 {
	case 1: // an id: of a cage, of none, or one that stands for something else
		list := [8]abi.CageID{10, 11, 12, 13, outsider, abi.CageDeregister, abi.CageMatchAll, abi.CageRawPOSIX}
		return uint64(list[v%8]), owner
	case 2:
		return w.cages[owner].at(v % memSize), owner
	case 3:
		return v<<32 | v, owner
	case 4:
		return w.cages[owner].at(memSize - 16 + v%32), owner
	}
	return v, owner
}

// do does what one part of the input says.
func (w *interposed) do(b []byte) {
	i := int(b[1]) % interposers
	c := w.cages[abi.CageID(10+i)]
	switch op := b[2] % 7; op {
	case 4:
		c.stop()
	case 5:
		c.stop()
		w.gate[i].Lock()
		c.kill()
		w.gate[i].Unlock()
	default:
		w.gate[i].RLock()
		defer w.gate[i].RUnlock()
		if c.exit.Phase() != exitcoord.Running {
			return // nothing enters it any more
		}
		var a threei.Args
		for j := range a.Val {
			a.Val[j], a.Cage[j] = w.word(b[4+5*j:])
		}
		w.make(c, op, &a)
	}
}

// make makes a call as a thread of c.
func (w *interposed) make(c *cage, op byte, a *threei.Args) {
	t, v := c.thread(), a.Val
	switch op {
	case 0: // target, call, grate, function
		*a = threei.Args{Val: [6]uint64{v[0], 0, v[3]}, Cage: [6]abi.CageID{abi.CageID(v[1]), abi.CageID(v[2])}}
		w.answer("register_handler", w.SyscallNative(t, abi.CallRegisterHandler, a))
	case 1: // source, destination
		*a = threei.Args{Val: [6]uint64{v[0]}, Cage: [6]abi.CageID{abi.CageID(v[1])}}
		w.answer("copy_handler_table", w.SyscallNative(t, abi.CallCopyHandlerTableToCage, a))
	case 2: // source, its cage, destination, its cage, length, kind
		*a = threei.Args{Val: [6]uint64{v[0], v[2], v[4], v[5]}, Cage: [6]abi.CageID{abi.CageID(v[1]), abi.CageID(v[3])}}
		if r := w.SyscallNative(t, abi.CallCopyDataBetweenCages, a); r != int64(v[2]) { // it answers the destination
			w.answer("copy_data", r)
		}
	case 6: // call, target
		w.SyscallOn(t, abi.CageID(v[1]), abi.Call(v[0]%1030), a)
	default:
		w.Syscall(t, abi.Call(a.Val[0]%1030), a)
	}
}

// answer checks that a call of 3i answers what is documented.
func (w *interposed) answer(what string, r int64) {
	switch r {
	case 0, esrch, aborted, abi.EPERM.Result():
	default:
		w.t.Errorf("%s: %d, which is not documented", what, r)
	}
}

// verify ends all cages and checks what is left.
func (w *interposed) verify() {
	if err := w.CheckIndex(); err != nil {
		w.t.Error(err)
	}
	for call := range abi.MaxCall {
		if e := w.Lookup(outsider, call); e != 0 {
			w.t.Fatalf("%v of the cage that nobody may name is served by %#x", call, e)
		}
	}
	for id, c := range w.cages {
		if n := w.Uses(id); n != 0 {
			w.t.Errorf("cage %d has %d users", id, n)
		}
		for at, v := range c.bytes {
			if known := v == 0 || v >= 10 && v < byte(outsider); id == outsider && v != byte(outsider) || id != outsider && !known {
				w.t.Fatalf("byte %d of cage %d is %d", at, id, v)
			}
		}
	}
	for _, c := range w.cages {
		c.kill()
		if !c.freed.Load() {
			w.t.Errorf("the memory of cage %d was not released", c.id)
		}
	}
	if s := w.Stats(); s.Rows != 0 || s.Late != 0 {
		w.t.Errorf("left: %+v", s)
	}
	if err := w.CheckIndex(); err != nil {
		w.t.Error(err)
	}
}
