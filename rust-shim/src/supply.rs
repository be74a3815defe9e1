//! What a domain supplies to a module that imports its memory: the shared memory, and the instantiation with it.
//!
//! To make the two takes longer than all the rest of a short program. So a module keeps some of domains that are no more,
//! for the next ones: wiped, and only those that are as large as a new one.

use crate::thread::Context;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wasmtime::{InstancePre, MemoryType, SharedMemory};

/// The most that are kept for a module.
const MOST: usize = 16;

/// The largest memory that is kept, in bytes: all of it is wiped, and stays in memory.
const LARGEST: usize = 256 << 10;

/// What a domain supplies.
pub struct Supply {
    /// The memory.
    pub memory: SharedMemory,
    /// The module's instantiation, with the memory among the imports.
    pub pre: InstancePre<Context>,
}

impl std::fmt::Debug for Supply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supply")
            .field("memory", &self.memory.ty())
            .finish_non_exhaustive()
    }
}

/// What a module keeps.
#[derive(Default)]
pub struct Supplies {
    /// Guarded by the mutex.
    kept: Mutex<Vec<Supply>>,
}

impl std::fmt::Debug for Supplies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supplies").finish_non_exhaustive()
    }
}

impl Supplies {
    fn kept(&self) -> MutexGuard<'_, Vec<Supply>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One with a memory of this type, which is one that the module can import: as new.
    pub fn take(&self, ty: &MemoryType) -> Option<Supply> {
        let mut kept = self.kept();
        // The module fixes all of a type but the maximum.
        let at = kept
            .iter()
            .rposition(|it| it.memory.ty().maximum() == ty.maximum());
        at.map(|at| kept.swap_remove(at))
    }

    /// Keeps one for the next domain, if it can be as new.
    ///
    /// # Safety
    ///
    /// Nobody else has the memory, or an instance with it.
    pub unsafe fn give(&self, supply: Supply) {
        let bytes = supply.memory.data();
        let as_new = supply.memory.size() == supply.memory.ty().minimum();
        if !as_new || bytes.len() > LARGEST || self.kept().len() >= MOST {
            return;
        }
        // SAFETY: the bytes are the memory's, and nobody accesses them.
        unsafe { (bytes.as_ptr() as *mut u8).write_bytes(0, bytes.len()) };
        let mut kept = self.kept();
        if kept.len() < MOST {
            kept.push(supply);
        } else {
            drop(kept);
            drop(supply); // outside the lock: it unmaps memory
        }
    }
}
