//! Grates serve calls and survive each other's and their callers' deaths, through the C ABI alone.

mod common;

use common::grates::*;
use common::*;
use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const APP: u64 = 10;
const GRATE: u64 = 20;

const GRATE_ERR: i64 = LINDSHIM_GRATE_ERR as i64;
const ELINDESRCH: i64 = LINDSHIM_ELINDESRCH as i64;

/// A grate's function that answers one more than its first argument.
const ECHO: &str = "(i32.add (i32.wrap_i64 (local.get $a0)) (i32.const 1))";

/// A program that reports what call 39 answers, `n` times, and lives on.
fn asks(n: u32) -> String {
    program(
        APP,
        "",
        &format!(
            "(loop $l
               (call $report (call $sys (i32.const 39) (i64.extend_i32_u (local.get $i)) (i64.const 0) (i64.const 0)))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $l (i32.lt_u (local.get $i) (i32.const {n}))))
             (drop (call $sys (i32.const {WAIT}) (i64.const 1) (i64.const 0) (i64.const 0)))"
        ),
    )
}

/// A program with `n` threads each of which reports what call 39 answers and goes; its main thread lives on.
fn crowd(n: u32) -> String {
    program(
        APP,
        "(call $report (call $sys (i32.const 39) (i64.extend_i32_u (local.get 1)) (i64.const 0) (i64.const 0)))",
        &format!(
            "(loop $l
               (if (i32.eqz (call $spawn (local.get $i))) (then unreachable))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $l (i32.lt_u (local.get $i) (i32.const {n}))))
             (drop (call $sys (i32.const {WAIT}) (i64.const 1) (i64.const 0) (i64.const 0)))"
        ),
    )
}

/// What a grate's function may do so that it does not come back: each marks first.
fn stuck() -> Vec<(&'static str, String)> {
    vec![
        ("spin", format!("(call $do (i32.const {MARK})) (call $spin) (i32.const 0)")),
        (
            "atomic wait",
            format!(
                "(call $do (i32.const {MARK}))
                 (loop $l (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))) (br $l)) (i32.const 0)"
            ),
        ),
        (
            "wait",
            format!(
                "(call $do (i32.const {WAIT}))
                 (loop $l (drop (call $sys (i32.const {WAIT}) (i64.const 1) (i64.const 0) (i64.const 0))) (br $l))
                 (i32.const 0)"
            ),
        ),
        (
            "block",
            format!(
                "(call $do (i32.const {BLOCK}))
                 (loop $l (drop (call $sys (i32.const {BLOCK}) (i64.const 1) (i64.const 0) (i64.const 0))) (br $l))
                 (i32.const 0)"
            ),
        ),
    ]
}

fn main_of(threads: &[Thread]) -> Thread {
    *threads.iter().find(|thread| thread.tid == 1).unwrap()
}

#[test]
fn calls_go_where_the_handlers_say() {
    let host = grate_host(|_| {});
    let app = host.load(&program(
        APP,
        "",
        &format!(
            "(call $report (call $call (i32.const 39)))
             (call $report (call $sys (i32.const 40) (i64.const 41) (i64.const 0) (i64.const 0)))
             (call $report (call $call (i32.const 41)))
             (call $report (call $call (i32.const 1024)))
             (call $report (call $call (i32.const -1)))
             (call $report (call $make (i32.const 39) (i64.const 0) (i64.const 11) (i64.const {APP})
               (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
               (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))"
        ),
    ));
    let grate = host.load(&grate(GRATE, &[ECHO]));
    let serves = host.grate(grate, GRATE, |_| {});
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(40, entry(serves.port, 1));
    cage.row.set(41, GONE);
    host.start(cage.domain);
    assert_eq!(
        values(cage.user, 6),
        [1039, 42, ELINDESRCH, 2024, 999, -i64::from(libc::EPERM)]
    );
    report(cage.user);
    end(&[serves, cage]);
    host.finish(&[], &[app, grate]);
}

#[test]
fn a_grate_gets_all_that_was_passed() {
    let host = grate_host(|_| {});
    // Each argument and cage counts with a weight of its own.
    let sum: String = (0..6).fold("(local.get $cage)".into(), |sum, i| {
        format!("(i64.add (i64.mul (i64.add (i64.mul {sum} (i64.const 3)) (local.get $a{i})) (i64.const 3)) (local.get $c{i}))")
    });
    let grate = host.load(&grate(GRATE, &[&format!("(i32.wrap_i64 {sum})")]));
    let serves = host.grate(grate, GRATE, |_| {});
    let args: String = (1..=12).map(|i| format!("(i64.const {i}) ")).collect();
    let app = host.load(&program(
        APP,
        "",
        &format!(
            "(call $report (call $make (i32.const 39) (i64.const 77) (i64.const {APP}) (i64.const {APP}) {args}))"
        ),
    ));
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    let expected = (1..=12).fold(APP as i64, |sum, i| sum * 3 + i);
    assert_eq!(values(cage.user, 1), [expected]);
    report(cage.user);
    end(&[serves, cage]);
    host.finish(&[], &[app, grate]);
}

/// A grate acts on the cage that a call is for. A program names no other than itself, and a grate whom it serves; whether
/// anything else may be named is the host's to say, who gets the call then. Pseudo targets stand for the caller.
#[test]
fn a_call_is_for_a_cage_that_its_maker_serves() {
    let host = grate_host(|_| {});
    let none = "(i64.const 0) ".repeat(12);
    let on = |itself: u64, target: &str| {
        format!("(call $make (i32.const 39) (i64.const 0) (i64.const {itself}) {target} {none})")
    };
    let (inner, outer) = (GRATE, GRATE + 1);
    let modules = [
        host.load(&grate(outer, &["(i32.wrap_i64 (local.get $cage))"])),
        host.load(&grate(
            inner,
            &[
                &on(inner, "(local.get $cage)"),
                &on(inner, "(i64.const 888888)"),
                &on(inner, "(i64.const 78)"),
            ],
        )),
        host.load(&program(
            APP,
            "",
            &[APP, 78, 777_777]
                .map(|target| {
                    format!(
                        "(call $report {})",
                        on(APP, &format!("(i64.const {target})"))
                    )
                })
                .concat(),
        )),
    ];
    let above = host.grate(modules[0], outer, |_| {});
    // What the app gets for itself, for another cage, and for a pseudo target, by what the inner grate names.
    for (function, expected) in [
        (1, [APP as i64, 1039, APP as i64]),
        (2, [inner as i64, 1039, inner as i64]),
        (3, [1039, 1039, 1039]),
    ] {
        let serves = host.grate(modules[1], inner, |_| {});
        serves.row.set(39, entry(above.port, 1));
        let cage = host.cage(modules[2], APP, |_| {});
        cage.row.set(39, entry(serves.port, function));
        host.start(cage.domain);
        assert_eq!(values(cage.user, 3), expected);
        report(cage.user);
        end(&[serves, cage]);
    }
    end(&[above]);
    host.finish(&[], &modules);
}

#[test]
fn each_worker_has_a_stack_of_its_own() {
    let host = grate_host(|_| {});
    // The first word below the stack pointer is a function's own: two that run at once must not share it.
    let body = format!(
        "(global.set $sp (i32.sub (global.get $sp) (i32.const 16)))
         (i64.store (global.get $sp) (local.get $a0))
         (call $do (i32.const {WAIT}))
         (global.set $sp (i32.add (global.get $sp) (i32.const 16)))
         (i32.sub (i32.wrap_i64 (i64.load (i32.sub (global.get $sp) (i32.const 16)))) (i32.wrap_i64 (local.get $a0)))"
    );
    let free = "(global.get $sp)";
    let module = host.load(&grate(GRATE, &[&body, free]));
    let serves = host.grate(module, GRATE, |config| config.stack_bytes = 100_000);
    let app = host.load(&crowd(5));
    let cage = host.cage(app, APP, |config| config.grate_grace_ns = 5_000_000_000);
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    marks(serves.user, 5);
    let (status, at) = grate_call(entry(serves.port, 2), 0, 0, [0; 6]);
    assert_eq!(status, LINDSHIM_OK);
    assert_eq!(at % 16, 0);
    assert!(
        at as u32 > 2 * 65536,
        "{at}: above what the module began with"
    );
    stop(cage.domain); // the waits end with EINTR, and the functions with what they wrote
    let threads = report(cage.user);
    assert!(threads.iter().all(|thread| thread.torn == 0), "{threads:?}");
    assert!(!seen().ends.contains_key(&serves.user), "all came back");
    end(&[serves, cage]);
    host.finish(&[], &[app, module]);
}

#[test]
fn callers_wait_for_a_worker_or_get_eagain() {
    let host = grate_host(|_| {});
    // Counts how many are inside at once, and answers the most that it saw.
    let body = "(i32.atomic.rmw.add (i32.const 128) (i32.const 1)) drop
         (if (i32.gt_u (i32.atomic.load (i32.const 128)) (i32.atomic.load (i32.const 132)))
           (then (i32.atomic.store (i32.const 132) (i32.atomic.load (i32.const 128)))))
         (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const 300000)))
         (drop (i32.atomic.rmw.sub (i32.const 128) (i32.const 1)))
         (i32.atomic.load (i32.const 132))";
    let module = host.load(&grate(GRATE, &[body]));
    let app = host.load(&crowd(12));
    let serves = host.grate(module, GRATE, |config| config.max_workers = 2);
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    let most = values(cage.user, 12);
    assert!(most.iter().all(|most| (1..=2).contains(most)), "{most:?}");
    end(&[cage, serves]);

    let (_, inside) = &stuck()[2];
    let stuck_module = host.load(&grate(GRATE, &[inside]));
    let serves = host.grate(stuck_module, GRATE, |config| {
        config.max_workers = 1;
        config.busy = 1;
    });
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    assert_eq!(values(cage.user, 11), [-i64::from(libc::EAGAIN); 11]);
    assert_eq!(
        grate_call(entry(serves.port, 1), 0, 0, [0; 6]).0,
        LINDSHIM_ERR_LIMIT
    );
    end(&[serves, cage]);
    host.finish(&[], &[app, module, stuck_module]);
}

#[test]
fn a_stopped_grate_lets_all_callers_go_with_an_error() {
    let host = grate_host(|_| {});
    let app = host.load(&crowd(9));
    let mut modules = vec![app];
    for (what, body) in stuck() {
        let module = host.load(&grate(GRATE, &[&body]));
        modules.push(module);
        let serves = host.grate(module, GRATE, |config| config.max_workers = 4);
        host.start(serves.domain);
        let cage = host.cage(app, APP, |_| {});
        cage.row.set(39, entry(serves.port, 1));
        host.start(cage.domain);
        marks(serves.user, 4); // four are inside, and five wait or are about to
        stop(serves.domain);
        let mut got = values(cage.user, 9);
        got.sort_unstable();
        let inside = got.iter().filter(|value| **value == GRATE_ERR).count();
        assert_eq!(inside, 4, "{what}: {got:?}");
        assert!(
            got[4..].iter().all(|v| *v == ELINDESRCH || *v == GRATE_ERR),
            "{what}: {got:?}"
        );
        // Each worker is in the report, with the host's word for it, and of none there was a thread_end.
        let threads = report(serves.user);
        let workers: Vec<_> = threads.iter().filter(|thread| thread.worker == 1).collect();
        assert_eq!(workers.len(), 4, "{what}: {threads:?}");
        for worker in workers {
            assert_eq!(worker.outcome, LINDSHIM_END_STOPPED);
            assert_ne!((worker.left_ns, worker.thread_user), (0, 0));
            assert_ne!(worker.thread_user, 0);
        }
        assert!(!seen().ends.contains_key(&serves.user), "{what}");
        // The port is closed for good.
        assert_eq!(
            grate_call(entry(serves.port, 1), 0, 0, [0; 6]).0,
            LINDSHIM_ERR_CLOSED
        );
        end(&[serves, cage]);
    }
    host.finish(&[], &modules);
}

#[test]
fn an_idle_grate_is_stopped_at_once_and_names_its_workers() {
    let host = grate_host(|_| {});
    let body = format!("(call $do (i32.const {INFO})) {ECHO}");
    let module = host.load(&grate(GRATE, &[&body]));
    let serves = host.grate(module, GRATE, |_| {});
    assert_eq!(
        grate_call(entry(serves.port, 1), 0, 0, [6, 0, 0, 0, 0, 0]),
        (LINDSHIM_OK, 7)
    );
    stop(serves.domain);
    let threads = report(serves.user);
    assert_eq!(threads.len(), 1);
    let worker = threads[0];
    assert_eq!((worker.state, worker.worker), (LINDSHIM_AT_IDLE, 1));
    assert_ne!(worker.thread_user, 0, "the host needs it to free it");
    end(&[serves]);
    host.finish(&[], &[module]);
}

#[test]
fn a_caller_that_is_stopped_leaves_when_the_grate_has_finished() {
    let host = grate_host(|_| {});
    let finishes = format!(
        "(if (i32.ne (call $call (i32.const {WAIT})) (i32.const -{})) (then unreachable))
         (call $do (i32.const {MARK})) (i32.const 7)",
        libc::EINTR
    );
    let blocks = finishes.replace(&WAIT.to_string(), &BLOCK.to_string());
    let module = host.load(&grate(GRATE, &[&finishes, &blocks]));
    let app = host.load(&asks(1));
    let serves = host.grate(module, GRATE, |_| {});
    for function in [1, 2] {
        let cage = host.cage(app, APP, |config| config.grate_grace_ns = 20_000_000_000);
        cage.row.set(39, entry(serves.port, function));
        host.start(cage.domain);
        marks(serves.user, 2 * function - 1);
        stop(cage.domain);
        let main = main_of(&report(cage.user));
        assert_eq!(
            (main.state, main.import, main.address, main.torn),
            (LINDSHIM_AT_GRATE, 39, serves.port, 0)
        );
        assert_eq!(main.outcome, LINDSHIM_END_STOPPED);
        marks(serves.user, 2 * function); // it went on after the interruption
        end(&[cage]);
    }
    assert!(!seen().ends.contains_key(&serves.user));
    end(&[serves]);
    host.finish(&[], &[app, module]);
}

#[test]
fn a_grate_that_does_not_finish_loses_the_worker_and_serves_on() {
    let host = grate_host(|_| {});
    // The second is run by another engine of Wasmtime's than the grate.
    let apps = [host.load(&asks(1)), host.load(&with_much_data(&asks(1)))];
    let mut modules = apps.to_vec();
    let cases = apps
        .iter()
        .flat_map(|&app| stuck().into_iter().map(move |case| (app, case)));
    for (app, (what, body)) in cases {
        let module = host.load(&grate(GRATE, &[&body, ECHO]));
        modules.push(module);
        let serves = host.grate(module, GRATE, |config| config.max_workers = 1);
        let cage = host.cage(app, APP, |config| config.grate_grace_ns = 30_000_000);
        cage.row.set(39, entry(serves.port, 1));
        host.start(cage.domain);
        marks(serves.user, 1);
        let begin = Instant::now();
        stop(cage.domain);
        let main = main_of(&report(cage.user));
        assert!(
            begin.elapsed() >= Duration::from_millis(30),
            "{what}: it had its time"
        );
        assert_eq!((main.state, main.torn), (LINDSHIM_AT_GRATE, 1), "{what}");
        // The host was told of the worker before its caller left.
        let ends = seen().ends[&serves.user].clone();
        assert_eq!(ends.len(), 1, "{what}");
        assert_eq!(
            (ends[0].outcome, ends[0].worker),
            (LINDSHIM_END_DISCARDED, true),
            "{what}"
        );
        assert_ne!(ends[0].thread_user, 0, "{what}");
        // In its place, and on its stack, there is another.
        assert_eq!(
            grate_call(entry(serves.port, 2), 0, 0, [1; 6]),
            (LINDSHIM_OK, 2)
        );
        end(&[serves, cage]);
    }
    host.finish(&[], &modules);
}

#[test]
fn a_caller_that_waits_for_a_worker_is_stopped_at_once() {
    let host = grate_host(|_| {});
    let (_, body) = &stuck()[1];
    let module = host.load(&grate(GRATE, &[body]));
    let app = host.load(&asks(1));
    let serves = host.grate(module, GRATE, |config| config.max_workers = 1);
    let first = host.cage(app, APP, |config| config.grate_grace_ns = 10_000_000);
    first.row.set(39, entry(serves.port, 1));
    host.start(first.domain);
    marks(serves.user, 1);
    for round in 0..200 {
        let second = host.cage(app, APP, |config| config.grate_grace_ns = 3_600_000_000_000);
        second.row.set(39, entry(serves.port, 1));
        host.start(second.domain);
        for _ in 0..round * 20 {
            std::hint::spin_loop();
        }
        stop(second.domain);
        report(second.user); // the grace is an hour: it is not what ends this
        end(&[second]);
    }
    end(&[first, serves]);
    host.finish(&[], &[app, module]);
}

#[test]
fn a_grate_that_traps_or_quits_leaves_its_caller_alive() {
    let host = grate_host(|_| {});
    let app = host.load(&asks(3));
    let functions = [
        "unreachable".to_owned(),
        format!("(call $do (i32.const {FAIL})) (i32.const 0)"),
        format!("(call $do (i32.const {STOP_SELF})) (i32.const 0)"),
        format!("(call $do (i32.const {QUIT})) (i32.const 0)"),
    ];
    let functions: Vec<&str> = functions.iter().map(String::as_str).collect();
    let module = host.load(&grate(GRATE, &functions));
    for function in 1..=4 {
        let serves = host.grate(module, GRATE, |_| {});
        let cage = host.cage(app, APP, |_| {});
        cage.row.set(39, entry(serves.port, function));
        host.start(cage.domain);
        let got = values(cage.user, 3);
        if function == 4 {
            // It only gave up this call, so it is there for the next.
            assert_eq!(got, [GRATE_ERR; 3]);
            let ends = seen().ends[&serves.user].clone();
            assert!(
                ends.iter()
                    .all(|end| end.worker && end.outcome == LINDSHIM_END_QUIT)
            );
            assert_eq!(ends.len(), 3);
        } else {
            assert_eq!(got, [GRATE_ERR, ELINDESRCH, ELINDESRCH]);
            report(serves.user);
            let ends = seen().ends.get(&serves.user).cloned().unwrap_or_default();
            if function == 3 {
                assert!(ends.is_empty(), "the report names the worker: {ends:?}");
            } else {
                assert_eq!(
                    (ends[0].outcome, ends[0].worker),
                    (LINDSHIM_END_TRAPPED, true)
                );
                assert!(!ends[0].message.is_empty());
            }
        }
        end(&[cage, serves]);
    }
    host.finish(&[], &[app, module]);
}

#[test]
fn a_grate_may_stop_its_caller() {
    let host = grate_host(|_| {});
    let app = host.load(&asks(1));
    let body =
        format!("(call $do (i32.const {STOP_CALLER})) (call $do (i32.const {MARK})) (i32.const 0)");
    let module = host.load(&grate(GRATE, &[&body]));
    let serves = host.grate(module, GRATE, |_| {});
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    assert_eq!(main_of(&report(cage.user)).torn, 0);
    assert_eq!(
        seen().marks[&serves.user],
        1,
        "the grate went on to its end"
    );
    assert!(
        !seen().values.contains_key(&cage.user),
        "the caller did not"
    );
    end(&[cage, serves]);
    host.finish(&[], &[app, module]);
}

/// A program above four grates, each of which passes the call on; the last does `body`.
fn chain(host: &Host, body: &str, grace_ns: u64) -> (Vec<Cage>, Vec<u64>) {
    let app = host.load(&asks(1));
    let mut modules = vec![app];
    let mut below: Option<Cage> = None;
    let mut cages = Vec::new();
    for i in (0..4).rev() {
        let number = GRATE + i;
        let passes = "(i32.add (i32.const 1) (call $call (i32.const 39)))";
        let module = host.load(&grate(number, &[if i == 3 { body } else { passes }]));
        modules.push(module);
        let mut cage = host.cage(module, number, |config| config.grate_grace_ns = grace_ns);
        cage.port = host.try_open(cage.domain, |_| {}).unwrap();
        if let Some(below) = below {
            cage.row.set(39, entry(below.port, 1));
        }
        below = Some(cage);
        cages.insert(0, cage);
    }
    let cage = host.cage(app, APP, |config| config.grate_grace_ns = grace_ns);
    cage.row.set(39, entry(cages[0].port, 1));
    cages.insert(0, cage);
    (cages, modules)
}

#[test]
fn any_one_in_a_chain_of_four_may_be_stopped() {
    let host = grate_host(|_| {});
    let mut all = Vec::new();
    for (what, body) in stuck() {
        for victim in 0..5 {
            let (cages, modules) = chain(&host, &body, 20_000_000);
            all.extend(modules);
            host.start(cages[0].domain);
            marks(cages[4].user, 1);
            stop(cages[victim].domain);
            report(cages[victim].user);
            if victim == 0 {
                assert!(!seen().values.contains_key(&cages[0].user), "{what}");
            } else {
                // What the victim's caller gets, plus one for each that passed it on.
                let got = values(cages[0].user, 1);
                assert_eq!(got, [GRATE_ERR + victim as i64 - 1], "{what} {victim}");
            }
            // Those below the victim lost their workers; those above live on undisturbed.
            for (i, cage) in cages.iter().enumerate().skip(1) {
                let seen = seen();
                let ends = seen.ends.get(&cage.user).map_or(&[][..], |ends| &ends[..]);
                let expected: &[u32] = if i > victim {
                    &[LINDSHIM_END_DISCARDED]
                } else {
                    &[]
                };
                let got: Vec<_> = ends.iter().map(|end| end.outcome).collect();
                assert_eq!(got, expected, "{what}: {victim} stopped, {i}: {ends:?}");
            }
            end(&cages);
        }
    }
    host.finish(&[], &all);
}

#[test]
fn calls_nest_to_the_limit_and_no_further() {
    for (limit, stack, expected) in [(0, 0, 16), (3, 0, 3), (64, 64 << 20, 64)] {
        let host = grate_host(|config| {
            config.max_call_depth = limit;
            config.stack_bytes = stack;
        });
        // Calls itself until that fails, and answers how deep it was; the innermost must have got ELOOP.
        let body = format!(
            "(local $r i32)
             (local.set $r (call $call (i32.const 39)))
             (if (i32.eq (local.get $r) (i32.const -{})) (then (return (i32.const 1))))
             (if (i32.lt_s (local.get $r) (i32.const 0)) (then unreachable))
             (i32.add (local.get $r) (i32.const 1))",
            libc::ELOOP
        );
        let module = host.load(&grate(GRATE, &[&body]));
        let app = host.load(&asks(2));
        let serves = host.grate(module, GRATE, |config| config.max_workers = 100);
        serves.row.set(39, entry(serves.port, 1));
        let cage = host.cage(app, APP, |_| {});
        cage.row.set(39, entry(serves.port, 1));
        host.start(cage.domain);
        assert_eq!(values(cage.user, 2), [expected, expected]);
        end(&[cage, serves]);
        host.finish(&[], &[app, module]);
    }
}

#[test]
fn too_little_native_stack_is_eloop_and_never_an_overflow() {
    let host = grate_host(|config| {
        config.max_call_depth = 64;
        config.wasm_stack_bytes = 1 << 20;
        config.stack_bytes = (2 << 20) + (300 << 10);
    });
    // Recurses in guest code as deep as $a0 says, and calls itself from there.
    let body = "(call $down (i32.wrap_i64 (local.get $a0)))";
    let more = format!(
        "(func $down (param $n i32) (result i32)
           (local i64 i64 i64 i64 i64 i64 i64 i64) (local $r i32)
           (if (i32.eqz (local.get $n))
             (then
               (local.set $r (call $sys (i32.const 39) (i64.const 4000) (i64.const 0) (i64.const 0)))
               (return (select (i32.const 1) (i32.add (local.get $r) (i32.const 1))
                 (i32.eq (local.get $r) (i32.const -{}))))))
           (i32.add (i32.const 0) (call $down (i32.sub (local.get $n) (i32.const 1)))))",
        libc::ELOOP
    );
    let shared = r#"(memory (export "memory") (import "env" "memory") 2 200 shared)"#;
    let module = host.load(&grate_with(GRATE, &[body], shared, &more));
    let app = host.load(&asks(1));
    let serves = host.grate(module, GRATE, |config| config.max_workers = 64);
    serves.row.set(39, entry(serves.port, 1));
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    let deep = values(cage.user, 1)[0];
    assert!(
        (2..60).contains(&deep),
        "{deep} deep, by the stack and not by the limit"
    );
    // On a thread of the host's with hardly any stack there is no call at all.
    let tiny = std::thread::Builder::new().stack_size(256 << 10);
    let port = serves.port;
    let status = tiny.spawn(move || grate_call(entry(port, 1), 0, 0, [0; 6]).0);
    assert_eq!(status.unwrap().join().unwrap(), LINDSHIM_ERR_DEPTH);
    end(&[cage, serves]);
    host.finish(&[], &[app, module]);
}

#[test]
fn a_grate_without_what_it_needs_is_a_clear_error() {
    let host = grate_host(|_| {});
    let good = grate(GRATE, &[ECHO]);
    let (tls_func, tls_size, tls_align) = (
        r#"(func (export "__wasm_init_tls") (param i32))"#,
        r#"(global (export "__tls_size") i32 (i32.const 8))"#,
        r#"(global (export "__tls_align") i32 (i32.const 8))"#,
    );
    let with_end = |more: &str| format!("{} {more})", good.strip_suffix(')').unwrap());
    for (wat, words) in [
        (good.replace("pass_fptr_to_wt", "other"), "--export=pass_fptr_to_wt"),
        (good.replace("(param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 ) (result i32)\n", "(param i64) (result i32)\n")
            .replace("(call_indirect (type $handler) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 6) (local.get 7) (local.get 8) (local.get 9) (local.get 10) (local.get 11) (local.get 12) (local.get 13) (i32.wrap_i64 (local.get 0)))", "i32.const 0"),
         "a function of 14 i64"),
        (good.replace("\"__stack_pointer\"", "\"other\""), "--export=__stack_pointer"),
        (good.replace("(export \"__stack_pointer\") (mut i32) (i32.const 65536)", "(export \"__stack_pointer\") i32 (i32.const 65536)")
            .replace("global.set $sp", "drop"), "a mutable global"),
        (with_end(&format!("{tls_func} {tls_size}")), "--export=__tls_align"),
        (with_end(&format!("{tls_align} {tls_size}")), "--export=__wasm_init_tls"),
        (with_end(&format!("{} {tls_size} {tls_align}", tls_func.replace("(param i32)", ""))), "__wasm_init_tls has to be"),
        (grate_with(GRATE, &[ECHO], "", r#"(memory (export "memory") 2 200)"#), "memory of its own"),
    ] {
        let module = host.load(&wat);
        let (domain, _) = host.domain(module);
        let (status, text) = host.try_open(domain, |_| {}).unwrap_err();
        assert_eq!(status, LINDSHIM_ERR_EXPORT, "{text}");
        assert!(text.contains(words), "{words:?} in {text:?}");
        unsafe {
            lindshim_domain_delete(domain, std::ptr::null_mut());
            lindshim_module_delete(module, std::ptr::null_mut());
        }
    }
    let module = host.load(&with_end(&format!("{tls_func} {tls_size} {tls_align}")));
    let (domain, user) = host.domain(module);
    for change in [
        |config: &mut GrateConfig| config.max_workers = 1025,
        |config: &mut GrateConfig| config.stack_bytes = u64::MAX,
    ] {
        let (status, text) = host.try_open(domain, change).unwrap_err();
        assert_eq!(status, LINDSHIM_ERR_INVALID, "{text}");
    }
    host.try_open(domain, |_| {}).unwrap();
    assert_eq!(
        host.try_open(domain, |_| {}).unwrap_err().0,
        LINDSHIM_ERR_BUSY
    );
    stop(domain);
    report(user);
    assert_eq!(
        host.try_open(domain, |_| {}).unwrap_err().0,
        LINDSHIM_ERR_CLOSED
    );
    host.finish(&[domain], &[module]);
}

#[test]
fn bad_functions_and_entries_are_errors() {
    let host = grate_host(|_| {});
    let module = host.load(&grate(GRATE, &[ECHO]));
    let app = host.load(&asks(1));
    let serves = host.grate(module, GRATE, |_| {});
    // 0 and 3 are empty places of the table, 4 and on are past its end.
    for function in [0, 3, 4, 0xff_ffff] {
        let cage = host.cage(app, APP, |_| {});
        cage.row.set(39, entry(serves.port, function));
        host.start(cage.domain);
        assert_eq!(
            values(cage.user, 1),
            [-i64::from(libc::EINVAL)],
            "{function}"
        );
        end(&[cage]);
    }
    // Garbage, ports that are not there, and generations that are not.
    for garbage in [
        1,
        2 << 62,
        u64::MAX,
        1 << 62,
        entry(serves.port | 0xfffe, 1), // no other test opens so many; the next one may be another test's
        entry(serves.port + (1 << 16), 1),
        entry((1 << 38) - 1, 1),
    ] {
        let cage = host.cage(app, APP, |_| {});
        cage.row.set(39, garbage);
        host.start(cage.domain);
        assert_eq!(values(cage.user, 1), [ELINDESRCH], "{garbage:#x}");
        assert_eq!(grate_call(garbage, 0, 0, [0; 6]).0, LINDSHIM_ERR_CLOSED);
        end(&[cage]);
    }
    // The grate is as it was. A function of another type is its own trap, and its end.
    assert_eq!(
        grate_call(entry(serves.port, 1), 0, 0, [1; 6]),
        (LINDSHIM_OK, 2)
    );
    assert_eq!(
        grate_call(entry(serves.port, 2), 0, 0, [0; 6]),
        (LINDSHIM_OK, LINDSHIM_GRATE_ERR)
    );
    report(serves.user);
    end(&[serves]);
    host.finish(&[], &[app, module]);
}

/// Caller, grate, call, the caller's thread, depth, result and arguments.
type Traced = (u64, u64, u64, u32, u32, i32, [u64; 6]);

static TRACES: Mutex<Vec<Traced>> = Mutex::new(Vec::new());

unsafe extern "C" fn trace(trace: *const Trace) {
    let trace = unsafe { &*trace };
    assert!(trace.start_ns > 0 && trace.duration_ns < 60_000_000_000);
    TRACES.lock().unwrap().push((
        trace.user,
        trace.grate_user,
        trace.call,
        trace.tid,
        trace.depth,
        trace.result,
        trace.args,
    ));
}

#[test]
fn the_host_learns_who_calls_whom() {
    let host = grate_host(|config| config.trace = Some(trace));
    let info = format!("(call $do (i32.const {INFO}))");
    let inner = host.load(&grate(GRATE + 1, &[&format!("{info} {ECHO}")]));
    let inner_cage = host.grate(inner, GRATE + 1, |_| {});
    // The outer grate passes the call on through the host.
    let nested = entry(inner_cage.port, 1);
    let outer = host.load(&grate(
        GRATE,
        &[&format!(
            "{info} (call $sys (i32.const {NESTED}) (i64.const {nested}) (i64.const {GRATE}) (i64.const 5))"
        )],
    ));
    let outer_cage = host.grate(outer, GRATE, |_| {});
    let app = host.load(&program(
        APP,
        "",
        &format!("{info} (call $report (call $sys (i32.const 39) (i64.const 8) (i64.const 9) (i64.const 0)))"),
    ));
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(39, entry(outer_cage.port, 1));
    host.start(cage.domain);
    assert_eq!(values(cage.user, 1), [1], "the nested call's argument is 0");
    report(cage.user);
    assert_eq!(grate_call(nested, 3, 4, [0; 6]), (LINDSHIM_OK, 1));
    let infos: Vec<_> = {
        let infos = INFOS.lock().unwrap();
        let users = [cage.user, outer_cage.user, inner_cage.user];
        infos
            .iter()
            .filter(|info| users.contains(&info.user))
            .copied()
            .collect()
    };
    let told = |info: &Info| (info.user, info.caller_user, info.depth, info.worker);
    assert_eq!(
        infos.iter().map(told).collect::<Vec<_>>(),
        [
            (cage.user, 0, 0, 0),
            (outer_cage.user, cage.user, 1, 1),
            (inner_cage.user, outer_cage.user, 2, 1),
            (inner_cage.user, 0, 1, 1),
        ]
    );
    let words: Vec<_> = infos.iter().map(|info| info.caller_thread_user).collect();
    assert!(
        words[1] != 0 && words[2] != 0 && words[1] != words[2],
        "{words:?}"
    );
    assert_eq!((words[0], words[3]), (0, 0));
    assert_eq!(
        *TRACES.lock().unwrap(),
        [
            (
                outer_cage.user,
                inner_cage.user,
                5,
                seen_tid(&outer_cage),
                2,
                1,
                [0; 6]
            ),
            (cage.user, outer_cage.user, 39, 1, 1, 1, [8, 9, 0, 0, 0, 0]),
            (0, inner_cage.user, 4, 0, 1, 1, [0; 6]),
        ]
    );
    end(&[cage, outer_cage, inner_cage]);
    host.finish(&[], &[app, inner, outer]);
}

/// The id of the grate's only worker.
fn seen_tid(cage: &Cage) -> u32 {
    let mut threads = [const { std::mem::MaybeUninit::<Thread>::uninit() }; 4];
    let mut n = 0;
    let null = std::ptr::null_mut();
    let status = unsafe {
        lindshim_domain_threads(cage.domain, threads.as_mut_ptr().cast(), 4, &mut n, null)
    };
    assert_eq!((status, n), (LINDSHIM_OK, 1));
    let worker = unsafe { threads[0].assume_init() };
    assert_eq!((worker.state, worker.worker), (LINDSHIM_AT_IDLE, 1));
    worker.tid
}

/// A grate as a linker makes it for one thread: a memory of its own, data, and a start function.
fn plain_grate(functions: &[&str]) -> String {
    grate_with(
        GRATE,
        functions,
        "",
        r#"(memory (export "memory") 2)
           (data (i32.const 1024) "\2a\00\00\00")
           (func $begin (i32.store (i32.const 1028) (i32.add (i32.load (i32.const 1028)) (i32.const 1))))
           (start $begin)"#,
    )
}

#[test]
fn data_and_start_functions_are_the_first_instances_alone() {
    let host = grate_host(|_| {});
    // Adds to what the data segment says, and tells how often the start function ran.
    let body = "(i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.wrap_i64 (local.get $a0))))
         (i32.add (i32.mul (i32.load (i32.const 1028)) (i32.const 1000)) (i32.load (i32.const 1024)))";
    let wat = plain_grate(&[body]);
    let module = host
        .try_load_with(lindshim_module_load_grate, wat.as_bytes())
        .unwrap();
    for start_first in [true, false] {
        let serves = host.grate(module, GRATE, |_| {});
        if start_first {
            host.start(serves.domain);
            // Its main thread waits in the host when the memory is as it is to be.
            loop {
                let mut thread = std::mem::MaybeUninit::<Thread>::uninit();
                let (mut n, null) = (0, std::ptr::null_mut());
                let status = unsafe {
                    lindshim_domain_threads(
                        serves.domain,
                        thread.as_mut_ptr().cast(),
                        1,
                        &mut n,
                        null,
                    )
                };
                assert_eq!((status, n), (LINDSHIM_OK, 1));
                if unsafe { thread.assume_init() }.state == LINDSHIM_AT_HOST_CALL {
                    break;
                }
                std::thread::yield_now();
            }
        }
        for expected in [1043, 1044, 1045] {
            let call = grate_call(entry(serves.port, 1), 0, 0, [1, 0, 0, 0, 0, 0]);
            assert_eq!(call, (LINDSHIM_OK, expected));
        }
        if !start_first {
            host.start(serves.domain);
            let call = grate_call(entry(serves.port, 1), 0, 0, [1, 0, 0, 0, 0, 0]);
            assert_eq!(
                call,
                (LINDSHIM_OK, 1046),
                "the program's start does not begin anew"
            );
        }
        end(&[serves]);
    }
    host.finish(&[], &[module]);
}

#[test]
fn a_grate_that_was_built_for_one_thread_serves_one_call_at_a_time() {
    let host = grate_host(|_| {});
    // No atomics in there: two at once would lose counts.
    let body = "(local $i i32)
         (loop $l
           (i32.store (i32.const 2048) (i32.add (i32.load (i32.const 2048)) (i32.const 1)))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const 20000))))
         (i32.load (i32.const 2048))";
    let wat = plain_grate(&[body]);
    let module = host
        .try_load_with(lindshim_module_load_grate, wat.as_bytes())
        .unwrap();
    let app = host.load(&crowd(8));
    let serves = host.grate(module, GRATE, |config| config.max_workers = 64);
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    let mut counts = values(cage.user, 8);
    counts.sort_unstable();
    assert_eq!(counts, (1..=8).map(|i| i * 20000).collect::<Vec<_>>());
    end(&[cage, serves]);
    host.finish(&[], &[app, module]);
}

#[test]
fn a_module_is_loaded_as_a_grate_or_told_what_it_lacks() {
    let host = grate_host(|_| {});
    let try_load = |wat: &str| host.try_load_with(lindshim_module_load_grate, wat.as_bytes());
    for (wat, status, words) in [
        ("", LINDSHIM_ERR_MODULE, "empty"),
        ("(module (func (result i32)))", LINDSHIM_ERR_MODULE, ""),
        ("(module)", LINDSHIM_ERR_EXPORT, "no memory"),
        (
            "(module (memory 1))",
            LINDSHIM_ERR_EXPORT,
            "--export=pass_fptr_to_wt",
        ),
        (
            r#"(module (memory 1) (func (export "pass_fptr_to_wt")))"#,
            LINDSHIM_ERR_EXPORT,
            "a function of 14 i64",
        ),
        (
            r#"(module (import "host" "nope" (func)) (memory 1))"#,
            LINDSHIM_ERR_IMPORT,
            "host.nope",
        ),
    ] {
        let (got, text) = try_load(wat).unwrap_err();
        assert_eq!(got, status, "{wat}: {text}");
        assert!(text.contains(words), "{wat}: {text}");
    }
    // What the linker named but did not export is found by its name.
    let hidden = plain_grate(&[ECHO])
        .replace(r#" (export "__stack_pointer")"#, "")
        .replace("$sp", "$__stack_pointer");
    let module = try_load(&hidden).unwrap();
    let serves = host.grate(module, GRATE, |_| {});
    assert_eq!(
        grate_call(entry(serves.port, 1), 0, 0, [1; 6]),
        (LINDSHIM_OK, 2)
    );
    // A limit on memory holds for the stacks of workers as well: two pages and no more.
    let limited = host.cage(module, GRATE, |config| config.max_memory_bytes = 2 * 65536);
    let port = host.try_open(limited.domain, |_| {}).unwrap();
    assert_eq!(
        grate_call(entry(port, 1), 0, 0, [1; 6]).0,
        LINDSHIM_ERR_LIMIT
    );
    end(&[serves, limited]);
    host.finish(&[], &[module]);
}

#[test]
fn a_memory_that_is_full_bounds_the_workers() {
    let host = grate_host(|_| {});
    let (_, body) = &stuck()[2];
    let module = host.load(&grate(GRATE, &[body, ECHO]));
    let app = host.load(&crowd(4));
    // Room for two stacks of a page each: the other callers wait.
    let mut serves = host.cage(module, GRATE, |config| config.max_memory_bytes = 4 * 65536);
    serves.port = host.try_open(serves.domain, |_| {}).unwrap();
    let cage = host.cage(app, APP, |config| config.grate_grace_ns = 1_000_000);
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    marks(serves.user, 2);
    stop(cage.domain);
    report(cage.user);
    assert_eq!(seen().marks[&serves.user], 2);
    // The stacks of those that were discarded are there for others.
    for _ in 0..5 {
        let call = grate_call(entry(serves.port, 2), 0, 0, [1; 6]);
        assert_eq!(call, (LINDSHIM_OK, 2));
    }
    end(&[serves, cage]);
    host.finish(&[], &[app, module]);
}

/// Small numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// Eight threads of four programs call through three grates, which call each other and do all that can go wrong, while
/// programs and grates are stopped at random. LINDSHIM_HAMMER_SECONDS says for how long.
#[test]
fn hammer() {
    let host = grate_host(|config| config.max_call_depth = 8);
    let functions = [
        "(i32.const 5)".to_owned(),
        "(call $call (i32.const 39))".into(),
        "(call $call (i32.const 40))".into(),
        "(drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const 20000))) (i32.const 5)".into(),
        format!("(drop (call $sys (i32.const {WAIT}) (i64.const 1) (i64.const 0) (i64.const 0))) (i32.const 5)"),
        format!("(drop (call $sys (i32.const {BLOCK}) (i64.const 1) (i64.const 0) (i64.const 0))) (i32.const 5)"),
        "(call $spin) (i32.const 5)".into(),
        "(loop $l (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))) (br $l)) (i32.const 5)".into(),
        format!("(call $do (i32.const {QUIT})) (i32.const 5)"),
        format!("(call $do (i32.const {STOP_SELF})) (i32.const 5)"),
        "unreachable".into(),
    ];
    // What is rare ends something, or holds its caller until that is stopped.
    let weights = [30, 20, 10, 10, 2, 2, 1, 1, 2, 1, 1];
    let deck: Vec<u64> = (1..)
        .zip(weights)
        .flat_map(|(function, n)| vec![function; n])
        .collect();
    let functions: Vec<&str> = functions.iter().map(String::as_str).collect();
    let body = format!(
        "(local $n i32) (local $r i32)
         (loop $l
           (local.set $n (i32.add (i32.mul (local.get $n) (i32.const 1103515245)) (i32.const 12345)))
           (local.set $r (call $call (i32.add (i32.const 40)
             (i32.rem_u (i32.shr_u (local.get $n) (i32.const 8)) (i32.const {})))))
           ;; Natively these calls answer 1000 and more.
           (if (i32.gt_s (local.get $r) (i32.const 500)) (then (call $report (local.get $r)) unreachable))
           (drop (i32.atomic.rmw.add (i32.const 256) (i32.const 1)))
           (br $l))",
        deck.len()
    );
    let main = "(if (i32.eqz (call $spawn (i32.const 0))) (then unreachable)) (call $loop)";
    let program = program(APP, "(call $loop)", main).replacen(
        "(func (export \"_start\")",
        &format!("(func $loop {body})\n(func (export \"_start\")"),
        1,
    );
    let app = host.load(&program);
    let module = host.load(&grate(GRATE, &functions));
    let mut dice = Dice(42);
    let seconds = std::env::var("LINDSHIM_HAMMER_SECONDS");
    let seconds = seconds.map_or(3, |seconds| seconds.parse().unwrap());

    let new_grate = || {
        let mut cage = host.cage(module, GRATE, |config| config.grate_grace_ns = 2_000_000);
        cage.port = host
            .try_open(cage.domain, |config| config.max_workers = 4)
            .unwrap();
        host.start(cage.domain);
        cage
    };
    let fill = |cage: &Cage, grates: &[Cage], dice: &mut Dice| {
        for call in 39..41 + deck.len() {
            let function = deck[call.saturating_sub(40) % deck.len()];
            let port = grates[dice.roll(grates.len() as u64) as usize].port;
            let one = if dice.roll(50) == 0 {
                GONE
            } else {
                entry(port, function)
            };
            cage.row.set(call, one);
        }
    };
    let mut grates: Vec<_> = (0..3).map(|_| new_grate()).collect();
    for cage in &grates.clone() {
        fill(cage, &grates, &mut dice);
    }
    let new_program = |grates: &[Cage], dice: &mut Dice| {
        let cage = host.cage(app, APP, |config| config.grate_grace_ns = 2_000_000);
        fill(&cage, grates, dice);
        host.start(cage.domain);
        cage
    };
    let mut programs: Vec<_> = (0..4).map(|_| new_program(&grates, &mut dice)).collect();
    let (mut rounds, mut calls) = (0_u64, 0_u64);
    let mut finish = |cage: &Cage| {
        stop(cage.domain);
        report(cage.user);
        let (mut memory, mut bytes, null) = (std::ptr::null_mut(), 0, std::ptr::null_mut());
        unsafe {
            assert_eq!(
                lindshim_domain_memory(cage.domain, &mut memory, &mut bytes, null),
                LINDSHIM_OK
            );
            calls += u64::from(memory.add(256).cast::<u32>().read_volatile());
            assert_eq!(lindshim_domain_delete(cage.domain, null), LINDSHIM_OK);
        }
        let mut guard = seen();
        let seen = &mut *guard;
        assert_eq!(
            seen.values.remove(&cage.user),
            None,
            "a guarded call was served natively"
        );
        for map in [&mut seen.domains, &mut seen.marks, &mut seen.totals] {
            map.remove(&cage.user);
        }
        seen.reports.remove(&cage.user);
        seen.ends.remove(&cage.user);
    };
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        rounds += 1;
        for _ in 0..dice.roll(40_000) {
            std::hint::spin_loop();
        }
        if dice.roll(3) == 0 {
            let k = dice.roll(grates.len() as u64) as usize;
            let old = grates[k];
            if dice.roll(2) == 0 {
                // The new one is there before the old one goes.
                grates[k] = new_grate();
                finish(&old);
            } else {
                finish(&old);
                grates[k] = new_grate();
            }
            let all: Vec<_> = grates.iter().chain(&programs).copied().collect();
            for cage in &all {
                fill(cage, &grates, &mut dice);
            }
        } else {
            let k = dice.roll(programs.len() as u64) as usize;
            let old = programs[k];
            programs[k] = new_program(&grates, &mut dice);
            finish(&old);
        }
    }
    let mut last: Vec<_> = grates.into_iter().chain(programs).collect();
    while !last.is_empty() {
        let cage = last.swap_remove(dice.roll(last.len() as u64) as usize);
        finish(&cage);
    }
    println!("{rounds} stops, {calls} calls came back");
    assert!(rounds > 10 && calls > 1000, "{rounds} stops, {calls} calls");
    let mut stats = EngineStats {
        threads_running: 0,
        threads_idle: 0,
        domains: 0,
        modules: 0,
    };
    let begin = Instant::now();
    loop {
        let null = std::ptr::null_mut();
        assert_eq!(
            unsafe { lindshim_engine_stats(host.engine, &mut stats, null) },
            LINDSHIM_OK
        );
        assert_eq!(stats.domains, 0);
        // Threads that counted themselves out may still be on their way to the pool.
        if stats.threads_running == 0 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{stats:?}");
        std::thread::yield_now();
    }
    host.finish(&[], &[app, module]);
}

#[test]
fn each_worker_has_thread_local_storage_of_its_own() {
    let host = grate_host(|_| {});
    // The handler counts in its thread's storage, which the image says begins with 7, at an address that has to be aligned.
    let tls = r#"(global $base (mut i32) (i32.const 0))
        (global (export "__tls_size") i32 (i32.const 24))
        (global (export "__tls_align") i32 (i32.const 256))
        (func (export "__wasm_init_tls") (param i32)
          (if (i32.rem_u (local.get 0) (i32.const 256)) (then unreachable))
          (if (i32.gt_u (global.get $sp) (local.get 0)) (then unreachable))
          (global.set $base (local.get 0))
          (i32.store offset=20 (local.get 0) (i32.const 7)))"#;
    let count = "(i32.store offset=20 (global.get $base) (i32.add (i32.load offset=20 (global.get $base)) (i32.const 1)))";
    let body = format!(
        "{count} (drop (call $sys (i32.const {WAIT}) (local.get $a0) (i64.const 0) (i64.const 0)))
         (i32.load offset=20 (global.get $base))"
    );
    let quick = format!("{count} (i32.load offset=20 (global.get $base))");
    let shared = r#"(memory (export "memory") (import "env" "memory") 2 200 shared)"#;
    let module = host.load(&grate_with(GRATE, &[&body, &quick], shared, tls));
    let app = host.load(&crowd(1));
    let serves = host.grate(module, GRATE, |_| {});
    let cage = host.cage(app, APP, |config| config.grate_grace_ns = 1_000_000_000);
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    marks(serves.user, 1);
    // One worker sits in its call; the other is made for this and used again.
    for expected in [8, 9, 10] {
        let call = grate_call(entry(serves.port, 2), 0, 0, [0; 6]);
        assert_eq!(call, (LINDSHIM_OK, expected));
    }
    end(&[cage, serves]);
    host.finish(&[], &[app, module]);
}

#[test]
fn a_thread_never_waits_for_a_worker_that_it_is_inside_itself() {
    let host = grate_host(|_| {});
    let module = host.load(&grate(GRATE, &["(call $call (i32.const 39))"]));
    let app = host.load(&asks(1));
    let serves = host.grate(module, GRATE, |config| config.max_workers = 2);
    serves.row.set(39, entry(serves.port, 1));
    let cage = host.cage(app, APP, |_| {});
    cage.row.set(39, entry(serves.port, 1));
    host.start(cage.domain);
    assert_eq!(values(cage.user, 1), [-i64::from(libc::ELOOP)]);
    end(&[cage, serves]);
    host.finish(&[], &[app, module]);
}

#[test]
fn a_worker_that_never_gets_ready_holds_nobody_for_ever() {
    let host = grate_host(|_| {});
    // A start function of each instance's, since the module is not loaded as a grate: the second never comes to an end.
    let start = "(func $begin (if (i32.atomic.rmw.add (i32.const 512) (i32.const 1)) (then (call $spin)))) (start $begin)";
    let shared = r#"(memory (export "memory") (import "env" "memory") 2 200 shared)"#;
    let module = host.load(&grate_with(GRATE, &[ECHO], shared, start));
    let app = host.load(&asks(1));
    for stop_the_grate in [false, true] {
        let serves = host.grate(module, GRATE, |_| {});
        host.start(serves.domain);
        let mut bytes = (std::ptr::null_mut(), 0);
        let null = std::ptr::null_mut();
        let status =
            unsafe { lindshim_domain_memory(serves.domain, &mut bytes.0, &mut bytes.1, null) };
        assert_eq!(status, LINDSHIM_OK);
        let started = || unsafe { bytes.0.add(512).cast::<u32>().read_volatile() };
        while started() < 1 {
            std::thread::yield_now();
        }
        let cage = host.cage(app, APP, |config| config.grate_grace_ns = 5_000_000);
        cage.row.set(39, entry(serves.port, 1));
        host.start(cage.domain);
        while started() < 2 {
            std::thread::yield_now();
        }
        if stop_the_grate {
            stop(serves.domain);
            assert_eq!(values(cage.user, 1), [ELINDESRCH]);
        } else {
            stop(cage.domain);
            report(cage.user);
            assert_eq!(seen().ends[&serves.user][0].outcome, LINDSHIM_END_DISCARDED);
        }
        end(&[serves, cage]);
    }
    host.finish(&[], &[app, module]);
}

#[test]
fn an_open_grate_is_stopped_before_it_is_deleted() {
    let host = grate_host(|_| {});
    let module = host.load(&grate(GRATE, &[ECHO]));
    let serves = host.grate(module, GRATE, |_| {});
    assert_eq!(
        unsafe { lindshim_domain_delete(serves.domain, std::ptr::null_mut()) },
        LINDSHIM_ERR_BUSY
    );
    assert_eq!(
        grate_call(entry(serves.port, 1), 0, 0, [1; 6]),
        (LINDSHIM_OK, 2)
    );
    end(&[serves]);
    host.finish(&[], &[module]);
}
