//! Changes that make the code wrong, for loom to find: its tests show so that they can fail.

/// One of them. In the shim none is ever made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Who enters adds one first, and takes it back if the gate is closed.
    EnterAdds,
    /// Who enters does not compare the gate's generation.
    EnterAnyGeneration,
    /// Who closes the gate is not counted in.
    CloseUncounted,
    /// The gate is read without an order.
    GateRelaxed,
    /// A wait does not read the gate again after it has published its address.
    ParkUnchecked,
    /// A wait publishes no address.
    ParkUnpublished,
    /// A thread that wakes does not look whether it was claimed.
    UnparkUnchecked,
    /// A stop claims without looking whether the thread sleeps.
    ClaimUnchecked,
    /// A thread counts itself out without looking whether it was claimed.
    DepartUnchecked,
    /// A thread of the pool that has nothing to do does not look whether the pool is being closed.
    IdleUnchecked,
    /// A job is put into the mailbox of an idle thread that is left in the list.
    IdleKept,
    /// The last thread of the pool says nothing.
    EmptyUntold,
    /// A thread that comes back says nothing to who waits for room.
    RoomUntold,
    /// Who gives up says nothing to its thread that waits for room.
    ShakeUntold,
    /// Who gives a worker back looks for waiters before the worker is idle.
    HandOverEarly,
    /// Who waits for a worker does not look for an idle one again.
    WaitUnchecked,
    /// A worker that is handed to nobody is given back outside the queue's lock.
    HandOverUnlocked,
    /// Whether somebody waits is read without an order.
    WaitingRelaxed,
}
