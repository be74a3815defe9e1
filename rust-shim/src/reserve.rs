//! Address ranges for linear memories, which are used again.
//!
//! A linear memory takes 4 GiB of addresses and two guards. To reserve them, to open the first pages, to touch each of
//! those for the first time and to give all of it back is a good part of what a short program costs, most of it because every
//! processor of the process has to be told that the pages are gone. So the ranges of memories that are no more are kept,
//! up to a number, with their first pages open and filled with zeros.

use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// The most ranges that are kept.
const MOST: usize = 64;

/// How many bytes of a range that is kept stay open, and with that in memory.
const OPEN: usize = 256 << 10;

/// Part of the address space: a guard, what is reserved for a memory, and another guard.
#[derive(Debug)]
struct Range {
    /// Its lowest address.
    low: usize,
    guard: usize,
    reserved: usize,
    /// How many bytes of what is reserved can be accessed: a multiple of the page size.
    open: usize,
}

impl Range {
    fn new(reserved: usize, guard: usize) -> std::io::Result<Range> {
        let bytes = reserved
            .checked_add(guard)
            .and_then(|bytes| bytes.checked_add(guard))
            .ok_or_else(|| std::io::Error::from_raw_os_error(libc::ENOMEM))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: new addresses, wherever there is room.
        let low = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if low == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Range {
            low: low as usize,
            guard,
            reserved,
            open: 0,
        })
    }

    fn base(&self) -> usize {
        self.low + self.guard
    }

    /// Makes this many bytes accessible, and no more. On failure it is as it was.
    fn set_open(&mut self, bytes: usize) -> std::io::Result<()> {
        let open = bytes.next_multiple_of(page_bytes());
        let (from, to, access) = if open > self.open {
            (self.open, open, libc::PROT_READ | libc::PROT_WRITE)
        } else {
            (open, self.open, libc::PROT_NONE)
        };
        if from < to {
            let at = (self.base() + from) as *mut libc::c_void;
            // SAFETY: these are the range's own addresses, and nothing else has any of them.
            if unsafe { libc::mprotect(at, to - from, access) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        self.open = open;
        Ok(())
    }

    /// Fills what can be accessed with zeros, and closes what is more than is kept open.
    ///
    /// Preconditions: nobody accesses it.
    fn wipe(&mut self) -> std::io::Result<()> {
        let kept = self.open.min(OPEN);
        // SAFETY: the bytes can be accessed, and nobody else does.
        unsafe { (self.base() as *mut u8).write_bytes(0, kept) };
        if self.open > kept {
            let at = (self.base() + kept) as *mut libc::c_void;
            // SAFETY: as above. Private pages that come from no file are zeros when they are next accessed.
            if unsafe { libc::madvise(at, self.open - kept, libc::MADV_DONTNEED) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        self.set_open(kept)
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let bytes = self.reserved + 2 * self.guard;
        // SAFETY: the addresses are the range's own, and nobody uses them any more.
        unsafe { libc::munmap(self.low as *mut libc::c_void, bytes) };
    }
}

fn page_bytes() -> usize {
    // SAFETY: asks only.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The ranges that are kept, all of the same size.
#[derive(Debug, Default)]
struct Kept {
    ranges: Mutex<Vec<Range>>,
}

impl Kept {
    fn ranges(&self) -> MutexGuard<'_, Vec<Range>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A range with this many bytes open, all of them zeros.
    fn take(&self, bytes: usize, reserved: usize, guard: usize) -> std::io::Result<Range> {
        let found = {
            let mut ranges = self.ranges();
            let fits = |range: &Range| (range.reserved, range.guard) == (reserved, guard);
            // Best is one that needs no system call.
            let same = ranges
                .iter()
                .rposition(|range| fits(range) && range.open == bytes)
                .or_else(|| ranges.iter().rposition(fits));
            same.map(|at| ranges.swap_remove(at))
        };
        let mut range = match found {
            Some(range) => range,
            None => Range::new(reserved, guard).or_else(|_| {
                // There may be room when those that are kept are gone.
                let kept = std::mem::take(&mut *self.ranges());
                drop(kept);
                Range::new(reserved, guard)
            })?,
        };
        range.set_open(bytes)?;
        Ok(range)
    }

    /// Keeps a range that no memory has any more, if there is room.
    fn put(&self, mut range: Range) {
        if self.ranges().len() >= MOST || range.wipe().is_err() {
            return;
        }
        let mut ranges = self.ranges();
        if ranges.len() < MOST {
            ranges.push(range);
        } else {
            drop(ranges);
            drop(range); // outside the lock: it unmaps
        }
    }
}

/// Makes the linear memories of an engine.
#[derive(Debug, Default)]
pub struct Reserve(Arc<Kept>);

// SAFETY: a memory's range is its own until it is dropped, its accessible bytes are zeros at first, and the rest of what is
// reserved and both guards cannot be accessed.
unsafe impl MemoryCreator for Reserve {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved
            .unwrap_or(0)
            .max(minimum.next_multiple_of(page_bytes()));
        match self.0.take(minimum, reserved, guard) {
            Ok(range) => Ok(Box::new(Linear {
                range: Some(range),
                bytes: minimum,
                kept: self.0.clone(),
            })),
            Err(err) => Err(format!("{reserved} bytes of addresses for a memory: {err}")),
        }
    }
}

/// A linear memory.
struct Linear {
    /// There until it is dropped.
    range: Option<Range>,
    bytes: usize,
    kept: Arc<Kept>,
}

impl Linear {
    fn range(&self) -> &Range {
        self.range.as_ref().expect("it is taken by drop alone")
    }
}

// SAFETY: see `Reserve`.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        self.bytes
    }

    fn byte_capacity(&self) -> usize {
        self.range().reserved
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let range = self.range.as_mut().expect("it is taken by drop alone");
        if bytes > range.reserved {
            return Err(wasmtime::format_err!("no more addresses are reserved"));
        }
        if bytes > range.open {
            range.set_open(bytes)?;
        }
        self.bytes = bytes;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.range().base() as *mut u8
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        if let Some(range) = self.range.take() {
            self.kept.put(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: usize = 4 << 30;
    const GUARD: usize = 32 << 20;

    fn memory(reserve: &Reserve, bytes: usize) -> Box<dyn LinearMemory> {
        let ty = MemoryType::new(0, None);
        reserve
            .new_memory(ty, bytes, None, Some(RESERVED), GUARD)
            .unwrap()
    }

    fn bytes(memory: &mut dyn LinearMemory) -> &mut [u8] {
        // SAFETY: the test is the only user, and uses one at a time.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
    }

    /// Whether a byte can be read, as the kernel sees it.
    fn readable(at: *const u8) -> bool {
        let mut ends = [0; 2];
        // SAFETY: a pipe of the test's own; write(2) answers EFAULT for what cannot be read.
        unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            let wrote = libc::write(ends[1], at.cast(), 1);
            libc::close(ends[0]);
            libc::close(ends[1]);
            wrote == 1
        }
    }

    #[test]
    fn a_range_comes_back_with_zeros_and_nothing_more_open() {
        let reserve = Reserve::default();
        for (first, grown, second) in [
            (65536, 65536, 65536),
            (65536, 3 * 65536, 65536),
            (65536, 4 << 20, 65536),
            (4 << 20, 9 << 20, 4 << 20),
            (0, 65536, 131_072),
            (131_072, 131_072, 0),
            (1 << 20, 1 << 20, 65536),
        ] {
            let mut memory = memory(&reserve, first);
            memory.grow_to(grown).unwrap();
            bytes(&mut *memory).fill(0xa5);
            let at = memory.as_ptr();
            drop(memory);
            let mut memory = self::memory(&reserve, second);
            assert_eq!(memory.as_ptr(), at, "the range is used again");
            assert_eq!(memory.byte_size(), second);
            assert!(bytes(&mut *memory).iter().all(|&byte| byte == 0));
            // SAFETY: within the reservation; nothing is accessed.
            unsafe {
                assert!(second == 0 || readable(at.add(second - 1)));
                assert!(!readable(at.add(second)));
                assert!(!readable(at.add(grown.max(second))));
                assert!(!readable(at.sub(1)));
                assert!(!readable(at.add(RESERVED)));
            }
            drop(memory);
        }
    }

    #[test]
    fn two_memories_never_share_a_range() {
        let reserve = Reserve::default();
        let all: Vec<_> = (0..MOST + 8).map(|_| memory(&reserve, 65536)).collect();
        let mut bases: Vec<_> = all.iter().map(|memory| memory.as_ptr() as usize).collect();
        bases.sort_unstable();
        assert!(
            bases
                .windows(2)
                .all(|two| two[1] - two[0] >= RESERVED + GUARD)
        );
        drop(all);
        assert_eq!(reserve.0.ranges().len(), MOST, "no more are kept");
    }

    #[test]
    fn a_memory_grows_within_its_reservation_only() {
        let reserve = Reserve::default();
        let mut memory = memory(&reserve, 65536);
        bytes(&mut *memory)[7] = 7;
        let at = memory.as_ptr();
        memory.grow_to(8 << 20).unwrap();
        assert_eq!((memory.as_ptr(), memory.byte_size()), (at, 8 << 20));
        assert_eq!(bytes(&mut *memory)[7], 7);
        assert!(bytes(&mut *memory)[65536..].iter().all(|&byte| byte == 0));
        assert!(memory.grow_to(RESERVED + 65536).is_err());
        assert_eq!(memory.byte_size(), 8 << 20, "as it was");
    }

    #[test]
    fn one_that_needs_more_than_the_others_is_given_that() {
        let reserve = Reserve::default();
        drop(memory(&reserve, 65536));
        let ty = MemoryType::new(0, None);
        let large = RESERVED + (1 << 20);
        let made = reserve.new_memory(ty, large, None, Some(RESERVED), GUARD);
        assert_eq!(made.unwrap().byte_capacity(), large);
    }

    #[test]
    fn without_addresses_it_says_so() {
        let reserve = Reserve::default();
        drop(memory(&reserve, 65536));
        let ty = MemoryType::new(0, None);
        let made = reserve.new_memory(ty, 0, None, Some(1 << 50), GUARD);
        let text = made.err().expect("there are fewer addresses than that");
        assert!(text.contains("bytes of addresses"), "{text}");
        assert_eq!(
            reserve.0.ranges().len(),
            0,
            "what was kept has been given up"
        );
    }
}
