//! The shim, through its C ABI: without Go, and without what comes after quiescence.

use crate::{Counter, SILENT, guests, settle};
use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::collections::HashMap;
use std::ptr::null_mut;
use std::time::Instant;

static MARKS: Counter = Counter::new();
static QUIESCENT: Counter = Counter::new();

const MARK: u32 = 0;
const SPAWN: u32 = 1;
const READ: u32 = 2;

unsafe extern "C" fn host_call(call: *mut Call) -> i32 {
    unsafe {
        let call = &mut *call;
        match call.import {
            MARK => MARKS.add(),
            READ => {
                *call.wait = WaitFd {
                    fd: SILENT,
                    events: libc::POLLIN as u32,
                };
                call.wait_count = 1;
                call.timeout_ns = -1;
                return LINDSHIM_WAIT;
            }
            _ => {
                let (mut tid, arg) = (0, *call.args as u32);
                let status = lindshim_thread_spawn(call.domain, arg, &mut tid, null_mut());
                assert_eq!(status, LINDSHIM_OK);
                *call.args = tid.into();
            }
        }
    }
    LINDSHIM_CONTINUE
}

/// Of threads that return by themselves: only the program that returns at once has one.
unsafe extern "C" fn thread_end(end: *const ThreadEnd) {
    unsafe { lindshim_domain_stop((*end).domain, null_mut()) };
}

unsafe extern "C" fn quiescent(_: *const Report) {
    QUIESCENT.add();
}

pub struct Ours {
    engine: u64,
    modules: HashMap<String, u64>,
}

impl Ours {
    pub fn new() -> Self {
        let config = EngineConfig::new(Some(host_call), Some(thread_end), Some(quiescent));
        let imports = [
            Import::new("host", "mark", "", "", MARK),
            Import::new("host", "spawn", "i", "i", SPAWN),
            Import::new("host", "read", "", "", READ),
        ];
        let mut engine = 0;
        unsafe {
            assert_eq!(
                lindshim_engine_new(&config, &mut engine, null_mut()),
                LINDSHIM_OK
            );
            assert_eq!(
                lindshim_engine_define(engine, imports.as_ptr(), imports.len() as u64, null_mut()),
                LINDSHIM_OK
            );
        }
        Ours {
            engine,
            modules: HashMap::new(),
        }
    }

    fn module(&mut self, wat: &str) -> u64 {
        let engine = self.engine;
        *self.modules.entry(wat.to_owned()).or_insert_with(|| {
            let (mut module, bytes) = (0, wat.len() as u64);
            let status = unsafe {
                lindshim_module_load(engine, wat.as_ptr(), bytes, &mut module, null_mut())
            };
            assert_eq!(status, LINDSHIM_OK);
            module
        })
    }

    fn start(module: u64) -> u64 {
        let (config, mut domain) = (DomainConfig::new(0), 0);
        unsafe {
            assert_eq!(
                lindshim_domain_new(module, &config, &mut domain, null_mut()),
                LINDSHIM_OK
            );
            assert_eq!(
                lindshim_domain_start(domain, c"_start".as_ptr(), 6, null_mut()),
                LINDSHIM_OK
            );
        }
        domain
    }

    fn delete(domain: u64) {
        assert_eq!(
            unsafe { lindshim_domain_delete(domain, null_mut()) },
            LINDSHIM_OK
        );
    }

    /// From the stop's call until its caller knows that the domain is quiescent, in nanoseconds.
    pub fn stop(&mut self, (busy, waiting, reading): (u32, u32, u32)) -> f64 {
        let domain = Self::start(self.module(&guests::crowd(busy, waiting, reading)));
        MARKS.wait(busy + waiting + reading);
        settle();
        let start = Instant::now();
        unsafe { lindshim_domain_stop(domain, null_mut()) };
        QUIESCENT.wait(1);
        let took = start.elapsed();
        Self::delete(domain);
        took.as_nanos() as f64
    }

    /// A tiny program, from nothing to nothing, in nanoseconds.
    pub fn spawn(&mut self, wat: &str) -> f64 {
        let module = self.module(wat);
        let start = Instant::now();
        let domain = Self::start(module);
        QUIESCENT.wait(1);
        Self::delete(domain);
        start.elapsed().as_nanos() as f64
    }
}
