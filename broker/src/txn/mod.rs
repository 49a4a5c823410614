//! Transactions: what a producer writes to many partitions becomes visible together, or never.
//!
//! One shard per partition of `__transaction_state` holds the transactional ids that hash to it.
//! The decision is the record: once `PrepareCommit` or `PrepareAbort` is committed in the log, the
//! transaction is decided; markers then go to every partition it touched, for as long as it takes,
//! and `Complete…` closes it. KIP-98, and KIP-890 inside.
//!
//! | state | means | goes to |
//! |---|---|---|
//! | Empty | a producer has initialised, and written nothing | Ongoing; PrepareAbort (version 2) |
//! | Ongoing | partitions were added | PrepareCommit, PrepareAbort |
//! | PrepareCommit | decided; markers are under way | CompleteCommit |
//! | PrepareAbort | decided; markers are under way | CompleteAbort |
//! | CompleteCommit, CompleteAbort | all markers are written | Ongoing; Empty; PrepareAbort (version 2) |
//!
//! With version 2 (KIP-890) every end raises the producer's epoch, and the markers carry the raised
//! one: whatever a client sent before the end cannot land after it. With version 1 the epoch rises
//! only when the coordinator itself fences: at initialisation and at a timeout.
//!
//! Invariants: a decision is never reversed; a producer that was fenced has an epoch below the
//! stored one; a prepared transaction keeps its partitions until every marker is written. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, ProducerEpoch, ProducerId, TopicPartition};
use protocol::time::Timestamp;
use regex::Regex;

pub mod record;
pub mod shard;
pub mod shell;
pub mod state;
#[cfg(test)]
mod tests;

use crate::coordinator::Coordinator;

pub use shard::{Limits, TxnShard};
use state::{Status, Txn};

/// The internal topic that holds transactions.
pub const TOPIC: &str = "__transaction_state";

/// The coordinator of transactions.
pub type Txns = Coordinator<TxnShard>;

/// How a client's transactions end. KIP-890.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Its epoch stays; partitions are added by request.
    V1,
    /// Its epoch rises at each end; writing adds partitions.
    V2,
}

impl Version {
    /// The number in markers: 2 when they carry a raised epoch.
    #[must_use]
    pub fn to_wire(self) -> i8 {
        match self {
            Self::V1 => 0,
            Self::V2 => 2,
        }
    }
}

/// A producer as it names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// What a transaction's coordinator is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Begin a new incarnation: fences the older ones, ends what they left open.
    Init(Init),
    /// Add partitions to the transaction, beginning it if need be.
    Add(Add),
    /// Are these partitions in the open transaction? For writes of version 1 clients. KIP-890.
    Verify(Add),
    /// Decide the transaction.
    End(End),
    /// What is known of this id? KIP-664.
    Describe(Arc<str>),
    /// Which ids are there? KIP-664.
    List(Arc<Filter>),
    /// To be answered once no markers are owed for this id; for who was sent away because some are.
    Completion(Arc<str>),
    /// From our own shell: every marker of this decision is written.
    MarkersWritten(Decided),
}

/// What a transaction's coordinator answers, in the order of [`Request`]'s variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The incarnation to use from now on.
    Initialised(Result<Producer, ErrorCode>),
    /// To an addition: all of the partitions, or none.
    Added(Result<(), ErrorCode>),
    /// To a verification: one code per partition, in the request's order.
    Verified(Vec<ErrorCode>),
    /// The incarnation to use from now on; the same one, for version 1.
    Ended(Result<Producer, ErrorCode>),
    /// All that is known; the error of an id that nothing is known of.
    Described(Result<Box<Txn>, ErrorCode>),
    /// The ids that pass the filter, in order: producer id and state of each.
    Listed(Vec<(Arc<str>, ProducerId, Status)>),
    /// Complete; or noted. An error: not now.
    Noted(Result<(), ErrorCode>),
}

/// A request to initialise.
#[derive(Clone, Debug)]
pub struct Init {
    /// The transactional id.
    pub id: Arc<str>,
    /// After how long an open transaction is aborted.
    pub timeout: Duration,
    /// The incarnation that asks to go on after an error. KIP-360.
    pub current: Option<Producer>,
    /// A producer id that nobody has had, should one be needed.
    pub fresh: ProducerId,
}

/// A request to add partitions, or to verify them.
#[derive(Clone, Debug)]
pub struct Add {
    /// The transactional id.
    pub id: Arc<str>,
    /// Who asks.
    pub producer: Producer,
    /// Which partitions.
    pub partitions: BTreeSet<TopicPartition>,
    /// How its transaction will end.
    pub version: Version,
}

/// A request to decide.
#[derive(Clone, Debug)]
pub struct End {
    /// The transactional id.
    pub id: Arc<str>,
    /// Who asks.
    pub producer: Producer,
    /// True to commit, false to abort.
    pub commit: bool,
    /// How it ends.
    pub version: Version,
    /// A producer id that nobody has had, should the epochs of this one be used up.
    pub fresh: ProducerId,
}

/// Which transactional ids are to be listed: those that pass all of it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states. `None`: in any.
    pub states: Option<Vec<Status>>,
    /// With one of these producer ids. Empty: with any.
    pub producer_ids: Vec<ProducerId>,
    /// With a transaction that is open, or being decided, for longer than this. KIP-994.
    pub longer_than: Option<Duration>,
    /// Whose id matches. KIP-1152.
    pub pattern: Option<Regex>,
}

impl Filter {
    /// Whether `txn`, whose id is `id`, passes at `now`.
    #[must_use]
    pub fn admits(&self, id: &str, txn: &Txn, now: Timestamp) -> bool {
        let is_older =
            |than: Duration| txn.started != Timestamp::NONE && txn.started.plus(than) < now;
        self.states.as_ref().is_none_or(|states| states.contains(&txn.status))
            && (self.producer_ids.is_empty() || self.producer_ids.contains(&txn.producer.id))
            && self.longer_than.is_none_or(is_older)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

/// A decision whose markers are owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The transactional id.
    pub id: Arc<str>,
    /// The producer that the markers name.
    pub producer: Producer,
    /// What was decided.
    pub commit: bool,
    /// How the transaction ends: whether its markers carry a raised epoch.
    pub version: Version,
    /// Which leadership decides.
    pub coordinator_epoch: CoordinatorEpoch,
    /// Where markers are owed.
    pub partitions: BTreeSet<TopicPartition>,
    /// When the shard that says so was loaded. What was carried out for a shard before is not
    /// news for this one: to it, it may look like its producer's next transaction.
    pub loaded_at: Duration,
}
