//! Signal stacks for the threads that run guests.
//!
//! A guest's trap is a signal, and Wasmtime wants a stack of at least 256 KiB for its handler. It maps one itself for
//! each thread that has none, with a guard: two mappings more for each thread, of which a process may have 65,530
//! (`vm.max_map_count`), and a panic where none is to be had. Here many are mapped at a time, without guards, as Go's are;
//! and a thread that gets none is told so.

use crate::error::{Error, Result, Status};
use crate::faults::{self, Point};
use std::cell::RefCell;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What Wasmtime's handler wants: with less, Wasmtime maps one of its own.
const BYTES: usize = 64 * 4096;

/// How many are mapped at a time. They cost no memory before a signal arrives on them.
const TOGETHER: usize = 64;

/// The lowest addresses of stacks that no thread has. They are never unmapped. Guarded by the mutex.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn free() -> MutexGuard<'static, Vec<usize>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stack that the calling thread has, and gives back when it ends.
struct Own(usize);

impl Own {
    fn new() -> Result<Own> {
        if faults::check_os(Point::SignalStack, libc::ENOMEM) {
            return Err(none());
        }
        let mut free = free();
        if free.is_empty() {
            // SAFETY: new memory, wherever there is room.
            let base = unsafe {
                libc::mmap(
                    null_mut(),
                    TOGETHER * BYTES,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            if base == libc::MAP_FAILED {
                return Err(none());
            }
            free.extend((0..TOGETHER).rev().map(|i| base as usize + i * BYTES));
        }
        free.pop().map(Own).ok_or_else(none)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The thread has none from here on; if that cannot be said, nobody else may have this one.
        if set(null_mut(), libc::SS_DISABLE) {
            free().push(self.0);
        }
    }
}

fn none() -> Error {
    let why = std::io::Error::last_os_error();
    let message = format!(
        "no signal stack for a thread: {why}. Raise vm.max_map_count, or the limit on memory, or run fewer threads"
    );
    Error::new(Status::Limit, message)
}

/// Makes the stack at `low` the calling thread's; answers whether it is.
fn set(low: *mut libc::c_void, flags: i32) -> bool {
    let stack = libc::stack_t {
        ss_sp: low,
        ss_flags: flags,
        ss_size: BYTES,
    };
    // SAFETY: the stack, if it is one, is nobody else's and is never unmapped.
    unsafe { libc::sigaltstack(&raw const stack, null_mut()) == 0 }
}

/// The size of the calling thread's signal stack; 0: it has none.
fn size() -> usize {
    // SAFETY: asks only.
    unsafe {
        let mut now: libc::stack_t = std::mem::zeroed();
        if libc::sigaltstack(std::ptr::null(), &raw mut now) != 0
            || now.ss_flags & libc::SS_DISABLE != 0
        {
            return 0;
        }
        now.ss_size
    }
}

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

/// Sees to it that the calling thread has a signal stack that Wasmtime is content with.
///
/// # Errors
///
/// `Status::Limit`: there is no memory for one. The thread must not enter a guest then.
pub fn ensure() -> Result<()> {
    OWN.with_borrow_mut(|own| {
        if own.is_some() || size() >= BYTES {
            return Ok(());
        }
        let it = Own::new()?;
        if !set(it.0 as *mut libc::c_void, 0) {
            return Err(none());
        }
        *own = Some(it);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread's stack, as `ensure` has left it.
    fn after_ensure() -> (usize, usize) {
        ensure().unwrap();
        ensure().unwrap();
        let low = OWN.with_borrow(|own| own.as_ref().map_or(0, |it| it.0));
        (low, size())
    }

    #[test]
    fn each_thread_has_one_of_its_own_and_gives_it_back() {
        let both = std::sync::Barrier::new(2);
        let other = || {
            let got = after_ensure();
            both.wait(); // both have one at the same time
            got
        };
        let ((a, a_bytes), (b, b_bytes)) = std::thread::scope(|scope| {
            let (a, b) = (scope.spawn(other), scope.spawn(other));
            (a.join().unwrap(), b.join().unwrap())
        });
        assert_eq!((a_bytes, b_bytes), (BYTES, BYTES));
        assert!(a != 0 && b != 0 && a.abs_diff(b) >= BYTES);
        let given_back = free();
        assert!(given_back.contains(&a) && given_back.contains(&b));
    }

    #[test]
    fn one_that_is_large_enough_is_left() {
        let large = vec![0_u8; BYTES + 4096].leak().as_mut_ptr();
        let left = std::thread::spawn({
            let large = large as usize;
            move || {
                let stack = libc::stack_t {
                    ss_sp: large as *mut libc::c_void,
                    ss_flags: 0,
                    ss_size: BYTES + 4096,
                };
                // SAFETY: the memory is leaked, and nobody else's.
                assert_eq!(
                    unsafe { libc::sigaltstack(&raw const stack, null_mut()) },
                    0
                );
                after_ensure()
            }
        });
        assert_eq!(left.join().unwrap(), (0, BYTES + 4096));
    }
}
