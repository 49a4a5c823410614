//! One transactional id: what may follow what.
//!
//! Each decision takes the present state and gives the next one, or the error that refuses it;
//! nothing here changes in place. The next state takes effect when its record is in the log.
//!
//! Invariant: `partitions` is empty unless the transaction is open or its markers are owed.
//!
//! Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{ProducerEpoch, ProducerId, TopicPartition};
use protocol::mutant::{Mutant, is_active};
use protocol::time::Timestamp;

use super::{Add, End, Init, Producer, Version};

/// Where a transaction stands. See the room's door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Initialised; nothing written.
    Empty,
    /// Open.
    Ongoing,
    /// Decided to commit; markers are owed.
    PrepareCommit,
    /// Decided to abort; markers are owed.
    PrepareAbort,
    /// Committed, all markers written.
    CompleteCommit,
    /// Aborted, all markers written.
    CompleteAbort,
}

impl Status {
    /// The number in the log.
    #[must_use]
    pub fn to_wire(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
        }
    }

    const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// The status of this number; `None` for one that we never write.
    #[must_use]
    pub fn from_wire(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.to_wire() == number)
    }

    /// The name in Kafka's words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// The status of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// True while markers are owed.
    #[must_use]
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// All that is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// The incarnation in use: whoever names another is fenced.
    pub producer: Producer,
    /// The producer id of the incarnation that this one goes on from, when its client asked to go
    /// on; or whose epochs were used up at the end of a transaction. `NONE` when this one fenced
    /// all before it.
    pub previous: ProducerId,
    /// The producer id that the client was told to use from the next transaction on.
    pub next: ProducerId,
    /// After how long an open transaction is aborted.
    pub timeout: Duration,
    /// Where it stands.
    pub status: Status,
    /// The partitions of the open transaction, or where markers are owed.
    pub partitions: BTreeSet<TopicPartition>,
    /// When the transaction began; `NONE` outside of one.
    pub started: Timestamp,
    /// When this was written.
    pub updated: Timestamp,
    /// How its present, or last, transaction ends.
    pub version: Version,
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing changes; the answer is this incarnation.
    Stands(Producer),
    /// This is the next state, and the answer.
    Becomes(Box<Txn>, Producer),
    /// The open transaction must end first: this is its decision, and the client comes again.
    EndsFirst(Box<Txn>),
}

/// Decides a request to initialise an id of which `known` is known. KIP-98, KIP-360.
///
/// # Errors
/// `ConcurrentTransactions` while markers are owed; `ProducerFenced` for an old incarnation.
pub fn init(known: Option<&Txn>, init: &Init, now: Timestamp) -> Result<Decision, ErrorCode> {
    let Some(txn) = known else {
        let producer = Producer { id: init.fresh, epoch: ProducerEpoch(0) };
        let first = Txn {
            producer,
            previous: ProducerId::NONE,
            next: ProducerId::NONE,
            timeout: init.timeout,
            status: Status::Empty,
            partitions: BTreeSet::new(),
            started: Timestamp::NONE,
            updated: now,
            version: Version::V1,
        };
        return Ok(Decision::Becomes(Box::new(first), producer));
    };
    if txn.status.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    if let Some(current) = init.current {
        let missed_answer = match txn.status {
            Status::Empty => txn.went_on_from(current),
            Status::CompleteCommit | Status::CompleteAbort => txn.ended_for(current),
            Status::Ongoing | Status::PrepareCommit | Status::PrepareAbort => false,
        };
        if missed_answer {
            return Ok(Decision::Stands(txn.producer));
        }
        if current != txn.producer {
            return Err(ErrorCode::ProducerFenced);
        }
    }
    if txn.status == Status::Ongoing {
        return Ok(Decision::EndsFirst(Box::new(txn.fenced(now))));
    }
    let producer = txn.next_incarnation(init.fresh);
    // Only who named itself may ask again. Otherwise:
    // 1. A has epoch 4; B initialises without one and gets 5, which fences A.
    // 2. A asks to go on from 4; taken for a repetition, it would be given B's epoch.
    let previous = init.current.map_or(ProducerId::NONE, |current| current.id);
    let next = Txn {
        producer,
        previous,
        timeout: init.timeout,
        status: Status::Empty,
        updated: now,
        ..txn.clone()
    };
    Ok(Decision::Becomes(Box::new(next), producer))
}

/// Decides a request to add partitions.
///
/// # Errors
/// By code; `ConcurrentTransactions` alone is retriable.
pub fn add(known: Option<&Txn>, add: &Add, now: Timestamp) -> Result<Decision, ErrorCode> {
    let txn = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
    txn.admit(add.producer)?;
    match txn.status {
        Status::PrepareCommit | Status::PrepareAbort => Err(ErrorCode::ConcurrentTransactions),
        Status::Ongoing if add.partitions.is_subset(&txn.partitions) => {
            Ok(Decision::Stands(txn.producer))
        }
        Status::Ongoing => {
            let partitions = txn.partitions.union(&add.partitions).cloned().collect();
            let next = Txn { partitions, updated: now, ..txn.clone() };
            Ok(Decision::Becomes(Box::new(next), txn.producer))
        }
        Status::Empty | Status::CompleteCommit | Status::CompleteAbort => {
            let next = Txn {
                status: Status::Ongoing,
                partitions: add.partitions.clone(),
                started: now,
                updated: now,
                version: add.version,
                ..txn.clone()
            };
            Ok(Decision::Becomes(Box::new(next), txn.producer))
        }
    }
}

/// Says for each partition whether it is in the open transaction. KIP-890.
///
/// # Errors
/// For all of them: the producer is not the one in use, or its markers are under way.
pub fn verify(known: Option<&Txn>, asked: &Add) -> Result<Vec<ErrorCode>, ErrorCode> {
    if is_active(Mutant::SkipVerification) {
        return Ok(vec![ErrorCode::None; asked.partitions.len()]);
    }
    let txn = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
    txn.admit(asked.producer)?;
    if txn.status.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let is_in = |at: &TopicPartition| txn.status == Status::Ongoing && txn.partitions.contains(at);
    let code = |at| if is_in(at) { ErrorCode::None } else { ErrorCode::TransactionAbortable };
    Ok(asked.partitions.iter().map(code).collect())
}

/// Decides a request to end the transaction.
///
/// # Errors
/// By code; `ConcurrentTransactions` alone is retriable.
pub fn end(known: Option<&Txn>, end: &End, now: Timestamp) -> Result<Decision, ErrorCode> {
    let txn = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
    match end.version {
        Version::V1 => end_v1(txn, end, now),
        Version::V2 => end_v2(txn, end, now),
    }
}

fn end_v1(txn: &Txn, end: &End, now: Timestamp) -> Result<Decision, ErrorCode> {
    txn.admit(end.producer)?;
    match (txn.status, end.commit) {
        (Status::Ongoing, commit) => {
            let next = txn.decided(commit, txn.producer, Version::V1, now);
            Ok(Decision::Becomes(Box::new(next), txn.producer))
        }
        (Status::CompleteCommit, true) | (Status::CompleteAbort, false) => {
            Ok(Decision::Stands(txn.producer))
        }
        (Status::PrepareCommit, true) | (Status::PrepareAbort, false) => {
            Err(ErrorCode::ConcurrentTransactions)
        }
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

fn end_v2(txn: &Txn, end: &End, now: Timestamp) -> Result<Decision, ErrorCode> {
    let told = end.producer;
    let is_repeat = txn.ended_for(told);
    match (txn.status, end.commit) {
        (Status::PrepareCommit | Status::CompleteCommit, true)
        | (Status::PrepareAbort | Status::CompleteAbort, false)
            if is_repeat =>
        {
            Ok(Decision::Stands(txn.told_next()))
        }
        _ if let Err(code) = txn.admit(told) => Err(code),
        (Status::PrepareCommit | Status::PrepareAbort, _) => Err(ErrorCode::ConcurrentTransactions),
        (Status::Ongoing, commit) => Ok(txn.ended_v2(commit, end.fresh, now)),
        // A client may abort before it wrote anything that reached us. KIP-890.
        (Status::Empty | Status::CompleteCommit | Status::CompleteAbort, false) => {
            Ok(txn.ended_v2(false, end.fresh, now))
        }
        (Status::Empty | Status::CompleteCommit | Status::CompleteAbort, true) => {
            Err(ErrorCode::InvalidTxnState)
        }
    }
}

impl Txn {
    /// Whether `producer` is the incarnation in use, or the one that it was told to use once the
    /// markers are written.
    fn admit(&self, producer: Producer) -> Result<(), ErrorCode> {
        if self.status.is_prepared() && producer == self.told_next() {
            Ok(())
        } else if producer.id != self.producer.id {
            Err(ErrorCode::InvalidProducerIdMapping)
        } else if producer.epoch != self.producer.epoch {
            Err(ErrorCode::ProducerFenced)
        } else {
            Ok(())
        }
    }

    /// True for the incarnation whose request to go on was answered with the present one.
    fn went_on_from(&self, before: Producer) -> bool {
        let exhausted = ProducerEpoch::CLIENT_MAX.0 - 1 <= before.epoch.0;
        before.id == self.previous
            && if before.id == self.producer.id {
                self.producer.epoch.0 == before.epoch.0.saturating_add(1)
            } else {
                exhausted && self.producer.epoch.0 == 0
            }
    }

    /// True for the incarnation whose end of the transaction, by version 2, raised the epoch to
    /// the present one: it may have missed the answer.
    fn ended_for(&self, before: Producer) -> bool {
        self.version == Version::V2
            && if before.id == self.producer.id {
                self.producer.epoch.0 == before.epoch.0.saturating_add(1)
            } else {
                let exhausted = before.epoch == ProducerEpoch::CLIENT_MAX;
                before.id == self.previous && exhausted && self.producer.epoch.0 == 0
            }
    }

    fn decided(&self, commit: bool, marker: Producer, version: Version, now: Timestamp) -> Self {
        let status = if commit { Status::PrepareCommit } else { Status::PrepareAbort };
        Self { producer: marker, status, updated: now, version, ..self.clone() }
    }

    /// The abort of an open transaction whose producer is fenced: by a newer one, or by time. The
    /// markers carry a raised epoch, so that nothing of the old one lands behind them.
    #[must_use]
    pub fn fenced(&self, now: Timestamp) -> Self {
        let raised = ProducerEpoch(self.producer.epoch.0.saturating_add(1));
        let marker = Producer { id: self.producer.id, epoch: raised };
        // The client does not know the raised epoch: for it, this end is one of version 1.
        self.decided(false, marker, Version::V1, now)
    }

    /// The end by version 2: markers carry the raised epoch, and the client goes on with it; with
    /// a fresh id, when the epochs are used up.
    fn ended_v2(&self, commit: bool, fresh: ProducerId, now: Timestamp) -> Decision {
        let by = if is_active(Mutant::KeepEpochAtEnd) { 0 } else { 1 };
        let raised = ProducerEpoch(self.producer.epoch.0.saturating_add(by));
        let marker = Producer { id: self.producer.id, epoch: raised };
        let mut next = self.decided(commit, marker, Version::V2, now);
        if ProducerEpoch::CLIENT_MAX < raised {
            next.next = fresh;
        }
        let told = next.told_next();
        Decision::Becomes(Box::new(next), told)
    }

    /// The incarnation that the client was told to use after the decision.
    fn told_next(&self) -> Producer {
        if self.next.is_some() {
            Producer { id: self.next, epoch: ProducerEpoch(0) }
        } else {
            self.producer
        }
    }

    /// The state once every marker is written. `None`: no markers are owed.
    #[must_use]
    pub fn completed(&self, now: Timestamp) -> Option<Self> {
        let status = match self.status {
            Status::PrepareCommit => Status::CompleteCommit,
            Status::PrepareAbort => Status::CompleteAbort,
            Status::Empty | Status::Ongoing | Status::CompleteCommit | Status::CompleteAbort => {
                return None;
            }
        };
        let previous = if self.next.is_some() { self.producer.id } else { self.previous };
        Some(Self {
            producer: self.told_next(),
            previous,
            next: ProducerId::NONE,
            status,
            partitions: BTreeSet::new(),
            started: Timestamp::NONE,
            updated: now,
            ..self.clone()
        })
    }

    /// The next incarnation: the epoch raised, or a fresh id when the epochs are used up.
    fn next_incarnation(&self, fresh: ProducerId) -> Producer {
        if self.producer.epoch < ProducerEpoch(ProducerEpoch::CLIENT_MAX.0 - 1) {
            Producer { epoch: ProducerEpoch(self.producer.epoch.0 + 1), ..self.producer }
        } else {
            Producer { id: fresh, epoch: ProducerEpoch(0) }
        }
    }

    /// Asserts the invariants.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self) {
        let may_hold = self.status == Status::Ongoing || self.status.is_prepared();
        assert!(may_hold || self.partitions.is_empty());
        assert!(0 <= self.producer.epoch.0);
        assert!(self.producer.id.is_some());
    }
}
