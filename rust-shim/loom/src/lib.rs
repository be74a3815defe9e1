//! The shim's gate, slots, atomic waits, pool of threads and queue of workers, as they are in `../src`, over loom's
//! primitives (`sync`) and a model of parking_lot_core (`park`). The models that run them are in `tests`.
//!
//! What they use besides is replaced by the least that will do (`around`): the clock, the frames of threads that are inside
//! grates, and jobs.

extern crate self as parking_lot_core;

mod around;
pub mod park;
pub mod sync;

pub use around::{clock, faults, frame, functions, thread};
pub use park::*;

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/gate.rs"]
pub mod gate;
#[path = "../../src/idle.rs"]
pub mod idle;
#[path = "../../src/mutation.rs"]
pub mod mutation;
#[path = "../../src/pool.rs"]
pub mod pool;
#[path = "../../src/slot.rs"]
pub mod slot;
#[path = "../../src/ffi/types.rs"]
pub mod types;
#[path = "../../src/waits.rs"]
pub mod waits;

/// The C ABI: its types alone.
pub mod ffi {
    pub use crate::types;
}

/// What a process ends with in which loom has found something.
const FOUND: i32 = 77;

/// Runs a model in every order of its threads' steps with at most `preemptions` of them, with each value that a load may
/// have read.
pub fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    if std::env::var_os(sync::MUTATION).is_some() {
        // What loom finds is the end of this process: unwinding would run code that is wrong, outside of any model.
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("{panic}");
            std::process::exit(FOUND);
        }));
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Runs the model that is this test of the same program, for code that was made wrong: loom has to find it. In a process of
/// its own, which ends with what loom finds.
pub fn finds(mutation: mutation::Mutation, test: &str) {
    rejects(&format!("{mutation:?}"), test);
}

/// The same for any test, which may be one that is ignored otherwise.
pub fn rejects(what: &str, test: &str) {
    let program = std::env::current_exe().expect("the test program has a path");
    let mut child = std::process::Command::new(program);
    child.args([test, "--exact", "--include-ignored"]);
    let ran = child.env(sync::MUTATION, what).output();
    let ran = ran.expect("the test program runs again");
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(text.contains("running 1 test"), "there is no test {test}");
    let found = ran.status.code() == Some(FOUND);
    assert!(found, "loom does not find {what} in {test}: {}", ran.status);
}
