//! What the modules use that is no subject of loom's.

/// Failure points: none.
pub mod faults {
    #![allow(missing_docs, reason = "see the shim's")]

    #[derive(Clone, Copy, Debug)]
    pub enum Point {
        Notify,
        Park,
        Unpark,
        ThreadNew,
        ThreadIdle,
        WorkerHandOver,
        WorkerWait,
    }

    pub fn late(_point: Point) {}

    pub fn check_os(_point: Point, _errno: i32) -> bool {
        false
    }
}

/// The clock: stands still.
pub mod clock {
    /// The time now.
    pub fn now_ns() -> u64 {
        1
    }

    /// The time now.
    pub fn coarse_ns() -> u64 {
        1
    }
}

/// The names of functions, which no model asks for.
pub mod functions {
    use std::os::raw::c_char;

    /// Those of no module.
    #[derive(Debug)]
    pub struct Functions;

    impl Functions {
        /// Writes nothing.
        pub fn name(&self, _pc: usize, _to: &mut [c_char]) {}
    }
}

/// Frames: no thread is inside a grate.
pub mod frame {
    use std::cell::Cell;

    /// What is kept of an OS thread.
    #[derive(Debug)]
    pub struct OsThread {
        last_place: Cell<u32>,
    }

    // SAFETY: loom runs all threads of a model on one.
    unsafe impl Sync for OsThread {}

    static ONE: OsThread = OsThread {
        last_place: Cell::new(0),
    };

    impl OsThread {
        /// The one that all threads of a model share: what it keeps is a hint only.
        pub fn current() -> &'static OsThread {
            &ONE
        }

        /// The place of the worker that it had last.
        pub fn last_place(&self) -> u32 {
            self.last_place.get()
        }

        /// It has the worker in this place.
        pub fn set_last_place(&self, place: u32) {
            self.last_place.set(place);
        }
    }

    /// There is none.
    #[derive(Debug)]
    pub enum Frame {}

    impl Frame {
        /// Of none.
        pub fn expired(&self) -> bool {
            match *self {}
        }

        /// Of none.
        pub fn publish_wait(&self, _key: usize) {
            match *self {}
        }

        /// Of none.
        pub fn publish_rearmed(&self, _rearmed: bool) {
            match *self {}
        }
    }
}

/// Jobs.
pub mod thread {
    /// What a thread of the pool runs. It says to the pool that the thread comes back.
    pub struct Job(pub Box<dyn FnOnce() + Send>);

    impl std::fmt::Debug for Job {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Job")
        }
    }

    impl Job {
        /// Runs it.
        pub fn run(self) {
            (self.0)();
        }
    }
}
