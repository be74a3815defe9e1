//! What a domain supplies to a module that imports its memory: the shared memory, and the instantiation with it.
//!
//! To make the two is a good part of what a short program costs. So a module keeps some of domains that are no more,
//! for the next ones: wiped, and only those that are as large as a new one.

use crate::thread::Context;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::{InstancePre, MemoryType, SharedMemory};

/// The most that are kept for all modules of an engine.
const MOST: usize = 64;

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
pub struct Supplies {
    /// Guarded by the mutex.
    kept: Mutex<Vec<Supply>>,
    /// How many all modules of the engine keep.
    all: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Supplies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supplies").finish_non_exhaustive()
    }
}

impl Supplies {
    /// Those of a module, which keeps none yet. `all` is the engine's.
    pub fn new(all: Arc<AtomicUsize>) -> Self {
        Supplies {
            kept: Mutex::default(),
            all,
        }
    }

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
        let it = at.map(|at| kept.swap_remove(at))?;
        self.all.fetch_sub(1, Ordering::Relaxed);
        Some(it)
    }

    /// Keeps one for the next domain, if it can be as new.
    ///
    /// # Safety
    ///
    /// Nobody else has the memory, or an instance with it.
    pub unsafe fn give(&self, supply: Supply) {
        let bytes = supply.memory.data();
        let as_new = supply.memory.size() == supply.memory.ty().minimum();
        if !as_new || bytes.len() > LARGEST {
            return;
        }
        if self.all.fetch_add(1, Ordering::Relaxed) >= MOST {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // SAFETY: the bytes are the memory's, and nobody accesses them.
        unsafe { (bytes.as_ptr() as *mut u8).write_bytes(0, bytes.len()) };
        self.kept().push(supply);
    }
}

impl Drop for Supplies {
    fn drop(&mut self) {
        let kept = std::mem::take(&mut *self.kept());
        self.all.fetch_sub(kept.len(), Ordering::Relaxed);
    }
}
