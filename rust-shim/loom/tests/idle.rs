//! The idle workers of a grate: a worker has one caller at a time, and no caller sleeps while a worker is idle or after the
//! grate has stopped.

use lindshim_loom::frame::OsThread;
use lindshim_loom::gate::Gate;
use lindshim_loom::idle::{Idle, handed};
use lindshim_loom::mutation::Mutation;
use lindshim_loom::{ParkResult, ParkToken, check, finds, rejects};
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

struct Grate {
    gate: Gate,
    idle: Idle,
    /// Whether the one worker serves.
    serves: AtomicBool,
}

impl Grate {
    /// One worker, which serves already.
    fn new() -> Arc<Self> {
        let idle = Idle::new(1);
        idle.take_unmade();
        Arc::new(Grate {
            gate: Gate::new(),
            idle,
            serves: AtomicBool::new(true),
        })
    }

    /// A caller, as in `Grate::acquire_slowly`: the worker's place, or none because the grate has stopped.
    fn acquire(&self, name: usize) -> Option<u32> {
        let os = OsThread::current();
        loop {
            if let Some(place) = self.idle.pop(os) {
                return Some(place);
            }
            let result = self
                .idle
                .wait(ParkToken(name), || self.gate.is_closed(), || {});
            if let ParkResult::Unparked(token) = result
                && let Some(place) = handed(token)
            {
                return Some(place);
            }
            if self.gate.is_closed() {
                return None;
            }
        }
    }

    fn call(&self, name: usize) {
        if let Some(place) = self.acquire(name) {
            assert!(!self.serves.swap(true, SeqCst), "it serves another");
            self.give_back(place);
        }
    }

    fn give_back(&self, place: u32) {
        self.serves.store(false, SeqCst);
        self.idle.put_back(place);
    }
}

#[test]
fn one_caller_waits() {
    check(4, || {
        let grate = Grate::new();
        let caller = {
            let grate = grate.clone();
            thread::spawn(move || grate.call(1))
        };
        grate.give_back(0);
        caller.join().unwrap();
        assert_eq!(grate.idle.pop(OsThread::current()), Some(0));
    });
}

#[test]
fn two_callers_wait() {
    check(3, || {
        let grate = Grate::new();
        let callers: Vec<_> = (1..3)
            .map(|name| {
                let grate = grate.clone();
                thread::spawn(move || grate.call(name))
            })
            .collect();
        grate.give_back(0);
        callers.into_iter().for_each(|it| it.join().unwrap());
        assert_eq!(grate.idle.pop(OsThread::current()), Some(0));
    });
}

/// The worker never comes back: the stop wakes who waits for it.
#[test]
fn a_caller_waits_and_the_grate_stops() {
    check(4, || {
        stops(true);
    });
}

#[test]
#[ignore = "wrong, for loom to find"]
fn a_stop_wakes_before_it_closes() {
    check(4, || {
        stops(false);
    });
}

fn stops(in_order: bool) {
    let grate = Grate::new();
    let caller = {
        let grate = grate.clone();
        thread::spawn(move || assert_eq!(grate.acquire(1), None))
    };
    if !in_order {
        grate.idle.close();
    }
    assert!(grate.gate.close());
    if in_order {
        grate.idle.close();
    }
    caller.join().unwrap();
}

/// The worker is done for: the first that waits makes the next.
#[test]
fn a_caller_waits_and_the_worker_goes() {
    check(4, || {
        let grate = Grate::new();
        let caller = {
            let grate = grate.clone();
            thread::spawn(move || {
                while !grate.idle.has_unmade() {
                    grate.idle.wait(ParkToken(1), || false, || {});
                }
                grate.idle.take_unmade();
            })
        };
        grate.idle.vacate();
        caller.join().unwrap();
        assert!(!grate.idle.has_unmade());
    });
}

#[test]
fn loom_finds_what_is_wrong_with_the_queue_of_callers() {
    finds(Mutation::HandOverEarly, "one_caller_waits");
    finds(Mutation::WaitUnchecked, "one_caller_waits");
    finds(Mutation::WaitingRelaxed, "one_caller_waits");
    finds(Mutation::HandOverUnlocked, "two_callers_wait");
    rejects("nothing", "a_stop_wakes_before_it_closes");
}
