//! What each failure point that can fail does to whoever is there: one clear error, and nothing is lost or left.

extern crate lindshim_faults as lindshim;

#[path = "../../tests/common/mod.rs"]
mod common;
mod support;

use common::grates::*;
use common::*;
use lindshim::ffi::types::*;
use lindshim::ffi::*;
use support::*;

const APP: u64 = 10;
const GRATE: u64 = 20;

const ECHO: &str = "(i32.wrap_i64 (local.get $a0))";
const FOREVER: &str =
    "(drop (call $sys (i32.const 2002) (i64.const 1) (i64.const 0) (i64.const 0)))";

/// A program whose first thread does `main` and lives on.
fn app(thread: &str, main: &str) -> String {
    program(APP, thread, &format!("{main} {FOREVER}"))
}

fn domain_of(host: &Host, module: u64) -> (u64, u64) {
    let cage = host.cage(module, APP, |_| {});
    (cage.domain, cage.user)
}

/// Starts a domain that ends before its program has begun, and answers what the host is told of that.
fn fails_to_start(host: &Host, domain: u64, user: u64) -> String {
    host.start(domain);
    assert_eq!(report(user).len(), 1);
    check_told(user);
    let ends = seen().ends[&user].clone();
    assert_eq!(
        (ends.len(), ends[0].outcome),
        (1, LINDSHIM_END_START_FAILED)
    );
    ends[0].message.clone()
}

#[test]
fn a_point_refuses_what_it_cannot_do() {
    let _alone = alone();
    let refused = |name, actions| {
        let (status, text) = try_set(name, actions).unwrap_err();
        assert_eq!(status, LINDSHIM_ERR_INVALID);
        text
    };
    let text = refused("no-such-point", "off");
    for point in points() {
        assert!(
            text.contains(point.name),
            "{text} does not name {}",
            point.name
        );
        set(point.name, "sleep(1us)");
        if point.fails {
            set(point.name, "0%fail");
        } else {
            refused(point.name, "0%fail");
        }
    }
    assert!(refused("compile", "explode").contains("explode"));
    refused("*", "sleep(1us)");
    refused("", "off");
    let null = std::ptr::null_mut();
    let name = b"compile\xff".as_ptr().cast();
    unsafe {
        assert_eq!(
            lindshim_fault_set(name, 8, name, 7, null),
            LINDSHIM_ERR_INVALID
        );
        assert_eq!(
            lindshim_fault_set(name, 7, name, 8, null),
            LINDSHIM_ERR_INVALID
        );
        assert_eq!(
            lindshim_fault_set(name, 7, std::ptr::null(), 1, null),
            LINDSHIM_ERR_INVALID
        );
        assert_eq!(
            lindshim_fault_info(u64::MAX, std::ptr::null_mut(), null),
            LINDSHIM_ERR_INVALID
        );
        assert_eq!(
            lindshim_fault_info(0, std::ptr::null_mut(), null),
            LINDSHIM_ERR_INVALID
        );
    }
}

#[test]
fn no_engine() {
    let _alone = alone();
    set("engine-new", "1*fail");
    let config = EngineConfig::new(Some(nothing), Some(no_end), Some(no_report));
    let (mut engine, mut err) = (7, no_error());
    let status = unsafe { lindshim_engine_new(&config, &mut engine, &mut err) };
    assert_eq!((status, engine), (LINDSHIM_ERR_RUNTIME, 7));
    assert!(message(&err).contains("injected fault engine-new"));
    grate_host(|_| {}).finish(&[], &[]);
}

unsafe extern "C" fn nothing(_: *mut Call) -> i32 {
    LINDSHIM_TRAP
}
unsafe extern "C" fn no_end(_: *const ThreadEnd) {}
unsafe extern "C" fn no_report(_: *const Report) {}

#[test]
fn no_code_and_no_memory() {
    let _alone = alone();
    let host = grate_host(|_| {});
    set("compile", "1*fail");
    let (status, text) = host.try_load(&app("", "")).unwrap_err();
    assert_eq!(status, LINDSHIM_ERR_MODULE);
    assert!(text.contains("injected fault compile"), "{text}");
    let module = host.load(&app("", ""));
    set("memory-new", "1*fail");
    let (status, text) = host.try_domain(module, |_| {}).unwrap_err();
    assert_eq!(status, LINDSHIM_ERR_MEMORY);
    assert!(text.contains("injected fault memory-new"), "{text}");
    let stats = host.stats();
    assert_eq!((stats.domains, stats.modules), (0, 1));
    let (domain, _) = domain_of(&host, module);
    host.finish(&[domain], &[module]);
}

#[test]
fn no_thread() {
    let _alone = alone();
    let host = grate_host(|_| {});
    let module = host.load(&app("", "(drop (call $spawn (i32.const 0)))"));
    let (domain, user) = domain_of(&host, module);
    let before = fired("thread-new");
    set("thread-new", "1*fail");
    let (status, text) = host.try_start(domain).unwrap_err();
    assert_eq!(status, LINDSHIM_ERR_LIMIT);
    assert!(text.contains("made no thread"), "{text}");
    assert_eq!(host.stats().threads_running, 0);
    // It may be tried again; and what a thread of the guest cannot start is told to that thread alone.
    set("thread-new", "1*off->fail");
    host.start(domain);
    while fired("thread-new") < before + 2 {
        std::thread::yield_now();
    }
    set("*", "off");
    stop(domain);
    let threads = report(user);
    let stopped = threads
        .iter()
        .filter(|thread| thread.outcome == LINDSHIM_END_STOPPED);
    assert_eq!(stopped.count(), 1);
    check_told(user);
    assert_eq!(seen().totals[&user], 1, "what never was is not counted");
    host.finish(&[domain], &[module]);
}

/// A domain is stopped while a thread of it is being made, and then cannot be.
#[test]
fn no_thread_for_a_domain_that_stops_meanwhile() {
    let _alone = alone();
    let host = grate_host(|_| {});
    let module = host.load(&app("", ""));
    let (domain, user) = domain_of(&host, module);
    let before = fired("thread-spawn");
    set("thread-spawn", "sleep(100ms)");
    set("thread-new", "fail");
    let starter = std::thread::scope(|scope| {
        let starter = scope.spawn(|| host.try_start(domain));
        while fired("thread-spawn") == before {
            std::thread::yield_now();
        }
        stop(domain);
        starter.join().unwrap()
    });
    assert_eq!(starter.unwrap_err().0, LINDSHIM_ERR_LIMIT);
    let threads = report(user);
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0].outcome, LINDSHIM_END_START_FAILED);
    check_told(user);
    host.finish(&[domain], &[module]);
}

#[test]
fn no_signal_stack() {
    let _alone = alone();
    let host = grate_host(|_| {}); // with threads of its own, that have no stack yet
    let module = host.load(&app("", "(call $do (i32.const 2001))"));
    let (domain, user) = domain_of(&host, module);
    set("signal-stack", "1*fail");
    let text = fails_to_start(&host, domain, user);
    assert!(
        text.contains("Cannot allocate memory") && text.contains("vm.max_map_count"),
        "{text}"
    );
    // The next time the same thread, which has waited for it, gets one.
    let (other, its_user) = domain_of(&host, module);
    host.start(other);
    marks(its_user, 1);
    stop(other);
    assert_eq!(report(its_user).len(), 1);
    check_told(its_user);
    host.finish(&[domain, other], &[module]);
}

/// What a thread of the host's cannot run, one of the engine's does, if there is one to be had.
#[test]
fn no_stack_on_a_thread_of_the_hosts() {
    let _alone = alone();
    let host = grate_host(|_| {});
    let module = host.load(&app("", "(call $do (i32.const 2001))"));
    for point in ["host-stack", "signal-stack"] {
        let (domain, user) = domain_of(&host, module);
        set(point, "1*fail");
        host.try_begin(domain).unwrap();
        assert_eq!(run_apart(domain, 1).join().unwrap(), LINDSHIM_OK);
        marks(user, 1);
        stop(domain);
        assert_eq!(report(user).len(), 1);
        check_told(user);
        assert_eq!(
            unsafe { lindshim_domain_delete(domain, std::ptr::null_mut()) },
            LINDSHIM_OK
        );
    }
    // The second may have come before the first one's thread was free.
    let threads = host.stats().threads_idle + host.stats().threads_running;
    assert!((1..=2).contains(&threads), "{threads} of the engine's");
    host.finish(&[], &[module]);

    let host = grate_host(|_| {});
    let module = host.load(&app("", ""));
    let (domain, user) = domain_of(&host, module);
    set("host-stack", "1*fail");
    set("thread-new", "1*fail");
    host.try_begin(domain).unwrap();
    assert_eq!(run(domain, 1), LINDSHIM_OK);
    assert_eq!(report(user).len(), 1);
    check_told(user);
    let ends = seen().ends[&user].clone();
    assert_eq!(ends[0].outcome, LINDSHIM_END_START_FAILED);
    assert!(ends[0].message.contains("made no thread"), "{ends:?}");
    assert_eq!(host.stats().threads_running, 0);
    host.finish(&[domain], &[module]);
}

#[test]
fn no_instance() {
    let _alone = alone();
    let host = grate_host(|_| {});
    let spawn = "(drop (call $spawn (i32.const 0))) (call $do (i32.const 2001))";
    let module = host.load(&app("", spawn));
    // The first thread's: the program ends before it began.
    let (domain, user) = domain_of(&host, module);
    set("instantiate", "1*fail");
    assert!(fails_to_start(&host, domain, user).contains("injected fault instantiate"));
    // Another's: that one ends alone.
    let (other, its_user) = domain_of(&host, module);
    set("instantiate", "1*off->1*fail");
    host.start(other);
    marks(its_user, 1);
    let end = wait_until(|seen| {
        seen.ends
            .get(&its_user)
            .and_then(|ends| ends.first())
            .cloned()
    });
    assert_eq!((end.tid, end.outcome), (2, LINDSHIM_END_START_FAILED));
    stop(other);
    let threads = report(its_user);
    let stopped = threads
        .iter()
        .filter(|thread| thread.outcome == LINDSHIM_END_STOPPED);
    assert_eq!(stopped.count(), 1, "the first went on until it was stopped");
    check_told(its_user);
    host.finish(&[domain, other], &[module]);
}

/// A program's thread waits for one that is about to come back, and is held up. A stop of the program ends that wait.
#[test]
fn a_thread_that_is_held_up() {
    let _alone = alone();
    let host = grate_host(|config| config.max_threads = 2);
    let sleeps = host.load(&app(
        "",
        "(call $do (i32.const 2001))
         (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))",
    ));
    let spawns = host.load(&app(
        "",
        "(call $do (i32.const 2001)) (drop (call $spawn (i32.const 0)))",
    ));
    let (first, its_user) = domain_of(&host, sleeps);
    host.start(first);
    marks(its_user, 1);
    let before = fired("thread-idle");
    set("thread-idle", "1*sleep(1000ms)");
    stop(first);
    report(its_user);
    while fired("thread-idle") == before {
        std::thread::yield_now();
    }
    let held = std::time::Instant::now();
    let (second, user) = domain_of(&host, spawns);
    host.start(second);
    marks(user, 1);
    std::thread::sleep(std::time::Duration::from_millis(20)); // so that it waits, if it can; a stop before that ends it too
    stop(second);
    report(user);
    let took = held.elapsed();
    assert!(
        took.as_millis() < 900,
        "the stop waited for the thread that is held up: {took:?}"
    );
    host.finish(&[first, second], &[sleeps, spawns]);
}

/// Without the waker, who stops wakes. The engine's end waits for the threads that woke.
#[test]
fn no_waker() {
    for point in ["waker-timer", "waker-new"] {
        let _alone = alone();
        let before = fired(point);
        let host = grate_host(|_| {});
        let wait = "(call $do (i32.const 2001))
                    (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))";
        let spawn = "(drop (call $spawn (i32.const 0))) (drop (call $spawn (i32.const 0)))";
        let module = host.load(&app(wait, spawn));
        let (domain, user) = domain_of(&host, module);
        host.start(domain);
        marks(user, 2);
        set(point, "fail");
        stop(domain);
        assert_eq!(report(user).len(), 3);
        host.finish(&[domain], &[module]);
        // Whether any was asleep by then is the scheduler's to say, but the point is passed if one was.
        assert!(fired(point) <= before + 2);
    }
}

fn pair(host: &Host, function: &str, main: &str) -> (Cage, Cage, [u64; 2]) {
    let modules = [
        host.load(&app("", main)),
        host.load(&grate(GRATE, &[function])),
    ];
    let serves = host.grate(modules[1], GRATE, |grate| grate.max_workers = 2);
    let asks = host.cage(modules[0], APP, |config| {
        config.grate_grace_ns = 60_000_000_000
    });
    asks.row.set(39, entry(serves.port, 1));
    (asks, serves, modules)
}

const ASK: &str =
    "(call $report (call $sys (i32.const 39) (i64.const 7) (i64.const 0) (i64.const 0)))";

/// Without the sweeper there is no grace: a grate that would use up a minute is left at once.
#[test]
fn no_sweeper() {
    let _alone = alone();
    let host = grate_host(|_| {});
    let spin = "(call $do (i32.const 2001)) (call $spin) (i32.const 0)";
    let (asks, serves, modules) = pair(&host, spin, ASK);
    host.start(asks.domain);
    marks(serves.user, 1);
    let before = fired("sweeper-new");
    set("sweeper-new", "fail");
    stop(asks.domain);
    let threads = report(asks.user);
    assert_eq!((threads.len(), threads[0].torn), (1, 1));
    assert!(fired("sweeper-new") > before);
    end(&[asks, serves]);
    check_told(asks.user);
    check_told(serves.user);
    host.finish(&[], &modules);
}

#[test]
fn no_worker() {
    for (point, answer) in [
        ("worker-new", LINDSHIM_GRATE_ERR),
        ("worker-stack", -libc::EAGAIN),
    ] {
        let _alone = alone();
        let host = grate_host(|_| {});
        let (asks, serves, modules) = pair(&host, ECHO, &format!("{ASK} {ASK} {ASK}"));
        set(point, "1*fail");
        host.start(asks.domain);
        assert_eq!(values(asks.user, 3), [answer.into(), 7, 7], "{point}");
        end(&[asks, serves]);
        check_told(asks.user);
        check_told(serves.user);
        host.finish(&[], &modules);
        let ends = seen().ends.get(&serves.user).map_or(0, Vec::len);
        assert_eq!(ends, usize::from(point == "worker-new"), "{point}");
    }
}

/// A grate that cannot have a second worker serves with the first.
#[test]
fn no_second_worker() {
    let _alone = alone();
    let host = grate_host(|_| {});
    let ask = "(call $report (call $sys (i32.const 39) (i64.extend_i32_u (local.get 1)) (i64.const 0) (i64.const 0)))";
    let nap = "(drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const 2000000))) (i32.wrap_i64 (local.get $a0))";
    let spawn: String = (1..4)
        .map(|i| format!("(drop (call $spawn (i32.const {i})))"))
        .collect();
    let modules = [
        host.load(&app(ask, &(ASK.to_owned() + &spawn))),
        host.load(&grate(GRATE, &[nap])),
    ];
    let serves = host.grate(modules[1], GRATE, |grate| grate.max_workers = 3);
    let asks = host.cage(modules[0], APP, |_| {});
    asks.row.set(39, entry(serves.port, 1));
    let before = fired("worker-stack");
    set("worker-stack", "1*off->fail");
    host.start(asks.domain);
    let mut answers = values(asks.user, 4);
    answers.sort_unstable();
    assert_eq!(answers, [1, 2, 3, 7], "each caller was served");
    assert!(
        fired("worker-stack") - before <= 2,
        "a place that has no worker is asked for no more"
    );
    end(&[asks, serves]);
    host.finish(&[], &modules);
}

#[test]
fn no_port() {
    let _alone = alone();
    let host = grate_host(|_| {});
    let module = host.load(&grate(GRATE, &[ECHO]));
    let cage = host.cage(module, GRATE, |_| {});
    set("port-new", "1*fail");
    let (status, text) = host.try_open(cage.domain, |_| {}).unwrap_err();
    assert_eq!(status, LINDSHIM_ERR_LIMIT);
    assert!(text.contains("port-new"), "{text}");
    host.try_open(cage.domain, |_| {}).unwrap();
    end(&[cage]);
    host.finish(&[], &[module]);
}

/// Without descriptors the shim does not wait for the host, which then finds out itself.
#[test]
fn no_descriptors() {
    for (point, traps) in [
        ("wake-token", false),
        ("poller-new", false),
        ("poller-add", false),
        ("cancel-token", true),
    ] {
        let _alone = alone();
        let host = grate_host(|_| {});
        let call = if traps { BLOCK } else { WAIT };
        let module = host.load(&program(APP, "", &format!("(call $do (i32.const {call}))")));
        let cage = host.cage(module, APP, |_| {});
        let before = fired(point);
        set(point, "fail");
        host.start(cage.domain);
        if traps {
            let end = wait_until(|seen| seen.ends.get(&cage.user)?.first().cloned());
            assert_eq!(end.outcome, LINDSHIM_END_TRAPPED);
        } else {
            marks(cage.user, 1);
            while fired(point) == before {
                std::thread::yield_now();
            }
        }
        end(&[cage]);
        check_told(cage.user);
        host.finish(&[], &[module]);
    }
}

/// The token that a cancelled call was refused is made when it is next asked for, and is readable at once in a domain that
/// has been stopped by then.
#[test]
fn a_token_that_could_not_be_made_is_made_later() {
    let _alone = alone();
    let host = grate_host(|_| {});
    let module = host.load(&app("", ""));
    let (domain, user) = domain_of(&host, module);
    set("cancel-token", "1*fail");
    let (mut fd, mut err) = (-7, no_error());
    unsafe {
        assert_eq!(
            lindshim_domain_cancel_fd(domain, &mut fd, &mut err),
            LINDSHIM_ERR_IO
        );
        assert_eq!(fd, -7);
        assert!(message(&err).contains("no eventfd to be had"));
        stop(domain);
        report(user);
        assert_eq!(
            lindshim_domain_cancel_fd(domain, &mut fd, &mut err),
            LINDSHIM_OK
        );
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        assert_eq!(libc::poll(&mut poll, 1, 0), 1);
    }
    host.finish(&[domain], &[module]);
}
