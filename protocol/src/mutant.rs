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
    /// Consumers are shown what is not committed.
    ReadAboveHighWatermark,
    /// Readers of committed records are shown those of open transactions.
    ReadPastLastStable,
    /// The end of a transaction of version 2 does not raise the producer's epoch.
    KeepEpochAtEnd,
    /// A late marker of the transaction before ends the next one.
    TakeEqualEpochMarkers,
    /// The producer id that a client was told to use next is not in the coordinator's log.
    LoseNextProducerId,
    /// A coordinator answers before what it says is committed.
    ReplyBeforeCommit,
    /// Offsets are committed in the name of a generation that is over.
    TakeStaleCommits,
    /// Only four batches of a producer are remembered.
    ForgetOneOfFive,
    /// The sequence after the largest is one.
    WrapSequenceToOne,
    /// Whatever version 1 writes in a transaction is let through, open or not.
    SkipVerification,
    /// What was verified may open a transaction again behind its marker.
    SkipVerificationGuard,
    /// The mark of a clean shutdown stays when the directory is used again.
    KeepCleanMark,
    /// The names of new files are not made durable.
    SkipDirSync,
    /// A sync that failed is tried again, and believed.
    RetryFailedSync,
    /// A checkpoint says of a log what was true before some of it was cut off.
    BelieveVoidNotes,
    /// Compaction goes beyond the last stable offset.
    CompactUnstable,
    /// The metadata log is not synced before it answers: neither votes nor entries.
    SkipQuorumSync,
    /// A sink commits the offsets of what it does not hold durably.
    CommitUndurable,
}

impl Mutant {
    /// Those that a simulation of one broker's thinking alone must notice.
    pub const FAST: [Self; 11] = [
        Self::ReadAboveHighWatermark,
        Self::ReadPastLastStable,
        Self::KeepEpochAtEnd,
        Self::TakeEqualEpochMarkers,
        Self::LoseNextProducerId,
        Self::ReplyBeforeCommit,
        Self::TakeStaleCommits,
        Self::ForgetOneOfFive,
        Self::WrapSequenceToOne,
        Self::SkipVerification,
        Self::SkipVerificationGuard,
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
