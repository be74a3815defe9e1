//! What tests of faults need: one test at a time, the points by their names, and what the process holds.

#![allow(dead_code, reason = "each test program uses a part of it")]

use crate::common::*;
use lindshim_faults::ffi::types::*;
use lindshim_faults::ffi::*;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static ONE: Mutex<()> = Mutex::new(());

/// While this is there no other test has faults, or threads of an engine's. All points are off in the end, and what the
/// process holds is what it held.
pub struct Alone {
    before: Held,
    _one: MutexGuard<'static, ()>,
}

pub fn alone() -> Alone {
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    Alone {
        before: Held::now(),
        _one: one,
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        set("*", "off");
        if !std::thread::panicking() {
            self.before.check();
        }
    }
}

pub fn try_set(name: &str, actions: &str) -> Result<(), (i32, String)> {
    let mut err = no_error();
    let status = unsafe {
        lindshim_fault_set(
            name.as_ptr().cast(),
            name.len() as u64,
            actions.as_ptr().cast(),
            actions.len() as u64,
            &mut err,
        )
    };
    match status {
        LINDSHIM_OK => Ok(()),
        status => Err((status, message(&err))),
    }
}

pub fn set(name: &str, actions: &str) {
    try_set(name, actions).unwrap();
}

/// A failure point, as the C ABI describes it.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub name: &'static str,
    pub fails: bool,
    pub fired: u64,
}

pub fn points() -> Vec<Point> {
    let (mut points, mut err) = (Vec::new(), no_error());
    loop {
        let mut info = Fault {
            name: std::ptr::null(),
            name_bytes: 0,
            fails: 0,
            built: 0,
            fired: 0,
        };
        let status = unsafe { lindshim_fault_info(points.len() as u64, &mut info, &mut err) };
        if status != LINDSHIM_OK {
            assert_eq!(status, LINDSHIM_ERR_INVALID);
            return points;
        }
        assert_eq!(info.built, 1);
        let name =
            unsafe { std::slice::from_raw_parts(info.name.cast(), info.name_bytes as usize) };
        points.push(Point {
            name: std::str::from_utf8(name).unwrap(),
            fails: info.fails == 1,
            fired: info.fired,
        });
    }
}

pub fn fired(name: &str) -> u64 {
    let points = points();
    points
        .iter()
        .find(|point| point.name == name)
        .unwrap()
        .fired
}

/// What the process holds that outlives no engine.
#[derive(Debug)]
struct Held {
    threads: usize,
    fds: usize,
    reserved_bytes: u64,
}

/// More than the C library's heaps come to, and less than one linear memory's reservation.
const SLACK_BYTES: u64 = 3 << 30;

impl Held {
    fn now() -> Self {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let ours = tasks.filter(|task| {
            let name = task.as_ref().unwrap().path().join("comm");
            fs::read_to_string(name).is_ok_and(|name| name.starts_with("lindshim"))
        });
        let status = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        Held {
            threads: ours.count(),
            fds: fs::read_dir("/proc/self/fd").unwrap().count(),
            reserved_bytes: pages * 4096,
        }
    }

    /// Nothing more is held now. A thread that was joined is in the kernel's list for a moment still.
    fn check(&self) {
        let begin = Instant::now();
        loop {
            let now = Held::now();
            if now.threads == self.threads
                && now.fds == self.fds
                && now.reserved_bytes < self.reserved_bytes + SLACK_BYTES
            {
                return;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "{now:?}, but before {self:?}"
            );
            std::thread::yield_now();
        }
    }
}

/// Each end is told once, and each domain has one report, which has each thread once.
pub fn check_told(user: u64) {
    let seen = seen();
    let once = |mut ids: Vec<u32>| {
        let n = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), n, "told twice");
    };
    once(
        seen.ends
            .get(&user)
            .map_or(vec![], |ends| ends.iter().map(|end| end.tid).collect()),
    );
    let reports = &seen.reports[&user];
    assert_eq!(reports.len(), 1, "one report for a domain");
    once(reports[0].iter().map(|thread| thread.tid).collect());
    for thread in &reports[0] {
        assert_ne!(thread.left_ns, 0, "still inside: {thread:?}");
    }
}
