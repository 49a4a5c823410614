//! A stretch of the log: a file of batches, its index, its aborted transactions.
//!
//! Only the last segment of a log grows, and most of the others are never read: files are opened when
//! someone first asks, and stay open while they are written to. Of an index only the newest entries are in
//! memory. What is summed up here covers exactly the batches that are wholly written, so a reader
//! never meets half of one. Disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use protocol::ids::Offset;
use protocol::time::Timestamp;

use super::error::LogError;
use super::files::Files;
use super::index::{self, Entry, Index, Lookup, Seal, Summary};
use super::producers::AbortedTxn;
use super::recovery::Place;
use super::scan::as_u64;
use super::search::{self, SearchError};
use super::state::Placed;
use super::txn_index;
use crate::disk::{Disk, File, Open, read_file};
use crate::limits::{Kept, Lent};

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
    // Readers on any thread ask for what the writer opens and closes. Held to look, to put in, and to
    // take out.
    kept: RwLock<Opened>,
    /// Where else its files are open, and under which number.
    files: (Arc<Files>, u64),
    // Readers look positions up on threads of their own while the writer appends. An owner would
    // put its queue, and its syncs, before every read. Held for a look-up or an addition in memory.
    tail: RwLock<Tail>,
}

/// An open file, counted among those that are written to.
type KeptFile = (Arc<dyn File>, Kept);

/// Its files that stay open: while they are written to, and once others have its names.
#[derive(Debug, Default)]
struct Opened {
    log: Option<KeptFile>,
    index: Option<KeptFile>,
}

#[derive(Debug)]
struct Tail {
    summary: Summary,
    index: Index,
    aborted: Vec<AbortedTxn>,
}

impl Drop for Segment {
    fn drop(&mut self) {
        let (files, number) = &self.files;
        files.forget(*number);
    }
}

impl Segment {
    /// A segment that is being written, as far as `summary` goes; `file` is its file of batches.
    pub(super) fn growing(
        place: &Place,
        base: Offset,
        file: Arc<dyn File>,
        content: (Summary, Index, Vec<AbortedTxn>),
    ) -> Self {
        let (summary, index, aborted) = content;
        let segment = Self::new(place, base, Tail { summary, index, aborted });
        segment.keep(|kept| &mut kept.log, file);
        segment
    }

    /// A complete segment of which `seal` tells.
    pub(super) fn complete(
        place: &Place,
        base: Offset,
        seal: &Seal,
        aborted: Vec<AbortedTxn>,
    ) -> Self {
        // It will not grow: where its last entry is does not matter.
        let index = Index::resume(seal.entries, 0);
        Self::new(place, base, Tail { summary: seal.summary, index, aborted })
    }

    fn new(place: &Place, base: Offset, tail: Tail) -> Self {
        Self {
            base,
            disk: Arc::clone(&place.disk),
            dir: Arc::clone(&place.dir),
            kept: RwLock::default(),
            files: (Arc::clone(&place.files), place.files.next_segment()),
            tail: RwLock::new(tail),
        }
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
            entries: tail.index.len(),
            aborted: count(tail.aborted.len()),
        })
    }

    /// The file of batches, to read.
    pub(super) fn log(&self) -> io::Result<Arc<dyn File>> {
        self.file(LOG, |kept| &kept.log)
    }

    /// The file of the index, to read.
    pub(super) fn index(&self) -> io::Result<Arc<dyn File>> {
        self.file(INDEX, |kept| &kept.index)
    }

    /// The file of batches, to write to. It stays open until `close`.
    pub(super) fn log_to_write(&self) -> io::Result<Arc<dyn File>> {
        let open = || self.disk.open(&self.path(LOG), Open::Existing);
        self.file_to_write(|kept| &mut kept.log, open)
    }

    /// The file of the index, to write to; created if there is none. It stays open until `close_index`.
    pub(super) fn index_to_write(&self) -> io::Result<Arc<dyn File>> {
        let open = || self.disk.open(&self.path(INDEX), Open::Create);
        self.file_to_write(|kept| &mut kept.index, open)
    }

    /// True while its file of batches is open to be written to.
    pub(super) fn is_open(&self) -> bool {
        self.kept().log.is_some()
    }

    /// All of the index is durable.
    pub(super) fn close_index(&self) {
        self.kept_mut().index = None;
    }

    /// All of it is durable.
    pub(super) fn close(&self) {
        *self.kept_mut() = Opened::default();
    }

    /// Opens its files, so that they can be read also when others have taken their names.
    pub(super) fn pin(&self) -> Result<(), LogError> {
        let log = self.log().map_err(|error| LogError::of(&self.path(LOG), "open", error))?;
        let index = self.index();
        let index = index.map_err(|e| LogError::of(&self.path(INDEX), "open the index", e))?;
        self.keep(|kept| &mut kept.log, log);
        self.keep(|kept| &mut kept.index, index);
        Ok(())
    }

    fn file(
        &self,
        kind: &'static str,
        of: fn(&Opened) -> &Option<KeptFile>,
    ) -> io::Result<Arc<dyn File>> {
        if let Some((file, _)) = of(&self.kept()) {
            return Ok(Arc::clone(file));
        }
        let (files, number) = &self.files;
        files.get((*number, kind), || self.disk.open(&self.path(kind), Open::Existing))
    }

    fn file_to_write(
        &self,
        of: fn(&mut Opened) -> &mut Option<KeptFile>,
        open: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Arc<dyn File>> {
        if let Some((file, _)) = of(&mut self.kept_mut()) {
            return Ok(Arc::clone(file));
        }
        let file = open()?;
        self.keep(of, Arc::clone(&file));
        Ok(file)
    }

    fn keep(&self, of: fn(&mut Opened) -> &mut Option<KeptFile>, file: Arc<dyn File>) {
        *of(&mut self.kept_mut()) = Some((file, self.files.0.keep()));
    }

    fn kept(&self) -> RwLockReadGuard<'_, Opened> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_mut(&self) -> RwLockWriteGuard<'_, Opened> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to begin reading to find the batch with `offset`.
    pub(super) fn position_of(&self, offset: Offset) -> Result<u64, LogError> {
        let relative = offset.0.saturating_sub(self.base.0);
        let (_, last) = self.last_where(|entry| i64::from(entry.relative_offset) <= relative)?;
        Ok(last.map_or(0, |entry| u64::from(entry.position)))
    }

    /// Where, after `start`, the last batch begins of which the index knows that it begins at
    /// `position` and `offset` at most; and its offset. All that lies before it lies below that offset.
    pub(super) fn cut_before(
        &self,
        start: u64,
        position: u64,
        offset: Offset,
    ) -> Result<Option<(u64, Offset)>, LogError> {
        let at = |entry: &Entry| {
            let offset = Offset(self.base.0 + i64::from(entry.relative_offset));
            (u64::from(entry.position), offset)
        };
        let (_, last) = self.last_where(|entry| {
            let (begins, first) = at(entry);
            begins <= position && first <= offset
        })?;
        Ok(last.map(|last| at(&last)).filter(|(begins, _)| *begins > start))
    }

    /// Counts its file as one that an answer is to be sent from; `None`: too many are.
    pub(super) fn lend(&self) -> Option<Lent> {
        self.files.0.lend()
    }

    /// Where to begin reading to find the first batch with a timestamp of at least `timestamp`.
    pub(super) fn position_of_time(&self, timestamp: Timestamp) -> Result<u64, LogError> {
        let (_, last) = self.last_where(|entry| entry.max_timestamp_before < timestamp)?;
        Ok(last.map_or(0, |entry| u64::from(entry.position)))
    }

    /// The aborted transactions, in the order of markers.
    pub(super) fn aborted(&self) -> Vec<AbortedTxn> {
        self.read(|tail| tail.aborted.clone())
    }

    /// Calls `look` with each aborted transaction, in the order of markers.
    pub(super) fn each_aborted(&self, mut look: impl FnMut(&AbortedTxn)) {
        self.read(|tail| tail.aborted.iter().for_each(&mut look));
    }

    /// The index entries that are not in their file yet, as it will have them, and how many are.
    pub(super) fn unstored(&self) -> (u32, Vec<u8>) {
        self.read(|tail| (tail.index.stored(), tail.index.encode_tail(self.base)))
    }

    /// How many index entries are not in their file yet.
    pub(super) fn unstored_count(&self) -> u32 {
        self.read(|tail| tail.index.len() - tail.index.stored())
    }

    /// All index entries are in their file now.
    pub(super) fn mark_stored(&self) {
        self.write(|tail| {
            let count = tail.index.len();
            tail.index.mark_stored(count);
        });
    }

    /// The aborted transactions from number `first` on, as their file has them.
    pub(super) fn encode_aborted(&self, first: u32) -> Vec<u8> {
        let first = usize::try_from(first).expect("usize has at least 32 bits");
        self.read(|tail| txn_index::encode_from(&tail.aborted, first))
    }

    /// What a seal would say of the batches that `summary` sums up alone.
    pub(super) fn seal_below(&self, summary: Summary) -> Result<Seal, LogError> {
        let (entries, _) = self.last_where(|entry| u64::from(entry.position) < summary.bytes)?;
        let aborted = self.read(|tail| {
            tail.aborted.iter().filter(|txn| txn.last_offset < summary.next_offset).count()
        });
        Ok(Seal { summary, entries, aborted: count(aborted) })
    }

    /// Batches were written behind the others.
    pub(super) fn extend(&self, batches: &[Placed], aborted: &[AbortedTxn], interval_bytes: u32) {
        self.write(|tail| {
            for batch in batches {
                tail.index.note(self.base, &batch.header, &tail.summary, interval_bytes);
                tail.summary.apply(&batch.header);
            }
            tail.aborted.extend_from_slice(aborted);
        });
    }

    /// What is at or after `summary.bytes` is gone.
    pub(super) fn truncate_to(&self, summary: Summary) -> Result<(), LogError> {
        let (entries, last) = self.last_where(|entry| u64::from(entry.position) < summary.bytes)?;
        self.write(|tail| {
            tail.index.truncate_to(entries, last.map_or(0, |last| last.position));
            tail.aborted.retain(|txn| txn.last_offset < summary.next_offset);
            tail.summary = summary;
        });
        Ok(())
    }

    /// How many index entries hold, and the last that does.
    fn last_where(&self, holds: impl Fn(&Entry) -> bool) -> Result<(u32, Option<Entry>), LogError> {
        loop {
            let stored = match self.read(|tail| tail.index.last_where(&holds)) {
                Lookup::Found(count, last) => return Ok((count, last)),
                Lookup::InFile(stored) => stored,
            };
            let found = self
                .index()
                .map_err(SearchError::Io)
                .and_then(|file| search::last_where(&*file, self.base, stored, &holds));
            match found {
                Ok(found) => return Ok(found),
                // It was cut in between.
                Err(_) if self.read(|tail| tail.index.stored()) < stored => {}
                Err(error) => return Err(search_failed(&self.path(INDEX), error)),
            }
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Tail) -> T) -> T {
        look(&self.tail.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Tail) -> T) -> T {
        change(&mut self.tail.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The index of a segment that grows on, of which `entries` are in the file.
pub(super) fn resume_index(
    disk: &dyn Disk,
    path: &Path,
    base: Offset,
    entries: u32,
) -> Result<Index, LogError> {
    if entries == 0 {
        return Ok(Index::default());
    }
    let file = disk
        .open(path, Open::Existing)
        .map_err(|error| LogError::of(path, "open the index", error))?;
    let last = search::last_position(&*file, base, entries);
    Ok(Index::resume(entries, last.map_err(|error| search_failed(path, error))?))
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

fn search_failed(path: &Path, error: SearchError) -> LogError {
    match error {
        SearchError::Io(error) => LogError::of(path, "search the index", error),
        SearchError::Damaged(number) => LogError::Corrupt {
            path: path.to_owned(),
            position: index::entry_position(number),
            what: "the index is damaged",
        },
    }
}
