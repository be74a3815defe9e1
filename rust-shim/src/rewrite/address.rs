//! This file implements the address check of the atomic instructions, which Wasmtime compiles into the guest's code and
//! the libcalls behind it, for host functions that stand in their place.

use wasmtime::Trap;

/// Answers the effective address of a wait or notify, or the trap that the native instruction raises.
///
/// `addr` is the address operand (zero-extended, if the memory has 32-bit indices), `offset` the instruction's
/// immediate, `width` the bytes that it looks at (4 for `wait32` and `notify`, 8 for `wait64`; a power of two),
/// `memory_bytes` the memory's length at this moment, which the caller reads anew for each call as the memory may
/// have grown.
///
/// The checks stand in the order of Wasmtime 48, which one can observe when an address is wrong in two ways:
/// 1. `addr + offset` does not fit the memory's index type: [`Trap::MemoryOutOfBounds`]
///    (cranelift `code_translator.rs`, `uadd_overflow_trap`; 32 bits wide in a 32-bit memory).
/// 2. The sum is not a multiple of `width`: [`Trap::HeapMisaligned`] (`vm/memory.rs`, `validate_atomic_addr`).
/// 3. The `width` bytes do not end within the memory: [`Trap::MemoryOutOfBounds`] (the same function).
///
/// All of it comes before anything else that the instruction does: a wait on a bad address traps whatever its expected
/// value and timeout are, and a notify of zero waiters on a bad address traps too.
///
/// # Errors
/// The trap to raise in the guest.
pub fn check_address(
    addr: u64,
    offset: u64,
    width: u64,
    memory_bytes: u64,
    memory64: bool,
) -> Result<u64, Trap> {
    debug_assert!(width.is_power_of_two(), "width {width}");
    let highest = if memory64 {
        u64::MAX
    } else {
        u64::from(u32::MAX)
    };
    let effective = addr
        .checked_add(offset)
        .filter(|&sum| sum <= highest)
        .ok_or(Trap::MemoryOutOfBounds)?;
    if !effective.is_multiple_of(width) {
        return Err(Trap::HeapMisaligned);
    }
    match effective.checked_add(width) {
        Some(end) if end <= memory_bytes => Ok(effective),
        _ => Err(Trap::MemoryOutOfBounds),
    }
}

#[cfg(test)]
mod tests {
    use super::check_address;
    use wasmtime::Trap::{HeapMisaligned, MemoryOutOfBounds};

    const PAGE: u64 = 65536;

    #[test]
    fn the_last_aligned_word_is_in_bounds_and_the_next_is_not() {
        for memory64 in [false, true] {
            for width in [4, 8] {
                let last = PAGE - width;
                assert_eq!(check_address(last, 0, width, PAGE, memory64), Ok(last));
                assert_eq!(check_address(4, last - 4, width, PAGE, memory64), Ok(last));
                assert_eq!(
                    check_address(PAGE, 0, width, PAGE, memory64),
                    Err(MemoryOutOfBounds)
                );
            }
        }
    }

    #[test]
    fn overflow_of_the_index_type_comes_before_misalignment() {
        let top32 = u64::from(u32::MAX);
        assert_eq!(
            check_address(top32, 2, 4, PAGE, false),
            Err(MemoryOutOfBounds)
        );
        assert_eq!(check_address(top32, 2, 4, PAGE, true), Err(HeapMisaligned));
        assert_eq!(
            check_address(u64::MAX, 2, 4, PAGE, true),
            Err(MemoryOutOfBounds)
        );
        assert_eq!(
            check_address(top32 - 1, 1, 4, PAGE, false),
            Err(HeapMisaligned)
        );
    }

    #[test]
    fn misalignment_comes_before_the_end_of_the_memory() {
        assert_eq!(
            check_address(PAGE + 1, 0, 4, PAGE, false),
            Err(HeapMisaligned)
        );
        assert_eq!(
            check_address(PAGE + 4, 0, 8, PAGE, false),
            Err(HeapMisaligned)
        );
        assert_eq!(
            check_address(PAGE + 4, 0, 4, PAGE, false),
            Err(MemoryOutOfBounds)
        );
        assert_eq!(
            check_address(u64::MAX - 7, 0, 8, PAGE, true),
            Err(MemoryOutOfBounds)
        );
        assert_eq!(check_address(0, 0, 4, 0, false), Err(MemoryOutOfBounds));
    }
}
