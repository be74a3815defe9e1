//! Ports: the numbers by which handler entries name grates, and the way from such a number into a grate's gate.
//!
//! A caller has nothing but the number, and the grate may be gone, or another have its place. So the table of ports is
//! never given back, and what a port leads to is taken only if the generation was the same before and after it was read.
//! That gives a gate and its generation; entering compares the latter once more, in the step that counts the caller in
//! (see `gate`). Inside the gate the grate cannot go away.

use crate::error::{Error, Result, Status};
use crate::gate::{Gate, Hinge};
use crate::grate::Grate;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

const INDICES: usize = 1 << 16;
const INDEX_BITS: u32 = 16;
/// Generations have 22 bits in a handler entry, and 0 is none.
const GENERATIONS: u32 = 1 << 22;

/// One port. The fields after the generation count while that is not 0.
struct Port {
    generation: AtomicU32,
    hinge: AtomicPtr<Hinge>,
    gate_generation: AtomicU64,
    grate: AtomicPtr<Grate>,
}

static PORTS: [Port; INDICES] = [const {
    Port {
        generation: AtomicU32::new(0),
        hinge: AtomicPtr::new(null_mut()),
        gate_generation: AtomicU64::new(0),
        grate: AtomicPtr::new(null_mut()),
    }
}; INDICES];

/// The indices that may be given out, each with the generation it will have. Guarded by the mutex.
struct Free {
    used: usize,
    again: Vec<(u32, u32)>,
}

static FREE: Mutex<Free> = Mutex::new(Free {
    used: 0,
    again: Vec::new(),
});

/// Opens a port to the grate behind this gate.
///
/// # Safety
///
/// `grate` stays where it is until the gate is drained.
pub unsafe fn open(gate: &Gate, grate: *const Grate) -> Result<u64> {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let (index, generation) = match free.again.pop() {
        Some(again) => again,
        None if free.used < INDICES => {
            free.used += 1;
            (free.used as u32 - 1, 1)
        }
        None => {
            return Err(Error::new(
                Status::Limit,
                format!("there are {INDICES} grates already"),
            ));
        }
    };
    let port = &PORTS[index as usize];
    let (hinge, gate_generation) = gate.hinge();
    // Release: a reader that sees one of these also sees the generation 0 that was there before, or a later one.
    port.hinge
        .store(std::ptr::from_ref(hinge).cast_mut(), Ordering::Release);
    port.gate_generation
        .store(gate_generation, Ordering::Release);
    port.grate.store(grate.cast_mut(), Ordering::Release);
    port.generation.store(generation, Ordering::Release);
    Ok(u64::from(generation) << INDEX_BITS | u64::from(index))
}

/// Closes the port: from here on its number leads nowhere, for good.
pub fn close(port: u64) {
    let (index, generation) = (port as u32 % INDICES as u32, (port >> INDEX_BITS) as u32);
    let closed = PORTS[index as usize].generation.compare_exchange(
        generation,
        0,
        Ordering::SeqCst,
        Ordering::SeqCst,
    );
    // Only once, and an index whose generations are used up is never given out again.
    if closed.is_ok() && generation + 1 < GENERATIONS {
        FREE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .again
            .push((index, generation + 1));
    }
}

/// Enters the gate that the port leads to. The caller is counted in, and leaves by the hinge; the grate stays where it is
/// until then. `None`: it is gone.
#[inline]
pub fn enter(port: u64) -> Option<(&'static Hinge, *const Grate)> {
    let at = &PORTS[port as usize % INDICES];
    let generation = (port >> INDEX_BITS) as u32;
    if generation == 0 || at.generation.load(Ordering::Acquire) != generation {
        return None;
    }
    let hinge = at.hinge.load(Ordering::Acquire);
    let gate_generation = at.gate_generation.load(Ordering::Acquire);
    let grate = at.grate.load(Ordering::Acquire);
    fence(Ordering::Acquire);
    if at.generation.load(Ordering::Relaxed) != generation {
        return None;
    }
    // SAFETY: hinges are never given back, and this one was there while the generation was.
    let hinge = unsafe { hinge.as_ref() }?;
    hinge.enter(gate_generation).then_some((hinge, grate))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grate that nobody looks into.
    const NOWHERE: *const Grate = std::ptr::dangling();

    #[test]
    fn a_port_leads_into_its_gate_until_either_is_closed() {
        let gate = Gate::new();
        // SAFETY: nobody looks into the grate.
        let port = unsafe { open(&gate, NOWHERE) }.unwrap();
        let (hinge, grate) = enter(port).unwrap();
        assert_eq!((grate, gate.inside()), (NOWHERE, 1));
        assert!(!hinge.leave());
        assert!(gate.close());
        assert!(enter(port).is_none());
        assert!(gate.leave());
        close(port);
        close(port);
        assert!(enter(port).is_none());
    }

    #[test]
    fn a_stale_or_forged_number_leads_nowhere() {
        let (first, second) = (Gate::new(), Gate::new());
        // SAFETY: nobody looks into the grates.
        let port = unsafe { open(&first, NOWHERE) }.unwrap();
        close(port);
        // Others may open ports meanwhile: take them until this index comes round.
        let mut others = Vec::new();
        let again = loop {
            // SAFETY: as above.
            let next = unsafe { open(&second, NOWHERE) }.unwrap();
            if next as u32 % INDICES as u32 == port as u32 % INDICES as u32 {
                break next;
            }
            others.push(next);
        };
        assert_ne!(port, again);
        assert!(enter(port).is_none());
        assert_eq!(second.inside(), 0);
        for forged in [
            0,
            u64::MAX,
            again & 0xffff,
            again + (1 << INDEX_BITS),
            0xffff,
        ] {
            assert!(enter(forged).is_none(), "{forged:#x}");
        }
        others.into_iter().chain([again]).for_each(close);
    }
}
