//! This file implements the rewriting of function bodies: the bytes of a body are copied, but for the few instructions
//! that change.

use wasm_encoder::{CodeSection, Encode, Instruction};
use wasmparser::{FunctionBody, Operator, OperatorsReader, OperatorsReaderAllocations};

use super::layout::Layout;
use super::{RewriteError, WaitOp};

/// wasmparser's limit for one function body, in bytes.
const MAX_BODY_BYTES: usize = 7_654_321;

/// Rewrites bodies one after the other, with the same buffers.
pub(super) struct Splicer<'a> {
    layout: &'a Layout<'a>,
    body: Vec<u8>,
    allocations: OperatorsReaderAllocations,
    moves: Vec<Move>,
}

/// From the old offset `from` in a body on, and up to the next move, code stands `by` bytes further on (or back).
struct Move {
    from: usize,
    by: isize,
}

impl<'a> Splicer<'a> {
    /// Makes a splicer for the module that `layout` describes.
    pub(super) fn new(layout: &'a Layout<'a>) -> Self {
        Self {
            layout,
            body: Vec::new(),
            allocations: OperatorsReaderAllocations::default(),
            moves: Vec::new(),
        }
    }

    /// Adds the rewritten body to `section`.
    pub(super) fn add(
        &mut self,
        section: &mut CodeSection,
        body: &FunctionBody<'_>,
    ) -> Result<(), RewriteError> {
        self.splice(body)?;
        add_body(section, &self.body)
    }

    /// Takes an offset in the body that was spliced last to the offset of the same instruction in the result.
    pub(super) fn moved(&self, offset: u32) -> Option<u32> {
        let offset = usize::try_from(offset).ok()?;
        let next = self.moves.partition_point(|m| m.from <= offset);
        let by = match next.checked_sub(1) {
            Some(last) => self.moves.get(last)?.by,
            None => 0,
        };
        u32::try_from(offset.checked_add_signed(by)?).ok()
    }

    /// Rewrites `body` into `self.body` and notes in `self.moves` what moved.
    pub(super) fn splice(&mut self, body: &FunctionBody<'_>) -> Result<(), RewriteError> {
        self.body.clear();
        self.moves.clear();
        let old = body.as_bytes();
        let start = body.range().start;
        let mut copied = 0;
        let allocations = std::mem::take(&mut self.allocations);
        let reader = body.get_binary_reader_for_operators()?;
        let mut operators = OperatorsReader::new_with_allocs(reader, allocations);
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            let at = offset - start;
            let new = match operator {
                Operator::Call { function_index } => {
                    self.moved_call(function_index, Instruction::Call)
                }
                Operator::ReturnCall { function_index } => {
                    self.moved_call(function_index, Instruction::ReturnCall)
                }
                Operator::RefFunc { function_index } => {
                    self.moved_call(function_index, Instruction::RefFunc)
                }
                Operator::MemoryInit { data_index, mem } => {
                    self.moved_data(data_index, |data_index| Instruction::MemoryInit {
                        mem,
                        data_index,
                    })
                }
                Operator::DataDrop { data_index } => {
                    self.moved_data(data_index, Instruction::DataDrop)
                }
                Operator::ArrayNewData {
                    array_type_index,
                    array_data_index,
                } => self.moved_data(array_data_index, |array_data_index| {
                    Instruction::ArrayNewData {
                        array_type_index,
                        array_data_index,
                    }
                }),
                Operator::ArrayInitData {
                    array_type_index,
                    array_data_index,
                } => self.moved_data(array_data_index, |array_data_index| {
                    Instruction::ArrayInitData {
                        array_type_index,
                        array_data_index,
                    }
                }),
                other => WaitOp::of(&other).and_then(|(op, memarg)| {
                    let function = self.layout.function_of(memarg.memory, op)?;
                    // The immediate is unsigned, as is the host function's parameter: the bits are what counts.
                    let offset = Instruction::I64Const(memarg.offset.cast_signed());
                    Some((Some(offset), Instruction::Call(function)))
                }),
            };
            let Some((first, last)) = new else { continue };
            self.body.extend_from_slice(&old[copied..at]);
            copied = operators.original_position() - start;
            if let Some(first) = first {
                first.encode(&mut self.body);
            }
            last.encode(&mut self.body);
            self.moves.push(Move {
                from: copied,
                by: self.body.len().cast_signed() - copied.cast_signed(),
            });
        }
        self.body.extend_from_slice(&old[copied..]);
        self.allocations = operators.into_allocations();
        Ok(())
    }

    /// The instruction `make` with its function index moved; nothing if it does not move.
    fn moved_call(
        &self,
        function: u32,
        make: fn(u32) -> Instruction<'static>,
    ) -> Option<(Option<Instruction<'static>>, Instruction<'static>)> {
        let moved = self.layout.moved_function(function);
        (moved != function).then(|| (None, make(moved)))
    }

    /// The instruction `make` with its data segment replaced; nothing if it stays.
    fn moved_data(
        &self,
        segment: u32,
        make: impl FnOnce(u32) -> Instruction<'static>,
    ) -> Option<(Option<Instruction<'static>>, Instruction<'static>)> {
        let moved = self.layout.moved_data(segment);
        (moved != segment).then(|| (None, make(moved)))
    }
}

/// Adds a body to `section`, unless it is too long for any module.
pub(super) fn add_body(section: &mut CodeSection, body: &[u8]) -> Result<(), RewriteError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(RewriteError::Limit {
            what: "function body size",
            limit: MAX_BODY_BYTES,
        });
    }
    section.raw(body);
    Ok(())
}

/// The data segment that an instruction names, if it names one.
pub(super) fn data_segment(operator: &Operator<'_>) -> Option<u32> {
    match *operator {
        Operator::MemoryInit { data_index, .. } | Operator::DataDrop { data_index } => {
            Some(data_index)
        }
        Operator::ArrayNewData {
            array_data_index, ..
        }
        | Operator::ArrayInitData {
            array_data_index, ..
        } => Some(array_data_index),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    /// The instructions with an immediate whose name contains `part`.
    fn with_immediate(part: &str) -> Vec<&'static str> {
        macro_rules! immediates {
            ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
                [$((stringify!($op), &[$($(stringify!($arg)),*)?] as &[&str])),*]
            };
        }
        let all = wasmparser::for_each_operator!(immediates);
        let with = all
            .iter()
            .filter(|(_, args)| args.iter().any(|arg| arg.contains(part)));
        with.map(|(op, _)| *op).collect()
    }

    /// Fails when a new wasmparser knows an instruction with a function index that the splicer does not.
    #[test]
    fn only_three_instructions_have_a_function_index() {
        assert_eq!(with_immediate("func"), ["Call", "RefFunc", "ReturnCall"]);
    }

    /// The same for data segments.
    #[test]
    fn only_four_instructions_name_a_data_segment() {
        assert_eq!(
            with_immediate("data"),
            ["ArrayNewData", "ArrayInitData", "MemoryInit", "DataDrop"]
        );
    }
}
