//! The log against a model, with the power cut at every operation of the disk.
//!
//! A [`Script`] of steps runs on a simulated disk; what must survive is tracked beside it. After
//! each end the log is opened anew and compared: with what was acknowledged, with a replay from
//! scratch, and its indexes with a full scan.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{
    CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TopicId,
    TopicPartition,
};
use protocol::record::{BatchBuilder, BatchOptions, ControlRecord, RecordBatch};
use protocol::time::Timestamp;

use super::checkpoint::Checkpoints;
use super::error::LogError;
use super::reader::Reader;
use super::recovery::{Place, Recovery};
use super::state::{LogConfig, LogState, Placed, Write};
use super::store::Log;
use crate::disk::{Disk, SimDisk};

const TOPIC_ID: TopicId = TopicId([7; 16]);

/// Small segments and a dense index, so that short scripts meet every case.
fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        segment_roll: Duration::from_secs(3600),
        segment_index_bytes: 1 << 20,
        index_interval_bytes: 150,
    }
}

fn place(disk: &SimDisk) -> Place {
    Place {
        disk: Arc::new(disk.clone()),
        dir: Arc::from(Path::new("/data/t-0")),
        partition: TopicPartition::new("t", 0),
        topic_id: TOPIC_ID,
        config: config(),
    }
}

fn data(
    count: usize,
    at: i64,
    producer: Option<(i64, i16, i32)>,
    is_transactional: bool,
) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for n in 0..count {
        let value = vec![b'v'; 10 + 7 * n];
        builder
            .append(Timestamp(at + i64::try_from(n).unwrap()), Some(b"k"), Some(&value), &[])
            .unwrap();
    }
    let (id, epoch, sequence) = producer.unwrap_or((-1, -1, -1));
    builder.finish(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence), is_transactional)
}

fn marker(producer: i64, epoch: i16, commit: bool, at: i64) -> RecordBatch {
    let coordinator_epoch = CoordinatorEpoch(1);
    let control = if commit {
        ControlRecord::Commit { coordinator_epoch }
    } else {
        ControlRecord::Abort { coordinator_epoch }
    };
    control.end_txn_marker(ProducerId(producer), ProducerEpoch(epoch), Timestamp(at))
}

/// An open log with all that belongs to it.
struct Rig {
    disk: SimDisk,
    checkpoints: Checkpoints,
    log: Log,
    state: LogState,
    reader: Reader,
    recovery: Recovery,
}

impl Rig {
    fn open(disk: &SimDisk) -> Result<Self, LogError> {
        let path = Path::new("/data");
        disk.create_dir_all(path).map_err(|error| LogError::of(path, "create", error))?;
        disk.sync_dir(Path::new("/")).map_err(|error| LogError::of(path, "sync", error))?;
        let checkpoints = Checkpoints::open(Arc::new(disk.clone()), path.join("checkpoint"))?;
        let (log, state, recovery) = Log::open(place(disk), &checkpoints)?;
        state.check();
        let reader = log.reader();
        Ok(Self { disk: disk.clone(), checkpoints, log, state, reader, recovery })
    }

    fn admit(&mut self, batch: &RecordBatch, leader_epoch: i32) -> Vec<Write> {
        let placed = Placed::new(batch, self.state.log_end(), LeaderEpoch(leader_epoch)).unwrap();
        let mut writes = Vec::new();
        self.state.admit([placed], &config(), true, &mut writes);
        self.state.check();
        writes
    }

    fn append(&mut self, batch: &RecordBatch, leader_epoch: i32) -> Result<(), LogError> {
        let writes = self.admit(batch, leader_epoch);
        self.log.append(&writes)
    }

    /// Every batch in the log, as a reader gets them.
    fn batches(&self) -> Vec<RecordBatch> {
        let mut found = Vec::new();
        let mut from = self.reader.log_start();
        loop {
            let slice = self.reader.read(from, self.reader.log_end(), 300, true).unwrap();
            if slice.bytes.is_empty() {
                return found;
            }
            let mut bytes = slice.bytes;
            while let Some(batch) = RecordBatch::split_first(&mut bytes).unwrap() {
                batch.verify_crc().unwrap();
                from = batch.header().next_offset();
                found.push(batch);
            }
            assert!(bytes.is_empty());
            assert_eq!(from, slice.next_offset);
        }
    }
}

#[test]
fn what_is_appended_is_read_and_found_again_after_a_clean_close() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    for n in 0..20 {
        rig.append(&data(2, 1000 + n, None, false), 3).unwrap();
    }
    assert_eq!(rig.reader.log_end(), Offset(40));
    assert!(rig.reader.segments().len() > 3);
    let batches = rig.batches();
    assert_eq!(batches.len(), 20);
    let state = rig.state.clone();
    rig.log.close(Some(&state), &mut rig.checkpoints).unwrap();
    rig.checkpoints.store().unwrap();
    disk.crash();
    let again = Rig::open(&disk).unwrap();
    assert_eq!(again.recovery, Recovery::default());
    assert_eq!(again.batches(), batches);
    assert_eq!(again.state.epochs(), state.epochs());
    assert_eq!(again.state.active(), state.active());
}
