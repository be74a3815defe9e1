//! Modules that nobody thought of: wasm-smith generates them from seeds, and waits and notifies that cannot block are
//! strewn over their code.

use std::collections::HashSet;
use std::convert::Infallible;

use arbitrary::Unstructured;
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, Function, Instruction, MemArg};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef};

use super::random::Random;

/// What a module is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Several memories of all kinds.
    Any,
    /// One memory, as a grate has it, and data to put there. Nothing waits on a memory that is not shared.
    Grate,
}

/// How many loop rounds and calls a module may make before it traps.
const FUEL: u32 = 200;

/// How many random bytes a module is made of.
const ENTROPY_BYTES: usize = 32768;

/// Makes a module that ends by itself and waits without blocking; `None` if wasm-smith can make nothing of the seed.
pub fn module(seed: u64, kind: Kind) -> Option<Vec<u8>> {
    let mut random = Random::new(seed);
    let any = kind == Kind::Any;
    let config = wasm_smith::Config {
        allow_start_export: random.one_in(2),
        bulk_memory_enabled: true,
        canonicalize_nans: true,
        disallow_traps: random.one_in(2),
        exceptions_enabled: false,
        export_everything: true,
        gc_enabled: false,
        generate_custom_sections: true,
        max_imports: 8,
        max_memories: if any { 4 } else { 1 },
        memory64_enabled: any,
        min_data_segments: if any { 0 } else { random.below(5) },
        max_memory32_bytes: 1 << 18,
        max_memory64_bytes: 1 << 18,
        max_table_elements: 200,
        max_tables: 3,
        memory_max_size_required: true,
        min_funcs: 4,
        min_memories: 1,
        min_uleb_size: random.of(&[1, 1, 5]),
        table_max_size_required: true,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    };
    let entropy = random.bytes(ENTROPY_BYTES);
    let mut unstructured = Unstructured::new(&entropy);
    let mut module = wasm_smith::Module::new(config, &mut unstructured).ok()?;
    module.ensure_termination(FUEL).expect("a module that ends");
    Some(strew(&module.to_bytes(), random, kind))
}

/// Strews waits and notifies over a module.
fn strew(wasm: &[u8], random: Random, kind: Kind) -> Vec<u8> {
    let mut strewer = Strewer {
        random,
        memories: Vec::new(),
        kind,
        waits: true,
    };
    let mut module = wasm_encoder::Module::new();
    strewer
        .parse_core_module(&mut module, Parser::new(0), wasm)
        .expect("a valid module");
    module.finish()
}

struct Strewer {
    random: Random,
    /// Whether each memory has 64-bit indices.
    memories: Vec<bool>,
    kind: Kind,
    /// Whether code may wait.
    waits: bool,
}

impl Reencode for Strewer {
    type Error = Infallible;

    /// Makes most memories shared, and gives all a page.
    fn memory_type(
        &mut self,
        memory: wasmparser::MemoryType,
    ) -> Result<wasm_encoder::MemoryType, reencode::Error> {
        self.memories.push(memory.memory64);
        let minimum = memory.initial.max(1);
        let shared = memory.shared || !self.random.one_in(4);
        self.waits = shared || self.kind == Kind::Any;
        Ok(wasm_encoder::MemoryType {
            minimum,
            maximum: memory.maximum.map(|maximum| maximum.max(minimum)),
            memory64: memory.memory64,
            shared,
            page_size_log2: None,
        })
    }

    /// Turns externref, which guests may not use and wasm-smith cannot do without, into funcref.
    fn abstract_heap_type(
        &mut self,
        ty: wasmparser::AbstractHeapType,
    ) -> Result<wasm_encoder::AbstractHeapType, reencode::Error> {
        let ty = match ty {
            wasmparser::AbstractHeapType::Extern => wasmparser::AbstractHeapType::Func,
            other => other,
        };
        Ok(ty.into())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), reencode::Error> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            if self.random.one_in(8) {
                self.add_operation(&mut function);
            }
            let operator = operators.read()?;
            if let Operator::MemoryAtomicWait32 { .. } | Operator::MemoryAtomicWait64 { .. } =
                operator
            {
                // The timeout is on top of the stack, and must not be what wasm-smith chose.
                function.instructions().drop().i64_const(0);
                if !self.waits {
                    function.instructions().drop().drop().drop().i32_const(2);
                    continue;
                }
            }
            function.instruction(&self.instruction(operator)?);
        }
        code.function(&function);
        Ok(())
    }
}

impl Strewer {
    /// Adds an operation that leaves the stack as it is: its result is dropped, or stored where later waits may see it.
    fn add_operation(&mut self, function: &mut Function) {
        let memory = self.random.below(self.memories.len());
        let memory64 = self.memories[memory];
        let memory_index = u32::try_from(memory).expect("few");
        let stores = self.random.one_in(2);
        if stores {
            let place = self.random.of(&[0, 4, 8, 16]);
            function.instruction(&index(memory64, place));
        }
        let (address, offset) = self.place(memory64);
        function.instruction(&index(memory64, address));
        let memarg = |align| MemArg {
            offset,
            align,
            memory_index,
        };
        let expected = self.random.of(&[0, 0, 1, 2, -1]);
        let choice = if self.waits { self.random.below(3) } else { 2 };
        match choice {
            0 => {
                function.instructions().i32_const(expected).i64_const(0);
                function.instruction(&Instruction::MemoryAtomicWait32(memarg(2)));
            }
            1 => {
                function
                    .instructions()
                    .i64_const(i64::from(expected))
                    .i64_const(0);
                function.instruction(&Instruction::MemoryAtomicWait64(memarg(3)));
            }
            _ => {
                function.instructions().i32_const(expected);
                function.instruction(&Instruction::MemoryAtomicNotify(memarg(2)));
            }
        }
        let result = if stores {
            Instruction::I32Store(MemArg {
                offset: 0,
                align: 2,
                memory_index,
            })
        } else {
            Instruction::Drop
        };
        function.instruction(&result);
    }

    /// An address and an offset: mostly good ones, so that code after the operation runs too.
    fn place(&mut self, memory64: bool) -> (u64, u64) {
        if !self.random.one_in(64) {
            return (
                self.random.of(&[0, 8, 16, 24]),
                self.random.of(&[0, 0, 8, 128, 0x8000]),
            );
        }
        let highest = if memory64 {
            u64::MAX
        } else {
            u64::from(u32::MAX)
        };
        let wild = [
            1,
            2,
            4,
            65532,
            65536,
            highest / 2,
            highest - 7,
            highest - 3,
            highest,
        ];
        (self.random.of(&wild), self.random.of(&wild))
    }
}

/// The instruction that makes an address. The low bits are what counts.
#[expect(
    clippy::cast_possible_truncation,
    reason = "an address of a 32-bit memory has 32 bits"
)]
fn index(memory64: bool, address: u64) -> Instruction<'static> {
    if memory64 {
        Instruction::I64Const(address.cast_signed())
    } else {
        Instruction::I32Const(address as i32)
    }
}

/// Whether two imports name the same memory. Wasmtime 48 then panics when the guest runs into its guard pages: it
/// finds the faulting address in two memories (`StoreOpaque::wasm_fault`), natively as well as rewritten.
pub fn imports_a_memory_twice(wasm: &[u8]) -> bool {
    let mut seen = HashSet::new();
    let payloads = Parser::new(0)
        .parse_all(wasm)
        .map(|payload| payload.expect("a valid module"));
    let imports = payloads.filter_map(|payload| match payload {
        Payload::ImportSection(imports) => Some(imports.into_imports()),
        _ => None,
    });
    let mut imports = imports
        .flatten()
        .map(|import| import.expect("a valid import"));
    imports.any(|import| {
        let memory = matches!(import.ty, TypeRef::Memory(_));
        memory && !seen.insert((import.module, import.name))
    })
}
