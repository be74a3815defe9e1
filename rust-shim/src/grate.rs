//! A grate: a domain that serves system calls of others, each on the thread that makes it.
//!
//! A call finds the grate by its port, is counted in at the grate's gate, gets one of its workers (see `worker`) and enters
//! that, on the same OS thread. The path through [`serve`] allocates nothing and takes no lock while a worker is idle.
//!
//! Idle workers, and the queue of callers that wait for one, are the subject of `idle`. Who takes a worker's place there owns
//! the worker, and has it on its own stack while it is inside: a stop that claims the worker while it sleeps may be followed
//! by the end of the domain, and what sleeps keeps the store.
//!
//! Deaths. The grate stops: workers leave their guest code like any thread of it, their callers get an error, and those
//! that wait find the gate closed. The caller stops: see `frame`. Both sides count in their own gates only, so none waits
//! for a count that another keeps.

use crate::clock;
use crate::domain::Domain;
use crate::error::{Error, Result, Status};
use crate::faults::{self, Point};
use crate::ffi::types::*;
use crate::frame::{Frame, OsThread};
use crate::gate::Hinge;
use crate::idle::{Idle, handed};
use crate::port;
use crate::thread::{End, Leave, tell};
use crate::waits::token;
use crate::worker::{Made, Shape, Worker};
use parking_lot_core::{DEFAULT_UNPARK_TOKEN, ParkResult, ParkToken};
use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::ValRaw;

/// The most workers that a grate may have.
pub(crate) const MAX_WORKERS: u32 = 1024;
/// How many workers a grate has at the most that says nothing.
const WORKERS: u32 = 16;
/// The guest's stack of each, in bytes, if the grate says nothing.
const STACK_BYTES: u64 = 64 << 10;
/// The most bytes of stack that it may ask for.
const MAX_STACK_BYTES: u64 = 1 << 30;
/// What a worker needs of the native stack beside what its guest code may use: the host's part of its host calls.
pub(crate) const HOST_STACK_BYTES: usize = 128 << 10;
/// How many values `pass_fptr_to_wt` takes.
pub(crate) const PARAMS: usize = 14;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The grate answered, or was ended by the call.
    Result(i32),
    /// There is no such grate any more.
    Gone,
    /// There is no worker for it, and the caller is not to wait.
    Again,
    /// Calls are nested too deep.
    Deep,
    /// There is no such function in the grate.
    NoFunction,
    /// Somebody that the caller serves is stopping, and the caller, which waited, shall know.
    Interrupted,
    /// The caller has to leave its guest.
    Leave(Leave),
}

impl Served {
    /// What the caller's guest gets, unless it has to leave.
    pub fn result(self) -> std::result::Result<i32, Leave> {
        match self {
            Served::Result(result) => Ok(result),
            Served::Gone => Ok(LINDSHIM_ELINDESRCH),
            Served::Again => Ok(-libc::EAGAIN),
            Served::Deep => Ok(-libc::ELOOP),
            Served::NoFunction => Ok(-libc::EINVAL),
            Served::Interrupted => Ok(-libc::EINTR),
            Served::Leave(leave) => Err(leave),
        }
    }
}

/// A grate. It belongs to its domain, and is touched by those only who are inside the domain's gate.
pub struct Grate {
    /// Its domain.
    domain: *const Domain,
    /// What its module offers.
    pub shape: Shape,
    /// Bytes of guest stack for each worker.
    pub stack_bytes: u64,
    busy: bool,
    /// The engine's limit, and what there has to be left of the native stack.
    max_depth: u32,
    stack_need: usize,
    trace: TraceFn,
    /// The places of idle workers, and who waits for one.
    idle: Idle,
    /// The idle workers. Each is owned by whoever has taken its bit out of `idle`.
    places: Box<[UnsafeCell<Option<Box<Worker>>>]>,
    unmade: Mutex<Unmade>,
    /// How many workers there are.
    made: AtomicU32,
    /// How many places there will be no worker for, because the memory cannot grow.
    lost: AtomicU32,
}

// SAFETY: `places` is shared by the bits of `idle`; the domain outlives the grate.
unsafe impl Send for Grate {}
// SAFETY: as above.
unsafe impl Sync for Grate {}

/// Guarded by `Grate::unmade`.
#[derive(Debug)]
struct Unmade {
    /// Places without a worker.
    places: Vec<u32>,
    /// Stacks of workers that are no more, by their lowest addresses.
    stacks: Vec<u64>,
}

impl std::fmt::Debug for Grate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grate")
            .field("workers", &self.places.len())
            .finish_non_exhaustive()
    }
}

/// A caller that was counted in at the grate's gate. It leaves when this is dropped.
struct Inside {
    hinge: &'static Hinge,
    domain: *const Domain,
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        if self.hinge.leave() {
            self.finish();
        }
    }
}

impl Inside {
    /// The caller left last.
    #[cold]
    fn finish(&self) {
        // SAFETY: nobody deletes the domain before it has reported, which the one that left last is about to do.
        let domain = unsafe {
            Arc::increment_strong_count(self.domain);
            Arc::from_raw(self.domain)
        };
        domain.finish();
    }
}

/// A worker that the caller has, or why it has none.
enum Acquired {
    Worker(u32, Box<Worker>),
    /// The caller was counted out of its own domain while it waited.
    Claimed,
    /// The caller was counted out of the grate's domain, which is stopping, while it made a worker.
    Departed,
    No(Served),
}

/// How a wait for a worker ended.
enum Waited {
    Handed(u32),
    Retry,
    Claimed,
    No(Served),
}

impl Grate {
    /// The grate of a domain, without a worker yet.
    pub fn new(domain: &Arc<Domain>, config: &GrateConfig) -> Result<Box<Self>> {
        let shape = Shape::of(domain.module())?;
        let max = match config.max_workers {
            _ if shape.single => 1,
            0 => WORKERS,
            n if n <= MAX_WORKERS => n,
            n => {
                return Err(Error::new(
                    Status::Invalid,
                    format!("max_workers is {n}: at most {MAX_WORKERS}"),
                ));
            }
        };
        let stack_bytes = match config.stack_bytes {
            0 => STACK_BYTES,
            n if n <= MAX_STACK_BYTES => n,
            n => {
                return Err(Error::new(
                    Status::Invalid,
                    format!("stack_bytes is {n}: at most {MAX_STACK_BYTES}"),
                ));
            }
        };
        let settings = &domain.engine.nesting;
        Ok(Box::new(Grate {
            domain: Arc::as_ptr(domain),
            shape,
            stack_bytes,
            busy: config.busy != 0,
            max_depth: settings.max_depth,
            stack_need: settings.stack_need,
            trace: domain.engine.callbacks.trace,
            idle: Idle::new(max),
            places: (0..max).map(|_| UnsafeCell::new(None)).collect(),
            unmade: Mutex::new(Unmade {
                places: (0..max).rev().collect(),
                stacks: Vec::new(),
            }),
            made: AtomicU32::new(0),
            lost: AtomicU32::new(0),
        }))
    }

    fn domain(&self) -> &Domain {
        // SAFETY: the grate belongs to it.
        unsafe { &*self.domain }
    }

    fn unmade(&self) -> MutexGuard<'_, Unmade> {
        self.unmade.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all that wait for a worker: the gate is closed.
    pub fn close(&self) {
        self.idle.close();
    }

    /// Takes out all workers, to be dropped with what else remains of the domain.
    ///
    /// # Safety
    ///
    /// The domain's gate is drained.
    pub unsafe fn take_workers(&self) -> Vec<Box<Worker>> {
        // SAFETY: nobody is inside.
        let taken = self
            .places
            .iter()
            .map(|place| unsafe { (*place.get()).take() });
        taken.flatten().collect()
    }

    fn take(&self, place: u32) -> Acquired {
        // SAFETY: the caller has taken the place's bit.
        let worker = unsafe { (*self.places[place as usize].get()).take() };
        worker.map_or(Acquired::No(Served::Again), |worker| {
            Acquired::Worker(place, worker)
        })
    }

    /// A worker that has served is idle again, or goes to whoever waits for one.
    #[inline]
    fn give_back(&self, place: u32, worker: Box<Worker>) {
        // SAFETY: the place is the caller's until its bit is set, and empty since the worker was taken, so that nothing is
        // to be dropped.
        unsafe { self.places[place as usize].get().write(Some(worker)) };
        self.idle.put_back(place);
    }

    /// A place is without a worker, and its stack, if it had one, free.
    fn vacate(&self, place: u32, stack: Option<u64>) {
        let mut unmade = self.unmade();
        unmade.places.push(place);
        unmade.stacks.extend(stack);
        drop(unmade);
        self.idle.vacate();
    }

    #[inline]
    fn acquire(&self, os: &'static OsThread, caller: Option<&Frame>) -> Acquired {
        match self.idle.pop(os) {
            Some(place) => self.take(place),
            None => self.acquire_slowly(os, caller),
        }
    }

    #[cold]
    fn acquire_slowly(&self, os: &'static OsThread, caller: Option<&Frame>) -> Acquired {
        loop {
            if let Some(made) = self.make(os, caller) {
                return made;
            }
            if self.busy {
                return Acquired::No(Served::Again);
            }
            if caller.is_some_and(|caller| self.is_held_by(caller)) {
                return Acquired::No(Served::Deep); // it would wait for itself
            }
            match self.wait(os, caller) {
                Waited::Handed(place) => return self.take(place),
                Waited::Retry => {}
                Waited::Claimed => return Acquired::Claimed,
                Waited::No(served) => return Acquired::No(served),
            }
            if let Some(place) = self.idle.pop(os) {
                return self.take(place);
            }
        }
    }

    /// Whether the caller's thread is itself inside all the workers that there will be.
    fn is_held_by(&self, caller: &Frame) -> bool {
        let its = caller
            .chain()
            .filter(|frame| std::ptr::eq(frame.domain(), self.domain) && frame.slot().worker);
        let workers = self.places.len() - self.lost.load(Ordering::SeqCst) as usize;
        its.count() >= workers
    }

    /// Makes one more worker. `None`: there are as many as there can be.
    fn make(&self, os: &'static OsThread, caller: Option<&Frame>) -> Option<Acquired> {
        if !self.idle.has_unmade() {
            return None;
        }
        let (place, stack) = {
            let mut unmade = self.unmade();
            let place = unmade.places.pop()?;
            self.idle.take_unmade();
            (place, unmade.stacks.pop())
        };
        // SAFETY: the domain is an Arc's, which lives while the caller is inside its gate.
        let domain = unsafe {
            Arc::increment_strong_count(self.domain);
            Arc::from_raw(self.domain)
        };
        // The domain is held on to until this is over, whatever becomes of it meanwhile.
        let (made, stack) = Worker::make(&domain, self, os, caller, stack);
        match made {
            Made::Worker(worker) => {
                self.made.fetch_add(1, Ordering::SeqCst);
                Some(Acquired::Worker(place, worker))
            }
            // The memory cannot grow. From here on there is a place less: callers wait for the workers there are.
            Made::No(Served::Again) if self.made.load(Ordering::SeqCst) > 0 => {
                self.lost.fetch_add(1, Ordering::SeqCst);
                None
            }
            // The grate may be gone already.
            Made::Departed => Some(Acquired::Departed),
            Made::No(served) => {
                self.vacate(place, stack);
                Some(Acquired::No(served))
            }
        }
    }

    /// Waits for a worker.
    fn wait(&self, os: &OsThread, caller: Option<&Frame>) -> Waited {
        // In a host call the host is in the midst of something, so that the thread cannot be counted out.
        let claimable = caller.filter(|caller| caller.import().is_none());
        let refused = Cell::new(None);
        let refuse = || {
            let no = if self.domain().gate.is_closed() {
                Served::Gone
            } else {
                stopped(caller)?
            };
            refused.set(Some(no));
            Some(())
        };
        if let Some(caller) = caller {
            caller.publish_wait(self.idle.key());
        }
        let name = caller.map_or(ParkToken(std::ptr::from_ref(os) as usize), |caller| {
            token(caller.slot())
        });
        let parked = || {
            if let Some(caller) = claimable {
                caller.slot().park();
            }
        };
        let result = self.idle.wait(name, || refuse().is_some(), parked);
        let claimed = claimable.is_some_and(|caller| !caller.slot().unpark());
        if let Some(caller) = caller {
            caller.publish_wait(0);
        }
        let woken = match result {
            ParkResult::Unparked(token) => match handed(token) {
                Some(place) if claimed => {
                    self.idle.put_back(place);
                    return Waited::Claimed;
                }
                Some(place) => return Waited::Handed(place),
                None => token == DEFAULT_UNPARK_TOKEN,
            },
            _ => false,
        };
        if !claimed && refused.get().is_none() {
            refuse();
        }
        let no = if claimed {
            Waited::Claimed
        } else if let Some(no) = refused.get() {
            Waited::No(no)
        } else {
            return Waited::Retry;
        };
        if woken {
            self.idle.wake_one(); // the wake-up was for somebody who can use it
        }
        no
    }

    /// A worker's call has ended other than by returning.
    #[cold]
    fn failed(&self, place: u32, worker: Box<Worker>, end: &End, caller: Option<&Frame>) {
        let slot = worker.slot.clone();
        end.note(&slot);
        if end.outcome == LINDSHIM_END_DISCARDED
            && let Some(caller) = caller
        {
            caller.slot().torn.store(true, Ordering::Relaxed);
        }
        self.domain().end_worker(&slot, end);
        let stack = worker.stack;
        drop(worker);
        self.made.fetch_sub(1, Ordering::SeqCst);
        self.vacate(place, Some(stack));
    }
}

/// Why a caller is not to wait or to go on: its own domain stops, or somebody that it serves.
fn stopped(caller: Option<&Frame>) -> Option<Served> {
    let caller = caller?;
    if caller.domain().gate.is_closed() {
        return Some(Served::Leave(Leave::Stopped));
    }
    let outer = caller.outer()?;
    if outer.expired() {
        return Some(Served::Leave(Leave::Discarded));
    }
    outer.interrupted().then_some(Served::Interrupted)
}

/// What a traced call began with.
struct Traced {
    callback: unsafe extern "C" fn(*const Trace),
    trace: Trace,
}

/// Has a grate serve a call on the calling thread, whose record `os` is. `caller` is where the thread comes from; none for
/// a call of the host. `values` are those of `pass_fptr_to_wt`: the function's index, the calling cage, and six arguments
/// with their cages. It may block.
#[inline]
pub fn serve(
    os: &'static OsThread,
    caller: Option<&Frame>,
    port: u64,
    call: u32,
    values: &mut [ValRaw; PARAMS],
) -> Served {
    let mut traced = None;
    let Some(frame) = caller else {
        let served = enter(os, None, port, call, values, &mut traced);
        return end_trace(traced, served.unwrap_or(Served::Leave(Leave::Stopped)));
    };
    frame.slot().at_grate(port, call);
    let Some(served) = enter(os, caller, port, call, values, &mut traced) else {
        return Served::Leave(Leave::Stopped); // it was claimed, and has nothing of its domain any more
    };
    match frame.import() {
        None => frame.slot().at_guest(),
        Some(import) => frame.slot().at_host_call(import),
    }
    let served = end_trace(traced, served);
    if frame.domain().gate.is_closed() {
        return Served::Leave(Leave::Stopped);
    }
    if frame.outer().is_some_and(|outer| outer.has_expired(os)) {
        return Served::Leave(Leave::Discarded);
    }
    served
}

/// The part of [`serve`] that is inside the grate's gate. `None`: the caller was claimed by its own domain's stop.
#[inline]
fn enter(
    os: &'static OsThread,
    caller: Option<&Frame>,
    port: u64,
    call: u32,
    values: &mut [ValRaw; PARAMS],
    traced: &mut Option<Traced>,
) -> Option<Served> {
    let Some((hinge, grate)) = port::enter(port) else {
        return Some(Served::Gone);
    };
    // SAFETY: the grate stays while the gate has counted this caller in.
    let grate = unsafe { &*grate };
    let inside = Inside {
        hinge,
        domain: grate.domain,
    };
    // Whoever stops the caller's domain has found it on its way into a grate, or it finds its gate closed here. On x86
    // the step that counted it in at the grate's gate orders the two.
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::SeqCst);
    faults::late(Point::GrateEnter);
    if caller.is_some_and(|caller| caller.domain().gate.is_closed()) {
        return Some(Served::Leave(Leave::Stopped));
    }
    let depth = caller.map_or(0, Frame::depth) + 1;
    if depth > grate.max_depth || !os.has_stack(grate.stack_need) {
        return Some(Served::Deep);
    }
    if grate.trace.is_some() {
        *traced = begin_trace(grate, caller, depth, call, values);
    }
    let (place, mut worker) = match grate.acquire(os, caller) {
        Acquired::Worker(place, worker) => (place, worker),
        Acquired::Claimed => return None,
        Acquired::Departed => {
            std::mem::forget(inside);
            return Some(Served::Gone);
        }
        Acquired::No(served) => return Some(served),
    };
    // After the worker was got: its epoch deadline was set before, so that what is found here in order is interrupted if
    // it changes.
    if grate.domain().gate.is_closed() {
        grate.give_back(place, worker);
        return Some(Served::Gone);
    }
    if caller.is_some_and(|caller| caller.has_expired(os)) {
        grate.give_back(place, worker);
        return Some(Served::Leave(Leave::Discarded));
    }
    if !worker.has_function(values[0].get_u64() as u32) {
        grate.give_back(place, worker);
        return Some(Served::NoFunction);
    }
    worker.begin(os, caller, depth);
    let entry = worker.entry;
    let mut serving = Serving {
        grate,
        place,
        caller,
        worker: ManuallyDrop::new(worker),
    };
    // SAFETY: the function has `PARAMS` i64 parameters and one result, which `Shape` has checked.
    let outcome = unsafe { entry.call_unchecked(&mut serving.worker.store, values) };
    let mut worker = serving.over();
    faults::late(Point::GrateReturn);
    let Err(err) = outcome else {
        worker.end(caller);
        grate.give_back(place, worker);
        return Some(Served::Result(values[0].get_i32()));
    };
    if worker.slot.is_claimed() {
        // The grate has stopped without this worker, and may be deleted. What is left is this thread's own.
        std::mem::forget(inside);
        worker.remain();
    } else {
        worker.end(caller);
        let functions = &worker.store.data().domain.module().functions;
        let end = End::from_error(&err, false, functions);
        grate.failed(place, worker, &end, caller);
    }
    Some(Served::Result(LINDSHIM_GRATE_ERR))
}

/// A worker that serves. If the shim panics meanwhile the worker is done for; a `catch_unwind` would do, but costs more
/// than all else that is done here for the case that something goes wrong.
struct Serving<'a> {
    grate: &'a Grate,
    place: u32,
    caller: Option<&'a Frame>,
    worker: ManuallyDrop<Box<Worker>>,
}

impl Serving<'_> {
    /// It has served.
    #[inline]
    fn over(mut self) -> Box<Worker> {
        // SAFETY: once, since the drop that would do it as well does not come.
        let worker = unsafe { ManuallyDrop::take(&mut self.worker) };
        std::mem::forget(self);
        worker
    }
}

impl Drop for Serving<'_> {
    #[cold]
    fn drop(&mut self) {
        // SAFETY: `over` was not called.
        let mut worker = unsafe { ManuallyDrop::take(&mut self.worker) };
        worker.end(self.caller);
        let end = End::panicked(&"see what the caller's thread ends with");
        self.grate.failed(self.place, worker, &end, self.caller);
    }
}

#[cold]
fn begin_trace(
    grate: &Grate,
    caller: Option<&Frame>,
    depth: u32,
    call: u32,
    values: &[ValRaw; PARAMS],
) -> Option<Traced> {
    Some(Traced {
        callback: grate.trace?,
        trace: Trace {
            user: caller.map_or(0, |caller| caller.domain().user),
            thread_user: caller.map_or(0, Frame::thread_user),
            tid: caller.map_or(0, |caller| caller.slot().tid),
            depth,
            grate_user: grate.domain().user,
            call: call.into(),
            args: std::array::from_fn(|i| values[2 + 2 * i].get_u64()),
            argcages: std::array::from_fn(|i| values[3 + 2 * i].get_u64()),
            result: 0,
            reserved: 0,
            start_ns: clock::now_ns(),
            duration_ns: 0,
        },
    })
}

#[inline]
fn end_trace(traced: Option<Traced>, served: Served) -> Served {
    if let Some(Traced {
        callback,
        mut trace,
    }) = traced
        && let Ok(result) = served.result()
    {
        trace.result = result;
        trace.duration_ns = clock::now_ns() - trace.start_ns;
        // SAFETY: the callback keeps the contract of the C ABI; the record outlives the call.
        unsafe { callback(&trace) };
    }
    served
}

impl Domain {
    /// A worker is of no further use: the host hears of it.
    fn end_worker(&self, slot: &crate::slot::Slot, end: &End) {
        let thread_user = slot.thread_user();
        slot.set_thread_user(0); // this is the host's last word of it
        tell(self, slot, thread_user, end);
        slot.at_end(end.outcome);
        self.forget_worker(slot.tid);
    }

    /// A worker could not be made.
    pub fn worker_failed(&self, slot: &crate::slot::Slot, end: &End) {
        self.end_worker(slot, end);
    }
}
