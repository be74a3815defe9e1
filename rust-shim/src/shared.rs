//! Shared memories, in ranges that are used again.
//!
//! Wasmtime has a memory that the host makes reserve addresses of its own; only an instance's memories come from the
//! engine's [`crate::reserve`]. So a shared memory is that of an instance of a module which has nothing else, and outlives
//! the instance.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use wasm_encoder::{ExportKind, ExportSection, MemorySection};
use wasmtime::{InstancePre, Linker, MemoryType, SharedMemory, Store};

/// The name of the export.
const NAME: &str = "memory";

/// How many types are remembered.
const MOST: usize = 64;

/// What makes shared memories for one of Wasmtime's engines.
#[derive(Default)]
pub struct SharedMemories {
    /// A module for each type. Guarded by the mutex.
    by_type: Mutex<HashMap<Limits, InstancePre<()>>>,
}

/// All that tells one type from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Limits {
    minimum: u64,
    maximum: Option<u64>,
    memory64: bool,
}

impl std::fmt::Debug for SharedMemories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedMemories").finish_non_exhaustive()
    }
}

impl SharedMemories {
    /// A shared memory of this type, of 64 KiB pages.
    ///
    /// # Errors
    ///
    /// There are no addresses for it.
    pub fn make(
        &self,
        engine: &wasmtime::Engine,
        ty: &MemoryType,
    ) -> wasmtime::Result<SharedMemory> {
        let limits = Limits {
            minimum: ty.minimum(),
            maximum: ty.maximum(),
            memory64: ty.is_64(),
        };
        let pre = self.module(engine, limits)?;
        let mut store = Store::new(engine, ());
        pre.instantiate(&mut store)?
            .get_shared_memory(&mut store, NAME)
            .ok_or_else(|| wasmtime::format_err!("the memory is not shared"))
    }

    fn module(
        &self,
        engine: &wasmtime::Engine,
        limits: Limits,
    ) -> wasmtime::Result<InstancePre<()>> {
        let mut by_type = self.by_type.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pre) = by_type.get(&limits) {
            return Ok(pre.clone());
        }
        let mut memories = MemorySection::new();
        memories.memory(wasm_encoder::MemoryType {
            minimum: limits.minimum,
            maximum: limits.maximum,
            memory64: limits.memory64,
            shared: true,
            page_size_log2: None,
        });
        let mut exports = ExportSection::new();
        exports.export(NAME, ExportKind::Memory, 0);
        let mut module = wasm_encoder::Module::new();
        module.section(&memories).section(&exports);
        let module = wasmtime::Module::new(engine, module.finish())?;
        let pre = Linker::new(engine).instantiate_pre(&module)?;
        if by_type.len() >= MOST {
            by_type.clear(); // a host with so many limits goes on without
        }
        by_type.insert(limits, pre.clone());
        Ok(pre)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reserve::Reserve;
    use std::sync::Arc;

    fn engine() -> wasmtime::Engine {
        let mut config = wasmtime::Config::new();
        config
            .shared_memory(true)
            .memory_init_cow(false)
            .memory_reservation(4 << 30)
            .memory_may_move(false)
            .with_host_memory(Arc::new(Reserve::default()));
        wasmtime::Engine::new(&config).unwrap()
    }

    #[test]
    fn a_memory_outlives_what_made_it_and_its_range_comes_back() {
        let (engine, memories) = (engine(), SharedMemories::default());
        let ty = MemoryType::shared(1, 3);
        let memory = memories.make(&engine, &ty).unwrap();
        assert_eq!((memory.size(), memory.ty().maximum()), (1, Some(3)));
        let other = memories.make(&engine, &ty).unwrap();
        assert_ne!(memory.data().as_ptr(), other.data().as_ptr());
        memory.grow(2).unwrap();
        assert!(memory.grow(1).is_err());
        let at = memory.data().as_ptr();
        drop(memory);
        let again = memories.make(&engine, &MemoryType::shared(2, 9)).unwrap();
        assert_eq!((again.data().as_ptr(), again.size()), (at, 2));
    }

    #[test]
    fn types_without_number_are_not_remembered() {
        let (engine, memories) = (engine(), SharedMemories::default());
        for maximum in 1..=2 * MOST as u32 + 1 {
            let memory = memories.make(&engine, &MemoryType::shared(1, maximum));
            assert_eq!(memory.unwrap().ty().maximum(), Some(maximum.into()));
        }
        assert!(memories.by_type.lock().unwrap().len() <= MOST);
    }
}
