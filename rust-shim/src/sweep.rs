//! A second epoch for threads that may have missed the first.
//!
//! All domains of an engine share one epoch counter, so a stop of one domain sends the running threads of the others
//! through the epoch callback as well. Such a thread reads its own gate, finds it open, and Wasmtime then sets its next
//! deadline relative to the counter *as it is by then*. A stop of its domain that falls between the two moves the counter
//! too early, and the thread would run on. Wasmtime offers no way to set the deadline first there.
//!
//! So the callback marks the thread ([`Slot::rearmed`]), and anything that proves that the deadline is set (a host call, a
//! wait) takes the mark away. A stop that finds marked threads in guest code leaves its domain here, and one thread
//! per engine moves the counter once more, a little later, while such a thread is still inside. In the common case it
//! finds the domain empty and does nothing. It sleeps without a timeout while there is no such domain.
//!
//! The same thread ends the grace of stopping domains whose threads are inside grates ([`Domain::expire`]).
//!
//! [`Slot::rearmed`]: crate::slot::Slot::rearmed

use crate::clock;
use crate::domain::Domain;
use crate::engine::Wasmtime;
use crate::faults::{self, Point};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a marked thread gets before the first extra epoch, and at most between two.
const FIRST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(20);

/// The sweeper of one engine. Its thread is made when first needed.
#[derive(Debug, Default)]
pub struct Sweeper {
    shared: Arc<Shared>,
    /// Guarded by the mutex.
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Guarded by `Shared::state`.
#[derive(Debug, Default)]
struct State {
    domains: Vec<Weak<Domain>>,
    /// Stopping domains whose threads are inside grates, and when the grace of each is over.
    graces: Vec<(u64, Weak<Domain>)>,
    closing: bool,
}

impl Sweeper {
    /// Ends the grace of a stopping domain at this time: see [`Domain::expire`].
    pub fn expire_at(&self, engine: &Wasmtime, domain: &Arc<Domain>, at_ns: u64) {
        if !self.start(engine) {
            // No thread to be had: then there is no grace.
            domain.expire();
            return;
        }
        self.shared
            .state()
            .graces
            .push((at_ns, Arc::downgrade(domain)));
        self.shared.changed.notify_one();
    }

    /// Makes the thread, if it is not there; answers whether it is.
    fn start(&self, engine: &Wasmtime) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() && !faults::hit(Point::SweeperNew) {
            let (shared, engine) = (self.shared.clone(), engine.clone());
            *thread = std::thread::Builder::new()
                .name("lindshim-sweep".into())
                .stack_size(128 << 10)
                .spawn(move || shared.run(&engine))
                .ok();
        }
        thread.is_some()
    }

    /// Watches over a stopping domain until none of its marked threads is in guest code.
    pub fn watch(&self, engine: &Wasmtime, domain: &Arc<Domain>) {
        if !self.start(engine) {
            // No thread to be had: the epoch moves here and now. What remains of the race is a window of nanoseconds,
            // and each further stop on the engine moves the epoch too.
            engine.increment_epoch();
            return;
        }
        self.shared.state().domains.push(Arc::downgrade(domain));
        self.shared.changed.notify_one();
    }

    /// Ends the thread and waits for it.
    pub fn close(&self) {
        self.shared.state().closing = true;
        self.shared.changed.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Takes out the domains whose grace is over.
fn take_over(graces: &mut Vec<(u64, Weak<Domain>)>, now: u64) -> Vec<Weak<Domain>> {
    let mut over = Vec::new();
    graces.retain(|(at, domain)| {
        if *at <= now {
            over.push(domain.clone());
        }
        *at > now
    });
    over
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, engine: &Wasmtime) {
        let mut state = self.state();
        let mut pause = FIRST;
        while !state.closing {
            let now = clock::now_ns();
            let over = take_over(&mut state.graces, now);
            if !over.is_empty() {
                drop(state);
                faults::late(Point::Expire);
                let over: Vec<_> = over.iter().filter_map(Weak::upgrade).collect();
                for domain in &over {
                    domain.expire();
                }
                state = self.state();
                // A worker that was just on its way through the epoch's callback may have missed it.
                state.domains.extend(over.iter().map(Arc::downgrade));
                continue;
            }
            let next = state.graces.iter().map(|(at, _)| at - now).min();
            if state.domains.is_empty() {
                pause = FIRST;
                state = match next.map(Duration::from_nanos) {
                    None => self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner),
                    Some(next) => {
                        self.changed
                            .wait_timeout(state, next)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                    }
                };
                continue;
            }
            let timeout = next.map_or(pause, |next| pause.min(Duration::from_nanos(next)));
            (state, _) = self
                .changed
                .wait_timeout(state, timeout)
                .unwrap_or_else(PoisonError::into_inner);
            state.domains.retain(|domain| {
                domain
                    .upgrade()
                    .is_some_and(|domain| domain.may_have_missed())
            });
            if !state.domains.is_empty() {
                engine.increment_epoch();
                pause = (pause * 2).min(LONGEST);
            }
        }
    }
}
