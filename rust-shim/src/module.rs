//! A module: compiled, its imports checked, its atomic waits made interruptible.

use crate::engine::Engine;
use crate::error::{Error, Result, Status};
use crate::faults::{self, Point};
use crate::ffi::types::*;
use crate::functions::Functions;
use crate::hostcall::{self, OWN_MODULE};
use crate::rewrite::{self, GUEST_FEATURES, GratePlan, Plan};
use crate::supply::Supplies;
use crate::thread::{Context, THREAD_START};
use crate::worker::Shape;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wasmparser::{Parser, Payload, TypeRef};
use wasmtime::{ExternType, FuncType, InstancePre, Linker, MemoryType, MemoryTypeBuilder};

/// A loaded module.
pub struct Module {
    /// Its engine.
    pub engine: Arc<Engine>,
    /// The compiled module.
    pub compiled: wasmtime::Module,
    /// Its functions, to name them.
    pub functions: Functions,
    /// The shared memory that it imports, if it does.
    pub memory: Option<MemoryImport>,
    /// Its imports, as it was given.
    pub imports: Vec<External>,
    /// Its exports, as it was given.
    pub exports: Vec<External>,
    /// How it was rewritten, if it was.
    pub plan: Option<Plan>,
    /// Every import but the memory.
    linker: Linker<Context>,
    /// What it was rewritten to as a grate, if it was loaded as one.
    pub grate: Option<GratePlan>,
    /// Ready to instantiate, if no memory is to be supplied.
    pre: Option<InstancePre<Context>>,
    /// What domains that are no more have supplied.
    pub supplies: Supplies,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("imports", &self.imports)
            .finish_non_exhaustive()
    }
}

/// The name that linkers give to the table that function pointers are indices of.
const FUNCTION_TABLE: &str = "__indirect_function_table";

/// A shared memory that each domain supplies.
#[derive(Clone, Debug)]
pub struct MemoryImport {
    /// The import's module name.
    pub module: String,
    /// The import's name.
    pub name: String,
    /// Its type.
    pub ty: MemoryType,
}

/// An import or export, for whoever asks.
#[derive(Clone, Debug)]
pub struct External {
    /// `LINDSHIM_EXTERN_*`.
    pub kind: u32,
    /// An import's module name.
    pub module: Option<String>,
    /// The name.
    pub name: String,
    /// The type as text.
    pub type_text: String,
}

impl Module {
    /// Compiles `bytes`, binary or text, or takes the result from the cache. It may take seconds.
    pub fn load(engine: &Arc<Engine>, bytes: &[u8]) -> Result<Arc<Self>> {
        Self::load_as(engine, bytes, false)
    }

    /// The same for a module that is to be a grate: it is rewritten so that its instances can share the memory.
    pub fn load_grate(engine: &Arc<Engine>, bytes: &[u8]) -> Result<Arc<Self>> {
        let module = Self::load_as(engine, bytes, true)?;
        Shape::of(&module)?;
        Ok(module)
    }

    fn load_as(engine: &Arc<Engine>, bytes: &[u8], as_grate: bool) -> Result<Arc<Self>> {
        engine.seal();
        if bytes.is_empty() {
            return Err(Error::new(Status::Module, "no valid module: it is empty"));
        }
        let binary = wat::parse_bytes(bytes)
            .map_err(|err| Error::new(Status::Module, format!("no valid module text: {err}")))?;
        let invalid = |err| Error::new(Status::Module, format!("no valid module: {err}"));
        let (bytes, plan, grate) = if as_grate {
            let it = rewrite::grate(&binary, GUEST_FEATURES).map_err(invalid)?;
            (Cow::Owned(it.bytes), Some(it.plan), Some(it.grate))
        } else {
            let it = rewrite::rewrite(&binary, GUEST_FEATURES).map_err(invalid)?;
            (it.bytes, it.plan, None)
        };
        let wasmtime = match own_data(&bytes) {
            None => engine.wasmtime.for_supplied(),
            Some(bytes) => engine.wasmtime.for_data(bytes),
        };
        let compiled = faults::check(Point::Compile)
            .and_then(|()| wasmtime::Module::new(wasmtime, &bytes))
            .map_err(|err| Error::wasmtime(Status::Module, "the module does not compile", &err))?;

        let mut linker = Linker::new(wasmtime);
        let mut problems = Vec::new();
        let (mut memory, mut imports) = (None, Vec::new());
        for import in compiled.imports() {
            let ty = import.ty();
            if import.module() == OWN_MODULE {
                // What the rewrite has put there: waits, see below, and a grate's own memory.
                if let ExternType::Memory(ty) = ty {
                    memory = Some(MemoryImport {
                        module: import.module().into(),
                        name: import.name().into(),
                        ty,
                    });
                }
                continue;
            }
            imports.push(External::new(Some(import.module()), import.name(), &ty));
            let name = format!("{}.{}", import.module(), import.name());
            match ty {
                ExternType::Func(ty) => {
                    match engine.link(&mut linker, import.module(), import.name(), &ty)? {
                        Linked::Yes => {}
                        Linked::Unknown => problems.push(format!("unknown import {name}")),
                        Linked::WrongType(ours) => problems.push(format!(
                            "import {name} has the type {}, but is offered with {}",
                            func_text(&ty),
                            func_text(&ours)
                        )),
                    }
                }
                ExternType::Memory(ty) if !ty.is_shared() => problems.push(format!(
                    "import {name} is a memory that is not shared; define it in the module instead"
                )),
                ExternType::Memory(_) if memory.is_some() => {
                    problems.push(format!("import {name} is a second shared memory"));
                }
                ExternType::Memory(ty) => {
                    memory = Some(MemoryImport {
                        module: import.module().into(),
                        name: import.name().into(),
                        ty,
                    });
                }
                _ => problems.push(format!(
                    "unknown import {name} (only functions and one shared memory)"
                )),
            }
        }
        if !problems.is_empty() {
            return Err(Error::new(Status::Import, problems.join("; ")));
        }
        if let Some(plan) = &plan {
            hostcall::define_waits(&mut linker, &plan.imports)?;
        }
        let added = |name: &str| {
            plan.as_ref()
                .is_some_and(|plan| plan.added_exports.iter().any(|added| added == name))
        };
        let exports = compiled
            .exports()
            .filter(|export| !added(export.name()))
            .map(|export| External::new(None, export.name(), &export.ty()))
            .collect();
        let pre = if memory.is_none() {
            let pre = linker
                .instantiate_pre(&compiled)
                .map_err(|err| Error::wasmtime(Status::Import, "the imports do not fit", &err))?;
            Some(pre)
        } else {
            None
        };
        let module = Arc::new(Module {
            engine: engine.clone(),
            functions: Functions::of(&compiled, plan.clone()),
            compiled,
            memory,
            imports,
            exports,
            plan,
            linker,
            grate,
            pre,
            supplies: Supplies::new(engine.supplies.clone()),
        });
        module.check_thread_start()?;
        Ok(module)
    }

    /// A thread's entry has the proposal's type, where there is one.
    fn check_thread_start(&self) -> Result<()> {
        match self.compiled.get_export(THREAD_START) {
            None => Ok(()),
            Some(ExternType::Func(ty))
                if ty.results().len() == 0
                    && ty.params().len() == 2
                    && ty.params().all(|param| param.is_i32()) =>
            {
                Ok(())
            }
            Some(other) => Err(Error::new(
                Status::Export,
                format!(
                    "export {THREAD_START} is {}, but has to be a function (i32, i32) -> ()",
                    type_text(&other)
                ),
            )),
        }
    }

    /// The export that initializes the memory, once for all instances, if instantiation does not.
    pub fn init(&self) -> Option<&str> {
        self.grate.as_ref().map(|grate| grate.init.as_str())
    }

    /// Whether, as a grate, it can serve one call at a time only: it was built for one thread.
    pub fn is_single(&self) -> bool {
        self.grate.as_ref().is_some_and(|grate| !grate.was_shared)
    }

    /// The export that function pointers are indices of, if there is one.
    pub fn function_table(&self) -> Option<&str> {
        match &self.grate {
            Some(grate) => grate.function_table.as_deref(),
            None => Some(FUNCTION_TABLE),
        }
    }

    /// The module's instantiation, complete unless it imports a memory.
    pub fn instance_pre(&self) -> Option<&InstancePre<Context>> {
        self.pre.as_ref()
    }

    /// Every import but the memory.
    pub fn linker(&self) -> &Linker<Context> {
        &self.linker
    }
}

impl Module {
    /// It has a handle from here on, and is among the modules of its engine until that is deleted.
    pub fn counts(&self) {
        self.engine.modules.fetch_add(1, Ordering::Relaxed);
    }

    /// Its handle was deleted. Domains, and threads that are just leaving, may hold the module for longer.
    pub fn was_deleted(&self) {
        self.engine.modules.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many bytes of data the module has for a memory of its own. `None`: its memory is supplied. What is not valid is for
/// the compiler to say.
fn own_data(bytes: &[u8]) -> Option<u64> {
    let mut sum = 0_u64;
    for payload in Parser::new(0).parse_all(bytes).flatten() {
        match payload {
            Payload::ImportSection(imports) => {
                let mut imports = imports.into_imports().flatten();
                if imports.any(|import| matches!(import.ty, TypeRef::Memory(_))) {
                    return None;
                }
            }
            Payload::DataSection(data) => {
                let data = data.into_iter().flatten();
                sum = sum.saturating_add(data.map(|it| it.data.len() as u64).sum());
            }
            _ => {}
        }
    }
    Some(sum)
}

impl MemoryImport {
    /// The least size in bytes.
    pub fn min_bytes(&self) -> u64 {
        self.ty.minimum().saturating_mul(self.ty.page_size())
    }

    /// The largest size in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.ty
            .maximum()
            .unwrap_or(u64::MAX)
            .saturating_mul(self.ty.page_size())
    }

    /// The type of a memory that satisfies the import and stays within `limit` bytes.
    pub fn within(&self, limit: u64) -> Result<MemoryType> {
        if self.min_bytes() > limit {
            return Err(Error::new(
                Status::Memory,
                format!(
                    "the module's memory {}.{} has at least {} bytes, more than the {limit} allowed",
                    self.module,
                    self.name,
                    self.min_bytes()
                ),
            ));
        }
        let pages = (self.max_bytes().min(limit)) / self.ty.page_size();
        MemoryTypeBuilder::new()
            .memory64(self.ty.is_64())
            .shared(true)
            .min(self.ty.minimum())
            .max(Some(pages))
            .page_size_log2(self.ty.page_size_log2())
            .build()
            .map_err(|err| Error::wasmtime(Status::Memory, "the module's memory", &err))
    }
}

impl External {
    fn new(module: Option<&str>, name: &str, ty: &ExternType) -> Self {
        External {
            kind: match ty {
                ExternType::Func(_) => LINDSHIM_EXTERN_FUNC,
                ExternType::Global(_) => LINDSHIM_EXTERN_GLOBAL,
                ExternType::Table(_) => LINDSHIM_EXTERN_TABLE,
                ExternType::Memory(_) => LINDSHIM_EXTERN_MEMORY,
                ExternType::Tag(_) => LINDSHIM_EXTERN_TAG,
            },
            module: module.map(Into::into),
            name: name.into(),
            type_text: type_text(ty),
        }
    }
}

/// Whether an import could be linked.
#[derive(Debug)]
pub enum Linked {
    /// It is linked.
    Yes,
    /// The host does not offer it.
    Unknown,
    /// The host offers it with another type.
    WrongType(FuncType),
}

fn func_text(ty: &FuncType) -> String {
    let list = |types: &mut dyn Iterator<Item = wasmtime::ValType>| {
        let names: Vec<_> = types.map(|ty| ty.to_string()).collect();
        format!("({})", names.join(", "))
    };
    format!("{} -> {}", list(&mut ty.params()), list(&mut ty.results()))
}

fn type_text(ty: &ExternType) -> String {
    match ty {
        ExternType::Func(ty) => func_text(ty),
        ExternType::Global(ty) => format!("global {}", ty.content()),
        ExternType::Table(ty) => format!("table {}", ty.element()),
        ExternType::Memory(ty) => format!(
            "{}memory{} {}..{}",
            if ty.is_shared() { "shared " } else { "" },
            if ty.is_64() { "64" } else { "" },
            ty.minimum(),
            ty.maximum().map_or("".into(), |max| max.to_string())
        ),
        ExternType::Tag(_) => "tag".into(),
    }
}
