//! Why an application stopped, or never started. Shell.

use std::time::Duration;

use client::consumer::{CommitError, ConsumeError};
use client::error::RequestError;
use client::net::EndpointError;
use client::producer::{ConnectError, Failure, ProduceError, TransactionError};
use protocol::ids::TopicPartition;
use protocol::record::BatchError;

use crate::error::{StreamsError, TopicError};

/// Why an application stopped, or never started.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The bootstrap servers are no endpoints.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The application was not told where the cluster is.
    #[error("no bootstrap servers: call `bootstrap` or `connect_with`")]
    NoBootstrap,
    /// The topology does not fit the topics that exist.
    #[error("the topology does not fit the topics: {}", list(.0))]
    Topics(Vec<TopicError>),
    /// A record was refused and no policy forgave it. Everything before it is committed; the
    /// application would fail at it again.
    #[error(transparent)]
    Task(#[from] Box<StreamsError>),
    /// The producer could not be made.
    #[error(transparent)]
    Producer(#[from] ConnectError),
    /// The consumer could not be made.
    #[error(transparent)]
    Consumer(#[from] client::consumer::ConnectError),
    /// Records cannot be had.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// Offsets were not committed, or cannot be had.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A fetched batch holds what is no record.
    #[error("partition {partition}: {source}")]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong.
        source: BatchError,
    },
    /// The cluster did not answer, or refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What was produced could not be written.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// A transaction could not be brought to an end.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A transaction was aborted.
    #[error("the transaction was aborted: {0}")]
    Aborted(Failure),
    /// It went wrong again and again without any progress in between.
    #[error("gave up after {attempts} attempts without progress: {last}")]
    GaveUp {
        /// How often it was tried.
        attempts: u32,
        /// How the last attempt failed.
        last: Box<AppError>,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The application stopped before it came to that.
    #[error("the application was stopped")]
    Stopped,
    /// It took longer than allowed; it goes on all the same.
    #[error("{what}: not done within {timeout:?}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        timeout: Duration,
    },
}

impl AppError {
    /// True when beginning anew cannot help.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Endpoint(_)
            | Self::NoBootstrap
            | Self::Topics(_)
            | Self::Task(_)
            | Self::Damaged { .. }
            | Self::Producer(ConnectError::Config(_))
            | Self::Consumer(client::consumer::ConnectError::Config(_))
            | Self::GaveUp { .. }
            | Self::Thread(_)
            | Self::Stopped => true,
            Self::Producer(ConnectError::Request(_))
            | Self::Consumer(client::consumer::ConnectError::Request(_))
            | Self::Consume(_)
            | Self::Commit(_)
            | Self::Request(_)
            | Self::Produce(_)
            | Self::Transaction(_)
            | Self::Aborted(_)
            | Self::TimedOut { .. } => false,
        }
    }

    /// True when a newer producer of the same name ended the session.
    pub(super) fn is_fenced(&self) -> bool {
        match self {
            Self::Produce(ProduceError::Fatal(failure))
            | Self::Transaction(TransactionError::Fatal(failure))
            | Self::Aborted(failure) => matches!(failure, Failure::Fenced { .. }),
            _ => false,
        }
    }
}

fn list(errors: &[TopicError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
