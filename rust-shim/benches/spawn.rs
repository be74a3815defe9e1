//! How long a tiny program takes from nothing to nothing: make a domain, run it on a thread of its own, stop it, know
//! that it is quiescent, delete it. In turn with the same as plain OS threads (a thread made and joined), which is what a
//! program of its own thread costs at the least without reuse.
//!
//! `cargo bench --bench spawn [-- ROUNDS]`

use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

static DONE: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

unsafe extern "C" fn host_call(_: *mut Call) -> i32 {
    LINDSHIM_CONTINUE
}

unsafe extern "C" fn thread_end(end: *const ThreadEnd) {
    unsafe { lindshim_domain_stop((*end).domain, std::ptr::null_mut()) };
}

unsafe extern "C" fn quiescent(_: *const Report) {
    *DONE.0.lock().unwrap() += 1;
    DONE.1.notify_one();
}

fn round(module: u64) -> Duration {
    let config = DomainConfig::new(0);
    let (mut domain, null) = (0, std::ptr::null_mut());
    let start = Instant::now();
    unsafe {
        assert_eq!(
            lindshim_domain_new(module, &config, &mut domain, null),
            LINDSHIM_OK
        );
        assert_eq!(
            lindshim_domain_start(domain, c"_start".as_ptr(), 6, null),
            LINDSHIM_OK
        );
        let mut done = DONE.0.lock().unwrap();
        while *done == 0 {
            done = DONE.1.wait(done).unwrap();
        }
        *done = 0;
        drop(done);
        assert_eq!(lindshim_domain_delete(domain, null), LINDSHIM_OK);
    }
    start.elapsed()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds: usize = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(5000);
    let config = EngineConfig::new(Some(host_call), Some(thread_end), Some(quiescent));
    let (mut engine, null) = (0, std::ptr::null_mut());
    assert_eq!(
        unsafe { lindshim_engine_new(&config, &mut engine, null) },
        LINDSHIM_OK
    );
    println!(
        "{:<28} {:>10} {:>10} {:>14}",
        "spawn + run + exit", "p50 us", "p99 us", "thread+join us"
    );
    for (name, wat) in [
        ("no memory", r#"(module (func (export "_start")))"#),
        (
            "memory",
            r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
        ),
        (
            "shared memory",
            r#"(module (memory (import "env" "memory") 1 4 shared) (func (export "_start")))"#,
        ),
    ] {
        let mut module = 0;
        let loaded = unsafe {
            lindshim_module_load(engine, wat.as_ptr(), wat.len() as u64, &mut module, null)
        };
        assert_eq!(loaded, LINDSHIM_OK);
        let (mut ours, mut plain) = (vec![], vec![]);
        for _ in 0..rounds {
            ours.push(round(module).as_secs_f64() * 1e6);
            let start = Instant::now();
            std::thread::spawn(|| {}).join().unwrap();
            plain.push(start.elapsed().as_secs_f64() * 1e6);
        }
        let (x, y) = (median(&mut ours), median(&mut plain));
        println!(
            "{name:<28} {x:>10.1} {:>10.1} {y:>14.1}",
            ours[rounds * 99 / 100]
        );
    }
}
