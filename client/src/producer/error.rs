//! What can go wrong when producing, and what the caller can do about it. Pure.

use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::TopicPartition;
use protocol::record::BuildError;

use crate::error::{Recovery, RequestError};

/// Why a record was not appended. Nothing happened: the same record may be appended later, unless
/// said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// `buffer.memory` is in use: wait for `ready`, then append again.
    #[error("{used_bytes} bytes wait to be acknowledged, buffer.memory is full")]
    BufferFull {
        /// Bytes of records that wait.
        used_bytes: usize,
    },
    /// Nothing is known of the topic yet: wait for `ready`, then append again.
    #[error("topic {topic}: its partitions are not known yet")]
    TopicPending {
        /// The topic.
        topic: Arc<str>,
    },
    /// The cluster says that there is no such topic, or not for us. Appending again asks again.
    #[error("topic {topic}: {code}")]
    TopicRefused {
        /// The topic.
        topic: Arc<str>,
        /// What the cluster says.
        code: ErrorCode,
    },
    /// The topic has no such partition; it may grow.
    #[error("topic {topic} has {partition_count} partitions, none is {partition}")]
    NoSuchPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition asked for.
        partition: i32,
        /// How many it has.
        partition_count: u32,
    },
    /// The record alone is larger than `max.request.size`. It can never be appended.
    #[error("topic {topic}: a record of {bytes} bytes is larger than max.request.size")]
    RecordTooLarge {
        /// The topic.
        topic: Arc<str>,
        /// Its size, at most.
        bytes: usize,
    },
    /// The batch cannot hold the record. It can never be appended.
    #[error("topic {topic}: {source}")]
    Unbuildable {
        /// The topic.
        topic: Arc<str>,
        /// Why.
        source: BuildError,
    },
    /// A transactional producer appends inside transactions only: `begin` one.
    #[error("no transaction has begun")]
    NoTransaction,
    /// The transaction can only be aborted; then the records may be appended in the next one.
    #[error("the transaction must be aborted: {0}")]
    MustAbort(Failure),
    /// This producer is of no more use: make another.
    #[error("the producer has failed for good: {0}")]
    Fatal(Failure),
}

impl AppendError {
    /// What the caller can do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::MustAbort(_) => Recovery::Abort,
            Self::Fatal(_) => Recovery::Restart,
            other if other.is_retriable() => Recovery::Retry,
            Self::BufferFull { .. }
            | Self::TopicPending { .. }
            | Self::TopicRefused { .. }
            | Self::NoSuchPartition { .. }
            | Self::RecordTooLarge { .. }
            | Self::Unbuildable { .. }
            | Self::NoTransaction => Recovery::Change,
        }
    }

    /// True when the same call may succeed after `ready`.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::BufferFull { .. } | Self::TopicPending { .. } => true,
            Self::TopicRefused { code, .. } => code.is_retriable(),
            Self::NoSuchPartition { .. }
            | Self::RecordTooLarge { .. }
            | Self::Unbuildable { .. }
            | Self::NoTransaction
            | Self::MustAbort(_)
            | Self::Fatal(_) => false,
        }
    }
}

/// Why records were not produced, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The broker refuses the batch. It is not in the log.
    #[error("partition {partition}: batch of {record_count} records refused: {code}{}", Words(.message))]
    Refused {
        /// Whither.
        partition: TopicPartition,
        /// How many records were lost with it.
        record_count: i32,
        /// Why.
        code: ErrorCode,
        /// What the broker has to say about it.
        message: Option<String>,
    },
    /// The batch could not be delivered within `delivery.timeout.ms`.
    #[error("partition {partition}: batch of {record_count} records not delivered within {timeout:?}{}", doubt(*.is_in_doubt))]
    Expired {
        /// Whither.
        partition: TopicPartition,
        /// How many records were lost with it.
        record_count: i32,
        /// How long it was tried.
        timeout: Duration,
        /// It may be in the log all the same.
        is_in_doubt: bool,
    },
    /// A batch before this one was given up, and this one may be in the log: it could not be sent
    /// again without risking a duplicate. KIP-360.
    #[error("partition {partition}: batch of {record_count} records is in doubt")]
    InDoubt {
        /// Whither.
        partition: TopicPartition,
        /// How many records are in doubt.
        record_count: i32,
    },
    /// The transaction that the records belonged to is aborted, or must be.
    #[error("partition {partition}: batch of {record_count} records dropped with its transaction")]
    Aborted {
        /// Whither.
        partition: TopicPartition,
        /// How many records were dropped.
        record_count: i32,
    },
    /// The records were not appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It took longer than `max.block.ms`; the records are still being sent.
    #[error("{what}: not done within {timeout:?}")]
    Blocked {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        timeout: Duration,
    },
    /// This producer is of no more use: make another.
    #[error("the producer has failed for good: {0}")]
    Fatal(Failure),
}

struct Words<'a>(&'a Option<String>);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |words| write!(f, " ({words})"))
    }
}

fn doubt(is_in_doubt: bool) -> &'static str {
    if is_in_doubt { "; it may be in the log all the same" } else { "" }
}

impl ProduceError {
    /// What the caller can do about it. Within a transaction, whatever was not written dooms it:
    /// then `commit` aborts it, and says so.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Append(error) => error.recovery(),
            Self::Fatal(_) => Recovery::Restart,
            Self::Aborted { .. } => Recovery::Abort,
            Self::InDoubt { .. } | Self::Expired { is_in_doubt: true, .. } => Recovery::Doubt,
            Self::Expired { .. } | Self::Blocked { .. } => Recovery::Retry,
            Self::Refused { .. } => Recovery::Change,
        }
    }

    /// True when the records are surely not in the log and producing them again may succeed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Append(error) => error.is_retriable(),
            Self::Expired { is_in_doubt, .. } => !is_in_doubt,
            Self::Blocked { .. } => true,
            Self::Refused { .. } | Self::InDoubt { .. } | Self::Aborted { .. } => false,
            Self::Fatal(_) => false,
        }
    }
}

/// What ended a transaction or a producer. Shared by all who are told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A newer producer of the same transactional id is at work. KIP-98.
    #[error("fenced by a newer producer of transactional id {transactional_id}: {code}")]
    Fenced {
        /// The name they share.
        transactional_id: Arc<str>,
        /// As the broker says it.
        code: ErrorCode,
    },
    /// The group has another generation or another member in this one's place. KIP-447.
    #[error("no longer a member of group {group_id}: {code}")]
    GroupFenced {
        /// The group.
        group_id: String,
        /// As the coordinator says it.
        code: ErrorCode,
    },
    /// A batch was not written.
    #[error(transparent)]
    Produce(Arc<ProduceError>),
    /// A request was refused, or nobody answered in time.
    #[error("{0}")]
    Request(Arc<str>),
}

impl From<ProduceError> for Failure {
    fn from(error: ProduceError) -> Self {
        match error {
            ProduceError::Fatal(failure) => failure,
            other => Self::Produce(Arc::new(other)),
        }
    }
}

impl From<&RequestError> for Failure {
    fn from(error: &RequestError) -> Self {
        Self::Request(error.to_string().into())
    }
}

/// Why a verb of a transaction was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The producer has no `transactional.id`.
    #[error("the producer has no transactional.id")]
    NotTransactional,
    /// Not lawful now: the verbs are out of order.
    #[error("{verb} is not lawful while the transaction is {state}")]
    Unlawful {
        /// What was asked.
        verb: &'static str,
        /// How things stand.
        state: &'static str,
    },
    /// The transaction can only be aborted; the producer lives on.
    #[error("the transaction must be aborted: {0}")]
    MustAbort(Failure),
    /// Nobody answered in time. `init_transactions` again settles what was under way.
    #[error("{verb}: outcome unknown: {failure}")]
    Unknown {
        /// What was asked.
        verb: &'static str,
        /// Why nothing is known.
        failure: Failure,
    },
    /// This producer is of no more use: make another.
    #[error("the producer has failed for good: {0}")]
    Fatal(Failure),
}

impl TransactionError {
    /// What the caller can do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::MustAbort(_) => Recovery::Abort,
            Self::Fatal(_) => Recovery::Restart,
            Self::Unknown { .. } if self.is_retriable() => Recovery::Retry,
            Self::Unknown { .. } => Recovery::Doubt,
            Self::NotTransactional | Self::Unlawful { .. } => Recovery::Change,
        }
    }

    /// True when the same verb may succeed if called again.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unknown { verb: "init_transactions", .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_retried_must_be_aborted_or_is_the_end_is_told_apart() {
        let failure = || Failure::Request("gone".into());
        let partition = || TopicPartition::new("orders", 0);
        let expired = |is_in_doubt| ProduceError::Expired {
            partition: partition(),
            record_count: 1,
            timeout: Duration::ZERO,
            is_in_doubt,
        };
        let refused = |code| ProduceError::Refused {
            partition: partition(),
            record_count: 1,
            code,
            message: None,
        };
        for (error, want) in [
            (AppendError::BufferFull { used_bytes: 1 }.into(), Recovery::Retry),
            (AppendError::NoTransaction.into(), Recovery::Change),
            (AppendError::MustAbort(failure()).into(), Recovery::Abort),
            (expired(false), Recovery::Retry),
            (expired(true), Recovery::Doubt),
            (refused(ErrorCode::MessageTooLarge), Recovery::Change),
            (ProduceError::Fatal(failure()), Recovery::Restart),
        ] {
            assert_eq!(error.recovery(), want, "{error}");
        }
        let unknown = |verb| TransactionError::Unknown { verb, failure: failure() };
        for (error, want) in [
            (TransactionError::MustAbort(failure()), Recovery::Abort),
            (TransactionError::Fatal(failure()), Recovery::Restart),
            (unknown("init_transactions"), Recovery::Retry),
            (unknown("abort"), Recovery::Doubt),
            (TransactionError::NotTransactional, Recovery::Change),
        ] {
            assert_eq!(error.recovery(), want, "{error}");
        }
    }
}
