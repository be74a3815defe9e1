package bridge

import (
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// This file implements one Go method for each function of the shim, and nothing else: pointers in, errors out.
//
// How memory crosses: a pointer is converted to a number within the argument list of purego.SyscallN, which makes the
// compiler keep its object on the heap, where nothing moves it, and alive until the call returns. Objects that such an
// object points to are on the heap and alive for the same reason. The shim keeps none of these pointers.

// library is a loaded and checked shim. Immutable, save its pool.
type library struct {
	path    string
	version string
	sym     symbols
	frames  sync.Pool // of *frame
}

// frame is the memory that the shim writes results of one call to. It is pooled: an error has 4 KiB of text.
type frame struct {
	err    errorABI
	handle uint64
	bytes  uint64
	base   uintptr
	tid    uint32
	fd     int32
	args   [grateArgs]uint64
	result int32
}

func (l *library) frame() *frame {
	crossing()
	if f, ok := l.frames.Get().(*frame); ok {
		return f
	}
	return new(frame)
}

// done turns a call's result into an error and gives f back to the pool. Results are read from f before.
func (l *library) done(f *frame, r1 uintptr) error {
	var err error
	if status := int32(uint32(r1)); status != statusOK {
		err = statusError(status, string(f.err.text[:min(f.err.len, errorTextBytes)]))
	}
	f.err.len = 0 // a failure that says nothing must not repeat the text of an older one
	l.frames.Put(f)
	return err
}

func errPtr(f *frame) unsafe.Pointer { return unsafe.Pointer(&f.err) }

func (l *library) callABIVersion() uint32 {
	r1, _, _ := purego.SyscallN(l.sym.abiVersion)
	return uint32(r1)
}

func (l *library) callStructSize(which uint32) uint64 {
	r1, _, _ := purego.SyscallN(l.sym.structSize, uintptr(which))
	return uint64(r1)
}

func (l *library) callVersion() string {
	r1, _, _ := purego.SyscallN(l.sym.version)
	return cString(foreign(r1), 256)
}

func (l *library) engineNew(c *engineConfigABI) (uint64, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.engineNew, uintptr(unsafe.Pointer(c)),
		uintptr(unsafe.Pointer(&f.handle)), uintptr(errPtr(f)))
	handle := f.handle
	return handle, l.done(f, r1)
}

func (l *library) engineDefine(engine uint64, imports []importABI) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.engineDefine, uintptr(engine),
		uintptr(unsafe.Pointer(unsafe.SliceData(imports))), uintptr(len(imports)), uintptr(errPtr(f)))
	return l.done(f, r1)
}

func (l *library) engineStats(engine uint64, out *engineStatsABI) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.engineStats, uintptr(engine), uintptr(unsafe.Pointer(out)), uintptr(errPtr(f)))
	return l.done(f, r1)
}

func (l *library) engineDelete(engine uint64) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.engineDelete, uintptr(engine), uintptr(errPtr(f)))
	return l.done(f, r1)
}

// moduleLoad loads a module by the function at fn.
func (l *library) moduleLoad(fn uintptr, engine uint64, b []byte) (uint64, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(fn, uintptr(engine),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		uintptr(unsafe.Pointer(&f.handle)), uintptr(errPtr(f)))
	handle := f.handle
	return handle, l.done(f, r1)
}

func (l *library) moduleInfo(module uint64, out *moduleInfoABI) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.moduleInfo, uintptr(module), uintptr(unsafe.Pointer(out)), uintptr(errPtr(f)))
	return l.done(f, r1)
}

// moduleExtern asks for the i-th import or export, by the function at fn.
func (l *library) moduleExtern(fn uintptr, module, i uint64, out *externABI) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(fn, uintptr(module), uintptr(i), uintptr(unsafe.Pointer(out)), uintptr(errPtr(f)))
	return l.done(f, r1)
}

func (l *library) moduleDelete(module uint64) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.moduleDelete, uintptr(module), uintptr(errPtr(f)))
	return l.done(f, r1)
}

func (l *library) domainNew(module uint64, c *domainConfigABI) (uint64, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.domainNew, uintptr(module), uintptr(unsafe.Pointer(c)),
		uintptr(unsafe.Pointer(&f.handle)), uintptr(errPtr(f)))
	handle := f.handle
	return handle, l.done(f, r1)
}

// domainStart starts the first thread, by the function at fn.
func (l *library) domainStart(fn uintptr, domain uint64, export string) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(fn, uintptr(domain),
		uintptr(unsafe.Pointer(unsafe.StringData(export))), uintptr(len(export)), uintptr(errPtr(f)))
	return l.done(f, r1)
}

// threadSpawn starts a further thread, by the function at fn.
func (l *library) threadSpawn(fn uintptr, domain uint64, arg uint32) (uint32, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(fn, uintptr(domain), uintptr(arg),
		uintptr(unsafe.Pointer(&f.tid)), uintptr(errPtr(f)))
	tid := f.tid
	return tid, l.done(f, r1)
}

// threadRun blocks as long as the thread lives, and so is not given a frame: its error has no text.
func (l *library) threadRun(domain uint64, tid uint32) error {
	crossing()
	r1, _, _ := purego.SyscallN(l.sym.threadRun, uintptr(domain), uintptr(tid), 0)
	if status := int32(uint32(r1)); status != statusOK {
		return statusError(status, "a thread was not run")
	}
	return nil
}

func (l *library) domainStop(domain uint64) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.domainStop, uintptr(domain), uintptr(errPtr(f)))
	return l.done(f, r1)
}

func (l *library) domainCancelFD(domain uint64) (int32, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.domainCancelFD, uintptr(domain),
		uintptr(unsafe.Pointer(&f.fd)), uintptr(errPtr(f)))
	fd := f.fd
	return fd, l.done(f, r1)
}

// domainThreads fills out and answers how many threads there are, which may be more than fit.
func (l *library) domainThreads(domain uint64, out []threadABI) (uint64, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.domainThreads, uintptr(domain),
		uintptr(unsafe.Pointer(unsafe.SliceData(out))), uintptr(len(out)),
		uintptr(unsafe.Pointer(&f.bytes)), uintptr(errPtr(f)))
	n := f.bytes
	return n, l.done(f, r1)
}

// domainMemory answers the address and the length of the linear memory.
func (l *library) domainMemory(domain uint64) (uintptr, uint64, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.domainMemory, uintptr(domain),
		uintptr(unsafe.Pointer(&f.base)), uintptr(unsafe.Pointer(&f.bytes)), uintptr(errPtr(f)))
	base, bytes := f.base, f.bytes
	return base, bytes, l.done(f, r1)
}

func (l *library) domainDelete(domain uint64) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.domainDelete, uintptr(domain), uintptr(errPtr(f)))
	return l.done(f, r1)
}

func (l *library) grateOpen(domain uint64, c *grateConfigABI) (uint64, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.grateOpen, uintptr(domain), uintptr(unsafe.Pointer(c)),
		uintptr(unsafe.Pointer(&f.handle)), uintptr(errPtr(f)))
	port := f.handle
	return port, l.done(f, r1)
}

// grateCall has a grate serve a call. The arguments are copied to memory that does not move while guests run.
func (l *library) grateCall(entry, cage, call uint64, args *[grateArgs]uint64) (int32, error) {
	f := l.frame()
	f.args = *args
	r1, _, _ := purego.SyscallN(l.sym.grateCall, uintptr(entry), uintptr(cage), uintptr(call),
		uintptr(unsafe.Pointer(&f.args)), uintptr(unsafe.Pointer(&f.result)), uintptr(errPtr(f)))
	result := f.result
	return result, l.done(f, r1)
}

func (l *library) callInterruptFD() (int32, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.interruptFD, uintptr(unsafe.Pointer(&f.fd)), uintptr(errPtr(f)))
	fd := f.fd
	return fd, l.done(f, r1)
}

// callCallers fills out and answers how many callers there are, which may be more than fit.
func (l *library) callCallers(out []callerABI) (uint64, error) {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.callers, uintptr(unsafe.Pointer(unsafe.SliceData(out))), uintptr(len(out)),
		uintptr(unsafe.Pointer(&f.bytes)), uintptr(errPtr(f)))
	n := f.bytes
	return n, l.done(f, r1)
}

func (l *library) callQuitCaller(i uint64) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.quitCaller, uintptr(i), uintptr(errPtr(f)))
	return l.done(f, r1)
}

func (l *library) callFaultSet(name, actions string) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.faultSet,
		uintptr(unsafe.Pointer(unsafe.StringData(name))), uintptr(len(name)),
		uintptr(unsafe.Pointer(unsafe.StringData(actions))), uintptr(len(actions)), uintptr(errPtr(f)))
	return l.done(f, r1)
}

func (l *library) callFaultInfo(i uint64, out *faultABI) error {
	f := l.frame()
	r1, _, _ := purego.SyscallN(l.sym.faultInfo, uintptr(i), uintptr(unsafe.Pointer(out)), uintptr(errPtr(f)))
	return l.done(f, r1)
}

// threadMain is an OS thread of the shim: it calls what the shim would have it do, in a goroutine of its own. So the
// thread is one of the Go runtime's from its beginning to its end, and its callbacks are nested in a call of C. Of a thread
// that is not, the runtime has to make out at each callback who calls it, which takes several times as long without cgo.
func threadMain(body, arg uintptr) { purego.SyscallN(body, arg) }
