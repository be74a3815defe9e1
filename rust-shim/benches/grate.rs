//! What a system call costs that a grate serves, in turn with what geteuid costs that the kernel serves: through one
//! grate, through a chain of three, and with two threads at once through the same grate.
//!
//! `cargo bench --bench grate [-- ROUNDS]`

use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

/// Calls in a round.
const CALLS: u64 = 20_000;
/// The call's number.
const GETEUID: u64 = 107;
/// A round begins, and ends.
const BEGIN: u64 = 2000;
const END: u64 = 2001;

/// When the round of each thread began, in turn with what the kernel took for as many calls, in nanoseconds each.
static ROUNDS: Mutex<Vec<(f64, f64)>> = Mutex::new(Vec::new());
static DONE: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

thread_local! {
    static STARTED: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

unsafe extern "C" fn host_call(call: *mut Call) -> i32 {
    unsafe {
        let call = &mut *call;
        if call.import == 1 {
            let mut tid = 0;
            lindshim_thread_spawn(call.domain, 0, &mut tid, std::ptr::null_mut());
            return LINDSHIM_CONTINUE;
        }
        match *call.args & 0xffff_ffff {
            BEGIN => STARTED.set(Some(Instant::now())),
            END => {
                let took = |start: Instant| start.elapsed().as_secs_f64() * 1e9 / CALLS as f64;
                let ours = took(STARTED.get().unwrap());
                let start = Instant::now();
                for _ in 0..CALLS {
                    libc::syscall(libc::SYS_geteuid);
                }
                ROUNDS.lock().unwrap().push((ours, took(start)));
            }
            _ => {}
        }
        *call.args = 0;
    }
    LINDSHIM_CONTINUE
}

unsafe extern "C" fn thread_end(end: *const ThreadEnd) {
    unsafe {
        assert_eq!((*end).outcome, LINDSHIM_END_RETURNED);
        if (*end).main == 0 {
            return; // the other thread of two
        }
        lindshim_domain_stop((*end).domain, std::ptr::null_mut());
    }
}

unsafe extern "C" fn quiescent(_: *const Report) {
    *DONE.0.lock().unwrap() += 1;
    DONE.1.notify_one();
}

fn wait_for_end() {
    let mut done = DONE.0.lock().unwrap();
    while *done == 0 {
        done = DONE.1.wait(done).unwrap();
    }
    *done -= 1;
}

const PARAMS: &str = "i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64";

fn sys(cage: u64, number: u64) -> String {
    format!(
        "(call $make (i32.const {number}) (i64.const 0) (i64.const {cage}) (i64.const {cage}) {})",
        "(i64.const 0) ".repeat(12)
    )
}

fn module(engine: u64, wat: &str) -> u64 {
    let wat = format!(
        r#"(module (memory (export "memory") (import "env" "memory") 2 100 shared)
          (import "host" "spawn" (func $spawn))
          (import "lind" "make-syscall" (func $make (param i32 i64 i64 {PARAMS}) (result i32)))
          {wat})"#
    );
    let mut module = 0;
    let status = unsafe {
        lindshim_module_load(
            engine,
            wat.as_ptr(),
            wat.len() as u64,
            &mut module,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(status, LINDSHIM_OK);
    module
}

/// A grate whose handler does `body`.
fn grate(engine: u64, body: &str) -> u64 {
    let args: String = (1..14).map(|i| format!("(local.get {i}) ")).collect();
    module(
        engine,
        &format!(
            r#"(type $handler (func (param {PARAMS}) (result i32)))
            (table (export "__indirect_function_table") 2 2 funcref)
            (global (export "__stack_pointer") (mut i32) (i32.const 65536))
            (elem (i32.const 1) $f)
            (func $f (type $handler) {body})
            (func (export "pass_fptr_to_wt") (param i64 {PARAMS}) (result i32)
              (call_indirect (type $handler) {args} (i32.wrap_i64 (local.get 0))))"#
        ),
    )
}

/// A program that makes calls in rounds, on this many threads.
fn program(engine: u64, rounds: u64, threads: u32) -> u64 {
    let (begin, end, call) = (sys(1, BEGIN), sys(1, END), sys(1, GETEUID));
    let spawn = "(call $spawn) ".repeat(threads as usize - 1);
    module(
        engine,
        &format!(
            r#"(func $run (local $r i32) (local $i i32)
              (local.set $r (i32.const {rounds}))
              (loop $rounds
                (drop {begin})
                (local.set $i (i32.const {CALLS}))
                (loop $l
                  (drop {call})
                  (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
                (drop {end})
                (br_if $rounds (local.tee $r (i32.sub (local.get $r) (i32.const 1))))))
            (func (export "wasi_thread_start") (param i32 i32) (call $run))
            (func (export "_start") {spawn} (call $run))"#
        ),
    )
}

/// The handlers of a cage: a directory word, and the row that it leads to.
fn row(port: Option<u64>) -> *const u64 {
    let words: Vec<_> = (0..16 + 2048).map(|_| AtomicU64::new(0)).collect();
    let words: &'static [AtomicU64] = words.leak();
    words[0].store(words[1..].as_ptr() as u64, Ordering::SeqCst);
    if let Some(port) = port {
        words[9 + GETEUID as usize].store(1 << 62 | port << 24 | 1, Ordering::SeqCst);
    }
    words[0].as_ptr()
}

fn domain(module: u64, cage: u64, handlers: *const u64) -> u64 {
    let config = DomainConfig {
        handlers,
        cage,
        ..DomainConfig::new(0)
    };
    let mut domain = 0;
    let status = unsafe { lindshim_domain_new(module, &config, &mut domain, std::ptr::null_mut()) };
    assert_eq!(status, LINDSHIM_OK);
    domain
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds: u64 = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(300);
    let null = std::ptr::null_mut();
    let config = EngineConfig::new(Some(host_call), Some(thread_end), Some(quiescent));
    let mut engine = 0;
    let imports = [
        Import::new("lind", "make-syscall", "iIIIIIIIIIIIIIII", "i", 0),
        Import::new("host", "spawn", "", "", 1),
    ];
    unsafe {
        assert_eq!(lindshim_engine_new(&config, &mut engine, null), LINDSHIM_OK);
        assert_eq!(
            lindshim_engine_define(engine, imports.as_ptr(), 2, null),
            LINDSHIM_OK
        );
    }
    println!(
        "{:<34} {:>9} {:>12} {:>7}",
        "one call", "ours ns", "geteuid ns", "ratio"
    );
    for (what, depth, threads) in [
        ("native, a host function in Rust", 0, 1),
        ("through one grate", 1, 1),
        ("through a chain of three", 3, 1),
        ("through one grate, 2 threads", 1, 2),
    ] {
        let mut port = None;
        let mut grates = Vec::new();
        for i in 0..depth {
            let cage = 10 + i;
            let body = if i == 0 {
                "(i32.const 1000)".into()
            } else {
                sys(cage, GETEUID)
            };
            let domain = domain(grate(engine, &body), cage, row(port));
            let mut opened = 0;
            let config = GrateConfig::new();
            let status = unsafe { lindshim_grate_open(domain, &config, &mut opened, null) };
            assert_eq!(status, LINDSHIM_OK);
            port = Some(opened);
            grates.push(domain);
        }
        let program = domain(program(engine, rounds, threads), 1, row(port));
        unsafe {
            assert_eq!(
                lindshim_domain_start(program, c"_start".as_ptr(), 6, null),
                LINDSHIM_OK
            );
            wait_for_end();
            lindshim_domain_delete(program, null);
            for grate in grates {
                lindshim_domain_stop(grate, null);
                wait_for_end();
                lindshim_domain_delete(grate, null);
            }
        }
        let rounds = std::mem::take(&mut *ROUNDS.lock().unwrap());
        let column = |f: fn(&(f64, f64)) -> f64| {
            median(&mut rounds.iter().skip(10).map(f).collect::<Vec<_>>())
        };
        println!(
            "{what:<34} {:>9.1} {:>12.1} {:>7.2}",
            column(|r| r.0),
            column(|r| r.1),
            column(|r| r.0 / r.1)
        );
    }
}
