package wasip1

import "strconv"

// The module names that programs import from.
const (
	ModuleWASI    = "wasi_snapshot_preview1"
	ModuleThreads = "wasi"
)

// Import is a function that programs may import. Its fields are those of bridge.Import, so that one converts to
// the other.
type Import struct {
	Module, Name string
	// Params and Results are the core WebAssembly types: 'i' for i32, 'I' for i64.
	Params, Results string
	// ID is the function's number for WASI.Call and Name, counted from 0 without gaps.
	ID uint32
}

// function is one row of the table below. Exactly one of serve and serveRaw is set.
type function struct {
	module, name    string
	params, results string
	serve           func(call) Errno
	serveRaw        func(call) (uint64, Verdict)
}

// functions is the table of all functions; a function's index is its ID. The signatures are those of
// wasi_snapshot_preview1.witx and wasi-threads.abi.md. Immutable.
var functions = [...]function{
	{ModuleWASI, "args_get", "ii", "i", argsGet, nil},
	{ModuleWASI, "args_sizes_get", "ii", "i", argsSizesGet, nil},
	{ModuleWASI, "environ_get", "ii", "i", environGet, nil},
	{ModuleWASI, "environ_sizes_get", "ii", "i", environSizesGet, nil},
	{ModuleWASI, "clock_res_get", "ii", "i", clockResGet, nil},
	{ModuleWASI, "clock_time_get", "iIi", "i", clockTimeGet, nil},
	{ModuleWASI, "fd_advise", "iIIi", "i", fdAdvise, nil},
	{ModuleWASI, "fd_allocate", "iII", "i", fdAllocate, nil},
	{ModuleWASI, "fd_close", "i", "i", fdClose, nil},
	{ModuleWASI, "fd_datasync", "i", "i", fdDatasync, nil},
	{ModuleWASI, "fd_fdstat_get", "ii", "i", fdFdstatGet, nil},
	{ModuleWASI, "fd_fdstat_set_flags", "ii", "i", fdFdstatSetFlags, nil},
	{ModuleWASI, "fd_fdstat_set_rights", "iII", "i", fdFdstatSetRights, nil},
	{ModuleWASI, "fd_filestat_get", "ii", "i", fdFilestatGet, nil},
	{ModuleWASI, "fd_filestat_set_size", "iI", "i", fdFilestatSetSize, nil},
	{ModuleWASI, "fd_filestat_set_times", "iIIi", "i", fdFilestatSetTimes, nil},
	{ModuleWASI, "fd_pread", "iiiIi", "i", fdPread, nil},
	{ModuleWASI, "fd_prestat_get", "ii", "i", fdPrestatGet, nil},
	{ModuleWASI, "fd_prestat_dir_name", "iii", "i", fdPrestatDirName, nil},
	{ModuleWASI, "fd_pwrite", "iiiIi", "i", fdPwrite, nil},
	{ModuleWASI, "fd_read", "iiii", "i", fdRead, nil},
	{ModuleWASI, "fd_readdir", "iiiIi", "i", fdReaddir, nil},
	{ModuleWASI, "fd_renumber", "ii", "i", fdRenumber, nil},
	{ModuleWASI, "fd_seek", "iIii", "i", fdSeek, nil},
	{ModuleWASI, "fd_sync", "i", "i", fdSync, nil},
	{ModuleWASI, "fd_tell", "ii", "i", fdTell, nil},
	{ModuleWASI, "fd_write", "iiii", "i", fdWrite, nil},
	{ModuleWASI, "path_create_directory", "iii", "i", pathCreateDirectory, nil},
	{ModuleWASI, "path_filestat_get", "iiiii", "i", pathFilestatGet, nil},
	{ModuleWASI, "path_filestat_set_times", "iiiiIIi", "i", pathFilestatSetTimes, nil},
	{ModuleWASI, "path_link", "iiiiiii", "i", pathLink, nil},
	{ModuleWASI, "path_open", "iiiiiIIii", "i", pathOpen, nil},
	{ModuleWASI, "path_readlink", "iiiiii", "i", pathReadlink, nil},
	{ModuleWASI, "path_remove_directory", "iii", "i", pathRemoveDirectory, nil},
	{ModuleWASI, "path_rename", "iiiiii", "i", pathRename, nil},
	{ModuleWASI, "path_symlink", "iiiii", "i", pathSymlink, nil},
	{ModuleWASI, "path_unlink_file", "iii", "i", pathUnlinkFile, nil},
	{ModuleWASI, "poll_oneoff", "iiii", "i", pollOneoff, nil},
	{ModuleWASI, "proc_exit", "i", "", nil, procExit},
	{ModuleWASI, "proc_raise", "i", "i", procRaise, nil},
	{ModuleWASI, "random_get", "ii", "i", randomGet, nil},
	{ModuleWASI, "sched_yield", "", "i", schedYield, nil},
	{ModuleWASI, "sock_accept", "iii", "i", sockAccept, nil},
	{ModuleWASI, "sock_recv", "iiiiii", "i", sockRecv, nil},
	{ModuleWASI, "sock_send", "iiiii", "i", sockSend, nil},
	{ModuleWASI, "sock_shutdown", "ii", "i", sockShutdown, nil},
	{ModuleThreads, "thread-spawn", "i", "i", nil, threadSpawn},
}

// Imports is the table of all functions that the package serves, in the order of their IDs. The caller may change it.
func Imports() []Import {
	imports := make([]Import, len(functions))
	for i := range functions {
		f := &functions[i]
		imports[i] = Import{Module: f.module, Name: f.name, Params: f.params, Results: f.results, ID: uint32(i)}
	}
	return imports
}

// Name is the name of the function fn as the witx has it, for reports: "fd_read".
func Name(fn uint32) string {
	if fn < uint32(len(functions)) {
		return functions[fn].name
	}
	return "wasi function " + strconv.FormatUint(uint64(fn), 10)
}
