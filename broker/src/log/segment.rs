//! A stretch of the log: a file of batches, its index, its aborted transactions.
//!
//! Only the last segment of a log grows. The others are complete, and most of them are never read:
//! their files and indexes are opened when someone first asks. What is summed up here covers
//! exactly the batches that are wholly written, so a reader never meets half of one. Disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use protocol::ids::Offset;
use protocol::time::Timestamp;

use super::error::LogError;
use super::index::{self, Index, Seal, Summary};
use super::producers::AbortedTxn;
use super::scan::as_u64;
use super::state::Placed;
use super::txn_index;
use crate::disk::{Disk, File, Open, read_file};

/// What follows the base offset in a file's name.
pub(super) const LOG: &str = "log";
pub(super) const INDEX: &str = "index";
pub(super) const TXN_INDEX: &str = "txnindex";
pub(super) const SNAPSHOT: &str = "snapshot";

/// The name of a segment's file of this kind.
pub(super) fn file_name(base: Offset, kind: &str) -> String {
    format!("{:020}.{kind}", base.0)
}

/// The base offset and kind of a segment's file of this name; `None` when it is no such file.
pub(super) fn parse_name(name: &str) -> Option<(Offset, &str)> {
    let (digits, kind) = name.split_once('.')?;
    let is_offset = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_offset.then(|| Some((Offset(digits.parse().ok()?), kind)))?
}

/// A segment as readers see it.
#[derive(Debug)]
pub(super) struct Segment {
    base: Offset,
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    log: OnceLock<Arc<dyn File>>,
    // Readers look positions up on threads of their own while the writer appends. An owner would
    // put its queue, and its syncs, before every read. Held for a look-up or an addition in memory.
    tail: RwLock<Tail>,
}

#[derive(Debug)]
struct Tail {
    summary: Summary,
    /// `None`: complete, and not looked at yet.
    index: Option<Index>,
    index_entries: u32,
    aborted: Vec<AbortedTxn>,
}

impl Segment {
    /// A segment that is being written, as far as `summary` goes.
    pub(super) fn growing(
        disk: Arc<dyn Disk>,
        dir: Arc<Path>,
        base: Offset,
        file: Arc<dyn File>,
        content: (Summary, Index, Vec<AbortedTxn>),
    ) -> Self {
        let (summary, index, aborted) = content;
        let index_entries = count(index.len());
        let tail = Tail { summary, index: Some(index), index_entries, aborted };
        Self { base, disk, dir, log: OnceLock::from(file), tail: RwLock::new(tail) }
    }

    /// A complete segment of which `seal` tells.
    pub(super) fn complete(
        disk: Arc<dyn Disk>,
        dir: Arc<Path>,
        base: Offset,
        seal: &Seal,
        aborted: Vec<AbortedTxn>,
    ) -> Self {
        let index = (seal.entries == 0).then(Index::default);
        let tail = Tail { summary: seal.summary, index, index_entries: seal.entries, aborted };
        Self { base, disk, dir, log: OnceLock::new(), tail: RwLock::new(tail) }
    }

    pub(super) fn base(&self) -> Offset {
        self.base
    }

    pub(super) fn path(&self, kind: &str) -> PathBuf {
        self.dir.join(file_name(self.base, kind))
    }

    pub(super) fn summary(&self) -> Summary {
        self.read(|tail| tail.summary)
    }

    /// What a seal of it would say now.
    pub(super) fn seal(&self) -> Seal {
        self.read(|tail| Seal {
            summary: tail.summary,
            entries: tail.index_entries,
            aborted: count(tail.aborted.len()),
        })
    }

    /// The file of batches.
    pub(super) fn log(&self) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.log.get() {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.path(LOG), Open::Existing)?;
        Ok(Arc::clone(self.log.get_or_init(|| file)))
    }

    /// Where to begin reading to find the batch with `offset`.
    pub(super) fn position_of(&self, offset: Offset) -> Result<u64, LogError> {
        self.with_index(|index| index.position_of(self.base, offset))
    }

    /// Where to begin reading to find the first batch with a timestamp of at least `timestamp`.
    pub(super) fn position_of_time(&self, timestamp: Timestamp) -> Result<u64, LogError> {
        self.with_index(|index| index.position_of_time(timestamp))
    }

    /// Calls `look` with each aborted transaction, in the order of markers.
    pub(super) fn each_aborted(&self, mut look: impl FnMut(&AbortedTxn)) {
        self.read(|tail| tail.aborted.iter().for_each(&mut look));
    }

    /// The index entries from number `index_from` and aborted transactions from `aborted_from`
    /// on, as their files have them.
    pub(super) fn encode_from(
        &self,
        index_from: u32,
        aborted_from: u32,
    ) -> Result<(Vec<u8>, Vec<u8>), LogError> {
        let index_bytes =
            self.with_index(|index| index.encode_from(self.base, to_usize(index_from)))?;
        let aborted_bytes =
            self.read(|tail| txn_index::encode_from(&tail.aborted, to_usize(aborted_from)));
        Ok((index_bytes, aborted_bytes))
    }

    /// How many index entries and aborted transactions lie below what `summary` sums up.
    pub(super) fn counts_below(&self, summary: &Summary) -> Result<(u32, u32), LogError> {
        let entries = self.with_index(|index| index.count_below(summary.bytes))?;
        let aborted = self.read(|tail| {
            tail.aborted.iter().filter(|txn| txn.last_offset < summary.next_offset).count()
        });
        Ok((count(entries), count(aborted)))
    }

    /// Batches were written behind the others.
    pub(super) fn extend(&self, batches: &[Placed], aborted: &[AbortedTxn], interval_bytes: u32) {
        self.write(|tail| {
            let index = tail.index.as_mut().expect("a growing segment has its index in memory");
            for batch in batches {
                index.note(self.base, &batch.header, &tail.summary, interval_bytes);
                tail.summary.apply(&batch.header);
            }
            tail.index_entries = count(index.len());
            tail.aborted.extend_from_slice(aborted);
        });
    }

    /// What is at or after `summary.bytes` is gone.
    pub(super) fn truncate_to(&self, summary: Summary) -> Result<(), LogError> {
        self.with_index(|_| ())?;
        self.write(|tail| {
            let index = tail.index.as_mut().expect("loaded just now");
            index.truncate_to(summary.bytes);
            tail.index_entries = count(index.len());
            tail.aborted.retain(|txn| txn.last_offset < summary.next_offset);
            tail.summary = summary;
        });
        Ok(())
    }

    fn with_index<T>(&self, look: impl Fn(&Index) -> T) -> Result<T, LogError> {
        let found = self.read(|tail| tail.index.as_ref().map(&look).ok_or(tail.index_entries));
        let entries = match found {
            Ok(found) => return Ok(found),
            Err(entries) => entries,
        };
        let index = load_index(&*self.disk, &self.path(INDEX), self.base, entries)?;
        let found = look(&index);
        self.write(|tail| {
            tail.index.get_or_insert(index);
        });
        Ok(found)
    }

    fn read<T>(&self, look: impl FnOnce(&Tail) -> T) -> T {
        look(&self.tail.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Tail) -> T) -> T {
        change(&mut self.tail.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The first `entries` entries of an index file.
pub(super) fn load_index(
    disk: &dyn Disk,
    path: &Path,
    base: Offset,
    entries: u32,
) -> Result<Index, LogError> {
    if entries == 0 {
        return Ok(Index::default());
    }
    let bytes_max = index::entry_position(u32::MAX);
    let file =
        read_file(disk, path, bytes_max).map_err(|e| LogError::of(path, "read the index", e))?;
    Index::decode(base, &file, entries).ok_or_else(|| LogError::Corrupt {
        path: path.to_owned(),
        position: 0,
        what: "the index is damaged",
    })
}

/// The first `entries` entries of a file of aborted transactions.
pub(super) fn load_aborted(
    disk: &dyn Disk,
    path: &Path,
    entries: u32,
) -> Result<Vec<AbortedTxn>, LogError> {
    if entries == 0 {
        return Ok(Vec::new());
    }
    let bytes_max = txn_index::entry_position(u32::MAX);
    let file = read_file(disk, path, bytes_max)
        .map_err(|e| LogError::of(path, "read the aborted transactions", e))?;
    txn_index::decode(&file, entries).ok_or_else(|| LogError::Corrupt {
        path: path.to_owned(),
        position: 0,
        what: "the file of aborted transactions is damaged",
    })
}

/// The seal of the segment that begins at `base`; `None` when it has none, and so may be torn.
pub(super) fn load_seal(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
) -> Result<Option<Seal>, LogError> {
    let path = dir.join(file_name(base, INDEX));
    let fail = |error| LogError::of(&path, "read the seal", error);
    let file = match disk.open(&path, Open::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(fail)?,
    };
    let file_bytes = file.len().map_err(fail)?;
    let seal_bytes = as_u64(index::SEAL_BYTES);
    let Some(at) = file_bytes.checked_sub(seal_bytes) else { return Ok(None) };
    let mut end = [0; index::SEAL_BYTES];
    let read = file.read_at(&mut end, at).map_err(fail)?;
    Ok(Seal::decode(base, &end[..read], file_bytes))
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("a segment of 4 GiB has fewer than 2^32 entries")
}

fn to_usize(ordinal: u32) -> usize {
    usize::try_from(ordinal).expect("usize has at least 32 bits")
}
