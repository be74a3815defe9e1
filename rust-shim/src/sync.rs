//! What the modules synchronize with that loom checks (see `loom/`): the standard library's. There the same modules are
//! compiled over another module of this name.

pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic};
pub use std::thread::{Builder, JoinHandle};

pub use crate::mutation::Mutation;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

/// A variable of each thread.
macro_rules! per_thread {
    ($(#[$doc:meta])* static $name:ident: $ty:ty = $value:expr;) => {
        std::thread_local! {
            $(#[$doc])*
            static $name: $ty = const { $value };
        }
    };
}
pub(crate) use per_thread;

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
