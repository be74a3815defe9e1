package lindbridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/bridge"
	"github.com/lindbridge/lindbridge/exitcoord"
	"github.com/lindbridge/lindbridge/lindabi"
)

// This file fuzzes host calls from the guest's side: a program makes those that its input says, with any arguments, through
// the imports that every program has. Beside it runs another, whom nothing of it may touch.

// The memory of the program: where the calls begin, where the address of their end is, and its size.
const (
	callsAt, callsEndAt, victimAt = 4096, 1024, 1032
	callsMemory                   = 4 << 16
	argBytes                      = 9 // a kind and a word

	// paths lie in the program's memory at pathsAt.
	pathsAt = 2048
	paths   = "f\x00d\x00../secret\x00d/../../secret\x00/\x00.\x00l\x00f/\x00"
)

// callsWat is a program that makes the calls that lie in its memory at callsAt: the function's index, then for each
// parameter a kind and a word. A result that cannot be makes it trap. Its threads, up to six, do the same.
func callsWat(functions []bridge.Import) string {
	var imports, cases, labels, blocks strings.Builder
	for i, f := range functions {
		fmt.Fprintf(&labels, " $c%d", i)
		fmt.Fprintf(&blocks, "(block $c%d ", len(functions)-1-i)
		fmt.Fprintf(&imports, "(import %q %q (func $f%d", f.Module, f.Name, i)
		fmt.Fprintf(&cases, ")\n(call $f%d", i) // the end of the block that leads here
		for j, p := range f.Params {
			typ, arg := "i64", fmt.Sprintf("(call $arg (i32.add (local.get $p) (i32.const %d)))", argBytes*j)
			if p == 'i' {
				typ, arg = "i32", "(i32.wrap_i64 "+arg+")"
			}
			fmt.Fprintf(&imports, " (param %s)", typ)
			cases.WriteString(arg)
		}
		cases.WriteString(")")
		switch f.Results {
		case "i":
			imports.WriteString(" (result i32)")
			cases.WriteString("(local.set $r)")
			switch f.Name {
			case "make-syscall":
				cases.WriteString("(call $result (i32.wrap_i64 (call $arg (local.get $p))) (local.get $r))")
			case "thread-spawn":
				cases.WriteString("(if (i32.ge_s (local.get $r) (i32.const 536870912)) (then unreachable))")
			default:
				cases.WriteString("(if (i32.gt_u (local.get $r) (i32.const 76)) (then unreachable))") // an errno of WASI
			}
		case "I":
			imports.WriteString(" (result i64)")
			cases.WriteString("(drop)")
		}
		imports.WriteString("))\n")
		fmt.Fprintf(&cases, "(local.set $p (i32.add (local.get $p) (i32.const %d))) (br $next)", argBytes*len(f.Params))
	}
	return fmt.Sprintf(`(module
  (import "lind" "lind-get-cage-id" (func $self (result i64)))
  (import "lind" "lind-get-memory-base" (func $base (result i64)))
  %[1]s
  (memory (export "memory") (import "env" "memory") %[2]d 8 shared)
  (func $arg (param $p i32) (result i64) (local $v i64)
    (local.set $v (i64.load offset=1 (local.get $p)))
    (block $8 (block $7 (block $6 (block $5 (block $4 (block $3 (block $2 (block $1 (block $0
      (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 (i32.rem_u (i32.load8_u (local.get $p)) (i32.const 9))))
      (return (local.get $v)))
      (return (i64.and (local.get $v) (i64.const 15))))
      (return (i64.and (local.get $v) (i64.const %[3]d))))
      (return (i64.sub (i64.const %[4]d) (i64.and (local.get $v) (i64.const 127)))))
      (return (i64.add (call $base) (i64.and (local.get $v) (i64.const %[3]d)))))
      (return (call $self)))
      (return (i64.add (i64.load (i32.const %[5]d)) (i64.and (local.get $v) (i64.const 65535)))))
      (return (i64.load offset=8 (i32.const %[5]d))))
    (i64.add (i64.add (call $base) (i64.const %[4]d)) (i64.sub (i64.and (local.get $v) (i64.const 127)) (i64.const 64))))
  (func $result (param $call i32) (param $r i32)
    ;; lseek answers an offset, and copy_data an address: both have 64 bits.
    (if (i32.or (i32.eq (local.get $call) (i32.const 8)) (i32.eq (local.get $call) (i32.const 1002))) (then (return)))
    (if (i32.ge_s (local.get $r) (i32.const -4095)) (then (return)))
    (if (i32.ne (i32.and (local.get $r) (i32.const -65536)) (i32.const 0xe0010000)) (then unreachable)))
  (func $calls (local $p i32) (local $end i32) (local $f i32) (local $r i32)
    (local.set $p (i32.const %[6]d))
    (local.set $end (i32.load (i32.const %[7]d)))
    (if (i32.gt_u (local.get $end) (i32.const %[8]d)) (then (local.set $end (i32.const %[8]d))))
    (loop $next
      (if (i32.ge_u (local.get $p) (local.get $end)) (then (return)))
      (local.set $f (i32.rem_u (i32.load8_u (local.get $p)) (i32.const %[9]d)))
      (local.set $p (i32.add (local.get $p) (i32.const 1)))
      %[10]s (br_table%[11]s (local.get $f))
      %[12]s))
  (func (export "_start") (call $calls))
  (func (export "wasi_thread_start") (param i32 i32) (call $calls)))`,
		&imports, callsMemory>>16, callsMemory-1, callsMemory, victimAt, callsAt, callsEndAt, callsMemory-1024,
		len(functions), &blocks, &labels, &cases)
}

// callsWorld is a runtime with the victim.
type callsWorld struct {
	rt     *Runtime
	module *Module
	victim *Cage
	memory []byte // the victim's
	dir    string // has what the program must not reach, and the directory that it may have
	dirs   []Dir  // what the program has
}

func newCallsWorld(f *testing.F, functions []bridge.Import) *callsWorld {
	f.Helper()
	rt, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := rt.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	w := &callsWorld{rt: rt, dir: f.TempDir()}
	err = errors.Join(os.Mkdir(w.dir+"/root", 0o700), os.WriteFile(w.dir+"/secret", []byte("secret"), 0o600))
	if err != nil {
		f.Fatal(err)
	}
	if w.module, err = rt.Load(f.Context(), []byte(callsWat(functions))); err != nil {
		f.Fatal(err)
	}
	m, err := rt.Load(f.Context(), []byte(`(module
		(memory (export "memory") (import "env" "memory") 1 1 shared)
		(func (export "_start") (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))`))
	if err != nil {
		f.Fatal(err)
	}
	if w.victim, err = rt.build(Program{Module: m}, nil); err != nil {
		f.Fatal(err)
	}
	w.memory, _ = w.victim.memory().Bytes(0, 1<<16)
	for i := range w.memory[8:] {
		w.memory[8+i] = canary
	}
	if err := w.victim.start(Program{Module: m}); err != nil {
		f.Fatal(err)
	}
	return w
}

// canary is what the victim's memory holds, beyond the word that it waits at.
const canary = 0x5a

// run has a program make the calls, and checks all that can be seen of it.
func (w *callsWorld) run(t *testing.T, calls []byte) {
	hung := time.AfterFunc(time.Minute, func() {
		debug.SetTraceback("all")
		panic(t.Name() + " hangs")
	})
	defer hung.Stop()
	// What would wait ends by the time limit.
	p := Program{Module: w.module, TimeLimit: 20 * time.Millisecond, MaxThreads: 6, StopGrace: 10 * time.Second}
	p.Dirs = w.dirs
	c, err := w.rt.build(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	memory := c.memory()
	calls = calls[:min(len(calls), callsMemory/2)]
	memory.WriteCopy(callsAt, calls)
	memory.WriteCopy(pathsAt, []byte(paths))
	for i, v := range []uint32{256, 64, 512, 32, 1 << 17, 1 << 16} { // three buffers
		memory.WriteUint32(uint64(4*i), v)
	}
	memory.WriteUint32(callsEndAt, uint32(callsAt+len(calls)))
	memory.WriteUint64(victimAt, uint64(w.victim.memory().Base()))
	memory.WriteUint64(victimAt+8, uint64(w.victim.ID()))
	if err := c.start(p); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := c.Report()
	switch r.Cause.Kind {
	case exitcoord.ExitGroup, exitcoord.MainReturned, exitcoord.LastThread, exitcoord.Signal, exitcoord.TimeLimit:
	default:
		t.Errorf("it ended by %v\n%v", r.Cause, r)
	}
	for _, s := range r.Steps {
		if s.Err != nil {
			t.Errorf("step %v", s)
		}
	}
	if r.Stuck != nil {
		t.Errorf("it was stuck: %+v", r.Stuck)
	}
	w.check(t)
}

// check checks what a program that has ended leaves: nothing, and the other cage as it was.
func (w *callsWorld) check(t *testing.T) {
	t.Helper()
	if w.victim.over() {
		t.Fatalf("the other cage has ended:\n%v", w.victim.Report())
	}
	if at := bytes.IndexFunc(w.memory[8:], func(c rune) bool { return c != canary }); at >= 0 {
		t.Fatalf("byte %d of the other cage's memory is %#x", 8+at, w.memory[8+at])
	}
	stats, err := w.rt.Stats()
	if err != nil || stats.Cages != 1 || stats.Domains != 1 {
		t.Fatalf("left behind: %+v, %v", stats, err)
	}
	w.checkDir(t)
	if s := w.rt.sys.Stats(); s.Rows != 0 || s.Late != 0 {
		t.Fatalf("left in the handler table: %+v", s)
	}
}

// checkDir checks that nothing outside the program's directory has changed, and empties that.
func (w *callsWorld) checkDir(t *testing.T) {
	t.Helper()
	secret, err := os.ReadFile(w.dir + "/secret")
	outside, errDir := os.ReadDir(w.dir)
	if string(secret) != "secret" || len(outside) != 2 || err != nil || errDir != nil {
		t.Fatalf("outside the directory: %q, %v, %v, %v", secret, outside, err, errDir)
	}
	inside, err := os.ReadDir(w.dir + "/root")
	for _, e := range inside {
		name := w.dir + "/root/" + e.Name()
		err = errors.Join(err, os.Chmod(w.dir+"/root", 0o700), os.RemoveAll(name))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// arg is an argument of a call in the program's input: see $arg of callsWat.
type arg struct {
	kind byte
	v    uint64
}

// Kinds of arguments.
func num(v uint64) arg     { return arg{0, v} }
func small(v uint64) arg   { return arg{1, v} }
func offset(v uint64) arg  { return arg{2, v} }
func nearEnd(v uint64) arg { return arg{3, v} }
func pointer(v uint64) arg { return arg{4, v} }
func ownCage() arg         { return arg{5, 0} }
func foreign(v uint64) arg { return arg{6, v} }
func foreignCage() arg     { return arg{7, 0} }
func beyond(v uint64) arg  { return arg{8, v} }

// appendCall adds a call of the function, with zeros for the arguments that are not given.
func appendCall(b []byte, functions []bridge.Import, name string, args ...arg) []byte {
	for i, f := range functions {
		if f.Name != name {
			continue
		}
		b = append(b, byte(i))
		for j := range f.Params {
			var a arg
			if j < len(args) {
				a = args[j]
			}
			b = binary.LittleEndian.AppendUint64(append(b, a.kind), a.v)
		}
		return b
	}
	panic(name)
}

// FuzzHostCalls makes any host calls with any arguments. What they answer is an errno, nothing outside the program's memory
// changes, no other cage notices, and of the program nothing is left.
func FuzzHostCalls(f *testing.F) {
	// The host's disk is not what is tested.
	functions := slices.DeleteFunc(imports(), func(f bridge.Import) bool { return f.Name == "fd_allocate" })
	// Each function with each kind of argument, then some that do something.
	for kind := range byte(9) {
		for _, fn := range functions {
			args := make([]arg, len(fn.Params))
			for i := range args {
				args[i] = arg{kind, uint64(512 + 64*i)}
			}
			f.Add(appendCall(nil, functions, fn.Name, args...))
		}
	}
	call := func(name string, args ...arg) []byte { return appendCall(nil, functions, name, args...) }
	for _, calls := range [][][]byte{
		{call("thread-spawn", num(1)), call("thread-spawn", num(2)), call("fd_read", small(0), offset(0), small(1), offset(64))},
		{call("random_get", offset(0), num(256)), call("fd_write", small(1), offset(0), small(4), offset(256))},
		{call("random_get", nearEnd(100), num(200)), call("random_get", nearEnd(100), num(100))},
		{call("thread-spawn"), call("random_get", offset(4096), num(4096)), call("fd_close", small(0)), call("fd_close", small(0))},
		{call("poll_oneoff", offset(0), offset(512), small(2), offset(600)), call("sched_yield")},
		{call("fd_renumber", small(1), small(0)), call("proc_raise", small(9)), call("proc_exit", small(3))},
		{
			call("path_open", small(3), num(0), offset(pathsAt), num(1), num(9), num(1<<63-1), num(1<<63-1), num(0), offset(64)),
			call("fd_write", small(4), offset(0), num(3), offset(68)), call("fd_seek", small(4), num(0), num(0), offset(72)),
			call("fd_readdir", small(3), offset(1<<16), num(4096), num(0), offset(76)), call("fd_filestat_get", small(4), offset(80)),
		},
		{
			call("path_symlink", offset(pathsAt+4), num(9), small(3), offset(pathsAt+33), num(1)),
			call("path_open", small(3), num(1), offset(pathsAt+33), num(1), num(9), num(1<<63-1), num(1<<63-1), num(0), offset(64)),
			call("path_rename", small(3), offset(pathsAt+33), num(1), small(3), offset(pathsAt+4), num(9)),
			call("path_create_directory", small(3), offset(pathsAt+2), num(1)),
			call("path_link", small(3), num(1), offset(pathsAt+14), num(15), small(3), offset(pathsAt), num(1)),
			call("path_unlink_file", small(3), offset(pathsAt+4), num(9)),
		},
		{call("sock_accept", small(0), num(0), offset(0)), call("sock_recv", small(0), offset(0), small(1), num(0), offset(64), offset(68))},
	} {
		f.Add(bytes.Join(calls, nil))
	}
	w := newCallsWorld(f, functions)
	w.dirs = []Dir{{Host: w.dir + "/root", Guest: "/"}}
	f.Fuzz(func(t *testing.T, calls []byte) { w.run(t, calls) })
}

// FuzzMakeSyscall is FuzzHostCalls with make-syscall alone, as Lind's programs and grates make all calls by it: numbers,
// pointers and cages of any kind, 3i's own calls among them.
func FuzzMakeSyscall(f *testing.F) {
	var functions []bridge.Import
	for _, imp := range lindabi.Imports() {
		if imp.ID == lindabi.MakeSyscall {
			functions = append(functions, bridge.Import(imp))
		}
	}
	call := func(n abi.Call, target arg, args ...arg) []byte {
		words := []arg{num(uint64(n)), num(0), ownCage(), target}
		for i := range 6 {
			a := num(0)
			if i < len(args) {
				a = args[i]
			}
			whose := ownCage()
			if a.kind == 6 {
				whose = foreignCage()
			}
			words = append(words, a, whose)
		}
		return appendCall(nil, functions, "make-syscall", words...)
	}
	own := ownCage()
	for n := range abi.MaxCall + 8 {
		if n < 340 || n > 990 {
			f.Add(call(n, own, small(0), pointer(64), small(7), pointer(128), pointer(192), small(1)))
		}
	}
	copyData := func(from, fromCage, to, toCage arg, n uint64) []byte {
		words := []arg{num(uint64(abi.CallCopyDataBetweenCages)), num(0), own, own, from, fromCage, to, toCage, num(n), own, num(0)}
		return appendCall(nil, functions, "make-syscall", words...)
	}
	register := func(target, number, grate, fn arg) []byte {
		words := []arg{num(uint64(abi.CallRegisterHandler)), num(0), own, own, target, number, num(0), grate, fn}
		return appendCall(nil, functions, "make-syscall", words...)
	}
	copyTable := func(from, to arg) []byte {
		words := []arg{num(uint64(abi.CallCopyHandlerTableToCage)), num(0), own, own, from, to}
		return appendCall(nil, functions, "make-syscall", words...)
	}
	for _, calls := range [][][]byte{
		{
			call(abi.CallPipe2, own, pointer(64), num(0)), call(abi.CallWrite, own, small(4), pointer(0), num(4096)),
			call(abi.CallRead, own, small(3), pointer(512), num(100)),
		},
		{
			call(abi.CallWrite, own, small(1), foreign(0), num(64)), call(abi.CallRead, own, small(0), foreign(0), num(64)),
			call(abi.CallGetrandom, own, foreign(8), num(64)),
		},
		{call(abi.CallGetrandom, own, beyond(0), num(64)), call(abi.CallGetrandom, own, pointer(callsMemory-1), num(2))},
		{call(abi.CallKill, own, foreignCage(), num(9)), call(abi.CallKill, foreignCage(), small(2), num(9)), call(abi.CallExitGroup, foreignCage(), num(9))},
		{register(foreignCage(), num(1), own, num(1)), register(own, num(1), num(uint64(abi.CageDeregister)), num(0))},
		{register(own, num(7), foreignCage(), num(3)), copyTable(foreignCage(), own), copyTable(own, foreignCage())},
		{copyData(foreign(0), foreignCage(), pointer(64), ownCage(), 64), copyData(pointer(64), ownCage(), foreign(64), foreignCage(), 64)},
		{call(abi.CallClone, own, num(0x10f00), num(1)), call(abi.CallNanosleep, own, pointer(1<<14), num(0)), call(abi.CallExit, own, num(5))},
		{call(abi.CallHarshCageExit, own, num(1)), call(abi.CallGrateServe, own, num(1)), call(abi.CallPoll, own, pointer(64), num(3), num(1<<63))},
	} {
		f.Add(bytes.Join(calls, nil))
	}
	w := newCallsWorld(f, functions)
	f.Fuzz(func(t *testing.T, calls []byte) { w.run(t, calls) })
}
