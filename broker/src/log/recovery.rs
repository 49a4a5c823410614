//! Opening a log after whatever happened to it.
//!
//! Complete segments are believed by their seals. Of the last one, what lies below the checkpoint
//! is durable and believed; what lies above is read batch by batch, checked, replayed, and cut off
//! at the first batch that is not whole, but for zeros. The state is the newest snapshot below the checkpoint plus
//! a walk over the headers after it. All that was found is made durable before it is reported.
//!
//! Leftovers are removed: segments below the log start, indexes without a segment, snapshots above
//! the end, what was cleaned for nothing; what was being swapped is. What was durable and is not there any more is never skipped: the log does not open.
//! Disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::ids::{Offset, TopicId, TopicPartition};
use protocol::mutant::{self, Mutant};
use protocol::record::{ControlRecord, RecordBatch};

use super::checkpoint::{Checkpoint, Point};
use super::error::LogError;
use super::files::Files;
use super::index::{Seal, Summary};
use super::note::Changes;
use super::scan::{HEADERS_BYTES, ScanError, Scanner, WHOLE_BYTES, as_u64};
use super::segment::{
    INDEX, LOG, SNAPSHOT, Segment, TXN_INDEX, file_name, load_aborted, load_seal, parse_name,
    resume_index,
};
use super::snapshot;
use super::state::{ActiveSegment, LogConfig, LogState};
use super::swap;
use super::zeros;
use crate::disk::{Dir, Disk, Open, read_file};

/// The file that holds the topic id, and its most bytes.
pub(super) const METADATA: &str = "partition.metadata";
const METADATA_BYTES_MAX: u64 = 1024;

/// What opening a log cost, and what it cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes that were read and checked: those after the last checkpoint.
    pub scanned_bytes: u64,
    /// Bytes at the end that were no whole batch and were cut off, but for zeros behind them.
    pub truncated_bytes: u64,
    /// Bytes of batches of which only the header was read: those after the last snapshot.
    pub walked_bytes: u64,
}

/// A log's place, and what it must know to be there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    /// `<log directory>/<topic>-<partition>`.
    pub(super) dir: Arc<Path>,
    pub(super) partition: TopicPartition,
    pub(super) topic_id: TopicId,
    pub(super) config: LogConfig,
    /// What is open in the whole log directory.
    pub(super) files: Arc<Files>,
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    /// What was written to the file of the index.
    pub(super) index: Changes,
    /// Aborted transactions that are in their file, durably.
    pub(super) stored_aborted: u32,
    /// How long the file of batches is at most; what lies beyond them is zeros.
    pub(super) length: u64,
    /// Up to where space on the disk was set aside for it, as far as is known.
    pub(super) space: u64,
    /// There was none to be had; it is not asked for again.
    pub(super) lacks_space: bool,
}

/// A log as it was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    /// The last segment, if it is not complete.
    pub(super) active: Option<Active>,
    pub(super) state: LogState,
    pub(super) recovery: Recovery,
    /// False for a log that has no directory yet.
    pub(super) has_dir: bool,
}

impl Place {
    pub(super) fn corrupt(&self, path: PathBuf, position: u64, what: &'static str) -> LogError {
        LogError::Corrupt { path, position, what }
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), LogError> {
        let path = self.dir.join(name);
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LogError::of(&path, "remove", error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn sync_dir(&self) -> Result<(), LogError> {
        if mutant::is_active(Mutant::SkipDirSync) {
            return Ok(());
        }
        self.disk
            .sync_dir(&self.dir)
            .map_err(|error| LogError::of(&self.dir, "sync the directory", error))
    }

    /// The log's directory, to be synced also when no further file may be open.
    pub(super) fn open_dir(&self) -> Result<Box<dyn Dir>, LogError> {
        self.disk
            .open_dir(&self.dir)
            .map_err(|error| LogError::of(&self.dir, "open the directory", error))
    }

    /// Where the snapshot at this offset lies.
    pub(super) fn snapshot_path(&self, at: Offset) -> PathBuf {
        self.dir.join(file_name(at, SNAPSHOT))
    }

    /// The offsets at which there are snapshots, ascending.
    pub(super) fn snapshots(&self) -> Result<Vec<Offset>, LogError> {
        Ok(of_kind(&self.names()?, SNAPSHOT))
    }

    /// The names in the log's directory; none when there is no directory.
    pub(super) fn names(&self) -> Result<Vec<String>, LogError> {
        Ok(list(self)?.unwrap_or_default())
    }

    /// The newest of `snapshots` at or below `end` that is whole; the empty log at `base` if there
    /// is none.
    pub(super) fn newest_snapshot(
        &self,
        snapshots: &[Offset],
        end: Offset,
        base: Offset,
    ) -> Result<LogState, LogError> {
        for &at in snapshots.iter().rev().filter(|&&at| at <= end) {
            let path = self.snapshot_path(at);
            let bytes = read_file(&*self.disk, &path, snapshot::SNAPSHOT_BYTES_MAX)
                .map_err(|error| LogError::of(&path, "read the snapshot", error))?;
            match snapshot::decode(&bytes) {
                Ok(state) if state.log_end == at => return Ok(state),
                // Torn when the power failed: the one before it serves, at the price of a walk.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(LogState::empty(base))
    }
}

/// Opens the log at `place`, of which `checkpoint` tells.
pub(super) fn open(place: &Place, checkpoint: Checkpoint) -> Result<Recovered, LogError> {
    let Some(mut names) = list(place)? else {
        if promises_more(checkpoint, None) {
            return Err(place.corrupt(place.dir.to_path_buf(), 0, "the log is gone"));
        }
        return Ok(nothing(checkpoint.log_start, false));
    };
    if check_topic_id(place)? == Home::NeverSynced {
        if promises_more(checkpoint, None) {
            return Err(place.corrupt(place.dir.join(METADATA), 0, "the topic id is gone"));
        }
        super::dir::discard(&*place.disk, &place.dir)?;
        return Ok(nothing(checkpoint.log_start, false));
    }
    let mut tidied = swap::recover(place, &names)?;
    if tidied {
        names = place.names()?;
    }
    let bases = drop_leftovers(place, &names, checkpoint.log_start, &mut tidied)?;
    let (mut segments, last) = open_segments(place, &bases)?;
    if promises_more(checkpoint, bases.last().copied()) {
        return Err(place.corrupt(place.dir.to_path_buf(), 0, "a segment is gone"));
    }
    let mut active = match last {
        Some(base) => Some(open_last(place, base, checkpoint.point)?),
        None => None,
    };
    segments.extend(active.as_ref().map(|active| Arc::clone(&active.segment)));
    let end = segments.last().map_or(checkpoint.log_start, |last| last.summary().next_offset);
    let snapshots = of_kind(&names, SNAPSHOT);
    let (mut state, walked_bytes) = rebuild(place, &segments, &snapshots, end)?;
    let mut recovery = Recovery { walked_bytes, ..Recovery::default() };
    if let Some(active) = &mut active {
        recover_tail(place, active, &mut state, &mut recovery)?;
    }
    for &at in snapshots.iter().filter(|&&at| at > state.log_end) {
        // It tells of a history that was lost; another will take its place.
        place.remove(&file_name(at, SNAPSHOT))?;
        tidied = true;
    }
    if tidied || recovery.scanned_bytes > 0 {
        place.sync_dir()?;
    }
    if mutant::is_active(Mutant::ForgetProducersOnRecovery) {
        state.producers = super::Producers::default();
    }
    let mut found = Recovered { segments, active, state, recovery, has_dir: true };
    found.begin_at(place, checkpoint.log_start)?;
    Ok(found)
}

/// The state at `end`, the end of the last of `segments`: a snapshot, and a walk from there.
/// Yields how many bytes of batches were walked over, too.
pub(super) fn rebuild(
    place: &Place,
    segments: &[Arc<Segment>],
    snapshots: &[Offset],
    end: Offset,
) -> Result<(LogState, u64), LogError> {
    let base = segments.first().map_or(end, |first| first.base());
    let mut state = place.newest_snapshot(snapshots, end, base)?;
    let mut walked_bytes = 0;
    for segment in segments {
        let Summary { next_offset, bytes, .. } = segment.summary();
        if next_offset > state.log_end {
            walked_bytes += walk(place, segment, bytes, &mut state)?;
        }
    }
    assert!(state.log_end <= end);
    state.log_end = end;
    state.log_start = base.min(end);
    state.active = ActiveSegment::empty(end);
    Ok((state, walked_bytes))
}

/// Replays the headers of `segment` that `state` has not seen, up to position `end`.
fn walk(place: &Place, segment: &Segment, end: u64, state: &mut LogState) -> Result<u64, LogError> {
    let path = segment.path(LOG);
    let fail = |error| LogError::of(&path, "read", error);
    let file = segment.log().map_err(fail)?;
    let from = segment.position_of(state.log_end)?;
    let mut scanner = Scanner::new(&*file, from, end, HEADERS_BYTES);
    let mut walked_bytes = 0;
    loop {
        let at = scanner.position();
        let damaged = || place.corrupt(path.clone(), at, "a durable batch is damaged");
        let header = match scanner.peek() {
            Ok(None) => return Ok(walked_bytes),
            Ok(Some(header)) => header,
            Err(ScanError::Malformed) => return Err(damaged()),
            Err(ScanError::Io(error)) => return Err(fail(error)),
        };
        if header.next_offset() <= state.log_end {
            scanner.skip(&header);
            continue;
        }
        state.check_place(&header).map_err(|_| damaged())?;
        // No checksum is over the offset: what was damaged to be far would end beyond the log.
        if header.next_offset() > segment.summary().next_offset {
            return Err(damaged());
        }
        let mut control = None;
        if header.attributes.is_control() {
            let batch = match scanner.take(&header) {
                Ok(batch) => batch,
                Err(ScanError::Malformed) => return Err(damaged()),
                Err(ScanError::Io(error)) => return Err(fail(error)),
            };
            control = ControlRecord::of(&batch).ok().flatten();
        } else {
            scanner.skip(&header);
        }
        walked_bytes += as_u64(header.size_bytes());
        // What it aborts is in the index already.
        state.apply(&header, control);
    }
}

/// Reads what lies above the checkpoint, cuts off what is not whole, and makes the rest durable.
fn recover_tail(
    place: &Place,
    active: &mut Active,
    state: &mut LogState,
    recovery: &mut Recovery,
) -> Result<(), LogError> {
    let path = active.segment.path(LOG);
    let fail = |error| LogError::of(&path, "recover", error);
    let file = active.segment.log_to_write().map_err(fail)?;
    let length = active.length;
    let mut scanner = Scanner::new(&*file, active.segment.summary().bytes, length, WHOLE_BYTES);
    state.active = active_segment(&active.segment);
    loop {
        let next = match scanner.peek() {
            Ok(None) => break,
            Ok(Some(header)) => scanner.take(&header),
            Err(error) => Err(error),
        };
        let batch = match next {
            Ok(batch) => batch,
            Err(ScanError::Malformed) => break,
            Err(ScanError::Io(error)) => return Err(fail(error)),
        };
        let is_far = is_beyond_reach(active.segment.base(), &batch);
        if batch.verify_crc().is_err() || state.check_place(batch.header()).is_err() || is_far {
            break;
        }
        let Ok(placed) = super::state::Placed::in_place(&batch) else { break };
        let aborted = state.apply(&placed.header, placed.control);
        let interval_bytes = place.config.index_interval_bytes;
        active.segment.extend(&[placed], aborted.as_slice(), interval_bytes);
        recovery.scanned_bytes += as_u64(batch.header().size_bytes());
    }
    let whole = active.segment.summary().bytes;
    recovery.truncated_bytes = zeros::end_of_rest(&*file, whole, length).map_err(fail)? - whole;
    recovery.scanned_bytes += recovery.truncated_bytes;
    if recovery.truncated_bytes > 0 {
        file.truncate(whole).map_err(fail)?;
        active.length = whole;
    }
    if recovery.scanned_bytes > 0 {
        file.sync_data().map_err(fail)?;
    }
    // Ten thousand logs are opened at the start, and most are not written to for long.
    active.segment.close();
    Ok(())
}

/// True when no segment that begins at `base` was given this batch: it would have been rolled before.
/// The checksum does not cover the offset, and what was damaged to be far would hide all after it.
fn is_beyond_reach(base: Offset, batch: &RecordBatch) -> bool {
    batch.header().last_offset().0.saturating_sub(base.0) > i64::from(i32::MAX)
}

impl Recovered {
    /// Settles where the log begins. When its end was lost, it may end before it begins: all that
    /// was above the log start was not durable, and all below it was to be deleted.
    fn begin_at(&mut self, place: &Place, log_start: Offset) -> Result<(), LogError> {
        let is_bare = self.active.as_ref().is_some_and(|active| active.is_bare());
        if self.state.log_end < log_start {
            let bases: Vec<Offset> = self.segments.drain(..).map(|gone| gone.base()).collect();
            remove_segments(place, &bases)?;
            self.active = None;
            self.state.log_end = log_start;
            self.state.active = ActiveSegment::empty(log_start);
        } else if is_bare {
            // Begun when the crash came: the next append begins it anew, where it then belongs.
            let bare = self.segments.pop().expect("the active segment is the last");
            remove_segments(place, &[bare.base()])?;
            self.active = None;
            self.state.active = ActiveSegment::empty(self.state.log_end);
        }
        self.state.log_start = log_start;
        self.state.epochs.delete_before(log_start);
        Ok(())
    }
}

impl Active {
    /// True when no batch is in it.
    pub(super) fn is_bare(&self) -> bool {
        self.segment.summary().bytes == 0
    }
}

/// What the state says of the segment that is being written.
pub(super) fn active_segment(segment: &Segment) -> ActiveSegment {
    let Summary { bytes, first_timestamp, .. } = segment.summary();
    ActiveSegment { base: segment.base(), bytes, first_timestamp }
}

/// Removes the files of the segments that begin at `bases`: the batches first, durably. What is
/// left behind without them is recognised; batches without what belongs to them would not be.
pub(super) fn remove_segments(place: &Place, bases: &[Offset]) -> Result<(), LogError> {
    if bases.is_empty() {
        return Ok(());
    }
    bases.iter().try_for_each(|&base| place.remove(&file_name(base, LOG)))?;
    place.sync_dir()?;
    for &base in bases {
        place.remove(&file_name(base, INDEX))?;
        place.remove(&file_name(base, TXN_INDEX))?;
    }
    Ok(())
}

/// The names in the log's directory; `None` when there is no directory.
fn list(place: &Place) -> Result<Option<Vec<String>>, LogError> {
    match place.disk.list(&place.dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|error| LogError::of(&place.dir, "list", error)),
    }
}

fn nothing(log_start: Offset, has_dir: bool) -> Recovered {
    Recovered {
        segments: Vec::new(),
        active: None,
        state: LogState::empty(log_start),
        recovery: Recovery::default(),
        has_dir,
    }
}

/// True when the checkpoint tells of durable records in a segment beyond the last that was found,
/// other than deleted ones.
fn promises_more(checkpoint: Checkpoint, last: Option<Offset>) -> bool {
    checkpoint.point.is_some_and(|point| {
        last.is_none_or(|last| last < point.segment)
            && point.durable.summary.bytes > 0
            && point.durable.summary.next_offset > checkpoint.log_start
    })
}

/// What the topic id in a log's directory tells.
#[derive(Debug, PartialEq, Eq)]
enum Home {
    /// The log is that of the topic.
    Ours,
    /// The power failed before the first sync, which is what makes the topic id durable: nothing in the directory was ever
    /// promised, and what there is may be another topic's.
    NeverSynced,
}

/// Compares the topic id on disk with the one asked for.
fn check_topic_id(place: &Place) -> Result<Home, LogError> {
    let path = place.dir.join(METADATA);
    let text = match read_file(&*place.disk, &path, METADATA_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Home::NeverSynced),
        other => other.map_err(|error| LogError::of(&path, "read the topic id", error))?,
    };
    // Whatever a power cut leaves of a file that was not synced. A topic id that was and is damaged cannot be told from it
    // before the first checkpoint, as little as a batch can.
    let Some(stored) = parse_metadata(&text) else { return Ok(Home::NeverSynced) };
    if stored == place.topic_id {
        return Ok(Home::Ours);
    }
    let Place { partition, topic_id: asked, .. } = place.clone();
    Err(LogError::InconsistentTopicId { partition, stored, asked })
}

/// The content of the file that holds the topic id.
pub(super) fn metadata(topic_id: TopicId) -> String {
    format!("version: 1\ntopic_id: {topic_id}\n")
}

pub(super) fn parse_metadata(text: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(text).ok()?;
    let hex = text.lines().find_map(|line| line.strip_prefix("topic_id: "))?;
    if hex.len() != 32 {
        return None;
    }
    let raw = u128::from_str_radix(hex, 16).ok()?;
    Some(TopicId(raw.to_be_bytes()))
}

/// Removes segments that lie wholly below the log start, and indexes whose segment is gone. Yields
/// the bases of those that stay, ascending.
fn drop_leftovers(
    place: &Place,
    names: &[String],
    log_start: Offset,
    tidied: &mut bool,
) -> Result<Vec<Offset>, LogError> {
    let bases = of_kind(names, LOG);
    // A segment ends where the next begins, or before.
    let stale = bases.iter().skip(1).take_while(|&&next| next <= log_start).count();
    let kept = bases[stale..].to_vec();
    remove_segments(place, &bases[..stale])?;
    *tidied |= stale > 0;
    for kind in [INDEX, TXN_INDEX] {
        for base in of_kind(names, kind).iter().filter(|base| !bases.contains(base)) {
            place.remove(&file_name(*base, kind))?;
            *tidied = true;
        }
    }
    Ok(kept)
}

/// The complete segments, and the base of the last one if that is not complete.
fn open_segments(
    place: &Place,
    bases: &[Offset],
) -> Result<(Vec<Arc<Segment>>, Option<Offset>), LogError> {
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    for (number, &base) in bases.iter().enumerate() {
        let path = place.dir.join(file_name(base, LOG));
        let is_last = number + 1 == bases.len();
        let seal = match load_seal(&*place.disk, &place.dir, base)? {
            Some(seal) if !is_last || is_exact(place, &path, &seal)? => seal,
            Some(_) | None if is_last => return Ok((segments, Some(base))),
            Some(_) | None => {
                return Err(place.corrupt(path, 0, "a complete segment has lost its seal"));
            }
        };
        let overlaps = segments.last().is_some_and(|last| last.summary().next_offset > base);
        if overlaps || seal.summary.next_offset <= base {
            return Err(place.corrupt(path, 0, "segments overlap"));
        }
        let aborted =
            load_aborted(&*place.disk, &place.dir.join(file_name(base, TXN_INDEX)), seal.aborted)?;
        segments.push(Arc::new(Segment::complete(place, base, &seal, aborted)));
    }
    Ok((segments, None))
}

/// False when batches lie beyond the seal: sealing it failed, and it grew on.
fn is_exact(place: &Place, path: &Path, seal: &Seal) -> Result<bool, LogError> {
    let length = place.disk.open(path, Open::Existing).and_then(|file| file.len());
    let length = length.map_err(|error| LogError::of(path, "open", error))?;
    if length < seal.summary.bytes {
        return Err(place.corrupt(path.to_owned(), length, "durable batches are gone"));
    }
    Ok(length == seal.summary.bytes)
}

/// The last segment as far as it is known to be durable.
fn open_last(place: &Place, base: Offset, point: Option<Point>) -> Result<Active, LogError> {
    let path = place.dir.join(file_name(base, LOG));
    let fail = |error| LogError::of(&path, "open", error);
    let file = place.disk.open(&path, Open::Existing).map_err(fail)?;
    let bare = Seal { summary: Summary::empty(base), entries: 0, aborted: 0 };
    let durable = point.filter(|point| point.segment == base).map_or(bare, |point| point.durable);
    let length = file.len().map_err(fail)?;
    if length < durable.summary.bytes {
        return Err(place.corrupt(path, length, "durable batches are gone"));
    }
    let disk = &*place.disk;
    let index = resume_index(disk, &place.dir.join(file_name(base, INDEX)), base, durable.entries)?;
    let aborted = load_aborted(disk, &place.dir.join(file_name(base, TXN_INDEX)), durable.aborted)?;
    let segment = Segment::growing(place, base, file, (durable.summary, index, aborted));
    let (segment, stored_aborted) = (Arc::new(segment), durable.aborted);
    let (index, space, lacks_space) = (Changes::default(), 0, false);
    Ok(Active { segment, index, stored_aborted, length, space, lacks_space })
}

pub(super) fn of_kind(names: &[String], kind: &str) -> Vec<Offset> {
    let mut offsets: Vec<Offset> = names
        .iter()
        .filter_map(|name| parse_name(name))
        .filter(|&(_, found)| found == kind)
        .map(|(offset, _)| offset)
        .collect();
    offsets.sort_unstable();
    offsets
}
