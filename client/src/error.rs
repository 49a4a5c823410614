//! The error that requests of every client share: why the cluster did not do as asked.
//!
//! Producer, consumer and admin have their own enums where the difference matters to the caller;
//! beneath it lies this one. Pure.

use std::time::Duration;

use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use crate::net::connection::CallError;

/// What a caller can do about an error. KIP-1050.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The same call may succeed later.
    Retry,
    /// Poll: what is owned has changed, or is about to. Then go on with what is still owned.
    Poll,
    /// Abort the transaction, and begin another with the same records.
    Abort,
    /// Nobody knows what came of it: find out before it is done again.
    Doubt,
    /// This client is of no more use: make another.
    Restart,
    /// What was asked for is refused: ask for something else.
    Change,
}

/// Why the cluster did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// No answer came.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer is an error.
    #[error("{subject}: {api}: {code}{}", .message.as_ref().map(|it| format!(" ({it})")).unwrap_or_default())]
    Refused {
        /// What was asked.
        api: ApiKey,
        /// What it was about: a topic, a partition, a group.
        subject: String,
        /// The error.
        code: ErrorCode,
        /// What the broker has to say about it.
        message: Option<String>,
    },
    /// The answer says nothing about what was asked.
    #[error("{subject}: the answer to {api} does not mention it")]
    Missing {
        /// What was asked.
        api: ApiKey,
        /// What it was about.
        subject: String,
    },
    /// Nobody is known to lead the partition at present.
    #[error("{subject}: no leader is known")]
    NoLeader {
        /// The partition.
        subject: String,
    },
    /// The broker that was to be asked is not among the living.
    #[error("broker {broker}: not among the living brokers")]
    UnknownBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// Attempts went on until the time was up.
    #[error("{what}: not done within {timeout:?}{}", .last.as_ref().map(|it| format!(", last: {it}")).unwrap_or_default())]
    TimedOut {
        /// What was attempted.
        what: &'static str,
        /// For how long.
        timeout: Duration,
        /// Why the last attempt failed, if one did.
        last: Option<Box<RequestError>>,
    },
}

impl RequestError {
    pub(crate) fn code(
        api: ApiKey,
        subject: impl Into<String>,
        code: ErrorCode,
        message: Option<String>,
    ) -> Self {
        Self::Refused { api, subject: subject.into(), code, message }
    }

    /// True when the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Call(error) => error.is_retriable(),
            // Whom to ask is forgotten by then: the next attempt begins at the bootstrap servers.
            Self::Refused { code: ErrorCode::RebootstrapRequired, .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::NoLeader { .. } | Self::TimedOut { .. } => true,
            Self::Missing { .. } | Self::UnknownBroker { .. } => false,
        }
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        if self.is_retriable() { Recovery::Retry } else { Recovery::Change }
    }

    /// The error code of the answer, if there was one.
    #[must_use]
    pub fn error_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::TimedOut { last, .. } => last.as_ref().and_then(|it| it.error_code()),
            Self::Call(_)
            | Self::Missing { .. }
            | Self::NoLeader { .. }
            | Self::UnknownBroker { .. } => None,
        }
    }
}
