//! What a log directory knows of its logs without reading them: where each begins, and up to where
//! it is durable, and clean.
//!
//! One file for all logs of the directory, replaced whole and synced. A log start offset is in it
//! before anything is deleted; a point is in it only after everything below was synced, and leaves
//! it before anything below is cut off. So what it says is always true, if not always new.
//!
//! Big endian: magic u32, version u32, CRC-32C u32 of the rest; count u32, then for each log: topic
//! (length u16, UTF-8), partition i32, log start i64, end of the clean
//! part i64, 1 or 0 for a point, and the point: segment
//! base i64, then six fields as in a seal.
//!
//! It may be stored by another thread while its owner goes on: each change makes a new version, and an
//! older one never takes the place of a newer. Shell.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, TryGetError};
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;

use super::error::LogError;
use super::index::{Seal, Summary};
use crate::disk::{Disk, read_file, replace_file};

/// "MsCP".
const MAGIC: u32 = 0x4d73_4350;
const VERSION: u32 = 2;
/// Magic, version and checksum.
const HEAD_BYTES: usize = 12;
/// 512 MiB: over a million logs.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// The file's name in the log directory.
pub(super) const FILE: &str = "checkpoint";

/// How far a log is known to be durable: all segments before `segment`, and of that one what the
/// seal sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Base of the segment that was being written.
    pub(super) segment: Offset,
    pub(super) durable: Seal,
}

/// What is known of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) log_start: Offset,
    pub(super) point: Option<Point>,
    /// Below this compaction has cleaned the log.
    pub(super) cleaned: Offset,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { log_start: Offset::ZERO, point: None, cleaned: Offset::ZERO }
    }
}

/// What the file will say once it is stored.
#[derive(Debug)]
pub(super) struct Checkpoints {
    file: Arc<CheckpointFile>,
    entries: BTreeMap<TopicPartition, Checkpoint>,
    /// Counts the changes.
    version: u64,
    /// Up to here others were asked to store them.
    asked: u64,
}

#[derive(Debug)]
struct CheckpointFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    // Held while a version is written: the next one, whoever brings it, has to wait for it in any case.
    stored: Mutex<u64>,
}

/// A version that is to be stored.
#[derive(Debug)]
pub(super) struct Unstored {
    file: Arc<CheckpointFile>,
    version: u64,
    bytes: Vec<u8>,
}

impl CheckpointFile {
    fn stored(&self) -> MutexGuard<'_, u64> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unstored {
    /// Makes it durable, unless a newer version is, or there is no owner any more.
    pub(super) fn store(&self) -> Result<(), LogError> {
        let CheckpointFile { disk, path, .. } = &*self.file;
        let mut stored = self.file.stored();
        if *stored < self.version {
            replace_file(&**disk, path, &self.bytes)
                .map_err(|error| LogError::of(path, "store the checkpoint", error))?;
            *stored = self.version;
        }
        Ok(())
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        // Whoever takes the directory next must not find what is still under way in its place.
        *self.file.stored() = u64::MAX;
    }
}

impl Checkpoints {
    /// Reads the file at `path`; there may be none yet.
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, LogError> {
        let entries = match read_file(&*disk, &path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(LogError::of(&path, "read the checkpoint", error)),
            Ok(bytes) => decode(&bytes).ok_or_else(|| LogError::Corrupt {
                path: path.clone(),
                position: 0,
                what: "the checkpoint is damaged",
            })?,
        };
        let file = Arc::new(CheckpointFile { disk, path, stored: Mutex::new(0) });
        Ok(Self { file, entries, version: 0, asked: 0 })
    }

    pub(super) fn of(&self, partition: &TopicPartition) -> Checkpoint {
        self.entries.get(partition).copied().unwrap_or_default()
    }

    /// Changes what is known of a log. Durable after `store`.
    pub(super) fn update(
        &mut self,
        partition: &TopicPartition,
        change: impl FnOnce(&mut Checkpoint),
    ) {
        let mut entry = self.of(partition);
        change(&mut entry);
        if entry != self.of(partition) {
            self.version += 1;
            self.entries.insert(partition.clone(), entry);
        }
    }

    /// Forgets a log. Durable after `store`.
    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        self.version += u64::from(self.entries.remove(partition).is_some());
    }

    /// Makes all changes durable, also those that another is storing.
    pub(super) fn store(&mut self) -> Result<(), LogError> {
        let is_stored = *self.file.stored() >= self.version;
        if !is_stored {
            self.unstored().store()?;
        }
        self.asked = self.version;
        Ok(())
    }

    /// True when there are changes that nobody was asked to store.
    pub(super) fn has_new(&self) -> bool {
        self.asked < self.version
    }

    /// The newest version, for another to store; `None` if one was asked to.
    pub(super) fn take_unstored(&mut self) -> Option<Unstored> {
        let is_new = self.has_new();
        self.asked = self.version;
        is_new.then(|| self.unstored())
    }

    /// Who was asked to store it could not.
    pub(super) fn was_not_stored(&mut self) {
        self.asked = 0;
    }

    fn unstored(&self) -> Unstored {
        let file = Arc::clone(&self.file);
        Unstored { file, version: self.version, bytes: encode(&self.entries) }
    }
}

fn encode(entries: &BTreeMap<TopicPartition, Checkpoint>) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(MAGIC);
    out.put_u32(VERSION);
    out.put_u32(0);
    out.put_u32(u32::try_from(entries.len()).expect("fewer than 2^32 logs"));
    for (partition, entry) in entries {
        let topic = partition.topic.as_bytes();
        out.put_u16(u16::try_from(topic.len()).expect("a topic's name has at most 249 bytes"));
        out.put_slice(topic);
        out.put_i32(partition.partition.0);
        out.put_i64(entry.log_start.0);
        out.put_i64(entry.cleaned.0);
        out.put_u8(u8::from(entry.point.is_some()));
        if let Some(Point { segment, durable }) = &entry.point {
            out.put_i64(segment.0);
            out.put_u32(durable.entries);
            out.put_u32(durable.aborted);
            out.put_u64(durable.summary.bytes);
            out.put_i64(durable.summary.next_offset.0);
            out.put_i64(durable.summary.first_timestamp.0);
            out.put_i64(durable.summary.max_timestamp.0);
            out.put_i64(durable.summary.max_timestamp_at.0);
        }
    }
    let crc = crc_fast::crc32_iscsi(&out[HEAD_BYTES..]);
    out[8..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<TopicPartition, Checkpoint>> {
    let mut from = bytes;
    let is_ours = from.try_get_u32().ok()? == MAGIC && from.try_get_u32().ok()? == VERSION;
    if !is_ours || from.try_get_u32().ok()? != crc_fast::crc32_iscsi(from) {
        return None;
    }
    let mut entries = BTreeMap::new();
    for _ in 0..from.try_get_u32().ok()? {
        let length = usize::from(from.try_get_u16().ok()?);
        let (topic, rest) = from.split_at_checked(length)?;
        from = rest;
        let topic = std::str::from_utf8(topic).ok()?;
        let partition = TopicPartition::new(topic, from.try_get_i32().ok()?);
        let log_start = Offset(from.try_get_i64().ok()?);
        let cleaned = Offset(from.try_get_i64().ok()?);
        let point = match from.try_get_u8().ok()? {
            0 => None,
            _ => Some(take_point(&mut from).ok()?),
        };
        entries.insert(partition, Checkpoint { log_start, point, cleaned });
    }
    from.is_empty().then_some(entries)
}

fn take_point(from: &mut &[u8]) -> Result<Point, TryGetError> {
    let segment = Offset(from.try_get_i64()?);
    let entries = from.try_get_u32()?;
    let aborted = from.try_get_u32()?;
    let summary = Summary {
        bytes: from.try_get_u64()?,
        next_offset: Offset(from.try_get_i64()?),
        first_timestamp: Timestamp(from.try_get_i64()?),
        max_timestamp: Timestamp(from.try_get_i64()?),
        max_timestamp_at: Offset(from.try_get_i64()?),
    };
    Ok(Point { segment, durable: Seal { summary, entries, aborted } })
}
