//! Why a broker does not start. Pure.

use std::io;
use std::path::PathBuf;

use client::net::tls::TlsError;

use crate::auth::{DecoyKeyError, KeySourceError};
use crate::config::{self, ListenerError};
use crate::controller::ControllerError;
use crate::log::LogError;
use crate::quorum;

/// Why a broker does not start. Nothing is running then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen where it should.
    #[error("cannot listen on {endpoint}")]
    Listen {
        /// Where.
        endpoint: config::Endpoint,
        /// What the network said.
        source: io::Error,
    },
    /// The directory of data cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A file that says whose the directory is cannot be read.
    #[error("{}: cannot be read", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// There is no thread to be had.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
    /// The metadata cannot be had.
    #[error(transparent)]
    Quorum(#[from] quorum::StartError),
    /// A listener cannot be as its settings say.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// A listener's certificates cannot be used.
    #[error("listener {listener}")]
    Tls {
        /// Which listener.
        listener: String,
        /// What is wrong with them.
        source: TlsError,
    },
    /// A listener's keys of tokens cannot be had.
    #[error("listener {listener}")]
    Keys {
        /// Which listener.
        listener: String,
        /// What is wrong with them.
        source: KeySourceError,
    },
    /// The key of SCRAM's decoys cannot be had.
    #[error(transparent)]
    DecoyKey(#[from] DecoyKeyError),
    /// The broker could not be registered.
    #[error("the broker could not be registered")]
    Register(#[from] ControllerError),
}
