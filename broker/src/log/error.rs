//! How a log can fail, and what follows from it.
//!
//! A full disk passes, and so does having as many files open as may be: the write is undone, the
//! writer told to try again. Were the latter to take a log directory offline, whoever can open
//! connections could. Any other error of the disk, and damage to what was durable, does not pass:
//! the log directory goes offline and its replicas elsewhere take over (KIP-112). Pure.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, TopicId, TopicPartition};

use crate::disk::{is_full, is_out_of_files};

/// Why a log could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The disk has no room. Nothing was changed; the same may succeed later.
    #[error("{}: no space left to {doing}", path.display())]
    Full {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The disk's words.
        source: Arc<io::Error>,
    },
    /// As many files are open as may be. Nothing was changed; the same may succeed later.
    #[error("{}: as many files are open as may be: cannot {doing}", path.display())]
    OutOfFiles {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The kernel's words.
        source: Arc<io::Error>,
    },
    /// The disk failed. What was not durable before may be lost; the directory goes offline.
    #[error("{}: cannot {doing}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The disk's words.
        source: Arc<io::Error>,
    },
    /// Something that was durable is not as it was. This log cannot be opened or read.
    #[error("{}: {what} at position {position}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The log on disk belongs to another topic of the same name. KIP-516.
    #[error("partition {partition}: topic id {stored} is on disk, {asked} was asked for")]
    InconsistentTopicId {
        /// Which partition.
        partition: TopicPartition,
        /// The topic id on disk.
        stored: TopicId,
        /// The topic id asked for.
        asked: TopicId,
    },
    /// An earlier write failed, so this one, decided before that was known, cannot follow. Fetch
    /// the state as it is on disk, then go on from there.
    #[error("partition {partition}: a write at {got} cannot follow log end offset {log_end}")]
    OutOfStep {
        /// Which partition.
        partition: TopicPartition,
        /// Where the log ends.
        log_end: Offset,
        /// Where the write supposed that it ends.
        got: Offset,
    },
    /// The log directory failed earlier and is offline until the broker is restarted. KIP-112.
    #[error("log directory {} is offline", dir.display())]
    Offline {
        /// Which directory.
        dir: PathBuf,
    },
    /// Another process uses the log directory.
    #[error("log directory {} is locked by another process", dir.display())]
    Locked {
        /// Which directory.
        dir: PathBuf,
    },
    /// The log directory belongs to another broker or cluster.
    #[error("log directory {} belongs to {stored}, this is {asked}", dir.display())]
    Foreign {
        /// Which directory.
        dir: PathBuf,
        /// Whose it is.
        stored: String,
        /// Who asks.
        asked: String,
    },
    /// The partition is open already.
    #[error("partition {partition} is open already")]
    AlreadyOpen {
        /// Which partition.
        partition: TopicPartition,
    },
    /// No log of this id is open; it was closed or deleted.
    #[error("log {id} is not open")]
    NotOpen {
        /// Which.
        id: usize,
    },
    /// The directory's writer has ended.
    #[error("the log directory's writer has ended")]
    Closed,
}

impl LogError {
    /// The error that `source` means when `doing` something with `path` failed.
    #[must_use]
    pub fn of(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) {
            Self::Full { path, doing, source: Arc::new(source) }
        } else if is_out_of_files(&source) {
            Self::OutOfFiles { path, doing, source: Arc::new(source) }
        } else {
            Self::Io { path, doing, source: Arc::new(source) }
        }
    }

    /// True when the directory can no longer be trusted with anything.
    #[must_use]
    pub fn takes_dir_offline(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Offline { .. } | Self::Closed => true,
            Self::Full { .. }
            | Self::OutOfFiles { .. }
            | Self::Corrupt { .. }
            | Self::InconsistentTopicId { .. }
            | Self::OutOfStep { .. }
            | Self::Locked { .. }
            | Self::Foreign { .. }
            | Self::AlreadyOpen { .. }
            | Self::NotOpen { .. } => false,
        }
    }

    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InconsistentTopicId { .. } => ErrorCode::InconsistentTopicId,
            Self::NotOpen { .. } | Self::AlreadyOpen { .. } => ErrorCode::NotLeaderOrFollower,
            Self::Full { .. }
            | Self::OutOfFiles { .. }
            | Self::Io { .. }
            | Self::Corrupt { .. }
            | Self::OutOfStep { .. }
            | Self::Offline { .. }
            | Self::Locked { .. }
            | Self::Foreign { .. }
            | Self::Closed => ErrorCode::KafkaStorageError,
        }
    }
}
