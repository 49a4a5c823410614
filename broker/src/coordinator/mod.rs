//! State machines that live in a partition.
//!
//! A coordinator's state is a fold over the records of one partition of an internal topic: a
//! [`Shard`]. Whoever leads the partition loads the shard and serves it, alone. Requests become an
//! [`Outcome`]: records to append, and replies. Once the partition has accepted the records (their
//! offsets are assigned) the shard replays them; replies wait until all that they could have seen
//! is committed ([`parked`]). So a reply never tells of state that a crash could take back, and
//! one plain map per shard suffices. On loss of the partition the shard is dropped, never rolled
//! back: the next leader loads it from the log.
//!
//! | state | requests | left when |
//! |---|---|---|
//! | absent: not led here | `NotCoordinator` | the Image makes us leader |
//! | loading | `Loading` | the log end, as of the start of the load, was replayed |
//! | serving | handled in order of arrival | leadership is lost, or an accepted write was lost |
//!
//! Invariants: replay is deterministic; `handle` changes logged state through replay alone; a
//! reply is released at or after the commit of every record replayed before it was made.
//!
//! Pure.

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, ProducerEpoch, ProducerId};
use protocol::time::{Now, Timestamp};
use std::sync::Arc;
use std::time::Duration;

use crate::metadata::Image;
use crate::partition::AppendError;

pub use crate::partition::{EndTxnMarker, VerificationGuard};

pub mod parked;
pub mod route;
pub mod shell;

pub use shell::Coordinator;

/// Names a request until it is answered. Unique within a shard's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One record of a coordinator's log. A missing value deletes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Which thing it says something about.
    pub key: Bytes,
    /// What it says; `None`: the thing is gone.
    pub value: Option<Bytes>,
}

/// Records that go into the log together, in one batch: all are replayed or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// In order.
    pub entries: Vec<KeyValue>,
    /// Set when they belong to a client's open transaction: they take effect at its marker.
    pub producer: Option<(ProducerId, ProducerEpoch)>,
    /// Set when that transaction was verified: no marker of it may have come since. KIP-890.
    pub guard: Option<VerificationGuard>,
}

impl Records {
    /// Records of the coordinator's own.
    #[must_use]
    pub fn own(entries: Vec<KeyValue>) -> Self {
        Self { entries, producer: None, guard: None }
    }
}

/// A record as it stands in the log, for replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Where it stands.
    pub offset: Offset,
    /// When it was written.
    pub timestamp: Timestamp,
    /// What it says.
    pub entry: KeyValue,
    /// Whose open transaction it belongs to, if any.
    pub producer: Option<(ProducerId, ProducerEpoch)>,
}

/// What is let go once everything that led to it is committed.
#[derive(Debug)]
pub enum Release<S: Shard> {
    /// The answer to the request that this token names. Each is answered once.
    Reply(Token, S::Reply),
    /// Work for the room's own shell, such as sending markers.
    Effect(S::Effect),
}

/// What a shard decided.
#[derive(Debug)]
pub struct Outcome<S: Shard> {
    /// To append; `None`: nothing changes.
    pub records: Option<Records>,
    /// To let go once `records`, and all before them, are committed.
    pub releases: Vec<Release<S>>,
}

impl<S: Shard> Outcome<S> {
    /// Nothing to write, nothing to say yet.
    #[must_use]
    pub fn nothing() -> Self {
        Self { records: None, releases: Vec::new() }
    }

    /// An answer that changes nothing.
    #[must_use]
    pub fn reply(token: Token, reply: S::Reply) -> Self {
        Self { records: None, releases: vec![Release::Reply(token, reply)] }
    }

    /// Records, and the answer once they are committed.
    #[must_use]
    pub fn write(entries: Vec<KeyValue>, token: Token, reply: S::Reply) -> Self {
        let records = Some(Records::own(entries));
        Self { records, releases: vec![Release::Reply(token, reply)] }
    }
}

/// The state of a coordinator in one partition. Pure: time comes in as [`Now`].
pub trait Shard: Send + Sized + 'static {
    /// What is asked of it.
    type Request: std::fmt::Debug + Send + 'static;
    /// What it answers.
    type Reply: std::fmt::Debug + Send + 'static;
    /// What its room's shell does for it after a commit.
    type Effect: std::fmt::Debug + Send + 'static;

    /// Decides. Logged state changes in [`Shard::replay`] alone; what is never logged (who waits,
    /// timers) may change here. Several outcomes are appended in order, each as one batch.
    fn handle(
        &mut self,
        now: Now,
        token: Token,
        request: Self::Request,
        outcomes: &mut Vec<Outcome<Self>>,
    );

    /// Takes in a record that the log accepted: at load, and after each append.
    fn replay(&mut self, now: Now, record: &Logged);

    /// Takes in the end of a client's transaction at `offset`: its pending records now count, or
    /// never will.
    fn replay_marker(&mut self, now: Now, marker: EndTxnMarker, offset: Offset);

    /// The metadata are now these. Called before `loaded`, when nothing can be decided yet, and then
    /// before whatever follows a change.
    fn follow(&mut self, _: Arc<Image>, _: &mut Vec<Outcome<Self>>) {}

    /// The log was replayed to its end: timers start now. May decide things, such as resuming
    /// what the last leader left half done.
    fn loaded(&mut self, now: Now, outcomes: &mut Vec<Outcome<Self>>);

    /// What is due at `now` has come due.
    fn tick(&mut self, now: Now, outcomes: &mut Vec<Outcome<Self>>);

    /// When [`Shard::tick`] is due, on the monotonic clock. `None`: never.
    fn wake_at(&self) -> Option<Duration>;

    /// The log refused an outcome's records: undoes what `handle` changed beside the log, and says
    /// what becomes of its releases; mostly, replies that carry `error`.
    fn refused(
        &mut self,
        now: Now,
        error: ErrorCode,
        releases: Vec<Release<Self>>,
    ) -> Vec<Release<Self>>;

    /// Asserts every invariant of the shard.
    #[cfg(any(test, feature = "check"))]
    fn check(&self) {}
}

/// Why a coordinator cannot be asked now. All of it is retriable after a new look-up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The key's partition is not led here.
    #[error("this broker is not the coordinator of {key}")]
    NotCoordinator {
        /// The group or transactional id.
        key: String,
    },
    /// The partition is being replayed.
    #[error("the coordinator of {key} is loading")]
    Loading {
        /// The group or transactional id.
        key: String,
    },
    /// The internal topic does not exist yet, or too much is waiting.
    #[error("the coordinator of {key} is not available")]
    NotAvailable {
        /// The group or transactional id.
        key: String,
    },
}

impl Unavailable {
    /// The code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotCoordinator { .. } => ErrorCode::NotCoordinator,
            Self::Loading { .. } => ErrorCode::CoordinatorLoadInProgress,
            Self::NotAvailable { .. } => ErrorCode::CoordinatorNotAvailable,
        }
    }
}

/// What an append's error means to a coordinator's client: find the coordinator anew, or wait.
#[must_use]
pub fn refusal(error: &AppendError) -> ErrorCode {
    match error.code() {
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownTopicOrPartition => ErrorCode::NotCoordinator,
        ErrorCode::KafkaStorageError
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        other => other,
    }
}
