//! The handler table, as far as the shim reads it: who serves a system call of a cage.
//!
//! The host owns the table and writes it. For each cage it has a word with the address of the cage's row, or 0 if nobody
//! interposes on it. A row has a version and two halves, of which the version's lowest bit names the one that counts:
//! single entries are changed in place, and a whole row at once by filling the other half and raising the version. A row
//! is never unmapped, so that a reader which comes late reads an old entry and nothing worse.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How many calls a row has entries for. Calls with higher numbers have no handler.
pub(crate) const CALLS: u64 = 1024;

/// Where the halves begin: on the row's second cache line.
const HALVES: usize = 64 / size_of::<AtomicU64>();

/// Who serves a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// The host.
    Native,
    /// A grate: its port, and a place in its function table.
    Grate {
        /// See the module `port`.
        port: u64,
        /// The index in the grate's function table.
        function: u32,
    },
    /// A grate that is gone. What it guarded stays closed.
    Gone,
}

impl Handler {
    /// Decodes an entry. What no writer writes is taken as gone: it never opens what may have been guarded.
    #[inline]
    pub fn from_entry(entry: u64) -> Self {
        match entry {
            0 => Handler::Native,
            _ if entry >> 62 == 1 => Handler::Grate {
                port: (entry & !(3 << 62)) >> 24,
                function: entry as u32 & 0xff_ffff,
            },
            _ => Handler::Gone,
        }
    }
}

/// A cage's word in the host's directory; null for a domain whose calls nobody ever interposes on.
#[derive(Clone, Copy, Debug)]
pub struct Handlers(*const AtomicU64);

// SAFETY: the word and the rows that it leads to are only ever read here, atomically, and outlive the domain.
unsafe impl Send for Handlers {}
// SAFETY: as above.
unsafe impl Sync for Handlers {}

impl Handlers {
    /// The directory word at this address.
    ///
    /// # Safety
    ///
    /// `word` is null, or points to a word that holds 0 or the address of a row; both stay mapped for good.
    pub unsafe fn new(word: *const u64) -> Self {
        Handlers(word.cast())
    }

    /// Who serves this call now. Wait-free, but for a writer that replaces the row over and over.
    #[inline]
    pub fn find(self, call: u64) -> Handler {
        if self.0.is_null() || call >= CALLS {
            return Handler::Native;
        }
        // SAFETY: the contract of `new`.
        let row = unsafe { (*self.0).load(Ordering::Acquire) } as *const AtomicU64;
        if row.is_null() {
            return Handler::Native;
        }
        loop {
            // SAFETY: a row has a version and, from `HALVES` on, two halves of `CALLS` entries each.
            let entry = unsafe {
                let version = (*row).load(Ordering::Acquire);
                let half = HALVES + (version & 1) as usize * CALLS as usize;
                let entry = (*row.add(half + call as usize)).load(Ordering::SeqCst);
                fence(Ordering::Acquire);
                if (*row).load(Ordering::Relaxed) != version {
                    continue; // the other half counts by now, and this one may be being filled
                }
                entry
            };
            return Handler::from_entry(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Row(Box<[AtomicU64]>);

    impl Row {
        fn new() -> Self {
            Row((0..HALVES + 2 * CALLS as usize)
                .map(|_| AtomicU64::new(0))
                .collect())
        }

        fn set(&self, half: usize, call: usize, entry: u64) {
            self.0[HALVES + half * CALLS as usize + call].store(entry, Ordering::SeqCst);
        }
    }

    fn handlers(word: &AtomicU64) -> Handlers {
        // SAFETY: the word outlives the test.
        unsafe { Handlers::new(word.as_ptr()) }
    }

    #[test]
    fn entries_are_read_as_they_are_written() {
        assert_eq!(Handler::from_entry(0), Handler::Native);
        let entry = 1 << 62 | 0x3f_ffff << 40 | 0xabcd << 24 | 0x12_3456;
        let grate = Handler::Grate {
            port: 0x3f_ffff << 16 | 0xabcd,
            function: 0x12_3456,
        };
        assert_eq!(Handler::from_entry(entry), grate);
        for gone in [3 << 62, 2 << 62, u64::MAX, 1, entry & !(1 << 62)] {
            assert_eq!(Handler::from_entry(gone), Handler::Gone, "{gone:#x}");
        }
    }

    #[test]
    fn no_row_no_word_and_high_numbers_are_native() {
        let word = AtomicU64::new(0);
        assert_eq!(handlers(&word).find(1), Handler::Native);
        // SAFETY: null is allowed.
        assert_eq!(
            unsafe { Handlers::new(std::ptr::null()) }.find(1),
            Handler::Native
        );
        let row = Row::new();
        word.store(row.0.as_ptr() as u64, Ordering::SeqCst);
        row.set(0, 1023, u64::MAX);
        assert_eq!(handlers(&word).find(1023), Handler::Gone);
        assert_eq!(handlers(&word).find(1024), Handler::Native);
        assert_eq!(handlers(&word).find(u64::MAX), Handler::Native);
    }

    /// A row that is replaced as a whole is never seen half replaced: both its entries are of the same copy.
    #[test]
    fn a_copy_is_seen_whole_or_not_at_all() {
        let (word, row) = (AtomicU64::new(0), Arc::new(Row::new()));
        word.store(row.0.as_ptr() as u64, Ordering::SeqCst);
        let its = row.clone();
        let writer = std::thread::spawn(move || {
            for version in 1..200_000_u64 {
                let half = (version & 1) as usize;
                for call in [3, 900] {
                    its.set(half, call, 1 << 62 | version);
                }
                its.0[0].store(version, Ordering::SeqCst);
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let before = row.0[0].load(Ordering::SeqCst);
            for call in [3, 900] {
                let version = match handlers(&word).find(call) {
                    Handler::Native => 0,
                    Handler::Grate { function, .. } => u64::from(function),
                    Handler::Gone => panic!("nobody wrote that"),
                };
                // What is found is no older than the version that was there before, and never goes back.
                assert!(version >= before && version >= last);
                last = version;
            }
        }
        writer.join().unwrap();
    }
}
