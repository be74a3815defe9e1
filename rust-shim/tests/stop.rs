//! Domains are stopped whatever their threads are doing, through the C ABI alone.

mod common;

use common::*;
use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::collections::HashSet;
use std::ffi::CStr;
use std::time::{Duration, Instant};

const MARK: u32 = 1;
const BLOCK: u32 = 2;
const SPAWN: u32 = 3;
const EXIT: u32 = 4;
const QUIT: u32 = 5;
const ADD: u32 = 6;
const FAIL: u32 = 7;

unsafe extern "C" fn host_call(call: *mut Call) -> i32 {
    unsafe {
        let call = &mut *call;
        match call.import {
            MARK => mark(call.user),
            BLOCK => {
                let mut fd = -1;
                assert_eq!(
                    lindshim_domain_cancel_fd(call.domain, &mut fd, std::ptr::null_mut()),
                    LINDSHIM_OK
                );
                mark(call.user);
                let mut poll = libc::pollfd {
                    fd,
                    events: libc::POLLIN,
                    revents: 0,
                };
                while libc::poll(&mut poll, 1, -1) != 1 {}
            }
            SPAWN => {
                let mut tid = 0;
                let status = lindshim_thread_spawn(
                    call.domain,
                    *call.args as u32,
                    &mut tid,
                    std::ptr::null_mut(),
                );
                *call.args = if status == LINDSHIM_OK {
                    tid.into()
                } else {
                    -(status as i64) as u64
                };
            }
            EXIT => {
                lindshim_domain_stop(call.domain, std::ptr::null_mut());
            }
            QUIT => return LINDSHIM_QUIT,
            ADD => *call.args = (*call.args).wrapping_add(*call.args.add(2)),
            FAIL => return LINDSHIM_TRAP,
            _ => unreachable!(),
        }
        LINDSHIM_CONTINUE
    }
}

fn host() -> Host {
    host_with(|_| {})
}

fn host_with(change: impl FnOnce(&mut EngineConfig)) -> Host {
    let imports = [
        Import::new("host", "mark", "", "", MARK),
        Import::new("host", "block", "", "", BLOCK),
        Import::new("host", "spawn", "i", "i", SPAWN),
        Import::new("host", "exit", "", "", EXIT),
        Import::new("host", "quit", "", "", QUIT),
        Import::new("host", "add", "II", "I", ADD),
        Import::new("host", "fail", "", "", FAIL),
    ];
    Host::new(host_call, &imports, change)
}

const MEMORY: &str = r#"(memory (export "memory") (import "env" "memory") 1 4 shared)"#;

/// A main thread that starts `n` others, each of which does `body`, and then does `main`.
fn crowd(n: u32, body: &str, main: &str) -> String {
    format!(
        r#"(module {MEMORY}
          (import "host" "mark" (func $mark))
          (import "host" "block" (func $block))
          (import "host" "exit" (func $exit))
          (import "host" "spawn" (func $spawn (param i32) (result i32)))
          (func $spin (loop $l br $l))
          (func (export "wasi_thread_start") (param i32 i32) {body})
          (func (export "_start") (local i32)
            (loop $l
              (if (i32.lt_s (call $spawn (local.get 0)) (i32.const 1)) (then unreachable))
              (local.set 0 (i32.add (local.get 0) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get 0) (i32.const {n}))))
            {main}))"#
    )
}

const WAIT32: &str = "(drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))";
const WAIT64: &str =
    "(drop (memory.atomic.wait64 offset=8 (i32.const 64) (i64.const 0) (i64.const 3600000000000)))";

#[test]
fn a_stop_ends_threads_whatever_they_do() {
    let host = host();
    let (mut domains, mut modules) = (vec![], vec![]);
    for (body, state) in [
        ("call $mark call $spin", LINDSHIM_AT_GUEST),
        ("call $block", LINDSHIM_AT_HOST_CALL),
    ] {
        let module = host.load(&crowd(4, body, "call $mark call $spin"));
        let (domain, user) = host.domain(module);
        host.start(domain);
        marks(user, 5);
        stop(domain);
        let threads = report(user);
        assert_eq!(threads.len(), 5);
        for thread in &threads {
            assert_ne!(thread.left_ns, 0);
            assert_eq!(thread.outcome, LINDSHIM_END_STOPPED, "{thread:?}");
            if thread.tid != 1 && state == LINDSHIM_AT_HOST_CALL {
                assert_eq!((thread.state, thread.import), (state, BLOCK));
            }
        }
        domains.push(domain);
        modules.push(module);
    }
    host.finish(&domains, &modules);
}

#[test]
fn a_stop_ends_atomic_waits() {
    let host = host();
    let (mut domains, mut modules) = (vec![], vec![]);
    for wait in [WAIT32, WAIT64] {
        let module = host.load(&crowd(
            4,
            &format!("call $mark {wait}"),
            "call $mark call $block",
        ));
        let (domain, user) = host.domain(module);
        host.start(domain);
        marks(user, 6);
        stop(domain);
        for thread in report(user) {
            assert_eq!(thread.outcome, LINDSHIM_END_STOPPED, "{thread:?}");
            if thread.state == LINDSHIM_AT_ATOMIC_WAIT {
                assert_eq!(thread.address, if wait == WAIT32 { 64 } else { 72 });
            }
        }
        domains.push(domain);
        modules.push(module);
    }
    host.finish(&domains, &modules);
}

#[test]
fn a_stop_tells_which_function_each_thread_was_in() {
    let host = host();
    // Each function marks, so that its thread is in it whatever the thread does when the stop comes.
    let module = host.load(&format!(
        r#"(module {MEMORY}
          (import "host" "mark" (func $mark))
          (import "host" "block" (func $block))
          (import "host" "spawn" (func $spawn (param i32) (result i32)))
          (func $spinning call $mark (loop $l br $l))
          (func $waiting call $mark {WAIT32})
          (func $blocked call $mark call $block)
          (func $deep (param i32)
            (if (local.get 0)
              (then (call $deep (i32.sub (local.get 0) (i32.const 1))) unreachable))
            call $spinning)
          (func (;8;) call $mark (loop $l br $l))
          (func (export "wasi_thread_start") (param i32 i32)
            (block (block (block (block (br_table 0 1 2 3 (local.get 1)))
              call $waiting unreachable) call $blocked unreachable) (call $deep (i32.const 1000)) unreachable)
            call 7)
          (func $start (export "_start") (local i32)
            ;; a wait that is over, and says nothing of where the thread is later
            (drop (memory.atomic.wait32 (i32.const 64) (i32.const 1) (i64.const -1)))
            (loop $l
              (if (i32.lt_s (call $spawn (local.get 0)) (i32.const 1)) (then unreachable))
              (local.set 0 (i32.add (local.get 0) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get 0) (i32.const 4))))
            call $blocked))"#
    ));
    let (domain, user) = host.domain(module);
    host.start(domain);
    // Two of them mark again where they block.
    marks(user, 7);
    stop(domain);
    let names: HashSet<_> = report(user)
        .iter()
        .map(|thread| unsafe { CStr::from_ptr(thread.function.as_ptr()) })
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    let wanted = ["waiting", "blocked", "spinning", "function 7"];
    assert_eq!(names, wanted.map(String::from).into());
    host.finish(&[domain], &[module]);
}

/// The races of a stop with threads on their way in, out, and through the epoch callbacks of others' stops.
#[test]
fn a_stop_at_any_moment_ends_the_domain() {
    let host = host();
    let bodies = [
        "call $spin",
        WAIT32,
        WAIT64,
        "call $block",
        "(drop (call $spawn (i32.const 0)))",
        "",
    ];
    let modules: Vec<_> = bodies
        .iter()
        .map(|body| host.load(&crowd(3, body, "call $mark call $spin")))
        .collect();
    for round in 0..600_usize {
        let batch: Vec<_> = (0..4)
            .map(|k| {
                let (domain, user) = host.domain(modules[(round + k) % modules.len()]);
                host.start(domain);
                (domain, user)
            })
            .collect();
        if round % 3 == 0 {
            marks(batch[0].1, 1);
        }
        for (domain, _) in &batch {
            stop(*domain);
            for _ in 0..round % 50 {
                std::hint::spin_loop();
            }
        }
        for (domain, user) in batch {
            // Each thread was told of once: by its end, or by the report, also one that left just as the stop began.
            let threads = report(user);
            let stopped = threads
                .iter()
                .filter(|thread| thread.outcome == LINDSHIM_END_STOPPED)
                .count() as u64;
            let (ended, total) = {
                let seen = seen();
                let ended = seen.ends.get(&user).map_or(0, Vec::len) as u64;
                (ended, seen.totals[&user])
            };
            assert_eq!(stopped + ended, total, "{threads:?}");
            assert_eq!(
                unsafe { lindshim_domain_delete(domain, std::ptr::null_mut()) },
                LINDSHIM_OK
            );
        }
    }
    host.finish(&[], &modules);
}

/// Threads that were sent through the epoch callback by another domain's stop, and re-armed, still see their own.
#[test]
fn a_stop_reaches_threads_that_survived_others_stops() {
    let host = host();
    let module = host.load(&crowd(1, "call $mark call $spin", "call $mark call $spin"));
    let (long, long_user) = host.domain(module);
    host.start(long);
    marks(long_user, 2);
    for _ in 0..300 {
        let (domain, user) = host.domain(module);
        host.start(domain);
        stop(domain);
        report(user);
        assert_eq!(
            unsafe { lindshim_domain_delete(domain, std::ptr::null_mut()) },
            LINDSHIM_OK
        );
    }
    stop(long);
    assert_eq!(report(long_user).len(), 2);
    host.finish(&[long], &[module]);
}

#[test]
fn a_thread_that_stops_its_own_domain_does_not_wait_for_itself() {
    let host = host();
    let module = host.load(&crowd(3, WAIT32, "call $exit unreachable"));
    let (domain, user) = host.domain(module);
    host.start(domain);
    let threads = report(user);
    assert_eq!(threads.len(), 4);
    assert!(
        threads
            .iter()
            .all(|thread| thread.outcome == LINDSHIM_END_STOPPED),
        "{threads:?}"
    );
    assert!(
        !seen().ends.contains_key(&user),
        "of threads that are stopped the report tells, and it alone"
    );
    host.finish(&[domain], &[module]);
}

#[test]
fn a_trap_tells_its_kind_and_where() {
    let host = host();
    let module = host.load(
        r#"(module $traps (func $inner unreachable) (func $outer call $inner) (func (export "_start") call $outer))"#,
    );
    let (domain, user) = host.domain(module);
    host.start(domain);
    let threads = report(user);
    let ends = seen().ends.get(&user).cloned().unwrap();
    let End {
        tid,
        outcome,
        message,
        backtrace,
        ..
    } = &ends[0];
    assert_eq!((*tid, *outcome), (1, LINDSHIM_END_TRAPPED));
    assert!(message.contains("unreachable"), "{message}");
    let at = |name: &str| {
        backtrace
            .find(name)
            .unwrap_or_else(|| panic!("{name} in {backtrace}"))
    };
    assert!(at("inner") < at("outer"), "{backtrace}");
    let function = unsafe { CStr::from_ptr(threads[0].function.as_ptr()) };
    assert_eq!(function.to_str().unwrap(), "inner");
    host.finish(&[domain], &[module]);
}

#[test]
fn a_host_call_gets_and_answers_values() {
    let host = host();
    let module = host.load(
        r#"(module (import "host" "add" (func $add (param i64 i64) (result i64)))
            (func (export "_start")
              (if (i64.ne (call $add (i64.const 0x123456789abcdef) (i64.const -5)) (i64.const 0x123456789abcdea))
                (then unreachable))))"#,
    );
    let (domain, user) = host.domain(module);
    host.start(domain);
    report(user);
    assert_eq!(seen().ends[&user][0].outcome, LINDSHIM_END_RETURNED);
    host.finish(&[domain], &[module]);
}

#[test]
fn verdicts_end_one_thread_or_trap_it() {
    let host = host();
    for (call, outcome) in [("quit", LINDSHIM_END_QUIT), ("fail", LINDSHIM_END_TRAPPED)] {
        let module = host.load(&format!(
            r#"(module (import "host" "{call}" (func $f)) (func (export "_start") call $f unreachable))"#
        ));
        let (domain, user) = host.domain(module);
        host.start(domain);
        report(user);
        let end = seen().ends[&user][0].clone();
        assert_eq!(end.outcome, outcome, "{end:?}");
        if outcome == LINDSHIM_END_TRAPPED {
            assert!(end.message.contains("host failed"), "{end:?}");
        }
        unsafe {
            lindshim_domain_delete(domain, std::ptr::null_mut());
            lindshim_module_delete(module, std::ptr::null_mut());
        }
    }
    host.finish(&[], &[]);
}

#[test]
fn limits_on_threads_are_told_and_leak_nothing() {
    let host = host_with(|config| config.max_threads = 3);
    let module = host.load(&format!(
        r#"(module {MEMORY} (import "host" "spawn" (func $spawn (param i32) (result i32)))
          (import "host" "block" (func $block))
          (func (export "wasi_thread_start") (param i32 i32) call $block)
          (func (export "_start")
            (if (i32.ne (call $spawn (i32.const 0)) (i32.const 2)) (then unreachable))
            (if (i32.ne (call $spawn (i32.const 0)) (i32.const -{LINDSHIM_ERR_LIMIT})) (then unreachable))))"#
    ));
    let (domain, user) = host
        .try_domain(module, |config| config.max_threads = 2)
        .unwrap();
    host.start(domain);
    report(user);
    let ends = seen().ends[&user].clone();
    assert!(
        ends.iter()
            .any(|end| end.tid == 1 && end.outcome == LINDSHIM_END_RETURNED),
        "{ends:?}"
    );
    host.finish(&[domain], &[module]);
}

/// Who has been told that a program has ended finds room for the next, though the threads of the first, which were asleep, in
/// the guest or in a host call, have yet to come back.
#[test]
fn there_is_room_for_the_next_program_once_one_has_ended() {
    let host = host_with(|config| config.max_threads = 3);
    for body in [
        "(drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))",
        "(loop $l (br $l))",
        "call $block",
    ] {
        let module = host.load(&format!(
            r#"(module {MEMORY} (import "host" "spawn" (func $spawn (param i32) (result i32)))
              (import "host" "mark" (func $mark)) (import "host" "block" (func $block))
              (func (export "wasi_thread_start") (param i32 i32) call $mark {body})
              (func (export "_start")
                (if (i32.lt_s (call $spawn (i32.const 0)) (i32.const 0)) (then unreachable))
                (if (i32.lt_s (call $spawn (i32.const 0)) (i32.const 0)) (then unreachable))
                call $mark {body}))"#
        ));
        for _ in 0..100 {
            let (domain, user) = host.domain(module);
            host.start(domain);
            marks(user, 3);
            stop(domain);
            report(user);
            check(
                unsafe { lindshim_domain_delete(domain, std::ptr::null_mut()) },
                &no_error(),
            );
        }
        unsafe { lindshim_module_delete(module, std::ptr::null_mut()) };
    }
    host.finish(&[], &[]);
}

/// Waits until all of a domain's threads, of which there are so many, are in an atomic wait.
fn until_asleep(domain: u64, count: usize) {
    loop {
        let mut threads = [const { std::mem::MaybeUninit::<Thread>::uninit() }; 8];
        let mut n = 0;
        let null = std::ptr::null_mut();
        let status = unsafe {
            lindshim_domain_threads(domain, threads.as_mut_ptr().cast(), 8, &mut n, null)
        };
        assert_eq!((status, n), (LINDSHIM_OK, count as u64));
        let waiting = threads[..count]
            .iter()
            .filter(|thread| unsafe { thread.assume_init_ref() }.state == LINDSHIM_AT_ATOMIC_WAIT)
            .count();
        if waiting == count {
            break;
        }
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(1)); // from the mark to the queue; no result depends on it
}

/// Threads that a stop has found asleep come back, though nobody asks for one.
#[test]
fn threads_that_were_stopped_in_their_sleep_come_back_by_themselves() {
    let host = host();
    let module = host.load(&format!(
        r#"(module {MEMORY} (import "host" "mark" (func $mark))
          (func (export "_start") call $mark
            (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))"#
    ));
    let (domain, user) = host.domain(module);
    host.start(domain);
    marks(user, 1);
    until_asleep(domain, 1);
    stop(domain);
    report(user);
    let begin = Instant::now();
    while host.stats().threads_running > 0 {
        assert!(begin.elapsed().as_secs() < 30, "it still sleeps");
        std::thread::sleep(Duration::from_millis(1));
    }
    host.finish(&[domain], &[module]);
}

#[test]
fn bad_modules_are_clear_errors() {
    let host = host();
    for (wat, status, words) in [
        ("", LINDSHIM_ERR_MODULE, "empty"),
        ("(module (func (result i32)))", LINDSHIM_ERR_MODULE, ""),
        ("(modul", LINDSHIM_ERR_MODULE, "text"),
        ("\0asm\x01\0\0\0\x07", LINDSHIM_ERR_MODULE, ""),
        (
            r#"(module (import "host" "nope" (func)))"#,
            LINDSHIM_ERR_IMPORT,
            "host.nope",
        ),
        (
            r#"(module (import "host" "mark" (func (param i32))))"#,
            LINDSHIM_ERR_IMPORT,
            "(i32) -> ()",
        ),
        (
            r#"(module (import "env" "g" (global i32)))"#,
            LINDSHIM_ERR_IMPORT,
            "env.g",
        ),
        (
            r#"(module (import "env" "m" (memory 1)))"#,
            LINDSHIM_ERR_IMPORT,
            "not shared",
        ),
        (
            r#"(module (import "lindshim" "x" (func)))"#,
            LINDSHIM_ERR_MODULE,
            "lindshim",
        ),
        (
            r#"(module (func (export "wasi_thread_start")))"#,
            LINDSHIM_ERR_EXPORT,
            "(i32, i32) -> ()",
        ),
    ] {
        let (got, text) = host.try_load(wat).unwrap_err();
        assert_eq!(got, status, "{wat}: {text}");
        assert!(text.contains(words), "{wat}: {text}");
    }
    host.finish(&[], &[]);
}

#[test]
fn a_memory_over_the_limit_is_refused() {
    let host = host();
    let shared = host.load(&format!(r#"(module {MEMORY} (func (export "_start")))"#));
    let own = host.load(r#"(module (memory 3) (func (export "_start")))"#);
    let (status, text) = host
        .try_domain(shared, |config| config.max_memory_bytes = 65535)
        .unwrap_err();
    assert_eq!(status, LINDSHIM_ERR_MEMORY, "{text}");
    let (status, text) = host
        .try_domain(own, |config| config.max_memory_bytes = 2 * 65536)
        .unwrap_err();
    assert_eq!(status, LINDSHIM_ERR_MEMORY, "{text}");
    // Within the limit it starts, and grows up to it and no further.
    let grows = host.load(&format!(
        r#"(module {MEMORY} (func (export "_start")
             (if (i32.ne (memory.grow (i32.const 1)) (i32.const 1)) (then unreachable))
             (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))"#
    ));
    let (domain, user) = host
        .try_domain(grows, |config| config.max_memory_bytes = 2 * 65536)
        .unwrap();
    host.start(domain);
    report(user);
    assert_eq!(seen().ends[&user][0].outcome, LINDSHIM_END_RETURNED);
    host.finish(&[domain], &[shared, own, grows]);
}

#[test]
fn a_domain_in_use_cannot_be_deleted_and_a_deleted_one_not_used() {
    let host = host();
    let module = host.load(&crowd(1, "call $block", "call $block"));
    let (domain, user) = host.domain(module);
    host.start(domain);
    marks(user, 2);
    let null = std::ptr::null_mut();
    unsafe {
        assert_eq!(lindshim_domain_delete(domain, null), LINDSHIM_ERR_BUSY);
        assert_eq!(lindshim_engine_delete(host.engine, null), LINDSHIM_ERR_BUSY);
    }
    stop(domain);
    report(user);
    unsafe {
        assert_eq!(lindshim_domain_delete(domain, null), LINDSHIM_OK);
        assert_eq!(lindshim_domain_delete(domain, null), LINDSHIM_ERR_HANDLE);
        assert_eq!(lindshim_domain_stop(domain, null), LINDSHIM_ERR_HANDLE);
        assert_eq!(lindshim_domain_stop(module, null), LINDSHIM_ERR_HANDLE);
        assert_eq!(lindshim_domain_delete(0, null), LINDSHIM_OK);
    }
    let (never, _) = host.domain(module);
    host.finish(&[never], &[module]);
}

#[test]
fn a_domain_stopped_before_its_start_never_runs() {
    let host = host();
    let module = host.load(&crowd(1, "", "unreachable"));
    let (domain, user) = host.domain(module);
    stop(domain);
    assert!(report(user).is_empty());
    let name = "_start";
    assert_eq!(
        unsafe {
            lindshim_domain_start(
                domain,
                name.as_ptr().cast(),
                name.len() as u64,
                std::ptr::null_mut(),
            )
        },
        LINDSHIM_ERR_CLOSED
    );
    host.finish(&[domain], &[module]);
}

/// The memory instructions that move much are interrupted too.
#[test]
fn a_stop_interrupts_a_long_memory_fill() {
    let host = host();
    let module = host.load(
        r#"(module (import "host" "mark" (func $mark)) (memory (export "memory") 16384)
            (func (export "_start")
              call $mark
              (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x40000000)) (br $l))))"#,
    );
    let (domain, user) = host.domain(module);
    host.start(domain);
    marks(user, 1);
    stop(domain);
    assert_eq!(report(user).len(), 1);
    host.finish(&[domain], &[module]);
}

/// A thread that is asleep in a wait is counted out without being waited for: the report comes within the stop itself.
#[test]
fn a_stop_of_sleeping_threads_is_over_when_it_returns() {
    let host = host();
    let module = host.load(&crowd(
        3,
        &format!("call $mark {WAIT32}"),
        &format!("call $mark {WAIT64}"),
    ));
    for _ in 0..100 {
        let (domain, user) = host.domain(module);
        host.start(domain);
        marks(user, 4);
        // All four are on their way; when all are parked, and only then, there is nothing to wait for.
        until_asleep(domain, 4);
        stop(domain);
        for thread in report(user) {
            assert_eq!(thread.outcome, LINDSHIM_END_STOPPED);
            assert_ne!(thread.left_ns, 0);
        }
        // What the threads have left of the domain is their own by now.
        assert_eq!(
            unsafe { lindshim_domain_delete(domain, std::ptr::null_mut()) },
            LINDSHIM_OK
        );
    }
    host.finish(&[], &[module]);
}

/// Programs with memories of each kind: two of them at once and one after them, which all write everything.
#[test]
fn what_one_program_wrote_no_other_finds() {
    let host = host();
    let much = "x".repeat(100_000);
    let own = |pages: u32, data: &str| {
        format!(r#"(memory (export "memory") {pages} 40) (data (i32.const 1024) "{data}")"#)
    };
    let kinds = [
        own(1, "x"),
        own(3, "xxx"),
        own(3, &much),
        own(33, "x"),
        r#"(memory (export "memory") (import "env" "memory") 1 40 shared) (data (i32.const 1024) "x")"#.into(),
        r#"(memory (export "memory") (import "env" "memory") 3 40 shared) (data (i32.const 1024) "x")"#.into(),
        r#"(memory (export "memory") (import "env" "memory") 2 2 shared) (data (i32.const 1024) "x")"#.into(),
    ];
    // Finds the data, zeros in all other words, and nothing behind the end; then fills all, grows, and fills that.
    let modules: Vec<_> = kinds
        .iter()
        .map(|memory| {
            let data = memory.rsplit('"').nth(1).map_or(0, str::len);
            host.load(&format!(
                r#"(module
                  (import "host" "mark" (func $mark))
                  (import "host" "block" (func $block))
                  {memory}
                  (func $check (param $from i32) (param $to i32) (param $byte i32)
                    (loop $l
                      (if (i32.lt_u (local.get $from) (local.get $to)) (then
                        (if (i32.ne (i32.load8_u (local.get $from)) (local.get $byte)) (then unreachable))
                        (local.set $from (i32.add (local.get $from) (i32.const 1)))
                        (br $l)))))
                  (func (export "_start") (local $bytes i32)
                    (local.set $bytes (i32.shl (memory.size) (i32.const 16)))
                    (call $check (i32.const 0) (i32.const 1024) (i32.const 0))
                    (call $check (i32.const 1024) (i32.const {end}) (i32.const 120))
                    (call $check (i32.const {end}) (local.get $bytes) (i32.const 0))
                    (memory.fill (i32.const 0) (i32.const 165) (local.get $bytes))
                    (if (i32.ge_s (memory.grow (i32.const 2)) (i32.const 0)) (then
                      (call $check (local.get $bytes) (i32.add (local.get $bytes) (i32.const 131072)) (i32.const 0))
                      (memory.fill (local.get $bytes) (i32.const 165) (i32.const 131072))))
                    call $mark
                    call $block))"#,
                end = 1024 + data
            ))
        })
        .collect();
    for round in 0..3 {
        for (i, module) in modules.iter().enumerate() {
            let both = [0, 1].map(|_| host.domain(*module));
            for (domain, user) in both {
                host.start(domain);
                // A trap would end it.
                wait_until(|seen| {
                    let failed = seen.ends.get(&user);
                    assert!(failed.is_none(), "memory {i}, round {round}: {failed:?}");
                    (seen.marks.get(&user).copied().unwrap_or(0) >= 2).then_some(())
                });
            }
            for (domain, user) in both {
                stop(domain);
                report(user);
                let deleted = unsafe { lindshim_domain_delete(domain, std::ptr::null_mut()) };
                assert_eq!(deleted, LINDSHIM_OK);
            }
        }
    }
    host.finish(&[], &modules);
}

/// The byte behind a memory's end is a trap, also where another memory was larger in the same place.
#[test]
fn a_memory_ends_where_it_ends() {
    let host = host();
    let sizes = [40, 5, 1, 3, 33, 1];
    let modules: Vec<_> = sizes
        .iter()
        .map(|pages| {
            host.load(&format!(
                r#"(module (memory (export "memory") {pages})
                  (func (export "_start")
                    (i32.store8 (i32.const {last}) (i32.const 1))
                    (i32.store8 (i32.const {end}) (i32.const 1))))"#,
                last = (pages << 16) - 1,
                end = pages << 16,
            ))
        })
        .collect();
    for module in &modules {
        let (domain, user) = host.domain(*module);
        host.start(domain);
        report(user);
        let ends = seen().ends[&user].clone();
        assert_eq!(ends[0].outcome, LINDSHIM_END_TRAPPED);
        assert!(ends[0].message.contains("out of bounds"), "{ends:?}");
        let deleted = unsafe { lindshim_domain_delete(domain, std::ptr::null_mut()) };
        assert_eq!(deleted, LINDSHIM_OK);
    }
    host.finish(&[], &modules);
}

/// Such a program is run by another engine of Wasmtime's, with an epoch of its own.
#[test]
fn a_stop_reaches_programs_with_much_data() {
    let host = host();
    let data = "x".repeat(100_000);
    let module = host.load(&format!(
        r#"(module (import "host" "mark" (func $mark))
          (memory (export "memory") 4) (data (i32.const 1024) "{data}")
          (func (export "_start") call $mark (loop $l br $l)))"#
    ));
    for _ in 0..20 {
        let (domain, user) = host.domain(module);
        host.start(domain);
        marks(user, 1);
        stop(domain);
        assert_eq!(report(user)[0].outcome, LINDSHIM_END_STOPPED);
        let deleted = unsafe { lindshim_domain_delete(domain, std::ptr::null_mut()) };
        assert_eq!(deleted, LINDSHIM_OK);
    }
    host.finish(&[], &[module]);
}

#[test]
fn a_guest_has_the_stack_that_it_was_promised() {
    let deep = r#"(module
      (func $down (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
          (else (i32.const 0))))
      (func (export "_start")
        (if (i32.ne (call $down (i32.const 100000)) (i32.const 100000)) (then unreachable))))"#;
    for (bytes, outcome) in [(0, LINDSHIM_END_TRAPPED), (24 << 20, LINDSHIM_END_RETURNED)] {
        let host = host_with(|config| {
            config.wasm_stack_bytes = bytes;
            config.stack_bytes = 32 << 20;
        });
        let module = host.load(deep);
        let (domain, user) = host.domain(module);
        host.start(domain);
        report(user);
        let end = seen().ends[&user][0].clone();
        assert_eq!(end.outcome, outcome, "{end:?}");
        assert!(
            end.message.is_empty() || end.message.contains("call stack exhausted"),
            "{end:?}"
        );
        host.finish(&[domain], &[module]);
    }
}
