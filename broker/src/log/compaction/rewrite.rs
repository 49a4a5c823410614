//! A cleaning at work: read what is dirty, then write segment after segment anew.
//!
//! [`Cleaning::step`] does about a mebibyte of work and returns, so that whoever drives it decides
//! on the pace and can stop at any step: until a [`Swap`] is carried out by the log's writer, there
//! are only files beside the log that nobody reads, and the next cleaning or opening removes them.
//! What is read is checked, so that damage is reported and never given a new checksum. Disk.

use std::sync::Arc;
use std::time::Duration;

use protocol::ids::Offset;
use protocol::record::{ControlRecord, DECOMPRESSED_BYTES_MAX, RecordBatch};
use protocol::time::Timestamp;

use super::filter::{Filter, LastBatches};
use super::keys::NewestOffsets;
use super::plan::{Dirt, Piece, groups};
use super::txns::CleanedTxns;
use crate::disk::{File, Open};
use crate::log::error::LogError;
use crate::log::index::{self, Index, Seal, Summary};
use crate::log::producers::AbortedTxn;
use crate::log::reader::Reader;
use crate::log::recovery::Place;
use crate::log::scan::{ScanError, Scanner, WHOLE_BYTES, as_u64};
use crate::log::segment::{INDEX, LOG, Segment, TXN_INDEX};
use crate::log::state::LogConfig;
use crate::log::swap::{Swap, cleaned_name};
use crate::log::txn_index;

/// 1 MiB: read in one step, and collected before it is written.
const STEP_BYTES: usize = 1 << 20;

/// How a log is to be cleaned.
#[derive(Clone, Debug)]
pub struct CleanTerms {
    /// What is dirty.
    pub dirt: Dirt,
    /// The time by which tombstones and markers are judged.
    pub now: Timestamp,
    /// `delete.retention.ms`: how long these stay.
    pub delete_retention: Duration,
    /// Memory for the keys; more take another round.
    pub keys_bytes_max: u64,
    /// Where the hashes of keys come from.
    pub seed: u64,
    /// How segments are made.
    pub log: LogConfig,
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Where the clean part of the log ends now (exclusive).
    pub until: Offset,
    /// Bytes of batches that were read to be written anew.
    pub bytes_before: u64,
    /// Bytes of batches that took their place.
    pub bytes_after: u64,
    /// Keys among what was dirty.
    pub keys: usize,
}

/// What a step did.
#[derive(Debug)]
pub enum CleanStep {
    /// It read or wrote about so many bytes; there is more to do.
    Worked(u64),
    /// These segments are to take the place of others before the next step.
    Swap(Box<Swap>),
    /// All is done.
    Done(Cleaned),
}

/// A log being cleaned.
pub struct Cleaning {
    place: Place,
    terms: CleanTerms,
    /// The log's segments when it began, all but the last.
    segments: Vec<Arc<Segment>>,
    /// Base of each segment's successor.
    next_bases: Vec<Offset>,
    reader: Reader,
    phase: Phase,
    cleaned: Cleaned,
}

/// A place among the batches.
#[derive(Clone, Copy, Debug, Default)]
struct At {
    segment: usize,
    position: u64,
}

enum Phase {
    /// Learning where the newest record of each key is.
    Mapping { at: At, newest: NewestOffsets, txns: CleanedTxns },
    /// Writing group after group of segments anew.
    Rewriting(Box<Rewriting>),
}

struct Rewriting {
    filter: Filter,
    /// Ends of the groups, as indexes among the segments (exclusive).
    group_ends: Vec<usize>,
    at: At,
    output: Option<Output>,
}

/// A segment being made.
struct Output {
    base: Offset,
    first_segment: usize,
    file: Arc<dyn File>,
    summary: Summary,
    index: Index,
    /// Batches that are not in the file yet.
    pending: Vec<u8>,
    /// It is not simply a copy.
    is_changed: bool,
}

impl std::fmt::Debug for Cleaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaning").field("partition", &self.place.partition).finish_non_exhaustive()
    }
}

impl Cleaning {
    /// The cleaning of the log at `place`, of which `reader` tells. `None` when the log has changed
    /// so that there is nothing to do.
    pub(in crate::log) fn begin(place: Place, reader: Reader, terms: CleanTerms) -> Option<Self> {
        let mut segments = reader.shared_segments();
        let next_bases = segments.iter().skip(1).map(|segment| segment.base()).collect();
        segments.pop()?;
        let Dirt { from, until, .. } = terms.dirt;
        let segment = segments.iter().position(|segment| segment.summary().next_offset > from)?;
        let aborted = reader.aborted(segments[segment].base(), until);
        let phase = Phase::Mapping {
            at: At { segment, position: 0 },
            newest: NewestOffsets::new(terms.keys_bytes_max, terms.seed),
            txns: CleanedTxns::new(aborted),
        };
        let cleaned = Cleaned { until, ..Cleaned::default() };
        Some(Self { place, terms, segments, next_bases, reader, phase, cleaned })
    }

    /// Goes on for a while. After [`CleanStep::Swap`] the swap must be carried out first; after
    /// [`CleanStep::Done`] or an error there is nothing more to do.
    ///
    /// # Errors
    /// When the disk fails or is full, or a batch is damaged. The log is as it was, or cleaned in
    /// part; it may be tried again.
    pub fn step(&mut self) -> Result<CleanStep, LogError> {
        match &self.phase {
            Phase::Mapping { .. } => self.map(),
            Phase::Rewriting(_) => self.rewrite(),
        }
    }

    /// Reads on among what is dirty.
    fn map(&mut self) -> Result<CleanStep, LogError> {
        let Phase::Mapping { at, newest, txns } = &mut self.phase else {
            unreachable!("asked for in this phase alone")
        };
        let Dirt { from, until, .. } = self.terms.dirt;
        let Some(segment) = self.segments.get(at.segment).filter(|it| it.base() < until) else {
            return self.begin_rewriting(until);
        };
        let mut walk = Walk::new(segment, at.position)?;
        let begun = at.position;
        while walk.position() - begun < as_u64(STEP_BYTES) {
            let Some((batch, control)) = walk.next()? else {
                *at = At { segment: at.segment + 1, position: 0 };
                return Ok(CleanStep::Worked(walk.position() - begun));
            };
            if batch.header().attributes.is_control() {
                txns.on_control(batch.header(), control);
            } else if !txns.on_batch(batch.header()) {
                let full = note_keys(newest, &batch, from).map_err(|what| walk.damaged(what))?;
                if let Some(full) = full {
                    return self.begin_rewriting(full);
                }
            }
        }
        at.position = walk.position();
        Ok(CleanStep::Worked(at.position - begun))
    }

    /// The keys of all newer records below `until` are known.
    fn begin_rewriting(&mut self, until: Offset) -> Result<CleanStep, LogError> {
        let bare = Phase::Mapping {
            at: At::default(),
            newest: NewestOffsets::new(0, 0),
            txns: CleanedTxns::default(),
        };
        let Phase::Mapping { newest, .. } = std::mem::replace(&mut self.phase, bare) else {
            unreachable!("asked for in the phase before alone")
        };
        let count = self.segments.partition_point(|segment| segment.base() < until);
        self.segments.truncate(count);
        let tail = self.segments.last().map_or(until, |last| last.summary().next_offset);
        let piece = |segment: &Arc<Segment>| {
            let Seal { summary, entries, .. } = segment.seal();
            let Summary { next_offset, bytes, .. } = summary;
            Piece { base: segment.base(), next_offset, bytes, entries }
        };
        let pieces: Vec<Piece> = self.segments.iter().map(piece).collect();
        let LogConfig { segment_bytes, segment_index_bytes, .. } = self.terms.log;
        let groups = groups(&pieces, segment_bytes, index::entries_max(segment_index_bytes));
        let first = self.segments.first().map_or(until, |first| first.base());
        self.cleaned.until = until;
        self.cleaned.keys = newest.len();
        let filter = Filter {
            newest,
            until,
            txns: CleanedTxns::new(self.reader.aborted(first, tail)),
            last_batches: self.last_batches()?,
            tail,
            now: self.terms.now,
            delete_retention: self.terms.delete_retention,
        };
        let group_ends = groups.into_iter().map(|group| group.end).collect();
        let at = At::default();
        self.phase = Phase::Rewriting(Box::new(Rewriting { filter, group_ends, at, output: None }));
        Ok(CleanStep::Worked(0))
    }

    /// What was known of producers when the last segment began: all that are known now wrote
    /// nothing newer below it.
    fn last_batches(&self) -> Result<LastBatches, LogError> {
        let end = self.next_bases.last().copied().unwrap_or_default();
        let snapshots = self.place.snapshots()?;
        let state = self.place.newest_snapshot(&snapshots, end, end)?;
        Ok(LastBatches::of(state.producers()))
    }

    /// Writes on.
    fn rewrite(&mut self) -> Result<CleanStep, LogError> {
        let Phase::Rewriting(rewriting) = &mut self.phase else {
            unreachable!("asked for in this phase alone")
        };
        let rewriting = &mut **rewriting;
        let at = rewriting.at;
        if let Some(output) = &rewriting.output {
            let mut ends = rewriting.group_ends.iter();
            if ends.find(|&&end| end > output.first_segment) == Some(&at.segment) {
                return self.finish_group();
            }
        }
        let Some(segment) = self.segments.get(at.segment) else {
            return Ok(CleanStep::Done(self.cleaned));
        };
        let mut walk = Walk::new(segment, at.position)?;
        let output = match &mut rewriting.output {
            Some(output) => output,
            none => none.insert(Output::begin(&self.place, segment.base(), at.segment)?),
        };
        let interval_bytes = self.terms.log.index_interval_bytes;
        while walk.position() - at.position < as_u64(STEP_BYTES) {
            let Some((batch, control)) = walk.next()? else {
                rewriting.at = At { segment: at.segment + 1, position: 0 };
                return Ok(CleanStep::Worked(2 * (walk.position() - at.position)));
            };
            let kept = rewriting.filter.keep(&batch, control);
            match kept.map_err(|_| walk.damaged("records cannot be read"))? {
                Some(kept) => {
                    output.is_changed |= kept.header() != batch.header();
                    output.push(&kept, interval_bytes, &self.place)?;
                }
                None => output.is_changed = true,
            }
        }
        rewriting.at.position = walk.position();
        Ok(CleanStep::Worked(2 * (walk.position() - at.position)))
    }

    /// Completes the segment being made, durably.
    fn finish_group(&mut self) -> Result<CleanStep, LogError> {
        let Phase::Rewriting(rewriting) = &mut self.phase else {
            unreachable!("asked for in this phase alone")
        };
        let mut output = rewriting.output.take().expect("asked for when there is one");
        let old = self.segments[output.first_segment..rewriting.at.segment].to_vec();
        let until = self.next_bases[rewriting.at.segment - 1];
        let aborted = rewriting.filter.take_aborted();
        let before: Vec<_> = old.iter().flat_map(|segment| segment.aborted()).collect();
        self.cleaned.bytes_before += old.iter().map(|it| it.summary().bytes).sum::<u64>();
        output.flush(&self.place)?;
        self.cleaned.bytes_after += output.summary.bytes;
        if old.len() == 1 && !output.is_changed && before == aborted {
            self.place.remove(&cleaned_name(output.base, LOG))?;
            return Ok(CleanStep::Worked(0));
        }
        let new = if output.summary.bytes == 0 {
            self.place.remove(&cleaned_name(output.base, LOG))?;
            None
        } else {
            Some((output.seal(&self.place, &aborted)?, aborted))
        };
        self.place.sync_dir()?;
        Ok(CleanStep::Swap(Box::new(Swap { old, until, new })))
    }
}

/// Notes the records of `batch` at or after `from`. Yields the offset of the first one that there
/// was no room for.
fn note_keys(
    newest: &mut NewestOffsets,
    batch: &RecordBatch,
    from: Offset,
) -> Result<Option<Offset>, &'static str> {
    let malformed = "records cannot be read";
    let decoded = batch.decode(DECOMPRESSED_BYTES_MAX).map_err(|_| malformed)?;
    for record in &decoded {
        let record = record.map_err(|_| malformed)?;
        if let Some(key) = record.key
            && record.offset >= from
            && !newest.put(key, record.offset)
        {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
}

impl Output {
    fn begin(place: &Place, base: Offset, first_segment: usize) -> Result<Self, LogError> {
        let path = place.dir.join(cleaned_name(base, LOG));
        let file = place
            .disk
            .open(&path, Open::Create)
            .and_then(|file| file.truncate(0).map(|()| file))
            .map_err(|error| LogError::of(&path, "begin to clean", error))?;
        Ok(Self {
            base,
            first_segment,
            file,
            summary: Summary::empty(base),
            index: Index::default(),
            pending: Vec::new(),
            is_changed: false,
        })
    }

    fn push(
        &mut self,
        batch: &RecordBatch,
        interval_bytes: u32,
        place: &Place,
    ) -> Result<(), LogError> {
        self.index.note(self.base, batch.header(), &self.summary, interval_bytes);
        self.summary.apply(batch.header());
        self.pending.extend_from_slice(batch.bytes());
        if self.pending.len() >= STEP_BYTES { self.flush(place) } else { Ok(()) }
    }

    fn flush(&mut self, place: &Place) -> Result<(), LogError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let at = self.summary.bytes - as_u64(self.pending.len());
        self.file.write_at(&[&self.pending], at).map_err(|error| {
            LogError::of(&place.dir.join(cleaned_name(self.base, LOG)), "write", error)
        })?;
        self.pending.clear();
        Ok(())
    }

    /// Makes the segment and what belongs to it durable; their names are not yet.
    fn seal(&self, place: &Place, aborted: &[AbortedTxn]) -> Result<Seal, LogError> {
        let path = place.dir.join(cleaned_name(self.base, LOG));
        self.file.sync_data().map_err(|error| LogError::of(&path, "sync", error))?;
        let seal = Seal {
            summary: self.summary,
            entries: self.index.len(),
            aborted: u32::try_from(aborted.len()).expect("a segment has fewer than 2^32 markers"),
        };
        let mut bytes = Index::encode_head(self.base);
        bytes.extend(self.index.encode_tail(self.base));
        bytes.extend(seal.encode(self.base));
        store(place, &cleaned_name(self.base, INDEX), &bytes)?;
        if !aborted.is_empty() {
            let bytes = txn_index::encode_from(aborted, 0);
            store(place, &cleaned_name(self.base, TXN_INDEX), &bytes)?;
        }
        Ok(seal)
    }
}

/// Makes `bytes` the content of a file, durably but for its name.
fn store(place: &Place, name: &str, bytes: &[u8]) -> Result<(), LogError> {
    let path = place.dir.join(name);
    place
        .disk
        .open(&path, Open::Create)
        .and_then(|file| {
            file.truncate(0)?;
            file.write_at(&[bytes], 0)?;
            file.sync_data()
        })
        .map_err(|error| LogError::of(&path, "write", error))
}

/// The batches of a segment, checked.
struct Walk<'a> {
    segment: &'a Segment,
    file: Arc<dyn File>,
    position: u64,
    end: u64,
    /// Read ahead.
    ahead: Vec<RecordBatch>,
}

impl<'a> Walk<'a> {
    fn new(segment: &'a Segment, position: u64) -> Result<Self, LogError> {
        let path = segment.path(LOG);
        let file = segment.log().map_err(|error| LogError::of(&path, "open", error))?;
        let end = segment.summary().bytes;
        Ok(Self { segment, file, position, end, ahead: Vec::new() })
    }

    /// Where the next batch begins.
    fn position(&self) -> u64 {
        self.position
    }

    /// The next batch, and what it says if it is a control batch; `None` at the end.
    fn next(&mut self) -> Result<Option<(RecordBatch, Option<ControlRecord>)>, LogError> {
        if self.ahead.is_empty() {
            self.read_ahead()?;
        }
        let Some(batch) = self.ahead.pop() else { return Ok(None) };
        if batch.verify_crc().is_err() {
            return Err(self.damaged("a batch is damaged"));
        }
        self.position += as_u64(batch.header().size_bytes());
        let control = ControlRecord::of(&batch).ok().flatten();
        Ok(Some((batch, control)))
    }

    /// Reads about as much as one step takes; kept in reverse.
    fn read_ahead(&mut self) -> Result<(), LogError> {
        let mut scanner = Scanner::new(&*self.file, self.position, self.end, WHOLE_BYTES);
        let begun = self.position;
        loop {
            let next = match scanner.peek() {
                Ok(Some(header)) => scanner.take(&header),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match next {
                Ok(batch) => self.ahead.push(batch),
                Err(ScanError::Malformed) => return Err(self.damaged("a batch is damaged")),
                Err(ScanError::Io(error)) => {
                    return Err(LogError::of(&self.segment.path(LOG), "read", error));
                }
            }
            if scanner.position() - begun >= as_u64(STEP_BYTES) {
                break;
            }
        }
        self.ahead.reverse();
        Ok(())
    }

    fn damaged(&self, what: &'static str) -> LogError {
        LogError::Corrupt { path: self.segment.path(LOG), position: self.position, what }
    }
}

impl LogError {
    /// True when the log that was being cleaned has gone, or changed, in the meantime.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::NotOpen { .. } | Self::Closed => true,
            Self::Full { .. }
            | Self::OutOfFiles { .. }
            | Self::Corrupt { .. }
            | Self::InconsistentTopicId { .. }
            | Self::OutOfStep { .. }
            | Self::Offline { .. }
            | Self::Locked { .. }
            | Self::Foreign { .. }
            | Self::AlreadyOpen { .. } => false,
        }
    }
}
