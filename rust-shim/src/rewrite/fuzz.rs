//! This file implements the entry for fuzzers.

use std::borrow::Cow;

use wasmparser::{Parser, Payload, TypeRef, Validator};

use super::{GUEST_FEATURES, IMPORT_MODULE, Rewrite, WaitOp, rewrite};

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
    for import in &plan.imports {
        let name = &import.memory_export;
        let exported = seen
            .memory_exports
            .iter()
            .any(|(n, m)| n == name && *m == import.memory);
        assert!(exported, "memory {} is exported as {name:?}", import.memory);
    }
    assert_eq!(
        seen.shared_operations, 0,
        "no wait or notify on a shared memory is left"
    );
    let again = rewrite(&bytes, GUEST_FEATURES);
    assert!(
        again.is_err(),
        "a guest cannot bring the shim's imports itself"
    );
    true
}

/// What a rewritten module looks like from outside.
#[derive(Default)]
struct Seen {
    imports: Vec<String>,
    shared: Vec<bool>,
    memory_exports: Vec<(String, u32)>,
    shared_operations: usize,
}

/// Reads a valid module.
fn look(wasm: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("valid") {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.expect("valid");
                    match import.ty {
                        TypeRef::Memory(memory) => seen.shared.push(memory.shared),
                        TypeRef::Func(_) if import.module == IMPORT_MODULE => {
                            seen.imports.push(import.name.to_owned());
                        }
                        _ => {}
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
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().expect("valid") {
                    let operation = WaitOp::of(&operator.expect("valid"));
                    let shared =
                        operation.is_some_and(|(_, memarg)| seen.shared[memarg.memory as usize]);
                    seen.shared_operations += usize::from(shared);
                }
            }
            _ => {}
        }
    }
    seen
}
