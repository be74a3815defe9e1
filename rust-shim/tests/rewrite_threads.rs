//! Threads meet in a rewritten module as they do in the original, and, unlike there, a host function can end a wait.

mod rewrite_support;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use lindshim::rewrite::{IMPORT_MODULE, WaitOp};
use rewrite_support::guest::{Guest, Outcome, Way, contents};
use rewrite_support::{engine, rewritten, wasm};
use wasmtime::{Engine, ExternType, Func, Linker, MemoryType, Module, SharedMemory, Store, Val};

/// When a test that hangs is given up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for something that a thread answers.
fn answer<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(DEADLINE)
        .expect("an answer before the deadline")
}

fn memory(engine: &Engine) -> SharedMemory {
    SharedMemory::new(engine, MemoryType::shared(1, 1)).expect("a shared memory")
}

/// The 32-bit word at `address`, once nothing runs.
fn word(memory: &SharedMemory, address: usize) -> u32 {
    let bytes = contents(memory);
    u32::from_le_bytes(bytes[address..address + 4].try_into().expect("four bytes"))
}

/// Two players who move in turns; whose turn it is stands at 0, the number of moves at 8.
const PING_PONG: &str = r#"(module
    (import "env" "memory" (memory 1 1 shared))
    (func (export "play") (param $me i32) (param $rounds i32) (result i32)
        (local $woken i32)
        (loop $round
            (block $mine (loop $not_mine
                (br_if $mine (i32.eq (i32.atomic.load (i32.const 0)) (local.get $me)))
                (if (i32.eqz (memory.atomic.wait32 (i32.const 0)
                        (i32.sub (i32.const 1) (local.get $me)) (i64.const -1)))
                    (then (local.set $woken (i32.add (local.get $woken) (i32.const 1)))))
                (br $not_mine)))
            (drop (i32.atomic.rmw.add (i32.const 8) (i32.const 1)))
            (i32.atomic.store (i32.const 0) (i32.sub (i32.const 1) (local.get $me)))
            (drop (memory.atomic.notify (i32.const 0) (i32.const 1)))
            (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
            (br_if $round (local.get $rounds)))
        (local.get $woken)))"#;

#[test]
fn two_threads_take_turns_both_ways() {
    const ROUNDS: u32 = 2_000;
    let engine = engine();
    for way in [Way::Native, Way::Rewritten] {
        let memory = memory(&engine);
        let (send, receive) = channel();
        for me in 0..2 {
            let mut guest = Guest::over(&engine, &wasm(PING_PONG), way, &memory);
            let send = send.clone();
            thread::spawn(move || send.send(guest.call("play", &[me, i64::from(ROUNDS)])));
        }
        for _ in 0..2 {
            let outcome = answer(&receive);
            assert!(
                matches!(outcome, Outcome::Returned(_)),
                "{way:?}: {outcome:?}"
            );
        }
        assert_eq!(word(&memory, 8), 2 * ROUNDS, "{way:?}");
    }
}

/// Sleepers of both widths, and one who wakes all of them when all have said (at 0) that they are about to sleep.
const SLEEPERS: &str = r#"(module
    (import "env" "memory" (memory 1 1 shared))
    (func $announce
        (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
        (drop (memory.atomic.notify (i32.const 0) (i32.const 1))))
    (func (export "sleep32") (result i32)
        (call $announce)
        (memory.atomic.wait32 offset=8 (i32.const 0) (i32.const 0) (i64.const -1)))
    (func (export "sleep64") (result i32)
        (call $announce)
        (memory.atomic.wait64 offset=8 (i32.const 8) (i64.const 0) (i64.const -1)))
    (func (export "wake") (param $sleepers i32) (local $seen i32)
        (block $all (loop $more
            (local.set $seen (i32.atomic.load (i32.const 0)))
            (br_if $all (i32.eq (local.get $seen) (local.get $sleepers)))
            (drop (memory.atomic.wait32 (i32.const 0) (local.get $seen) (i64.const -1)))
            (br $more)))
        (i32.atomic.store (i32.const 8) (i32.const 1))
        (i32.atomic.store (i32.const 16) (i32.const 1))
        (drop (memory.atomic.notify (i32.const 8) (i32.const -1)))
        (drop (memory.atomic.notify offset=16 (i32.const 0) (i32.const -1)))))"#;

/// Wakes the sleepers once there are so many.
fn wake(engine: &Engine, way: Way, memory: &SharedMemory, sleepers: i64) {
    let mut guest = Guest::over(engine, &wasm(SLEEPERS), way, memory);
    let (send, receive) = channel();
    thread::spawn(move || send.send(guest.call("wake", &[sleepers])));
    assert_eq!(answer(&receive), Outcome::Returned(vec![]), "{way:?}");
}

#[test]
fn one_notify_ends_all_waits_at_its_address_both_ways() {
    let engine = engine();
    for way in [Way::Native, Way::Rewritten] {
        let memory = memory(&engine);
        let (send, receive) = channel();
        for i in 0..8 {
            let mut guest = Guest::over(&engine, &wasm(SLEEPERS), way, &memory);
            let send = send.clone();
            let name = if i % 2 == 0 { "sleep32" } else { "sleep64" };
            thread::spawn(move || send.send(guest.call(name, &[])));
        }
        wake(&engine, way, &memory, 8);
        for _ in 0..8 {
            // Woken, or not asleep yet when the value changed.
            let Outcome::Returned(values) = answer(&receive) else {
                panic!("{way:?}: a sleeper traps");
            };
            assert!(
                values == ["I32(0)"] || values == ["I32(1)"],
                "{way:?}: {values:?}"
            );
        }
    }
}

#[test]
fn a_start_function_can_wait_for_another_thread_both_ways() {
    let engine = engine();
    let sleeps_at_start = wasm(
        r#"(module
            (import "env" "memory" (memory 1 1 shared))
            (func $start
                (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
                (drop (memory.atomic.notify (i32.const 0) (i32.const 1)))
                (i32.store (i32.const 24)
                    (i32.add (i32.const 10) (memory.atomic.wait32 (i32.const 8) (i32.const 0) (i64.const -1)))))
            (start $start))"#,
    );
    for way in [Way::Native, Way::Rewritten] {
        let memory = memory(&engine);
        let (send, receive) = channel();
        let (engine_too, module, memory_too) =
            (engine.clone(), sleeps_at_start.clone(), memory.clone());
        thread::spawn(move || {
            let guest = Guest::over(&engine_too, &module, way, &memory_too);
            send.send(guest.started)
        });
        wake(&engine, way, &memory, 1);
        assert_eq!(answer(&receive), Outcome::Returned(vec![]), "{way:?}");
        assert!([10, 11].contains(&word(&memory, 24)), "{way:?}");
    }
}

/// Whether waits are to end, and a way to hear of it.
#[derive(Default)]
struct Door {
    closed: Mutex<bool>,
    changed: Condvar,
}

#[test]
fn a_host_function_can_end_a_wait_that_nobody_notifies() {
    let engine = engine();
    let (bytes, plan) = rewritten(&wasm(
        r#"(module (memory 1 1 shared)
            (func (export "sleep") (result i32)
                (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))"#,
    ));
    let module = Module::new(&engine, &bytes).expect("a module");
    let door = Arc::new(Door::default());
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    let import = module.imports().next().expect("the wait");
    let ExternType::Func(ty) = import.ty() else {
        panic!("an added import is a function");
    };
    assert_eq!(
        (import.module(), import.name()),
        (IMPORT_MODULE, plan.imports[0].name.as_str())
    );
    assert_eq!(plan.imports[0].op, WaitOp::Wait32);
    let (parks, parked) = channel();
    let watched = door.clone();
    let wait = Func::new(&mut store, ty, move |_, args, _| {
        assert!(matches!(
            args,
            [Val::I32(0), Val::I32(0), Val::I64(-1), Val::I64(0)]
        ));
        let closed = watched.closed.lock().expect("the door");
        parks.send(()).expect("the test listens");
        let guard = watched.changed.wait_while(closed, |closed| !*closed);
        drop(guard.expect("the door"));
        Err(wasmtime::Error::msg("the door is closed"))
    });
    linker
        .define(&store, IMPORT_MODULE, &plan.imports[0].name, wait)
        .expect("a name");
    let instance = linker
        .instantiate(&mut store, &module)
        .expect("an instance");
    let sleep = instance
        .get_typed_func::<(), i32>(&mut store, "sleep")
        .expect("the function");
    let (send, receive) = channel();
    thread::spawn(move || send.send(sleep.call(&mut store, ())));
    answer(&parked);
    *door.closed.lock().expect("the door") = true;
    door.changed.notify_all();
    let error = answer(&receive).expect_err("the sleeper leaves");
    assert_eq!(error.root_cause().to_string(), "the door is closed");
}
