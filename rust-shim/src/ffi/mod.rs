//! The C ABI. Each export checks its arguments, does one thing of the crate and answers a status; the header made from
//! this module is its specification.

pub mod guard;
pub mod types;

use crate::domain::Domain;
use crate::engine::{Callbacks, Engine, HostImport, Settings};
use crate::error::{Error, Result, Status};
use crate::faults;
use crate::frame::OsThread;
use crate::grate::{self, PARAMS, Served};
use crate::handlers::Handler;
use crate::module::{External, Module};
use crate::registry::Registry;
use crate::slot::copy_text;
use guard::guard;
use std::mem::size_of;
use std::os::raw::c_char;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use types::*;
use wasmtime::ValRaw;

static ENGINES: Registry<Engine> = Registry::new(1, "engine");
static MODULES: Registry<Module> = Registry::new(2, "module");
static DOMAINS: Registry<Domain> = Registry::new(3, "domain");

/// The most imports that one call defines.
const MAX_IMPORTS: u64 = 1 << 16;

/// The text at `text`, copied.
///
/// # Safety
///
/// `text` is NULL or points to `bytes` readable bytes.
unsafe fn copy_str(text: *const c_char, bytes: u64, what: &str) -> Result<String> {
    if text.is_null() {
        return match bytes {
            0 => Ok(String::new()),
            _ => Err(Error::new(Status::Invalid, format!("{what} is NULL"))),
        };
    }
    // SAFETY: the caller's contract.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), bytes as usize) };
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Error::new(Status::Invalid, format!("{what} is not UTF-8")))
}

/// Sets an out-parameter.
///
/// # Safety
///
/// `to` is NULL or points to a writable `T`.
unsafe fn put<T>(to: *mut T, value: T, what: &str) -> Result<()> {
    if to.is_null() {
        return Err(Error::new(Status::Invalid, format!("{what} is NULL")));
    }
    // SAFETY: the caller's contract; a plain write, since what is there may be uninitialized.
    unsafe { to.write(value) };
    Ok(())
}

fn not_null<T>(pointer: *const T, what: &str) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::new(Status::Invalid, format!("{what} is NULL")));
    }
    Ok(())
}

fn check_size(given: u32, ours: usize, what: &str) -> Result<()> {
    if given as usize != ours {
        return Err(Error::new(
            Status::Abi,
            format!(
                "{what} has {given} bytes for the caller and {ours} for the shim: they are of different versions"
            ),
        ));
    }
    Ok(())
}

/// The version of the C ABI that this library has: compare it with LINDSHIM_ABI_VERSION before anything else.
#[unsafe(no_mangle)]
pub extern "C" fn lindshim_abi_version() -> u32 {
    LINDSHIM_ABI_VERSION
}

/// The size in bytes of one of the structures (LINDSHIM_STRUCT_*), 0 for any other number: compare it with sizeof.
#[unsafe(no_mangle)]
pub extern "C" fn lindshim_struct_size(which: u32) -> u64 {
    let size = match which {
        LINDSHIM_STRUCT_ERROR => size_of::<ErrorText>(),
        LINDSHIM_STRUCT_CALL => size_of::<Call>(),
        LINDSHIM_STRUCT_THREAD_END => size_of::<ThreadEnd>(),
        LINDSHIM_STRUCT_THREAD => size_of::<Thread>(),
        LINDSHIM_STRUCT_REPORT => size_of::<Report>(),
        LINDSHIM_STRUCT_ENGINE_CONFIG => size_of::<EngineConfig>(),
        LINDSHIM_STRUCT_IMPORT => size_of::<Import>(),
        LINDSHIM_STRUCT_DOMAIN_CONFIG => size_of::<DomainConfig>(),
        LINDSHIM_STRUCT_MODULE_INFO => size_of::<ModuleInfo>(),
        LINDSHIM_STRUCT_EXTERN => size_of::<Extern>(),
        LINDSHIM_STRUCT_ENGINE_STATS => size_of::<EngineStats>(),
        LINDSHIM_STRUCT_GRATE_CONFIG => size_of::<GrateConfig>(),
        LINDSHIM_STRUCT_TRACE => size_of::<Trace>(),
        LINDSHIM_STRUCT_CALLER => size_of::<Caller>(),
        LINDSHIM_STRUCT_FAULT => size_of::<Fault>(),
        _ => 0,
    };
    size as u64
}

/// The library's name and version, and Wasmtime's: static text with a NUL at its end.
#[unsafe(no_mangle)]
pub extern "C" fn lindshim_version() -> *const c_char {
    concat!("lindshim ", env!("CARGO_PKG_VERSION"), " (wasmtime 48)\0")
        .as_ptr()
        .cast()
}

/// Makes an engine.
///
/// # Safety
///
/// `config` points to a valid configuration; `engine` to a writable word; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_engine_new(
    config: *const EngineConfig,
    engine: *mut u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            not_null(config, "config")?;
            not_null(engine, "engine")?;
            // The size is the first field, in every version: nothing else is read before it fits.
            check_size(
                config.cast::<u32>().read(),
                size_of::<EngineConfig>(),
                "lindshim_engine_config_t",
            )?;
            let config = &*config;
            if config.abi_version != LINDSHIM_ABI_VERSION {
                return Err(Error::new(
                    Status::Abi,
                    format!(
                        "the caller speaks version {} of the C ABI, the shim version {LINDSHIM_ABI_VERSION}",
                        config.abi_version
                    ),
                ));
            }
            if config.host_call.is_none()
                || config.thread_end.is_none()
                || config.quiescent.is_none()
            {
                return Err(Error::new(Status::Invalid, "a callback is NULL"));
            }
            let or = |value: u64, default: usize| match value {
                0 => default,
                value => usize::try_from(value).unwrap_or(usize::MAX),
            };
            let dir = copy_str(config.cache_dir, config.cache_dir_bytes, "cache_dir")?;
            let made = Engine::new(Settings {
                max_threads: or(config.max_threads, 4096),
                max_idle_threads: or(config.max_idle_threads, 64),
                stack_bytes: or(config.stack_bytes, 4 << 20),
                wasm_stack_bytes: or(config.wasm_stack_bytes, 1 << 20),
                max_call_depth: match config.max_call_depth {
                    0 => 16,
                    depth if depth <= 64 => depth,
                    depth => {
                        return Err(Error::new(
                            Status::Invalid,
                            format!("max_call_depth is {depth}: at most 64"),
                        ));
                    }
                },
                cache_dir: (!dir.is_empty()).then_some(dir),
                callbacks: Callbacks {
                    host_call: config.host_call,
                    thread_end: config.thread_end,
                    quiescent: config.quiescent,
                    trace: config.trace,
                    thread_main: config.thread_main,
                },
            })?;
            put(engine, ENGINES.insert(|_| made), "engine")
        })
    }
}

/// Adds `n` functions that guests may import. Before the first module is loaded; after that it is LINDSHIM_ERR_BUSY.
///
/// # Safety
///
/// `imports` points to `n` valid descriptions; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_engine_define(
    engine: u64,
    imports: *const Import,
    n: u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let engine = ENGINES.find(engine)?;
            if n == 0 {
                return Ok(());
            }
            not_null(imports, "imports")?;
            if n > MAX_IMPORTS {
                return Err(Error::new(Status::Invalid, "too many imports"));
            }
            let imports = std::slice::from_raw_parts(imports, n as usize)
                .iter()
                .map(|import| {
                    Ok(HostImport {
                        module: copy_str(import.module, import.module_bytes, "an import's module")?,
                        name: copy_str(import.name, import.name_bytes, "an import's name")?,
                        params: copy_str(import.params, import.params_bytes, "an import's params")?,
                        results: copy_str(
                            import.results,
                            import.results_bytes,
                            "an import's results",
                        )?,
                        id: import.id,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            engine.define(imports)
        })
    }
}

/// What the engine holds now.
///
/// # Safety
///
/// `stats` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_engine_stats(
    engine: u64,
    stats: *mut EngineStats,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let engine = ENGINES.find(engine)?;
            let (running, idle) = engine.pool.counts();
            let now = EngineStats {
                threads_running: running as u64,
                threads_idle: idle as u64,
                domains: engine.domains.load(Ordering::Relaxed),
                modules: engine.modules.load(Ordering::Relaxed),
            };
            put(stats, now, "stats")
        })
    }
}

/// Deletes an engine and waits until its OS threads are gone. LINDSHIM_ERR_BUSY while it has domains, or when called
/// from within a callback. Its modules are deleted separately, before or after.
///
/// # Safety
///
/// `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_engine_delete(engine: u64, err: *mut ErrorText) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            if engine == 0 {
                return Ok(());
            }
            let found = ENGINES.find(engine)?;
            let domains = found.domains.load(Ordering::Relaxed);
            if domains > 0 {
                return Err(Error::new(
                    Status::Busy,
                    format!("the engine still has {domains} domains: delete them first"),
                ));
            }
            found.close()?;
            ENGINES.remove(engine).map(drop)?;
            // What the compiler and the threads have freed lies in the C library's heaps: give it back to the system.
            #[cfg(target_env = "gnu")]
            libc::malloc_trim(0);
            Ok(())
        })
    }
}

/// Compiles a module, WebAssembly binary or text, or takes the result from the compile cache. It may take seconds.
/// LINDSHIM_ERR_MODULE: it is no valid module. LINDSHIM_ERR_IMPORT: it imports what was not defined; the text names all
/// such imports.
///
/// # Safety
///
/// `bytes` points to `len` readable bytes; `module` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_module_load(
    engine: u64,
    bytes: *const u8,
    len: u64,
    module: *mut u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { load(engine, bytes, len, module, err, Module::load) }
}

/// Loads a module that is to be run as a grate; it can be run as an ordinary program as well. A memory that it defines
/// itself is made one that its domain supplies and its instances share; its data segments and its start function are the
/// first instance's alone. Otherwise as lindshim_module_load.
/// LINDSHIM_ERR_EXPORT: it lacks what workers need, which are the exports pass_fptr_to_wt (14 i64 -> i32), __stack_pointer
/// (a mutable global), and if it has thread-local storage __wasm_init_tls, __tls_size and __tls_align; the last four are
/// found by its name section too. The text says which flag to link it with.
///
/// # Safety
///
/// `bytes` points to `len` readable bytes; `module` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_module_load_grate(
    engine: u64,
    bytes: *const u8,
    len: u64,
    module: *mut u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { load(engine, bytes, len, module, err, Module::load_grate) }
}

/// The body of both loads.
///
/// # Safety
///
/// As theirs.
unsafe fn load(
    engine: u64,
    bytes: *const u8,
    len: u64,
    module: *mut u64,
    err: *mut ErrorText,
    by: fn(&Arc<Engine>, &[u8]) -> Result<Arc<Module>>,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let engine = ENGINES.find(engine)?;
            not_null(module, "module")?;
            let bytes = if len == 0 {
                &[]
            } else {
                not_null(bytes, "bytes")?;
                std::slice::from_raw_parts(bytes, len as usize)
            };
            let loaded = by(&engine, bytes)?;
            loaded.counts();
            put(module, MODULES.insert(|_| loaded), "module")
        })
    }
}

/// What a module is.
///
/// # Safety
///
/// `info` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_module_info(
    module: u64,
    info: *mut ModuleInfo,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let module = MODULES.find(module)?;
            let memory = module.memory.as_ref();
            let answer = ModuleInfo {
                imports: module.imports.len() as u64,
                exports: module.exports.len() as u64,
                has_shared_memory: memory.is_some().into(),
                rewritten: module.plan.is_some().into(),
                memory_min_bytes: memory.map_or(0, |memory| memory.min_bytes()),
                memory_max_bytes: memory.map_or(0, |memory| memory.max_bytes()),
                memory64: memory.is_some_and(|memory| memory.ty.is_64()).into(),
                reserved: 0,
            };
            put(info, answer, "info")
        })
    }
}

/// Describes the i-th import of a module, in its order. LINDSHIM_ERR_INVALID past the last.
///
/// # Safety
///
/// `out` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_module_import(
    module: u64,
    i: u64,
    out: *mut Extern,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let module = MODULES.find(module)?;
            put(out, external(&module.imports, i)?, "out")
        })
    }
}

/// Describes the i-th export of a module, in its order. LINDSHIM_ERR_INVALID past the last.
///
/// # Safety
///
/// `out` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_module_export(
    module: u64,
    i: u64,
    out: *mut Extern,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let module = MODULES.find(module)?;
            put(out, external(&module.exports, i)?, "out")
        })
    }
}

fn external(list: &[External], i: u64) -> Result<Extern> {
    let item = usize::try_from(i)
        .ok()
        .and_then(|i| list.get(i))
        .ok_or_else(|| {
            Error::new(
                Status::Invalid,
                format!("there is no number {i}: the module has {}", list.len()),
            )
        })?;
    let mut out = Extern {
        kind: item.kind,
        reserved: 0,
        module: item
            .module
            .as_ref()
            .map_or(std::ptr::null(), |module| module.as_ptr().cast()),
        module_bytes: item.module.as_ref().map_or(0, String::len) as u64,
        name: item.name.as_ptr().cast(),
        name_bytes: item.name.len() as u64,
        type_text: [0; 128],
    };
    copy_text(&item.type_text, &mut out.type_text);
    Ok(out)
}

/// Deletes a module. Domains that were made of it keep what they need. 0 is a no-op.
///
/// # Safety
///
/// `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_module_delete(module: u64, err: *mut ErrorText) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            if module == 0 {
                return Ok(());
            }
            MODULES.remove(module).map(|module| module.was_deleted())
        })
    }
}

/// Makes a domain: reserves its shared memory, if its module imports one, and starts nothing. LINDSHIM_ERR_MEMORY: the
/// memory is larger than allowed, or cannot be reserved.
///
/// # Safety
///
/// `config` points to a valid configuration; `domain` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_domain_new(
    module: u64,
    config: *const DomainConfig,
    domain: *mut u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let module = MODULES.find(module)?;
            not_null(config, "config")?;
            not_null(domain, "domain")?;
            check_size(
                config.cast::<u32>().read(),
                size_of::<DomainConfig>(),
                "lindshim_domain_config_t",
            )?;
            let made = Domain::new(&module, &*config)?;
            let handle = DOMAINS.insert(|handle| {
                made.set_handle(handle);
                made
            });
            put(domain, handle, "domain")
        })
    }
}

/// Makes a domain's first thread by `make`.
///
/// # Safety
///
/// As of `lindshim_domain_start`.
unsafe fn first_thread(
    domain: u64,
    name: *const c_char,
    name_bytes: u64,
    err: *mut ErrorText,
    make: fn(&Arc<Domain>, &str) -> Result<()>,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let domain = DOMAINS.find(domain)?;
            make(&domain, &copy_str(name, name_bytes, "name")?)
        })
    }
}

/// Makes one more thread of a domain by `make`.
///
/// # Safety
///
/// As of `lindshim_thread_spawn`.
unsafe fn further_thread(
    domain: u64,
    start_arg: u32,
    tid: *mut u32,
    err: *mut ErrorText,
    make: fn(&Arc<Domain>, u32) -> Result<u32>,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let domain = DOMAINS.find(domain)?;
            not_null(tid, "tid")?;
            put(tid, make(&domain, start_arg)?, "tid")
        })
    }
}

/// Starts the domain's first thread, number 1, in the export with this name, a function () -> (). Returns at once.
/// LINDSHIM_ERR_EXPORT: there is none. LINDSHIM_ERR_LIMIT: no thread to be had. LINDSHIM_ERR_CLOSED: the domain was
/// stopped. LINDSHIM_ERR_BUSY: it was started already.
///
/// # Safety
///
/// `name` points to `name_bytes` readable bytes; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_domain_start(
    domain: u64,
    name: *const c_char,
    name_bytes: u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { first_thread(domain, name, name_bytes, err, Domain::start) }
}

/// Starts one more thread of the domain: it calls wasi_thread_start(tid, start_arg). Returns at once.
/// LINDSHIM_ERR_LIMIT: the domain or the engine has as many threads as it may, or the system gives no more.
/// LINDSHIM_ERR_CLOSED: the domain is stopping. LINDSHIM_ERR_EXPORT: the module has no shared memory, or no
/// wasi_thread_start.
///
/// # Safety
///
/// `tid` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_thread_spawn(
    domain: u64,
    start_arg: u32,
    tid: *mut u32,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { further_thread(domain, start_arg, tid, err, Domain::spawn_thread) }
}

/// As lindshim_domain_start, but the thread is the host's to run: from here on it counts as inside, and somebody calls
/// lindshim_thread_run for number 1. A program that runs on the thread that then waits for it needs no other processor to
/// wake up, which takes tens of microseconds.
///
/// # Safety
///
/// `name` points to `name_bytes` readable bytes; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_domain_begin(
    domain: u64,
    name: *const c_char,
    name_bytes: u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { first_thread(domain, name, name_bytes, err, Domain::begin) }
}

/// As lindshim_thread_spawn, but the thread is the host's to run: from here on it counts as inside, and somebody calls
/// lindshim_thread_run with its number.
///
/// # Safety
///
/// `tid` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_thread_begin(
    domain: u64,
    start_arg: u32,
    tid: *mut u32,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { further_thread(domain, start_arg, tid, err, Domain::begin_thread) }
}

/// Runs a thread that was begun on the calling thread, and returns when it has left its domain for good; all its callbacks
/// are made here. A thread of less than the engine's wasm_stack_bytes and 128 KiB of stack only hands it to one of the
/// engine's, and returns at once. If the domain was stopped before, this does nothing: the stop has not waited for it.
/// LINDSHIM_ERR_INVALID: no such thread was begun. LINDSHIM_ERR_BUSY: the caller is in a callback of a guest's thread.
///
/// # Safety
///
/// `err` is NULL or writable, until this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_thread_run(domain: u64, tid: u32, err: *mut ErrorText) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let domain = DOMAINS.find(domain)?;
            domain.run_here(tid)
        })
    }
}

/// Stops a domain for good: closes its gate and interrupts whatever is inside. Never blocks; that it is quiescent is
/// told through the callback, possibly before this returns. Stopping it again does nothing.
///
/// # Safety
///
/// `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_domain_stop(domain: u64, err: *mut ErrorText) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            DOMAINS.find(domain)?.stop();
            Ok(())
        })
    }
}

/// The domain's cancel token: a descriptor that becomes readable, for good, when the domain begins to stop. Poll it
/// beside whatever a host call waits for; never read or close it. It lives as long as the domain.
///
/// # Safety
///
/// `fd` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_domain_cancel_fd(
    domain: u64,
    fd: *mut i32,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let domain = DOMAINS.find(domain)?;
            put(fd, domain.cancel_fd()?, "fd")
        })
    }
}

/// Where the live threads of the domain are now: fills in up to `capacity` entries and says in `*count` how many there
/// are, which may be more.
///
/// # Safety
///
/// `out` points to `capacity` writable entries; `count` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_domain_threads(
    domain: u64,
    out: *mut Thread,
    capacity: u64,
    count: *mut u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let domain = DOMAINS.find(domain)?;
            not_null(count, "count")?;
            let threads = domain.threads();
            let n = threads
                .len()
                .min(usize::try_from(capacity).unwrap_or(usize::MAX));
            if n > 0 {
                not_null(out, "out")?;
                std::ptr::copy_nonoverlapping(threads.as_ptr(), out, n);
            }
            put(count, threads.len() as u64, "count")
        })
    }
}

/// The domain's linear memory: its first byte, which never moves, and how many bytes are accessible. Of a memory that is
/// not shared, the size at its thread's last host call. NULL and 0 if there is none, or none yet.
///
/// # Safety
///
/// `base` and `bytes` are writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_domain_memory(
    domain: u64,
    base: *mut *mut u8,
    bytes: *mut u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let domain = DOMAINS.find(domain)?;
            not_null(bytes, "bytes")?;
            let (at, len) = domain.memory();
            put(base, at, "base")?;
            put(bytes, len, "bytes")
        })
    }
}

/// Deletes a domain that is quiescent or was never started: releases its instances and its memory. After this no address
/// of its memory is valid. (What a thread that was stopped in its sleep has on its stack, and so its instance, goes when it
/// has woken, some 5 ms later.) LINDSHIM_ERR_BUSY while anything of it may still run. 0 is a no-op.
///
/// # Safety
///
/// `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_domain_delete(domain: u64, err: *mut ErrorText) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            if domain == 0 {
                return Ok(());
            }
            DOMAINS.find(domain)?.retire()?;
            let removed: Arc<Domain> = DOMAINS.remove(domain)?;
            drop(removed);
            Ok(())
        })
    }
}

/// Opens a domain as a grate: from here on calls may come in by its port, which is set on success. Once, before or after
/// lindshim_domain_start; the domain's stop closes it. A port is at most 38 bits, and never given out twice.
/// LINDSHIM_ERR_EXPORT: the module lacks what its workers need; the text says how to link it. LINDSHIM_ERR_CLOSED: the
/// domain is stopping. LINDSHIM_ERR_BUSY: it is a grate already. LINDSHIM_ERR_LIMIT: there are 65536 grates.
///
/// # Safety
///
/// `config` points to a valid configuration; `port` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_grate_open(
    domain: u64,
    config: *const GrateConfig,
    port: *mut u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let domain = DOMAINS.find(domain)?;
            not_null(config, "config")?;
            not_null(port, "port")?;
            check_size(
                config.cast::<u32>().read(),
                size_of::<GrateConfig>(),
                "lindshim_grate_config_t",
            )?;
            put(port, domain.open_grate(&*config)?, "port")
        })
    }
}

/// Has the grate that the handler entry names serve a call, on the calling thread: `call` is its number, `cage` in whose
/// name it is made, and `args` six arguments, each followed by the cage that it belongs to. From within a host call it is a
/// nested call of that guest thread, and is interrupted with it; from anywhere else it is a call of the host itself. It
/// blocks until the grate has answered.
/// LINDSHIM_OK: the result is what the caller is to get, LINDSHIM_GRATE_ERR if the grate died while it served. -EINTR if the
/// guest thread whose call this is nested in is being stopped. LINDSHIM_ERR_CLOSED: the entry names no grate that is there.
/// LINDSHIM_ERR_LIMIT: the grate has no worker for it and does not let callers wait, or its memory cannot grow.
/// LINDSHIM_ERR_DEPTH: calls are nested too deep, or too little of the calling thread's stack is left.
///
/// # Safety
///
/// `args` points to 12 readable words; `result` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_grate_call(
    entry: u64,
    cage: u64,
    call: u64,
    args: *const u64,
    result: *mut i32,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract; a frame in a host call of this thread is there until that call returns.
    unsafe {
        guard(err, || {
            not_null(args, "args")?;
            not_null(result, "result")?;
            let gone = || Error::new(Status::Closed, "the grate is gone");
            let Handler::Grate { port, function } = Handler::from_entry(entry) else {
                return Err(gone());
            };
            let mut values = [ValRaw::u64(0); PARAMS];
            values[0] = ValRaw::u64(function.into());
            values[1] = ValRaw::u64(cage);
            for (value, arg) in values[2..]
                .iter_mut()
                .zip(std::slice::from_raw_parts(args, PARAMS - 2))
            {
                *value = ValRaw::u64(*arg);
            }
            let os = OsThread::current();
            let number = u32::try_from(call).unwrap_or(u32::MAX);
            let served = grate::serve(os, os.frame().as_ref(), port, number, &mut values);
            match served {
                Served::Gone => Err(gone()),
                Served::Again => Err(Error::new(Status::Limit, "all workers of the grate serve")),
                Served::Deep => Err(Error::new(
                    Status::Depth,
                    "calls into grates are nested too deep",
                )),
                // The thread leaves its guest when the host call that this is nested in returns.
                other => put(result, other.result().unwrap_or(-libc::EINTR), "result"),
            }
        })
    }
}

/// Whom the calling thread serves, if it is a worker within a host call: fills in up to `capacity` entries, the innermost
/// caller first, and says in `*count` how many there are. 0 for a call of the host, and for a caller in no host call.
///
/// # Safety
///
/// `out` points to `capacity` writable entries; `count` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_callers(
    out: *mut Caller,
    capacity: u64,
    count: *mut u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract; the frames are there until the host call of this thread returns.
    unsafe {
        guard(err, || {
            not_null(count, "count")?;
            let frame = OsThread::current().frame().as_ref();
            let callers = frame
                .and_then(|frame| frame.outer())
                .into_iter()
                .flat_map(|outer| outer.chain());
            let mut n = 0;
            for caller in callers {
                if n < capacity {
                    not_null(out, "out")?;
                    out.add(n as usize).write(Caller {
                        user: caller.domain().user,
                        thread_user: caller.thread_user(),
                        tid: caller.slot().tid,
                        worker: (caller.depth() > 0).into(),
                    });
                }
                n += 1;
            }
            put(count, n, "count")
        })
    }
}

/// Ends a guest thread that the calling thread serves, when it comes back to its guest: with LINDSHIM_END_QUIT, as by the
/// verdict LINDSHIM_QUIT. `i` is its place among lindshim_callers. For one that is in a host call itself it is that call's
/// verdict that counts, and this does nothing. LINDSHIM_ERR_INVALID: there is no such caller.
///
/// # Safety
///
/// `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_quit_caller(i: u64, err: *mut ErrorText) -> i32 {
    // SAFETY: the caller's contract; the frames are there until the host call of this thread returns.
    unsafe {
        guard(err, || {
            let frame = OsThread::current().frame().as_ref();
            let caller = frame
                .and_then(|frame| frame.outer())
                .and_then(|outer| outer.chain().nth(usize::try_from(i).unwrap_or(usize::MAX)))
                .ok_or_else(|| Error::new(Status::Invalid, "there is no such caller"))?;
            caller.quit();
            Ok(())
        })
    }
}

/// A descriptor for host calls of workers that block in the callback itself: it becomes readable when a domain that the
/// calling thread's call serves begins to stop, and the call is to end with EINTR then. Who ends it so reads the
/// descriptor, once (8 bytes): later calls of the same worker may block again, until the grace is over and the descriptor
/// readable for good. It belongs to the shim and to the thread. LINDSHIM_ERR_INVALID if the caller is in no host call.
///
/// # Safety
///
/// `fd` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_interrupt_fd(fd: *mut i32, err: *mut ErrorText) -> i32 {
    // SAFETY: the caller's contract; the frame is there until the host call of this thread returns.
    unsafe {
        guard(err, || {
            let os = OsThread::current();
            let Some(frame) = os.frame().as_ref() else {
                return Err(Error::new(Status::Invalid, "the caller is in no host call"));
            };
            let token = os.interrupt_fd();
            if token < 0 {
                return Err(Error::os("no eventfd to be had"));
            }
            if frame
                .outer()
                .is_some_and(|outer| outer.interrupted() || outer.expired())
            {
                os.wake();
            }
            put(fd, token, "fd")
        })
    }
}

/// Tells a failure point of the shim what to do each time that it is passed, from here on and in all engines of the
/// process. It is for tests of the host: LINDSHIM_ERR_UNSUPPORTED in a build without failure points, which is any but that
/// of `make shim-faults`.
///
/// `actions` are `[seed=N;]` and then terms joined by `->`, of which the first that applies is what happens; none, if none
/// does. A term is `[P%][N*]action`: it applies with the probability P, 100 if it is not said, at most N times, and the
/// seed fixes the probabilities' dice. An action is `off`, `fail`, `yield`, `sleep(Nus)` or `sleep(Nms)`, of at most a
/// second. Empty text is `off`. The name `*` stands for all points, and can be told `off` alone.
/// LINDSHIM_ERR_INVALID: there is no such point, and the text names all; or it cannot do that, and the text says why.
///
/// # Safety
///
/// `name` and `actions` point to as many readable bytes as is said; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_fault_set(
    name: *const c_char,
    name_bytes: u64,
    actions: *const c_char,
    actions_bytes: u64,
    err: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let name = copy_str(name, name_bytes, "name")?;
            faults::set(&name, &copy_str(actions, actions_bytes, "actions")?)
        })
    }
}

/// Describes the i-th failure point of the shim, in any build. LINDSHIM_ERR_INVALID past the last.
///
/// # Safety
///
/// `out` is writable; `err` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lindshim_fault_info(i: u64, out: *mut Fault, err: *mut ErrorText) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        guard(err, || {
            let points = faults::POINTS;
            let found = usize::try_from(i).ok().and_then(|i| points.get(i));
            let point = found.ok_or_else(|| {
                Error::new(
                    Status::Invalid,
                    format!("there is no failure point {i}: there are {}", points.len()),
                )
            })?;
            let info = Fault {
                name: point.name.as_ptr().cast(),
                name_bytes: point.name.len() as u64,
                fails: point.fails.into(),
                built: faults::BUILT.into(),
                fired: faults::fired(point.point),
            };
            put(out, info, "out")
        })
    }
}
