//! Host functions: those of a plan, and those that a module imports otherwise.

use std::time::Duration;

use lindshim::rewrite::{IMPORT_MODULE, Plan, WaitImport, WaitOp};
use wasmtime::{
    Caller, Error, Extern, ExternType, Func, FuncType, Linker, Module, SharedMemory, Store, Val,
};

use super::guest::{defaults, show};

/// What host functions write down.
#[derive(Default)]
pub struct Log {
    /// The calls of the module's own imports, with their arguments.
    pub calls: Vec<String>,
    /// How many waits and notifies host functions stood in for, and how many of those trapped.
    pub stood_in: [usize; 2],
}

/// Defines the host functions of a plan over the memory's own queue.
pub fn define_plan(store: &mut Store<Log>, linker: &mut Linker<Log>, module: &Module, plan: &Plan) {
    for import in &plan.imports {
        let ty = import_type(module, &import.name);
        let import_for = import.clone();
        let func = Func::new(&mut *store, ty, move |mut caller, args, results| {
            let answer = stand_in(&mut caller, &import_for, args);
            let [all, trapped] = &mut caller.data_mut().stood_in;
            *all += 1;
            *trapped += usize::from(answer.is_err());
            results[0] = Val::I32(answer?);
            Ok(())
        });
        linker
            .define(&*store, IMPORT_MODULE, &import.name, func)
            .expect("a new name");
    }
}

/// Does what the native instruction does.
fn stand_in(caller: &mut Caller<'_, Log>, import: &WaitImport, args: &[Val]) -> Result<i32, Error> {
    let memory = caller
        .get_export(&import.memory_export)
        .and_then(Extern::into_shared_memory)
        .expect("the memory, even before the instance is complete");
    let addr = match (import.memory64, &args[0]) {
        (true, Val::I64(addr)) => addr.cast_unsigned(),
        (false, Val::I32(addr)) => u64::from(addr.cast_unsigned()),
        (_, other) => panic!("an address cannot be {other:?}"),
    };
    let offset = args.last().expect("arguments").unwrap_i64().cast_unsigned();
    let bytes = u64::try_from(memory.data_size()).expect("a size");
    let addr = import.check_address(addr, offset, bytes)?;
    let checked = "check_address let a bad address through";
    Ok(match import.op {
        WaitOp::Wait32 => {
            let expected = args[1].unwrap_i32().cast_unsigned();
            memory
                .atomic_wait32(addr, expected, timeout(&args[2]))
                .expect(checked) as i32
        }
        WaitOp::Wait64 => {
            let expected = args[1].unwrap_i64().cast_unsigned();
            memory
                .atomic_wait64(addr, expected, timeout(&args[2]))
                .expect(checked) as i32
        }
        WaitOp::Notify => {
            let count = args[1].unwrap_i32().cast_unsigned();
            memory
                .atomic_notify(addr, count)
                .expect(checked)
                .cast_signed()
        }
    })
}

/// A negative timeout is none.
fn timeout(nanoseconds: &Val) -> Option<Duration> {
    u64::try_from(nanoseconds.unwrap_i64())
        .ok()
        .map(Duration::from_nanos)
}

/// The type of an import that a plan added.
fn import_type(module: &Module, name: &str) -> FuncType {
    let import = module
        .imports()
        .find(|import| import.module() == IMPORT_MODULE && import.name() == name);
    match import.map(|import| import.ty()) {
        Some(ExternType::Func(ty)) => ty,
        other => panic!("import {name:?} is {other:?}"),
    }
}

/// Defines all other imports: functions that log their calls, shared memories (answered; the given one, if any), and
/// zeros.
pub fn define_others(
    store: &mut Store<Log>,
    linker: &mut Linker<Log>,
    module: &Module,
    given: Option<&SharedMemory>,
) -> Vec<SharedMemory> {
    let mut memories = Vec::new();
    for import in module.imports() {
        let defined = linker.get(&mut *store, import.module(), import.name());
        if defined.is_ok() {
            continue;
        }
        let value: Extern = match import.ty() {
            ExternType::Func(ty) => logged(store, &ty, import.name()).into(),
            ExternType::Memory(ty) if ty.is_shared() => {
                let memory = match given {
                    Some(memory) => memory.clone(),
                    None => SharedMemory::new(module.engine(), ty).expect("a shared memory"),
                };
                memories.push(memory.clone());
                memory.into()
            }
            other => other.default_value(&mut *store).expect("a value"),
        };
        linker
            .define(&*store, import.module(), import.name(), value)
            .expect("a new name");
    }
    memories
}

/// A host function that writes down its arguments and answers zeros.
fn logged(store: &mut Store<Log>, ty: &FuncType, name: &str) -> Func {
    let name = name.to_owned();
    Func::new(store, ty.clone(), move |mut caller, args, results| {
        let args: Vec<_> = args.iter().map(show).collect();
        caller
            .data_mut()
            .calls
            .push(format!("{name}({})", args.join(", ")));
        let ty: Vec<_> = results
            .iter()
            .map(|r| r.ty(&caller))
            .collect::<Result<_, _>>()?;
        results.clone_from_slice(&defaults(ty.into_iter()));
        Ok(())
    })
}
