//! The functions that guests import: the host's, each of which becomes a call of the one callback, and the shim's own,
//! which stand for the atomic instructions that `rewrite` took out.

use crate::engine::{Callbacks, HostImport};
use crate::error::{Error, Result, Status};
use crate::faults::{self, Point};
use crate::ffi::types::*;
use crate::frame::Frame;
use crate::grate::{self, PARAMS};
use crate::handlers::Handler;
use crate::poller::{Polled, Poller};
use crate::rewrite::{WaitImport, WaitOp};
use crate::thread::{Context, Leave};
use crate::waits::{self, Expected, Waited};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wasmtime::{Caller, Extern, FuncType, Linker, SharedMemory, ValRaw};

/// The module name of the shim's own imports.
pub const OWN_MODULE: &str = "lindshim";

/// The module and name of the import on whose calls grates interpose.
const MAKE_SYSCALL: (&str, &str) = ("lind", "make-syscall");
/// Its values: the call's number, a name, who calls, whom the call is for, and six arguments with the cages that they
/// belong to.
const MAKE_SYSCALL_PARAMS: &str = "iIIIIIIIIIIIIIII";
/// Among them, where the values for a grate begin: they take the place of the second pair.
const GRATE_VALUES: usize = 2;

/// Adds one of the host's functions to a linker.
pub fn define(
    linker: &mut Linker<Context>,
    callbacks: &Callbacks,
    import: &HostImport,
    ty: FuncType,
) -> Result<()> {
    let Some(host_call) = callbacks.host_call else {
        return Err(Error::new(Status::Invalid, "host_call is NULL"));
    };
    let id = import.id;
    let interposable = (import.module.as_str(), import.name.as_str()) == MAKE_SYSCALL
        && import.params == MAKE_SYSCALL_PARAMS
        && import.results == "i";
    // SAFETY: the callback reads and writes `values` by the same letters that made `ty`; that is the C ABI's contract.
    let added = unsafe {
        if interposable {
            let call = move |caller: Caller<'_, Context>, values: &mut [MaybeUninit<ValRaw>]| {
                make_syscall(caller, host_call, id, values)
            };
            linker.func_new_unchecked(&import.module, &import.name, ty, call)
        } else {
            let call = move |caller: Caller<'_, Context>, values: &mut [MaybeUninit<ValRaw>]| {
                call_host(caller, host_call, id, values)
            };
            linker.func_new_unchecked(&import.module, &import.name, ty, call)
        }
    };
    added.map(|_| ()).map_err(|err| {
        Error::wasmtime(
            Status::Invalid,
            &format!("{}.{}", import.module, import.name),
            &err,
        )
    })
}

/// `lind.make-syscall`: serves the call by a grate, if there is a handler for it, and else by the host.
fn make_syscall(
    mut caller: Caller<'_, Context>,
    host_call: unsafe extern "C" fn(*mut Call) -> i32,
    import: u32,
    values: &mut [MaybeUninit<ValRaw>],
) -> wasmtime::Result<()> {
    let context = caller.data_mut();
    // SAFETY: the guest's call has set as many values as the import has parameters.
    let (number, itself, target) = unsafe {
        (
            values[0].assume_init_ref().get_u32(),
            values[2].assume_init_ref().get_u64(),
            values[3].assume_init_ref().get_u64(),
        )
    };
    let domain = &context.domain;
    if itself != domain.cage {
        values[0] = MaybeUninit::new(ValRaw::i32(-libc::EPERM));
        return Ok(());
    }
    let result = match domain.handlers.find(number.into()) {
        Handler::Native => return call_host(caller, host_call, import, values),
        Handler::Gone => LINDSHIM_ELINDESRCH,
        Handler::Grate { port, function } => {
            let Some(target) = acts_on(context, itself, target) else {
                // Whether it may name that one is the host's to say, who then has the grate serve the call.
                return call_host(caller, host_call, import, values);
            };
            let Some(os) = context.os else {
                return Err(wasmtime::format_err!("a thread calls before it has begun"));
            };
            // SAFETY: the domain, the slot and the context outlive the call, which the frame does not.
            let frame = unsafe {
                Frame::new(
                    Arc::as_ptr(domain),
                    Arc::as_ptr(&context.slot),
                    &raw const context.thread_user,
                    None,
                    context.outer_ptr(),
                    context.depth,
                )
            };
            values[GRATE_VALUES] = MaybeUninit::new(ValRaw::i64(function.into()));
            values[GRATE_VALUES + 1] = MaybeUninit::new(ValRaw::u64(target));
            // SAFETY: as many values as there are parameters were set, by the guest or above.
            let values = unsafe {
                &mut *values
                    .as_mut_ptr()
                    .add(GRATE_VALUES)
                    .cast::<[ValRaw; PARAMS]>()
            };
            match grate::serve(os, Some(&frame), port, number, values).result() {
                Ok(_) if frame.quits() => return Err(context.leave(Leave::Quit)),
                Ok(result) => result,
                Err(leave) => return Err(context.leave(leave)),
            }
        }
    };
    values[0] = MaybeUninit::new(ValRaw::i32(result));
    Ok(())
}

/// The pseudo targets of Lind, which stand for the caller itself: RAWPOSIX, WASMTIME and THREEI.
const PSEUDO_TARGETS: [u64; 3] = [777_777, 888_888, 999_999];

/// The cage that a call is to act on, if that is the caller's own or one that the caller serves at the moment: then the
/// grate that serves the call is told so, and can act on it in turn.
#[inline]
fn acts_on(context: &Context, itself: u64, target: u64) -> Option<u64> {
    if target == itself || PSEUDO_TARGETS.contains(&target) {
        return Some(itself);
    }
    context
        .outer()?
        .chain()
        .any(|frame| frame.domain().cage == target)
        .then_some(target)
}

fn call_host(
    mut caller: Caller<'_, Context>,
    host_call: unsafe extern "C" fn(*mut Call) -> i32,
    import: u32,
    values: &mut [MaybeUninit<ValRaw>],
) -> wasmtime::Result<()> {
    let (memory, memory_bytes) = Context::memory_now(&mut caller);
    let context = caller.data_mut();
    let outer = context.outer();
    let (caller_user, caller_thread_user) = match outer {
        None => (0, 0),
        Some(outer) => {
            if context.slot.rearmed.load(Ordering::Relaxed) {
                outer.publish_rearmed(false); // as `at_host_call` does for the thread's own
            }
            (outer.domain().user, outer.thread_user())
        }
    };
    context.slot.at_host_call(import);
    let mut none = [0_u64; 2];
    let mut wait = MaybeUninit::<[WaitFd; LINDSHIM_MAX_WAIT]>::uninit();
    let mut record = Call {
        user: context.domain.user,
        thread_user: context.thread_user,
        domain: context.domain.handle(),
        tid: context.slot.tid,
        import,
        args: if values.is_empty() {
            none.as_mut_ptr()
        } else {
            values.as_mut_ptr().cast()
        },
        memory,
        memory_bytes,
        wait: wait.as_mut_ptr().cast(),
        wait_count: 0,
        resumed: LINDSHIM_RESUMED_NOT,
        timeout_ns: -1,
        caller_user,
        caller_thread_user,
        depth: context.depth,
        worker: context.slot.worker.into(),
    };
    let call = &raw mut record;
    // What the host calls from in there is nested in this call.
    // SAFETY: the domain, the slot and the call outlive the frame.
    let frame = unsafe {
        Frame::new(
            Arc::as_ptr(&context.domain),
            Arc::as_ptr(&context.slot),
            &raw const (*call).thread_user,
            Some(import),
            context.outer_ptr(),
            context.depth,
        )
    };
    let before = context.os.map(|os| (os, os.set_frame(&raw const frame)));
    // SAFETY: the record outlives the call, and so does what it points to.
    let verdict = unsafe { carry_out(context, host_call, call) };
    if let Some((os, before)) = before {
        os.set_frame(before);
    }
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(leave) => return Err(context.leave(leave)),
    };
    context.slot.at_guest();
    faults::late(Point::HostReturn);
    if context.domain.gate.is_closed() {
        return Err(context.leave(Leave::Stopped));
    }
    if context.outer().is_some_and(Frame::expired) {
        return Err(context.leave(Leave::Discarded));
    }
    match verdict {
        LINDSHIM_CONTINUE => Ok(()),
        LINDSHIM_QUIT => Err(context.leave(Leave::Quit)),
        _ => Err(context.leave(Leave::HostFailed)),
    }
}

/// Makes the host call until it has another verdict than that it has to wait.
///
/// # Safety
///
/// The record is complete and outlives the call.
#[inline]
unsafe fn carry_out(
    context: &mut Context,
    host_call: unsafe extern "C" fn(*mut Call) -> i32,
    record: *mut Call,
) -> std::result::Result<i32, Leave> {
    loop {
        // SAFETY: the callback keeps the contract of the C ABI; everything that the call points to outlives it. Nobody
        // else writes the record afterwards.
        let (verdict, call) = unsafe { (host_call(record), &mut *record) };
        if call.thread_user != context.thread_user {
            context.thread_user = call.thread_user;
            context.slot.set_thread_user(call.thread_user);
        }
        if verdict != LINDSHIM_WAIT {
            return Ok(verdict);
        }
        // SAFETY: the callback has set as many as it says.
        let fds = unsafe {
            let count = (call.wait_count as usize).min(LINDSHIM_MAX_WAIT);
            std::slice::from_raw_parts(call.wait, count)
        };
        call.resumed = match wait_for(context, fds, call.timeout_ns) {
            Polled::Ready => LINDSHIM_RESUMED_READY,
            Polled::TimedOut => LINDSHIM_RESUMED_TIMED_OUT,
            Polled::Refused => LINDSHIM_RESUMED_REFUSED,
            Polled::Interrupted => LINDSHIM_RESUMED_INTERRUPTED,
            Polled::Stopped | Polled::Claimed => return Err(Leave::Stopped),
            Polled::Expired => return Err(Leave::Discarded),
        };
        // A guest's other threads may have grown the memory. It does not move.
        if let Some(memory) = &context.domain.shared_memory {
            call.memory_bytes = memory.data().len() as u64;
        }
    }
}

/// Waits in the host's place. The thread's poller is made when it first waits, and kept.
fn wait_for(context: &mut Context, fds: &[WaitFd], timeout_ns: i64) -> Polled {
    if context.poller.is_none() {
        let Ok(poller) = context.domain.wake_fd().and_then(Poller::new) else {
            return Polled::Refused; // the host will find out itself what there is a shortage of
        };
        context.poller = Some(poller);
    }
    let Some(poller) = &context.poller else {
        return Polled::Refused;
    };
    context.note_exit();
    let waited = match context.outer() {
        None => poller.wait(&context.domain.gate, &context.slot, fds, timeout_ns),
        Some(outer) => wait_serving(context, poller, outer, fds, timeout_ns),
    };
    if waited == Polled::Claimed {
        // What it waited for may be open elsewhere, and in its set still.
        context.poller = None;
    }
    waited
}

/// The same for a worker, which also wakes when a domain that it serves is stopped, and when the grace of one is over.
fn wait_serving(
    context: &Context,
    poller: &Poller,
    outer: &Frame,
    fds: &[WaitFd],
    timeout_ns: i64,
) -> Polled {
    let interrupt = context.os.map(|os| (os, os.interrupt_fd()));
    let Some((os, interrupt @ 0..)) = interrupt else {
        return Polled::Refused; // the host will find out itself what there is a shortage of
    };
    let mut all = [WaitFd { fd: -1, events: 0 }; LINDSHIM_MAX_WAIT + 1];
    all[0] = WaitFd {
        fd: interrupt,
        events: libc::EPOLLIN as u32,
    };
    all[1..=fds.len()].copy_from_slice(fds);
    // After the descriptor was made, and again after the wait: see `OsThread::wake`.
    let look = || {
        if outer.expired() {
            Some(Polled::Expired)
        } else {
            outer.interrupted().then_some(Polled::Interrupted)
        }
    };
    if let Some(over) = look() {
        return over;
    }
    match poller.wait(
        &context.domain.gate,
        &context.slot,
        &all[..=fds.len()],
        timeout_ns,
    ) {
        Polled::Ready => look().unwrap_or_else(|| {
            os.take_notice(); // of what was found out elsewhere meanwhile: it would wake for ever
            Polled::Ready
        }),
        other => other,
    }
}

/// Adds the shim's own functions to the linker of a rewritten module. The k-th import of the plan finds its memory as
/// the k-th of [`Context::wait_memories`].
pub fn define_waits(linker: &mut Linker<Context>, imports: &[WaitImport]) -> Result<()> {
    for (k, import) in imports.iter().enumerate() {
        let it = import.clone();
        let (module, name) = (OWN_MODULE, import.name.as_str());
        let added = match (import.op, import.memory64) {
            (WaitOp::Wait32, false) => linker.func_wrap(
                module,
                name,
                move |caller: Caller<'_, Context>,
                      addr: u32,
                      expected: u32,
                      timeout: i64,
                      offset: u64| {
                    wait(
                        caller,
                        k,
                        &it,
                        addr.into(),
                        offset,
                        Expected::Word(expected),
                        timeout,
                    )
                },
            ),
            (WaitOp::Wait32, true) => linker.func_wrap(
                module,
                name,
                move |caller: Caller<'_, Context>,
                      addr: u64,
                      expected: u32,
                      timeout: i64,
                      offset: u64| {
                    wait(
                        caller,
                        k,
                        &it,
                        addr,
                        offset,
                        Expected::Word(expected),
                        timeout,
                    )
                },
            ),
            (WaitOp::Wait64, false) => linker.func_wrap(
                module,
                name,
                move |caller: Caller<'_, Context>,
                      addr: u32,
                      expected: u64,
                      timeout: i64,
                      offset: u64| {
                    wait(
                        caller,
                        k,
                        &it,
                        addr.into(),
                        offset,
                        Expected::Double(expected),
                        timeout,
                    )
                },
            ),
            (WaitOp::Wait64, true) => linker.func_wrap(
                module,
                name,
                move |caller: Caller<'_, Context>,
                      addr: u64,
                      expected: u64,
                      timeout: i64,
                      offset: u64| {
                    wait(
                        caller,
                        k,
                        &it,
                        addr,
                        offset,
                        Expected::Double(expected),
                        timeout,
                    )
                },
            ),
            (WaitOp::Notify, false) => linker.func_wrap(
                module,
                name,
                move |caller: Caller<'_, Context>, addr: u32, count: u32, offset: u64| {
                    notify(caller, k, &it, addr.into(), offset, count)
                },
            ),
            (WaitOp::Notify, true) => linker.func_wrap(
                module,
                name,
                move |caller: Caller<'_, Context>, addr: u64, count: u32, offset: u64| {
                    notify(caller, k, &it, addr, offset, count)
                },
            ),
        };
        added.map_err(|err| Error::wasmtime(Status::Runtime, &import.name, &err))?;
    }
    Ok(())
}

/// The k-th memory of the plan: found by its export the first time, since a memory that the instance defines itself
/// exists only then.
fn wait_memory(
    caller: &mut Caller<'_, Context>,
    k: usize,
    import: &WaitImport,
) -> wasmtime::Result<SharedMemory> {
    if let Some(Some(memory)) = caller.data().wait_memories.get(k) {
        return Ok(memory.clone());
    }
    match caller.get_export(&import.memory_export) {
        Some(Extern::SharedMemory(memory)) => {
            let memories = &mut caller.data_mut().wait_memories;
            if memories.len() <= k {
                memories.resize(k + 1, None);
            }
            memories[k] = Some(memory.clone());
            Ok(memory)
        }
        _ => Err(wasmtime::format_err!(
            "the rewritten module does not export its shared memory as {:?}",
            import.memory_export
        )),
    }
}

fn wait(
    mut caller: Caller<'_, Context>,
    k: usize,
    import: &WaitImport,
    addr: u64,
    offset: u64,
    expected: Expected,
    timeout: i64,
) -> wasmtime::Result<u32> {
    let memory = wait_memory(&mut caller, k, import)?;
    let data = memory.data();
    let address = import.check_address(addr, offset, data.len() as u64)?;
    let context = caller.data();
    let key = data.as_ptr() as usize + address as usize;
    context.note_exit();
    // SAFETY: the address was checked for alignment and bounds; `memory` keeps it mapped.
    let waited = unsafe {
        waits::wait(
            &context.domain.gate,
            &context.slot,
            context.outer(),
            key,
            address,
            expected,
            timeout,
        )
    };
    match waited {
        Waited::Woken => Ok(0),
        Waited::NotEqual => Ok(1),
        Waited::TimedOut => Ok(2),
        Waited::Stopped | Waited::Claimed => Err(context.leave(Leave::Stopped)),
        Waited::Expired => Err(context.leave(Leave::Discarded)),
    }
}

fn notify(
    mut caller: Caller<'_, Context>,
    k: usize,
    import: &WaitImport,
    addr: u64,
    offset: u64,
    count: u32,
) -> wasmtime::Result<u32> {
    let memory = wait_memory(&mut caller, k, import)?;
    let data = memory.data();
    let address = import.check_address(addr, offset, data.len() as u64)?;
    Ok(waits::notify(
        data.as_ptr() as usize + address as usize,
        count,
    ))
}
