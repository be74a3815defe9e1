//! Whatever the input is, a rewrite answers with an error or a valid module, in time proportional to the input.

mod rewrite_support;

use std::time::{Duration, Instant};

use lindshim::rewrite::{GUEST_FEATURES, RewriteError, fuzz, grate, rewrite};
use rewrite_support::cases::CASES;
use rewrite_support::damage::damage;
use rewrite_support::random::Random;
use rewrite_support::wasm;
use wasm_encoder::{CustomSection, Encode, Section};

/// How many random changes are tried.
const MUTATIONS: u64 = 400_000;

/// Modules to damage, with names, branch hints and other custom sections in them.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<_> = CASES.iter().map(|case| wasm(case.wat)).collect();
    corpus.push(wasm(
        r#"(module $named
            (import "env" "f" (func $f (param i32)))
            (memory $memory 1 1 shared)
            (global $global (mut i32) (i32.const 5))
            (func $hinted (param $p i32) (local $l i64)
                block $label
                    (memory.atomic.wait32 (local.get $p) (i32.const 0) (i64.const 0))
                    (@metadata.code.branch_hint "\01") br_if $label
                    (call $f (memory.atomic.notify offset=4 (local.get $p) (i32.const 1)))
                end)
            (@custom "producers" "\00") (@custom "linking" "\02\00") (@custom "reloc.CODE" "\03\01\02\03"))"#,
    ));
    corpus
}

/// Modules to damage that can be grates, with all that becomes of those.
fn grates() -> Vec<Vec<u8>> {
    let own = r#"(module $named
        (import "env" "base" (global $base i32))
        (import "env" "f" (func $f (param i32)))
        (memory $memory (export "memory") 1)
        (table $table 4 funcref)
        (global $__stack_pointer (mut i32) (i32.const 4096))
        (global $__tls_size i32 (i32.const 8))
        (global (export "__tls_align") i32 (i32.const 8))
        (elem (table $table) (i32.const 1) func $__wasm_init_tls $start)
        (func $start (export "lindshim:init") (i32.store (i32.const 0) (i32.const 1)))
        (start $start)
        (func $__wasm_init_tls (param $p i32)
            (memory.init $passive (local.get $p) (i32.const 0) (i32.const 4))
            (memory.init $active (local.get $p) (i32.const 0) (i32.const 0))
            (data.drop $late)
            (call $f (memory.size)))
        (data $active (i32.const 16) "active")
        (data $passive "passive")
        (data $late (i32.add (global.get $base) (i32.const 64)) "late"))"#;
    let mut grates = vec![
        wasm(own),
        wasm("(module (memory 1) (data (i32.const 0) \"x\"))"),
    ];
    let candidates = corpus();
    grates.extend(candidates.into_iter().filter(|m| fuzz::check_grate(m)));
    grates
}

#[test]
fn the_corpus_is_rewritten() {
    for module in corpus() {
        assert!(fuzz::check(&module));
    }
}

#[test]
fn truncated_modules_never_panic() {
    for module in corpus() {
        for end in 0..module.len() {
            fuzz::check(&module[..end]);
        }
    }
    for module in grates() {
        for end in 0..module.len() {
            fuzz::check_grate(&module[..end]);
        }
    }
}

#[test]
fn grates_with_one_flipped_bit_never_panic() {
    let mut survivors = 0;
    for mut module in grates() {
        for i in 0..module.len() {
            for bit in 0..8 {
                module[i] ^= 1 << bit;
                survivors += usize::from(fuzz::check_grate(&module));
                module[i] ^= 1 << bit;
            }
        }
    }
    assert!(survivors > 1000, "{survivors} of the modules were grates");
}

#[test]
fn damaged_grates_never_panic() {
    let corpus = grates();
    let mut random = Random::new(2);
    let mut survivors = 0;
    for _ in 0..MUTATIONS {
        let mut module = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(3) {
            damage(&mut module, &corpus, &mut random);
        }
        survivors += usize::from(fuzz::check_grate(&module));
    }
    assert!(survivors > 1000, "{survivors} of the modules were grates");
}

#[test]
fn modules_with_one_flipped_bit_never_panic() {
    let mut survivors = 0;
    for mut module in corpus() {
        for i in 0..module.len() {
            for bit in 0..8 {
                module[i] ^= 1 << bit;
                survivors += usize::from(fuzz::check(&module));
                module[i] ^= 1 << bit;
            }
        }
    }
    assert!(
        survivors > 1000,
        "{survivors} of the modules were still rewritten"
    );
}

#[test]
fn damaged_modules_never_panic() {
    let corpus = corpus();
    let mut random = Random::new(1);
    let mut survivors = 0;
    for _ in 0..MUTATIONS {
        let mut module = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(3) {
            damage(&mut module, &corpus, &mut random);
        }
        survivors += usize::from(fuzz::check(&module));
    }
    assert!(
        survivors > 1000,
        "{survivors} of the modules were still rewritten"
    );
}

/// A module with a long function, and a custom section before it.
fn with_custom(name: &str, data: Vec<u8>) -> Vec<u8> {
    let nops = "nop ".repeat(50_000);
    let mut module = wasm(&format!(
        "(module (memory 1 1 shared) (func (result i32) {nops}
            (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0))))"
    ));
    let section = CustomSection {
        name: name.into(),
        data: data.into(),
    };
    let mut bytes = Vec::new();
    section.append_to(&mut bytes);
    module.splice(8..8, bytes);
    module
}

#[test]
fn counts_that_lie_cost_nothing() {
    let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for id in [0_u8, 1, 2, 3, 4, 10, 11] {
        let mut data = vec![id, 5];
        data.extend(most);
        fuzz::check(&with_custom("name", data.clone()));
        fuzz::check_grate(&with_custom("name", data));
    }
    fuzz::check(&with_custom("metadata.code.branch_hint", most.to_vec()));
    for id in 0..14 {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend([id, 5]);
        module.extend(most);
        let _ = rewrite(&module, GUEST_FEATURES);
        let _ = grate(&module, GUEST_FEATURES);
    }
}

#[test]
fn many_hints_and_names_for_one_function_take_linear_time() {
    // Handling the function anew for each entry would take minutes.
    const ENTRIES: u32 = 400_000;
    let entries = |entry: &[u8]| {
        let mut bytes = Vec::new();
        ENTRIES.encode(&mut bytes);
        bytes.extend(std::iter::repeat_n(entry, ENTRIES as usize).flatten());
        bytes
    };
    let mut names = vec![1];
    entries(&[0, 1, b'x']).as_slice().encode(&mut names);
    let before = Instant::now();
    assert!(fuzz::check(&with_custom("name", names.clone())));
    assert!(fuzz::check_grate(&with_custom("name", names)));
    assert!(fuzz::check(&with_custom(
        "metadata.code.branch_hint",
        entries(&[0, 1, 0, 1, 1])
    )));
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "{:?}",
        before.elapsed()
    );
}

#[test]
fn text_is_not_a_module() {
    let error = rewrite(b"(module)", GUEST_FEATURES).expect_err("an error");
    assert!(
        matches!(error, RewriteError::Invalid { offset: 0, .. }),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .starts_with("invalid module: magic header not detected"),
        "{error}"
    );
}
