//! A door for proofs from outside this crate: one log on a simulated disk.
//!
//! What a fuzzer has to see of this room, and nobody else; present under the feature `check` alone.
//! The log is opened, written and read as its directory's writer does it. Disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::{LeaderEpoch, TopicId, TopicPartition};
use protocol::record::RecordBatch;

use super::checkpoint::Checkpoints;
use super::error::LogError;
use super::reader::{ReadError, Reader};
use super::recovery::{Place, Recovery};
use super::snapshot;
use super::state::{LogConfig, LogState, Placed};
use super::store::Log;
use crate::disk::{Disk, SimDisk};

/// The directory of the log directory.
pub const HOME: &str = "/data";
/// The directory of the log.
pub const DIR: &str = "/data/t-0";

/// An open log.
#[derive(Debug)]
pub struct Probe {
    config: LogConfig,
    checkpoints: Checkpoints,
    log: Log,
    state: LogState,
    reader: Reader,
    recovery: Recovery,
}

/// Small segments, snapshots and index entries, so that few batches meet every case.
#[must_use]
pub fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        segment_roll: Duration::from_secs(3600),
        segment_jitter: Duration::ZERO,
        jitter_seed: 0,
        segment_index_bytes: 1 << 20,
        index_interval_bytes: 150,
        snapshot_interval_bytes: 400,
        zeros_bytes_max: 300,
        space_bytes_max: 400,
    }
}

impl Probe {
    /// Opens the log in [`DIR`], whatever happened to it; there may be none yet.
    ///
    /// # Errors
    /// When what was durable is damaged or gone.
    pub fn open(disk: &SimDisk, config: LogConfig) -> Result<Self, LogError> {
        let home = Path::new(HOME);
        disk.create_dir_all(home).map_err(|error| LogError::of(home, "create", error))?;
        let checkpoints = Checkpoints::open(Arc::new(disk.clone()), home.join("checkpoint"))?;
        let place = Place {
            disk: Arc::new(disk.clone()),
            dir: Arc::from(Path::new(DIR)),
            partition: TopicPartition::new("t", 0),
            topic_id: TopicId([7; 16]),
            config: config.clone(),
            files: Arc::default(),
        };
        let (log, state, recovery) = Log::open(place, &checkpoints)?;
        state.check();
        let reader = log.reader();
        Ok(Self { config, checkpoints, log, state, reader, recovery })
    }

    /// Appends `batch` at the end, as the leader of this epoch.
    ///
    /// # Errors
    /// Whatever the disk says.
    ///
    /// # Panics
    /// For a control batch that cannot be read, and an epoch before the newest.
    pub fn append(&mut self, batch: &RecordBatch, leader_epoch: i32) -> Result<(), LogError> {
        let placed = Placed::new(batch, self.state.log_end(), LeaderEpoch(leader_epoch));
        let mut writes = Vec::new();
        let placed = placed.expect("who writes writes what can be read");
        self.state.admit([placed], &self.config, true, &mut writes);
        self.log.append(&writes)
    }

    /// Makes all durable, and has the checkpoint say so.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn checkpoint(&mut self) -> Result<(), LogError> {
        self.log.checkpoint(&mut self.checkpoints)?;
        self.checkpoints.store()
    }

    /// Closes the log in order.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn close(mut self) -> Result<(), LogError> {
        self.log.close(Some(&self.state), &mut self.checkpoints)?;
        self.checkpoints.store()
    }

    /// What opening it cost, and what it cut off.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// What follows from its batches.
    #[must_use]
    pub fn state(&self) -> &LogState {
        &self.state
    }

    /// Every batch, as a reader gets them.
    ///
    /// # Errors
    /// When what is read is no batch any more, or the disk fails.
    pub fn batches(&self) -> Result<Vec<RecordBatch>, ReadError> {
        let mut found = Vec::new();
        let mut from = self.reader.log_start();
        loop {
            let slice = self.reader.read(from, self.reader.log_end(), 300, true)?;
            if slice.bytes.is_empty() {
                return Ok(found);
            }
            assert!(slice.next_offset > from, "a reader goes on");
            from = slice.next_offset;
            let mut bytes = slice.bytes;
            while let Ok(Some(batch)) = RecordBatch::split_first(&mut bytes) {
                found.push(batch);
            }
        }
    }
}

/// The snapshot that `bytes` are, written anew. `None`: they are none.
#[must_use]
pub fn snapshot_again(bytes: &[u8]) -> Option<Bytes> {
    snapshot::decode(bytes).ok().map(|state| snapshot::encode(&state))
}
