//! What the tests of the rewrite share.

#![allow(
    dead_code,
    reason = "each test file uses a part of this, and each is a crate of its own"
)]

pub mod cases;
pub mod damage;
pub mod encode;
pub mod guest;
pub mod host;
pub mod oracle;
pub mod random;
pub mod smith;

use lindshim::rewrite::{GUEST_FEATURES, Plan, Rewrite, rewrite};
use wasmparser::{Validator, WasmFeatures};
use wasmtime::{Config, Engine};

/// The most stack a guest may use: enough for every chain of calls in these tests.
const WASM_STACK_BYTES: usize = 1 << 20;

/// Makes an engine that accepts what guests may use.
pub fn engine() -> Engine {
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::all(), false);
    config.wasm_features(GUEST_FEATURES, true);
    config.shared_memory(true);
    config.wasm_branch_hinting(true);
    config.max_wasm_stack(WASM_STACK_BYTES);
    Engine::new(&config).expect("an engine")
}

/// Assembles a module.
pub fn wasm(wat: &str) -> Vec<u8> {
    match wat::parse_str(wat) {
        Ok(wasm) => wasm,
        Err(error) => panic!("{error}\n{wat}"),
    }
}

/// Rewrites a module that must need it, and validates the result.
pub fn rewritten(wasm: &[u8]) -> (Vec<u8>, Plan) {
    rewritten_with(wasm, GUEST_FEATURES)
}

/// The same with other features.
pub fn rewritten_with(wasm: &[u8], features: WasmFeatures) -> (Vec<u8>, Plan) {
    let Rewrite { bytes, plan } = rewrite(wasm, features).expect("a rewritten module");
    let plan = plan.expect("the module waits");
    if let Err(error) = Validator::new_with_features(features).validate_all(&bytes) {
        panic!("invalid: {error}\n{}", print(&bytes));
    }
    (bytes.into_owned(), plan)
}

/// Disassembles a module, for messages.
pub fn print(wasm: &[u8]) -> String {
    wasmprinter::print_bytes(wasm).unwrap_or_else(|error| format!("cannot be printed: {error}"))
}
