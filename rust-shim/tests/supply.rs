//! What an engine keeps of memories that are no more has a bound. Alone in its process, of which it counts the mappings.

mod common;

use common::*;
use lindshim::ffi::types::*;
use lindshim::ffi::*;
use std::ptr::null_mut;

/// How many mappings there are of more than 3 GiB: each memory has one.
fn reservations() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let large = |line: &&str| {
        let (low, high) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        address(high) - address(low) > 3 << 30
    };
    maps.lines().filter(large).count()
}

unsafe extern "C" fn no_call(_: *mut Call) -> i32 {
    LINDSHIM_TRAP
}

fn delete(domain: u64) {
    assert_eq!(
        unsafe { lindshim_domain_delete(domain, null_mut()) },
        LINDSHIM_OK
    );
}

#[test]
fn an_engine_keeps_so_many_memories_and_no_more() {
    let host = Host::new(no_call, &[], |_| {});
    let memory = r#"(memory (export "memory") (import "env" "memory") 1 1 shared)"#;
    let wat = format!(r#"(module {memory} (func (export "_start")))"#);
    let run = |module| {
        let (domain, user) = host.domain(module);
        host.try_begin(domain).unwrap();
        assert_eq!(run(domain, 1), LINDSHIM_OK);
        report(user);
        domain
    };
    let modules: Vec<_> = (0..300).map(|_| host.load(&wat)).collect();
    assert_eq!(reservations(), 0);
    for module in &modules {
        delete(run(*module));
    }
    // 64 that modules keep for their next domains, and a range that the others have had in turn.
    assert_eq!(reservations(), 65);
    let domains: Vec<_> = modules.iter().map(|module| run(*module)).collect();
    assert_eq!(reservations(), 300);
    domains.into_iter().for_each(delete);
    // The same, and 64 ranges.
    assert_eq!(reservations(), 128);
    for module in &modules {
        unsafe {
            assert_eq!(lindshim_module_delete(*module, null_mut()), LINDSHIM_OK);
        }
    }
    assert_eq!(
        reservations(),
        64,
        "what a module has kept goes with it, into a range or for good"
    );
    host.finish(&[], &[]);
    assert_eq!(reservations(), 0, "and the rest with the engine");
}
