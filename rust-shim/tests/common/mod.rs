//! A host for tests of the C ABI: an engine, domains by their user words, and what the callbacks saw.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod grates;

use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::collections::HashMap;
use std::os::raw::c_char;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

/// The end of a thread or worker, as the callback told it.
#[derive(Clone, Debug)]
pub struct End {
    pub tid: u32,
    pub outcome: u32,
    pub message: String,
    pub backtrace: String,
    pub worker: bool,
    pub thread_user: u64,
}

/// What the callbacks saw, by the domain's user word.
#[derive(Default)]
pub struct Seen {
    pub ends: HashMap<u64, Vec<End>>,
    pub reports: HashMap<u64, Vec<Vec<Thread>>>,
    pub totals: HashMap<u64, u64>,
    pub marks: HashMap<u64, u64>,
    pub values: HashMap<u64, Vec<i64>>,
    pub domains: HashMap<u64, u64>,
}

static SEEN: OnceLock<(Mutex<Seen>, Condvar)> = OnceLock::new();
static USERS: AtomicU64 = AtomicU64::new(1);

pub fn seen() -> MutexGuard<'static, Seen> {
    SEEN.get_or_init(Default::default).0.lock().unwrap()
}

pub fn wait_until<T>(check: impl FnMut(&Seen) -> Option<T>) -> T {
    wait_at_most(Duration::from_secs(30), check).expect("nothing happened for 30 seconds")
}

/// The same, but not for ever: `None` if nothing that counts has happened for so long.
pub fn wait_at_most<T>(time: Duration, mut check: impl FnMut(&Seen) -> Option<T>) -> Option<T> {
    let (_, changed) = SEEN.get_or_init(Default::default);
    let mut guard = seen();
    loop {
        if let Some(value) = check(&guard) {
            return Some(value);
        }
        let (next, timeout) = changed.wait_timeout(guard, time).unwrap();
        if timeout.timed_out() {
            return None; // without the lock, so that other tests fail by themselves, if they do
        }
        guard = next;
    }
}

pub fn change(f: impl FnOnce(&mut Seen)) {
    f(&mut seen());
    SEEN.get_or_init(Default::default).1.notify_all();
}

unsafe fn text(at: *const c_char, bytes: u64) -> String {
    if at.is_null() {
        return String::new();
    }
    let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), bytes as usize) };
    String::from_utf8(bytes.to_vec()).unwrap()
}

unsafe extern "C" fn thread_end(end: *const ThreadEnd) {
    unsafe {
        let end = &*end;
        let entry = End {
            tid: end.tid,
            outcome: end.outcome,
            message: text(end.message, end.message_bytes),
            backtrace: text(end.backtrace, end.backtrace_bytes),
            worker: end.worker == 1,
            thread_user: end.thread_user,
        };
        // The first thread's end is the program's end, as for WASI.
        if end.main == 1 || end.outcome == LINDSHIM_END_TRAPPED {
            lindshim_domain_stop(end.domain, std::ptr::null_mut());
        }
        change(|seen| seen.ends.entry(end.user).or_default().push(entry));
    }
}

unsafe extern "C" fn quiescent(report: *const Report) {
    unsafe {
        let report = &*report;
        let threads =
            std::slice::from_raw_parts(report.threads, report.thread_count as usize).to_vec();
        change(|seen| {
            seen.totals.insert(report.user, report.threads_total);
            seen.reports.entry(report.user).or_default().push(threads);
        });
    }
}

pub struct Host {
    pub engine: u64,
}

pub fn check(status: i32, err: &ErrorText) {
    assert_eq!(status, LINDSHIM_OK, "{}", message(err));
}

pub fn message(err: &ErrorText) -> String {
    let bytes: Vec<u8> = err.text[..err.len as usize]
        .iter()
        .map(|c| *c as u8)
        .collect();
    String::from_utf8(bytes).unwrap()
}

pub fn no_error() -> ErrorText {
    ErrorText {
        len: 0,
        text: [0; LINDSHIM_ERROR_TEXT],
    }
}

impl Host {
    pub fn new(
        host_call: unsafe extern "C" fn(*mut Call) -> i32,
        imports: &[Import],
        change: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let mut config = EngineConfig::new(Some(host_call), Some(thread_end), Some(quiescent));
        change(&mut config);
        let (mut engine, mut err) = (0, no_error());
        unsafe {
            check(lindshim_engine_new(&config, &mut engine, &mut err), &err);
            check(
                lindshim_engine_define(engine, imports.as_ptr(), imports.len() as u64, &mut err),
                &err,
            );
        }
        Host { engine }
    }

    pub fn stats(&self) -> EngineStats {
        let mut stats = EngineStats {
            threads_running: 0,
            threads_idle: 0,
            domains: 0,
            modules: 0,
        };
        let mut err = no_error();
        unsafe {
            check(
                lindshim_engine_stats(self.engine, &mut stats, &mut err),
                &err,
            );
        }
        stats
    }

    pub fn try_load(&self, wat: &str) -> Result<u64, (i32, String)> {
        self.try_load_with(lindshim_module_load, wat.as_bytes())
    }

    pub fn try_load_with(
        &self,
        load: unsafe extern "C" fn(u64, *const u8, u64, *mut u64, *mut ErrorText) -> i32,
        bytes: &[u8],
    ) -> Result<u64, (i32, String)> {
        let (mut module, mut err) = (0, no_error());
        let len = bytes.len() as u64;
        match unsafe { load(self.engine, bytes.as_ptr(), len, &mut module, &mut err) } {
            LINDSHIM_OK => Ok(module),
            status => Err((status, message(&err))),
        }
    }

    pub fn load(&self, wat: &str) -> u64 {
        self.try_load(wat).unwrap()
    }

    pub fn domain(&self, module: u64) -> (u64, u64) {
        self.try_domain(module, |_| {}).unwrap()
    }

    pub fn try_domain(
        &self,
        module: u64,
        change_config: impl FnOnce(&mut DomainConfig),
    ) -> Result<(u64, u64), (i32, String)> {
        let user = USERS.fetch_add(1, Ordering::SeqCst);
        let mut config = DomainConfig::new(user);
        change_config(&mut config);
        let (mut domain, mut err) = (0, no_error());
        match unsafe { lindshim_domain_new(module, &config, &mut domain, &mut err) } {
            LINDSHIM_OK => {
                change(|seen| {
                    seen.domains.insert(user, domain);
                });
                Ok((domain, user))
            }
            status => Err((status, message(&err))),
        }
    }

    pub fn start(&self, domain: u64) {
        self.try_start(domain).unwrap();
    }

    pub fn try_start(&self, domain: u64) -> Result<(), (i32, String)> {
        let mut err = no_error();
        let (name, bytes) = ("_start".as_ptr().cast(), 6);
        match unsafe { lindshim_domain_start(domain, name, bytes, &mut err) } {
            LINDSHIM_OK => Ok(()),
            status => Err((status, message(&err))),
        }
    }

    /// The first thread is the caller's to run from here on.
    pub fn try_begin(&self, domain: u64) -> Result<(), (i32, String)> {
        let mut err = no_error();
        let (name, bytes) = ("_start".as_ptr().cast(), 6);
        match unsafe { lindshim_domain_begin(domain, name, bytes, &mut err) } {
            LINDSHIM_OK => Ok(()),
            status => Err((status, message(&err))),
        }
    }

    pub fn finish(self, domains: &[u64], modules: &[u64]) {
        let mut err = no_error();
        unsafe {
            for domain in domains {
                check(lindshim_domain_delete(*domain, &mut err), &err);
            }
            for module in modules {
                check(lindshim_module_delete(*module, &mut err), &err);
            }
            check(lindshim_engine_delete(self.engine, &mut err), &err);
        }
    }
}

/// Runs a thread that was begun.
pub fn run(domain: u64, tid: u32) -> i32 {
    unsafe { lindshim_thread_run(domain, tid, std::ptr::null_mut()) }
}

/// The same on a thread of its own, with a stack that will do.
pub fn run_apart(domain: u64, tid: u32) -> std::thread::JoinHandle<i32> {
    let thread = std::thread::Builder::new().stack_size(4 << 20);
    thread.spawn(move || run(domain, tid)).unwrap()
}

pub fn marks(user: u64, n: u64) {
    wait_until(|seen| (seen.marks.get(&user).copied().unwrap_or(0) >= n).then_some(()));
}

pub fn mark(user: u64) {
    change(|seen| *seen.marks.entry(user).or_default() += 1);
}

pub fn report(user: u64) -> Vec<Thread> {
    wait_until(|seen| {
        let reports = seen.reports.get(&user)?;
        assert_eq!(reports.len(), 1, "one report for a domain");
        Some(reports[0].clone())
    })
}

pub fn stop(domain: u64) {
    assert_eq!(
        unsafe { lindshim_domain_stop(domain, std::ptr::null_mut()) },
        LINDSHIM_OK
    );
}
