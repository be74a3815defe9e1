package bridge

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
)

// Module is a compiled module. Its methods are safe for concurrent use.
type Module struct {
	engine *Engine       // immutable
	handle atomic.Uint64 // 0 once closed
	lanes  lanes

	// textMu is held for reading while text of the module is copied out of the shim, and for writing while the
	// module, and with it that text, is deleted. What runs under it neither blocks nor calls back.
	textMu sync.RWMutex
}

// ModuleInfo is what a module is. Sizes are in bytes.
type ModuleInfo struct {
	// Imports and Exports count those of the module as it was given.
	Imports, Exports uint64
	// SharedMemory says that the module imports a shared memory, which the shim supplies; MemoryMin and MemoryMax are
	// its limits, and Memory64 says that it has 64-bit addresses.
	SharedMemory         bool
	MemoryMin, MemoryMax uint64
	Memory64             bool
	// Rewritten says that the module has atomic waits, which were made interruptible.
	Rewritten bool
}

// ExternKind is the kind of an import or export.
type ExternKind uint32

// The kinds of the WebAssembly specification, section "External Types".
const (
	ExternFunc   ExternKind = 0
	ExternGlobal ExternKind = 1
	ExternTable  ExternKind = 2
	ExternMemory ExternKind = 3
	ExternTag    ExternKind = 4
)

// String is the kind's keyword in the text format.
func (k ExternKind) String() string {
	switch k {
	case ExternFunc:
		return "func"
	case ExternGlobal:
		return "global"
	case ExternTable:
		return "table"
	case ExternMemory:
		return "memory"
	case ExternTag:
		return "tag"
	}
	return "unknown kind " + strconv.FormatUint(uint64(k), 10)
}

// Extern is one import or export of a module.
type Extern struct {
	Kind ExternKind
	// Module is an import's module name, and empty for an export.
	Module string
	Name   string
	// Type is the type in words, cut at some 120 bytes: "(i32, i32) -> (i32)" for a function.
	Type string
}

// Info says what the module is.
func (m *Module) Info() (ModuleInfo, error) {
	handle, err := m.open("module info")
	if err != nil {
		return ModuleInfo{}, err
	}
	var c moduleInfoABI
	if err := m.engine.lib.moduleInfo(handle, &c); err != nil {
		return ModuleInfo{}, fmt.Errorf("module info: %w", err)
	}
	return ModuleInfo{
		Imports:      c.imports,
		Exports:      c.exports,
		SharedMemory: c.hasSharedMemory != 0,
		MemoryMin:    c.memoryMinBytes,
		MemoryMax:    c.memoryMaxBytes,
		Memory64:     c.memory64 != 0,
		Rewritten:    c.rewritten != 0,
	}, nil
}

// Imports lists the module's imports, in its own order.
func (m *Module) Imports() ([]Extern, error) {
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	return m.externs("module imports", m.engine.lib.sym.moduleImport, info.Imports)
}

// Exports lists the module's exports, in its own order.
func (m *Module) Exports() ([]Extern, error) {
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	return m.externs("module exports", m.engine.lib.sym.moduleExport, info.Exports)
}

// externs asks for n externs, one by one, by the function at fn.
func (m *Module) externs(what string, fn uintptr, n uint64) ([]Extern, error) {
	m.textMu.RLock()
	defer m.textMu.RUnlock()
	handle, err := m.open(what)
	if err != nil {
		return nil, err
	}
	list := make([]Extern, n)
	var c externABI
	for i := range list {
		if err := m.engine.lib.moduleExtern(fn, handle, uint64(i), &c); err != nil {
			return nil, fmt.Errorf("%s: %d: %w", what, i, err)
		}
		list[i] = Extern{
			Kind:   ExternKind(c.kind),
			Module: text(c.module, c.moduleBytes),
			Name:   text(c.name, c.nameBytes),
			Type:   fixedText(c.typeText[:]),
		}
	}
	return list, nil
}

// Close frees the module. Domains of it keep what they need; the engine may be closed before. Closing it again does
// nothing.
func (m *Module) Close() error {
	m.textMu.Lock()
	defer m.textMu.Unlock()
	return closeHandle(&m.handle, m.engine.lib.moduleDelete, "close module")
}

// open answers the handle, or ErrHandle if the module was closed.
func (m *Module) open(what string) (uint64, error) {
	return openHandle(&m.handle, what, "the module was closed")
}
