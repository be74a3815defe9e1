//! Modules made byte by byte, where the text format would not say what a test needs.

use wasm_encoder::{
    CodeSection, Function, FunctionSection, MemorySection, MemoryType, Module, NameMap, Section,
    TypeSection, ValType,
};

/// A section as bytes.
pub fn section(section: &impl Section) -> Vec<u8> {
    let mut bytes = Vec::new();
    section.append_to(&mut bytes);
    bytes
}

/// A module of `functions` functions of type () -> (), the first with `body`, and with raw sections `before` the code
/// section and `after` it. Its memory is shared.
pub fn encoded(body: &Function, functions: u32, before: &[u8], after: &[u8]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut declarations = FunctionSection::new();
    let mut code = CodeSection::new();
    code.function(body);
    for i in 0..functions {
        declarations.function(0);
        if i > 0 {
            code.raw(&[0, 0x0b]);
        }
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: Some(1),
        memory64: false,
        shared: true,
        page_size_log2: None,
    });
    let mut wasm = Module::new().finish();
    wasm.extend(section(&types));
    wasm.extend(section(&declarations));
    wasm.extend(section(&memories));
    wasm.extend(before);
    wasm.extend(section(&code));
    wasm.extend(after);
    wasm
}

/// A body that waits, calls `called`, and has `nops` instructions that do nothing.
pub fn waiting_body(called: u32, nops: usize) -> Function {
    let mut body = Function::new([(3, ValType::I64)]);
    body.instructions().i32_const(0).i32_const(0).i64_const(0);
    body.raw([0xfe, 0x01, 0x02, 0x00]);
    body.instructions().drop().call(called);
    body.raw(std::iter::repeat_n(0x01, nops));
    body.instructions().end();
    body
}

/// A name map of wasm-encoder.
pub fn name_map(names: &[(u32, &str)]) -> NameMap {
    let mut map = NameMap::new();
    for (index, name) in names {
        map.append(*index, name);
    }
    map
}
