//! The gate: nobody enters once it is closed, exactly one learns that it is drained, and what comes from outside never
//! enters the gate that has the hinge next.

use lindshim_loom::gate::Gate;
use lindshim_loom::mutation::Mutation;
use lindshim_loom::{check, finds};
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// What the model knows, beside the code's own memory.
#[derive(Default)]
struct Seen {
    closed: AtomicBool,
    last: AtomicUsize,
}

fn passes(gate: &Gate, seen: &Seen) {
    let was_closed = seen.closed.load(SeqCst);
    if !gate.enter() {
        return;
    }
    assert!(!was_closed, "entered a closed gate");
    assert_eq!(seen.last.load(SeqCst), 0, "inside of what is drained");
    if gate.leave() {
        seen.last.fetch_add(1, SeqCst);
    }
}

#[test]
fn exactly_one_learns() {
    check(4, || {
        let (gate, seen) = (Arc::new(Gate::new()), Arc::new(Seen::default()));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (gate, seen) = (gate.clone(), seen.clone());
                thread::spawn(move || passes(&gate, &seen))
            })
            .collect();
        assert!(gate.close());
        seen.closed.store(true, SeqCst);
        assert_eq!(
            seen.last.load(SeqCst),
            0,
            "drained, but the closer is inside"
        );
        if gate.leave() {
            seen.last.fetch_add(1, SeqCst);
        }
        threads.into_iter().for_each(|it| it.join().unwrap());
        assert_eq!(seen.last.load(SeqCst), 1);
        assert!(gate.is_drained());
    });
}

/// Two that close: one is told that it did, and that one is counted.
#[test]
fn one_closes() {
    check(4, || {
        let (gate, last) = (Arc::new(Gate::new()), Arc::new(AtomicUsize::new(0)));
        let close = move |gate: &Gate, last: &AtomicUsize| {
            let closes = gate.close();
            if closes && gate.leave() {
                last.fetch_add(1, SeqCst);
            }
            assert!(gate.is_closed());
            closes
        };
        let other = {
            let (gate, last) = (gate.clone(), last.clone());
            thread::spawn(move || close(&gate, &last))
        };
        let ours = close(&gate, &last);
        assert_ne!(ours, other.join().unwrap());
        assert_eq!(last.load(SeqCst), 1);
    });
}

/// A caller with an old number, and a hinge that the next gate has.
#[test]
fn a_hinge_outlives_its_gate() {
    check(4, || {
        let gate = Gate::new();
        let (hinge, generation) = gate.hinge();
        let gone = Arc::new(AtomicBool::new(false));
        let caller = {
            let gone = gone.clone();
            thread::spawn(move || {
                if !hinge.enter(generation) {
                    return false;
                }
                assert!(!gone.load(SeqCst), "entered the next gate");
                hinge.leave()
            })
        };
        assert!(gate.close());
        if gate.leave() {
            gone.store(true, SeqCst);
            drop(gate);
            let next = Gate::new();
            assert!(next.enter());
            assert_eq!(next.inside(), 1);
            assert!(!caller.join().unwrap());
            assert!(!next.leave());
            assert_eq!(next.inside(), 0);
        } else {
            assert!(caller.join().unwrap(), "the caller left last");
        }
    });
}

#[test]
fn loom_finds_what_is_wrong_with_a_gate() {
    finds(Mutation::EnterAdds, "exactly_one_learns");
    finds(Mutation::CloseUncounted, "exactly_one_learns");
    finds(Mutation::EnterAnyGeneration, "a_hinge_outlives_its_gate");
}
