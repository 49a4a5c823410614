//! How a task says what went wrong: whether trying again can help, and which thing it was. Pure.

use std::error::Error;

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The world may be better later: a server that does not answer, a full disk.
    Retriable,
    /// It will fail again until somebody acts: no permission, a store that lies, lost data.
    Fatal,
}

/// A failure of a connector's task.
#[derive(Debug, thiserror::Error)]
#[error("{thing}: {source}")]
pub struct TaskError {
    /// Whether trying again can help.
    pub failure: Failure,
    /// What failed, as the operator knows it: `file /var/log/syslog`, `object logs/2026/1.parquet`.
    pub thing: String,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}

impl TaskError {
    /// `thing` failed for a reason that may pass.
    pub fn retriable(
        thing: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { failure: Failure::Retriable, thing: thing.into(), source: source.into() }
    }

    /// `thing` failed for a reason that will not pass by itself.
    pub fn fatal(
        thing: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { failure: Failure::Fatal, thing: thing.into(), source: source.into() }
    }

    /// True when trying again can help.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.failure == Failure::Retriable
    }
}
