package bridge

// symbols are the addresses of the shim's functions. Immutable once loaded.
type symbols struct {
	abiVersion      uintptr
	structSize      uintptr
	version         uintptr
	engineNew       uintptr
	engineDefine    uintptr
	engineStats     uintptr
	engineDelete    uintptr
	moduleLoad      uintptr
	moduleInfo      uintptr
	moduleImport    uintptr
	moduleExport    uintptr
	moduleDelete    uintptr
	domainNew       uintptr
	domainStart     uintptr
	domainBegin     uintptr
	threadSpawn     uintptr
	threadBegin     uintptr
	threadRun       uintptr
	domainStop      uintptr
	domainCancelFD  uintptr
	domainThreads   uintptr
	domainMemory    uintptr
	domainDelete    uintptr
	moduleLoadGrate uintptr
	grateOpen       uintptr
	grateCall       uintptr
	interruptFD     uintptr
	callers         uintptr
	quitCaller      uintptr
	faultSet        uintptr
	faultInfo       uintptr
}

// symbol ties a name of the C ABI to the place for its address.
type symbol struct {
	name string
	addr *uintptr
}

// table lists every function of the C ABI.
func (s *symbols) table() []symbol {
	return []symbol{
		{"lindshim_abi_version", &s.abiVersion},
		{"lindshim_struct_size", &s.structSize},
		{"lindshim_version", &s.version},
		{"lindshim_engine_new", &s.engineNew},
		{"lindshim_engine_define", &s.engineDefine},
		{"lindshim_engine_stats", &s.engineStats},
		{"lindshim_engine_delete", &s.engineDelete},
		{"lindshim_module_load", &s.moduleLoad},
		{"lindshim_module_info", &s.moduleInfo},
		{"lindshim_module_import", &s.moduleImport},
		{"lindshim_module_export", &s.moduleExport},
		{"lindshim_module_delete", &s.moduleDelete},
		{"lindshim_domain_new", &s.domainNew},
		{"lindshim_domain_start", &s.domainStart},
		{"lindshim_domain_begin", &s.domainBegin},
		{"lindshim_thread_spawn", &s.threadSpawn},
		{"lindshim_thread_begin", &s.threadBegin},
		{"lindshim_thread_run", &s.threadRun},
		{"lindshim_domain_stop", &s.domainStop},
		{"lindshim_domain_cancel_fd", &s.domainCancelFD},
		{"lindshim_domain_threads", &s.domainThreads},
		{"lindshim_domain_memory", &s.domainMemory},
		{"lindshim_domain_delete", &s.domainDelete},
		{"lindshim_module_load_grate", &s.moduleLoadGrate},
		{"lindshim_grate_open", &s.grateOpen},
		{"lindshim_grate_call", &s.grateCall},
		{"lindshim_interrupt_fd", &s.interruptFD},
		{"lindshim_callers", &s.callers},
		{"lindshim_quit_caller", &s.quitCaller},
		{"lindshim_fault_set", &s.faultSet},
		{"lindshim_fault_info", &s.faultInfo},
	}
}
