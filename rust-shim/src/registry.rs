//! Handles: numbers that the C ABI gives out for objects, checked for their generation, so that a stale or forged one is
//! an error and never another object.

use crate::error::{Error, Result, Status};
use std::sync::{Arc, PoisonError, RwLock};

/// A table of objects of one kind. A handle is the kind in the top byte, the generation in the next three bytes and the
/// index in the low four.
#[derive(Debug)]
pub struct Registry<T> {
    kind: u8,
    what: &'static str,
    slots: RwLock<Slots<T>>,
}

#[derive(Debug)]
struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    object: Option<Arc<T>>,
}

const GENERATIONS: u32 = 1 << 24;

impl<T> Registry<T> {
    /// An empty table. `kind` is not 0 and differs between tables; `what` names the objects in errors.
    pub const fn new(kind: u8, what: &'static str) -> Self {
        Registry {
            kind,
            what,
            slots: RwLock::new(Slots {
                entries: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    fn handle(&self, index: u32, generation: u32) -> u64 {
        u64::from(self.kind) << 56 | u64::from(generation) << 32 | u64::from(index)
    }

    fn stale(&self, handle: u64) -> Error {
        Error::new(
            Status::Handle,
            format!(
                "{handle:#x} is no live {}: it was deleted, or is a handle of another kind",
                self.what
            ),
        )
    }

    /// Adds an object. `make` gets the handle that it will have.
    pub fn insert(&self, make: impl FnOnce(u64) -> Arc<T>) -> u64 {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let index = match slots.free.pop() {
            Some(index) => index,
            None => {
                slots.entries.push(Entry {
                    generation: 1,
                    object: None,
                });
                (slots.entries.len() - 1) as u32
            }
        };
        let generation = slots.entries[index as usize].generation;
        let handle = self.handle(index, generation);
        slots.entries[index as usize].object = Some(make(handle));
        handle
    }

    /// The object with the handle.
    pub fn find(&self, handle: u64) -> Result<Arc<T>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let index = handle as u32;
        slots
            .entries
            .get(index as usize)
            .filter(|entry| self.handle(index, entry.generation) == handle)
            .and_then(|entry| entry.object.clone())
            .ok_or_else(|| self.stale(handle))
    }

    /// Takes the object out: from here on its handle is stale.
    pub fn remove(&self, handle: u64) -> Result<Arc<T>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let index = handle as u32;
        let generation = match slots.entries.get(index as usize) {
            Some(entry) if self.handle(index, entry.generation) == handle => entry.generation,
            _ => return Err(self.stale(handle)),
        };
        let entry = &mut slots.entries[index as usize];
        let Some(object) = entry.object.take() else {
            return Err(self.stale(handle));
        };
        entry.generation = (generation + 1) % GENERATIONS;
        // An entry whose generations are used up is retired, so that no handle is ever given out twice.
        if entry.generation != 0 {
            slots.free.push(index);
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_never_finds_the_next_object() {
        let registry = Registry::new(7, "thing");
        let first = registry.insert(|_| Arc::new(1));
        assert_eq!(*registry.remove(first).unwrap(), 1);
        let second = registry.insert(|_| Arc::new(2));
        assert_eq!(first as u32, second as u32, "the entry is reused");
        assert_eq!(registry.find(first).unwrap_err().status, Status::Handle);
        assert_eq!(registry.remove(first).unwrap_err().status, Status::Handle);
        assert_eq!(*registry.find(second).unwrap(), 2);
    }

    #[test]
    fn a_forged_handle_is_an_error() {
        let registry = Registry::new(7, "thing");
        let handle = registry.insert(|_| Arc::new(1));
        for forged in [
            0,
            1,
            u64::MAX,
            handle + 1,
            handle ^ 1 << 56,
            handle ^ 1 << 32,
        ] {
            assert_eq!(registry.find(forged).unwrap_err().status, Status::Handle);
        }
    }

    #[test]
    fn generations_that_are_used_up_retire_the_entry() {
        let registry = Registry::new(7, "thing");
        let handle = registry.insert(|_| Arc::new(1));
        registry.slots.write().unwrap().entries[0].generation = GENERATIONS - 1;
        let last = registry.handle(0, GENERATIONS - 1);
        registry.remove(last).unwrap();
        let next = registry.insert(|_| Arc::new(2));
        assert_ne!(next as u32, handle as u32);
    }
}
