//! What the modules synchronize with: loom's primitives.
//!
//! loom takes a sequentially consistent access for one that acquires and releases, which is less than the code relies on.
//! So such an access has a fence before it here, as compilers have it where the processor has no such access ("leading
//! fence"). An access of a weaker order has none. That is a little more than the standard says: what follows such a fence is
//! ordered behind it, also where it is weaker itself, so that a load made relaxed right behind an access that is sequentially
//! consistent (the address of a wait, behind a claim) is not found to be wrong.

pub use crate::mutation::Mutation;
pub use loom::sync::{Condvar, Mutex, MutexGuard};
pub use loom::thread::{Builder, JoinHandle};
pub use std::sync::{Arc, PoisonError};

use std::sync::OnceLock;

/// The environment variable that names the mutation.
pub const MUTATION: &str = "LINDSHIM_MUTATION";

/// Whether the code is to be wrong in this way, in this process.
pub fn mutated(mutation: Mutation) -> bool {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var(MUTATION).ok());
    name.as_ref()
        .is_some_and(|name| *name == format!("{mutation:?}"))
}

/// A variable of the process: of one run of a model.
macro_rules! process {
    ($(#[$doc:meta])* static $name:ident: $ty:ty = $value:expr;) => {
        loom::lazy_static! {
            static ref $name: $ty = $value;
        }
    };
}
pub(crate) use process;

/// A variable of each thread.
macro_rules! per_thread {
    ($(#[$doc:meta])* static $name:ident: $ty:ty = $value:expr;) => {
        loom::thread_local! { static $name: $ty = $value; }
    };
}
pub(crate) use per_thread;

/// The word at this address.
///
/// # Safety
///
/// An [`atomic::AtomicU32`] lies there.
pub unsafe fn load_u32(address: usize) -> u32 {
    // SAFETY: the caller's contract.
    unsafe { &*(address as *const atomic::AtomicU32) }.load(atomic::Ordering::SeqCst)
}

/// The double word at this address.
///
/// # Safety
///
/// An [`atomic::AtomicU64`] lies there.
pub unsafe fn load_u64(address: usize) -> u64 {
    // SAFETY: the caller's contract.
    unsafe { &*(address as *const atomic::AtomicU64) }.load(atomic::Ordering::SeqCst)
}

/// Atomics.
pub mod atomic {
    pub use std::sync::atomic::Ordering;

    use loom::sync::atomic::fence;

    /// The order of the access itself, after the fence of one that is sequentially consistent.
    fn lead(order: Ordering, weaker: Ordering) -> Ordering {
        match order {
            Ordering::SeqCst => {
                fence(Ordering::SeqCst);
                weaker
            }
            other => other,
        }
    }

    macro_rules! atomic {
        ($name:ident, $ty:ty) => {
            /// See the standard library's.
            #[derive(Debug)]
            pub struct $name(loom::sync::atomic::$name);

            #[allow(missing_docs, reason = "as the standard library's")]
            impl $name {
                #[track_caller]
                pub fn new(value: $ty) -> Self {
                    $name(loom::sync::atomic::$name::new(value))
                }

                #[track_caller]
                pub fn load(&self, order: Ordering) -> $ty {
                    self.0.load(lead(order, Ordering::Acquire))
                }

                #[track_caller]
                pub fn store(&self, value: $ty, order: Ordering) {
                    self.0.store(value, lead(order, Ordering::Release));
                }

                #[track_caller]
                pub fn fetch_add(&self, value: $ty, order: Ordering) -> $ty {
                    self.0.fetch_add(value, lead(order, Ordering::AcqRel))
                }

                #[track_caller]
                pub fn fetch_sub(&self, value: $ty, order: Ordering) -> $ty {
                    self.0.fetch_sub(value, lead(order, Ordering::AcqRel))
                }

                #[track_caller]
                pub fn fetch_or(&self, value: $ty, order: Ordering) -> $ty {
                    self.0.fetch_or(value, lead(order, Ordering::AcqRel))
                }

                #[track_caller]
                pub fn compare_exchange(
                    &self,
                    from: $ty,
                    to: $ty,
                    set: Ordering,
                    fetch: Ordering,
                ) -> Result<$ty, $ty> {
                    let fetch = match fetch {
                        Ordering::SeqCst => Ordering::Acquire,
                        other => other,
                    };
                    let set = lead(set, Ordering::AcqRel);
                    self.0.compare_exchange(from, to, set, fetch)
                }

                #[track_caller]
                pub fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    mut f: impl FnMut($ty) -> Option<$ty>,
                ) -> Result<$ty, $ty> {
                    let mut now = self.load(fetch);
                    while let Some(next) = f(now) {
                        match self.compare_exchange(now, next, set, fetch) {
                            Ok(before) => return Ok(before),
                            Err(other) => now = other,
                        }
                    }
                    Err(now)
                }
            }
        };
    }

    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
    atomic!(AtomicUsize, usize);
}
