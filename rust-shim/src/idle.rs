//! The idle workers of a grate, and the callers that wait for one.
//!
//! Idle workers are bits of a mask. Who takes a bit owns the worker. Callers that find none sleep in the queue of
//! parking_lot_core, with this object's address as the key. Whoever gives a worker back puts the bit into the mask, and
//! then looks whether anybody waits; who waits says so, and then looks at the mask, under the queue's lock. A worker is
//! handed to the first in the queue, so that callers are served in their order.

use crate::faults::{self, Point};
use crate::frame::OsThread;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutation, mutated};
use crate::waits::STOPPED;
use parking_lot_core::{DEFAULT_UNPARK_TOKEN, ParkResult, ParkToken, UnparkToken};

/// From here on a wake-up hands over the worker in this place.
const HANDED: usize = 2;

/// The place of the worker that a wake-up hands over, if it does.
pub fn handed(token: UnparkToken) -> Option<u32> {
    token.0.checked_sub(HANDED).map(|place| place as u32)
}

/// See the module. It stays where it is while anybody waits.
#[derive(Debug)]
pub struct Idle {
    /// A bit for each place whose worker is idle.
    words: Box<[AtomicU64]>,
    /// How many callers wait for a worker, or are about to.
    waiting: AtomicU32,
    /// How many places there are without a worker.
    unmade: AtomicU32,
}

impl Idle {
    /// No worker, and so many places for one.
    pub fn new(places: u32) -> Self {
        Idle {
            words: (0..places.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            waiting: AtomicU32::new(0),
            unmade: AtomicU32::new(places),
        }
    }

    /// The address that callers wait at.
    pub fn key(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Wakes all that wait for a worker: the gate is closed.
    pub fn close(&self) {
        // SAFETY: nothing is called back.
        unsafe { parking_lot_core::unpark_all(self.key(), STOPPED) };
    }

    /// Takes an idle worker's place, if there is one; the one that this thread had last rather than another, since that
    /// worker's memory is near.
    #[inline]
    pub fn pop(&self, os: &OsThread) -> Option<u32> {
        let last = os.last_place();
        if let Some(idle) = self.words.get(last as usize / 64) {
            let (word, bit) = (idle.load(Ordering::Relaxed), 1 << (last % 64));
            if word & bit != 0 && swap(idle, word, word & !bit).is_ok() {
                return Some(last);
            }
        }
        self.pop_any(os)
    }

    fn pop_any(&self, os: &OsThread) -> Option<u32> {
        for (k, idle) in self.words.iter().enumerate() {
            let mut word = idle.load(Ordering::Relaxed);
            while word != 0 {
                let bit = word.trailing_zeros();
                match swap(idle, word, word & !(1 << bit)) {
                    Ok(_) => {
                        let place = k as u32 * 64 + bit;
                        os.set_last_place(place);
                        return Some(place);
                    }
                    Err(now) => word = now,
                }
            }
        }
        None
    }

    fn has_idle(&self) -> bool {
        self.words
            .iter()
            .any(|word| word.load(Ordering::SeqCst) != 0)
    }

    #[inline]
    fn set(&self, place: u32) {
        self.words[place as usize / 64].fetch_or(1 << (place % 64), Ordering::SeqCst);
    }

    #[inline]
    fn has_waiting(&self) -> bool {
        let order = match mutated(Mutation::WaitingRelaxed) {
            false => Ordering::SeqCst,
            true => Ordering::Relaxed,
        };
        self.waiting.load(order) != 0
    }

    /// The worker in this place is idle, or goes to whoever waits for one.
    #[inline]
    pub fn put_back(&self, place: u32) {
        let early = mutated(Mutation::HandOverEarly) && !self.has_waiting();
        self.set(place);
        faults::late(Point::WorkerHandOver);
        if !early && self.has_waiting() {
            self.hand_over();
        }
    }

    /// Hands an idle worker to the first that waits.
    #[cold]
    fn hand_over(&self) {
        let Some(place) = self.pop(OsThread::current()) else {
            return; // somebody was quicker, and hands it over in turn
        };
        let mut left = false;
        // SAFETY: the callback neither panics nor calls into parking_lot.
        unsafe {
            parking_lot_core::unpark_one(self.key(), |result| {
                if result.unparked_threads == 0 {
                    left = true;
                    if !mutated(Mutation::HandOverUnlocked) {
                        // Under the queue's lock: who comes to wait sees the bit, or was unparked.
                        self.set(place);
                    }
                    return DEFAULT_UNPARK_TOKEN;
                }
                UnparkToken(HANDED + place as usize)
            });
        }
        if left && mutated(Mutation::HandOverUnlocked) {
            self.set(place);
        }
    }

    /// There is a place for a new worker: the first that waits looks for itself.
    #[cold]
    pub fn wake_one(&self) {
        // SAFETY: the callback neither panics nor calls into parking_lot.
        unsafe { parking_lot_core::unpark_one(self.key(), |_| DEFAULT_UNPARK_TOKEN) };
    }

    /// Whether there is a place without a worker.
    pub fn has_unmade(&self) -> bool {
        self.unmade.load(Ordering::SeqCst) != 0
    }

    /// A place without a worker was taken, to make one.
    pub fn take_unmade(&self) {
        self.unmade.fetch_sub(1, Ordering::SeqCst);
    }

    /// A place is without a worker.
    pub fn vacate(&self) {
        self.unmade.fetch_add(1, Ordering::SeqCst);
        if self.has_waiting() {
            self.wake_one();
        }
    }

    /// Sleeps until there is a worker, or a place for one, or somebody wakes this caller, whose name is `name`. Under the
    /// queue's lock `refuse` says whether it is not to sleep after all, and `parked` is called if it does.
    pub fn wait(
        &self,
        name: ParkToken,
        refuse: impl Fn() -> bool,
        parked: impl Fn(),
    ) -> ParkResult {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        faults::late(Point::WorkerWait);
        let validate = || {
            let unchecked = mutated(Mutation::WaitUnchecked);
            if !unchecked && (self.has_idle() || self.has_unmade()) || refuse() {
                return false;
            }
            parked();
            true
        };
        // SAFETY: the closures neither panic nor call into parking_lot; nobody else parks at this object's address.
        let result =
            unsafe { parking_lot_core::park(self.key(), validate, || {}, |_, _| {}, name, None) };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

fn swap(word: &AtomicU64, from: u64, to: u64) -> Result<u64, u64> {
    word.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed)
}
