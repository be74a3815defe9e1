//! The gate of a domain: one atomic word that counts what is inside and says whether anything more may enter.
//!
//! It is closed once and for good. After that nobody enters, and whoever brings the count to zero learns so, exactly one
//! of them: the caller of [`Gate::leave`] that got `true`.

use std::sync::atomic::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;

/// The gate. Its word is the count of those inside, with the top bit set once it is closed.
#[derive(Debug, Default)]
pub struct Gate(AtomicU64);

impl Gate {
    /// An open gate with nobody inside.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the caller in, unless the gate is closed. A caller that was let in calls [`Gate::leave`] once.
    #[must_use]
    pub fn enter(&self) -> bool {
        // Not fetch_add: an entrant that adds one and takes it back after the close could be the one that brings the
        // count to zero, unseen.
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                (word & CLOSED == 0).then_some(word + 1)
            })
            .is_ok()
    }

    /// Closes the gate and counts the caller in, so that it cannot be empty before the caller has interrupted what is
    /// inside; the caller then leaves like everybody else. `false` if it was closed already: then the caller is not
    /// counted.
    #[must_use]
    pub fn close(&self) -> bool {
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                (word & CLOSED == 0).then_some((word + 1) | CLOSED)
            })
            .is_ok()
    }

    /// Counts the caller out. `true` for exactly one caller: the one that left a closed gate's domain empty.
    #[must_use]
    pub fn leave(&self) -> bool {
        let before = self.0.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before & !CLOSED != 0, "left a gate without entering it");
        before == CLOSED | 1
    }

    /// Whether the gate is closed. Sequentially consistent with the epoch, the wait queue's publication and the cancel
    /// token: see the module `thread` for the order that each relies on.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Whether the gate is closed and nothing is inside.
    pub fn is_drained(&self) -> bool {
        self.0.load(Ordering::SeqCst) == CLOSED
    }

    /// How many are inside.
    pub fn inside(&self) -> u64 {
        self.0.load(Ordering::SeqCst) & !CLOSED
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
}
