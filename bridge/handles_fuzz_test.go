package bridge

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file fuzzes the C ABI with handles that are stale, forged, of another kind, or freed by another thread meanwhile.

// kinds of handles.
const (
	anEngine = iota
	aModule
	aDomain
	numKinds
)

// callErrors are what any function of the C ABI may answer here. ErrPanic, ErrRuntime, ErrABI and ErrIO are not among
// them: they would say that the shim is wrong.
var callErrors = []error{
	ErrInvalid, ErrHandle, ErrModule, ErrImport, ErrExport, ErrMemory, ErrLimit, ErrClosed, ErrDepth, ErrBusy,
}

// handleWats are the modules that are loaded: one that ends, one that waits, one that spins and one that can be a grate.
var handleWats = []string{
	`(module (import "host" "nop" (func)) (func (export "_start")))`,
	`(module (import "env" "memory" (memory 1 1 shared)) (func $w (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0)
		(i64.const -1)))) (func (export "_start") (call $w)) (func (export "wasi_thread_start") (param i32 i32) (call $w)))`,
	`(module (func (export "_start") (loop $l (br $l))))`,
	`(module (memory (export "memory") (import "env" "memory") 2 4 shared)
		(global (export "__stack_pointer") (mut i32) (i32.const 65536))
		(func (export "pass_fptr_to_wt") (param ` + strings.Repeat("i64 ", 14) + `) (result i32)
			(if (i64.eqz (local.get 0)) (then unreachable)) (i32.wrap_i64 (local.get 2)))
		(func (export "_start")))`,
}

// handleWorld has the objects of one run of the fuzz target, and what is known of them.
type handleWorld struct {
	t        *testing.T
	lib      *library
	config   engineConfigABI
	exact    bool // one goroutine works, so that it is known which handles live
	reported chan *Domain
	runs     sync.WaitGroup // of threads that were begun

	mu      sync.Mutex
	live    [numKinds][]uint64 // guarded by mu
	stale   []uint64           // guarded by mu
	ports   []uint64           // of grates, dead or alive; guarded by mu
	domains []*Domain          // all that were made, for their tokens; guarded by mu
	engines int                // how many were made; guarded by mu
}

func (w *handleWorld) HostCall(*Call) Verdict { return Continue }
func (w *handleWorld) ThreadEnd(*ThreadEnd)   {}
func (w *handleWorld) Quiescent(r *Report)    { w.reported <- r.Domain }
func (w *handleWorld) add(kind int, h uint64) {
	w.mu.Lock()
	w.live[kind] = append(w.live[kind], h)
	w.mu.Unlock()
}
func (w *handleWorld) has(kind int, h uint64) bool { return slices.Contains(w.live[kind], h) }

func (w *handleWorld) gone(kind int, h uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.live[kind], h); i >= 0 {
		w.live[kind] = slices.Delete(w.live[kind], i, i+1)
	}
	w.stale = append(w.stale, h)
}

// pick is a handle for a function that takes one of the kind.
func (w *handleWorld) pick(kind int, how, which byte, raw uint64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	of := func(list []uint64) uint64 {
		if len(list) == 0 {
			return raw
		}
		return list[int(which)%len(list)]
	}
	switch how % 8 {
	case 0:
		return of(w.stale)
	case 1:
		return of(w.live[(kind+1)%numKinds])
	case 2:
		return bits.RotateLeft64(1, int(raw)) ^ of(w.live[kind]) // one bit off
	case 3:
		return raw
	default:
		return of(w.live[kind])
	}
}

// check says what is wrong with the answer of a function that was given the handle.
func (w *handleWorld) check(what string, kind int, h uint64, err error) {
	w.t.Helper()
	w.documented(what, h, err)
	if !w.exact {
		return
	}
	if live := w.has(kind, h); live == errors.Is(err, ErrHandle) && !(h == 0 && strings.HasSuffix(what, "delete")) {
		w.t.Fatalf("%s(%#x): %v, and the handle is live: %v", what, h, err, live)
	}
}

func (w *handleWorld) documented(what string, h uint64, err error) {
	w.t.Helper()
	if err != nil && !slices.ContainsFunc(callErrors, func(e error) bool { return errors.Is(err, e) }) {
		w.t.Errorf("%s(%#x): %v, which is not documented", what, h, err)
	}
}

// FuzzHandles calls the functions of the C ABI in any order, on one thread or on three, with handles of all sorts. None but
// a live handle of the right kind is accepted, what is answered is documented, and in the end each object can be deleted,
// each domain that was stopped has reported once, and nothing is left.
func FuzzHandles(f *testing.F) {
	lib, err := findShim("")
	if err != nil {
		f.Fatal(err)
	}
	const live, step = 4, 12
	op := func(n, how, which byte, raw uint64) []byte {
		return binary.LittleEndian.AppendUint64([]byte{n, how, which, 0}, raw)
	}
	begun := slices.Concat(op(4, live, 1, 0), op(9, live, 0, 0), op(20, live, 0, 0), op(21, live, 0, 0), op(22, live, 1, 0),
		op(22, live, 2, 0), op(22, live, 2, 0), op(21, live, 0, 0), op(12, live, 0, 0), op(22, live, 3, 0))
	f.Add(byte(0), begun)
	f.Add(byte(1), slices.Repeat(begun, 3))
	life := slices.Concat(op(4, live, 0, 0), op(9, live, 0, 0), op(10, live, 0, 0), op(12, live, 0, 0), op(16, live, 0, 0), op(8, live, 0, 0))
	f.Add(byte(0), life)
	f.Add(byte(1), slices.Repeat(life, 3))
	var every []byte
	for _, how := range []byte{live, 0, 1, 2, 3, live} {
		for n := range byte(handleOps) {
			every = append(every, op(n, how, n, uint64(n)<<56|uint64(how))...)
		}
	}
	f.Add(byte(0), every)
	f.Add(byte(1), every)
	var grates []byte
	for i := range uint64(40) {
		grates = append(grates, op([]byte{5, 9, 17, 18, 18, 12, 16, 18}[i%8], live, byte(3*i), i)...)
	}
	f.Add(byte(0), grates)
	f.Add(byte(1), grates)
	f.Fuzz(func(t *testing.T, threads byte, input []byte) {
		hung := time.AfterFunc(time.Minute, func() { panic("FuzzHandles hangs") })
		defer hung.Stop()
		w := newHandleWorld(t, lib, threads%2 == 0)
		var group sync.WaitGroup
		for len(input) >= step && !t.Failed() {
			each := len(input)
			if !w.exact {
				each = min(each, max(len(input)/3, step))
			}
			part := input[:each/step*step]
			input = input[len(part):]
			group.Go(func() {
				for at := 0; at < min(len(part), 200*step); at += step {
					w.do(part[at:])
				}
			})
			if len(part) == 0 || w.exact {
				break
			}
		}
		group.Wait()
		w.end()
	})
}

func newHandleWorld(t *testing.T, lib *library, exact bool) *handleWorld {
	w := &handleWorld{t: t, lib: lib, exact: exact, reported: make(chan *Domain, 1<<12)}
	callbacks := process.callbackAddrs()
	w.config = engineConfigABI{
		structSize: engineConfigBytes, abiVersion: abiVersion, maxThreads: 64, stackBytes: 1 << 20, wasmStackBytes: 1 << 18,
		hostCall: callbacks.hostCall, threadEnd: callbacks.threadEnd, quiescent: callbacks.quiescent,
	}
	w.newEngine()
	return w
}

func (w *handleWorld) newEngine() {
	w.mu.Lock()
	w.engines++
	n := w.engines
	w.mu.Unlock()
	if n > 3 {
		return
	}
	h, err := w.lib.engineNew(&w.config)
	if err != nil {
		w.t.Errorf("new engine: %v", err)
		return
	}
	w.add(anEngine, h)
	nop := Import{Module: "host", Name: "nop"}
	list := make([]importABI, 1)
	list[0].module, list[0].moduleBytes = textPtr(nop.Module)
	list[0].name, list[0].nameBytes = textPtr(nop.Name)
	list[0].params, list[0].results = list[0].name, list[0].name
	w.check("engine_define", anEngine, h, w.lib.engineDefine(h, list))
}

func (w *handleWorld) newDomain(module uint64) {
	d := &Domain{engine: &Engine{lib: w.lib, handler: w}}
	d.token = process.domains.put(d)
	c := domainConfigABI{structSize: domainConfigBytes, user: d.token, maxMemoryBytes: 1 << 20, maxThreads: 4}
	h, err := w.lib.domainNew(module, &c)
	w.check("domain_new", aModule, module, err)
	w.mu.Lock()
	w.domains = append(w.domains, d)
	d.id = h
	w.mu.Unlock()
	if err == nil {
		w.add(aDomain, h)
	}
}

// handleOps is how many operations there are.
const handleOps = 23

// do does what 12 bytes say.
func (w *handleWorld) do(input []byte) {
	op, how, which, raw := input[0]%handleOps, input[1], input[2], binary.LittleEndian.Uint64(input[4:])
	l := w.lib
	kind := aDomain
	switch op {
	case 0, 1, 2, 3, 4, 5:
		kind = anEngine
	case 6, 7, 8, 9:
		kind = aModule
	}
	h := w.pick(kind, how, which, raw)
	switch op {
	case 0:
		w.newEngine()
	case 1:
		w.check("engine_stats", kind, h, l.engineStats(h, new(engineStatsABI)))
	case 2:
		w.deleted("engine_delete", kind, h, l.engineDelete(h))
	case 3:
		w.check("engine_define", kind, h, l.engineDefine(h, nil))
	case 4, 5:
		fn, wat := l.sym.moduleLoad, handleWats[int(which)%len(handleWats)]
		if op == 5 {
			fn = l.sym.moduleLoadGrate
		}
		m, err := l.moduleLoad(fn, h, []byte(wat))
		w.check("module_load", kind, h, err)
		if err == nil {
			w.add(aModule, m)
		}
	case 6:
		w.check("module_info", kind, h, l.moduleInfo(h, new(moduleInfoABI)))
	case 7:
		fn := l.sym.moduleImport
		if which%2 == 0 {
			fn = l.sym.moduleExport
		}
		w.check("module_import", kind, h, l.moduleExtern(fn, h, raw, new(externABI)))
	case 8:
		w.deleted("module_delete", kind, h, l.moduleDelete(h))
	case 9:
		w.newDomain(h)
	case 10:
		w.check("domain_start", kind, h, l.domainStart(l.sym.domainStart, h, handleExports[which%4]))
	case 11:
		_, err := l.threadSpawn(l.sym.threadSpawn, h, uint32(raw))
		w.check("thread_spawn", kind, h, err)
	case 12:
		w.check("domain_stop", kind, h, l.domainStop(h))
	case 13:
		_, err := l.domainCancelFD(h)
		w.check("domain_cancel_fd", kind, h, err)
	case 14:
		_, err := l.domainThreads(h, make([]threadABI, which%4))
		w.check("domain_threads", kind, h, err)
	case 15:
		_, _, err := l.domainMemory(h)
		w.check("domain_memory", kind, h, err)
	case 16:
		w.deleted("domain_delete", kind, h, l.domainDelete(h))
	case 17:
		c := grateConfigABI{structSize: grateConfigBytes, maxWorkers: uint32(which) % 4, busy: uint32(raw % 2)}
		port, err := l.grateOpen(h, &c)
		w.check("grate_open", kind, h, err)
		if err == nil {
			w.mu.Lock()
			w.ports = append(w.ports, port)
			w.mu.Unlock()
		}
	case 18:
		w.callGrate(how, which, raw)
	case 19:
		if _, err := l.callInterruptFD(); !errors.Is(err, ErrInvalid) {
			w.t.Errorf("interrupt_fd outside a host call: %v", err)
		}
		if err := l.callQuitCaller(raw); !errors.Is(err, ErrInvalid) {
			w.t.Errorf("quit_caller outside a host call: %v", err)
		}
	case 20:
		w.check("domain_begin", kind, h, l.domainStart(l.sym.domainBegin, h, handleExports[which%4]))
	case 21:
		_, err := l.threadSpawn(l.sym.threadBegin, h, uint32(raw))
		w.check("thread_begin", kind, h, err)
	case 22:
		w.runs.Go(func() {
			w.documented("thread_run", h, l.threadRun(h, uint32(which)%6))
		})
	}
}

// handleExports are where threads are started.
var handleExports = [4]string{"_start", "memory", "", "\xff\x00"}

// callGrate makes a call by an entry that is a grate's, or nearly, or anything.
func (w *handleWorld) callGrate(how, which byte, raw uint64) {
	w.mu.Lock()
	entry := raw
	if len(w.ports) > 0 && how%8 != 3 {
		entry = 1<<63 | w.ports[int(which)%len(w.ports)]<<24 | raw&0xff
	}
	w.mu.Unlock()
	_, err := w.lib.grateCall(entry, raw, raw>>8, new([grateArgs]uint64))
	w.documented("grate_call", entry, err)
}

func (w *handleWorld) deleted(what string, kind int, h uint64, err error) {
	w.check(what, kind, h, err)
	if err == nil && h != 0 {
		w.gone(kind, h)
	}
}

// end deletes all that is left, and sees that it is all.
func (w *handleWorld) end() {
	for _, d := range w.domains {
		if w.has(aDomain, d.id) {
			if err := w.lib.domainStop(d.id); err != nil {
				w.t.Errorf("domain_stop(%#x): %v", d.id, err)
			}
		}
	}
	// A stop leads to one report for each domain, also where it was made before.
	reports := map[*Domain]int{}
	missing := len(w.live[aDomain])
	for missing > 0 {
		select {
		case d := <-w.reported:
			if reports[d]++; w.has(aDomain, d.id) {
				missing--
			}
		case <-time.After(30 * time.Second):
			w.t.Fatalf("%d domains have not reported", missing)
		}
	}
	w.runs.Wait()
	for _, kind := range []int{aDomain, aModule} {
		del := w.lib.domainDelete
		if kind == aModule {
			del = w.lib.moduleDelete
		}
		for _, h := range w.live[kind] {
			if err := del(h); err != nil {
				w.t.Errorf("delete %#x: %v", h, err)
			}
		}
	}
	for _, h := range w.live[anEngine] {
		var stats engineStatsABI
		if err := w.lib.engineStats(h, &stats); err != nil || stats.domains != 0 {
			w.t.Errorf("left in engine %#x: %+v, %v", h, stats, err)
		}
		if err := w.lib.engineDelete(h); err != nil {
			w.t.Errorf("engine_delete(%#x): %v", h, err)
		}
	}
	for len(w.reported) > 0 {
		reports[<-w.reported]++
	}
	for d, n := range reports {
		if n != 1 {
			w.t.Errorf("domain %#x has reported %d times", d.id, n)
		}
	}
	for _, d := range w.domains {
		process.domains.drop(d.token)
	}
}
