//! This file implements the first look at a module: does it wait on a shared memory, and through which instructions?
//!
//! Most modules end here. One without a shared memory costs a glance at its section headers; one with a shared memory
//! has only those functions decoded that contain the byte all atomic instructions begin with.

use std::collections::BTreeSet;

use wasmparser::{
    Encoding, FunctionBody, Import, MemoryType, Operator, Parser, Payload, TypeRef, WasmFeatures,
};

use super::{IMPORT_MODULE, RewriteError, WaitOp};

/// The first byte of every instruction of the threads proposal.
pub(super) const ATOMIC_PREFIX: u8 = 0xfe;

/// What the rewrite has to know of a module. The module was not validated: each fact is checked again before it is
/// used.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The memories, imported ones first, by index.
    pub(super) memories: Vec<MemoryType>,
    /// How many functions the module imports.
    pub(super) imported_functions: u32,
    /// The operations on shared memories that occur, by memory and then by instruction.
    pub(super) used: BTreeSet<(u32, WaitOp)>,
}

/// Looks through the module; `None` if nothing in it waits on a shared memory.
pub(super) fn survey(wasm: &[u8], features: WasmFeatures) -> Result<Option<Survey>, RewriteError> {
    let mut survey = Survey::default();
    let mut parser = Parser::new(0);
    parser.set_features(features);
    for payload in parser.parse_all(wasm) {
        match payload? {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => return Err(RewriteError::NotAModule),
            Payload::ImportSection(section) => {
                for import in section.into_imports_with_offsets() {
                    let (offset, import) = import?;
                    check_import(offset, &import)?;
                    match import.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => survey.imported_functions += 1,
                        TypeRef::Memory(memory) => survey.memories.push(memory),
                        TypeRef::Table(_) | TypeRef::Global(_) | TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    survey.memories.push(memory?);
                }
            }
            // Valid modules have declared all of their memories by now.
            Payload::CodeSectionStart { .. } if !survey.memories.iter().any(|m| m.shared) => {
                return Ok(None);
            }
            Payload::CodeSectionEntry(body) => survey.scan(&body)?,
            _ => {}
        }
    }
    Ok(survey.waits().then_some(survey))
}

/// Refuses an import that is not the guest's to have.
pub(super) fn check_import(offset: usize, import: &Import<'_>) -> Result<(), RewriteError> {
    if import.module == IMPORT_MODULE {
        return Err(RewriteError::reserved(offset, import.name));
    }
    Ok(())
}

impl Survey {
    /// Whether anything waits on a shared memory.
    pub(super) fn waits(&self) -> bool {
        self.used.iter().any(|(_, op)| op.is_wait())
    }

    /// Notes what one function does with shared memories.
    fn scan(&mut self, body: &FunctionBody<'_>) -> Result<(), RewriteError> {
        if !body.as_bytes().contains(&ATOMIC_PREFIX) {
            return Ok(());
        }
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            self.note(&operators.read()?);
        }
        Ok(())
    }

    /// Notes what one instruction does with a shared memory.
    pub(super) fn note(&mut self, operator: &Operator<'_>) {
        let Some((op, memarg)) = WaitOp::of(operator) else {
            return;
        };
        let memory = usize::try_from(memarg.memory).ok();
        if memory
            .and_then(|index| self.memories.get(index))
            .is_some_and(|m| m.shared)
        {
            self.used.insert((memarg.memory, op));
        }
    }
}
