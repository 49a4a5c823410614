//! Deliberate mistakes, switched on by tests to see that they are caught.
//!
//! A test suite that has never failed proves nothing. Each [`Mutant`] is one mistake that somebody
//! could make; the code asks [`is_active`] where it would be made. Without the feature `check` the
//! answer is a constant and nothing of it is left in the program. Active per thread: a simulation
//! runs on one.
//!
//! Pure.

use std::cell::Cell;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The broker acknowledges before the record is written.
    AckBeforeWrite,
    /// The broker forgets, at recovery, what producers it knew.
    ForgetProducersOnRecovery,
    /// A Streams app commits its input offsets outside of its transaction.
    OffsetsOutsideTransaction,
    /// A store keeps the uncommitted writes of an aborted transaction.
    KeepAbortedWrites,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::AckBeforeWrite,
        Self::ForgetProducersOnRecovery,
        Self::OffsetsOutsideTransaction,
        Self::KeepAbortedWrites,
    ];
}

thread_local! {
    static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Makes this mistake from now on, on this thread; `None`: no mistake.
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether this mistake is to be made here.
#[must_use]
pub fn is_active(mutant: Mutant) -> bool {
    cfg!(any(test, feature = "check")) && ACTIVE.get() == Some(mutant)
}
