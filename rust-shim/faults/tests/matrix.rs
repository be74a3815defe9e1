//! Every failure point, each way of being armed, in a world that passes nearly all of them, ended in each order: whatever
//! fails or is late, each domain has its one report, and nothing is left.

extern crate lindshim_faults as lindshim;

#[path = "../../tests/common/mod.rs"]
mod common;
mod support;

use common::grates::*;
use common::*;
use lindshim::ffi::types::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::*;

const APP: u64 = 10;
const GRATE: u64 = 20;

/// Calls of the app's and the functions of the grate that serve them.
const ECHO: u32 = 31;
const SPIN: u32 = 32;
const NAP: u32 = 33;
const BLOCKED: u32 = 34;
const SLOW: u32 = 35;

fn grate_text() -> String {
    grate(
        GRATE,
        &[
            "(i32.wrap_i64 (local.get $a0))",
            &format!("(call $do (i32.const {MARK})) (call $spin) (i32.const 0)"),
            &format!("(call $do (i32.const {WAIT})) (i32.const 0)"),
            &format!("(call $do (i32.const {BLOCK})) (i32.const 0)"),
            "(drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const 300000))) (i32.const 0)",
        ],
    )
}

/// What the app's threads do, by the number that they are given.
fn app_text() -> String {
    let sys = |call: u32| {
        format!("(drop (call $sys (i32.const {call}) (i64.const 0) (i64.const 0) (i64.const 0)))")
    };
    let mark = format!("(call $do (i32.const {MARK}))");
    let forever = |body: &str| format!("(loop $l {body} (br $l))");
    let kinds = [
        format!("{mark} (call $spin)"),
        format!("{mark} (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))"),
        // Two that wake each other.
        forever(
            "(drop (memory.atomic.wait32 (i32.const 128) (i32.const 0) (i64.const 200000)))
             (drop (memory.atomic.notify (i32.const 128) (i32.const 1)))",
        ),
        forever(
            "(drop (memory.atomic.wait32 (i32.const 128) (i32.const 0) (i64.const 300000)))
             (drop (memory.atomic.notify (i32.const 128) (i32.const 1)))",
        ),
        sys(WAIT as u32),
        sys(BLOCK as u32),
        forever(&(sys(ECHO) + &sys(SLOW))),
        forever(&(sys(SLOW) + &sys(ECHO))),
        forever(&sys(SLOW)),
        sys(SPIN),
        sys(NAP),
        sys(BLOCKED),
        String::new(),
    ];
    let thread: String = kinds
        .iter()
        .enumerate()
        .map(|(i, body)| format!("(if (i32.eq (local.get 1) (i32.const {i})) (then {body}))\n"))
        .collect();
    let n = kinds.len();
    let spawn = "(drop (call $spawn (local.get $i)))";
    program(
        APP,
        &thread,
        &format!(
            "(loop $l
               {spawn}
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $l (i32.lt_u (local.get $i) (i32.const {n}))))
             {mark}
             (drop (call $sys (i32.const {WAIT}) (i64.const 1) (i64.const 0) (i64.const 0)))"
        ),
    )
}

/// A program whose memory is its own: it grows, says so, and waits.
const ALONE: &str = r#"(module
  (import "lind" "make-syscall" (func $make (param i32 i64 i64 i64
    i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
  (memory (export "memory") 1 8)
  (func (export "_start")
    (drop (memory.grow (i32.const 1)))
    (drop (memory.grow (i32.const 1)))
    (drop (call $make (i32.const 2002) (i64.const 0) (i64.const 11) (i64.const 11)
      (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
      (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))))"#;

/// In which order the domains are stopped.
#[derive(Clone, Copy, Debug)]
enum End {
    AppFirst,
    GrateFirst,
    AtOnce,
    Early,
}

const ENDS: [End; 4] = [End::AppFirst, End::GrateFirst, End::AtOnce, End::Early];

/// Whether anything may fail.
static ARMED: AtomicBool = AtomicBool::new(false);

/// A failure has a cause that a caller can tell from others, and a text; and is no bug of the shim's.
fn expected<T>(result: Result<T, (i32, String)>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err((status, text)) => {
            assert!(
                ARMED.load(Ordering::SeqCst),
                "without a fault: {status}: {text}"
            );
            let known = [
                LINDSHIM_ERR_MODULE,
                LINDSHIM_ERR_MEMORY,
                LINDSHIM_ERR_LIMIT,
                LINDSHIM_ERR_IO,
            ];
            assert!(
                known.contains(&status) && !text.is_empty(),
                "{status}: {text}"
            );
            None
        }
    }
}

/// One world, from its engine to its end.
fn world(end: End) {
    let host = grate_host(|_| {});
    let modules: Vec<_> = [app_text(), grate_text(), ALONE.into()]
        .iter()
        .filter_map(|text| expected(host.try_load(text)))
        .collect();
    let (mut cages, mut hosts) = (Vec::new(), Vec::new());
    if let [app, grate, alone] = modules[..] {
        let mut cage = |module, number| {
            let row = Row::new();
            let made = host.try_domain(module, |config| {
                config.handlers = row.word();
                config.cage = number;
                config.grate_grace_ns = 2_000_000;
            });
            let (domain, user) = expected(made)?;
            cages.push((domain, user));
            Some((domain, user, row))
        };
        let (serves, asks, alone) = (cage(grate, GRATE), cage(app, APP), cage(alone, 11));
        let port = serves.and_then(|(domain, ..)| {
            expected(host.try_open(domain, |grate| grate.max_workers = 5))
        });
        if let (Some((.., row)), Some(port)) = (asks, port) {
            for (function, call) in [ECHO, SPIN, NAP, BLOCKED, SLOW].into_iter().enumerate() {
                row.set(call as usize, entry(port, 1 + function as u64));
            }
        }
        // The app first, so that an early end finds callers that make their first worker.
        // It and the program alone run on threads of the host's.
        for (cage, hosted) in [(asks, true), (serves, false), (alone, true)] {
            let Some((domain, ..)) = cage else { continue };
            if !hosted {
                expected(host.try_start(domain));
            } else if expected(host.try_begin(domain)).is_some() {
                hosts.push(run_apart(domain, 1));
            }
        }
        if let (Some((_, user, _)), false) = (asks, matches!(end, End::Early)) {
            // Until the app has done what it can, if nothing fails; and else for a while.
            wait_at_most(Duration::from_millis(30), |seen| {
                let marks = seen.marks.get(&user).copied().unwrap_or(0);
                (marks >= 5 || seen.reports.contains_key(&user)).then_some(())
            });
        }
    }
    if let End::GrateFirst = end {
        cages.sort_unstable();
    } else {
        cages.sort_unstable_by(|a, b| b.cmp(a));
    }
    if let End::AtOnce = end {
        std::thread::scope(|scope| {
            for (domain, _) in &cages {
                scope.spawn(|| stop(*domain));
            }
        });
    } else {
        cages.iter().for_each(|(domain, _)| stop(*domain));
    }
    for (_, user) in &cages {
        report(*user);
        check_told(*user);
    }
    for thread in hosts {
        assert_eq!(thread.join().unwrap(), LINDSHIM_OK);
    }
    let domains: Vec<_> = cages.iter().map(|(domain, _)| *domain).collect();
    host.finish(&domains, &modules);
    for (_, user) in &cages {
        check_told(*user);
    }
}

fn run(points: &[&str], actions: &[&str], fired: &mut HashMap<&'static str, u64>) {
    for (i, action) in actions.iter().enumerate() {
        for (k, end) in ENDS.into_iter().enumerate() {
            let _alone = alone();
            let before = support::points();
            for name in points {
                set(name, &action.replace("SEED", &(4 * i + k).to_string()));
            }
            eprintln!("{points:?} {action} {end:?}");
            ARMED.store(true, Ordering::SeqCst);
            world(end);
            ARMED.store(false, Ordering::SeqCst);
            for (before, now) in before.iter().zip(support::points()) {
                *fired.entry(now.name).or_default() += now.fired - before.fired;
            }
        }
    }
}

#[test]
fn whatever_fails_or_is_late_nothing_is_lost_doubled_or_left() {
    for end in ENDS {
        let _alone = alone();
        world(end);
    }
    let (mut fired, late) = (HashMap::new(), ["sleep(3ms)", "seed=SEED;50%sleep(500us)"]);
    for point in points() {
        if point.name == "engine-new" {
            continue; // there is no world without one
        }
        run(&[point.name], &late, &mut fired);
        if point.fails {
            let fails = ["fail", "1*fail", "1*off->1*fail", "seed=SEED;40%fail"];
            run(&[point.name], &fails, &mut fired);
        }
        // Some are passed only where threads meet in a certain way, as expire is where one outlives a grace.
        for _ in 0..20 {
            if fired[point.name] == 0 {
                run(&[point.name], &late, &mut fired);
            }
        }
        assert_ne!(fired[point.name], 0, "{} was never passed", point.name);
    }
}

/// All of them at once, each seldom.
#[test]
fn many_faults_at_once_leave_nothing_either() {
    let points = points();
    let late: Vec<_> = points.iter().map(|point| point.name).collect();
    let fails = points
        .iter()
        .filter(|point| point.fails && point.name != "engine-new");
    let fails: Vec<_> = fails.map(|point| point.name).collect();
    for round in 0..10 {
        let seed = |k: u32| format!("seed={round}{k}SEED;");
        run(
            &late,
            &[&(seed(1) + "10%sleep(300us)->20%yield")],
            &mut HashMap::new(),
        );
        run(
            &fails,
            &[&(seed(2) + "10%fail->10%sleep(200us)")],
            &mut HashMap::new(),
        );
    }
}
