//! What the modules synchronize with that loom checks (see `loom/`): the standard library's. There the same modules are
//! compiled over another module of this name.

pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic};
pub use std::thread::{Builder, JoinHandle};

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A change that makes the code wrong, for loom to find: the tests there show that they can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Who enters adds one first, and takes it back if the gate is closed.
    EnterAdds,
    /// Who enters does not compare the gate's generation.
    EnterAnyGeneration,
    /// Who closes the gate is not counted in.
    CloseUncounted,
    /// The gate is read without an order.
    GateRelaxed,
    /// A wait does not read the gate again after it has published its address.
    ParkUnchecked,
    /// A wait publishes no address.
    ParkUnpublished,
    /// A thread that wakes does not look whether it was claimed.
    UnparkUnchecked,
    /// A stop claims without looking whether the thread sleeps.
    ClaimUnchecked,
    /// A thread counts itself out without looking whether it was claimed.
    DepartUnchecked,
    /// A thread of the pool that has nothing to do does not look whether the pool is being closed.
    IdleUnchecked,
    /// A job is put into the mailbox of an idle thread that is left in the list.
    IdleKept,
    /// The last thread of the pool says nothing.
    EmptyUntold,
    /// Who gives a worker back looks for waiters before the worker is idle.
    HandOverEarly,
    /// Who waits for a worker does not look for an idle one again.
    WaitUnchecked,
    /// A worker that is handed to nobody is given back outside the queue's lock.
    HandOverUnlocked,
    /// Whether somebody waits is read without an order.
    WaitingRelaxed,
}

/// Never: loom's module says otherwise.
#[inline(always)]
pub const fn mutated(_mutation: Mutation) -> bool {
    false
}

/// A variable of the process.
macro_rules! process {
    ($(#[$doc:meta])* static $name:ident: $ty:ty = $value:expr;) => {
        $(#[$doc])*
        static $name: $ty = $value;
    };
}
pub(crate) use process;

/// The word at this address.
///
/// # Safety
///
/// The address is aligned and stays mapped; who accesses it does so atomically, or does not care for the result.
#[inline]
pub unsafe fn load_u32(address: usize) -> u32 {
    // SAFETY: the caller's contract.
    unsafe { AtomicU32::from_ptr(address as *mut u32).load(Ordering::SeqCst) }
}

/// The double word at this address.
///
/// # Safety
///
/// As of [`load_u32`].
#[inline]
pub unsafe fn load_u64(address: usize) -> u64 {
    // SAFETY: the caller's contract.
    unsafe { AtomicU64::from_ptr(address as *mut u64).load(Ordering::SeqCst) }
}
