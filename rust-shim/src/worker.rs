//! A worker: a store and an instance of a grate's module over the grate's memory, for one call at a time.
//!
//! It has a stack of its own in the guest's memory, which the memory is grown for and which the next worker in its place
//! gets, and thread-local storage of its own. Data segments and the start function were the first instance's (see
//! `Domain::initialize`).

use crate::altstack;
use crate::domain::Domain;
use crate::error::{Error, Result, Status};
use crate::faults::{self, Point};
use crate::ffi::types::*;
use crate::frame::{Frame, OsThread};
use crate::grate::{Grate, PARAMS, Served};
use crate::module::Module;
use crate::slot::Slot;
use crate::thread::{Context, End, Leave};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use wasmtime::{ExternType, Func, Global, Instance, Mutability, Ref, Store, Table, Val};

/// The export that a worker enters.
const ENTRY: &str = "pass_fptr_to_wt";
/// The exported global that holds the guest's stack pointer.
const STACK_POINTER: &str = "__stack_pointer";
const TLS: [&str; 3] = ["__wasm_init_tls", "__tls_size", "__tls_align"];

/// How the guest's stack is aligned.
const STACK_ALIGN: u64 = 16;

/// What a grate's module offers.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Whether it has thread-local storage.
    tls: bool,
    /// Whether its addresses have 64 bits.
    memory64: bool,
    /// Whether it was built for one thread, and so can serve one call at a time only.
    pub single: bool,
}

fn lacks(name: &str, what: &str, flag: &str) -> Error {
    Error::new(
        Status::Export,
        format!("no grate: the module does not export {name}, {what}; link it with {flag}"),
    )
}

fn wrong(name: &str, wanted: &str) -> Error {
    Error::new(
        Status::Export,
        format!("no grate: the module's export {name} has to be {wanted}"),
    )
}

impl Shape {
    /// What the module offers, if it can be a grate.
    pub fn of(module: &Module) -> Result<Self> {
        let export = |name: &str| module.compiled.get_export(name);
        let Some(memory) = &module.memory else {
            let text = match module.grate {
                None => {
                    "no grate: the module has a memory of its own, which workers cannot share; load it as a grate"
                }
                Some(_) => {
                    "no grate: the module has no memory, and so nowhere for its workers' stacks"
                }
            };
            return Err(Error::new(Status::Export, text));
        };
        let entry = format!("a function of {PARAMS} i64 with an i32 as its result");
        match export(ENTRY) {
            None => {
                return Err(lacks(
                    ENTRY,
                    "which serves the calls",
                    "-Wl,--export=pass_fptr_to_wt",
                ));
            }
            Some(ExternType::Func(ty))
                if ty.params().len() == PARAMS
                    && ty.params().all(|param| param.is_i64())
                    && ty.results().len() == 1
                    && ty.results().all(|result| result.is_i32()) => {}
            Some(_) => return Err(wrong(ENTRY, &entry)),
        }
        let memory64 = memory.ty.is_64();
        let is_address = |ty: &wasmtime::ValType| if memory64 { ty.is_i64() } else { ty.is_i32() };
        match export(STACK_POINTER) {
            None => {
                return Err(lacks(
                    STACK_POINTER,
                    "so that its workers cannot have stacks of their own",
                    "-Wl,--export=__stack_pointer",
                ));
            }
            Some(ExternType::Global(ty))
                if ty.mutability() == Mutability::Var && is_address(ty.content()) => {}
            Some(_) => {
                return Err(wrong(
                    STACK_POINTER,
                    "a mutable global of the memory's addresses",
                ));
            }
        }
        let tls = TLS.iter().any(|name| export(name).is_some());
        if tls {
            for name in TLS {
                let flag = format!("-Wl,--export={name}");
                match export(name) {
                    None => {
                        return Err(lacks(
                            name,
                            "so that its workers cannot have thread-local storage of their own",
                            &flag,
                        ));
                    }
                    Some(ExternType::Func(ty))
                        if name == TLS[0]
                            && ty.results().len() == 0
                            && ty.params().len() == 1
                            && ty.params().all(|param| is_address(&param)) => {}
                    Some(ExternType::Global(ty))
                        if name != TLS[0] && (ty.content().is_i32() || ty.content().is_i64()) => {}
                    Some(_) => return Err(wrong(name, "what the linker makes of it")),
                }
            }
        }
        Ok(Shape {
            tls,
            memory64,
            single: module.is_single(),
        })
    }

    fn address(self, value: u64) -> Val {
        if self.memory64 {
            Val::I64(value as i64)
        } else {
            Val::I32(value as u32 as i32)
        }
    }
}

/// A worker.
pub struct Worker {
    /// Its store.
    pub store: Store<Context>,
    /// The instance's `pass_fptr_to_wt`.
    pub entry: Func,
    /// What is known of it.
    pub slot: Arc<Slot>,
    /// The lowest address of its stack.
    pub stack: u64,
    /// The function table, if it is exported.
    table: Option<Table>,
    /// Indices that were found to be functions, each where its lowest bits say; or `u32::MAX`.
    known: [u32; 16],
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// What became of a worker that was to be made.
#[derive(Debug)]
pub enum Made {
    /// It is there.
    Worker(Box<Worker>),
    /// The domain is stopping, and has counted the caller out.
    Departed,
    /// There is none.
    No(Served),
}

impl Worker {
    /// Makes a worker on the calling thread, which is inside the domain's gate. `stack` is one that is free; the answer's
    /// second part is the one that is left over if no worker was made.
    pub fn make(
        domain: &Arc<Domain>,
        grate: &Grate,
        os: &'static OsThread,
        caller: Option<&Frame>,
        mut stack: Option<u64>,
    ) -> (Made, Option<u64>) {
        let (Some(slot), Some(pre)) = (domain.new_worker(), domain.instance_pre()) else {
            return (Made::No(Served::Gone), stack);
        };
        slot.set_os(os);
        let mut store = Context::store(domain, &slot);
        // What it runs from here on is on behalf of the caller already, and is trapped with it.
        let outer = caller.map_or(std::ptr::null(), std::ptr::from_ref);
        let depth = caller.map_or(0, Frame::depth) + 1;
        store.data_mut().begin(os, outer, depth);
        // The order at a thread's entry: see `thread`.
        store.set_epoch_deadline(1);
        fence(Ordering::SeqCst);
        let made = if domain.gate.is_closed() {
            Err(Leave::Stopped.into())
        } else {
            faults::check(Point::WorkerNew)
                .and_then(|()| Ok(altstack::ensure()?))
                .and_then(|()| pre.instantiate(&mut store))
        };
        let made = made.and_then(|instance| {
            if !domain.initialize(&mut store, &instance, None)? {
                return Ok(None); // another is about it, and a worker that waited for it might be what it waits for
            }
            prepare(domain, grate, &mut store, &instance, &mut stack)
        });
        let err = match made {
            Ok(Some((entry, table))) => {
                slot.at_idle();
                let worker = Worker {
                    store,
                    entry,
                    slot,
                    stack: stack.unwrap_or_default(),
                    table,
                    known: [u32::MAX; 16],
                };
                return (Made::Worker(Box::new(worker)), None);
            }
            Ok(None) => {
                domain.forget_worker(slot.tid);
                return (Made::No(Served::Again), stack);
            }
            Err(err) => err,
        };
        if slot.is_claimed() {
            domain.keep(Some(store));
            return (Made::Departed, None);
        }
        let end = End::from_error(&err, true, &domain.module().functions);
        end.note(&slot);
        drop(store);
        if end.outcome == LINDSHIM_END_STOPPED {
            slot.at_end(end.outcome);
            domain.forget_worker(slot.tid);
            return (Made::No(Served::Gone), stack);
        }
        domain.worker_failed(&slot, &end);
        (Made::No(Served::Result(LINDSHIM_GRATE_ERR)), stack)
    }

    /// It serves a call of `caller` from here on, on this OS thread.
    #[inline]
    pub fn begin(&mut self, os: &'static OsThread, caller: Option<&Frame>, depth: u32) {
        let outer = caller.map_or(std::ptr::null(), std::ptr::from_ref);
        self.store.data_mut().begin(os, outer, depth);
        self.slot.set_os(os);
        self.slot.at_guest();
    }

    /// It has served.
    #[inline]
    pub fn end(&mut self, caller: Option<&Frame>) {
        if self.slot.rearmed.load(Ordering::Relaxed) {
            // What the mark is about is past: who takes the worker next looks at the gates, and so does the caller.
            self.slot.proven();
            if let Some(caller) = caller {
                caller.publish_rearmed(false);
            }
        }
        self.slot.at_idle();
    }

    /// Its domain has stopped without it: what is left goes with the domain, or at once if that is gone.
    pub fn remain(self) {
        let domain = self.store.data().domain.clone();
        domain.keep(Some(self.store));
    }

    /// Whether the grate has a function with this index, as far as can be told.
    #[inline]
    pub fn has_function(&mut self, index: u32) -> bool {
        self.known[index as usize % self.known.len()] == index || self.find_function(index)
    }

    #[cold]
    fn find_function(&mut self, index: u32) -> bool {
        let Some(table) = self.table else {
            return true; // the guest's own call of it tells
        };
        let found = matches!(
            table.get(&mut self.store, index.into()),
            Some(Ref::Func(Some(_)))
        );
        if found {
            self.known[index as usize % self.known.len()] = index;
        }
        found
    }
}

/// Gives an instance its stack and its thread-local storage. `None`: the memory cannot grow.
fn prepare(
    domain: &Domain,
    grate: &Grate,
    store: &mut Store<Context>,
    instance: &Instance,
    stack: &mut Option<u64>,
) -> wasmtime::Result<Option<(Func, Option<Table>)>> {
    let missing = || wasmtime::format_err!("an export of the grate is gone");
    let shape = grate.shape;
    let global = |store: &mut Store<Context>, name: &str| -> wasmtime::Result<Global> {
        instance.get_global(store, name).ok_or_else(missing)
    };
    let number = |store: &mut Store<Context>, name: &str| -> wasmtime::Result<u64> {
        Ok(match global(store, name)?.get(&mut *store) {
            Val::I32(value) => u64::from(value as u32),
            Val::I64(value) => value as u64,
            _ => 0,
        })
    };
    let (tls_bytes, tls_align) = if shape.tls {
        (
            number(store, TLS[1])?,
            number(store, TLS[2])?.max(STACK_ALIGN),
        )
    } else {
        (0, STACK_ALIGN)
    };
    let memory = domain.shared_memory.as_ref().ok_or_else(missing)?;
    let page = memory.page_size();
    // The linker's numbers are the guest's: they may be anything.
    let slack = if shape.tls { tls_align } else { 0 };
    let bytes = grate.stack_bytes.checked_add(tls_bytes);
    let Some(bytes) = bytes.and_then(|bytes| bytes.checked_add(slack)) else {
        return Ok(None);
    };
    let pages = bytes.div_ceil(page);
    let low = match *stack {
        Some(low) => low,
        None if faults::hit(Point::WorkerStack) => return Ok(None),
        None => {
            let Ok(before) = memory.grow(pages) else {
                return Ok(None);
            };
            *stack.insert(before * page)
        }
    };
    // Thread-local storage lies above the stack, which grows away from it and has what is left of the pages.
    let at = low + pages * page - tls_bytes;
    let at = at - at % tls_align;
    let top = at - at % STACK_ALIGN;
    global(store, STACK_POINTER)?.set(&mut *store, shape.address(top))?;
    if shape.tls {
        let init = instance.get_func(&mut *store, TLS[0]).ok_or_else(missing)?;
        init.call(&mut *store, &[shape.address(at)], &mut [])?;
    }
    let entry = instance.get_func(&mut *store, ENTRY).ok_or_else(missing)?;
    Context::enters_by(store, &entry);
    let table = domain.module().function_table();
    let table = table.and_then(|name| instance.get_table(&mut *store, name));
    Ok(Some((entry, table)))
}
