//! A model of parking_lot_core: what its documentation promises of `park` and of the ways to unpark, and nothing that its
//! implementation does besides. One lock for all queues: who is in different queues sees less of each other in the real one,
//! but the modules rely on one queue at a time only.

use loom::sync::{Condvar, Mutex, MutexGuard};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// See parking_lot_core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkToken(pub usize);

/// See parking_lot_core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnparkToken(pub usize);

/// See parking_lot_core's.
pub const DEFAULT_UNPARK_TOKEN: UnparkToken = UnparkToken(0);

/// See parking_lot_core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkResult {
    /// It was unparked.
    Unparked(UnparkToken),
    /// The validation said no.
    Invalid,
    /// The deadline passed.
    TimedOut,
}

/// See parking_lot_core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterOp {
    /// This one is unparked.
    Unpark,
    /// This one is not.
    Skip,
    /// Neither this one nor any behind it.
    Stop,
}

/// See parking_lot_core's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnparkResult {
    /// How many were unparked.
    pub unparked_threads: usize,
}

struct Sleeper {
    key: usize,
    token: ParkToken,
    id: usize,
    wakes: Arc<Condvar>,
}

#[derive(Default)]
struct Queues {
    sleepers: Vec<Sleeper>,
    /// Who was unparked and has not woken yet.
    unparked: Vec<(usize, UnparkToken)>,
    next_id: usize,
}

loom::lazy_static! {
    static ref QUEUES: Mutex<Queues> = Mutex::new(Queues::default());
}

fn queues() -> MutexGuard<'static, Queues> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queues {
    fn take_unparked(&mut self, id: usize) -> Option<UnparkToken> {
        let at = self.unparked.iter().position(|it| it.0 == id)?;
        Some(self.unparked.swap_remove(at).1)
    }

    fn unpark(&mut self, picked: Vec<Sleeper>, token: UnparkToken) {
        for sleeper in picked {
            self.unparked.push((sleeper.id, token));
            sleeper.wakes.notify_one();
        }
    }
}

/// See parking_lot_core's. A deadline passes at any moment.
///
/// # Safety
///
/// None here.
pub unsafe fn park(
    key: usize,
    validate: impl FnOnce() -> bool,
    before_sleep: impl FnOnce(),
    timed_out: impl FnOnce(usize, bool),
    token: ParkToken,
    deadline: Option<Instant>,
) -> ParkResult {
    let mut queues = queues();
    if !validate() {
        return ParkResult::Invalid;
    }
    let (id, wakes) = (queues.next_id, Arc::new(Condvar::new()));
    queues.next_id += 1;
    queues.sleepers.push(Sleeper {
        key,
        token,
        id,
        wakes: wakes.clone(),
    });
    drop(queues);
    before_sleep();
    let mut queues = self::queues();
    loop {
        if let Some(token) = queues.take_unparked(id) {
            return ParkResult::Unparked(token);
        }
        if deadline.is_some() {
            queues.sleepers.retain(|sleeper| sleeper.id != id);
            let last = queues.sleepers.iter().all(|sleeper| sleeper.key != key);
            timed_out(key, last);
            return ParkResult::TimedOut;
        }
        queues = wakes.wait(queues).unwrap_or_else(PoisonError::into_inner);
    }
}

/// See parking_lot_core's.
///
/// # Safety
///
/// None here.
pub unsafe fn unpark_filter(
    key: usize,
    mut filter: impl FnMut(ParkToken) -> FilterOp,
    callback: impl FnOnce(UnparkResult) -> UnparkToken,
) -> UnparkResult {
    let mut queues = queues();
    let (mut picked, mut at, mut stopped) = (Vec::new(), 0, false);
    while at < queues.sleepers.len() {
        let sleeper = &queues.sleepers[at];
        let op = match sleeper.key == key && !stopped {
            true => filter(sleeper.token),
            false => FilterOp::Skip,
        };
        match op {
            FilterOp::Unpark => picked.push(queues.sleepers.remove(at)),
            FilterOp::Skip => at += 1,
            FilterOp::Stop => stopped = true,
        }
    }
    let result = UnparkResult {
        unparked_threads: picked.len(),
    };
    let token = callback(result);
    queues.unpark(picked, token);
    result
}

/// See parking_lot_core's.
///
/// # Safety
///
/// None here.
pub unsafe fn unpark_one(
    key: usize,
    callback: impl FnOnce(UnparkResult) -> UnparkToken,
) -> UnparkResult {
    let mut one = false;
    // SAFETY: none is needed.
    unsafe {
        unpark_filter(
            key,
            |_| match std::mem::replace(&mut one, true) {
                false => FilterOp::Unpark,
                true => FilterOp::Stop,
            },
            callback,
        )
    }
}

/// See parking_lot_core's.
///
/// # Safety
///
/// None here.
pub unsafe fn unpark_all(key: usize, token: UnparkToken) -> usize {
    // SAFETY: none is needed.
    unsafe { unpark_filter(key, |_| FilterOp::Unpark, |_| token).unparked_threads }
}
