//! One guest thread, from its OS thread's first step to its last.
//!
//! The order at the entry is what makes a stop certain to reach it: set the epoch deadline, THEN read the gate, THEN
//! enter the guest. A stop closes the gate and then moves the epoch. If the thread finds the gate open, the epoch moves
//! after the deadline was set, and the next check in the guest's code finds it passed. With the first two the other way
//! round a stop could fall between them and be missed.

use crate::altstack;
use crate::domain::Domain;
use crate::error::Error;
use crate::faults::{self, Point};
use crate::ffi::types::*;
use crate::frame::{Frame, OsThread, Outer};
use crate::functions::{Exit, Functions};
use crate::poller::Poller;
use crate::slot::Slot;
use std::cell::Cell;
use std::os::raw::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use wasmtime::{
    AsContext, Caller, Extern, Func, Instance, Memory, ResourceLimiter, SharedMemory, Store, Trap,
    UpdateDeadline, WasmBacktrace,
};

/// What belongs to a guest thread's store.
pub struct Context {
    /// Its domain.
    pub domain: Arc<Domain>,
    /// Where it is.
    pub slot: Arc<Slot>,
    /// The host's word for it.
    pub thread_user: u64,
    /// The memories that its rewritten waits work on, in the order of the rewrite's plan; found when first used.
    pub wait_memories: Vec<Option<SharedMemory>>,
    /// What it waits for descriptors with; made when first used.
    pub poller: Option<Poller>,
    /// The OS thread that it runs on; none before it has begun.
    pub os: Option<&'static OsThread>,
    /// Of a worker: how many workers deep it serves.
    pub depth: u32,
    /// Of a worker: whom it serves.
    outer: Outer,
    /// Where it leaves the guest, once it has an instance.
    exit: Exit,
    /// A backtrace of nothing, until it is used: see `Context::leave`.
    no_trace: Cell<Option<WasmBacktrace>>,
    /// The memory that host calls are given.
    memory: GuestMemory,
    limiter: Limiter,
}

#[derive(Clone)]
enum GuestMemory {
    None,
    /// It is the instance's own, at this address, with so many bytes unless it has grown since.
    Own(Memory, usize, u64),
    Shared(SharedMemory),
}

/// Keeps the linear memories of an instance within the domain's limit. A shared memory that is imported has it in its
/// type and never comes by here.
#[derive(Debug)]
struct Limiter {
    max_bytes: u64,
    used_bytes: u64,
    /// Whether a memory has grown, or been made, since somebody looked.
    grew: bool,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used_bytes + (desired as u64).saturating_sub(current as u64);
        if used > self.max_bytes || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if faults::hit(Point::MemoryGrow) {
            return Ok(false);
        }
        self.used_bytes = used;
        self.grew = true;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A table's entry is a word of the host's; a guest with a limit on memory does not get round it that way.
        Ok(
            desired as u64 <= self.max_bytes / 8
                && maximum.is_none_or(|maximum| desired <= maximum),
        )
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// What a thread's store starts with.
    pub fn new(domain: Arc<Domain>, slot: Arc<Slot>) -> Self {
        let memory = match &domain.shared_memory {
            Some(memory) => GuestMemory::Shared(memory.clone()),
            None => GuestMemory::None,
        };
        let limiter = Limiter {
            max_bytes: domain.max_memory_bytes,
            used_bytes: 0,
            grew: false,
        };
        Context {
            domain,
            slot,
            thread_user: 0,
            wait_memories: Vec::new(),
            poller: None,
            os: None,
            depth: 0,
            outer: Outer(std::ptr::null()),
            exit: Exit::NONE,
            no_trace: Cell::new(None),
            memory,
            limiter,
        }
    }

    /// The store of a thread or worker. Its epoch deadline is for the caller to set: see the module's text.
    pub fn store(domain: &Arc<Domain>, slot: &Arc<Slot>) -> Store<Self> {
        let context = Context::new(domain.clone(), slot.clone());
        let mut store = Store::new(domain.module().compiled.engine(), context);
        store.limiter(|context| &mut context.limiter);
        store.epoch_deadline_callback(|store| {
            let context = store.data();
            // Before the gate is read: see `sweep`.
            context.slot.rearmed.store(true, Ordering::SeqCst);
            let outer = context.outer();
            if let Some(outer) = outer {
                outer.publish_rearmed(true);
            }
            if context.domain.gate.is_closed() {
                if !context.exit.is_known() {
                    let functions = &context.domain.module().functions;
                    let function = innermost(&WasmBacktrace::force_capture(&store), functions);
                    context.slot.leaving(function);
                }
                Err(context.leave(Leave::Stopped))
            } else if outer.is_some_and(Frame::expired) {
                Err(context.leave(Leave::Discarded))
            } else {
                Ok(UpdateDeadline::Continue(1))
            }
        });
        store
    }

    /// The store enters the guest by this function of it.
    pub fn enters_by(store: &mut Store<Self>, function: &Func) {
        store.data_mut().exit = Exit::of(&mut *store, function);
        let nothing = WasmBacktrace::force_capture(&*store); // none of its code is on the stack
        store.data().no_trace.set(Some(nothing));
    }

    /// The thread leaves the guest, with the error that is answered. If that is because its domain is stopping it is
    /// counted out here. For an error that is no trap nobody asks where it came from, and Wasmtime captures a backtrace only
    /// for one that has none.
    #[cold]
    pub fn leave(&self, why: Leave) -> wasmtime::Error {
        let err = wasmtime::Error::from(why);
        if why == Leave::HostFailed {
            return err; // it is reported as a trap
        }
        self.note_exit();
        if why == Leave::Stopped {
            self.domain.depart(&self.slot);
        }
        match self.no_trace.take() {
            Some(nothing) => err.context(nothing),
            None => err,
        }
    }

    /// It may not go back into the guest: where it came from is noted, if that is known.
    pub fn note_exit(&self) {
        // SAFETY: the context is that of a store that exists, and of the calling thread.
        self.slot.called_from(unsafe { self.exit.pc() });
    }

    /// It runs on this OS thread from here on and, if it is a worker's, serves `outer`, this many workers deep.
    #[inline]
    pub fn begin(&mut self, os: &'static OsThread, outer: *const Frame, depth: u32) {
        self.os = Some(os);
        self.outer = Outer(outer);
        self.depth = depth;
    }

    /// Of a worker that serves a thread: where that thread comes from.
    #[inline]
    pub fn outer(&self) -> Option<&Frame> {
        // SAFETY: the frame outlives the call that is served, and this is used during one.
        unsafe { self.outer.0.as_ref() }
    }

    /// The same, for a frame to be made.
    #[inline]
    pub fn outer_ptr(&self) -> *const Frame {
        self.outer.0
    }

    /// A memory may have grown: only the thread itself can do that to one that is not shared.
    #[cold]
    fn look_at_memory(caller: &mut Caller<'_, Context>) {
        if let GuestMemory::Own(memory, base, _) = caller.data().memory {
            let bytes = memory.data_size(&*caller) as u64;
            caller.data_mut().memory = GuestMemory::Own(memory, base, bytes);
            caller.data().domain.publish_memory(base as *mut u8, bytes);
        }
        caller.data_mut().limiter.grew = false;
    }

    /// The linear memory as it is now: its address, which is always the same, and its size.
    #[inline]
    pub fn memory_now(caller: &mut Caller<'_, Context>) -> (*mut u8, u64) {
        if caller.data().limiter.grew {
            Context::look_at_memory(caller);
        }
        match &caller.data().memory {
            GuestMemory::None => (std::ptr::null_mut(), 0),
            &GuestMemory::Own(_, base, bytes) => (base as *mut u8, bytes),
            GuestMemory::Shared(memory) => {
                let data = memory.data();
                (data.as_ptr() as *mut u8, data.len() as u64)
            }
        }
    }
}

/// Why a thread leaves the guest, where it is not a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Its domain is stopping.
    Stopped,
    /// The host ended this thread.
    Quit,
    /// The host failed at a call.
    HostFailed,
    /// It is a worker, and the grace of a domain that it serves is over.
    Discarded,
}

impl std::fmt::Display for Leave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Leave::Stopped => "stopped with its domain",
            Leave::Quit => "ended by the host",
            Leave::HostFailed => "the host failed at a call of this thread",
            Leave::Discarded => "its caller was stopped, and the grace is over",
        })
    }
}

impl std::error::Error for Leave {}

/// A guest thread that is to be run. Its domain's gate has counted it in.
#[derive(Debug)]
pub struct Job {
    /// Its domain.
    pub domain: Arc<Domain>,
    /// Where it is.
    pub slot: Arc<Slot>,
    /// Where it begins.
    pub entry: Entry,
}

/// Where a thread begins.
#[derive(Debug)]
pub enum Entry {
    /// The export with this name, without parameters and results.
    Main(String),
    /// `wasi_thread_start` with this argument.
    Spawned(u32),
}

/// How a thread ended.
#[derive(Debug)]
pub struct End {
    /// `LINDSHIM_END_*`.
    pub outcome: u32,
    trap: u32,
    message: String,
    backtrace: String,
    /// The innermost guest function.
    pub function: Option<String>,
}

impl End {
    fn plain(outcome: u32) -> Self {
        End {
            outcome,
            trap: 0,
            message: String::new(),
            backtrace: String::new(),
            function: None,
        }
    }

    fn failed(outcome: u32, message: String) -> Self {
        End {
            message,
            ..End::plain(outcome)
        }
    }

    /// The shim itself panicked.
    pub fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = crate::ffi::guard::panic_text(panic);
        End::failed(
            LINDSHIM_END_TRAPPED,
            format!("the shim panicked, which is a bug in it: {text}"),
        )
    }

    /// Classifies what Wasmtime answered.
    pub fn from_error(err: &wasmtime::Error, starting: bool, functions: &Functions) -> Self {
        let trace = err.downcast_ref::<WasmBacktrace>();
        let function = trace.and_then(|trace| innermost(trace, functions));
        let (outcome, trap) = match (err.downcast_ref::<Leave>(), err.downcast_ref::<Trap>()) {
            (Some(Leave::Stopped), _) => (LINDSHIM_END_STOPPED, 0),
            (Some(Leave::Quit), _) => (LINDSHIM_END_QUIT, 0),
            (Some(Leave::Discarded), _) => (LINDSHIM_END_DISCARDED, 0),
            (_, Some(trap)) => (LINDSHIM_END_TRAPPED, *trap as u32 + 1),
            (None, None) if starting && trace.is_none() => (LINDSHIM_END_START_FAILED, 0),
            _ => (LINDSHIM_END_TRAPPED, 0),
        };
        let mut end = End::plain(outcome);
        end.trap = trap;
        end.function = function;
        if matches!(outcome, LINDSHIM_END_TRAPPED | LINDSHIM_END_START_FAILED) {
            end.message = err.root_cause().to_string();
            end.backtrace = trace
                .map(|trace| format_backtrace(trace, functions))
                .unwrap_or_default();
        }
        end
    }
}

impl End {
    /// Notes in the thread's slot which function it was in, if it was in one.
    pub fn note(&self, slot: &Slot) {
        if matches!(
            self.outcome,
            LINDSHIM_END_RETURNED | LINDSHIM_END_TRAPPED | LINDSHIM_END_START_FAILED
        ) {
            slot.called_from(0); // from there it went back
        }
        slot.leaving(self.function.clone());
    }
}

/// The name of the guest function that a thread is in.
fn innermost(trace: &WasmBacktrace, functions: &Functions) -> Option<String> {
    Some(functions.name_of(trace.frames().first()?))
}

fn format_backtrace(trace: &WasmBacktrace, functions: &Functions) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for (i, frame) in trace.frames().iter().enumerate() {
        let _ = write!(text, "{i:>3}: ");
        if let Some(offset) = frame.module_offset() {
            let _ = write!(text, "{offset:#8x}  ");
        }
        let _ = writeln!(text, "{}", functions.name_of(frame));
    }
    text
}

impl Job {
    /// Runs the thread until it has left its domain for good. Before it is told that nothing is inside, the pool was told that
    /// this thread comes back.
    pub fn run(self) {
        let Job {
            domain,
            slot,
            entry,
        } = self;
        let mut store = None;
        let os = OsThread::current();
        os.take_notice(); // of what happened to those that it ran before
        slot.set_os(os);
        faults::late(Point::ThreadBegin);
        let end = catch_unwind(AssertUnwindSafe(|| {
            enter(&domain, &slot, &entry, &mut store)
        }))
        .unwrap_or_else(|panic| End::panicked(&*panic));
        if slot.is_claimed() {
            // The domain has stopped without this thread, and may be deleted by now.
            domain.keep(store);
            return;
        }
        leave(&domain, &slot, &end, store);
    }

    /// Ends the thread without having run it: there is nothing to run it on.
    pub fn fail(self, why: Error) {
        let end = End::failed(LINDSHIM_END_START_FAILED, why.message);
        leave(&self.domain, &self.slot, &end, None);
    }
}

/// A thread that ran, or failed to, is out of the guest for good.
fn leave(domain: &Arc<Domain>, slot: &Arc<Slot>, end: &End, store: Option<Store<Context>>) {
    // In this order: a stop that the host begins in there finds this thread where it was, and not as one that has left.
    end.note(slot);
    if end.outcome != LINDSHIM_END_STOPPED {
        let thread_user = slot.thread_user();
        slot.set_thread_user(0); // this is the host's last word of it
        tell(domain, slot, thread_user, end);
    }
    slot.at_end(end.outcome);
    faults::late(Point::ThreadLeave);
    domain.left(slot, store);
}

/// Tells the host that a thread or worker has left the guest.
pub fn tell(domain: &Domain, slot: &Slot, thread_user: u64, end: &End) {
    let Some(callback) = domain.engine.callbacks.thread_end else {
        return;
    };
    let text = |text: &str| {
        if text.is_empty() {
            (std::ptr::null(), 0)
        } else {
            (text.as_ptr().cast::<c_char>(), text.len() as u64)
        }
    };
    let (message, message_bytes) = text(&end.message);
    let (backtrace, backtrace_bytes) = text(&end.backtrace);
    let record = ThreadEnd {
        user: domain.user,
        thread_user,
        domain: domain.handle(),
        tid: slot.tid,
        outcome: end.outcome,
        trap: end.trap,
        main: slot.main.into(),
        worker: slot.worker.into(),
        reserved: 0,
        message,
        message_bytes,
        backtrace,
        backtrace_bytes,
    };
    // SAFETY: the callback keeps the contract of the C ABI; the record and its text outlive the call.
    unsafe { callback(&record) };
}

/// Makes the thread's store and instance and runs its entry. The store is left in `keep`, whatever happens.
fn enter(
    domain: &Arc<Domain>,
    slot: &Arc<Slot>,
    entry: &Entry,
    keep: &mut Option<Store<Context>>,
) -> End {
    if domain.gate.is_closed() {
        return End::plain(LINDSHIM_END_STOPPED);
    }
    if let Err(err) = altstack::ensure() {
        return End::failed(LINDSHIM_END_START_FAILED, err.message);
    }
    let functions = &domain.module().functions;
    let Some(pre) = domain.instance_pre() else {
        return End::failed(
            LINDSHIM_END_START_FAILED,
            "the domain has nothing to instantiate".into(),
        );
    };
    let store = keep.insert(Context::store(domain, slot));
    store
        .data_mut()
        .begin(OsThread::current(), std::ptr::null(), 0);
    // The order of these three is the module's subject.
    store.set_epoch_deadline(1);
    faults::late(Point::EpochDeadline);
    fence(Ordering::SeqCst);
    if domain.gate.is_closed() {
        return End::plain(LINDSHIM_END_STOPPED);
    }
    slot.at_guest();
    let made = faults::check(Point::Instantiate).and_then(|()| pre.instantiate(&mut *store));
    let instance = match made {
        Ok(instance) => instance,
        Err(err) => return End::from_error(&err, true, functions),
    };
    adopt_memory(store, &instance);
    if let Entry::Main(_) = entry {
        match domain.initialize(store, &instance, Some(slot)) {
            Ok(true) => {}
            Ok(false) => return End::plain(LINDSHIM_END_STOPPED),
            Err(err) => return End::from_error(&err, true, functions),
        }
    }
    let result = match entry {
        Entry::Main(export) => instance
            .get_typed_func::<(), ()>(&mut *store, export)
            .and_then(|function| {
                Context::enters_by(store, function.func());
                function.call(&mut *store, ())
            }),
        Entry::Spawned(arg) => instance
            .get_typed_func::<(u32, u32), ()>(&mut *store, THREAD_START)
            .and_then(|function| {
                Context::enters_by(store, function.func());
                function.call(&mut *store, (slot.tid, *arg))
            }),
    };
    match result {
        Ok(()) => End::plain(LINDSHIM_END_RETURNED),
        Err(err) => End::from_error(&err, false, functions),
    }
}

/// The export that a spawned thread begins in (the wasi-threads proposal).
pub const THREAD_START: &str = "wasi_thread_start";

/// Finds the memory that host calls work on: the export "memory", or else the shared memory that the module imports.
fn adopt_memory(store: &mut Store<Context>, instance: &Instance) {
    match instance.get_export(&mut *store, "memory") {
        Some(Extern::Memory(memory)) => {
            let (base, bytes) = (
                memory.data_ptr(store.as_context()),
                memory.data_size(store.as_context()) as u64,
            );
            store.data().domain.publish_memory(base, bytes);
            store.data_mut().memory = GuestMemory::Own(memory, base as usize, bytes);
        }
        Some(Extern::SharedMemory(memory)) => {
            store.data_mut().memory = GuestMemory::Shared(memory);
        }
        _ => {}
    }
}
