//! This file implements the answer of a rewrite: which host functions the rewritten module imports.

use wasmparser::{MemArg, Operator, ValType};
use wasmtime::Trap;

use super::check_address;

/// An instruction that a host function stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitOp {
    /// `memory.atomic.wait32`.
    Wait32,
    /// `memory.atomic.wait64`.
    Wait64,
    /// `memory.atomic.notify`.
    Notify,
}

impl WaitOp {
    /// How many bytes of memory the instruction looks at, which is also its alignment. A notify counts as 4 bytes wide.
    pub fn width(self) -> u64 {
        match self {
            Self::Wait32 | Self::Notify => 4,
            Self::Wait64 => 8,
        }
    }

    /// Whether the instruction may block.
    pub fn is_wait(self) -> bool {
        self != Self::Notify
    }

    /// The instruction's name in the import's name.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Wait32 => "wait32",
            Self::Wait64 => "wait64",
            Self::Notify => "notify",
        }
    }

    /// Answers which of the three instructions `operator` is, if it is one, and its immediate.
    pub(super) fn of(operator: &Operator<'_>) -> Option<(Self, MemArg)> {
        match operator {
            Operator::MemoryAtomicWait32 { memarg } => Some((Self::Wait32, *memarg)),
            Operator::MemoryAtomicWait64 { memarg } => Some((Self::Wait64, *memarg)),
            Operator::MemoryAtomicNotify { memarg } => Some((Self::Notify, *memarg)),
            _ => None,
        }
    }

    /// The parameters of the host function, for a memory with 64-bit or 32-bit indices. The result is always one i32.
    pub(super) fn params(self, memory64: bool) -> Vec<ValType> {
        let index = if memory64 { ValType::I64 } else { ValType::I32 };
        match self {
            Self::Wait32 => vec![index, ValType::I32, ValType::I64, ValType::I64],
            Self::Wait64 => vec![index, ValType::I64, ValType::I64, ValType::I64],
            Self::Notify => vec![index, ValType::I32, ValType::I64],
        }
    }
}

/// One host function that a rewritten module imports, from the module name [`IMPORT_MODULE`](super::IMPORT_MODULE).
///
/// Its type, where `addr` is i64 if the memory has 64-bit indices and i32 if not:
///
/// | operation | parameters | result |
/// | --- | --- | --- |
/// | `wait32` | `addr`, expected: i32, timeout: i64, offset: i64 | i32: 0 woken, 1 not equal, 2 timed out |
/// | `wait64` | `addr`, expected: i64, timeout: i64, offset: i64 | the same |
/// | `notify` | `addr`, count: i32, offset: i64 | i32: how many were woken, at most count (unsigned) |
///
/// `timeout` is in nanoseconds; a negative one waits for ever. The address is judged first, with
/// [`check_address`](Self::check_address); then a wait compares the value, and only a wait that found it equal looks at
/// its timeout (so a timeout of 0 gives 1 or 2, never 0). Values in memory are little-endian.
///
/// A start function may call it while the module is still being instantiated, so the memory is found through
/// `wasmtime::Caller`, not through the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitImport {
    /// The import's name: the operation and the memory's index, such as `wait32:0`.
    pub name: String,
    /// What the function stands in for.
    pub op: WaitOp,
    /// The memory's index in the module. It is a shared memory.
    pub memory: u32,
    /// Whether the memory has 64-bit indices.
    pub memory64: bool,
    /// The name under which the rewritten module exports the memory.
    pub memory_export: String,
}

impl WaitImport {
    /// [`check_address`] for this function's width and memory: `addr` zero-extended, `offset` as given by the guest's
    /// last argument, and `memory_bytes` the memory's length now.
    ///
    /// # Errors
    /// The trap to raise in the guest.
    pub fn check_address(&self, addr: u64, offset: u64, memory_bytes: u64) -> Result<u64, Trap> {
        check_address(addr, offset, self.op.width(), memory_bytes, self.memory64)
    }
}

/// What a rewritten module needs from its host, and how it differs from the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The added functions that the module imports, in the order of their indices: by memory, then wait32, wait64,
    /// notify. Only what the module uses is there, and at least one wait; nothing in a grate that waits nowhere.
    pub imports: Vec<WaitImport>,
    /// The exports that the original does not have: memories, and in a grate what [`GratePlan`](super::GratePlan)
    /// lists.
    pub added_exports: Vec<String>,
    /// The function index of the first added import: how many functions the original imports.
    pub first_function: u32,
    /// The index of the init function of a grate: the last of all functions.
    pub init_function: Option<u32>,
}

impl Plan {
    /// Takes a function index of the rewritten module to the original's numbering; `None` for an added function.
    pub fn original_function_index(&self, index: u32) -> Option<u32> {
        if self.init_function.is_some_and(|init| index >= init) {
            return None;
        }
        if index < self.first_function {
            return Some(index);
        }
        let added = u32::try_from(self.imports.len()).ok()?;
        index
            .checked_sub(added)
            .filter(|&original| original >= self.first_function)
    }
}
