//! A domain: the execution side of one program. Its threads, its memory, its gate, and the way all of it is stopped.

use crate::altstack;
use crate::clock;
use crate::engine::Engine;
use crate::error::{Error, Result, Status};
use crate::faults::{self, Point};
use crate::ffi::types::*;
use crate::frame::OsThread;
use crate::gate::Gate;
use crate::grate::Grate;
use crate::handlers::Handlers;
use crate::module::Module;
use crate::pool::{Asker, Pool};
use crate::port;
use crate::slot::{Place, Slot};
use crate::supply::Supply;
use crate::thread::{Context, Entry, Job, THREAD_START};
use crate::waits;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use wasmtime::{ExternType, Instance, InstancePre, SharedMemory, Store};

/// One more than the largest thread id: the wasi-threads proposal keeps the top three bits of a word for others.
const TID_END: u32 = 1 << 29;

/// How long a grate may go on that serves a thread of a domain that stops, if the domain says nothing: in nanoseconds.
const GRACE_NS: u64 = 100_000_000;

/// Values of `Domain::initialized`: nobody has begun, somebody is about it, done.
const INIT_NOT: u32 = 0;
const INIT_NOW: u32 = 1;
const INIT_DONE: u32 = 2;

/// A domain.
pub struct Domain {
    /// Its engine. Immutable.
    pub engine: Arc<Engine>,
    /// The host's word for it. Immutable.
    pub user: u64,
    /// The most bytes of linear memory. Immutable.
    pub max_memory_bytes: u64,
    /// The shared memory that it supplies to its module, if that imports one. Immutable.
    pub shared_memory: Option<SharedMemory>,
    /// What is inside, and whether anything may enter.
    pub gate: Gate,
    /// Who interposes on its calls. Immutable.
    pub handlers: Handlers,
    /// In whose name it makes them. Immutable.
    pub cage: u64,
    /// How long a grate may go on that serves one of its threads when it stops, in nanoseconds. Immutable.
    grace_ns: u64,
    /// Whether that time is over.
    expired: AtomicBool,
    /// What it is as a grate, if it is one. Set once, by `open_grate`.
    grate: OnceLock<Box<Grate>>,
    /// The grate's port while it is open. Guarded by the mutex.
    port: Mutex<Option<u64>>,
    /// Whether its memory was initialized, where that is not the module's instantiation: `INIT_*`.
    initialized: AtomicU32,
    module: Arc<Module>,
    max_threads: usize,
    handle: AtomicU64,
    /// The instantiation, when it differs between domains. Set once, by `new`.
    pre: OnceLock<InstancePre<Context>>,
    started: AtomicBool,
    /// Whether the report of its stop was handed out, or is just being.
    reported: AtomicBool,
    /// Whether the engine still counts it.
    counted: AtomicBool,
    threads: Mutex<Threads>,
    threads_total: AtomicU64,
    /// Threads that are inside, for the host to run. Guarded by the mutex.
    begun: Mutex<Vec<Job>>,
    next_tid: AtomicU32,
    /// The cancel token. Guarded by the mutex; made when first asked for.
    cancel: Mutex<Option<OwnedFd>>,
    /// The wake token, which wakes claimed threads out of their pollers. Guarded by the mutex; made when first asked for.
    wake: Mutex<Option<OwnedFd>>,
    stop_ns: AtomicU64,
    /// The threads that were inside when the stop began. Guarded by the mutex.
    stopped: Mutex<Vec<(Arc<Slot>, Thread)>>,
    /// The threads that the stop has counted out while they were parked. Guarded by the mutex.
    asleep: Mutex<Vec<Arc<Slot>>>,
    /// Stores of threads that were stopped: their instances and memory stay until the domain is deleted. None from then on.
    /// Guarded by the mutex.
    remains: Mutex<Option<Vec<Store<Context>>>>,
    /// A memory that is not shared, as its thread last saw it.
    memory_base: AtomicPtr<u8>,
    memory_bytes: AtomicU64,
}

/// Guarded by `Domain::threads`.
#[derive(Debug, Default)]
struct Threads {
    /// By thread id: there may be thousands, and each that leaves takes itself out. Workers are among them.
    live: HashMap<u32, Arc<Slot>>,
    /// How many of them are workers.
    workers: usize,
}

impl std::fmt::Debug for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Domain")
            .field("user", &self.user)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Domain {
    /// A domain without threads. Its shared memory, if it has one, is reserved here.
    pub fn new(module: &Arc<Module>, config: &DomainConfig) -> Result<Arc<Self>> {
        let engine = module.engine.clone();
        let max_memory_bytes = match config.max_memory_bytes {
            0 => u64::MAX,
            limit => limit,
        };
        let required = module.compiled.resources_required();
        // In pages; other page sizes than 64 KiB are not among the features.
        let initial = required
            .max_initial_memory_size
            .unwrap_or(0)
            .saturating_mul(64 << 10);
        if initial > max_memory_bytes {
            return Err(Error::new(
                Status::Memory,
                format!(
                    "the module's memory has at least {initial} bytes, more than the {max_memory_bytes} allowed"
                ),
            ));
        }
        let (mut shared_memory, pre) = (None, OnceLock::new());
        if let Some(import) = &module.memory {
            let ty = import.within(max_memory_bytes)?;
            let failed = |err| {
                let what = "the shared memory cannot be reserved";
                Error::wasmtime(Status::Memory, what, &err)
            };
            faults::check(Point::MemoryNew).map_err(failed)?;
            shared_memory = Some(match module.supplies.take(&ty) {
                Some(supply) => {
                    let _ = pre.set(supply.pre);
                    supply.memory
                }
                None => engine.wasmtime.shared_memory(&ty).map_err(failed)?,
            });
        }
        let max_threads = match config.max_threads {
            0 => engine.max_threads,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        engine.domains.fetch_add(1, Ordering::Relaxed);
        let domain = Arc::new(Domain {
            engine,
            user: config.user,
            max_memory_bytes,
            shared_memory,
            gate: Gate::new(),
            // SAFETY: the contract of the C ABI.
            handlers: unsafe { Handlers::new(config.handlers) },
            cage: config.cage,
            grace_ns: match config.grate_grace_ns {
                0 => GRACE_NS,
                grace => grace,
            },
            expired: AtomicBool::new(false),
            grate: OnceLock::new(),
            port: Mutex::new(None),
            initialized: AtomicU32::new(INIT_NOT),
            module: module.clone(),
            max_threads,
            handle: AtomicU64::new(0),
            pre,
            started: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            counted: AtomicBool::new(true),
            threads: Mutex::default(),
            threads_total: AtomicU64::new(0),
            begun: Mutex::default(),
            next_tid: AtomicU32::new(2),
            cancel: Mutex::new(None),
            wake: Mutex::new(None),
            stop_ns: AtomicU64::new(0),
            stopped: Mutex::default(),
            asleep: Mutex::default(),
            remains: Mutex::new(Some(Vec::new())),
            memory_base: AtomicPtr::new(std::ptr::null_mut()),
            memory_bytes: AtomicU64::new(0),
        });
        domain.prepare()?;
        Ok(domain)
    }

    /// Completes the instantiation of a module that imports a memory.
    fn prepare(self: &Arc<Self>) -> Result<()> {
        if self.pre.get().is_some() {
            return Ok(());
        }
        let (Some(import), Some(memory)) = (&self.module.memory, &self.shared_memory) else {
            return Ok(());
        };
        let failed = |err| Error::wasmtime(Status::Import, "the imports do not fit", &err);
        let mut linker = self.module.linker().clone();
        // A store only for its type: the linker asks for one to tell whose items it is given.
        let context = Context::new(self.clone(), Arc::new(Slot::new(0, false)));
        let store = Store::new(self.module.compiled.engine(), context);
        linker
            .define(&store, &import.module, &import.name, memory.clone())
            .map_err(failed)?;
        let pre = linker
            .instantiate_pre(&self.module.compiled)
            .map_err(failed)?;
        let _ = self.pre.set(pre);
        Ok(())
    }

    /// What each thread instantiates.
    pub fn instance_pre(&self) -> Option<&InstancePre<Context>> {
        self.pre.get().or_else(|| self.module.instance_pre())
    }

    /// Its handle.
    pub fn handle(&self) -> u64 {
        self.handle.load(Ordering::Relaxed)
    }

    /// Tells the domain its handle, once, before anybody else has it.
    pub fn set_handle(&self, handle: u64) {
        self.handle.store(handle, Ordering::Relaxed);
    }

    /// Starts the first thread, in the export with this name.
    pub fn start(self: &Arc<Self>, export: &str) -> Result<()> {
        self.first(export, Self::run)
    }

    /// The same, but the host runs it: see `run_here`.
    pub fn begin(self: &Arc<Self>, export: &str) -> Result<()> {
        self.first(export, Self::keep_begun)
    }

    /// Makes the first thread, and hands it to `run`.
    fn first(
        self: &Arc<Self>,
        export: &str,
        run: impl Fn(&Arc<Self>, Job) -> Result<u32>,
    ) -> Result<()> {
        match self.module.compiled.get_export(export) {
            Some(ExternType::Func(ty)) if ty.params().len() == 0 && ty.results().len() == 0 => {}
            Some(ExternType::Func(_)) => {
                return Err(Error::new(
                    Status::Export,
                    format!(
                        "export {export:?} takes parameters or has results; a program's entry has neither"
                    ),
                ));
            }
            Some(_) => {
                return Err(Error::new(
                    Status::Export,
                    format!("export {export:?} is no function"),
                ));
            }
            None => {
                return Err(Error::new(
                    Status::Export,
                    format!(
                        "the module does not export {export:?}: is it a library and no program?"
                    ),
                ));
            }
        }
        if self.started.swap(true, Ordering::SeqCst) {
            return Err(Error::new(Status::Busy, "the domain was started already"));
        }
        let started = self
            .job(Entry::Main(export.into()), true)
            .and_then(|job| run(self, job));
        if started.is_err() {
            self.started.store(false, Ordering::SeqCst); // it may be tried again, or the domain deleted
        }
        started.map(|_| ())
    }

    /// Starts one more thread, in `wasi_thread_start`; answers its id.
    pub fn spawn_thread(self: &Arc<Self>, start_arg: u32) -> Result<u32> {
        let job = self.further(start_arg)?;
        self.run(job)
    }

    /// The same, but the host runs it: see `run_here`.
    pub fn begin_thread(self: &Arc<Self>, start_arg: u32) -> Result<u32> {
        let job = self.further(start_arg)?;
        self.keep_begun(job)
    }

    /// Makes a thread that is not the first.
    fn further(self: &Arc<Self>, start_arg: u32) -> Result<Job> {
        if self.shared_memory.is_none() {
            return Err(Error::new(
                Status::Export,
                "the module imports no shared memory, so its threads could share nothing",
            ));
        }
        if self.module.compiled.get_export(THREAD_START).is_none() {
            return Err(Error::new(
                Status::Export,
                format!("the module does not export {THREAD_START}, where its threads begin"),
            ));
        }
        self.job(Entry::Spawned(start_arg), false)
    }

    /// A thread that is to be run, and is inside from here on.
    fn job(self: &Arc<Self>, entry: Entry, main: bool) -> Result<Job> {
        let slot = {
            let mut threads = lock(&self.threads);
            if threads.live.len() - threads.workers >= self.max_threads {
                return Err(Error::new(
                    Status::Limit,
                    format!(
                        "the domain already has {} threads, its limit",
                        self.max_threads
                    ),
                ));
            }
            // Inside the lock, so that a stop that finds the gate closed behind this thread also finds its slot.
            if !self.gate.enter() {
                return Err(Error::new(Status::Closed, "the domain is stopping"));
            }
            let tid = if main { 1 } else { self.next_tid(&threads) };
            let slot = Arc::new(Slot::new(tid, main));
            threads.live.insert(slot.tid, slot.clone());
            slot
        };
        // Must precede the thread, which may have ended, and its domain reported, before its starter goes on.
        self.threads_total.fetch_add(1, Ordering::Relaxed);
        faults::late(Point::ThreadSpawn);
        Ok(Job {
            domain: self.clone(),
            slot,
            entry,
        })
    }

    /// Runs a thread on one of the engine's.
    fn run(self: &Arc<Self>, job: Job) -> Result<u32> {
        let tid = job.slot.tid;
        match self.engine.pool.run(job, &**self) {
            Ok(()) => Ok(tid),
            Err((job, err)) => {
                self.abandon(&job.slot);
                Err(err)
            }
        }
    }

    /// A thread is not to be after all.
    fn abandon(self: &Arc<Self>, slot: &Arc<Slot>) {
        self.threads_total.fetch_sub(1, Ordering::Relaxed);
        // A stop that has found it in the list meanwhile does not report it as one that is still inside.
        slot.at_end(LINDSHIM_END_START_FAILED);
        self.left(slot, None);
    }

    /// Keeps a thread until the host runs it.
    fn keep_begun(self: &Arc<Self>, job: Job) -> Result<u32> {
        let tid = job.slot.tid;
        if let Err(err) = self.engine.pool.admit(&**self) {
            self.abandon(&job.slot);
            return Err(err);
        }
        lock(&self.begun).push(job);
        Ok(tid)
    }

    /// Runs a thread that was begun on the calling thread, until it has left for good. If that has too little stack, one of
    /// the engine's runs it, and this returns at once.
    pub fn run_here(self: &Arc<Self>, tid: u32) -> Result<()> {
        let os = OsThread::current();
        if Pool::is_inside() || !os.frame().is_null() {
            return Err(Error::new(
                Status::Busy,
                "the calling thread is in a callback: a thread that runs a guest cannot run another",
            ));
        }
        faults::late(Point::ThreadRun);
        let job = {
            let mut begun = lock(&self.begun);
            let at = begun.iter().position(|job| job.slot.tid == tid);
            at.map(|at| begun.swap_remove(at))
        };
        let Some(job) = job else {
            return match self.gate.is_closed() {
                true => Ok(()), // the stop has counted it out
                false => Err(Error::new(
                    Status::Invalid,
                    format!("no thread {tid} was begun, or it runs already"),
                )),
            };
        };
        let pool = &self.engine.pool;
        let small = faults::hit(Point::HostStack) || !os.has_stack(self.engine.nesting.stack_need);
        if !small && altstack::ensure().is_ok() {
            pool.run_here(job);
            os.rest();
            return Ok(());
        }
        pool.dismiss();
        if let Err((job, err)) = pool.run(job, &**self) {
            job.fail(err);
        }
        Ok(())
    }

    /// Its module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Opens the domain as a grate; answers its port. Once.
    pub fn open_grate(self: &Arc<Self>, config: &GrateConfig) -> Result<u64> {
        let grate = Grate::new(self, config)?;
        let mut port = lock(&self.port);
        if self.gate.is_closed() {
            return Err(Error::new(Status::Closed, "the domain is stopping"));
        }
        if self.grate.get().is_some() {
            return Err(Error::new(Status::Busy, "the domain is a grate already"));
        }
        if faults::hit(Point::PortNew) {
            return Err(Error::new(Status::Limit, "injected fault port-new"));
        }
        // SAFETY: the grate lives as long as the domain, which nobody deletes before the gate is drained.
        let opened = unsafe { port::open(&self.gate, &raw const *grate) }?;
        // Nobody has the number yet. Only now, since a domain that got no port is no grate, and may ask again.
        let _ = self.grate.set(grate);
        Ok(*port.insert(opened))
    }

    /// From here on nobody comes in as a caller of the grate, and those that wait for a worker are woken.
    ///
    /// Preconditions: the gate is closed.
    fn close_grate(&self) {
        if let Some(port) = lock(&self.port).take() {
            port::close(port);
        }
        if let Some(grate) = self.grate.get() {
            grate.close();
        }
    }

    /// The slot of a new worker, unless the domain is stopping.
    pub fn new_worker(&self) -> Option<Arc<Slot>> {
        let mut threads = lock(&self.threads);
        if self.gate.is_closed() {
            return None;
        }
        let slot = Arc::new(Slot::worker(self.next_tid(&threads)));
        threads.live.insert(slot.tid, slot.clone());
        threads.workers += 1;
        self.threads_total.fetch_add(1, Ordering::Relaxed);
        Some(slot)
    }

    /// The worker with this id is no more.
    pub fn forget_worker(&self, tid: u32) {
        let mut threads = lock(&self.threads);
        if threads.live.remove(&tid).is_some() {
            threads.workers -= 1;
        }
    }

    /// Whether the grates that serve the domain's threads have had their time.
    #[inline]
    pub fn is_expired(&self) -> bool {
        self.expired.load(Ordering::SeqCst)
    }

    /// Runs what initializes the memory of a module that was loaded as a grate, if nobody did yet. `false`: another thread
    /// is about it, and the caller has no `slot` to wait in; or the domain was stopped meanwhile.
    pub fn initialize(
        &self,
        store: &mut Store<Context>,
        instance: &Instance,
        slot: Option<&Slot>,
    ) -> wasmtime::Result<bool> {
        let init = self.module.init();
        let Some(init) = init.and_then(|init| instance.get_func(&mut *store, init)) else {
            return Ok(true);
        };
        loop {
            let begun = self.initialized.compare_exchange(
                INIT_NOT,
                INIT_NOW,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            match (begun, slot) {
                (Ok(_), _) => {
                    let result = init.call(&mut *store, &[], &mut []);
                    self.initialized.store(INIT_DONE, Ordering::SeqCst);
                    waits::notify(self.initialized.as_ptr() as usize, u32::MAX);
                    return result.map(|()| true);
                }
                (Err(INIT_DONE), _) => return Ok(true),
                (Err(_), None) => return Ok(false),
                (Err(_), Some(slot)) => {
                    let now = waits::Expected::Word(INIT_NOW);
                    let key = self.initialized.as_ptr() as usize;
                    // SAFETY: the word is the domain's, which the caller holds on to.
                    let waited = unsafe { waits::wait(&self.gate, slot, None, key, 0, now, -1) };
                    if matches!(waited, waits::Waited::Stopped | waits::Waited::Claimed) {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// An id that no live thread has, and not 1, which is the first thread's. Ids come round again only after all others were used.
    fn next_tid(&self, threads: &Threads) -> u32 {
        loop {
            let tid = self
                .next_tid
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tid| {
                    Some(if tid + 1 == TID_END { 2 } else { tid + 1 })
                })
                .unwrap_or(2);
            if self.threads_total.load(Ordering::Relaxed) < u64::from(TID_END) - 2
                || !threads.live.contains_key(&tid)
            {
                return tid;
            }
        }
    }

    /// A thread has left for good. Its store goes at once while the domain lives on, and with the domain otherwise.
    pub fn left(self: &Arc<Self>, slot: &Arc<Slot>, store: Option<Store<Context>>) {
        if self.gate.is_closed() {
            self.keep(store);
        } else {
            drop(store);
        }
        lock(&self.threads).live.remove(&slot.tid);
        self.comes_back(slot);
        if self.gate.leave() {
            self.finish();
        }
    }

    /// A thread has found that the domain is stopping, and is about to leave the guest by an unwinding trap. It is counted
    /// out at once: it runs no more code of the guest, and unwinding takes 15 us of a stop that need not wait for it. What
    /// becomes of its store is as for a thread that was claimed in its sleep.
    pub fn depart(self: &Arc<Self>, slot: &Arc<Slot>) {
        slot.leaving(None);
        faults::late(Point::Depart);
        if !slot.depart() {
            return;
        }
        self.comes_back(slot);
        // It stays on the list of those that live, for which there is a lock: whoever reads that now looks at each, too.
        if self.gate.leave() {
            self.finish();
        }
    }

    /// Keeps the store of a thread that was stopped until the domain is deleted, if it is not yet: a memory that is the
    /// store's own is to be there until then. One that the domain supplies is there without it.
    pub fn keep(&self, store: Option<Store<Context>>) {
        if self.shared_memory.is_some() {
            return; // it is dropped here, and not by whoever deletes the domain, which somebody waits for
        }
        let mut remains = lock(&self.remains);
        match &mut *remains {
            Some(stores) => stores.extend(store),
            None => {
                drop(remains);
                drop(store); // outside the lock: it unmaps memory
            }
        }
    }

    /// Closes the gate and interrupts whatever is inside, each kind of interruption once. Never blocks. A second call does
    /// nothing.
    pub fn stop(self: &Arc<Self>) {
        let slots: Vec<_> = {
            // With the lock held, so that a thread which finds the gate closed cannot take itself off the list, and with
            // that out of the report, before the list was read.
            let threads = lock(&self.threads);
            // Counts this caller in, so that the domain cannot become quiescent before the interruption is through.
            if !self.gate.close() {
                return;
            }
            self.stop_ns.store(clock::now_ns(), Ordering::Relaxed);
            faults::late(Point::StopEpoch);
            // Guest code: it finds its deadline passed. Before all else, since what the thread then does it does meanwhile.
            self.engine.wasmtime.increment_epoch();
            let with_place = |slot: &Arc<Slot>| (slot.clone(), slot.place_at_stop());
            threads.live.values().map(with_place).collect()
        };
        // Threads that wait for room for one more.
        self.engine.pool.shake();
        // Blocked host calls: the token is readable from here on, for good.
        if let Some(token) = &*lock(&self.cancel) {
            fire(token);
        }
        // Atomic waits and pollers: see `waits` and `poller`. Those that are asleep are counted out here and now, and woken
        // in the end: waking takes longer than all the rest, and nobody waits for them.
        faults::late(Point::StopClaim);
        let asleep: Vec<_> = lock(&self.threads)
            .live
            .values()
            .filter(|slot| slot.claim())
            .cloned()
            .collect();
        for slot in &asleep {
            if !slot.worker {
                self.engine.pool.one_will_come_back(); // a worker has no thread of its own
            }
            let last = self.gate.leave();
            debug_assert!(!last, "this caller is inside as well");
        }
        // Behind a claimed worker there is a caller of another domain, who must not wait for the rest of this one to leave.
        let callers_wait = asleep.iter().any(|slot| slot.worker);
        let sleepers = asleep.len();
        *lock(&self.asleep) = asleep;
        if callers_wait {
            self.engine.waker.wake_later(self.clone(), sleepers, true);
        }
        // The others are on their way into the queue or out of it.
        let awake: Vec<_> = slots
            .iter()
            .map(|(slot, _)| slot)
            .filter(|slot| !slot.is_claimed())
            .cloned()
            .collect();
        faults::late(Point::StopUnpark);
        waits::unpark(&awake);

        self.close_grate();
        // Threads that are inside grates: what blocks there is interrupted, and they get some time.
        let mut inside = false;
        for slot in awake.iter().filter(|slot| slot.is_at_grate()) {
            inside = true;
            if let Some(os) = slot.os() {
                os.wake();
            }
        }
        if inside {
            let at = clock::now_ns().saturating_add(self.grace_ns);
            self.engine
                .sweeper
                .expire_at(&self.engine.wasmtime, self, at);
        }
        if self.may_have_missed() {
            self.engine.sweeper.watch(&self.engine.wasmtime, self);
        }
        // Last, what nobody waits for: whoever was in guest code leaves meanwhile, and then the rest is done here, where no
        // other thread has to be woken for it.
        self.stop_begun();
        let described = |(slot, place): (Arc<Slot>, Place)| {
            let thread = place.describe(&slot);
            (slot, thread)
        };
        *lock(&self.stopped) = slots.into_iter().map(described).collect();
        faults::late(Point::StopLeave);
        if self.gate.leave() {
            self.finish();
        }
        // They would only be in the way of what somebody waits for.
        if sleepers > 0 && !callers_wait {
            self.engine.waker.wake_later(self.clone(), sleepers, false);
        }
    }

    /// The calling thread, which was this guest thread, is about to be out of the domain, and goes back to the pool.
    fn comes_back(&self, slot: &Slot) {
        if !slot.worker && slot.os().is_some() {
            self.engine.pool.comes_back();
        }
    }

    /// Counts out the threads that the host has not begun to run: nobody need wait until it does.
    ///
    /// Preconditions: the gate is closed, and the caller is inside.
    fn stop_begun(&self) {
        let begun = std::mem::take(&mut *lock(&self.begun));
        for Job { slot, .. } in begun {
            slot.at_end(LINDSHIM_END_STOPPED);
            lock(&self.threads).live.remove(&slot.tid);
            self.engine.pool.dismiss();
            let last = self.gate.leave();
            debug_assert!(!last, "the caller is inside as well");
        }
    }

    /// Wakes the threads that were claimed, which have nothing left to do but to end.
    pub fn wake_claimed(&self) {
        let asleep = std::mem::take(&mut *lock(&self.asleep));
        waits::unpark(&asleep);
        if let Some(token) = &*lock(&self.wake) {
            fire(token);
        }
    }

    /// Whether a thread in guest code may have missed the epoch: see `sweep`.
    pub fn may_have_missed(&self) -> bool {
        let expired = self.is_expired();
        self.gate.is_closed()
            && lock(&self.threads).live.values().any(|slot| {
                slot.rearmed.load(Ordering::SeqCst)
                    && (slot.in_guest() || expired && slot.is_at_grate())
            })
    }

    /// The time of the grates that serve the domain's threads is over: the workers are trapped. Each finds out by itself;
    /// here those are woken that sleep.
    ///
    /// Preconditions: the gate is closed.
    pub fn expire(&self) {
        self.expired.store(true, Ordering::SeqCst);
        if self.gate.is_drained() {
            return;
        }
        let inside: Vec<_> = lock(&self.threads)
            .live
            .values()
            .filter(|slot| slot.is_at_grate())
            .cloned()
            .collect();
        for os in inside.iter().filter_map(|slot| slot.os()) {
            os.wake();
        }
        // After the threads were told to look: one that comes into a worker later looks before it enters.
        self.engine.wasmtime.increment_epoch();
        waits::unpark(&inside);
    }

    /// Nothing is inside, and nothing will be: tells the host. Called once, by whoever left last.
    pub fn finish(&self) {
        faults::late(Point::Quiescent);
        let quiescent_ns = clock::now_ns();
        let threads: Vec<Thread> = std::mem::take(&mut *lock(&self.stopped))
            .into_iter()
            .map(|(slot, mut thread)| {
                slot.end_idle();
                slot.add_end(&mut thread, &self.module.functions);
                thread
            })
            .collect();
        let report = Report {
            user: self.user,
            domain: self.handle(),
            stop_ns: self.stop_ns.load(Ordering::Relaxed),
            quiescent_ns,
            threads: threads.as_ptr(),
            thread_count: threads.len() as u64,
            threads_total: self.threads_total.load(Ordering::Relaxed),
            on_pool: Pool::is_worker().into(),
            reserved: 0,
        };
        // From here on the domain may be deleted, by the callback itself among others: see `retire`.
        self.reported.store(true, Ordering::SeqCst);
        if let Some(callback) = self.engine.callbacks.quiescent {
            // SAFETY: the callback keeps the contract of the C ABI; the report outlives the call.
            unsafe { callback(&report) };
        }
    }

    /// A descriptor that becomes readable when the domain begins to stop. It belongs to the domain.
    pub fn cancel_fd(&self) -> Result<RawFd> {
        self.token(&self.cancel, Point::CancelToken)
    }

    /// A descriptor that becomes readable when threads that a stop has claimed are to wake. It belongs to the domain.
    pub fn wake_fd(&self) -> Result<RawFd> {
        self.token(&self.wake, Point::WakeToken)
    }

    fn token(&self, token: &Mutex<Option<OwnedFd>>, point: Point) -> Result<RawFd> {
        let mut token = lock(token);
        if let Some(token) = &*token {
            return Ok(token.as_raw_fd());
        }
        if faults::check_os(point, libc::EMFILE) {
            return Err(Error::os("no eventfd to be had"));
        }
        // SAFETY: a plain system call; the descriptor that it answers is owned by nobody else.
        let made = unsafe {
            match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
                -1 => return Err(Error::os("no eventfd to be had")),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        // A stop that came before found no token; one that comes later waits for the lock.
        if self.gate.is_closed() {
            fire(&made);
        }
        Ok(token.insert(made).as_raw_fd())
    }

    /// Where the live threads are now.
    pub fn threads(&self) -> Vec<Thread> {
        lock(&self.threads)
            .live
            .values()
            .filter(|slot| !slot.is_claimed())
            .map(|slot| slot.snapshot(&self.module.functions))
            .collect()
    }

    /// Notes where a memory that is not shared lies, for those who ask from outside.
    pub fn publish_memory(&self, base: *mut u8, bytes: u64) {
        if self.memory_bytes.load(Ordering::Relaxed) != bytes {
            self.memory_base.store(base, Ordering::Relaxed);
            self.memory_bytes.store(bytes, Ordering::Release);
        }
    }

    /// The linear memory: its address and size. Of a memory that is not shared, the size at its last host call.
    pub fn memory(&self) -> (*mut u8, u64) {
        match &self.shared_memory {
            Some(memory) => {
                let data = memory.data();
                (data.as_ptr() as *mut u8, data.len() as u64)
            }
            None => {
                let bytes = self.memory_bytes.load(Ordering::Acquire);
                (self.memory_base.load(Ordering::Relaxed), bytes)
            }
        }
    }

    /// Makes the domain ready to be dropped: nothing is inside, and its instances and memory are released.
    pub fn retire(&self) -> Result<()> {
        if !self.gate.is_drained() {
            // Never started, or not stopped. Closing the gate of a domain with nobody inside is all that is left to do.
            if self.started.load(Ordering::SeqCst)
                || self.gate.inside() > 0
                || lock(&self.port).is_some()
            {
                return Err(Error::new(
                    Status::Busy,
                    "the domain is not quiescent: stop it and wait for its report",
                ));
            }
            if !(self.gate.close() && self.gate.leave()) {
                return Err(Error::new(Status::Busy, "the domain is being stopped"));
            }
        } else if self.stop_ns.load(Ordering::SeqCst) != 0 && !self.reported.load(Ordering::SeqCst)
        {
            // Whoever left last is on its way to say so, and the host must not lose the word that names the domain.
            return Err(Error::new(
                Status::Busy,
                "the domain's report is about to come: delete it then",
            ));
        }
        faults::late(Point::Delete);
        let remains = lock(&self.remains).take();
        drop(remains);
        if let Some(grate) = self.grate.get() {
            // SAFETY: the gate is drained.
            drop(unsafe { grate.take_workers() });
        }
        self.uncount();
        Ok(())
    }

    /// The engine counts the domain no longer. Not left to the last reference alone: a thread that has left may hold one
    /// for a moment after the domain's deletion.
    fn uncount(&self) {
        if self.counted.swap(false, Ordering::SeqCst) {
            self.engine.domains.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Of a thread more, for the host or for one of its own threads: the latter waits no longer once the domain is stopping.
impl Asker for Domain {
    fn wake(&self) {
        self.engine.waker.wake_now();
    }

    fn gave_up(&self) -> bool {
        self.gate.is_closed()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        self.uncount();
        if let (Some(memory), Some(pre)) = (self.shared_memory.take(), self.pre.take()) {
            // SAFETY: every thread's store has a reference to the domain, and so there is none any more that could run.
            unsafe { self.module.supplies.give(Supply { memory, pre }) };
        }
    }
}

fn fire(token: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: writes eight bytes of `one` to a descriptor that is open. It cannot block, nor fail: the counter is 0.
    unsafe {
        libc::write(token.as_raw_fd(), (&raw const one).cast(), 8);
    }
}
