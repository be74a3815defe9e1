package bridge

import "unsafe"

// This file implements the C side of the boundary in Go's terms: constants and structures of
// rust-shim/include/lindshim.h and nothing else. TestMirror_MatchesHeader compares each of them with the header, so a
// field keeps the header's name (in camel case), order and type.

// Handles and addresses are passed as uintptr: this fails to compile where that has not 64 bits.
var _ = [1]struct{}{}[8-unsafe.Sizeof(uintptr(0))]

// abiVersion is the version of the C ABI that this package was written for.
const abiVersion = 5

// What a function of the shim answers.
const (
	statusOK          int32 = 0
	statusInvalid     int32 = 1
	statusHandle      int32 = 2
	statusModule      int32 = 3
	statusImport      int32 = 4
	statusExport      int32 = 5
	statusMemory      int32 = 6
	statusLimit       int32 = 7
	statusClosed      int32 = 8
	statusBusy        int32 = 9
	statusIO          int32 = 10
	statusRuntime     int32 = 11
	statusPanic       int32 = 12
	statusABI         int32 = 13
	statusDepth       int32 = 14
	statusUnsupported int32 = 15
)

// How a host call is made: for the first time, or again after a wait.
const (
	resumedNot         uint32 = 0
	resumedReady       uint32 = 1
	resumedTimedOut    uint32 = 2
	resumedRefused     uint32 = 3
	resumedInterrupted uint32 = 4
)

// maxWait is how many descriptors a host call can have the shim wait for.
const maxWait = 8

// Selectors of lindshim_struct_size.
const (
	structError        uint32 = 0
	structCall         uint32 = 1
	structThreadEnd    uint32 = 2
	structThread       uint32 = 3
	structReport       uint32 = 4
	structEngineConfig uint32 = 5
	structImport       uint32 = 6
	structDomainConfig uint32 = 7
	structModuleInfo   uint32 = 8
	structExtern       uint32 = 9
	structEngineStats  uint32 = 10
	structGrateConfig  uint32 = 11
	structTrace        uint32 = 12
	structCaller       uint32 = 13
	structFault        uint32 = 14
)

// Lengths of the texts that lie within structures.
const (
	errorTextBytes    = 4092
	functionTextBytes = 64
	typeTextBytes     = 128
)

// errorABI is lindshim_error_t. Owned by the caller; the shim fills it in on failure only.
type errorABI struct {
	len  uint32
	text [errorTextBytes]byte
}

// callABI is lindshim_call_t. It lies on the stack of the guest thread and is gone when the callback returns.
type callABI struct {
	user        uint64
	threadUser  uint64
	domain      uint64
	tid         uint32
	importID    uint32
	args        unsafe.Pointer // uint64_t *
	memory      unsafe.Pointer // uint8_t *
	memoryBytes uint64
	wait        unsafe.Pointer // lindshim_wait_fd_t *, room for maxWait
	waitCount   uint32
	resumed     uint32
	timeoutNs   int64
	// The rest is of a call that a worker of a grate makes.
	callerUser       uint64
	callerThreadUser uint64
	depth            uint32
	worker           uint32
}

// waitFDABI is lindshim_wait_fd_t.
type waitFDABI struct {
	fd     int32
	events uint32
}

// threadEndABI is lindshim_thread_end_t. Valid during the callback.
type threadEndABI struct {
	user           uint64
	threadUser     uint64
	domain         uint64
	tid            uint32
	outcome        uint32
	trap           uint32
	main           uint32
	worker         uint32
	reserved       uint32
	message        unsafe.Pointer // const char *, not NUL-terminated
	messageBytes   uint64
	backtrace      unsafe.Pointer // const char *, not NUL-terminated
	backtraceBytes uint64
}

// threadABI is lindshim_thread_t.
type threadABI struct {
	tid      uint32
	state    uint32
	importID uint32
	outcome  uint32
	address  uint64
	sinceNs  uint64
	leftNs   uint64
	// threadUser is set in a report, for a thread that there was no threadEnd of.
	threadUser uint64
	worker     uint32
	torn       uint32
	function   [functionTextBytes]byte // NUL-terminated
}

// reportABI is lindshim_report_t. Valid during the callback.
type reportABI struct {
	user         uint64
	domain       uint64
	stopNs       uint64
	quiescentNs  uint64
	threads      unsafe.Pointer // const lindshim_thread_t *
	threadCount  uint64
	threadsTotal uint64
	onPool       uint32
	reserved     uint32
}

// engineConfigABI is lindshim_engine_config_t.
type engineConfigABI struct {
	structSize     uint32
	abiVersion     uint32
	maxThreads     uint64
	maxIdleThreads uint64
	stackBytes     uint64
	wasmStackBytes uint64
	cacheDir       unsafe.Pointer // const char *
	cacheDirBytes  uint64
	hostCall       uintptr // lindshim_host_call_fn
	threadEnd      uintptr // lindshim_thread_end_fn
	quiescent      uintptr // lindshim_quiescent_fn
	trace          uintptr // lindshim_trace_fn, or 0
	threadMain     uintptr // lindshim_thread_main_fn
	maxCallDepth   uint32
	reserved       uint32
}

// importABI is lindshim_import_t.
type importABI struct {
	module       unsafe.Pointer // const char *
	moduleBytes  uint64
	name         unsafe.Pointer // const char *
	nameBytes    uint64
	params       unsafe.Pointer // const char *
	paramsBytes  uint64
	results      unsafe.Pointer // const char *
	resultsBytes uint64
	id           uint32
	reserved     uint32
}

// domainConfigABI is lindshim_domain_config_t.
type domainConfigABI struct {
	structSize     uint32
	reserved       uint32
	user           uint64
	maxMemoryBytes uint64
	maxThreads     uint64
	handlers       uintptr // const uint64_t *: not of Go's memory
	cage           uint64
	grateGraceNs   uint64
}

// grateConfigABI is lindshim_grate_config_t.
type grateConfigABI struct {
	structSize uint32
	maxWorkers uint32
	stackBytes uint64
	busy       uint32
	reserved   uint32
}

// traceABI is lindshim_trace_t. Valid during the callback.
type traceABI struct {
	user       uint64
	threadUser uint64
	tid        uint32
	depth      uint32
	grateUser  uint64
	call       uint64
	args       [6]uint64
	argcages   [6]uint64
	result     int32
	reserved   uint32
	startNs    uint64
	durationNs uint64
}

// callerABI is lindshim_caller_t.
type callerABI struct {
	user       uint64
	threadUser uint64
	tid        uint32
	worker     uint32
}

// faultABI is lindshim_fault_t.
type faultABI struct {
	name      unsafe.Pointer // const char *, static
	nameBytes uint64
	fails     uint32
	built     uint32
	fired     uint64
}

// moduleInfoABI is lindshim_module_info_t.
type moduleInfoABI struct {
	imports         uint64
	exports         uint64
	hasSharedMemory uint32
	rewritten       uint32
	memoryMinBytes  uint64
	memoryMaxBytes  uint64
	memory64        uint32
	reserved        uint32
}

// externABI is lindshim_extern_t. Its pointers are valid until the module is deleted.
type externABI struct {
	kind        uint32
	reserved    uint32
	module      unsafe.Pointer // const char *
	moduleBytes uint64
	name        unsafe.Pointer // const char *
	nameBytes   uint64
	typeText    [typeTextBytes]byte // NUL-terminated
}

// engineStatsABI is lindshim_engine_stats_t.
type engineStatsABI struct {
	threadsRunning uint64
	threadsIdle    uint64
	domains        uint64
	modules        uint64
}

// What the structures that carry their own size say it is.
const (
	engineConfigBytes = uint32(unsafe.Sizeof(engineConfigABI{}))
	domainConfigBytes = uint32(unsafe.Sizeof(domainConfigABI{}))
	grateConfigBytes  = uint32(unsafe.Sizeof(grateConfigABI{}))
)

// mirror says which structure of the C ABI is mirrored with which size.
type mirror struct {
	name  string
	which uint32
	size  uint64
}

// mirrors lists every structure that crosses the boundary.
func mirrors() []mirror {
	return []mirror{
		{"lindshim_error_t", structError, uint64(unsafe.Sizeof(errorABI{}))},
		{"lindshim_call_t", structCall, uint64(unsafe.Sizeof(callABI{}))},
		{"lindshim_thread_end_t", structThreadEnd, uint64(unsafe.Sizeof(threadEndABI{}))},
		{"lindshim_thread_t", structThread, uint64(unsafe.Sizeof(threadABI{}))},
		{"lindshim_report_t", structReport, uint64(unsafe.Sizeof(reportABI{}))},
		{"lindshim_engine_config_t", structEngineConfig, uint64(unsafe.Sizeof(engineConfigABI{}))},
		{"lindshim_import_t", structImport, uint64(unsafe.Sizeof(importABI{}))},
		{"lindshim_domain_config_t", structDomainConfig, uint64(unsafe.Sizeof(domainConfigABI{}))},
		{"lindshim_module_info_t", structModuleInfo, uint64(unsafe.Sizeof(moduleInfoABI{}))},
		{"lindshim_extern_t", structExtern, uint64(unsafe.Sizeof(externABI{}))},
		{"lindshim_engine_stats_t", structEngineStats, uint64(unsafe.Sizeof(engineStatsABI{}))},
		{"lindshim_grate_config_t", structGrateConfig, uint64(unsafe.Sizeof(grateConfigABI{}))},
		{"lindshim_caller_t", structCaller, uint64(unsafe.Sizeof(callerABI{}))},
		{"lindshim_trace_t", structTrace, uint64(unsafe.Sizeof(traceABI{}))},
		{"lindshim_fault_t", structFault, uint64(unsafe.Sizeof(faultABI{}))},
	}
}
