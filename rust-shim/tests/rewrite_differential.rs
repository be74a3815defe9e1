//! A rewritten module behaves as the original: results, traps with their backtraces, calls of the host, and what is
//! left in memories, globals and tables are the same, natively and through host functions.

mod rewrite_support;

use lindshim::rewrite::GUEST_FEATURES;
use rewrite_support::cases::CASES;
use rewrite_support::guest::{Both, Outcome};
use rewrite_support::oracle::assert_faithful;
use rewrite_support::{engine, rewritten, wasm};
use wasmtime::Trap;

#[test]
fn modules_behave_the_same_both_ways() {
    let engine = engine();
    for case in CASES {
        println!("{}", case.about);
        let mut both = Both::new(&engine, &wasm(case.wat));
        for (name, args) in case.calls {
            both.call(name, args);
        }
        both.finish();
    }
}

#[test]
fn nothing_else_changes_in_a_module() {
    for case in CASES {
        println!("{}", case.about);
        let original = wasm(case.wat);
        let (bytes, plan) = rewritten(&original);
        assert_faithful(&original, &bytes, &plan, GUEST_FEATURES);
    }
}

/// Where the memory of an address test comes from.
const MEMORIES: [&str; 3] = [
    r#"(import "env" "memory" (memory LIMITS shared))"#,
    r#"(memory LIMITS shared)"#,
    r#"(memory (export "memory") LIMITS shared)"#,
];

/// The bytes at which the module below has its pattern.
const PATTERN: &str = r#"(data (INDEX.const 0)
    "\00\00\00\00" "\01\00\00\00" "\02\00\00\00" "\00\00\00\00" "\ff\ff\ff\ff" "\ff\ff\ff\ff")"#;

/// A module with all three instructions, each with the same offset.
fn address_module(memory: &str, memory64: bool, offset: u64) -> Vec<u8> {
    let (index, limits) = if memory64 {
        ("i64", "i64 1 2")
    } else {
        ("i32", "1 2")
    };
    let wat = format!(
        r#"(module {memory} {PATTERN}
            (func (export "wait32") (param {index} i32 i64) (result i32)
                (memory.atomic.wait32 offset={offset} (local.get 0) (local.get 1) (local.get 2)))
            (func (export "wait64") (param {index} i64 i64) (result i32)
                (memory.atomic.wait64 offset={offset} (local.get 0) (local.get 1) (local.get 2)))
            (func (export "notify") (param {index} i32) (result i32)
                (memory.atomic.notify offset={offset} (local.get 0) (local.get 1))))"#
    );
    wasm(&wat.replace("LIMITS", limits).replace("INDEX", index))
}

/// Runs all three instructions on every address with every offset, and counts the outcomes.
fn compare_addresses(memory64: bool, offsets: &[u64], addresses: &[u64]) -> [usize; 6] {
    let engine = engine();
    let mut seen = [0; 6];
    for memory in MEMORIES {
        for &offset in offsets {
            let mut both = Both::new(&engine, &address_module(memory, memory64, offset));
            for &address in addresses {
                let address = address.cast_signed();
                let mut outcomes = Vec::new();
                // The timeout must not matter to a value that differs, so those wait for ever: they never do.
                for (expected, timeout) in
                    [(0, 0), (1, 0), (-1, 0), (0x7777_7777, -1), (1 << 33, 0)]
                {
                    outcomes.push(both.call("wait32", &[address, expected, timeout]));
                    outcomes.push(both.call("wait64", &[address, expected, timeout]));
                }
                for count in [0, 1, -1] {
                    outcomes.push(both.call("notify", &[address, count]));
                }
                for outcome in outcomes {
                    seen[kind(&outcome)] += 1;
                }
            }
            both.finish();
        }
    }
    seen
}

/// Sorts an outcome: woken or none, not equal, timed out, out of bounds, misaligned, anything else.
fn kind(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Returned(values) => match values[0].as_str() {
            "I32(0)" => 0,
            "I32(1)" => 1,
            "I32(2)" => 2,
            _ => 5,
        },
        Outcome::Trapped(Trap::MemoryOutOfBounds, _) => 3,
        Outcome::Trapped(Trap::HeapMisaligned, _) => 4,
        _ => 5,
    }
}

/// Addresses at which something may change, for both index types.
const ADDRESSES: [u64; 22] = [
    0,
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    65524,
    65526,
    65528,
    65530,
    65532,
    65533,
    65535,
    65536,
    65537,
    65540,
    0x7fff_fffc,
    0x8000_0000,
    0xffff_fff0,
];

#[test]
fn addresses_of_a_32_bit_memory_are_judged_as_natively() {
    let offsets = [
        0,
        1,
        2,
        4,
        8,
        65524,
        65528,
        65532,
        65533,
        65536,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fff8,
        0xffff_fffc,
        0xffff_fffe,
        0xffff_ffff,
    ];
    let mut addresses = ADDRESSES.to_vec();
    addresses.extend([
        0xffff_fff8,
        0xffff_fffa,
        0xffff_fffc,
        0xffff_fffe,
        0xffff_ffff,
    ]);
    let seen = compare_addresses(false, &offsets, &addresses);
    let [woken, unequal, timed_out, outside, misaligned, other] = seen;
    assert!(woken > 0 && unequal > 0 && timed_out > 0, "{seen:?}");
    assert!(outside > 0 && misaligned > 0 && other == 0, "{seen:?}");
}

#[test]
fn addresses_of_a_64_bit_memory_are_judged_as_natively() {
    let offsets = [
        0,
        1,
        4,
        8,
        65528,
        65532,
        65536,
        0xffff_fffc,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 2,
        1 << 63,
        (1 << 63) - 4,
        u64::MAX - 7,
        u64::MAX - 3,
        u64::MAX - 1,
        u64::MAX,
    ];
    let mut addresses = ADDRESSES.to_vec();
    addresses.extend([
        0xffff_fffc,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 4,
        1 << 63,
        (1 << 63) + 2,
    ]);
    addresses.extend([
        u64::MAX - 15,
        u64::MAX - 7,
        u64::MAX - 3,
        u64::MAX - 1,
        u64::MAX,
    ]);
    let seen = compare_addresses(true, &offsets, &addresses);
    let [woken, unequal, timed_out, outside, misaligned, other] = seen;
    assert!(woken > 0 && unequal > 0 && timed_out > 0, "{seen:?}");
    assert!(outside > 0 && misaligned > 0 && other == 0, "{seen:?}");
}

#[test]
fn a_wait_times_out_after_its_timeout_both_ways() {
    let mut both = Both::new(&engine(), &address_module(MEMORIES[1], false, 0));
    for timeout in [1, 1_000, 1_000_000] {
        for name in ["wait32", "wait64"] {
            let before = std::time::Instant::now();
            let outcome = both.call(name, &[32, 0, timeout]);
            assert_eq!(outcome, Outcome::Returned(vec!["I32(2)".to_owned()]));
            // It ran twice.
            assert!(before.elapsed().as_nanos() >= 2 * u128::from(timeout.cast_unsigned()));
        }
    }
}

#[test]
fn a_memory_that_grew_is_judged_by_its_new_size() {
    let module = wasm(
        r#"(module (memory (export "memory") 1 3 shared)
            (func (export "wait") (param i32) (result i32)
                (memory.atomic.wait32 offset=65536 (local.get 0) (i32.const 0) (i64.const 0)))
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    let mut both = Both::new(&engine(), &module);
    assert!(matches!(
        both.call("wait", &[0]),
        Outcome::Trapped(Trap::MemoryOutOfBounds, _)
    ));
    both.call("grow", &[1]);
    assert_eq!(
        both.call("wait", &[65532]),
        Outcome::Returned(vec!["I32(2)".to_owned()])
    );
    assert!(matches!(
        both.call("wait", &[65536]),
        Outcome::Trapped(Trap::MemoryOutOfBounds, _)
    ));
    both.finish();
}

#[test]
fn backtraces_have_the_original_names_and_indices() {
    let module = wasm(
        r#"(module $program
            (import "env" "host" (func $host))
            (import "env" "memory" (memory 1 1 shared))
            (func $leaf (param $address i32) (result i32)
                (memory.atomic.wait32 (local.get $address) (i32.const 0) (i64.const 0)))
            (func (param i32) (result i32) (call $leaf (local.get 0)))
            (func $outer (export "outer") (param i32) (result i32) (call 2 (local.get 0)))
            (func $crash (export "crash") (drop (call $outer (i32.const 0))) unreachable))"#,
    );
    let mut both = Both::new(&engine(), &module);
    let Outcome::Trapped(Trap::HeapMisaligned, frames) = both.call("outer", &[1]) else {
        panic!("a misaligned wait traps");
    };
    let named = |index, name: &str| (index, Some(name.to_owned()));
    assert_eq!(frames, [named(1, "leaf"), (2, None), named(3, "outer")]);
    let Outcome::Trapped(Trap::UnreachableCodeReached, frames) = both.call("crash", &[]) else {
        panic!("unreachable traps");
    };
    assert_eq!(frames, [named(4, "crash")]);
}
