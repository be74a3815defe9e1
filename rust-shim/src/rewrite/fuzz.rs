//! This file implements the entries for fuzzers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use wasmparser::types::{EntityType, Types};
use wasmparser::{DataKind, Operator, Parser, Payload, RefType, TypeRef, ValType, Validator};

use super::{
    GUEST_FEATURES, GrateModule, GratePlan, IMPORT_MODULE, Plan, Rewrite, RewriteError, Symbol,
    WaitOp, grate, rewrite,
};

/// Rewrites `data` and checks each promise that can be checked without running the module. Use it as the body of a fuzz
/// target. Answers whether there was something to rewrite.
///
/// # Panics
/// If a promise is broken.
pub fn check(data: &[u8]) -> bool {
    let Ok(Rewrite { bytes, plan }) = rewrite(data, GUEST_FEATURES) else {
        return false;
    };
    let Some(plan) = plan else {
        let Cow::Borrowed(same) = bytes else {
            panic!("a module that is not rewritten is not copied");
        };
        assert!(std::ptr::eq(same, data), "the bytes are the same ones");
        return false;
    };
    let mut validator = Validator::new_with_features(GUEST_FEATURES);
    if let Err(error) = validator.validate_all(&bytes) {
        panic!("the rewritten module is invalid: {error}");
    }
    let seen = look(&bytes);
    let planned: Vec<_> = plan
        .imports
        .iter()
        .map(|import| import.name.clone())
        .collect();
    assert_eq!(
        seen.imports, planned,
        "the added imports are the planned ones"
    );
    assert!(plan.imports.iter().any(|import| import.op.is_wait()));
    seen.check_waits(&plan);
    let again = rewrite(&bytes, GUEST_FEATURES);
    assert!(
        again.is_err(),
        "a guest cannot bring the shim's imports itself"
    );
    true
}

/// The same for a module that is made a grate. Answers whether it could be made one.
///
/// # Panics
/// If a promise is broken.
pub fn check_grate(data: &[u8]) -> bool {
    let Ok(GrateModule { bytes, plan, grate }) = grate(data, GUEST_FEATURES) else {
        return false;
    };
    let mut validator = Validator::new_with_features(GUEST_FEATURES);
    let types = match validator.validate_all(&bytes) {
        Ok(types) => types,
        Err(error) => panic!("the grate is invalid: {error}"),
    };
    let before = look(data);
    let seen = look(&bytes);
    assert!(!seen.start, "nothing runs when it is instantiated");
    assert!(seen.active.is_empty(), "nothing is copied either");
    let more = seen.segments - before.segments;
    assert!(more <= 1, "an empty segment at most is added");
    let named = seen.named.iter().filter(|s| before.active.contains(s));
    assert_eq!(named.count(), 0, "no code names what was an active segment");
    check_memory(&grate, &before, &seen);
    check_exports(&grate, &plan, &types);
    if plan.imports.is_empty() {
        let waits = seen.shared_operations - seen.shared_notifies;
        assert_eq!(waits, 0, "no wait is left");
    } else {
        seen.check_waits(&plan);
    }
    if grate.was_shared {
        let alone = rewrite(data, GUEST_FEATURES).expect("what a grate can be can be rewritten");
        let imports = alone.plan.map_or(Vec::new(), |plan| plan.imports);
        assert_eq!(imports, plan.imports, "it waits as if it were no grate");
    }
    let again = super::grate(&bytes, GUEST_FEATURES);
    let reserved = matches!(again, Err(RewriteError::ReservedImport { .. }));
    assert_eq!(
        reserved,
        !seen.imports.is_empty(),
        "a guest cannot bring the shim's imports itself"
    );
    true
}

/// Checks that the memory is the one that the module had, and imported.
fn check_memory(grate: &GratePlan, before: &Seen, seen: &Seen) {
    let Some(memory) = &grate.memory else {
        assert!(before.shared.is_empty() && seen.shared.is_empty());
        return;
    };
    assert_eq!(before.shared, [grate.was_shared]);
    assert_eq!(seen.shared, [true]);
    assert_eq!(seen.imported_memories, 1);
    assert_eq!(memory.defined, before.imported_memories == 0);
    assert_eq!(memory.defined, memory.module == IMPORT_MODULE);
    let own = usize::from(memory.defined);
    assert_eq!(seen.imports.iter().filter(|i| *i == "memory").count(), own);
    assert!(
        before.memory_exports.is_subset(&seen.memory_exports),
        "its exports stay"
    );
}

/// Checks that the exports which the plan speaks of are there, and are what the plan says.
fn check_exports(grate: &GratePlan, plan: &Plan, types: &Types) {
    let exports = types.as_ref().core_exports().expect("a core module");
    let exports: BTreeMap<_, _> = exports.collect();
    let function = |name: &str, params: &[ValType]| match exports.get(name) {
        Some(EntityType::Func(ty)) => {
            let ty = types.as_ref().get(*ty).expect("a type").unwrap_func();
            ty.params() == params && ty.results().is_empty()
        }
        _ => false,
    };
    let global = |name: &str, mutable: bool| match exports.get(name) {
        Some(EntityType::Global(global)) => {
            global.content_type == ValType::I32 && (global.mutable || !mutable)
        }
        _ => false,
    };
    assert!(function(&grate.init, &[]), "{} is exported", grate.init);
    let last = types.as_ref().function_count() - 1;
    assert_eq!(plan.init_function, Some(last), "it is the last function");
    for (symbol, name, fits) in [
        (
            grate.stack_pointer,
            "__stack_pointer",
            global("__stack_pointer", true),
        ),
        (
            grate.init_tls,
            "__wasm_init_tls",
            function("__wasm_init_tls", &[ValType::I32]),
        ),
        (grate.tls_size, "__tls_size", global("__tls_size", false)),
        (grate.tls_align, "__tls_align", global("__tls_align", false)),
    ] {
        assert_eq!(symbol.usable(), fits, "{name}");
        let exported = exports.contains_key(name);
        assert_eq!(symbol != Symbol::Missing, exported, "{name}");
        let added = plan.added_exports.iter().any(|added| added == name);
        assert_eq!(symbol == Symbol::Added, added, "{name}");
    }
    match &grate.function_table {
        Some(name) => {
            let Some(EntityType::Table(table)) = exports.get(name.as_str()) else {
                panic!("table {name:?} is not exported");
            };
            assert!([RefType::FUNCREF, RefType::FUNC].contains(&table.element_type));
        }
        None if types.as_ref().table_count() > 0 => {
            let element = types.as_ref().table_at(0).element_type;
            assert_ne!(element, RefType::FUNCREF, "table 0 is to be had");
        }
        None => {}
    }
    for name in &plan.added_exports {
        assert!(exports.contains_key(name.as_str()), "{name:?} is exported");
    }
}

/// What a module looks like from outside.
#[derive(Default)]
struct Seen {
    /// The names of what is imported from the shim.
    imports: Vec<String>,
    imported_memories: usize,
    shared: Vec<bool>,
    memory_exports: BTreeSet<(String, u32)>,
    shared_operations: usize,
    shared_notifies: usize,
    start: bool,
    segments: usize,
    active: BTreeSet<u32>,
    /// The data segments that instructions name, but for those in the last function of a grate.
    named: BTreeSet<u32>,
}

impl Seen {
    /// Checks that what waits is replaced, and that the host can find the memories.
    fn check_waits(&self, plan: &Plan) {
        for import in &plan.imports {
            let name = &import.memory_export;
            let exported = self
                .memory_exports
                .iter()
                .any(|(n, m)| n == name && *m == import.memory);
            assert!(exported, "memory {} is exported as {name:?}", import.memory);
        }
        assert_eq!(
            self.shared_operations, 0,
            "no wait or notify on a shared memory is left"
        );
    }
}

/// Reads a valid module.
fn look(wasm: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut last = BTreeSet::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("valid") {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.expect("valid");
                    if import.module == IMPORT_MODULE {
                        seen.imports.push(import.name.to_owned());
                    }
                    if let TypeRef::Memory(memory) = import.ty {
                        seen.shared.push(memory.shared);
                        seen.imported_memories += 1;
                    }
                }
            }
            Payload::MemorySection(section) => {
                let memories = section
                    .into_iter()
                    .map(|memory| memory.expect("valid").shared);
                seen.shared.extend(memories);
            }
            Payload::ExportSection(section) => {
                let exports = section.into_iter().map(|export| export.expect("valid"));
                let memories = exports.filter(|e| e.kind == wasmparser::ExternalKind::Memory);
                seen.memory_exports
                    .extend(memories.map(|e| (e.name.to_owned(), e.index)));
            }
            Payload::StartSection { .. } => seen.start = true,
            Payload::DataSection(section) => {
                for (data, segment) in section.into_iter().zip(0..) {
                    seen.segments += 1;
                    if let DataKind::Active { .. } = data.expect("valid").kind {
                        seen.active.insert(segment);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                seen.named.extend(std::mem::take(&mut last));
                for operator in body.get_operators_reader().expect("valid") {
                    let operator = operator.expect("valid");
                    if let Operator::MemoryInit { data_index, .. }
                    | Operator::DataDrop { data_index } = operator
                    {
                        last.insert(data_index);
                    }
                    let Some((operation, memarg)) = WaitOp::of(&operator) else {
                        continue;
                    };
                    if seen.shared[memarg.memory as usize] {
                        seen.shared_operations += 1;
                        seen.shared_notifies += usize::from(!operation.is_wait());
                    }
                }
            }
            _ => {}
        }
    }
    seen
}
