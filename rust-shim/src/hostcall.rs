//! The functions that guests import: the host's, each of which becomes a call of the one callback, and the shim's own,
//! which stand for the atomic instructions that `rewrite` took out.

use crate::engine::HostImport;
use crate::error::{Error, Result, Status};
use crate::ffi::types::*;
use crate::poller::{Polled, Poller};
use crate::rewrite::{WaitImport, WaitOp};
use crate::thread::{Context, Leave};
use crate::waits::{self, Expected, Waited};
use std::mem::MaybeUninit;
use wasmtime::{Caller, Extern, FuncType, Linker, SharedMemory, ValRaw};

/// The module name of the shim's own imports.
pub const OWN_MODULE: &str = "lindshim";

/// Adds one of the host's functions to a linker.
pub fn define(
    linker: &mut Linker<Context>,
    host_call: HostCallFn,
    import: &HostImport,
    ty: FuncType,
) -> Result<()> {
    let Some(host_call) = host_call else {
        return Err(Error::new(Status::Invalid, "host_call is NULL"));
    };
    let id = import.id;
    let call = move |caller: Caller<'_, Context>, values: &mut [MaybeUninit<ValRaw>]| {
        call_host(caller, host_call, id, values)
    };
    // SAFETY: the callback reads and writes `values` by the same letters that made `ty`; that is the C ABI's contract.
    let added = unsafe { linker.func_new_unchecked(&import.module, &import.name, ty, call) };
    added.map(|_| ()).map_err(|err| {
        Error::wasmtime(
            Status::Invalid,
            &format!("{}.{}", import.module, import.name),
            &err,
        )
    })
}

fn call_host(
    mut caller: Caller<'_, Context>,
    host_call: unsafe extern "C" fn(*mut Call) -> i32,
    import: u32,
    values: &mut [MaybeUninit<ValRaw>],
) -> wasmtime::Result<()> {
    let (memory, memory_bytes) = Context::memory_now(&caller);
    let context = caller.data_mut();
    context.slot.at_host_call(import);
    let mut none = [0_u64; 2];
    let mut wait = MaybeUninit::<[WaitFd; LINDSHIM_MAX_WAIT]>::uninit();
    let mut call = Call {
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
    };
    let verdict = loop {
        // SAFETY: the callback keeps the contract of the C ABI; everything that the call points to outlives it.
        let verdict = unsafe { host_call(&mut call) };
        if call.thread_user != context.thread_user {
            context.thread_user = call.thread_user;
            context.slot.set_thread_user(call.thread_user);
        }
        if verdict != LINDSHIM_WAIT {
            break verdict;
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
            Polled::Stopped | Polled::Claimed => return Err(stopped(context)),
        };
        // A guest's other threads may have grown the memory. It does not move.
        if let Some(memory) = &context.domain.shared_memory {
            call.memory_bytes = memory.data().len() as u64;
        }
    };
    context.slot.at_guest();
    if context.domain.gate.is_closed() {
        return Err(stopped(context));
    }
    match verdict {
        LINDSHIM_CONTINUE => Ok(()),
        LINDSHIM_QUIT => Err(Leave::Quit.into()),
        _ => Err(Leave::HostFailed.into()),
    }
}

/// The thread leaves because its domain is stopping. It is counted out before it does.
fn stopped(context: &Context) -> wasmtime::Error {
    context.domain.depart(&context.slot, None);
    Leave::Stopped.into()
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
    let waited = poller.wait(&context.domain.gate, &context.slot, fds, timeout_ns);
    if waited == Polled::Claimed {
        // What it waited for may be open elsewhere, and in its set still.
        context.poller = None;
    }
    waited
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
    // SAFETY: the address was checked for alignment and bounds; `memory` keeps it mapped.
    let waited = unsafe {
        waits::wait(
            &context.domain.gate,
            &context.slot,
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
        Waited::Stopped | Waited::Claimed => Err(stopped(context)),
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
