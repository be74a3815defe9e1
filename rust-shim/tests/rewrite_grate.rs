//! A module that was made a grate is one program, in however many instances over one memory it runs.

mod rewrite_support;

use lindshim::rewrite::{
    GUEST_FEATURES, GrateMemory, GrateModule, GratePlan, Plan, RewriteError, Symbol, fuzz, grate,
    rewrite,
};
use rewrite_support::cases::{CASES, Case};
use rewrite_support::encode::{name_map, section};
use rewrite_support::guest::{Both, Grate, Guest, Outcome, contents};
use rewrite_support::oracle::assert_faithful_grate;
use rewrite_support::{engine, print, wasm};
use wasm_encoder::{CustomSection, NameSection};
use wasmparser::{ExternalKind, KnownCustom, Name, Parser, Payload, Validator, WasmFeatures};
use wasmtime::{MemoryType, SharedMemory, Trap};

/// Makes a grate and checks that nothing changed but what must.
fn made(wat: &str) -> GrateModule {
    made_of(&wasm(wat))
}

fn made_of(original: &[u8]) -> GrateModule {
    let made = match grate(original, GUEST_FEATURES) {
        Ok(made) => made,
        Err(error) => panic!("{error}\n{}", print(original)),
    };
    if let Err(error) = Validator::new_with_features(GUEST_FEATURES).validate_all(&made.bytes) {
        panic!("{error}\n{}", print(&made.bytes));
    }
    assert_faithful_grate(original, &made, GUEST_FEATURES);
    assert!(fuzz::check_grate(original));
    made
}

fn plan(wat: &str) -> GratePlan {
    made(wat).grate
}

fn refusal(wat: &str) -> RewriteError {
    grate(&wasm(wat), GUEST_FEATURES).expect_err("an error")
}

/// Programs, whose functions keep their state in memory alone, and calls in them.
const PROGRAMS: &[Case] = &[
    Case {
        about: "data of all kinds, at offsets of all kinds, and a start function that changes them",
        wat: r#"(module
            (import "host" "base" (global $base i32))
            (import "host" "log" (func $log (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "abcdefgh")
            (data $passive "passive")
            (data (i32.const 4) "EFGH")
            (data (global.get $base) "\2a")
            (data (i32.add (global.get $base) (i32.mul (i32.const 5) (i32.sub (i32.const 30) (i32.const 10)))) "sum")
            (data (i32.const 65536) "")
            (start $start)
            (func $start
                (call $log (i32.load (i32.const 4)))
                (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
                (memory.init $passive (i32.const 128) (i32.const 0) (i32.const 7)))
            (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
            (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1))))"#,
        calls: &[
            ("load", &[0]),
            ("load", &[4]),
            ("load", &[8]),
            ("load", &[100]),
            ("load", &[128]),
            ("store", &[0, 77]),
            ("load", &[0]),
            ("load", &[8]),
            ("load", &[65533]),
        ],
    },
    Case {
        about: "an active segment counts as dropped in every instance",
        wat: r#"(module
            (memory (export "memory") 1 2)
            (data $active (i32.const 0) "active")
            (data $passive "passive")
            (data $late (i32.const 16) "late")
            (func (export "init") (param i32 i32 i32)
                (memory.init $active (local.get 0) (local.get 1) (local.get 2)))
            (func (export "late") (param i32 i32 i32)
                (memory.init $late (local.get 0) (local.get 1) (local.get 2)))
            (func (export "drop") (data.drop $active) (data.drop $late))
            (func (export "passive") (param i32 i32 i32)
                (memory.init $passive (local.get 0) (local.get 1) (local.get 2))))"#,
        calls: &[
            ("init", &[0, 0, 0]),
            ("init", &[0, 0, 0]),
            ("init", &[65536, 0, 0]),
            ("init", &[65537, 0, 0]),
            ("init", &[0, 1, 0]),
            ("init", &[0, 0, 1]),
            ("init", &[0, 0, 6]),
            ("late", &[0, 0, 4]),
            ("late", &[0, 0, 4]),
            ("drop", &[]),
            ("drop", &[]),
            ("init", &[0, 0, 0]),
            ("late", &[0, 0, 1]),
            ("passive", &[32, 0, 7]),
            ("passive", &[48, 2, 3]),
            ("passive", &[48, 2, 6]),
        ],
    },
    Case {
        about: "a memory that grows, is filled and is copied",
        wat: r#"(module
            (memory (export "memory") 1 4)
            (data (i32.const 65532) "end.")
            (func (export "size") (result i32) (memory.size))
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
            (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
            (func (export "fill") (param i32 i32 i32)
                (memory.fill (local.get 0) (local.get 1) (local.get 2)))
            (func (export "copy") (param i32 i32 i32)
                (memory.copy (local.get 0) (local.get 1) (local.get 2)))
            (func (export "add") (param i32 i32) (result i32)
                (i32.atomic.rmw.add (local.get 0) (local.get 1)))
            (func (export "notify") (param i32) (result i32)
                (memory.atomic.notify (local.get 0) (i32.const 1))))"#,
        calls: &[
            ("size", &[]),
            ("load", &[65532]),
            ("load", &[65536]),
            ("grow", &[2]),
            ("size", &[]),
            ("load", &[65536]),
            ("fill", &[65530, 7, 20]),
            ("load", &[65540]),
            ("copy", &[131_072, 65528, 16]),
            ("load", &[131_080]),
            ("load", &[131_080]),
            ("fill", &[196_600, 1, 9]),
            ("grow", &[2]),
            ("grow", &[1]),
            ("grow", &[1]),
            ("load", &[262_140]),
            ("add", &[196_608, 5]),
            ("add", &[196_608, 5]),
            ("add", &[2, 5]),
            ("notify", &[0]),
            ("notify", &[0]),
            ("notify", &[2]),
        ],
    },
    Case {
        about: "tables that every instance fills for itself",
        wat: r#"(module
            (type $f (func (result i32)))
            (import "host" "f" (func $host (type $f)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\05")
            (table $t 8 funcref)
            (elem (table $t) (i32.const 1) func $a $b $host)
            (func $a (type $f) (i32.load (i32.const 0)))
            (func $b (type $f)
                (i32.store (i32.const 0) (i32.add (call $a) (i32.const 1)))
                (return_call $a))
            (start $s)
            (func $s (drop (call_indirect $t (type $f) (i32.const 2))))
            (func (export "call") (param i32) (result i32)
                (call_indirect $t (type $f) (local.get 0))))"#,
        calls: &[
            ("call", &[1]),
            ("call", &[2]),
            ("call", &[2]),
            ("call", &[1]),
            ("call", &[3]),
            ("call", &[3]),
            ("call", &[0]),
            ("call", &[8]),
        ],
    },
    Case {
        about: "a shared memory of its own, with waits",
        wat: r#"(module
            (memory 1 2 shared)
            (data $d (i32.const 8) "\2a\00\00\00")
            (start $s)
            (func $s (i32.store (i32.const 12)
                (memory.atomic.wait32 (i32.const 8) (i32.const 42) (i64.const 0))))
            (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
            (func (export "again") (memory.init $d (i32.const 8) (i32.const 0) (i32.const 4)))
            (func (export "wait") (param i32 i32) (result i32)
                (memory.atomic.wait32 (local.get 0) (local.get 1) (i64.const 0)))
            (func (export "wake") (param i32) (result i32)
                (memory.atomic.notify (local.get 0) (i32.const 1))))"#,
        calls: &[
            ("load", &[12]),
            ("load", &[12]),
            ("wait", &[8, 42]),
            ("wait", &[8, 43]),
            ("wait", &[2, 42]),
            ("wait", &[65536, 42]),
            ("again", &[]),
            ("again", &[]),
            ("wake", &[8]),
            ("wake", &[9]),
        ],
    },
    Case {
        about: "a shared memory that is imported",
        wat: r#"(module
            (import "env" "memory" (memory 1 1 shared))
            (data (i32.const 0) "\07")
            (start $s)
            (func $s (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))
            (func (export "load") (param i32) (result i32) (i32.load (local.get 0))))"#,
        calls: &[("load", &[0]), ("load", &[0])],
    },
];

#[test]
fn the_first_instance_behaves_as_the_module() {
    let engine = engine();
    for Case { about, wat, calls } in PROGRAMS {
        println!("{about}");
        made(wat);
        let mut both = Both::grate(&engine, &wasm(wat));
        for (name, args) in *calls {
            both.call(name, args);
        }
        both.finish();
    }
}

#[test]
fn instances_that_take_turns_behave_as_the_one_module() {
    let engine = engine();
    for Case { about, wat, calls } in PROGRAMS {
        let original = wasm(wat);
        // Each instance is asked first once, and some never.
        for turn in 0..3 {
            let mut native = Guest::native(&engine, &original);
            let made = Grate::new(&engine, &original);
            let mut instances = [made.first(), made.later(), made.later()];
            for instance in &instances {
                assert_eq!(instance.started, native.started, "{about}");
            }
            for (i, (name, args)) in calls.iter().enumerate() {
                let expected = native.call(name, args);
                let found = instances[(i + turn) % instances.len()].call(name, args);
                assert_eq!(found, expected, "{about}: {name} {args:?}, call {i}");
            }
            let memory = made.memory.as_ref().expect("a memory");
            let left = native.remains();
            let native = left.iter().find(|(name, _)| name.contains("memory"));
            if let Some((_, native)) = native {
                assert_eq!(&contents(memory), native, "{about}");
            }
        }
    }
}

#[test]
fn the_cases_of_the_wait_rewrite_behave_the_same_as_grates() {
    let engine = engine();
    let mut ran = 0;
    for case in CASES {
        println!("{}", case.about);
        let original = wasm(case.wat);
        match grate(&original, GUEST_FEATURES) {
            Err(RewriteError::Grate { .. }) => continue,
            Err(error) => panic!("{error}"),
            Ok(_) => made_of(&original),
        };
        ran += 1;
        let mut both = Both::grate(&engine, &original);
        for (name, args) in case.calls {
            both.call(name, args);
        }
        both.finish();
    }
    assert!(ran >= 6, "{ran} are grates");
}

#[test]
fn an_init_function_that_traps_leaves_what_an_instantiation_leaves() {
    let engine = engine();
    let mut traps = Vec::new();
    for fields in [
        r#"(data (i32.const 0) "first") (data (i32.const 65533) "over") (data (i32.const 8) "never")"#,
        r#"(data (i32.const 0) "first") (data (i32.const -1) "over") (data (i32.const 8) "never")"#,
        r#"(data (i32.const 65537) "")"#,
        r#"(data (i32.const 0) "first") (start $s)
            (func $inner unreachable) (func $s (i32.store (i32.const 8) (i32.const 1)) (call $inner))"#,
        r#"(data (i32.const 0) "first") (start $s)
            (func $s (drop (i32.div_u (i32.const 1) (i32.const 0)))) (data (i32.const 65536) "over")"#,
        // The table's segment comes before the memory's.
        r#"(table 1 funcref) (elem (i32.const 1) func $f) (func $f) (data (i32.const 0) "never")"#,
    ] {
        let wat = format!(r#"(module (import "env" "memory" (memory 1 1 shared)) {fields})"#);
        made(&wat);
        let both = Both::grate(&engine, &wasm(&wat));
        let Outcome::Trapped(trap, frames) = both.started() else {
            panic!("{:?}", both.started());
        };
        traps.push((*trap, frames.len()));
        both.finish();
    }
    let data = (Trap::MemoryOutOfBounds, 0);
    assert_eq!(
        traps,
        [
            data,
            data,
            data,
            (Trap::UnreachableCodeReached, 2),
            data,
            (Trap::TableOutOfBounds, 0),
        ]
    );
}

#[test]
fn a_memory_is_imported_whatever_it_was() {
    let own = |min_pages, max_pages| GrateMemory {
        module: "lindshim".to_owned(),
        name: "memory".to_owned(),
        min_pages,
        max_pages,
        defined: true,
    };
    let memory = |wat: &str| {
        let plan = plan(wat);
        (plan.memory, plan.was_shared)
    };
    assert_eq!(memory("(module (memory 3))"), (Some(own(3, 65536)), false));
    assert_eq!(
        memory(r#"(module (memory (export "a") (export "b") 0 9))"#),
        (Some(own(0, 9)), false)
    );
    assert_eq!(
        memory(r#"(module (import "a" "f" (func)) (memory (export "memory") 2 7 shared))"#),
        (Some(own(2, 7)), true)
    );
    let imported = GrateMemory {
        module: "env".to_owned(),
        name: "mem".to_owned(),
        defined: false,
        ..own(2, 7)
    };
    assert_eq!(
        memory(r#"(module (import "env" "mem" (memory 2 7 shared)) (data (i32.const 0) "x"))"#),
        (Some(imported), true)
    );
    assert_eq!(memory("(module)"), (None, false));
    let shared = made(r#"(module (memory (export "a") 1) (export "b" (memory 0)))"#);
    let text = print(&shared.bytes);
    for line in [
        r#"(import "lindshim" "memory" (memory (;0;) 1 65536 shared))"#,
        r#"(export "a" (memory 0))"#,
        r#"(export "b" (memory 0))"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_memory_may_be_supplied_that_grows_less() {
    let engine = engine();
    let module = wasm(
        "(module (memory 1) (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0))))",
    );
    let mut made = Grate::new(&engine, &module);
    let memory = SharedMemory::new(&engine, MemoryType::shared(1, 3));
    made.memory = Some(memory.expect("a memory"));
    let mut instances = [made.first(), made.later()];
    let returned = |value: &str| Outcome::Returned(vec![value.to_owned()]);
    assert_eq!(instances[0].call("grow", &[1]), returned("I32(1)"));
    assert_eq!(instances[1].call("grow", &[2]), returned("I32(-1)"));
    assert_eq!(instances[1].call("grow", &[1]), returned("I32(2)"));
    assert_eq!(instances[0].call("grow", &[1]), returned("I32(-1)"));
}

#[test]
fn what_cannot_be_a_grate_is_refused_with_the_reason() {
    for (wat, reason) in [
        ("(module (memory 1) (memory 1))", "more than one memory"),
        (
            r#"(module (import "a" "b" (memory 1 1 shared)) (memory 1))"#,
            "more than one memory",
        ),
        ("(module (memory i64 1))", "64-bit"),
        (
            r#"(module (import "a" "b" (memory i64 1 1 shared)))"#,
            "64-bit",
        ),
        (r#"(module (import "a" "b" (memory 1)))"#, "--shared-memory"),
    ] {
        let error = refusal(wat);
        assert!(matches!(error, RewriteError::Grate { .. }), "{error:?}");
        let error = error.to_string();
        assert!(
            error.starts_with("the module cannot be run as a grate: it ") && error.contains(reason),
            "{error}"
        );
    }
    let pages = grate(
        &wasm("(module (memory 1 (pagesize 1)))"),
        GUEST_FEATURES | WasmFeatures::CUSTOM_PAGE_SIZES,
    );
    assert!(
        matches!(pages, Err(RewriteError::Grate { .. })),
        "{pages:?}"
    );
    let reserved = refusal(r#"(module (import "lindshim" "memory" (memory 1 1 shared)))"#);
    assert!(
        matches!(reserved, RewriteError::ReservedImport { .. }),
        "{reserved:?}"
    );
    let component = wat::parse_str("(component)").expect("a component");
    assert_eq!(
        grate(&component, GUEST_FEATURES).expect_err("an error"),
        RewriteError::NotAModule
    );
    for garbage in [&b""[..], b"\0asm", b"(module)", b"\0asm\x01\0\0\0\x01"] {
        let error = grate(garbage, GUEST_FEATURES).expect_err("an error");
        assert!(matches!(error, RewriteError::Invalid { .. }), "{error:?}");
    }
}

/// The symbols of a plan.
fn symbols(plan: &GratePlan) -> [Symbol; 4] {
    [
        plan.stack_pointer,
        plan.init_tls,
        plan.tls_size,
        plan.tls_align,
    ]
}

#[test]
fn what_linkers_name_is_found_or_exported() {
    use Symbol::{Added, Exported, Missing, Unfit};
    let named = r#"
        (global $__stack_pointer (mut i32) (i32.const 4096))
        (global $__tls_size i32 (i32.const 8)) (global $__tls_align i32 (i32.const 4))
        (func $__wasm_init_tls (param i32))"#;
    let all = made(&format!(
        r#"(module (import "a" "f" (func)) (memory 1) (table 1 funcref) (func) {named})"#
    ));
    assert_eq!(symbols(&all.grate), [Added; 4]);
    assert_eq!(
        all.plan.added_exports,
        [
            "lindshim:init",
            "__stack_pointer",
            "__wasm_init_tls",
            "__tls_size",
            "__tls_align",
            "__indirect_function_table"
        ]
    );
    let exported = plan(
        r#"(module
            (global (export "__stack_pointer") (mut i32) (i32.const 4096))
            (global (export "__tls_size") i32 (i32.const 8))
            (global (export "__tls_align") (mut i32) (i32.const 4))
            (func (export "__wasm_init_tls") (param i32)))"#,
    );
    assert_eq!(symbols(&exported), [Exported; 4]);
    assert_eq!(symbols(&plan("(module)")), [Missing; 4]);
    // Names of what is something else, in the name section and in the exports; with the real ones nameless or named.
    let unfit = r#"
        (global $__stack_pointer i32 (i32.const 4096))
        (global $__tls_size i64 (i64.const 8)) (global $__tls_align f32 (f32.const 4))
        (func $__wasm_init_tls (param i32) (result i32) (local.get 0))"#;
    assert_eq!(symbols(&plan(&format!("(module {unfit})"))), [Missing; 4]);
    let other = r#"
        (func (export "__stack_pointer")) (func (export "__tls_size"))
        (func (export "__tls_align")) (func (export "__wasm_init_tls") (param i64))"#;
    assert_eq!(
        symbols(&plan(&format!("(module {other} {named})"))),
        [Unfit; 4]
    );
    assert!([Added, Exported].iter().all(|symbol| symbol.usable()));
    assert!(![Missing, Unfit].iter().any(|symbol| symbol.usable()));
}

#[test]
fn names_of_what_does_not_exist_count_for_nothing() {
    let module =
        wasm(r#"(module (import "a" "g" (global (mut i32))) (global (mut i32) (i32.const 1)))"#);
    let with = |names: &NameSection| {
        let mut module = module.clone();
        module.extend(section(names));
        made_of(&module)
    };
    let mut names = NameSection::new();
    let pointer = "__stack_pointer";
    names.globals(&name_map(&[(7, pointer), (u32::MAX, pointer)]));
    names.functions(&name_map(&[(0, pointer), (1, "__wasm_init_tls")]));
    assert_eq!(symbols(&with(&names).grate), [Symbol::Missing; 4]);
    // The first that fits counts.
    names.globals(&name_map(&[(7, pointer), (1, pointer), (0, pointer)]));
    let found = with(&names);
    assert_eq!(found.grate.stack_pointer, Symbol::Added);
    let exports = Parser::new(0)
        .parse_all(&found.bytes)
        .filter_map(|payload| match payload.expect("valid") {
            Payload::ExportSection(exports) => Some(exports),
            _ => None,
        });
    let exports = exports.flatten().map(|export| export.expect("valid"));
    let globals = exports.filter(|export| export.kind == ExternalKind::Global);
    let globals: Vec<_> = globals.map(|export| (export.name, export.index)).collect();
    assert_eq!(globals, [(pointer, 1)]);
}

#[test]
fn the_function_table_is_found_or_exported() {
    for (fields, name, added) in [
        ("", None, false),
        ("(table 1 funcref)", Some("__indirect_function_table"), true),
        (
            r#"(table (export "first") (export "second") 1 funcref)"#,
            Some("first"),
            false,
        ),
        (
            r#"(table 1 funcref) (table (export "__indirect_function_table") 1 funcref)"#,
            Some("__indirect_function_table"),
            false,
        ),
        (
            r#"(table 1 funcref) (func (export "__indirect_function_table"))"#,
            Some("lindshim:table"),
            true,
        ),
        (
            r#"(table 1 funcref) (func (export "__indirect_function_table") (export "lindshim:table"))"#,
            Some("lindshim:table:1"),
            true,
        ),
    ] {
        let made = made(&format!("(module {fields})"));
        assert_eq!(made.grate.function_table.as_deref(), name, "{fields}");
        assert_eq!(made.plan.added_exports.len(), 1 + usize::from(added));
    }
}

#[test]
fn the_init_function_takes_a_name_that_is_free() {
    let made = made(
        r#"(module (memory (export "lindshim:init") 1) (func (export "lindshim:init:1"))
            (func (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0))))"#,
    );
    assert_eq!(made.grate.init, "lindshim:init:2");
    assert_eq!(made.plan.added_exports, ["lindshim:init:2"]);
    let Plan {
        first_function,
        init_function,
        ref imports,
        ..
    } = made.plan;
    assert_eq!((first_function, init_function), (0, Some(3)));
    assert_eq!(imports[0].memory_export, "lindshim:init");
    let original = |index| made.plan.original_function_index(index);
    assert_eq!(
        [0, 1, 2, 3, 4].map(original),
        [None, Some(0), Some(1), None, None]
    );
}

#[test]
fn a_grate_waits_as_the_same_module_alone() {
    let wat = r#"(module
        (import "a" "f" (func)) (memory 1 1 shared)
        (func (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0)))
        (func (result i32) (memory.atomic.notify (i32.const 0) (i32.const 0))))"#;
    let original = wasm(wat);
    let alone = rewrite(&original, GUEST_FEATURES).expect("rewritten");
    let alone = alone.plan.expect("it waits");
    let made = made(wat);
    assert_eq!(made.plan.imports, alone.imports);
    assert_eq!(
        made.plan.added_exports,
        ["lindshim:memory:0", "lindshim:init"]
    );
    // In a memory that was not shared the instruction trapped. Now there may be someone to wait for.
    let unshared = "(module (memory 1) (func (result i32)
        (memory.atomic.wait64 (i32.const 0) (i64.const 0) (i64.const -1))))";
    assert_eq!(self::made(unshared).plan.imports[0].name, "wait64:0");
}

#[test]
fn sections_that_are_missing_are_added_where_they_belong() {
    for fields in [
        "",
        "(memory 1)",
        "(type (func))",
        "(type (func (param i32)))",
        r#"(import "a" "b" (func $s))"#,
        r#"(import "a" "b" (func $s)) (start $s) (memory 1)"#,
        "(func)",
        "(func $s) (start $s)",
        "(table 1 funcref)",
        "(global (mut i32) (i32.const 0))",
        r#"(memory (export "e") 1)"#,
        r#"(memory 1) (data (i32.const 1) "a")"#,
        r#"(memory 1) (data (i32.const 1) "a") (func)"#,
        r#"(memory 1) (data "a")"#,
        r#"(memory 1) (data $d "a") (data (i32.const 1) "a") (func (data.drop $d))"#,
        r#"(memory 1) (data $d (i32.const 1) "a") (func (data.drop $d))"#,
        r#"(table 1 funcref) (elem func $f) (func $f) (memory 1) (data (i32.const 1) "a")"#,
        r#"(@custom "a" (before first) "") (memory 1) (data (i32.const 1) "a") (@custom "b" "")"#,
        r#"(@custom "metadata.code.branch_hint" (before first) "\00") (memory 1)"#,
    ] {
        made(&format!("(module {fields})"));
    }
}

#[test]
fn code_that_names_no_active_segment_needs_no_empty_one() {
    let segments = |wat: &str| print(&made(wat).bytes).matches("(data ").count();
    assert_eq!(
        segments(
            r#"(module (memory 1) (data (i32.const 1) "a") (data $d "b") (func
                (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))))"#
        ),
        2
    );
    assert_eq!(
        segments(
            r#"(module (memory 1) (data $a (i32.const 1) "a") (data $d "b") (func
                (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0)) (data.drop $a)))"#
        ),
        3
    );
}

#[test]
fn proposals_that_guests_may_not_use_yet_survive_too() {
    let features = WasmFeatures::WASM3 | WasmFeatures::THREADS;
    let original = wasm(
        r#"(module (type $bytes (array (mut i8))) (memory 1) (data $d (global.get $own) "abc")
            (global $own i32 (i32.const 64))
            (func (drop (array.new_data $bytes $d (i32.const 0) (i32.const 1))))
            (func (array.init_data $bytes $d
                (array.new_default $bytes (i32.const 1)) (i32.const 0) (i32.const 0) (i32.const 1))))"#,
    );
    let made = grate(&original, features).expect("a grate");
    Validator::new_with_features(features)
        .validate_all(&made.bytes)
        .expect("valid");
    let text = print(&made.bytes);
    assert!(text.contains("array.new_data $bytes 1"), "{text}");
    assert!(text.contains("array.init_data $bytes 1"), "{text}");
    assert_faithful_grate(&original, &made, features);
}

#[test]
fn a_module_too_near_a_limit_is_refused_with_the_limit() {
    let segments = |count: usize, code: &str| {
        let data = r#"(data (i32.const 0) "")"#.repeat(count);
        wasm(&format!("(module (memory 1) {data} {code})"))
    };
    made_of(&segments(100_000, ""));
    let names_one = "(func (data.drop 5))";
    made_of(&segments(99_999, names_one));
    assert_eq!(
        grate(&segments(100_000, names_one), GUEST_FEATURES).expect_err("an error"),
        RewriteError::Limit {
            what: "the number of data segments",
            limit: 100_000
        }
    );
    let functions = |count: usize| wasm(&format!("(module {})", "(func) ".repeat(count)));
    made_of(&functions(999_999));
    assert_eq!(
        grate(&functions(1_000_000), GUEST_FEATURES).expect_err("an error"),
        RewriteError::Limit {
            what: "the number of functions",
            limit: 1_000_000
        }
    );
    // The init function is as long as all offsets together, and no function may be that long.
    let offset = "(i32.const 1) ".repeat(3_000_000) + &"i32.add ".repeat(2_999_999);
    let long = wasm(&format!(
        r#"(module (memory 1) (data (offset {offset}) "x"))"#
    ));
    assert_eq!(
        grate(&long, GUEST_FEATURES).expect_err("an error"),
        RewriteError::Limit {
            what: "function body size",
            limit: 7_654_321
        }
    );
}

/// The function names of a module.
fn function_names(wasm: &[u8]) -> Vec<(u32, String)> {
    let payloads = Parser::new(0).parse_all(wasm).map(|p| p.expect("valid"));
    let mut found = Vec::new();
    for payload in payloads {
        let Payload::CustomSection(custom) = payload else {
            continue;
        };
        let KnownCustom::Name(names) = custom.as_known() else {
            continue;
        };
        for name in names {
            if let Ok(Name::Function(map)) = name {
                let map = map.into_iter().map_while(Result::ok);
                found.extend(map.map(|naming| (naming.index, naming.name.to_owned())));
            }
        }
    }
    found
}

#[test]
fn the_init_function_is_named_where_functions_are() {
    let names = function_names(
        &made(
            r#"(module (import "a" "b" (func $b)) (func $f) (memory 1 1 shared)
                (func (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0))))"#,
        )
        .bytes,
    );
    let named = |index, name: &str| (index, name.to_owned());
    assert_eq!(
        names,
        [named(0, "b"), named(2, "f"), named(4, "lindshim:init")]
    );
    // A name section with very many maps does not become larger by more than one name.
    let mut module = wasm("(module (memory 1))");
    let custom = CustomSection {
        name: "name".into(),
        data: [1, 1, 0].repeat(100_000).into(),
    };
    module.extend(section(&custom));
    let made = made_of(&module);
    assert_eq!(function_names(&made.bytes), [named(0, "lindshim:init")]);
    assert!(made.bytes.len() < module.len() + 200);
}

/// What C compilers and linkers make of programs with and without threads.
#[test]
fn guests_that_a_linker_made_can_be_grates() {
    let exit = made_of(include_bytes!("../../testdata/guests/exitcode.wasm"));
    assert!(!exit.grate.was_shared);
    let memory = exit.grate.memory.expect("a memory");
    assert_eq!((memory.defined, memory.max_pages), (true, 65536));
    let threads = made_of(include_bytes!("../../testdata/guests/threads.wasm"));
    assert!(threads.grate.was_shared);
    assert!(!threads.grate.memory.expect("a memory").defined);
}

#[test]
fn the_same_module_gives_the_same_bytes() {
    for case in PROGRAMS {
        let (once, twice) = (made(case.wat), made(case.wat));
        assert_eq!(
            (once.bytes, once.plan, once.grate),
            (twice.bytes, twice.plan, twice.grate)
        );
    }
}
