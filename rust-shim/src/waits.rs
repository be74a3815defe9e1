//! `memory.atomic.wait32`, `wait64` and `notify` over a wait queue that a stop can interrupt.
//!
//! Wasmtime's own waits know nothing of epochs (bytecodealliance/wasmtime #12809), so `rewrite` turns them into calls of
//! the functions here. The queue is parking_lot_core's, keyed by the host address that is waited at.
//!
//! No wake-up can be lost. A thread publishes its address ([`Slot::at_wait`]) and then parks; the park's validation, under
//! the queue's lock, compares the value and reads the gate. A stop closes the gate and then unparks every published
//! address ([`unpark`]). Either the thread reads a closed gate, or the stop sees the address, and then the queue's
//! lock orders the two: the thread is either parked, and woken, or will validate, and finds the gate closed.
//!
//! A stop need not wait until such a thread has woken, which takes longer than all the rest. A thread marks itself parked
//! ([`Slot::park`]) under the queue's lock, and takes the mark away as the first thing when it wakes ([`Slot::unpark`]),
//! whatever woke it. A stop that turns the mark into a claim ([`Slot::claim`]) before that knows that the thread runs no
//! guest code and never will: it finds the claim and leaves the guest, as [`Waited::Claimed`], without touching the
//! domain. Its store, and with that the memory, lives until it has: so the address, which is the queue's key, is nobody
//! else's before.

use crate::faults::{self, Point};
use crate::frame::Frame;
use crate::gate::Gate;
use crate::slot::Slot;
use crate::sync::atomic::Ordering;
use crate::sync::{self, Mutation, mutated};
use parking_lot_core::{DEFAULT_UNPARK_TOKEN, FilterOp, ParkResult, ParkToken, UnparkToken};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stop's unpark, as opposed to a notify's: the thread looks at the gates, and sleeps on if it was woken for nothing.
pub const STOPPED: UnparkToken = UnparkToken(1);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Another thread notified: the instruction's 0.
    Woken,
    /// The value was another: the instruction's 1.
    NotEqual,
    /// Time ran out: the instruction's 2.
    TimedOut,
    /// The domain is stopping: the thread must leave.
    Stopped,
    /// The domain has stopped, and counted this thread out: it must leave, and touch nothing of the domain.
    Claimed,
    /// The thread is a worker, and the grace of a domain that it serves is over: it must leave.
    Expired,
}

/// The value that a wait compares.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// For `wait32`.
    Word(u32),
    /// For `wait64`.
    Double(u64),
}

/// Waits at the host address `key`, which is `offset` in the guest's memory. A negative timeout is none; the unit is
/// nanoseconds. `outer` is whom the thread serves, if it is a worker.
///
/// # Safety
///
/// `key` is aligned for the expected value and lies in a shared linear memory that stays mapped meanwhile.
pub unsafe fn wait(
    gate: &Gate,
    slot: &Slot,
    outer: Option<&Frame>,
    key: usize,
    offset: u64,
    expected: Expected,
    timeout_ns: i64,
) -> Waited {
    let deadline = u64::try_from(timeout_ns)
        .ok()
        .and_then(|ns| Instant::now().checked_add(Duration::from_nanos(ns)));
    let refused = Cell::new(Waited::NotEqual);
    let expired = || outer.is_some_and(Frame::expired);
    if let Some(outer) = outer {
        if slot.rearmed.load(Ordering::Relaxed) {
            outer.publish_rearmed(false);
        }
        outer.publish_wait(key);
    }
    slot.at_wait(key, offset);
    faults::late(Point::Park);
    let validate = || {
        if !mutated(Mutation::ParkUnchecked) && gate.is_closed() {
            refused.set(Waited::Stopped);
            return false;
        }
        if expired() {
            refused.set(Waited::Expired);
            return false;
        }
        // SAFETY: the caller vouches for the address; guests access it atomically or not at all, as far as they care
        // for the result.
        let equal = unsafe {
            match expected {
                Expected::Word(value) => sync::load_u32(key) == value,
                Expected::Double(value) => sync::load_u64(key) == value,
            }
        };
        if equal {
            slot.park();
        }
        equal
    };
    let result = loop {
        // SAFETY: the closures neither panic nor call into parking_lot; the key is an address of memory that belongs to
        // this domain alone, so nobody else parks there.
        let result = unsafe {
            parking_lot_core::park(key, validate, || {}, |_, _| {}, token(slot), deadline)
        };
        faults::late(Point::Unpark);
        if !slot.unpark() {
            break None;
        }
        // The stop of a domain that this thread serves wakes it as well, and until its grace is over for nothing.
        if result != ParkResult::Unparked(STOPPED) || gate.is_closed() || expired() {
            break Some(result);
        }
    };
    if let Some(outer) = outer {
        outer.publish_wait(0);
    }
    let Some(result) = result else {
        return Waited::Claimed;
    };
    slot.wait_over();
    match result {
        _ if gate.is_closed() => Waited::Stopped,
        _ if expired() => Waited::Expired,
        ParkResult::Unparked(_) => Waited::Woken,
        ParkResult::Invalid => refused.get(),
        ParkResult::TimedOut => Waited::TimedOut,
    }
}

/// Wakes up to `count` threads that wait at the host address `key`, first come first served; answers how many.
pub fn notify(key: usize, count: u32) -> u32 {
    if count == 0 {
        return 0;
    }
    faults::late(Point::Notify);
    let mut left = count;
    // SAFETY: the closures neither panic nor call into parking_lot.
    let result = unsafe {
        parking_lot_core::unpark_filter(
            key,
            |_| {
                if left == 0 {
                    FilterOp::Stop
                } else {
                    left -= 1;
                    FilterOp::Unpark
                }
            },
            |_| DEFAULT_UNPARK_TOKEN,
        )
    };
    result.unparked_threads as u32
}

/// Wakes these threads, as far as they are parked, because their domain is stopping. They alone: an address that one of
/// them waited at may be another domain's by the time that this comes.
///
/// Preconditions: their domain's gate is closed.
pub fn unpark(slots: &[Arc<Slot>]) {
    let mut waiting: Vec<(usize, usize)> = slots
        .iter()
        .map(|slot| (slot.wait_key.load(Ordering::SeqCst), token(slot).0))
        .filter(|(key, _)| *key != 0)
        .collect();
    waiting.sort_unstable();
    for group in waiting.chunk_by(|a, b| a.0 == b.0) {
        // SAFETY: the closures neither panic nor call into parking_lot.
        unsafe {
            parking_lot_core::unpark_filter(
                group[0].0,
                |token| match group.binary_search(&(group[0].0, token.0)) {
                    Ok(_) => FilterOp::Unpark,
                    Err(_) => FilterOp::Skip,
                },
                |_| STOPPED,
            );
        }
    }
}

/// Names a parked thread in the queue: by its OS thread, since a worker's wait is to be found by its callers' slots too.
pub fn token(slot: &Slot) -> ParkToken {
    ParkToken(match slot.os() {
        Some(os) => std::ptr::from_ref(os) as usize,
        None => std::ptr::from_ref(slot) as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, AtomicUsize};

    fn wait_at(gate: &Gate, slot: &Slot, cell: &AtomicU32, value: u32, timeout: i64) -> Waited {
        // SAFETY: the cell outlives the wait.
        unsafe {
            wait(
                gate,
                slot,
                None,
                cell.as_ptr() as usize,
                0,
                Expected::Word(value),
                timeout,
            )
        }
    }

    #[test]
    fn a_wait_compares_first_and_times_out() {
        let (gate, slot, cell) = (Gate::new(), Slot::new(1, true), AtomicU32::new(7));
        assert_eq!(wait_at(&gate, &slot, &cell, 8, -1), Waited::NotEqual);
        assert_eq!(wait_at(&gate, &slot, &cell, 7, 0), Waited::TimedOut);
        assert_eq!(wait_at(&gate, &slot, &cell, 7, 1_000_000), Waited::TimedOut);
        assert_eq!(slot.wait_key.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_wait_in_a_closed_gate_never_parks() {
        let (gate, slot, cell) = (Gate::new(), Slot::new(1, true), AtomicU32::new(7));
        assert!(gate.close());
        assert_eq!(wait_at(&gate, &slot, &cell, 7, -1), Waited::Stopped);
    }

    #[test]
    fn notify_wakes_as_many_as_it_says() {
        let (gate, cell) = (Arc::new(Gate::new()), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..3)
            .map(|tid| {
                let (gate, cell) = (gate.clone(), cell.clone());
                std::thread::spawn(move || wait_at(&gate, &Slot::new(tid, false), &cell, 0, -1))
            })
            .collect();
        let key = cell.as_ptr() as usize;
        let mut woken = 0;
        while woken < 3 {
            let now = notify(key, 2);
            assert!(now <= 2);
            woken += now;
            std::thread::yield_now();
        }
        assert_eq!(notify(key, u32::MAX), 0);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Waited::Woken);
        }
    }

    /// The race of a stop with a thread on its way into the queue, over and over.
    #[test]
    fn a_stop_never_misses_a_waiter() {
        for round in 0..5000_u32 {
            let gate = Arc::new(Gate::new());
            let slot = Arc::new(Slot::new(1, true));
            let cell = Arc::new(AtomicU32::new(0));
            let ready = Arc::new(AtomicUsize::new(0));
            let waiter = {
                let (gate, slot, cell, ready) =
                    (gate.clone(), slot.clone(), cell.clone(), ready.clone());
                std::thread::spawn(move || {
                    ready.store(1, Ordering::SeqCst);
                    wait_at(&gate, &slot, &cell, 0, -1)
                })
            };
            while ready.load(Ordering::SeqCst) == 0 {
                std::hint::spin_loop();
            }
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            assert!(gate.close());
            let claimed = round % 2 == 0 && slot.claim();
            unpark(std::slice::from_ref(&slot));
            let expected = if claimed {
                Waited::Claimed
            } else {
                Waited::Stopped
            };
            assert_eq!(waiter.join().unwrap(), expected);
        }
    }

    /// A stop's wake-up is for its own threads, also where another domain's have the same address by now.
    #[test]
    fn a_stop_wakes_its_own_threads_alone() {
        let cell = Arc::new(AtomicU32::new(0));
        let (ours, theirs) = (Arc::new(Gate::new()), Arc::new(Gate::new()));
        let threads: Vec<_> = [&ours, &theirs]
            .into_iter()
            .map(|gate| {
                let (gate, cell, slot) = (gate.clone(), cell.clone(), Arc::new(Slot::new(1, true)));
                let its = slot.clone();
                let thread = std::thread::spawn(move || wait_at(&gate, &its, &cell, 0, -1));
                (slot, thread)
            })
            .collect();
        for (slot, _) in &threads {
            while !slot.is_parked() {
                std::thread::yield_now();
            }
        }
        assert!(ours.close());
        let mut threads = threads.into_iter();
        let (slot, thread) = threads.next().unwrap();
        assert!(slot.claim());
        unpark(&[slot]);
        assert_eq!(thread.join().unwrap(), Waited::Claimed);
        let (slot, thread) = threads.next().unwrap();
        assert!(slot.is_parked(), "the other domain's thread sleeps on");
        while notify(cell.as_ptr() as usize, 1) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(thread.join().unwrap(), Waited::Woken);
    }
}
