//! What becomes of custom sections in a rewritten module.

mod rewrite_support;

use rewrite_support::encode::{encoded, name_map, section, waiting_body};
use rewrite_support::{rewritten, wasm};
use wasm_encoder::{BranchHint, BranchHints, CustomSection, Encode, IndirectNameMap, NameSection};
use wasmparser::{KnownCustom, Name, Operator, Parser, Payload};

/// The custom sections of a module by name.
fn customs(wasm: &[u8]) -> Vec<(String, Vec<u8>)> {
    let payloads = Parser::new(0)
        .parse_all(wasm)
        .map(|payload| payload.expect("a valid module"));
    let customs = payloads.filter_map(|payload| match payload {
        Payload::CustomSection(custom) => {
            Some((custom.name().to_owned(), custom.data().to_owned()))
        }
        _ => None,
    });
    customs.collect()
}

#[test]
fn custom_sections_are_copied_unless_they_speak_of_code() {
    let kept = [
        "producers",
        "target_features",
        "dylink.0",
        "mine",
        "debug_info",
        "",
    ];
    let dropped = [
        ".debug_info",
        ".debug_line",
        "metadata.code.trace_inst",
        "sourceMappingURL",
        "external_debug_info",
        "build_id",
        "linking",
        "reloc.CODE",
        "reloc..debug_info",
    ];
    let mut before = Vec::new();
    let mut after = Vec::new();
    for (i, name) in kept.iter().chain(&dropped).enumerate() {
        let data = vec![0xff, u8::try_from(i).expect("few"), 0x80];
        let custom = CustomSection {
            name: (*name).into(),
            data: data.into(),
        };
        let place = if i % 2 == 0 { &mut before } else { &mut after };
        place.extend(section(&custom));
    }
    let original = encoded(&waiting_body(0, 0), 1, &before, &after);
    let (bytes, _) = rewritten(&original);
    let mut expected = customs(&original);
    expected.retain(|(name, _)| kept.contains(&name.as_str()));
    assert_eq!(expected.len(), kept.len());
    assert_eq!(customs(&bytes), expected);
}

/// What a name section says, as lines; a malformed part ends it.
fn names(wasm: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::CustomSection(custom) = payload.expect("a valid module") else {
            continue;
        };
        let KnownCustom::Name(section) = custom.as_known() else {
            continue;
        };
        for subsection in section {
            let Ok(subsection) = subsection else {
                lines.push("malformed".to_owned());
                break;
            };
            let mut direct = |kind: &str, map: wasmparser::NameMap<'_>| {
                let line = |naming| match naming {
                    Ok(wasmparser::Naming { index, name }) => format!("{kind} {index} {name}"),
                    Err(_) => "malformed".to_owned(),
                };
                lines.extend(map.into_iter().map(line));
            };
            match subsection {
                Name::Module { name, .. } => lines.push(format!("module {name}")),
                Name::Function(map) => direct("function", map),
                Name::Type(map) => direct("type", map),
                Name::Memory(map) => direct("memory", map),
                Name::Global(map) => direct("global", map),
                Name::Local(map) | Name::Label(map) => {
                    for function in map {
                        let Ok(function) = function else { break };
                        direct(&format!("in {}", function.index), function.names);
                    }
                }
                Name::Unknown { ty, data, .. } => lines.push(format!("{ty} {data:?}")),
                _ => panic!("not in these tests"),
            }
        }
    }
    lines
}

#[test]
fn names_move_with_their_functions_and_others_stay() {
    let mut section_of_names = NameSection::new();
    section_of_names.module("program");
    section_of_names.functions(&name_map(&[
        (0, "first"),
        (2, "third"),
        (3, "none"),
        (u32::MAX, "far"),
    ]));
    let mut locals = IndirectNameMap::new();
    locals.append(0, &name_map(&[(0, "a"), (7, "b")]));
    locals.append(3, &name_map(&[(0, "none")]));
    locals.append(1, &name_map(&[(0, "c")]));
    section_of_names.locals(&locals);
    section_of_names.labels(&locals);
    section_of_names.types(&name_map(&[(0, "type")]));
    section_of_names.memories(&name_map(&[(0, "memory")]));
    section_of_names.globals(&name_map(&[(9, "global")]));
    section_of_names.raw(77, &[1, 2, 3]);
    let original = encoded(&waiting_body(0, 0), 3, &[], &section(&section_of_names));
    let (bytes, plan) = rewritten(&original);
    assert_eq!(plan.first_function, 0);
    let inside = ["in 1 0 a", "in 1 7 b", "in 2 0 c"];
    let mut expected = vec!["module program", "function 1 first", "function 3 third"];
    expected.extend(inside);
    expected.extend(inside);
    expected.extend([
        "type 0 type",
        "memory 0 memory",
        "global 9 global",
        "77 [1, 2, 3]",
    ]);
    assert_eq!(names(&bytes), expected);
}

#[test]
fn a_malformed_name_section_keeps_what_comes_before() {
    let good = section(&{
        let mut names = NameSection::new();
        names.module("m");
        names.functions(&name_map(&[(0, "f")]));
        names
    });
    for tail in [
        &[1_u8, 3, 9, 1, 0][..],
        &[1, 0xff],
        &[0x80],
        &[1, 4, 2, 1, 1, 0xff],
        // Wasmtime reads no further than a malformed function name, so the good one after it must not begin to count.
        &[1, 4, 1, 0, 1, 0xff, 1, 4, 1, 0, 1, b'z'],
        &[2, 2, 5, 5],
        &[0, 2, 1, 0xff],
    ] {
        let mut raw = good[2..].to_vec();
        raw.extend(tail);
        let mut sized = Vec::new();
        raw.as_slice().encode(&mut sized);
        let mut custom = vec![0];
        custom.extend(sized);
        let original = encoded(&waiting_body(0, 0), 1, &[], &custom);
        let (bytes, _) = rewritten(&original);
        let names = names(&bytes);
        assert_eq!(names[..2], ["module m", "function 1 f"], "{tail:?}");
        assert!(names.len() <= 3, "{tail:?}: {names:?}");
        assert!(!names.contains(&"function 1 z".to_owned()), "{names:?}");
    }
}

/// A branch hint, and what it stands at.
struct Hinted {
    function: u32,
    offset: u32,
    instruction: String,
    taken: bool,
}

/// The branch hints of a module.
fn hinted(wasm: &[u8]) -> Vec<Hinted> {
    let mut hints = Vec::new();
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("a valid module") {
            Payload::CustomSection(custom) => {
                if let KnownCustom::BranchHints(section) = custom.as_known() {
                    for function in section.into_iter().map(Result::unwrap) {
                        let all = function.hints.into_iter().map(Result::unwrap);
                        hints.extend(all.map(|hint| (function.func, hint)));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(body),
            _ => {}
        }
    }
    let imported = imported_functions(wasm);
    let instruction = |(function, hint): (u32, wasmparser::BranchHint)| {
        let body = &bodies[usize::try_from(function - imported).unwrap()];
        let at = body.range().start + usize::try_from(hint.func_offset).unwrap();
        let operators = body
            .get_operators_reader()
            .unwrap()
            .into_iter_with_offsets();
        let found = operators
            .map(Result::unwrap)
            .find(|(_, offset)| *offset == at);
        Hinted {
            function,
            offset: hint.func_offset,
            instruction: found.map_or("between".to_owned(), |(operator, _)| short(&operator)),
            taken: hint.taken,
        }
    };
    hints.into_iter().map(instruction).collect()
}

fn imported_functions(wasm: &[u8]) -> u32 {
    let mut count = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ImportSection(imports) = payload.expect("a valid module") {
            let imports = imports.into_imports().map(Result::unwrap);
            count += imports
                .filter(|i| matches!(i.ty, wasmparser::TypeRef::Func(_)))
                .count();
        }
    }
    u32::try_from(count).unwrap()
}

/// The name of an instruction.
fn short(operator: &Operator<'_>) -> String {
    let text = format!("{operator:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

#[test]
fn branch_hints_move_with_their_instructions() {
    let original = wasm(
        // The wait becomes a byte longer, as 0x2000 needs three bytes as a signed number and two as an unsigned one;
        // each notify becomes a byte shorter, as the memory's index goes away.
        r#"(module
            (import "a" "b" (func $imported))
            (memory $m i64 1 1 shared)
            (memory $n i64 1 1 shared)
            (func $wait (param i64) (result i32)
                (memory.atomic.wait32 $m offset=0x2000 (local.get 0) (i32.const 0) (i64.const 0))
                (@metadata.code.branch_hint "\01") if
                    call $imported
                    (memory.atomic.notify $n (local.get 0) (i32.const 1))
                    (@metadata.code.branch_hint "\00") br_if 0
                    (drop (memory.atomic.notify $n (local.get 0) (i32.const 1)))
                    (drop (call $wait (i64.const 0)))
                end
                block (call $wait (i64.const 1)) (@metadata.code.branch_hint "\01") br_if 0 end
                (i32.const 0))
            (func (param i32)
                block local.get 0 (@metadata.code.branch_hint "\00") br_if 0 end))"#,
    );
    let (bytes, _) = rewritten(&original);
    let (before, after) = (hinted(&original), hinted(&bytes));
    let instructions: Vec<_> = before.iter().map(|h| h.instruction.as_str()).collect();
    assert_eq!(instructions, ["If", "BrIf", "BrIf", "BrIf"]);
    assert_eq!(after.len(), before.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.function, before.function + 2);
        assert_eq!(after.instruction, before.instruction);
        assert_eq!(after.taken, before.taken);
    }
    let offsets = before
        .iter()
        .zip(&after)
        .map(|(before, after)| i64::from(after.offset) - i64::from(before.offset));
    assert_eq!(offsets.collect::<Vec<_>>(), [1, 0, -1, 0]);
}

#[test]
fn malformed_branch_hints_are_dropped_and_doubled_ones_count_once() {
    let hint = BranchHint {
        branch_func_offset: 2,
        branch_hint_value: 1,
    };
    let mut hints = BranchHints::new();
    hints.function_hints(0, [hint]);
    hints.function_hints(0, [hint, hint]);
    hints.function_hints(5, [hint]);
    let well_formed = encoded(&waiting_body(0, 0), 2, &section(&hints), &[]);
    let (bytes, _) = rewritten(&well_formed);
    assert_eq!(
        hinted(&bytes)
            .iter()
            .map(|h| h.function)
            .collect::<Vec<_>>(),
        [1]
    );
    for data in [
        &b"\x01"[..],
        b"\x01\x00\x01\x02\x02\x01",
        b"\x01\x00\x01\x02\x01\x07",
        b"\x00\x00",
    ] {
        let custom = CustomSection {
            name: "metadata.code.branch_hint".into(),
            data: data.into(),
        };
        let (bytes, _) = rewritten(&encoded(&waiting_body(0, 0), 1, &section(&custom), &[]));
        assert_eq!(customs(&bytes), [], "{data:?}");
    }
}
