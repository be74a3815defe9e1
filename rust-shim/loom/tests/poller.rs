//! A wait for descriptors and a stop: as in `Poller::wait`, over the real gate and slot; the wake token is a flag.

use lindshim_loom::gate::Gate;
use lindshim_loom::mutation::Mutation;
use lindshim_loom::slot::Slot;
use lindshim_loom::{check, finds};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Readable once it was fired, for good.
struct Token(Mutex<bool>, Condvar);

impl Token {
    fn fire(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn sleep(&self) {
        let mut fired = self.0.lock().unwrap();
        while !*fired {
            fired = self.1.wait(fired).unwrap();
        }
    }
}

struct Case {
    gate: Gate,
    slot: Slot,
    wake: Token,
    quiescent: AtomicUsize,
}

#[test]
fn a_sleeper_is_stopped() {
    check(4, || {
        let case = Arc::new(Case {
            gate: Gate::new(),
            slot: Slot::new(1, true),
            wake: Token(Mutex::new(false), Condvar::new()),
            quiescent: AtomicUsize::new(0),
        });
        assert!(case.gate.enter());
        let sleeper = {
            let case = case.clone();
            thread::spawn(move || {
                case.slot.park();
                if !case.gate.is_closed() {
                    case.wake.sleep();
                }
                if !case.slot.unpark() {
                    return;
                }
                assert!(case.gate.is_closed(), "what it waits for never comes");
                if case.slot.depart() && case.gate.leave() {
                    case.quiescent.fetch_add(1, SeqCst);
                }
            })
        };
        assert!(case.gate.close());
        let claimed = case.slot.claim();
        if claimed {
            assert!(!case.gate.leave());
        }
        if case.gate.leave() {
            case.quiescent.fetch_add(1, SeqCst);
        }
        if claimed {
            case.wake.fire();
        }
        sleeper.join().unwrap();
        assert_eq!(case.quiescent.load(SeqCst), 1);
    });
}

#[test]
fn loom_finds_what_is_wrong_with_a_sleeper() {
    finds(Mutation::GateRelaxed, "a_sleeper_is_stopped");
    finds(Mutation::UnparkUnchecked, "a_sleeper_is_stopped");
    finds(Mutation::ClaimUnchecked, "a_sleeper_is_stopped");
}
