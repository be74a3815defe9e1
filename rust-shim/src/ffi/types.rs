//! The types of the C ABI. Their layout is part of it: `lindshim_struct_size` lets a caller check its own copy.

use std::os::raw::{c_char, c_void};

/// The version of the C ABI. It changes when a type or the meaning of a function does.
pub const LINDSHIM_ABI_VERSION: u32 = 5;

/// It worked.
pub const LINDSHIM_OK: i32 = 0;
/// An argument is out of range or contradicts another.
pub const LINDSHIM_ERR_INVALID: i32 = 1;
/// A handle is stale, forged or of another kind.
pub const LINDSHIM_ERR_HANDLE: i32 = 2;
/// The bytes are no valid module.
pub const LINDSHIM_ERR_MODULE: i32 = 3;
/// The module imports something that was not defined, or with another type.
pub const LINDSHIM_ERR_IMPORT: i32 = 4;
/// The module lacks an export, or has it with another type.
pub const LINDSHIM_ERR_EXPORT: i32 = 5;
/// A linear memory is larger than allowed, or could not be reserved.
pub const LINDSHIM_ERR_MEMORY: i32 = 6;
/// A limit on threads was reached: EAGAIN.
pub const LINDSHIM_ERR_LIMIT: i32 = 7;
/// The domain is stopping: nothing new is admitted.
pub const LINDSHIM_ERR_CLOSED: i32 = 8;
/// The object is still in use.
pub const LINDSHIM_ERR_BUSY: i32 = 9;
/// The operating system refused.
pub const LINDSHIM_ERR_IO: i32 = 10;
/// Wasmtime refused.
pub const LINDSHIM_ERR_RUNTIME: i32 = 11;
/// The shim panicked: a bug in it. What the call worked on may be half done.
pub const LINDSHIM_ERR_PANIC: i32 = 12;
/// The caller was built for another version of the C ABI.
pub const LINDSHIM_ERR_ABI: i32 = 13;
/// Calls into grates are nested too deep, or too little of the native stack is left: ELOOP.
pub const LINDSHIM_ERR_DEPTH: i32 = 14;
/// This build of the shim lacks what was asked for.
pub const LINDSHIM_ERR_UNSUPPORTED: i32 = 15;

/// A host call's verdict: the thread goes on in the guest, unless its domain is stopping.
pub const LINDSHIM_CONTINUE: i32 = 0;
/// A host call's verdict: this thread, and only this, ends.
pub const LINDSHIM_QUIT: i32 = 1;
/// A host call's verdict: the host failed, and the thread traps.
pub const LINDSHIM_TRAP: i32 = 2;
/// A host call's verdict: it cannot go on before one of the descriptors in `wait` is ready or `timeout_ns` have passed. The
/// shim waits for that, outside the host, and then makes the same call again with `resumed` set; or never again, if the
/// domain is stopped meanwhile. The host keeps nothing for the call that would have to be given back then. Unlike a wait
/// within the callback such a wait is over for a stop at once, without waiting for the thread to wake.
pub const LINDSHIM_WAIT: i32 = 3;

/// The host call is made for the first time.
pub const LINDSHIM_RESUMED_NOT: u32 = 0;
/// The host call is made again: a descriptor that it waits for may be ready.
pub const LINDSHIM_RESUMED_READY: u32 = 1;
/// The host call is made again: its time is over.
pub const LINDSHIM_RESUMED_TIMED_OUT: u32 = 2;
/// The host call is made again: the shim cannot wait for these descriptors, so the callback has to.
pub const LINDSHIM_RESUMED_REFUSED: u32 = 3;
/// The host call is made again, by a worker of a grate: a caller that it serves is stopping, so the call is to end with
/// EINTR. Told once.
pub const LINDSHIM_RESUMED_INTERRUPTED: u32 = 4;

/// The most descriptors that the verdict LINDSHIM_WAIT can wait for.
pub const LINDSHIM_MAX_WAIT: usize = 8;

/// The thread's entry function returned.
pub const LINDSHIM_END_RETURNED: u32 = 0;
/// A host call's verdict ended the thread.
pub const LINDSHIM_END_QUIT: u32 = 1;
/// The thread was stopped, because its domain is.
pub const LINDSHIM_END_STOPPED: u32 = 2;
/// The guest trapped.
pub const LINDSHIM_END_TRAPPED: u32 = 3;
/// The thread never entered the guest: its instance could not be made.
pub const LINDSHIM_END_START_FAILED: u32 = 4;
/// The worker served a caller that was stopped and did not come to an end within the caller's grace. What it was about in
/// the grate is half done.
pub const LINDSHIM_END_DISCARDED: u32 = 5;

/// The thread is not in the guest yet.
pub const LINDSHIM_AT_STARTING: u32 = 0;
/// The thread runs guest code.
pub const LINDSHIM_AT_GUEST: u32 = 1;
/// The thread is in a host call.
pub const LINDSHIM_AT_HOST_CALL: u32 = 2;
/// The thread is parked in `memory.atomic.wait32` or `wait64`.
pub const LINDSHIM_AT_ATOMIC_WAIT: u32 = 3;
/// The thread has left the guest for good.
pub const LINDSHIM_AT_ENDED: u32 = 4;
/// The thread is inside a grate, or waits for one of its workers.
pub const LINDSHIM_AT_GRATE: u32 = 5;
/// The worker has no call to serve.
pub const LINDSHIM_AT_IDLE: u32 = 6;

/// The result of a call whose grate was stopped, trapped or gave up while it served it.
pub const LINDSHIM_GRATE_ERR: i32 = -0x1FFF0003;
/// The result of a call whose grate was gone already.
pub const LINDSHIM_ELINDESRCH: i32 = -0x1FFEFFFE;

/// An imported or exported function.
pub const LINDSHIM_EXTERN_FUNC: u32 = 0;
/// An imported or exported global.
pub const LINDSHIM_EXTERN_GLOBAL: u32 = 1;
/// An imported or exported table.
pub const LINDSHIM_EXTERN_TABLE: u32 = 2;
/// An imported or exported linear memory.
pub const LINDSHIM_EXTERN_MEMORY: u32 = 3;
/// An imported or exported exception tag.
pub const LINDSHIM_EXTERN_TAG: u32 = 4;

/// Selects `lindshim_error_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_ERROR: u32 = 0;
/// Selects `lindshim_call_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_CALL: u32 = 1;
/// Selects `lindshim_thread_end_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_THREAD_END: u32 = 2;
/// Selects `lindshim_thread_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_THREAD: u32 = 3;
/// Selects `lindshim_report_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_REPORT: u32 = 4;
/// Selects `lindshim_engine_config_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_ENGINE_CONFIG: u32 = 5;
/// Selects `lindshim_import_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_IMPORT: u32 = 6;
/// Selects `lindshim_domain_config_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_DOMAIN_CONFIG: u32 = 7;
/// Selects `lindshim_module_info_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_MODULE_INFO: u32 = 8;
/// Selects `lindshim_extern_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_EXTERN: u32 = 9;
/// Selects `lindshim_engine_stats_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_ENGINE_STATS: u32 = 10;
/// Selects `lindshim_grate_config_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_GRATE_CONFIG: u32 = 11;
/// Selects `lindshim_trace_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_TRACE: u32 = 12;
/// Selects `lindshim_caller_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_CALLER: u32 = 13;
/// Selects `lindshim_fault_t` in `lindshim_struct_size`.
pub const LINDSHIM_STRUCT_FAULT: u32 = 14;

/// How many bytes of text an error holds.
pub const LINDSHIM_ERROR_TEXT: usize = 4092;

/// The text of a failure. Owned by the caller; filled in only on failure.
#[repr(C)]
#[derive(Debug)]
pub struct ErrorText {
    /// How many bytes of `text` are set.
    pub len: u32,
    /// UTF-8, without a NUL at its end.
    pub text: [c_char; LINDSHIM_ERROR_TEXT],
}

/// A descriptor to wait for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WaitFd {
    /// The descriptor. A negative one is passed over.
    pub fd: i32,
    /// What for: the bits of poll(2), which are those of epoll_ctl(2).
    pub events: u32,
}

/// One host call in flight. It lies on the guest thread's stack and is gone when the callback returns.
#[repr(C)]
#[derive(Debug)]
pub struct Call {
    /// The domain's user word.
    pub user: u64,
    /// A word that belongs to the guest thread: 0 at first, kept as the callback leaves it.
    pub thread_user: u64,
    /// The domain.
    pub domain: u64,
    /// The thread's id within its domain, 1 for the one that `lindshim_domain_start` started.
    pub tid: u32,
    /// The id of the import that was called.
    pub import: u32,
    /// Argument i is at `args[2 * i]`; of an i32 or f32 only the low half counts. A result goes to `args[0]`.
    pub args: *mut u64,
    /// The linear memory's first byte, or NULL if the module has none.
    pub memory: *mut u8,
    /// How many bytes of linear memory are accessible now. It only ever grows.
    pub memory_bytes: u64,
    /// Room for LINDSHIM_MAX_WAIT descriptors, set by the callback before the verdict LINDSHIM_WAIT.
    pub wait: *mut WaitFd,
    /// How many descriptors are in `wait`. Set with them.
    pub wait_count: u32,
    /// `LINDSHIM_RESUMED_*`.
    pub resumed: u32,
    /// How long to wait, in nanoseconds; negative for ever. Set with `wait_count`.
    pub timeout_ns: i64,
    /// Of a call that a worker makes: the user word of the domain whose call it serves. 0 if the host itself called the
    /// grate, or if no worker makes the call.
    pub caller_user: u64,
    /// The word of the thread whose call it serves, or 0.
    pub caller_thread_user: u64,
    /// How many workers deep the call is: 0 for one that no worker makes.
    pub depth: u32,
    /// 1 if a worker of a grate makes the call, else 0.
    pub worker: u32,
}

/// A guest thread has left the guest, for a reason other than that its domain is stopping.
#[repr(C)]
#[derive(Debug)]
pub struct ThreadEnd {
    /// The domain's user word.
    pub user: u64,
    /// The thread's own word.
    pub thread_user: u64,
    /// The domain.
    pub domain: u64,
    /// The thread's id within its domain.
    pub tid: u32,
    /// Why it left: `LINDSHIM_END_*`.
    pub outcome: u32,
    /// One more than Wasmtime's number of the trap, or 0 if it was none of the WebAssembly traps.
    pub trap: u32,
    /// 1 if `lindshim_domain_start` started the thread, else 0.
    pub main: u32,
    /// 1 if it is no thread but a worker of a grate, which served a call of another domain's thread and is of no further
    /// use: then the outcome is LINDSHIM_END_TRAPPED, _QUIT, _START_FAILED or _DISCARDED. Told before its caller goes on.
    pub worker: u32,
    /// 0.
    pub reserved: u32,
    /// What went wrong, or NULL. Not NUL-terminated; valid during the callback.
    pub message: *const c_char,
    /// The length of `message`.
    pub message_bytes: u64,
    /// The guest's call stack, a line for each frame and the innermost first, or NULL. Valid during the callback.
    pub backtrace: *const c_char,
    /// The length of `backtrace`.
    pub backtrace_bytes: u64,
}

/// Where a thread is, or was when its domain began to stop.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// The thread's id within its domain.
    pub tid: u32,
    /// `LINDSHIM_AT_*`.
    pub state: u32,
    /// In a host call: the id of the import. Inside a grate: the number of the call.
    pub import: u32,
    /// Why it left: `LINDSHIM_END_*`; meaningful once `left_ns` is set.
    pub outcome: u32,
    /// In an atomic wait: the offset in its linear memory. Inside a grate: the grate's port.
    pub address: u64,
    /// When the state began, by a clock that ticks every few milliseconds; 0 for guest code and inside a grate.
    pub since_ns: u64,
    /// When the thread left the guest for good, or 0.
    pub left_ns: u64,
    /// In a report: the thread's own word, if it was stopped with its domain and so has no thread_end; else 0.
    pub thread_user: u64,
    /// 1 if it is a worker of the domain, which is a grate; else 0.
    pub worker: u32,
    /// 1 if a worker that served the thread was trapped when the grace was over: its grate's state may be torn.
    pub torn: u32,
    /// The innermost guest function when the thread left, NUL-terminated and cut to fit, or empty.
    pub function: [c_char; 64],
}

/// A domain is quiescent: none of its code runs, and none ever will.
#[repr(C)]
#[derive(Debug)]
pub struct Report {
    /// The domain's user word.
    pub user: u64,
    /// The domain.
    pub domain: u64,
    /// When it began to stop.
    pub stop_ns: u64,
    /// When the last thread had left.
    pub quiescent_ns: u64,
    /// The threads that were inside when the stop began, as they were then. Valid during the callback.
    pub threads: *const Thread,
    /// How many.
    pub thread_count: u64,
    /// How many threads the domain ever had, workers included.
    pub threads_total: u64,
    /// Whether this is told on a thread of the engine's, and not on one of the host's.
    pub on_pool: u32,
    /// 0.
    pub reserved: u32,
}

/// Carries out a host call; answers a verdict: LINDSHIM_CONTINUE, LINDSHIM_QUIT or LINDSHIM_TRAP. It runs on the guest
/// thread and may block, as long as it returns soon after the cancel descriptor becomes readable. It must not unwind.
pub type HostCallFn = Option<unsafe extern "C" fn(call: *mut Call) -> i32>;
/// Is told that a thread has left the guest, on that thread, which still counts as inside the domain. It may stop the
/// domain. It must not unwind. Of threads that are stopped with their domain it is not told: the report names them, with
/// their words, so that a stop of many threads costs one callback and not one each.
pub type ThreadEndFn = Option<unsafe extern "C" fn(end: *const ThreadEnd)>;
/// Is told of each call that a grate has served, on the thread that called and before it goes on. It must not unwind.
pub type TraceFn = Option<unsafe extern "C" fn(trace: *const Trace)>;
/// Is the whole of each OS thread that the engine makes: it calls `body(arg)` once, and returns when that has returned. A
/// host whose runtime has to know a thread makes it known there, once and not at each callback. It must not unwind.
pub type ThreadMainFn =
    Option<unsafe extern "C" fn(body: unsafe extern "C" fn(arg: *mut c_void), arg: *mut c_void)>;
/// Is told, exactly once for each stopped domain, that it is quiescent: on the thread that left last, or on the caller of
/// lindshim_domain_stop. No lock is held; it may delete the domain. It must not unwind.
pub type QuiescentFn = Option<unsafe extern "C" fn(report: *const Report)>;

/// How to make an engine.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// `sizeof(lindshim_engine_config_t)`.
    pub struct_size: u32,
    /// `LINDSHIM_ABI_VERSION`.
    pub abi_version: u32,
    /// The most OS threads at once, idle ones included. 0: 4096. Those of a domain that has reported count until they have
    /// unwound; who starts a thread when nothing else is in the way waits for one, for a second at most.
    pub max_threads: u64,
    /// The most OS threads that are kept for reuse. 0: 64.
    pub max_idle_threads: u64,
    /// The native stack of each thread, in bytes. A call into a grate needs `wasm_stack_bytes` and 128 KiB of it to be
    /// left. 0: 4 MiB.
    pub stack_bytes: u64,
    /// How much of it WebAssembly may use, in bytes; more is a trap. 0: 1 MiB.
    pub wasm_stack_bytes: u64,
    /// A directory for compiled modules, absolute, created when missing; NULL for none.
    pub cache_dir: *const c_char,
    /// The length of `cache_dir`.
    pub cache_dir_bytes: u64,
    /// Carries out host calls. Not NULL.
    pub host_call: HostCallFn,
    /// Is told of each thread's end. Not NULL.
    pub thread_end: ThreadEndFn,
    /// Is told of each domain's quiescence. Not NULL.
    pub quiescent: QuiescentFn,
    /// Is told of each call that a grate has served, or NULL: then they are not timed either.
    pub trace: TraceFn,
    /// Is each OS thread that the engine makes, or NULL: then they are the shim's alone.
    pub thread_main: ThreadMainFn,
    /// How many workers deep a thread may be: calls beyond it answer ELOOP. At most 64. 0: 16.
    pub max_call_depth: u32,
    /// 0.
    pub reserved: u32,
}

/// A function that guests may import.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Import {
    /// The import's module name, UTF-8. "lindshim" is the shim's own.
    pub module: *const c_char,
    /// The length of `module`.
    pub module_bytes: u64,
    /// The import's name, UTF-8.
    pub name: *const c_char,
    /// The length of `name`.
    pub name_bytes: u64,
    /// A letter for each parameter: i (i32), I (i64), f (f32), F (f64).
    pub params: *const c_char,
    /// The length of `params`, at most 64.
    pub params_bytes: u64,
    /// A letter for each result, at most one.
    pub results: *const c_char,
    /// The length of `results`.
    pub results_bytes: u64,
    /// What `lindshim_call_t.import` will say.
    pub id: u32,
    /// 0.
    pub reserved: u32,
}

/// How to make a domain.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DomainConfig {
    /// `sizeof(lindshim_domain_config_t)`.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// A word for the callbacks.
    pub user: u64,
    /// The most bytes of linear memory, all its memories together. 0: what the module says.
    pub max_memory_bytes: u64,
    /// The most threads at once, workers aside. 0: the engine's limit.
    pub max_threads: u64,
    /// Who interposes on its calls of lind.make-syscall: a word that holds 0 or the address of a row of handlers, and may
    /// change at any time. It and the rows stay mapped for good. NULL: nobody ever does.
    ///
    /// A row is a version (64 bits), 56 bytes of nothing, and two halves of 1024 entries (64 bits each), of which the
    /// version's lowest bit names the one that counts. An entry is 0 if the host serves the call; 1 in its two top bits, a
    /// port in the next 38, and an index in the grate's function table in the last 24; or anything else if the grate is
    /// gone. Entries of the half that counts are written atomically; the other is filled before the version is raised.
    pub handlers: *const u64,
    /// The domain's number in calls of lind.make-syscall: it makes them in the name of no other.
    pub cage: u64,
    /// How long a grate that serves one of its threads may go on when the domain stops, in nanoseconds. 0: 100 ms.
    pub grate_grace_ns: u64,
}

/// A guest thread that waits for a worker to serve its call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Its domain's user word.
    pub user: u64,
    /// Its own word, or 0.
    pub thread_user: u64,
    /// Its id within its domain.
    pub tid: u32,
    /// 1 if it is itself a worker, which serves the next caller.
    pub worker: u32,
}

/// How to open a grate.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GrateConfig {
    /// `sizeof(lindshim_grate_config_t)`.
    pub struct_size: u32,
    /// The most calls that are served at once, at most 1024. 0: 16. Of a module that was not built with a shared memory
    /// it is 1, whatever is said here.
    pub max_workers: u32,
    /// The guest's stack of each worker, in bytes. 0: 64 KiB.
    pub stack_bytes: u64,
    /// What becomes of callers when all workers serve: 0: they wait; 1: EAGAIN.
    pub busy: u32,
    /// 0.
    pub reserved: u32,
}

/// A call that a grate has served. Valid during the callback.
#[repr(C)]
#[derive(Debug)]
pub struct Trace {
    /// The user word of the domain that made the call, or 0 for the host.
    pub user: u64,
    /// The word of the thread that made it, or 0.
    pub thread_user: u64,
    /// The id of that thread within its domain, or 0.
    pub tid: u32,
    /// How many workers deep the call was served: 1 for a call of a program.
    pub depth: u32,
    /// The grate's user word.
    pub grate_user: u64,
    /// The call's number.
    pub call: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// Whose each of them is.
    pub argcages: [u64; 6],
    /// What the caller gets.
    pub result: i32,
    /// 0.
    pub reserved: u32,
    /// When the call began, by CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// How long it took, the wait for a worker included.
    pub duration_ns: u64,
}

/// What a module is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ModuleInfo {
    /// How many imports it has, as it was given.
    pub imports: u64,
    /// How many exports it has, as it was given.
    pub exports: u64,
    /// 1 if it imports a shared memory, as a module that was loaded as a grate always does; else 0.
    pub has_shared_memory: u32,
    /// 1 if its atomic waits were made interruptible or it was loaded as a grate, else 0.
    pub rewritten: u32,
    /// The least size of the imported shared memory, in bytes, or 0.
    pub memory_min_bytes: u64,
    /// The largest size of the imported shared memory, in bytes, or 0.
    pub memory_max_bytes: u64,
    /// 1 if the imported shared memory has 64-bit addresses, else 0.
    pub memory64: u32,
    /// 0.
    pub reserved: u32,
}

/// One import or export of a module.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Extern {
    /// `LINDSHIM_EXTERN_*`.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
    /// An import's module name, or NULL. Not NUL-terminated; valid until the module is deleted.
    pub module: *const c_char,
    /// The length of `module`.
    pub module_bytes: u64,
    /// The name. Not NUL-terminated; valid until the module is deleted.
    pub name: *const c_char,
    /// The length of `name`.
    pub name_bytes: u64,
    /// The type as text, NUL-terminated and cut to fit: "(i32, i32) -> (i32)" for a function.
    pub type_text: [c_char; 128],
}

/// What an engine holds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EngineStats {
    /// OS threads that run a guest thread.
    pub threads_running: u64,
    /// OS threads that wait for one.
    pub threads_idle: u64,
    /// Domains that were not deleted.
    pub domains: u64,
    /// Modules that were not deleted.
    pub modules: u64,
}

/// A failure point of the shim.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its name. Not NUL-terminated; static.
    pub name: *const c_char,
    /// The length of `name`.
    pub name_bytes: u64,
    /// 1 if it can fail, 0 if it can be late only.
    pub fails: u32,
    /// 1 if this build has failure points, 0 if it only knows their names.
    pub built: u32,
    /// How often it has failed or been late since the process began.
    pub fired: u64,
}

impl Import {
    /// A function with these names and types.
    pub fn new(
        module: &'static str,
        name: &'static str,
        params: &'static str,
        results: &'static str,
        id: u32,
    ) -> Self {
        let at = |text: &'static str| (text.as_ptr().cast::<c_char>(), text.len() as u64);
        let ((module, module_bytes), (name, name_bytes)) = (at(module), at(name));
        let ((params, params_bytes), (results, results_bytes)) = (at(params), at(results));
        Import {
            module,
            module_bytes,
            name,
            name_bytes,
            params,
            params_bytes,
            results,
            results_bytes,
            id,
            reserved: 0,
        }
    }
}

impl EngineConfig {
    /// The defaults, with these callbacks.
    pub fn new(host_call: HostCallFn, thread_end: ThreadEndFn, quiescent: QuiescentFn) -> Self {
        EngineConfig {
            struct_size: size_of::<Self>() as u32,
            abi_version: LINDSHIM_ABI_VERSION,
            max_threads: 0,
            max_idle_threads: 0,
            stack_bytes: 0,
            wasm_stack_bytes: 0,
            cache_dir: std::ptr::null(),
            cache_dir_bytes: 0,
            host_call,
            thread_end,
            quiescent,
            trace: None,
            thread_main: None,
            max_call_depth: 0,
            reserved: 0,
        }
    }
}

impl DomainConfig {
    /// The defaults, with this user word.
    pub fn new(user: u64) -> Self {
        DomainConfig {
            struct_size: size_of::<Self>() as u32,
            reserved: 0,
            user,
            max_memory_bytes: 0,
            max_threads: 0,
            handlers: std::ptr::null(),
            cage: 0,
            grate_grace_ns: 0,
        }
    }
}

impl GrateConfig {
    /// The defaults.
    pub fn new() -> Self {
        GrateConfig {
            struct_size: size_of::<Self>() as u32,
            max_workers: 0,
            stack_bytes: 0,
            busy: 0,
            reserved: 0,
        }
    }
}

impl Default for GrateConfig {
    fn default() -> Self {
        Self::new()
    }
}
