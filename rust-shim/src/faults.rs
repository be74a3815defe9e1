//! Failure points: places where a build with the feature `faults` can be told to fail or to be late. In any other build
//! a point is nothing at all.
//!
//! Each point is placed once, and what it does is what the system or the scheduler could do there on a bad day: an
//! operation fails that may fail, or the thread is held up where it could be preempted. No point is placed where the thread
//! holds a lock, if it can only be late. A delay is bounded ([`MAX_SLEEP`]), so that everything that ends without faults
//! ends with them.
//!
//! The points are the process's, not an engine's.

use crate::error::{Error, Result, Status};
use std::time::Duration;

#[cfg(any(feature = "faults", test))]
mod program;

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $point:ident $name:literal $kind:ident,)+) => {
        /// A failure point.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[doc = $doc])+ $point,)+
        }

        /// All points, in the order of [`Point`].
        pub const POINTS: &[Entry] = &[$(Entry {
            point: Point::$point,
            name: $name,
            fails: matches!(Kind::$kind, Kind::Fails),
        },)+];
    };
}

/// What a point can be told.
#[allow(dead_code, reason = "named by the table alone")]
enum Kind {
    /// To fail, or to be late.
    Fails,
    /// To be late.
    Late,
}

/// A point, and what there is to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The point.
    pub point: Point,
    /// Its name.
    pub name: &'static str,
    /// Whether it can fail. Every point can be late.
    pub fails: bool,
}

points! {
    /// Wasmtime makes no engine.
    EngineNew "engine-new" Fails,
    /// A module does not compile.
    Compile "compile" Fails,
    /// A shared memory cannot be reserved.
    MemoryNew "memory-new" Fails,
    /// A memory that is not shared cannot grow.
    MemoryGrow "memory-grow" Fails,
    /// An instance of a thread cannot be made.
    Instantiate "instantiate" Fails,
    /// The system makes no thread for a guest thread.
    ThreadNew "thread-new" Fails,
    /// There is no memory for a thread's signal stack.
    SignalStack "signal-stack" Fails,
    /// A thread of the host's has too little stack for a guest.
    HostStack "host-stack" Fails,
    /// The system makes no timer for the waker.
    WakerTimer "waker-timer" Fails,
    /// The system makes no thread for the waker.
    WakerNew "waker-new" Fails,
    /// The system makes no thread for the sweeper.
    SweeperNew "sweeper-new" Fails,
    /// An instance of a worker cannot be made.
    WorkerNew "worker-new" Fails,
    /// A grate's memory cannot grow for a worker's stack.
    WorkerStack "worker-stack" Fails,
    /// There is no port for a grate.
    PortNew "port-new" Fails,
    /// There is no eventfd for a domain's cancel token.
    CancelToken "cancel-token" Fails,
    /// There is no eventfd for a domain's wake token.
    WakeToken "wake-token" Fails,
    /// There is no eventfd to interrupt a worker's host call with.
    InterruptToken "interrupt-token" Fails,
    /// There is no epoll set for a thread.
    PollerNew "poller-new" Fails,
    /// A descriptor cannot be added to an epoll set.
    PollerAdd "poller-add" Fails,

    /// A new thread is in its domain's list, and its job not yet with the pool.
    ThreadSpawn "thread-spawn" Late,
    /// A thread of the host's is to run a guest thread, and has not taken it yet.
    ThreadRun "thread-run" Late,
    /// A thread was counted in, and has done nothing yet.
    ThreadBegin "thread-begin" Late,
    /// A thread has its epoch deadline, and has not read the gate yet.
    EpochDeadline "epoch-deadline" Late,
    /// A thread has come back from a host call, and has not read the gate yet.
    HostReturn "host-return" Late,
    /// A thread has found its domain stopping, and is not counted out yet.
    Depart "depart" Late,
    /// A thread has ended, and is not counted out yet.
    ThreadLeave "thread-leave" Late,
    /// A thread was counted out, and is not with the pool yet.
    ThreadIdle "thread-idle" Late,
    /// A stop has closed the gate, and has not moved the epoch yet.
    StopEpoch "stop-epoch" Late,
    /// A stop has moved the epoch, and claimed nobody yet.
    StopClaim "stop-claim" Late,
    /// A stop has claimed who sleeps, and unparked nobody yet.
    StopUnpark "stop-unpark" Late,
    /// A stop is through, and not counted out yet.
    StopLeave "stop-leave" Late,
    /// The last has left, and the host was not told yet.
    Quiescent "quiescent" Late,
    /// The waker is to wake claimed threads.
    Wake "wake" Late,
    /// The sweeper is to end a grace.
    Expire "expire" Late,
    /// A guest notifies, and nobody is woken yet.
    Notify "notify" Late,
    /// A guest has published its wait, and is not in the queue yet.
    Park "park" Late,
    /// A guest has woken, and has not said so yet.
    Unpark "unpark" Late,
    /// A thread is parked in its poller, and has not read the gate yet.
    PollerPark "poller-park" Late,
    /// A thread has woken in its poller, and has not said so yet.
    PollerWake "poller-wake" Late,
    /// A caller was counted in at a grate's gate, and has not read its own yet.
    GrateEnter "grate-enter" Late,
    /// A worker has answered, and is not given back yet.
    GrateReturn "grate-return" Late,
    /// A worker was given back, and not handed on yet.
    WorkerHandOver "worker-hand-over" Late,
    /// A caller has said that it waits for a worker, and is not in the queue yet.
    WorkerWait "worker-wait" Late,
    /// A domain is to be deleted, and nothing of it is released yet.
    Delete "delete" Late,
}

/// The longest delay of one point.
pub const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Whether this build has failure points.
pub const BUILT: bool = cfg!(feature = "faults");

/// Passes a point: it may take a while. Whether the operation there is to fail.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn hit(_point: Point) -> bool {
    false
}

/// Passes a point where nothing can fail.
#[inline(always)]
pub fn late(point: Point) {
    let _ = hit(point);
}

/// Passes a point before an operation of Wasmtime's.
#[inline(always)]
pub fn check(point: Point) -> wasmtime::Result<()> {
    match hit(point) {
        false => Ok(()),
        true => Err(wasmtime::format_err!(
            "injected fault {}",
            POINTS[point as usize].name
        )),
    }
}

/// Passes a point before a system call, which is to fail with this errno if it is to fail: what is meant to fail, then, is
/// to be left out. `true`: it is, and errno is set.
#[inline(always)]
pub fn check_os(point: Point, errno: i32) -> bool {
    let fails = hit(point);
    if fails {
        // SAFETY: the calling thread's own errno.
        unsafe { *libc::__errno_location() = errno };
    }
    fails
}

/// Tells the point with this name what to do from here on: see `lindshim_fault_set`.
#[cfg(not(feature = "faults"))]
pub fn set(_name: &str, _actions: &str) -> Result<()> {
    Err(Error::new(
        Status::Unsupported,
        "this shim was built without faults: use the one that `make shim-faults` builds",
    ))
}

/// How often a point has failed or been late since the process began.
#[cfg(not(feature = "faults"))]
pub fn fired(_point: Point) -> u64 {
    0
}

#[cfg(feature = "faults")]
pub use armed::{fired, hit, set};

#[cfg(feature = "faults")]
mod armed {
    use super::program::{Action, Program};
    use super::{Error, POINTS, Point, Result, Status};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError};

    /// One point's.
    struct State {
        /// Whether there is a program: a point that was told nothing takes no lock.
        armed: AtomicBool,
        fired: AtomicU64,
        /// Guarded by the mutex.
        program: Mutex<Option<Program>>,
    }

    static STATES: [State; POINTS.len()] = [const {
        State {
            armed: AtomicBool::new(false),
            fired: AtomicU64::new(0),
            program: Mutex::new(None),
        }
    }; POINTS.len()];

    /// Passes a point: it may take a while. Whether the operation there is to fail.
    #[inline]
    pub fn hit(point: Point) -> bool {
        let state = &STATES[point as usize];
        state.armed.load(Ordering::Acquire) && act(state)
    }

    #[cold]
    fn act(state: &State) -> bool {
        let mut program = state.program.lock().unwrap_or_else(PoisonError::into_inner);
        let action = program.as_mut().map_or(Action::Off, Program::next);
        drop(program);
        if action != Action::Off {
            state.fired.fetch_add(1, Ordering::SeqCst);
        }
        match action {
            Action::Off => false,
            Action::Fail => true,
            Action::Yield => {
                std::thread::yield_now();
                false
            }
            Action::Sleep(time) => {
                std::thread::sleep(time);
                false
            }
        }
    }

    /// Tells the point with this name what to do from here on: see `lindshim_fault_set`.
    pub fn set(name: &str, actions: &str) -> Result<()> {
        let invalid = |message| Err(Error::new(Status::Invalid, message));
        if name == "*" {
            if !matches!(actions.trim(), "" | "off") {
                return invalid(format!(
                    "all points at once can be told \"off\", not {actions:?}"
                ));
            }
            POINTS.iter().for_each(|fault| arm(fault.point, None));
            return Ok(());
        }
        let Some(fault) = POINTS.iter().find(|fault| fault.name == name) else {
            let names: Vec<_> = POINTS.iter().map(|fault| fault.name).collect();
            let names = names.join(", ");
            return invalid(format!(
                "there is no failure point {name:?}; there are {names}"
            ));
        };
        let program = match Program::parse(actions) {
            Ok(program) => program,
            Err(why) => {
                return invalid(format!(
                    "failure point {name}: {why}; actions are [seed=N;] and then [P%][N*]action, joined by ->, of the \
                     actions off, fail, yield, sleep(Nus) and sleep(Nms)"
                ));
            }
        };
        if program.does(Action::Fail) && !fault.fails {
            return invalid(format!(
                "failure point {name} cannot fail, only be late: sleep or yield"
            ));
        }
        arm(fault.point, Some(program));
        Ok(())
    }

    fn arm(point: Point, program: Option<Program>) {
        let state = &STATES[point as usize];
        let mut now = state.program.lock().unwrap_or_else(PoisonError::into_inner);
        let acts = program.as_ref().is_some_and(Program::acts);
        state.armed.store(acts, Ordering::Release);
        *now = program.filter(|_| acts);
    }

    /// How often a point has failed or been late since the process began.
    pub fn fired(point: Point) -> u64 {
        STATES[point as usize].fired.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn code(dir: &Path, found: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                code(&path, found);
            } else if !path.ends_with("faults.rs") {
                found.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn each_point_is_placed_once_and_has_a_name_of_its_own() {
        let mut text = String::new();
        code(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut text,
        );
        for (i, fault) in POINTS.iter().enumerate() {
            let placed = format!("Point::{:?}", fault.point);
            let places = text
                .match_indices(&placed)
                .filter(|(at, _)| !text[at + placed.len()..].starts_with(char::is_alphanumeric));
            assert_eq!(places.count(), 1, "{placed}");
            assert_eq!(fault.point as usize, i);
            let names = POINTS.iter().filter(|other| other.name == fault.name);
            assert_eq!(names.count(), 1, "{}", fault.name);
        }
    }
}
