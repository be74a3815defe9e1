//! What a rewrite promises about the module's bytes: which modules it leaves alone, what it adds, what it moves, what
//! it drops, and what it refuses.

mod rewrite_support;

use std::borrow::Cow;

use lindshim::rewrite::{GUEST_FEATURES, Plan, RewriteError, WaitOp, rewrite};
use rewrite_support::encode::{encoded, waiting_body};
use rewrite_support::oracle::assert_faithful;
use rewrite_support::{print, rewritten, rewritten_with, wasm};
use wasm_encoder::Function;
use wasmparser::{Parser, Payload, WasmFeatures};

/// Wraps fields into a module that waits in its last function.
fn waiting(fields: &str) -> Vec<u8> {
    wasm(&format!(
        r#"(module {fields}
            (memory $shared 1 1 shared)
            (func (result i32) (memory.atomic.wait32 $shared (i32.const 0) (i32.const 0) (i64.const 0))))"#
    ))
}

fn error(wasm: &[u8]) -> RewriteError {
    rewrite(wasm, GUEST_FEATURES).expect_err("an error")
}

#[test]
fn a_module_that_waits_nowhere_keeps_its_very_bytes() {
    let modules = [
        "(module)",
        r#"(module (import "a" "b" (func)) (func (export "f") (call 0)))"#,
        "(module (memory 1) (func (result i32)
            (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0))))",
        "(module (memory 1 1 shared) (func (result i32) (memory.atomic.notify (i32.const 0) (i32.const 0))))",
        "(module (memory 1 1 shared) (func (i32.atomic.store (i32.const -2) (i32.const 0xfe))))",
        r#"(module (import "env" "m" (memory $s 1 1 shared)) (memory $u 1)
            (func (result i32) (memory.atomic.notify $s (i32.const 0) (i32.const 1)))
            (func (result i32) (memory.atomic.wait64 $u (i32.const 0) (i64.const 0) (i64.const 0))))"#,
    ];
    for wat in modules {
        let wasm = wasm(wat);
        let answer = rewrite(&wasm, GUEST_FEATURES).expect("a valid module");
        assert_eq!(answer.plan, None, "{wat}");
        let Cow::Borrowed(bytes) = answer.bytes else {
            panic!("{wat} was copied");
        };
        assert!(std::ptr::eq(bytes, wasm.as_slice()), "{wat}");
    }
}

#[test]
fn the_plan_lists_what_is_used_by_memory_and_then_by_operation() {
    let (_, plan) = rewritten(&wasm(
        r#"(module
            (import "a" "f" (func))
            (import "env" "m" (memory 1 1 shared))
            (memory 1)
            (memory (export "third") (export "again") i64 1 1 shared)
            (func
                (drop (memory.atomic.notify 2 (i64.const 0) (i32.const 0)))
                (drop (memory.atomic.wait64 2 (i64.const 0) (i64.const 0) (i64.const 0)))
                (drop (memory.atomic.wait64 0 (i32.const 0) (i64.const 0) (i64.const 0)))
                (drop (memory.atomic.wait32 2 (i64.const 0) (i32.const 0) (i64.const 0)))
                (drop (memory.atomic.wait32 1 (i32.const 0) (i32.const 0) (i64.const 0)))
                (drop (memory.atomic.notify 1 (i32.const 0) (i32.const 0)))))"#,
    ));
    let imports: Vec<_> = plan
        .imports
        .iter()
        .map(|i| {
            (
                i.name.as_str(),
                i.op,
                i.memory,
                i.memory64,
                i.memory_export.as_str(),
            )
        })
        .collect();
    assert_eq!(
        imports,
        [
            ("wait64:0", WaitOp::Wait64, 0, false, "lindshim:memory:0"),
            ("wait32:2", WaitOp::Wait32, 2, true, "third"),
            ("wait64:2", WaitOp::Wait64, 2, true, "third"),
            ("notify:2", WaitOp::Notify, 2, true, "third"),
        ]
    );
    assert_eq!(plan.added_exports, ["lindshim:memory:0"]);
    assert_eq!(plan.first_function, 1);
    let original = |i| plan.original_function_index(i);
    assert_eq!(
        [0, 1, 4, 5, 6].map(original),
        [Some(0), None, None, Some(1), Some(2)]
    );
}

#[test]
fn an_added_export_takes_a_name_that_is_free() {
    let (_, plan) = rewritten(&waiting(
        r#"(global (export "lindshim:memory:0") i32 (i32.const 0)) (func (export "lindshim:memory:0:1"))"#,
    ));
    assert_eq!(plan.added_exports, ["lindshim:memory:0:2"]);
    assert_eq!(plan.imports[0].memory_export, "lindshim:memory:0:2");
}

#[test]
fn the_same_module_gives_the_same_bytes() {
    let module = waiting(r#"(func) (export "f" (func 0))"#);
    assert_eq!(rewritten(&module), rewritten(&module));
}

/// How many types, functions of the type section included, a module has.
fn types(wasm: &[u8]) -> usize {
    let payloads = Parser::new(0).parse_all(wasm);
    let count = payloads.map(|payload| match payload.unwrap() {
        Payload::TypeSection(types) => types
            .into_iter()
            .map(|group| group.unwrap().types().len())
            .sum(),
        _ => 0,
    });
    count.sum()
}

#[test]
fn a_type_that_is_there_is_used_and_one_in_a_group_is_not() {
    let features = GUEST_FEATURES | WasmFeatures::FUNCTION_REFERENCES | WasmFeatures::GC;
    let wait = "(type (func (param i32 i32 i64 i64) (result i32)))";
    // The function's own type comes last in each.
    for (fields, present, after) in [
        (wait.to_owned(), 2, 2),
        (format!("(type (func)) {wait} {wait}"), 4, 4),
        (
            "(type (func (param i32 i32 i64 i64) (result i64)))".to_owned(),
            2,
            3,
        ),
        (
            "(type (func (param i64 i32 i64 i64) (result i32)))".to_owned(),
            2,
            3,
        ),
        (format!("(rec {wait})"), 2, 3),
        (format!("(rec {wait} (type (func)))"), 3, 4),
        (
            "(type (sub (func (param i32 i32 i64 i64) (result i32))))".to_owned(),
            2,
            3,
        ),
    ] {
        let original = waiting(&fields);
        let (bytes, plan) = rewritten_with(&original, features);
        assert_eq!(
            (types(&original), types(&bytes)),
            (present, after),
            "{fields}"
        );
        assert_faithful(&original, &bytes, &plan, features);
    }
}

#[test]
fn proposals_that_guests_may_not_use_yet_survive_too() {
    let features = WasmFeatures::WASM3 | WasmFeatures::THREADS | WasmFeatures::COMPACT_IMPORTS;
    for fields in [
        // Typed function references, and a table with an initial value.
        r#"(type $f (func (result i32)))
            (table 3 (ref $f) (ref.func $a))
            (global $g (ref $f) (ref.func $a))
            (func $a (type $f) (call_ref $f (global.get $g)))
            (func (type $f) (return_call_ref $f (ref.func $a)))
            (elem declare func $a)"#,
        // Garbage collection.
        r#"(import "x" "y" (func $y (param (ref $s)) (result (ref null $v))))
            (rec (type $s (struct (field (mut i32)) (field (ref null $s)))) (type $v (array (mut i8))))
            (data $d "abc") (elem $e anyref (ref.i31 (i32.const 1)))
            (func (drop (array.new_data $v $d (i32.const 0) (i32.const 1)))
                (drop (struct.new $s (i32.const 1) (ref.null $s)))
                (drop (call $y (struct.new_default $s))))"#,
        // Exceptions.
        r#"(import "x" "tag" (tag $i (param i64))) (tag $t (param i32))
            (func $throws (throw $t (i32.const 3)))
            (func (block $h (result i32) (try_table (catch $t $h) (call $throws)) (i32.const 0)) (drop))"#,
    ] {
        let module = waiting(fields);
        let (bytes, plan) = rewritten_with(&module, features);
        assert_faithful(&module, &bytes, &plan, features);
        assert!(
            rewrite(&module, GUEST_FEATURES).is_err(),
            "guests may not use this"
        );
    }
}

#[test]
fn a_guest_may_not_import_from_the_shim() {
    let name = "wait32:0\u{7}".repeat(30);
    for waits in [true, false] {
        let fields = format!(r#"(import "a" "b" (func)) (import "lindshim" "{name}" (func))"#);
        let fields = fields.replace('\u{7}', "\\07");
        let module = if waits {
            waiting(&fields)
        } else {
            wasm(&format!("(module {fields})"))
        };
        let error = error(&module);
        let RewriteError::ReservedImport { offset, name } = &error else {
            panic!("{error:?}");
        };
        assert!(
            *offset > 0 && name.len() < 100 && name.ends_with("..."),
            "{error:?}"
        );
        assert!(name.starts_with("wait32:0\\u{7}"), "{name} is escaped");
        assert!(
            error
                .to_string()
                .contains("\"lindshim\", which is reserved"),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_valid_module_is_refused_with_the_place() {
    let component = wat::parse_str("(component)").expect("a component");
    assert_eq!(error(&component), RewriteError::NotAModule);
    for garbage in [&b""[..], b"\0asm", b"hello, world", b"\0asm\x02\0\0\0"] {
        assert!(
            matches!(error(garbage), RewriteError::Invalid { .. }),
            "{garbage:?}"
        );
    }
    // The rewritten module would be valid: the wrong alignment is gone with the instruction.
    let mut module = waiting("");
    let wait = module
        .windows(3)
        .position(|w| w == [0xfe, 0x01, 0x02])
        .expect("the wait");
    module[wait + 2] = 1;
    let RewriteError::Invalid { offset, message } = error(&module) else {
        panic!("a wrong alignment is invalid");
    };
    assert_eq!(
        (offset, message.contains("alignment")),
        (wait, true),
        "{message}"
    );
}

#[test]
fn overlong_encodings_hide_nothing() {
    let mut body = Function::new([]);
    body.instructions().i32_const(0).i32_const(0).i64_const(0);
    // wait32 as a five-byte opcode, with an alignment in three bytes that says "memory index follows", and an offset
    // in five.
    body.raw([0xfe, 0x81, 0x80, 0x80, 0x80, 0x00]);
    body.raw([0xc2, 0x80, 0x00, 0x80, 0x00, 0x84, 0x80, 0x80, 0x80, 0x00]);
    body.instructions().drop();
    // A call of function 1, in five bytes.
    body.raw([0x10, 0x81, 0x80, 0x80, 0x80, 0x00]);
    body.instructions().end();
    let original = encoded(&body, 2, &[], &[]);
    let (bytes, plan) = rewritten(&original);
    assert_faithful(&original, &bytes, &plan, GUEST_FEATURES);
    assert_eq!(plan.imports[0].name, "wait32:0");
    assert!(print(&bytes).contains("i64.const 4\n"), "{}", print(&bytes));
}

#[test]
fn a_module_too_near_a_limit_is_refused_with_the_limit() {
    // With the import there are exactly as many as may be.
    let body = waiting_body(0, 0);
    rewritten(&encoded(&body, 999_999, &[], &[]));
    let refused = error(&encoded(&body, 1_000_000, &[], &[]));
    let what = "the number of functions";
    assert_eq!(
        refused,
        RewriteError::Limit {
            what,
            limit: 1_000_000
        }
    );

    // A body of the greatest length stays as long: the wait's four bytes become i64.const 0 and call 0.
    let nops = 7_654_321 - waiting_body(126, 0).byte_len();
    rewritten(&encoded(&waiting_body(126, nops), 128, &[], &[]));
    // It grows if the index of a function that it calls takes two bytes once it has moved.
    let refused = error(&encoded(&waiting_body(127, nops), 128, &[], &[]));
    let what = "function body size";
    assert_eq!(
        refused,
        RewriteError::Limit {
            what,
            limit: 7_654_321
        }
    );
    assert_eq!(
        refused.to_string(),
        "the module cannot be rewritten to be interruptible: function body size would exceed 7654321"
    );
}

#[test]
fn sections_that_are_missing_are_added_where_they_belong() {
    // Each with and without what stands around the import and the export section.
    for fields in [
        "",
        "(table 1 funcref)",
        "(global i32 (i32.const 0))",
        "(func $s) (start $s)",
        "(func $s) (elem declare func $s)",
        r#"(data $d "x") (func (data.drop $d))"#,
        r#"(import "a" "b" (func $s)) (start $s)"#,
        r#"(func (export "e"))"#,
        "(tag)",
    ] {
        let features = GUEST_FEATURES | WasmFeatures::EXCEPTIONS;
        let original = waiting(fields);
        let (bytes, plan) = rewritten_with(&original, features);
        assert_faithful(&original, &bytes, &plan, features);
        assert_eq!(plan.added_exports, ["lindshim:memory:0"], "{fields}");
    }
}

/// A plan as the host uses it.
fn index_maps(plan: &Plan, functions: u32) -> Vec<Option<u32>> {
    (0..functions)
        .map(|index| plan.original_function_index(index))
        .collect()
}

#[test]
fn reported_indices_go_back_to_the_originals() {
    let (_, plan) = rewritten(&waiting(
        r#"(import "a" "b" (func)) (import "a" "c" (func)) (func)"#,
    ));
    assert_eq!(
        index_maps(&plan, 5),
        [Some(0), Some(1), None, Some(2), Some(3)]
    );
}
