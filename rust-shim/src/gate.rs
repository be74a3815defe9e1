//! The gate of a domain: one atomic word that counts what is inside and says whether anything more may enter.
//!
//! It is closed once and for good. After that nobody enters, and whoever brings the count to zero learns so, exactly one
//! of them: the caller of [`Gate::leave`] that got `true`.
//!
//! A caller of a grate comes to the grate's gate from outside, with nothing that keeps the domain alive. So the word lies
//! in a [`Hinge`], memory that is used again for other gates but never given back, and has the gate's generation in it:
//! whoever enters through the hinge compares open, generation and count in one step.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutation, Mutex, PoisonError, mutated, process};

const CLOSED: u64 = 1 << 63;
const GENERATION: u64 = (CLOSED - 1) & !COUNT;
const COUNT: u64 = (1 << GENERATION_SHIFT) - 1;
const GENERATION_SHIFT: u32 = 32;

/// Where a gate's word lies. On a cache line of its own, since all that enter and leave a domain write it.
#[derive(Debug)]
#[repr(align(64))]
pub struct Hinge(AtomicU64);

impl Hinge {
    /// Enters the gate of this generation, if it is this hinge's and open: see [`Gate::enter`].
    #[must_use]
    #[inline]
    pub fn enter(&self, generation: u64) -> bool {
        if mutated(Mutation::EnterAdds) {
            let word = self.0.fetch_add(1, Ordering::SeqCst);
            let open = word & !COUNT == generation;
            if !open {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
            return open;
        }
        // Not fetch_add: an entrant that adds one and takes it back after the close could be the one that brings the
        // count to zero, unseen.
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                let any = mutated(Mutation::EnterAnyGeneration) && word & CLOSED == 0;
                (word & !COUNT == generation || any).then_some(word + 1)
            })
            .is_ok()
    }

    /// Leaves the gate that was entered: see [`Gate::leave`].
    #[must_use]
    #[inline]
    pub fn leave(&self) -> bool {
        let before = self.0.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before & COUNT != 0, "left a gate without entering it");
        before & !GENERATION == CLOSED | 1
    }
}

process! {
    /// Hinges that no gate uses. Guarded by the mutex.
    static UNUSED: Mutex<Vec<&'static Hinge>> = Mutex::new(Vec::new());
}

/// How many hinges are made at a time.
const BATCH: usize = if cfg!(loom) { 1 } else { 64 };

/// The gate. Its word is the count of those inside and its generation, with the top bit set once it is closed.
#[derive(Debug)]
pub struct Gate {
    hinge: &'static Hinge,
    generation: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// An open gate with nobody inside.
    pub fn new() -> Self {
        let mut unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
        let hinge = unused.pop().unwrap_or_else(|| {
            let made: Vec<_> = (0..BATCH).map(|_| Hinge(AtomicU64::new(CLOSED))).collect();
            let made: &'static [Hinge] = made.leak();
            unused.extend(&made[1..]);
            &made[0]
        });
        drop(unused);
        let generation = (hinge.0.load(Ordering::Relaxed) & GENERATION) + (1 << GENERATION_SHIFT);
        hinge.0.store(generation, Ordering::SeqCst);
        Gate { hinge, generation }
    }

    /// The gate's hinge and generation, for those who come from outside.
    pub fn hinge(&self) -> (&'static Hinge, u64) {
        (self.hinge, self.generation)
    }

    /// Counts the caller in, unless the gate is closed. A caller that was let in calls [`Gate::leave`] once.
    #[must_use]
    pub fn enter(&self) -> bool {
        self.hinge.enter(self.generation)
    }

    /// Closes the gate and counts the caller in, so that it cannot be empty before the caller has interrupted what is
    /// inside; the caller then leaves like everybody else. `false` if it was closed already: then the caller is not
    /// counted.
    #[must_use]
    pub fn close(&self) -> bool {
        self.hinge
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                let counted = u64::from(!mutated(Mutation::CloseUncounted));
                (word & CLOSED == 0).then_some((word + counted) | CLOSED)
            })
            .is_ok()
    }

    /// Counts the caller out. `true` for exactly one caller: the one that left a closed gate's domain empty.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.hinge.leave()
    }

    fn word(&self) -> u64 {
        self.hinge.0.load(Ordering::SeqCst)
    }

    /// Whether the gate is closed. Sequentially consistent with the epoch, the wait queue's publication and the cancel
    /// token: see the module `thread` for the order that each relies on.
    #[inline]
    pub fn is_closed(&self) -> bool {
        if mutated(Mutation::GateRelaxed) {
            return self.hinge.0.load(Ordering::Relaxed) & CLOSED != 0;
        }
        self.word() & CLOSED != 0
    }

    /// Whether the gate is closed and nothing is inside.
    pub fn is_drained(&self) -> bool {
        self.word() & !GENERATION == CLOSED
    }

    /// How many are inside.
    pub fn inside(&self) -> u64 {
        self.word() & COUNT
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.hinge
            .0
            .store(CLOSED | self.generation, Ordering::SeqCst);
        // A hinge whose generations are used up is never used again.
        if self.generation != GENERATION {
            UNUSED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.hinge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn nobody_enters_a_closed_gate() {
        let gate = Gate::new();
        assert!(gate.enter());
        assert!(gate.close());
        assert!(!gate.enter());
        assert!(!gate.close(), "the second close is told that it is one");
        assert!(!gate.leave());
        assert!(gate.leave());
        assert!(gate.is_drained());
    }

    #[test]
    fn the_closer_of_an_empty_gate_is_the_last_to_leave() {
        let gate = Gate::new();
        assert!(gate.close());
        assert!(!gate.is_drained());
        assert!(gate.leave());
    }

    #[test]
    fn exactly_one_learns_that_the_gate_is_drained() {
        for _ in 0..2000 {
            let gate = Arc::new(Gate::new());
            let last = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..4)
                .map(|i| {
                    let (gate, last) = (gate.clone(), last.clone());
                    std::thread::spawn(move || {
                        let inside = if i == 0 { gate.close() } else { gate.enter() };
                        if inside && gate.leave() {
                            last.fetch_add(1, Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(last.load(Ordering::SeqCst), 1);
            assert!(gate.is_drained());
        }
    }

    #[test]
    fn a_gate_that_is_gone_lets_nobody_into_the_next() {
        let gate = Gate::new();
        let (hinge, generation) = gate.hinge();
        assert!(hinge.enter(generation));
        assert!(!gate.leave());
        drop(gate);
        assert!(!hinge.enter(generation));
        // Its hinge is used again some time, under another generation.
        let next: Vec<_> = (0..2 * BATCH).map(|_| Gate::new()).collect();
        assert!(!hinge.enter(generation));
        assert!(next.iter().all(|gate| gate.inside() == 0));
    }
}
