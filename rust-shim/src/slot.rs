//! What is known of one guest thread while it lives: where it is, and since when. The thread itself writes it, whoever
//! stops the domain or asks about it reads it.

use crate::clock;
use crate::ffi::types::*;
use crate::frame::OsThread;
use crate::functions::Functions;
use crate::sync::{self, Mutation, mutated};
use std::os::raw::c_char;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The thread may run: guest code, or the shim's on its behalf.
const RUNNING: u32 = 0;
/// The thread is parked in the wait queue, or about to be, with the gate found open.
const PARKED: u32 = 1;
/// The thread was counted out, by whoever stopped the domain or by itself: it never runs guest code again.
const CLAIMED: u32 = 2;

/// One guest thread.
#[derive(Debug)]
pub struct Slot {
    /// Its id within the domain.
    pub tid: u32,
    /// Whether `lindshim_domain_start` started it.
    pub main: bool,
    /// Whether it is a worker of a grate.
    pub worker: bool,
    /// The OS thread that it runs on, or ran on last; null if it has not begun.
    os: AtomicPtr<OsThread>,
    /// `LINDSHIM_AT_*`.
    state: AtomicU32,
    /// The same as it was before the thread's end.
    before: AtomicU32,
    /// In a host call or inside a grate: which.
    import: AtomicU32,
    /// Inside a grate: its port.
    port: AtomicU64,
    /// Whether a worker that served it was trapped, because its domain stopped and the grace was over.
    pub torn: AtomicBool,
    /// When the state began.
    since_ns: AtomicU64,
    /// When it left the guest, or 0.
    left_ns: AtomicU64,
    /// `LINDSHIM_END_*`.
    outcome: AtomicU32,
    /// The host's word for the thread, for the report of a stop.
    thread_user: AtomicU64,
    /// `RUNNING`, `PARKED` or `CLAIMED`: see `waits`.
    parked: sync::atomic::AtomicU32,
    /// The host address that it waits at, or is about to; 0 for none. This is the publication that whoever stops the
    /// domain reads after it has closed the gate: see `waits`.
    pub wait_key: sync::atomic::AtomicUsize,
    /// The same as an offset in the linear memory.
    wait_offset: AtomicU64,
    /// Set while the thread may have missed an epoch: see `sweep`.
    pub rearmed: AtomicBool,
    /// The innermost guest function when it left. Guarded by the mutex.
    function: Mutex<Option<String>>,
    /// The same where nobody has looked for its name: where the module's code has called out of the guest, or 0.
    pc: AtomicUsize,
}

impl Slot {
    /// A thread that has not begun.
    pub fn new(tid: u32, main: bool) -> Self {
        Slot {
            tid,
            main,
            worker: false,
            os: AtomicPtr::new(std::ptr::null_mut()),
            state: AtomicU32::new(LINDSHIM_AT_STARTING),
            before: AtomicU32::new(LINDSHIM_AT_STARTING),
            import: AtomicU32::new(0),
            port: AtomicU64::new(0),
            torn: AtomicBool::new(false),
            since_ns: AtomicU64::new(clock::coarse_ns()),
            left_ns: AtomicU64::new(0),
            outcome: AtomicU32::new(0),
            thread_user: AtomicU64::new(0),
            parked: sync::atomic::AtomicU32::new(RUNNING),
            wait_key: sync::atomic::AtomicUsize::new(0),
            wait_offset: AtomicU64::new(0),
            rearmed: AtomicBool::new(false),
            function: Mutex::new(None),
            pc: AtomicUsize::new(0),
        }
    }

    /// A worker that serves nobody yet.
    pub fn worker(tid: u32) -> Self {
        let slot = Slot {
            worker: true,
            ..Slot::new(tid, false)
        };
        slot.at_idle();
        slot
    }

    /// It runs on this OS thread from here on.
    #[inline]
    pub fn set_os(&self, os: &'static OsThread) {
        self.os
            .store(std::ptr::from_ref(os).cast_mut(), Ordering::Release);
    }

    /// The OS thread that it runs on, or ran on last.
    pub fn os(&self) -> Option<&'static OsThread> {
        // SAFETY: such records are never given back.
        unsafe { self.os.load(Ordering::Acquire).as_ref() }
    }

    /// It is a worker that has nothing to do.
    #[inline]
    pub fn at_idle(&self) {
        self.state.store(LINDSHIM_AT_IDLE, Ordering::Relaxed);
    }

    /// It is inside a grate, or on its way there. What it does after this is ordered behind it by entering the grate's
    /// gate: whoever stops the thread's domain finds it here, or it finds its own gate closed.
    #[inline]
    pub fn at_grate(&self, port: u64, call: u32) {
        self.port.store(port, Ordering::Relaxed);
        self.import.store(call, Ordering::Relaxed);
        self.state.store(LINDSHIM_AT_GRATE, Ordering::Release);
        self.proven();
    }

    /// Whether it is inside a grate, or on its way there.
    pub fn is_at_grate(&self) -> bool {
        self.state.load(Ordering::SeqCst) == LINDSHIM_AT_GRATE
    }

    /// Its epoch deadline is known to be set: see `sweep`.
    #[inline]
    pub fn proven(&self) {
        if self.rearmed.load(Ordering::Relaxed) {
            self.rearmed.store(false, Ordering::Relaxed);
        }
    }

    /// It runs guest code.
    #[inline]
    pub fn at_guest(&self) {
        self.state.store(LINDSHIM_AT_GUEST, Ordering::Relaxed);
    }

    /// It is in a host call.
    pub fn at_host_call(&self, import: u32) {
        self.import.store(import, Ordering::Relaxed);
        self.since_ns.store(clock::coarse_ns(), Ordering::Relaxed);
        self.state.store(LINDSHIM_AT_HOST_CALL, Ordering::Release);
        // In here the thread's epoch deadline is set for certain, and on the way out it reads the gate.
        self.rearmed.store(false, Ordering::Relaxed);
    }

    /// It is about to park at `key`, which is `offset` in its memory.
    pub fn at_wait(&self, key: usize, offset: u64) {
        self.wait_offset.store(offset, Ordering::Relaxed);
        self.since_ns.store(clock::coarse_ns(), Ordering::Relaxed);
        self.state.store(LINDSHIM_AT_ATOMIC_WAIT, Ordering::Release);
        self.rearmed.store(false, Ordering::Relaxed);
        if !mutated(Mutation::ParkUnpublished) {
            self.wait_key.store(key, Ordering::SeqCst);
        }
    }

    /// It no longer waits.
    pub fn wait_over(&self) {
        self.wait_key.store(0, Ordering::Release);
        self.at_guest();
    }

    /// It runs no more guest code, and is about to tell the host so. `function` is the innermost guest function.
    pub fn leaving(&self, function: Option<String>) {
        self.rearmed.store(false, Ordering::Relaxed);
        if function.is_some() {
            *self.function.lock().unwrap_or_else(PoisonError::into_inner) = function;
        }
    }

    /// Guest code at `pc` has called out of the guest, or is 0. If the thread does not go back, this names its innermost
    /// function.
    pub fn called_from(&self, pc: usize) {
        self.pc.store(pc, Ordering::Relaxed);
    }

    /// It goes to sleep. Called under the wait queue's lock, with the gate just found open.
    pub fn park(&self) {
        self.parked.store(PARKED, Ordering::SeqCst);
    }

    /// It has woken. `false`: it was claimed meanwhile, and has to leave the guest without a further word.
    pub fn unpark(&self) -> bool {
        if mutated(Mutation::UnparkUnchecked) {
            self.parked.store(RUNNING, Ordering::SeqCst);
            return true;
        }
        self.parked
            .compare_exchange(PARKED, RUNNING, Ordering::SeqCst, Ordering::SeqCst)
            != Err(CLAIMED)
    }

    /// Claims the thread for a stop, if it is parked: then it never runs guest code again, and the caller counts it out.
    ///
    /// Preconditions: the domain's gate is closed.
    pub fn claim(&self) -> bool {
        if mutated(Mutation::ClaimUnchecked) {
            self.parked.store(CLAIMED, Ordering::SeqCst);
            return true;
        }
        let claimed = self
            .parked
            .compare_exchange(PARKED, CLAIMED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if claimed {
            self.at_end(LINDSHIM_END_STOPPED);
        }
        claimed
    }

    /// The thread itself has found that its domain is stopping, and counts itself out here and now: what it still does is
    /// to leave the guest, which takes several times longer, and nobody has to wait for it. `false`: it was claimed, which
    /// comes to the same.
    pub fn depart(&self) -> bool {
        if mutated(Mutation::DepartUnchecked) {
            return true;
        }
        let departs = self
            .parked
            .compare_exchange(RUNNING, CLAIMED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if departs {
            self.at_end(LINDSHIM_END_STOPPED);
        }
        departs
    }

    /// Whether it sleeps, or is just falling asleep.
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::SeqCst) == PARKED
    }

    /// Whether it was counted out before it has left the guest.
    pub fn is_claimed(&self) -> bool {
        self.parked.load(Ordering::SeqCst) == CLAIMED
    }

    /// The host's word for the thread changed. 0 when the host needs no report of it.
    pub fn set_thread_user(&self, thread_user: u64) {
        self.thread_user.store(thread_user, Ordering::Release);
    }

    /// The host's word for the thread.
    pub fn thread_user(&self) -> u64 {
        self.thread_user.load(Ordering::Acquire)
    }

    /// It has left the domain for good.
    pub fn at_end(&self, outcome: u32) {
        self.outcome.store(outcome, Ordering::Relaxed);
        self.left_ns.store(clock::now_ns(), Ordering::Relaxed);
        let state = self.state.load(Ordering::Relaxed);
        self.before.store(state, Ordering::Relaxed);
        self.state.store(LINDSHIM_AT_ENDED, Ordering::Release);
    }

    /// A worker that had nothing to do when its domain stopped has ended.
    pub fn end_idle(&self) {
        if self.worker && self.state.load(Ordering::Acquire) == LINDSHIM_AT_IDLE {
            self.called_from(0);
            self.at_end(LINDSHIM_END_STOPPED);
        }
    }

    /// Whether it may be running guest code.
    pub fn in_guest(&self) -> bool {
        matches!(
            self.state.load(Ordering::Acquire),
            LINDSHIM_AT_GUEST | LINDSHIM_AT_STARTING
        )
    }

    /// Where it is now; `functions` are its module's.
    pub fn snapshot(&self, functions: &Functions) -> Thread {
        let mut thread = self.place().describe(self);
        self.add_end(&mut thread, functions);
        thread
    }

    /// The same for the moment, to be described later.
    pub fn place(&self) -> Place {
        self.place_in(self.state.load(Ordering::Acquire))
    }

    /// The same, or where it was before its end: for whoever has just stopped it.
    pub fn place_at_stop(&self) -> Place {
        self.place_in(match self.state.load(Ordering::Acquire) {
            LINDSHIM_AT_ENDED => self.before.load(Ordering::Relaxed),
            state => state,
        })
    }

    fn place_in(&self, state: u32) -> Place {
        Place {
            state,
            import: self.import.load(Ordering::Relaxed),
            address: match state {
                LINDSHIM_AT_GRATE => self.port.load(Ordering::Relaxed),
                _ => self.wait_offset.load(Ordering::Relaxed),
            },
            since_ns: self.since_ns.load(Ordering::Relaxed),
        }
    }

    /// Completes an earlier snapshot with what is known of the thread's end.
    pub fn add_end(&self, thread: &mut Thread, functions: &Functions) {
        if self.state.load(Ordering::Acquire) != LINDSHIM_AT_ENDED {
            return;
        }
        thread.torn = self.torn.load(Ordering::Relaxed).into();
        thread.outcome = self.outcome.load(Ordering::Relaxed);
        thread.left_ns = self.left_ns.load(Ordering::Relaxed);
        thread.thread_user = self.thread_user.load(Ordering::Relaxed);
        let function = self.function.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = function.as_deref() {
            copy_text(name, &mut thread.function);
        } else {
            functions.name(self.pc.load(Ordering::Relaxed), &mut thread.function);
        }
    }
}

/// Where a thread was at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    state: u32,
    import: u32,
    address: u64,
    since_ns: u64,
}

impl Place {
    /// It in the terms of the C ABI, for the thread that it is of.
    pub fn describe(self, slot: &Slot) -> Thread {
        let mut thread = Thread {
            tid: slot.tid,
            state: self.state,
            import: 0,
            outcome: 0,
            address: 0,
            since_ns: 0,
            left_ns: 0,
            thread_user: 0,
            worker: slot.worker.into(),
            torn: 0,
            function: [0; 64],
        };
        match self.state {
            LINDSHIM_AT_GRATE => {
                thread.import = self.import;
                thread.address = self.address;
            }
            LINDSHIM_AT_HOST_CALL => thread.import = self.import,
            LINDSHIM_AT_ATOMIC_WAIT => thread.address = self.address,
            _ => {}
        }
        if matches!(
            self.state,
            LINDSHIM_AT_STARTING | LINDSHIM_AT_HOST_CALL | LINDSHIM_AT_ATOMIC_WAIT
        ) {
            thread.since_ns = self.since_ns;
        }
        thread
    }
}

/// Copies text into a NUL-terminated array, cut at a character if need be.
pub fn copy_text(text: &str, to: &mut [c_char]) {
    let mut end = text.len().min(to.len() - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in to.iter_mut().zip(&text.as_bytes()[..end]) {
        *to = *from as c_char;
    }
    to[end] = 0;
}
