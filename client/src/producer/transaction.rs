//! The states of a transactional producer, and what coordinators' errors mean for them.
//!
//! | state | what is lawful | leads to |
//! |---|---|---|
//! | `Uninitialised` | init | `Ready`, `Fatal` |
//! | `Ready` | begin | `Open` |
//! | `Open` | append, send offsets, commit, abort | `Flushing`, `Ending`, `MustAbort`, `Fatal` |
//! | `Flushing` | nothing: commit waits for what was appended | `Ending`, `MustAbort`, `Fatal` |
//! | `Ending` | nothing: the coordinator is asked to end it | `Ready`, `InDoubt`, `Fatal` |
//! | `MustAbort` | commit or abort, both of which abort | `Ending`, `Fatal` |
//! | `InDoubt` | init, which makes the coordinator end what was under way | `Ready`, `Fatal` |
//! | `Fatal` | nothing | |
//!
//! Two versions of the protocol (KIP-890): in the first, each partition is added to the transaction
//! before records go there; in the second, producing adds it, and each end raises the epoch, so
//! that nothing late can slip into the next transaction. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::error_code::ErrorCode;
use protocol::ids::TopicPartition;

use super::error::{AppendError, Failure, TransactionError};

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Uninitialised,
    Ready,
    Open,
    Flushing,
    Ending,
    MustAbort(Failure),
    InDoubt,
    Fatal(Failure),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Uninitialised => "uninitialised",
            Self::Ready => "ready",
            Self::Open => "open",
            Self::Flushing => "being flushed",
            Self::Ending => "being ended",
            Self::MustAbort(_) => "bound to be aborted",
            Self::InDoubt => "in doubt",
            Self::Fatal(_) => "of no more use",
        }
    }
}

/// A transactional producer's side of its transactions.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) transactional_id: Arc<str>,
    state: State,
    /// The second version of the protocol is in use. KIP-890.
    pub(crate) is_version_2: bool,
    /// Partitions that the coordinator knows of.
    added: BTreeSet<TopicPartition>,
    /// The coordinator is being told of partitions.
    is_adding: bool,
    /// The coordinator may know of the transaction: it must be told of its end.
    has_begun_there: bool,
    /// Numbers have gaps, or the coordinator forgot us: the next one needs a new epoch. KIP-360.
    needs_new_epoch: bool,
}

impl Transaction {
    pub(crate) fn new(transactional_id: Arc<str>) -> Self {
        Self {
            transactional_id,
            state: State::Uninitialised,
            is_version_2: false,
            added: BTreeSet::new(),
            is_adding: false,
            has_begun_there: false,
            needs_new_epoch: false,
        }
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    fn unlawful<T>(&self, verb: &'static str) -> Result<T, TransactionError> {
        match &self.state {
            State::Fatal(failure) => Err(TransactionError::Fatal(failure.clone())),
            State::MustAbort(failure) => Err(TransactionError::MustAbort(failure.clone())),
            state => Err(TransactionError::Unlawful { verb, state: state.name() }),
        }
    }

    /// May initialise.
    pub(crate) fn init(&self) -> Result<(), TransactionError> {
        match self.state {
            State::Uninitialised | State::InDoubt => Ok(()),
            _ => self.unlawful("init_transactions"),
        }
    }

    /// Is initialised, under a fresh epoch.
    pub(crate) fn initialised(&mut self, is_version_2: bool) {
        self.is_version_2 = is_version_2;
        self.settled();
    }

    /// Begins: nobody is told before there is something to tell.
    pub(crate) fn begin(&mut self) -> Result<(), TransactionError> {
        match self.state {
            State::Ready => {
                self.state = State::Open;
                Ok(())
            }
            _ => self.unlawful("begin"),
        }
    }

    /// May append.
    pub(crate) fn append(&self) -> Result<(), AppendError> {
        match &self.state {
            State::Open => Ok(()),
            State::MustAbort(failure) => Err(AppendError::MustAbort(failure.clone())),
            State::Fatal(failure) => Err(AppendError::Fatal(failure.clone())),
            State::Uninitialised
            | State::Ready
            | State::Flushing
            | State::Ending
            | State::InDoubt => Err(AppendError::NoTransaction),
        }
    }

    /// May send offsets; from now on the coordinator may know of the transaction.
    pub(crate) fn send_offsets(&mut self) -> Result<(), TransactionError> {
        match self.state {
            State::Open => {
                self.has_begun_there = true;
                Ok(())
            }
            _ => self.unlawful("send_offsets"),
        }
    }

    /// Begins to commit. `Some`: it can only be aborted.
    pub(crate) fn commit(&mut self) -> Result<Option<Failure>, TransactionError> {
        match &self.state {
            State::Open => {
                self.state = State::Flushing;
                Ok(None)
            }
            State::MustAbort(failure) => {
                let failure = failure.clone();
                self.state = State::Ending;
                Ok(Some(failure))
            }
            _ => self.unlawful("commit"),
        }
    }

    /// Everything is written: now the coordinator is asked to commit. `Err`: it must be aborted
    /// instead, and is now being ended.
    pub(crate) fn flushed(&mut self) -> Result<(), Failure> {
        match std::mem::replace(&mut self.state, State::Ending) {
            State::Flushing => Ok(()),
            State::MustAbort(failure) => Err(failure),
            State::Fatal(failure) => {
                self.state = State::Fatal(failure.clone());
                Err(failure)
            }
            other => unreachable!("a commit that waits is flushing, not {}", other.name()),
        }
    }

    /// Begins to abort.
    pub(crate) fn abort(&mut self) -> Result<(), TransactionError> {
        match self.state {
            State::Open | State::MustAbort(_) => {
                self.state = State::Ending;
                Ok(())
            }
            _ => self.unlawful("abort"),
        }
    }

    /// The transaction has ended, or none was under way.
    pub(crate) fn settled(&mut self) {
        self.state = State::Ready;
        self.added.clear();
        self.has_begun_there = false;
        self.needs_new_epoch = false;
    }

    /// Nobody knows whether the transaction has ended.
    pub(crate) fn doubt(&mut self) {
        self.state = State::InDoubt;
    }

    /// Something failed that only an abort can mend. What is ending or has failed before goes on.
    pub(crate) fn fail(&mut self, failure: Failure) {
        if matches!(self.state, State::Open | State::Flushing) {
            self.state = State::MustAbort(failure);
        }
    }

    /// This producer is done for.
    pub(crate) fn fail_for_good(&mut self, failure: Failure) {
        if !matches!(self.state, State::Fatal(_)) {
            self.state = State::Fatal(failure);
        }
    }

    /// Why the producer is done for, if it is.
    pub(crate) fn fatal(&self) -> Option<&Failure> {
        match &self.state {
            State::Fatal(failure) => Some(failure),
            _ => None,
        }
    }

    /// Why the transaction cannot be committed, if so.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Fatal(failure) | State::MustAbort(failure) => Some(failure),
            _ => None,
        }
    }

    /// True when batches of this partition may be sent.
    pub(crate) fn may_send(&self, partition: &TopicPartition) -> bool {
        let is_under_way = matches!(self.state, State::Open | State::Flushing);
        is_under_way && (self.is_version_2 || self.added.contains(partition))
    }

    /// True when partitions may be added: in the first version of the protocol.
    pub(crate) fn may_add(&self) -> bool {
        !self.is_version_2 && matches!(self.state, State::Open | State::Flushing)
    }

    /// Batches are being sent.
    pub(crate) fn begins_there(&mut self) {
        self.has_begun_there = true;
    }

    /// The coordinator is being told of partitions.
    pub(crate) fn adding(&mut self) {
        self.has_begun_there = true;
        self.is_adding = true;
    }

    /// The coordinator knows of these partitions.
    pub(crate) fn added(&mut self, partitions: BTreeSet<TopicPartition>) {
        self.added.extend(partitions);
        self.is_adding = false;
    }

    /// True while the coordinator is being told of partitions.
    pub(crate) fn is_adding(&self) -> bool {
        self.is_adding
    }

    /// True when the coordinator must be told of the end.
    pub(crate) fn has_begun_there(&self) -> bool {
        self.has_begun_there
    }

    /// A batch that was numbered was given up, or the coordinator forgot us.
    pub(crate) fn need_new_epoch(&mut self) {
        self.needs_new_epoch = true;
    }

    /// True when the end of this transaction must be followed by a new epoch.
    pub(crate) fn needs_new_epoch(&self) -> bool {
        self.needs_new_epoch
    }

    /// True while batches that come back unwritten are dropped.
    pub(crate) fn drops_batches(&self) -> bool {
        !matches!(self.state, State::Open | State::Flushing)
    }

    /// The failure that `code` stands for.
    pub(crate) fn fenced(&self, code: ErrorCode) -> Failure {
        Failure::Fenced { transactional_id: Arc::clone(&self.transactional_id), code }
    }
}

/// What a coordinator's error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heed {
    Done,
    /// Ask again, later.
    Again,
    /// Ask again: what it waits for takes milliseconds.
    Soon,
    /// Ask again, after looking for the coordinator.
    Elsewhere,
    /// The transaction must be aborted.
    MustAbort,
    /// The member that sends offsets is none any more: abort. KIP-447.
    GroupFenced,
    /// A newer producer is at work.
    Fenced,
    /// The coordinator has forgotten the producer: abort, then begin anew. KIP-890.
    Forgotten,
    Fatal,
}

/// What `code` means in an answer of a transaction's or a group's coordinator.
pub(crate) fn heed(code: ErrorCode) -> Heed {
    match code {
        ErrorCode::None => Heed::Done,
        ErrorCode::ConcurrentTransactions => Heed::Soon,
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => Heed::Elsewhere,
        ErrorCode::ProducerFenced
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::TransactionCoordinatorFenced => Heed::Fenced,
        ErrorCode::InvalidProducerIdMapping | ErrorCode::UnknownProducerId => Heed::Forgotten,
        ErrorCode::UnknownMemberId
        | ErrorCode::IllegalGeneration
        | ErrorCode::FencedInstanceId
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::FencedMemberEpoch => Heed::GroupFenced,
        ErrorCode::TransactionAbortable
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::TopicAuthorizationFailed
        | ErrorCode::OffsetMetadataTooLarge
        | ErrorCode::InvalidCommitOffsetSize
        | ErrorCode::OperationNotAttempted => Heed::MustAbort,
        code if code.is_retriable() => Heed::Again,
        _ => Heed::Fatal,
    }
}

/// True when an error of a produced batch ends the producer, not only the transaction.
///
/// An old epoch at a partition is not proof of a newer producer: after a timeout the coordinator
/// itself raised it. Ending the transaction will tell (KIP-588).
pub(crate) fn is_fatal_to_producer(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ProducerFenced
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::UnsupportedForMessageFormat
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure::Request("test".into())
    }

    fn partition() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn open(is_version_2: bool) -> Transaction {
        let mut transaction = Transaction::new("mover".into());
        transaction.init().unwrap();
        transaction.initialised(is_version_2);
        transaction.begin().unwrap();
        transaction
    }

    #[test]
    fn verbs_out_of_order_are_refused_and_change_nothing() {
        let mut transaction = Transaction::new("mover".into());
        assert!(transaction.begin().is_err());
        assert!(transaction.append().is_err());
        assert!(transaction.commit().is_err());
        assert!(transaction.abort().is_err());
        assert!(transaction.send_offsets().is_err());
        assert_eq!(transaction.state(), &State::Uninitialised);
        transaction.initialised(true);
        assert!(transaction.init().is_err());
        assert_eq!(transaction.state(), &State::Ready);
    }

    #[test]
    fn in_the_first_version_nothing_is_sent_before_its_partition_is_added() {
        let mut transaction = open(false);
        assert!(!transaction.may_send(&partition()));
        transaction.added([partition()].into());
        assert!(transaction.may_send(&partition()));
        assert!(open(true).may_send(&partition()));
    }

    #[test]
    fn what_was_added_to_one_transaction_is_not_in_the_next() {
        let mut transaction = open(false);
        transaction.added([partition()].into());
        transaction.commit().unwrap();
        transaction.flushed().unwrap();
        transaction.settled();
        transaction.begin().unwrap();
        assert!(!transaction.may_send(&partition()));
        assert!(!transaction.has_begun_there());
    }

    #[test]
    fn a_failed_transaction_takes_no_records_and_its_commit_aborts() {
        let mut transaction = open(true);
        transaction.fail(failure());
        assert_eq!(transaction.append(), Err(AppendError::MustAbort(failure())));
        assert!(!transaction.may_send(&partition()));
        assert_eq!(transaction.commit(), Ok(Some(failure())));
        assert_eq!(transaction.state(), &State::Ending);
    }

    #[test]
    fn a_failure_while_a_commit_flushes_turns_it_into_an_abort() {
        let mut transaction = open(true);
        assert_eq!(transaction.commit(), Ok(None));
        assert!(transaction.may_send(&partition()));
        transaction.fail(failure());
        assert_eq!(transaction.flushed(), Err(failure()));
    }

    #[test]
    fn in_doubt_only_init_is_lawful_and_settles_it() {
        let mut transaction = open(true);
        transaction.commit().unwrap();
        transaction.flushed().unwrap();
        transaction.doubt();
        assert!(transaction.begin().is_err());
        assert!(transaction.abort().is_err());
        transaction.init().unwrap();
        transaction.initialised(true);
        transaction.begin().unwrap();
    }

    #[test]
    fn a_fenced_producer_stays_fenced() {
        let mut transaction = open(true);
        transaction.fail_for_good(failure());
        transaction.fail(failure());
        assert_eq!(transaction.append(), Err(AppendError::Fatal(failure())));
        for refused in [transaction.init(), transaction.abort(), transaction.begin()] {
            assert_eq!(refused, Err(TransactionError::Fatal(failure())));
        }
    }
}
