//! Threads that the host runs on its own: `lindshim_domain_begin`, `lindshim_thread_begin` and `lindshim_thread_run`.

mod common;

use common::*;
use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::os::raw::c_void;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

const MARK: u32 = 1;
const RUN: u32 = 2;
const DELETE: u32 = 3;

/// Who made host calls, by the domain's user word.
static CALLERS: Mutex<Vec<(u64, ThreadId)>> = Mutex::new(Vec::new());

unsafe extern "C" fn host_call(call: *mut Call) -> i32 {
    unsafe {
        let call = &mut *call;
        let caller = (call.user, std::thread::current().id());
        CALLERS.lock().unwrap().push(caller);
        match call.import {
            MARK => mark(call.user),
            RUN => *call.args = lindshim_thread_run(call.domain, 2, null_mut()) as u64,
            DELETE => *call.args = lindshim_engine_delete(*call.args, null_mut()) as u64,
            _ => unreachable!(),
        }
        LINDSHIM_CONTINUE
    }
}

fn host_with(change: impl FnOnce(&mut EngineConfig)) -> Host {
    let imports = [
        Import::new("host", "mark", "", "", MARK),
        Import::new("host", "run", "", "I", RUN),
        Import::new("host", "delete", "I", "I", DELETE),
    ];
    Host::new(host_call, &imports, change)
}

fn host() -> Host {
    host_with(|_| {})
}

fn callers(user: u64) -> Vec<ThreadId> {
    let callers = CALLERS.lock().unwrap();
    let of = callers.iter().filter(|(of, _)| *of == user);
    of.map(|(_, thread)| *thread).collect()
}

fn begin(host: &Host, domain: u64) {
    host.try_begin(domain).unwrap();
}

/// Why the first thread cannot be begun.
fn refusal(host: &Host, domain: u64) -> i32 {
    host.try_begin(domain).unwrap_err().0
}

fn begin_thread(domain: u64) -> Result<u32, i32> {
    let mut tid = 0;
    match unsafe { lindshim_thread_begin(domain, 7, &mut tid, null_mut()) } {
        LINDSHIM_OK => Ok(tid),
        status => Err(status),
    }
}

/// `run` on a thread with a stack of 512 KiB, which the C library cannot replace with a larger one that it has left.
fn run_on_little_stack(domain: u64) -> ThreadId {
    struct Ran(u64, Option<ThreadId>);
    extern "C" fn body(ran: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: the thread is joined before `ran` is used again.
        let ran = unsafe { &mut *ran.cast::<Ran>() };
        ran.1 = (run(ran.0, 1) == LINDSHIM_OK).then(|| std::thread::current().id());
        null_mut()
    }
    let (mut ran, mut stack) = (Ran(domain, None), vec![0_u64; 64 << 10]);
    // SAFETY: the attributes and the stack outlive the thread, which is joined.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        let (low, bytes) = (stack.as_mut_ptr().cast(), 8 * stack.len());
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstack(&mut attributes, low, bytes), 0);
        let mut thread = 0;
        let arg = (&raw mut ran).cast();
        let made = libc::pthread_create(&mut thread, &attributes, body, arg);
        assert_eq!(made, 0);
        assert_eq!(libc::pthread_join(thread, null_mut()), 0);
        libc::pthread_attr_destroy(&mut attributes);
    }
    ran.1.expect("it was run or handed on")
}

/// Which marks and then does `body`; its further threads do the same.
fn module(body: &str) -> String {
    format!(
        r#"(module (memory (export "memory") (import "env" "memory") 1 1 shared)
          (import "host" "mark" (func $mark))
          (func $body call $mark {body})
          (func (export "_start") call $body)
          (func (export "wasi_thread_start") (param i32 i32) call $body))"#
    )
}

const WAIT: &str = "(drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))";

#[test]
fn the_program_runs_on_the_thread_that_runs_it() {
    let host = host();
    let module = host.load(&module(""));
    let (domain, user) = host.domain(module);
    begin(&host, domain);
    assert_eq!(refusal(&host, domain), LINDSHIM_ERR_BUSY);
    assert_eq!(host.stats().threads_running, 1, "it counts from here on");
    assert_eq!(callers(user), [], "nobody runs it yet");
    assert_eq!(run(domain, 1), LINDSHIM_OK);
    assert_eq!(callers(user), [std::thread::current().id()]);
    assert_eq!(report(user).len(), 1, "all is told when it returns");
    assert_eq!(host.stats().threads_running, 0);
    assert_eq!(host.stats().threads_idle, 0, "the engine has no thread");
    assert_eq!(run(domain, 1), LINDSHIM_OK, "the stop has done it");
    host.finish(&[domain], &[module]);
    assert_eq!(run(domain, 1), LINDSHIM_ERR_HANDLE);
}

#[test]
fn a_stop_ends_it_whatever_it_does() {
    let host = host();
    for body in ["(loop $l br $l)", WAIT] {
        let module = host.load(&module(body));
        let (domain, user) = host.domain(module);
        begin(&host, domain);
        assert_eq!(begin_thread(domain), Ok(2));
        assert_eq!(begin_thread(domain), Ok(3));
        let threads = [1, 2, 3].map(|tid| run_apart(domain, tid));
        marks(user, 3);
        stop(domain);
        let stopped = report(user);
        assert_eq!(stopped.len(), 3);
        assert!(stopped.iter().all(|it| it.outcome == LINDSHIM_END_STOPPED));
        for thread in threads {
            assert_eq!(thread.join().unwrap(), LINDSHIM_OK);
        }
        unsafe {
            assert_eq!(lindshim_domain_delete(domain, null_mut()), LINDSHIM_OK);
            assert_eq!(lindshim_module_delete(module, null_mut()), LINDSHIM_OK);
        }
    }
    host.finish(&[], &[]);
}

#[test]
fn a_stop_does_not_wait_for_threads_that_nobody_runs() {
    let host = host();
    let module = host.load(&module(""));
    let (domain, user) = host.domain(module);
    begin(&host, domain);
    assert_eq!(begin_thread(domain), Ok(2));
    assert_eq!(run(domain, 3), LINDSHIM_ERR_INVALID, "there is no such");
    stop(domain);
    let stopped = report(user);
    assert_eq!(stopped.len(), 2);
    assert!(stopped.iter().all(|it| it.outcome == LINDSHIM_END_STOPPED));
    assert_eq!(host.stats().threads_running, 0);
    assert_eq!(run(domain, 2), LINDSHIM_OK);
    assert_eq!(callers(user), [], "and nothing has run");
    assert_eq!(refusal(&host, domain), LINDSHIM_ERR_BUSY);
    assert_eq!(begin_thread(domain), Err(LINDSHIM_ERR_CLOSED));
    host.finish(&[domain], &[module]);
}

#[test]
fn a_stop_and_a_run_at_the_same_moment() {
    let host = host();
    let module = host.load(&module("(loop $l br $l)"));
    for round in 0..300 {
        let (domain, user) = host.domain(module);
        begin(&host, domain);
        let thread = run_apart(domain, 1);
        for _ in 0..round * 20 {
            std::hint::spin_loop();
        }
        stop(domain);
        assert_eq!(report(user)[0].outcome, LINDSHIM_END_STOPPED);
        assert_eq!(thread.join().unwrap(), LINDSHIM_OK);
        assert_eq!(
            unsafe { lindshim_domain_delete(domain, null_mut()) },
            LINDSHIM_OK
        );
    }
    assert_eq!(host.stats().threads_running, 0);
    host.finish(&[], &[module]);
}

#[test]
fn a_thread_with_too_little_stack_hands_it_on() {
    let host = host();
    let module = host.load(&module(""));
    let (domain, user) = host.domain(module);
    begin(&host, domain);
    let its = run_on_little_stack(domain);
    marks(user, 1);
    assert_ne!(callers(user), [its]);
    assert_eq!(report(user).len(), 1);
    host.finish(&[domain], &[module]);
}

#[test]
fn a_callback_runs_no_other_thread_and_deletes_no_engine() {
    let host = host();
    let wat = format!(
        r#"(module (memory (export "memory") (import "env" "memory") 1 1 shared)
          (import "host" "run" (func $run (result i64)))
          (import "host" "delete" (func $delete (param i64) (result i64)))
          (func (export "wasi_thread_start") (param i32 i32))
          (func (export "_start")
            (if (i64.ne (call $run) (i64.const {LINDSHIM_ERR_BUSY})) (then unreachable))
            (if (i64.ne (call $delete (i64.const {engine})) (i64.const {LINDSHIM_ERR_BUSY})) (then unreachable))))"#,
        engine = host.engine
    );
    let module = host.load(&wat);
    let (domain, user) = host.domain(module);
    begin(&host, domain);
    assert_eq!(begin_thread(domain), Ok(2));
    assert_eq!(run(domain, 1), LINDSHIM_OK);
    let ends = wait_until(|seen| seen.ends.get(&user).cloned());
    assert_eq!(ends[0].outcome, LINDSHIM_END_RETURNED, "{ends:?}");
    assert_eq!(report(user).len(), 2, "thread 2 was never run");
    host.finish(&[domain], &[module]);
}

#[test]
fn it_counts_towards_the_limits() {
    let host = host_with(|config| config.max_threads = 2);
    let module = host.load(&module(WAIT));
    let (domain, user) = host.domain(module);
    let (other, other_user) = host.domain(module);
    host.start(domain);
    marks(user, 1);
    begin(&host, other);
    assert_eq!(begin_thread(domain), Err(LINDSHIM_ERR_LIMIT));
    assert_eq!(begin_thread(other), Err(LINDSHIM_ERR_LIMIT));
    stop(other);
    report(other_user);
    assert!(begin_thread(domain).is_ok(), "there is room again");
    stop(domain);
    report(user);
    host.finish(&[domain, other], &[module]);
}

/// The engine's deletion waits until a claimed thread of the host's has woken.
#[test]
fn an_engine_is_deleted_when_the_last_has_left() {
    for _ in 0..20 {
        let host = host();
        let module = host.load(&module(WAIT));
        let (domain, user) = host.domain(module);
        begin(&host, domain);
        let thread = run_apart(domain, 1);
        marks(user, 1);
        stop(domain);
        report(user);
        host.finish(&[domain], &[module]);
        assert_eq!(thread.join().unwrap(), LINDSHIM_OK);
    }
}

/// How often a host's `thread_main` was called, whatever it does.
static MAINS: AtomicUsize = AtomicUsize::new(0);

type ThreadBody = unsafe extern "C" fn(arg: *mut c_void);

unsafe extern "C" fn calls_body(body: ThreadBody, arg: *mut c_void) {
    MAINS.fetch_add(1, Ordering::SeqCst);
    unsafe { body(arg) };
    MAINS.fetch_add(100, Ordering::SeqCst);
}

unsafe extern "C" fn calls_body_twice(body: ThreadBody, arg: *mut c_void) {
    unsafe { calls_body(body, arg) };
    unsafe { body(arg) };
}

unsafe extern "C" fn calls_nothing(_: ThreadBody, _: *mut c_void) {
    MAINS.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_thread_is_the_hosts_from_its_beginning_to_its_end() {
    let mains = [
        (calls_body as unsafe extern "C" fn(_, _), 202),
        (calls_body_twice, 202),
        (calls_nothing, 2),
    ];
    for (main, times) in mains {
        MAINS.store(0, Ordering::SeqCst);
        let host = host_with(|config| config.thread_main = Some(main));
        let module = host.load(
            r#"(module (import "host" "mark" (func $mark))
                (func (export "_start") call $mark (loop $l br $l)))"#,
        );
        // Two threads, each of which two programs have one after the other.
        let mut domains = Vec::new();
        for _ in 0..2 {
            let two = [(); 2].map(|()| host.domain(module));
            for (domain, _) in two {
                host.start(domain);
            }
            for (domain, user) in two {
                marks(user, 1);
                stop(domain);
                report(user);
                domains.push(domain);
            }
            wait_until(|_| (host.stats().threads_idle == 2).then_some(()));
        }
        host.finish(&domains, &[module]); // waits for the threads' ends
        assert_eq!(MAINS.load(Ordering::SeqCst), times);
    }
}
