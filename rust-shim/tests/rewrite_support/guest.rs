//! A guest that runs a module one way or the other, and writes down all that can be seen of it.

use std::fmt::Debug;

use lindshim::rewrite::{GUEST_FEATURES, GrateModule, IMPORT_MODULE, Plan, grate};
use wasmtime::{
    Engine, Error, Extern, ExternType, Instance, Linker, Module, SharedMemory, Store, Trap, Val,
    ValType, WasmBacktrace,
};

use super::host::{self, Log};
use super::{print, rewritten};

/// A frame of a backtrace: the function's index in the original module, and its name.
pub type Frame = (u32, Option<String>);

/// How a call, or an instantiation, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned; numbers as bits, references as null or not.
    Returned(Vec<String>),
    /// It trapped.
    Trapped(Trap, Vec<Frame>),
    /// It failed otherwise.
    Failed(String, Vec<Frame>),
}

impl Outcome {
    /// Whether the guest ran out of stack.
    fn overflowed(&self) -> bool {
        matches!(self, Self::Trapped(Trap::StackOverflow, _))
    }
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Wasmtime's own instructions.
    Native,
    /// Host functions.
    Rewritten,
}

/// One instance of a module.
pub struct Guest {
    store: Store<Log>,
    plan: Option<Plan>,
    instance: Option<Instance>,
    imported: Vec<SharedMemory>,
    /// How the instantiation ended.
    pub started: Outcome,
}

impl Guest {
    /// Instantiates the module as it is: Wasmtime's own instructions wait.
    pub fn native(engine: &Engine, wasm: &[u8]) -> Self {
        Self::new(engine, wasm, None, None)
    }

    /// Instantiates the rewritten module: host functions wait.
    pub fn rewritten(engine: &Engine, wasm: &[u8]) -> Self {
        let (bytes, plan) = rewritten(wasm);
        Self::new(engine, &bytes, Some(plan), None)
    }

    /// Instantiates the module one way or the other over a memory that other instances use too.
    pub fn over(engine: &Engine, wasm: &[u8], way: Way, memory: &SharedMemory) -> Self {
        match way {
            Way::Native => Self::new(engine, wasm, None, Some(memory)),
            Way::Rewritten => {
                let (bytes, plan) = rewritten(wasm);
                Self::new(engine, &bytes, Some(plan), Some(memory))
            }
        }
    }

    fn new(
        engine: &Engine,
        wasm: &[u8],
        plan: Option<Plan>,
        memory: Option<&SharedMemory>,
    ) -> Self {
        let module = match Module::new(engine, wasm) {
            Ok(module) => module,
            Err(error) => panic!("{error:?}\n{}", print(wasm)),
        };
        Self::of_module(&module, plan, None, memory)
    }

    /// Instantiates a compiled module over memories that are there already: `own` for the one that was its own, and
    /// `memory` for one that it imported anyway.
    fn of_module(
        module: &Module,
        plan: Option<Plan>,
        own: Option<&SharedMemory>,
        memory: Option<&SharedMemory>,
    ) -> Self {
        let mut store = Store::new(module.engine(), Log::default());
        let mut linker = Linker::new(module.engine());
        if let Some(own) = own {
            linker
                .define(&store, IMPORT_MODULE, "memory", own.clone())
                .expect("a new name");
        }
        if let Some(plan) = &plan {
            host::define_plan(&mut store, &mut linker, module, plan);
        }
        let imported = host::define_others(&mut store, &mut linker, module, memory);
        let (instance, started) = match linker.instantiate(&mut store, module) {
            Ok(instance) => (Some(instance), Outcome::Returned(Vec::new())),
            Err(error) => (None, failure(&error, plan.as_ref())),
        };
        Self {
            store,
            plan,
            instance,
            imported,
            started,
        }
    }

    /// Calls an exported function; each argument is taken to the parameter's type.
    pub fn call(&mut self, name: &str, args: &[i64]) -> Outcome {
        let instance = self.instance.expect("an instance");
        let Some(func) = instance.get_func(&mut self.store, name) else {
            panic!("no function {name:?}");
        };
        let ty = func.ty(&self.store);
        let args: Vec<Val> = ty
            .params()
            .zip(args)
            .map(|(ty, &arg)| val(&ty, arg))
            .collect();
        let mut results = defaults(ty.results());
        match func.call(&mut self.store, &args, &mut results) {
            Ok(()) => Outcome::Returned(results.iter().map(show).collect()),
            Err(error) => failure(&error, self.plan.as_ref()),
        }
    }

    /// The names of the exported functions.
    pub fn functions(&mut self) -> Vec<String> {
        let Some(instance) = self.instance else {
            return Vec::new();
        };
        let exports = instance.exports(&mut self.store);
        let functions = exports.filter_map(|e| Some((e.name().to_owned(), e.into_func()?)));
        functions.map(|(name, _)| name).collect()
    }

    /// All that can be seen from outside when everything is over, but for what the plan added.
    pub fn remains(&mut self) -> Vec<(String, Vec<u8>)> {
        let memories = self.imported.iter().enumerate();
        let mut seen: Vec<_> = memories
            .map(|(i, memory)| (format!("imported memory {i}"), contents(memory)))
            .collect();
        seen.push((
            "calls of the host".to_owned(),
            self.store.data().calls.join("\n").into_bytes(),
        ));
        let Some(instance) = self.instance else {
            return seen;
        };
        let added = self
            .plan
            .as_ref()
            .map_or(&[][..], |plan| &plan.added_exports);
        let exports = instance.exports(&mut self.store);
        let exports: Vec<_> = exports
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .filter(|(name, _)| !added.contains(name))
            .collect();
        for (name, export) in exports {
            let bytes = match export {
                Extern::SharedMemory(memory) => contents(&memory),
                Extern::Memory(memory) => memory.data(&self.store).to_vec(),
                Extern::Global(global) => show(&global.get(&mut self.store)).into_bytes(),
                Extern::Table(table) => {
                    let size = table.size(&self.store);
                    let null = |i| table.get(&mut self.store, i).is_none_or(|r| r.is_null());
                    (0..size.min(4096)).map(null).map(u8::from).collect()
                }
                _ => Vec::new(),
            };
            seen.push((name, bytes));
        }
        seen
    }
}

/// A module made a grate, and the memory of its instances.
pub struct Grate {
    /// What it was made.
    pub rewritten: GrateModule,
    module: Module,
    /// The memory, if it has one.
    pub memory: Option<SharedMemory>,
}

impl Grate {
    /// Makes it a grate, and makes its memory.
    pub fn new(engine: &Engine, wasm: &[u8]) -> Self {
        let rewritten = grate(wasm, GUEST_FEATURES).expect("a grate");
        let module = match Module::new(engine, &rewritten.bytes) {
            Ok(module) => module,
            Err(error) => panic!("{error:?}\n{}", print(&rewritten.bytes)),
        };
        let memory = module.imports().find_map(|import| match import.ty() {
            ExternType::Memory(ty) => Some(SharedMemory::new(engine, ty).expect("a memory")),
            _ => None,
        });
        Self {
            rewritten,
            module,
            memory,
        }
    }

    /// The first instance, with its init function called: the two are what an instantiation was.
    pub fn first(&self) -> Guest {
        let mut guest = self.later();
        if guest.instance.is_some() {
            guest.started = guest.call(&self.rewritten.grate.init, &[]);
        }
        if guest.started != Outcome::Returned(Vec::new()) {
            guest.instance = None;
        }
        guest
    }

    /// Another instance.
    pub fn later(&self) -> Guest {
        let memory = self.memory.as_ref();
        let plan = Some(self.rewritten.plan.clone());
        Guest::of_module(&self.module, plan, memory, memory)
    }
}

/// The same module, run both ways at once.
pub struct Both {
    native: Guest,
    rewritten: Guest,
    printed: String,
}

impl Both {
    /// Instantiates both, and compares how that ended.
    pub fn new(engine: &Engine, wasm: &[u8]) -> Self {
        Self::with(engine, wasm, Guest::rewritten(engine, wasm))
    }

    /// The same, where the one is a grate's first instance.
    pub fn grate(engine: &Engine, wasm: &[u8]) -> Self {
        Self::with(engine, wasm, Grate::new(engine, wasm).first())
    }

    fn with(engine: &Engine, wasm: &[u8], rewritten: Guest) -> Self {
        let both = Self {
            native: Guest::native(engine, wasm),
            rewritten,
            printed: print(wasm),
        };
        both.same(
            "the instantiation",
            &both.native.started,
            &both.rewritten.started,
        );
        both
    }

    /// How the instantiation ended, both ways.
    pub fn started(&self) -> &Outcome {
        &self.native.started
    }

    /// Calls an exported function in both, compares, and answers how it ended.
    pub fn call(&mut self, name: &str, args: &[i64]) -> Outcome {
        let native = self.native.call(name, args);
        let rewritten = self.rewritten.call(name, args);
        self.same(&format!("{name} {args:?}"), &native, &rewritten);
        native
    }

    /// Like [`Both::call`], but `None` if a stack overflowed: the two need not use the same amount of it.
    pub fn call_if_stack_lasts(&mut self, name: &str) -> Option<Outcome> {
        let native = self.native.call(name, &[0; 20]);
        let rewritten = self.rewritten.call(name, &[0; 20]);
        if native.overflowed() || rewritten.overflowed() {
            return None;
        }
        self.same(name, &native, &rewritten);
        Some(native)
    }

    /// The names of the exported functions.
    pub fn functions(&mut self) -> Vec<String> {
        self.native.functions()
    }

    /// How many waits and notifies host functions stood in for, and how many of those trapped.
    pub fn stood_in(&self) -> [usize; 2] {
        self.rewritten.store.data().stood_in
    }

    /// Compares what is left of both.
    pub fn finish(mut self) {
        let native = self.native.remains();
        let rewritten = self.rewritten.remains();
        let names = |seen: &[(String, Vec<u8>)]| -> Vec<String> {
            seen.iter().map(|(name, _)| name.clone()).collect()
        };
        self.same("the exports", &names(&native), &names(&rewritten));
        for ((name, native), (_, rewritten)) in native.iter().zip(&rewritten) {
            let differ = native.iter().zip(rewritten).position(|(a, b)| a != b);
            self.same(
                &format!("{name}: the length"),
                &native.len(),
                &rewritten.len(),
            );
            self.same(&format!("{name}: the first difference"), &None, &differ);
        }
    }

    fn same<T: PartialEq + Debug>(&self, what: &str, native: &T, rewritten: &T) {
        assert!(
            native == rewritten,
            "{what}\nnative:    {native:?}\nrewritten: {rewritten:?}\n{}",
            self.printed
        );
    }
}

/// The zero of each type.
pub fn defaults(types: impl Iterator<Item = ValType>) -> Vec<Val> {
    types
        .map(|ty| ty.default_value().expect("a type with a zero"))
        .collect()
}

/// An argument of type `ty`; references are null.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits are what is meant"
)]
fn val(ty: &ValType, arg: i64) -> Val {
    match ty {
        ValType::I32 => Val::I32(arg as i32),
        ValType::I64 => Val::I64(arg),
        ValType::F32 => Val::F32(arg as u32),
        ValType::F64 => Val::F64(arg.cast_unsigned()),
        other => other.default_value().expect("a type with a zero"),
    }
}

/// What can be compared of a value between two stores.
pub fn show(value: &Val) -> String {
    match value {
        Val::FuncRef(func) => format!("function: {}", func.is_some()),
        other => format!("{other:?}"),
    }
}

/// What can be compared of an error between two stores.
fn failure(error: &Error, plan: Option<&Plan>) -> Outcome {
    let frames = error
        .downcast_ref::<WasmBacktrace>()
        .map_or(&[][..], |b| b.frames());
    let init = plan.and_then(|plan| plan.init_function);
    let frames = frames
        .iter()
        .filter(|frame| Some(frame.func_index()) != init)
        .map(|frame| {
            let index = frame.func_index();
            let index = plan.map_or(Some(index), |plan| plan.original_function_index(index));
            let index = index.expect("an added import has no frame");
            (index, frame.func_name().map(str::to_owned))
        })
        .collect();
    match error.downcast_ref::<Trap>() {
        Some(trap) => Outcome::Trapped(*trap, frames),
        None => Outcome::Failed(error.root_cause().to_string(), frames),
    }
}

/// The bytes of a shared memory that no thread uses at the moment.
pub fn contents(memory: &SharedMemory) -> Vec<u8> {
    let cells = memory.data().iter();
    // SAFETY: the cells are within the memory, which never moves or shrinks, and the caller says that no other
    // thread, guest or host, writes to it during the call.
    cells.map(|cell| unsafe { *cell.get() }).collect()
}
