//! What follows from a log's batches, as a file: leader epochs and producers at one offset.
//!
//! Big endian: magic, version i16, CRC-32C of the rest; log end offset i64; count u32 of epochs,
//! each epoch i32 and start i64; count u32 of producers, each as written by `put_producer`; count
//! u32 of ended transactions whose marker may not be replicated, each first and marker offset i64.
//! A torn or foreign file does not decode, and recovery takes an older one. Nothing is allocated by
//! a count. Pure.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, TryGetError};
use protocol::ids::{CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use protocol::time::Timestamp;

use super::epochs::Epochs;
use super::producers::{Appended, BATCHES_MAX, Producer, Producers};
use super::state::LogState;

/// "MsPS": Millstream partition state.
const MAGIC: u32 = 0x4d73_5053;
const VERSION: i16 = 1;
/// Magic, version and checksum.
const HEAD_BYTES: usize = 10;
/// 256 MiB: more than the most producers that a partition remembers, with five batches each, take.
pub(super) const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// Why a file is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("not a snapshot of this version")]
    Foreign,
    #[error("checksum does not match")]
    Torn,
    #[error("content contradicts itself")]
    Malformed,
}

impl From<TryGetError> for SnapshotError {
    fn from(_: TryGetError) -> Self {
        Self::Malformed
    }
}

/// `state` as bytes. Its log start and active segment are not part of it.
pub(super) fn encode(state: &LogState) -> Bytes {
    let mut out = Vec::new();
    out.put_u32(MAGIC);
    out.put_i16(VERSION);
    out.put_u32(0);
    out.put_i64(state.log_end.0);
    put_count(&mut out, state.epochs.entries().len());
    for (epoch, start) in state.epochs.entries() {
        out.put_i32(epoch.0);
        out.put_i64(start.0);
    }
    put_count(&mut out, state.producers.entries.len());
    for (&id, producer) in &state.producers.entries {
        put_producer(&mut out, id, producer);
    }
    put_count(&mut out, state.producers.ended.len());
    for (first, marker) in &state.producers.ended {
        out.put_i64(first.0);
        out.put_i64(marker.0);
    }
    let crc = crc_fast::crc32_iscsi(&out[HEAD_BYTES..]);
    out[6..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

/// The state whose bytes these are, without its log start and active segment.
///
/// # Errors
/// When they are torn, or were never a snapshot.
pub(super) fn decode(bytes: &[u8]) -> Result<LogState, SnapshotError> {
    let mut from = bytes;
    if from.try_get_u32()? != MAGIC || from.try_get_i16()? != VERSION {
        return Err(SnapshotError::Foreign);
    }
    if from.try_get_u32()? != crc_fast::crc32_iscsi(from) {
        return Err(SnapshotError::Torn);
    }
    let log_end = Offset(from.try_get_i64()?);
    let mut entries = Vec::new();
    for _ in 0..from.try_get_u32()? {
        entries.push((LeaderEpoch(from.try_get_i32()?), Offset(from.try_get_i64()?)));
    }
    let mut producers = Producers::default();
    for _ in 0..from.try_get_u32()? {
        let (id, producer) = take_producer(&mut from)?;
        if !producers.restore(id, producer) {
            return Err(SnapshotError::Malformed);
        }
    }
    for _ in 0..from.try_get_u32()? {
        producers.ended.insert(Offset(from.try_get_i64()?), Offset(from.try_get_i64()?));
    }
    if from.has_remaining() {
        return Err(SnapshotError::Malformed);
    }
    let epochs = Epochs::from_entries(entries).ok_or(SnapshotError::Malformed)?;
    Ok(LogState { epochs, producers, ..LogState::empty(log_end) })
}

/// Id i64, epoch i16, coordinator epoch i32, start of its open transaction i64 (-1: none), last
/// offset i64, last timestamp i64; count u8 of batches, each first and last sequence i32, base and
/// last offset i64, timestamp i64.
fn put_producer(out: &mut Vec<u8>, id: ProducerId, producer: &Producer) {
    out.put_i64(id.0);
    out.put_i16(producer.epoch.0);
    out.put_i32(producer.coordinator_epoch.0);
    out.put_i64(producer.open_from.unwrap_or(Offset::NONE).0);
    out.put_i64(producer.last_offset.0);
    out.put_i64(producer.last_timestamp.0);
    out.put_u8(u8::try_from(producer.batches.len()).expect("at most five are remembered"));
    for batch in &producer.batches {
        out.put_i32(batch.base_sequence.0);
        out.put_i32(batch.last_sequence.0);
        out.put_i64(batch.base_offset.0);
        out.put_i64(batch.last_offset.0);
        out.put_i64(batch.timestamp.0);
    }
}

fn take_producer(from: &mut &[u8]) -> Result<(ProducerId, Producer), SnapshotError> {
    let id = ProducerId(from.try_get_i64()?);
    let epoch = ProducerEpoch(from.try_get_i16()?);
    let coordinator_epoch = CoordinatorEpoch(from.try_get_i32()?);
    let open_from = Some(Offset(from.try_get_i64()?)).filter(|&first| first != Offset::NONE);
    let last_offset = Offset(from.try_get_i64()?);
    let last_timestamp = Timestamp(from.try_get_i64()?);
    let count = usize::from(from.try_get_u8()?);
    if count > BATCHES_MAX {
        return Err(SnapshotError::Malformed);
    }
    let mut batches = VecDeque::new();
    for _ in 0..count {
        batches.push_back(Appended {
            base_sequence: Sequence(from.try_get_i32()?),
            last_sequence: Sequence(from.try_get_i32()?),
            base_offset: Offset(from.try_get_i64()?),
            last_offset: Offset(from.try_get_i64()?),
            timestamp: Timestamp(from.try_get_i64()?),
        });
    }
    Ok((id, Producer { epoch, coordinator_epoch, batches, open_from, last_offset, last_timestamp }))
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_u32(u32::try_from(count).expect("fewer than 2^32 fit any bound of ours"));
}
