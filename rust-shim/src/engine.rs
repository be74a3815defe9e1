//! An engine: the compiler's settings, the functions that guests may import, and the OS threads that guests run on.

use crate::error::{Error, Result, Status};
use crate::faults::{self, Point};
use crate::ffi::types::{HostCallFn, QuiescentFn, ThreadEndFn, ThreadMainFn, TraceFn};
use crate::grate::HOST_STACK_BYTES;
use crate::hostcall;
use crate::module::Linked;
use crate::pool::Pool;
use crate::reserve::Reserve;
use crate::shared::SharedMemories;
use crate::sweep::Sweeper;
use crate::thread::Context;
use crate::wake::Waker;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use wasmtime::{Cache, CacheConfig, Config, FuncType, Linker, MemoryType, SharedMemory, ValType};

/// How to make an engine: `lindshim_engine_config_t` with its zeros replaced.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most OS threads at once.
    pub max_threads: usize,
    /// The most idle ones.
    pub max_idle_threads: usize,
    /// The native stack of each, in bytes.
    pub stack_bytes: usize,
    /// The part of it that WebAssembly may use, in bytes.
    pub wasm_stack_bytes: usize,
    /// How many workers deep a thread may be.
    pub max_call_depth: u32,
    /// Where compiled modules are kept, if anywhere.
    pub cache_dir: Option<String>,
    /// The host's callbacks.
    pub callbacks: Callbacks,
}

/// The host's callbacks.
#[derive(Clone, Copy, Debug)]
pub struct Callbacks {
    /// Carries out a host call.
    pub host_call: HostCallFn,
    /// Is told of each thread's end.
    pub thread_end: ThreadEndFn,
    /// Is told of each domain's quiescence.
    pub quiescent: QuiescentFn,
    /// Is told of each call that a grate has served, if it is there.
    pub trace: TraceFn,
    /// Is each thread of the pool, if it is there.
    pub thread_main: ThreadMainFn,
}

/// What bounds calls into grates from within grates.
#[derive(Clone, Copy, Debug)]
pub struct Nesting {
    /// How many workers deep a thread may be.
    pub max_depth: u32,
    /// How much of the native stack has to be left for one more: what guest code may use, and what the host needs.
    pub stack_need: usize,
}

/// A function that the host offers to guests.
#[derive(Clone, Debug)]
pub struct HostImport {
    /// The import's module name.
    pub module: String,
    /// The import's name.
    pub name: String,
    /// Its parameters, a letter each.
    pub params: String,
    /// Its results, a letter each.
    pub results: String,
    /// Its id.
    pub id: u32,
}

/// The most bytes of data that are copied into a new memory, rather than mapped.
const SMALL_DATA: u64 = 64 << 10;

/// Wasmtime's engines: it makes the memories of one engine in one way only.
#[derive(Clone)]
pub struct Wasmtime {
    /// Memories are in ranges that are used again, and data is copied to them: see `reserve`.
    small: wasmtime::Engine,
    /// Memories are in ranges of their own, and data is mapped, so that only those pages take memory that are written to.
    large: wasmtime::Engine,
    /// What makes the memories that are supplied.
    shared: Arc<SharedMemories>,
}

impl std::fmt::Debug for Wasmtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wasmtime").finish_non_exhaustive()
    }
}

impl Wasmtime {
    fn new(settings: &Settings) -> Result<Self> {
        let make = |config: &Config| {
            faults::check(Point::EngineNew)
                .and_then(|()| wasmtime::Engine::new(config))
                .map_err(|err| {
                    Error::wasmtime(Status::Runtime, "Wasmtime refuses the configuration", &err)
                })
        };
        let large = config(settings)?;
        let mut small = large.clone();
        small
            .memory_init_cow(false)
            .with_host_memory(Arc::new(Reserve::default()));
        Ok(Wasmtime {
            small: make(&small)?,
            large: make(&large)?,
            shared: Arc::default(),
        })
    }

    /// The engine for a module with so many bytes of data for a memory of its own.
    pub fn for_data(&self, bytes: u64) -> &wasmtime::Engine {
        match bytes <= SMALL_DATA {
            true => &self.small,
            false => &self.large,
        }
    }

    /// Moves the epoch: code of whatever module looks whether it is to stop.
    pub fn increment_epoch(&self) {
        self.small.increment_epoch();
        self.large.increment_epoch();
    }

    /// The engine for a module whose memory is supplied.
    pub fn for_supplied(&self) -> &wasmtime::Engine {
        &self.small
    }

    /// A shared memory, to be supplied.
    pub fn shared_memory(&self, ty: &MemoryType) -> wasmtime::Result<SharedMemory> {
        self.shared.make(&self.small, ty)
    }
}

/// An engine.
pub struct Engine {
    /// Wasmtime's.
    pub wasmtime: Wasmtime,
    /// The host's callbacks.
    pub callbacks: Callbacks,
    /// What bounds calls into grates.
    pub nesting: Nesting,
    /// The OS threads.
    pub pool: Arc<Pool>,
    /// Sends second epochs.
    pub sweeper: Sweeper,
    /// Wakes claimed threads.
    pub waker: Waker,
    /// How many threads a domain may have that sets no limit.
    pub max_threads: usize,
    /// How many memories modules keep: see `supply`.
    pub supplies: Arc<AtomicUsize>,
    /// Domains that live.
    pub domains: AtomicU64,
    /// Modules that live.
    pub modules: AtomicU64,
    /// Set by the first load: from then on the imports are fixed.
    sealed: AtomicBool,
    /// What guests may import, by module name and name. Guarded by the lock.
    imports: RwLock<HashMap<(String, String), HostImport>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("domains", &self.domains)
            .finish_non_exhaustive()
    }
}

/// How much of a linear memory's address range is reserved up front, so that it never moves: all that 32 bits reach.
const RESERVATION: u64 = 4 << 30;

fn config(settings: &Settings) -> Result<Config> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .wasm_features(wasmtime::WasmFeatures::all(), false)
        .wasm_features(crate::rewrite::GUEST_FEATURES, true)
        .shared_memory(true)
        .memory_reservation(RESERVATION)
        .memory_may_move(false)
        .max_wasm_stack(settings.wasm_stack_bytes)
        // Of stacks that are not used here; the other must not be larger.
        .async_stack_size(settings.wasm_stack_bytes)
        .wasm_backtrace_max_frames(NonZeroUsize::new(64));
    if let Some(dir) = &settings.cache_dir {
        let mut cache = CacheConfig::new();
        cache.with_directory(dir);
        let cache = Cache::new(cache).map_err(|err| {
            Error::wasmtime(
                Status::Io,
                &format!("the compile cache {dir:?} cannot be used (choose another, or none)"),
                &err,
            )
        })?;
        config.cache(Some(cache));
    }
    Ok(config)
}

impl Engine {
    /// An engine without imports.
    pub fn new(settings: Settings) -> Result<Arc<Self>> {
        if settings.wasm_stack_bytes.saturating_add(HOST_STACK_BYTES) > settings.stack_bytes {
            return Err(Error::new(
                Status::Invalid,
                format!(
                    "stack_bytes is {} and wasm_stack_bytes {}: the host needs at least 128 KiB beside the guest's stack",
                    settings.stack_bytes, settings.wasm_stack_bytes
                ),
            ));
        }
        Ok(Arc::new(Engine {
            wasmtime: Wasmtime::new(&settings)?,
            callbacks: settings.callbacks,
            nesting: Nesting {
                max_depth: settings.max_call_depth,
                stack_need: settings.wasm_stack_bytes.saturating_add(HOST_STACK_BYTES),
            },
            pool: Pool::new(
                settings.max_threads,
                settings.max_idle_threads,
                settings.stack_bytes,
                settings.callbacks.thread_main,
            ),
            sweeper: Sweeper::default(),
            waker: Waker::default(),
            max_threads: settings.max_threads,
            supplies: Arc::default(),
            domains: AtomicU64::new(0),
            modules: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
            imports: RwLock::default(),
        }))
    }

    /// Adds functions that guests may import. All or, on failure, the ones before the one that failed.
    pub fn define(&self, imports: Vec<HostImport>) -> Result<()> {
        if self.sealed.load(Ordering::Acquire) {
            return Err(Error::new(
                Status::Busy,
                "imports are defined before the first module is loaded",
            ));
        }
        let mut defined = self.imports.write().unwrap_or_else(PoisonError::into_inner);
        for import in imports {
            let HostImport { module, name, .. } = &import;
            if module == hostcall::OWN_MODULE {
                return Err(Error::new(
                    Status::Invalid,
                    format!("{module}.{name}: the module name {module:?} is the shim's own"),
                ));
            }
            val_types(&import.params, &import)?;
            if val_types(&import.results, &import)?.len() > 1 {
                return Err(Error::new(
                    Status::Invalid,
                    format!("{module}.{name}: at most one result"),
                ));
            }
            defined.insert((module.clone(), name.clone()), import);
        }
        Ok(())
    }

    /// From here on the imports are fixed.
    pub fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Adds the import with this name to a module's linker, if it has the type that the module wants.
    pub fn link(
        &self,
        linker: &mut Linker<Context>,
        module: &str,
        name: &str,
        wanted: &FuncType,
    ) -> Result<Linked> {
        let defined = self.imports.read().unwrap_or_else(PoisonError::into_inner);
        let Some(import) = defined.get(&(module.to_owned(), name.to_owned())) else {
            return Ok(Linked::Unknown);
        };
        let ty = FuncType::new(
            linker.engine(),
            val_types(&import.params, import)?,
            val_types(&import.results, import)?,
        );
        if !FuncType::eq(&ty, wanted) {
            return Ok(Linked::WrongType(ty));
        }
        // A module may import the same function twice; the second time it is there already.
        linker.allow_shadowing(true);
        hostcall::define(linker, &self.callbacks, import, ty)?;
        Ok(Linked::Yes)
    }

    /// Ends the engine's threads and waits for them.
    pub fn close(&self) -> Result<()> {
        if Pool::is_inside() {
            return Err(Error::new(
                Status::Busy,
                "an engine cannot be deleted from one of its callbacks: it would wait for itself",
            ));
        }
        self.waker.close(); // what it has still to wake, the pool waits for
        self.pool.close();
        self.sweeper.close();
        Ok(())
    }
}

fn val_types(letters: &str, import: &HostImport) -> Result<Vec<ValType>> {
    letters
        .chars()
        .map(|letter| match letter {
            'i' => Ok(ValType::I32),
            'I' => Ok(ValType::I64),
            'f' => Ok(ValType::F32),
            'F' => Ok(ValType::F64),
            other => Err(Error::new(
                Status::Invalid,
                format!(
                    "{}.{}: {other:?} is no type: use i, I, f or F",
                    import.module, import.name
                ),
            )),
        })
        .collect()
}
