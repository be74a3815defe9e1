//! Makes `memory.atomic.wait32` and `memory.atomic.wait64` interruptible, by turning them into calls of the host.
//!
//! Wasmtime's epochs do not reach a thread that is parked in one of these instructions (bytecodealliance/wasmtime
//! #12809), so the shim keeps the wait queue itself. [`rewrite`] takes a module and, if it waits on a shared memory
//! anywhere, answers a module in which every wait and every notify on a shared memory calls an imported function.
//! It does not run anything, and it does not know the queue: the host functions are the caller's.
//!
//! # What changes in a module that waits
//! - `memory.atomic.wait32 offset=K` on memory `m` becomes `i64.const K; call $f`, where `$f` is the new import
//!   `("lindshim", "wait32:m")`; the same for `wait64` and `notify`. No local is added, and no other instruction
//!   changes but the function index in `call`, `return_call` and `ref.func`. [`WaitImport`] has the functions' types.
//! - The new imports stand after the module's own, so imported functions keep their indices and defined functions
//!   move up by the number of new imports: in code, elements, exports, the start section, constant expressions and
//!   the name section. [`Plan::original_function_index`] takes an index that Wasmtime reports back to the module's
//!   own numbering.
//! - Each memory that is used so is exported: under the name that the module already gives it, or a new one that
//!   clashes with none of the module's. The memory's own type, index and contents do not change.
//! - New function types are appended to the type section, so type indices stay.
//!
//! Waits and notifies on memories that are not shared stay as they are: they cannot block. A module that only
//! notifies is left alone as well: nothing can wait on a shared memory of this module, since a memory is never shared
//! between modules.
//!
//! # Custom sections of a module that waits
//! | section | what becomes of it |
//! | --- | --- |
//! | `name` | function indices are moved, in the function, local and label names; the rest is copied |
//! | `metadata.code.branch_hint` | function indices and code offsets are moved |
//! | `.debug_*`, other `metadata.code.*`, `build_id` | dropped: they speak of code offsets |
//! | `sourceMappingURL`, `external_debug_info` | dropped, for the same reason |
//! | `linking`, `reloc.*` | dropped: they speak of function indices and code offsets, and only linkers read them |
//! | all others (`producers`, `target_features`, `dylink.0`, ...) | copied |
//!
//! Code offsets that Wasmtime reports for such a module are offsets in the rewritten one.
//!
//! # Grates
//! A grate runs as several instances over one memory: its own program's, and one for each call that it serves at the
//! same time. [`grate`] makes a module fit for that, and its waits interruptible as well. What it changes besides:
//!
//! | what | what becomes of it |
//! | --- | --- |
//! | a memory that the module defines | is imported, as a shared one, from (`"lindshim"`, `"memory"`); exports stay |
//! | a shared memory that it imports | stays |
//! | active data segments | become passive, with the same indices |
//! | the start section | goes |
//! | `lindshim:init` | is added and exported: it copies those segments and calls that start function, as an instantiation does |
//! | `memory.init` and `data.drop` of those segments | name an empty segment, added after the others: to the code they have always been dropped |
//! | `__stack_pointer`, `__wasm_init_tls`, `__tls_size`, `__tls_align` | are exported, if only the name section knows them |
//! | table 0, if it holds functions | is exported as `__indirect_function_table`, if it is not exported |
//!
//! The first instance is to be instantiated, and its init function called, before anything else runs; later instances
//! over the same memory only are instantiated. If init traps, the instantiation of the original would have trapped
//! there, with the same trap: the grate cannot start.
//!
//! What instances share is the memory and nothing else. Tables, globals, and which passive segments were dropped are
//! each instance's own, so a change that one makes there (`dlopen`, a stack pointer, `__tls_base`) is not seen by
//! another, and later instances begin with the values that the module says, without what a start function did to them.
//! That is as with the threads of wasi-threads, but that each of those runs the start function too, which linkers make
//! such that it does something to the memory only the first time.
//!
//! A module whose memory is not shared behaves as before as long as one instance runs at a time, with two exceptions:
//! it may wait (the instruction traps in a memory that is not shared), and where it had no maximum it has 65536 pages.
//!
//! # Hostile input
//! A module that is rewritten has first passed wasmparser's validator, so that what the rewrite takes away (an invalid
//! alignment, say) cannot make an invalid module valid. A module that is not rewritten is not validated here: Wasmtime
//! does that when it compiles. Time and memory are linear in the size of the input, and nothing here panics.

mod address;
mod code;
mod custom;
mod emit;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod grate;
mod layout;
mod plan;
mod survey;

use std::borrow::Cow;

use wasmparser::{Parser, Validator, WasmFeatures};

pub use address::check_address;
pub use error::RewriteError;
pub use grate::{GrateMemory, GratePlan, Symbol};
pub use plan::{Plan, WaitImport, WaitOp};

/// The module name of every import that [`rewrite`] and [`grate`] add. A guest may not import from it.
pub const IMPORT_MODULE: &str = "lindshim";

/// What a guest module may use: WebAssembly 3.0 without garbage collection, typed function references and exceptions.
///
/// The engine must be configured with the same set: `config.wasm_features(WasmFeatures::all(), false)`, then
/// `config.wasm_features(GUEST_FEATURES, true)`.
pub const GUEST_FEATURES: WasmFeatures = WasmFeatures::WASM2
    .difference(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::THREADS)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST);

/// The largest module that is rewritten, in bytes. Output is less than twice the input, plus a few kilobytes for the new
/// imports and exports, plus the init function of a grate, which has a function's greatest size at most. So every size in
/// it fits the 32 bits that the binary format has.
const MAX_MODULE_BYTES: usize = 1 << 30;

/// What [`rewrite`] answers.
#[derive(Debug)]
pub struct Rewrite<'a> {
    /// The module to compile: the very bytes that were given, borrowed, if `plan` is `None`.
    pub bytes: Cow<'a, [u8]>,
    /// What the host must provide for the module, or `None` if the module waits nowhere and was not touched.
    pub plan: Option<Plan>,
}

/// Rewrites a binary module as the [module documentation](self) says.
///
/// `features` is what the engine that will run the module accepts, usually [`GUEST_FEATURES`]. The same input gives the
/// same output, byte for byte. Never blocks, never panics; safe to call from any thread.
///
/// # Errors
/// - [`RewriteError::NotAModule`], [`RewriteError::Invalid`]: not a valid core module. A module that needs no rewriting
///   may get an answer although it is invalid: Wasmtime then refuses it.
/// - [`RewriteError::ReservedImport`]: the module imports from [`IMPORT_MODULE`] itself, whether or not it waits.
/// - [`RewriteError::Limit`]: the module is so near a limit of the format that the rewritten one would be over it.
pub fn rewrite(wasm: &[u8], features: WasmFeatures) -> Result<Rewrite<'_>, RewriteError> {
    let Some(survey) = survey::survey(wasm, features)? else {
        return Ok(Rewrite {
            bytes: Cow::Borrowed(wasm),
            plan: None,
        });
    };
    validate(wasm, features)?;
    let layout = layout::Layout::new(wasm, features, survey)?;
    let bytes = emitted(wasm, features, &layout)?;
    Ok(Rewrite {
        bytes: Cow::Owned(bytes),
        plan: Some(layout.into_plan()),
    })
}

/// What [`grate`] answers.
#[derive(Debug)]
pub struct GrateModule {
    /// The module to compile.
    pub bytes: Vec<u8>,
    /// What is the same in any rewritten module. Without waits in the module there are no imports in it.
    pub plan: Plan,
    /// What only a grate has.
    pub grate: GratePlan,
}

/// Rewrites a binary module so that several instances of it over one memory are one program, and so that its waits can
/// be interrupted, as the [module documentation](self) says.
///
/// `features` is what the engine that will run the module accepts. Threads, bulk memory and mutable globals must be among
/// it, as they are in [`GUEST_FEATURES`]. The same input gives the same output, byte for byte. Never blocks, never
/// panics; safe to call from any thread.
///
/// # Errors
/// - [`RewriteError::NotAModule`], [`RewriteError::Invalid`]: not a valid core module. Here all are validated.
/// - [`RewriteError::Grate`]: the module has more than one memory, or its memory has 64-bit indices, or pages of another
///   size, or it imports one that is not shared.
/// - [`RewriteError::ReservedImport`]: the module imports from [`IMPORT_MODULE`] itself.
/// - [`RewriteError::Limit`]: the module is so near a limit of the format that the rewritten one would be over it.
///   100,000 data segments are too many by one if an instruction names an active one.
pub fn grate(wasm: &[u8], features: WasmFeatures) -> Result<GrateModule, RewriteError> {
    // What a component is, the validator says in words about features; survey knows better.
    if Parser::is_component(wasm) {
        return Err(RewriteError::NotAModule);
    }
    validate(wasm, features)?;
    let facts = grate::Facts::read(wasm, features)?;
    let (layout, grate) = layout::Layout::of_grate(wasm, features, facts)?;
    let bytes = emitted(wasm, features, &layout)?;
    Ok(GrateModule {
        bytes,
        plan: layout.into_plan(),
        grate,
    })
}

/// Refuses what is not a valid module, or too large.
fn validate(wasm: &[u8], features: WasmFeatures) -> Result<(), RewriteError> {
    if wasm.len() > MAX_MODULE_BYTES {
        return Err(RewriteError::Limit {
            what: "module size",
            limit: MAX_MODULE_BYTES,
        });
    }
    Validator::new_with_features(features).validate_all(wasm)?;
    Ok(())
}

/// The module that `layout` describes.
fn emitted(
    wasm: &[u8],
    features: WasmFeatures,
    layout: &layout::Layout<'_>,
) -> Result<Vec<u8>, RewriteError> {
    let bytes = emit::emit(wasm, features, layout)?;
    if cfg!(debug_assertions) {
        Validator::new_with_features(features)
            .validate_all(&bytes)
            .map_err(RewriteError::output)?;
    }
    Ok(bytes)
}
