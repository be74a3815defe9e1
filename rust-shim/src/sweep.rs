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
//! [`Slot::rearmed`]: crate::slot::Slot::rearmed

use crate::domain::Domain;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
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
    closing: bool,
}

impl Sweeper {
    /// Watches over a stopping domain until none of its marked threads is in guest code.
    pub fn watch(&self, engine: &wasmtime::Engine, domain: &Arc<Domain>) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (shared, engine) = (self.shared.clone(), engine.clone());
            *thread = std::thread::Builder::new()
                .name("lindshim-sweep".into())
                .stack_size(128 << 10)
                .spawn(move || shared.run(&engine))
                .ok();
        }
        let made = thread.is_some();
        drop(thread);
        if !made {
            // No thread to be had: the epoch moves here and now. What remains of the race is a window of nanoseconds,
            // and each further stop on the engine moves the epoch too.
            engine.increment_epoch();
            return;
        }
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.domains.push(Arc::downgrade(domain));
        self.shared.changed.notify_one();
    }

    /// Ends the thread and waits for it.
    pub fn close(&self) {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closing = true;
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

impl Shared {
    fn run(&self, engine: &wasmtime::Engine) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pause = FIRST;
        while !state.closing {
            if state.domains.is_empty() {
                pause = FIRST;
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, pause)
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
