//! Reading a log from anywhere, while its writer appends.
//!
//! A [`Reader`] sees the segments as of now. It answers with whole batches, the first of which
//! contains the offset asked for, and never with one at or beyond the bound that the partition
//! allows: the log end for followers, the high watermark or last stable offset for consumers. What
//! it reads is written, but need not be durable. Disk.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::{LeaderEpoch, Offset, TopicPartition};
use protocol::record::{
    BatchError, BatchHeader, DECOMPRESSED_BYTES_MAX, HEADER_BYTES, RecordBatch,
};
use protocol::time::Timestamp;

use super::error::LogError;
use super::producers::AbortedTxn;
use super::scan::{HEADERS_BYTES, ScanError, Scanner};
use super::segment::{LOG, Segment};
use crate::disk::File;
use crate::stretch::Stretch;

/// 4096: read before the batch that is looked for, as far as the index's usual interval leaves the
/// place open, so that one read suffices.
pub(super) const SLACK_BYTES: usize = 4096;

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such offset: before the log start, or beyond the log end.
    #[error("partition {partition}: offset {from} is not within {log_start}..{log_end}")]
    OutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// What was asked for.
        from: Offset,
        /// First offset that can be read.
        log_start: Offset,
        /// Where the log ends (exclusive).
        log_end: Offset,
    },
    /// Records had to be looked at and cannot be decoded.
    #[error("partition {partition}: {source}")]
    Records {
        /// Which partition.
        partition: TopicPartition,
        /// What is wrong with them.
        source: BatchError,
    },
    /// The disk failed, or what it holds is damaged.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ReadError {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Records { source, .. } => source.code(),
            Self::Log(error) => error.code(),
        }
    }
}

/// Batches that were read.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Whole batches, one after the other; empty when there are none to be had.
    pub bytes: Bytes,
    /// Where they lie when they were left in their file: zeros stand for them in `bytes` then.
    pub stretch: Option<Arc<Stretch>>,
    /// The header of the first; its base offset may be below the offset asked for.
    pub first: Option<BatchHeader>,
    /// Where to go on: the offset after the last of them, or the offset asked for.
    pub next_offset: Offset,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Which leader wrote it.
    pub leader_epoch: LeaderEpoch,
}

/// A segment, as far as deciding on its retention goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its first offset.
    pub base: Offset,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// Bytes of its batches.
    pub bytes: u64,
    /// The largest timestamp of its first batch.
    pub first_timestamp: Timestamp,
    /// The largest timestamp in it; none when no record has one.
    pub max_timestamp: Timestamp,
}

/// What the writer shows to readers.
#[derive(Debug)]
pub(super) struct Shared {
    partition: TopicPartition,
    // Written when a segment begins or goes, read by every fetch on whatever thread; asking the
    // writer would wait for its syncs. Held to copy a pointer or the list.
    segments: RwLock<Vec<Arc<Segment>>>,
    log_start: AtomicI64,
    log_end: AtomicI64,
    cleaned: AtomicI64,
}

impl Shared {
    pub(super) fn new(
        partition: TopicPartition,
        segments: Vec<Arc<Segment>>,
        log_start: Offset,
        log_end: Offset,
    ) -> Self {
        Self {
            partition,
            segments: RwLock::new(segments),
            log_start: AtomicI64::new(log_start.0),
            log_end: AtomicI64::new(log_end.0),
            cleaned: AtomicI64::new(0),
        }
    }

    pub(super) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_segments(&self, segments: Vec<Arc<Segment>>) {
        *self.segments.write().unwrap_or_else(PoisonError::into_inner) = segments;
    }

    pub(super) fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    pub(super) fn set_log_start(&self, offset: Offset) {
        self.log_start.store(offset.0, Ordering::Release);
    }

    fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    pub(super) fn set_log_end(&self, offset: Offset) {
        self.log_end.store(offset.0, Ordering::Release);
    }

    fn cleaned(&self) -> Offset {
        Offset(self.cleaned.load(Ordering::Acquire))
    }

    pub(super) fn set_cleaned(&self, offset: Offset) {
        self.cleaned.store(offset.0, Ordering::Release);
    }

    /// The first segment with a record at or after `offset`.
    pub(super) fn segment_with(&self, offset: Offset) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.base() <= offset);
        segments[after.saturating_sub(1)..]
            .iter()
            .find(|segment| segment.summary().next_offset > offset)
            .map(Arc::clone)
    }
}

/// A view of a log. Clones share it.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The first offset that can be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.shared.log_start()
    }

    /// The end of what is written (exclusive).
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.shared.log_end()
    }

    /// Where what compaction has cleaned ends (exclusive).
    #[must_use]
    pub fn cleaned(&self) -> Offset {
        self.shared.cleaned()
    }

    pub(super) fn shared_segments(&self) -> Vec<Arc<Segment>> {
        self.shared.segments()
    }

    /// Whole batches from the one that contains `from`, or else from the first one after it, none of which begins at or after `upto`,
    /// in at most `max_bytes`. With `at_least_one` the first may be larger than that (KIP-74);
    /// without, a batch that does not fit is left out. Reads from one segment, so it may yield
    /// less than there is.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] for an offset below the log start or above the log end.
    pub fn read(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, ReadError> {
        self.check_range(from)?;
        let nothing = Slice { bytes: Bytes::new(), stretch: None, first: None, next_offset: from };
        let Some(segment) = self.shared.segment_with(from) else { return Ok(nothing) };
        if from >= upto {
            return Ok(nothing);
        }
        match self.read_in(&segment, from, upto, (max_bytes, at_least_one)) {
            Ok(slice) => Ok(slice.unwrap_or(nothing)),
            // The segment was deleted in between: then the offset is out of range by now.
            Err(error) => self.check_range(from).and(Err(error)),
        }
    }

    /// The first record whose timestamp is `timestamp` or later, if it is below `upto`.
    ///
    /// # Errors
    /// When the disk fails or records do not decode.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        upto: Offset,
    ) -> Result<Option<Located>, ReadError> {
        let log_start = self.log_start();
        for segment in self.shared.segments() {
            let summary = segment.summary();
            if summary.max_timestamp < timestamp || summary.next_offset <= log_start {
                continue;
            }
            let from = segment.position_of_time(timestamp)?;
            let matches = |header: &BatchHeader| {
                header.max_timestamp >= timestamp
                    && header.next_offset() > log_start
                    && header.record_count > 0
            };
            let mut scan = self.scan(&segment, from, summary.bytes)?;
            while let Some(batch) = scan.find(&matches)? {
                let wanted = |at: Timestamp, offset| at >= timestamp && offset >= log_start;
                match self.locate(&batch, wanted)? {
                    Some(found) => return Ok(Some(found).filter(|found| found.offset < upto)),
                    // Its latest record lies below the log start, or compaction took it.
                    None if batch.header().next_offset() < upto => {}
                    None => return Ok(None),
                }
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp of all below `upto`. KIP-734.
    ///
    /// # Errors
    /// When the disk fails or records do not decode.
    pub fn max_timestamp(&self, upto: Offset) -> Result<Option<Located>, ReadError> {
        let log_start = self.log_start();
        let mut best: Option<(Timestamp, RecordBatch)> = None;
        for segment in self.shared.segments() {
            let summary = segment.summary();
            let best_so_far = best.as_ref().map_or(Timestamp::NONE, |&(at, _)| at);
            if summary.max_timestamp <= best_so_far || summary.next_offset <= log_start {
                continue;
            }
            let bounds = log_start..upto;
            // Only where the log's own bounds cut the segment must it be looked through, or where
            // compaction has emptied the batch.
            let is_inside = bounds.contains(&summary.max_timestamp_at);
            let mut newest = None;
            if is_inside {
                newest = self.newest_batch(&segment, &bounds, summary.max_timestamp)?;
            }
            if newest.is_none() {
                newest = self.newest_batch(&segment, &bounds, after(best_so_far))?;
            }
            best = newest.or(best);
        }
        let Some((timestamp, batch)) = best else { return Ok(None) };
        let found = self.locate(&batch, |at, offset| at >= timestamp && offset >= log_start)?;
        Ok(found.filter(|found| found.offset < upto))
    }

    /// The aborted transactions that have records within `from..upto`, by first offset: what who
    /// reads committed records must skip there.
    #[must_use]
    pub fn aborted(&self, from: Offset, upto: Offset) -> Vec<AbortedTxn> {
        let mut found = Vec::new();
        let mut is_done = false;
        for segment in self.shared.segments() {
            if is_done {
                break;
            }
            if segment.summary().next_offset <= from {
                continue;
            }
            segment.each_aborted(|txn| {
                if txn.last_offset >= from && txn.first_offset < upto {
                    found.push(*txn);
                }
                // Whatever was decided after this one began at or above `upto`.
                is_done |= txn.last_stable_offset >= upto;
            });
        }
        found.sort_unstable_by_key(|txn| txn.first_offset);
        found
    }

    /// All segments, in order; the last may still be growing.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Arc<Segment>| {
            let summary = segment.summary();
            SegmentInfo {
                base: segment.base(),
                next_offset: summary.next_offset,
                bytes: summary.bytes,
                first_timestamp: summary.first_timestamp,
                max_timestamp: summary.max_timestamp,
            }
        };
        self.shared.segments().iter().map(info).collect()
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.segments().iter().map(|segment| segment.summary().bytes).sum()
    }

    pub(super) fn check_range(&self, from: Offset) -> Result<(), ReadError> {
        let (log_start, log_end) = (self.log_start(), self.log_end());
        if log_start <= from && from <= log_end {
            return Ok(());
        }
        let partition = self.shared.partition.clone();
        Err(ReadError::OutOfRange { partition, from, log_start, log_end })
    }

    fn read_in(
        &self,
        segment: &Segment,
        from: Offset,
        upto: Offset,
        (max_bytes, at_least_one): (usize, bool),
    ) -> Result<Option<Slice>, ReadError> {
        let end = segment.summary().bytes;
        let begin = segment.position_of(from)?;
        let file = segment.log().map_err(|error| open_failed(segment, error))?;
        let piece_bytes = max_bytes.saturating_add(SLACK_BYTES);
        let mut scanner = Scanner::new(&*file, begin, end, piece_bytes);
        let Some(first) = find(segment, &mut scanner, from, upto)? else { return Ok(None) };
        let size = first.size_bytes();
        if size > max_bytes && !at_least_one {
            return Ok(None);
        }
        let left = usize::try_from(end - scanner.position()).unwrap_or(usize::MAX);
        let bytes = scanner
            .read(size.max(max_bytes.min(left)))
            .map_err(|error| scan_failed(segment, &scanner, error))?;
        let (length, next_offset) = whole_batches(&bytes, upto);
        assert!(length >= size);
        // No checksum is over the offset: one that was damaged would send its reader back for ever.
        if next_offset <= from {
            return Err(scan_failed(segment, &scanner, ScanError::Malformed).into());
        }
        let bytes = bytes.slice(..length);
        Ok(Some(Slice { bytes, stretch: None, first: Some(first), next_offset }))
    }

    /// The first batch of `segment` that has records within `bounds` and, of those that are dated
    /// at or after `least`, the largest timestamp; and that.
    fn newest_batch(
        &self,
        segment: &Segment,
        bounds: &Range<Offset>,
        mut least: Timestamp,
    ) -> Result<Option<(Timestamp, RecordBatch)>, ReadError> {
        let summary = segment.summary();
        let from = segment.position_of_time(least)?;
        let mut scan = self.scan(segment, from, summary.bytes)?;
        let mut newest = None;
        while least <= summary.max_timestamp
            && let Some(batch) = scan.find(&|header: &BatchHeader| {
                header.max_timestamp >= least
                    && header.next_offset() > bounds.start
                    && header.base_offset < bounds.end
                    && header.record_count > 0
            })?
        {
            if let Some(at) = self.newest_from(&batch, bounds.start)?.filter(|at| *at >= least) {
                least = after(at);
                newest = Some((at, batch));
            }
        }
        Ok(newest)
    }

    /// The largest timestamp among the records of `batch` from `start` on: the header speaks of all of them.
    fn newest_from(
        &self,
        batch: &RecordBatch,
        start: Offset,
    ) -> Result<Option<Timestamp>, ReadError> {
        if batch.header().base_offset >= start {
            return Ok(Some(batch.header().max_timestamp));
        }
        let fail = |source| ReadError::Records { partition: self.shared.partition.clone(), source };
        let mut newest = None;
        for record in &batch.decode(DECOMPRESSED_BYTES_MAX).map_err(fail)? {
            let record = record.map_err(fail)?;
            if record.offset >= start {
                newest = newest.max(Some(record.timestamp));
            }
        }
        Ok(newest)
    }

    fn scan<'a>(
        &'a self,
        segment: &'a Segment,
        from: u64,
        end: u64,
    ) -> Result<Find<'a>, ReadError> {
        let file = segment.log().map_err(|error| open_failed(segment, error))?;
        Ok(Find { segment, file, position: from, end })
    }

    fn locate(
        &self,
        batch: &RecordBatch,
        is_wanted: impl Fn(Timestamp, Offset) -> bool,
    ) -> Result<Option<Located>, ReadError> {
        let fail = |source| ReadError::Records { partition: self.shared.partition.clone(), source };
        let leader_epoch = batch.header().leader_epoch;
        for record in &batch.decode(DECOMPRESSED_BYTES_MAX).map_err(fail)? {
            let record = record.map_err(fail)?;
            if is_wanted(record.timestamp, record.offset) {
                let (offset, timestamp) = (record.offset, record.timestamp);
                return Ok(Some(Located { offset, timestamp, leader_epoch }));
            }
        }
        Ok(None)
    }
}

/// A search through the headers of a segment.
struct Find<'a> {
    segment: &'a Segment,
    file: Arc<dyn File>,
    position: u64,
    end: u64,
}

impl Find<'_> {
    /// The next batch whose header `matches`.
    fn find(
        &mut self,
        matches: &dyn Fn(&BatchHeader) -> bool,
    ) -> Result<Option<RecordBatch>, ReadError> {
        let mut scanner = Scanner::new(&*self.file, self.position, self.end, HEADERS_BYTES);
        let found = loop {
            match scanner.peek().map_err(|error| scan_failed(self.segment, &scanner, error))? {
                None => break None,
                Some(header) if matches(&header) => {
                    let batch = scanner.take(&header);
                    break Some(batch.map_err(|error| scan_failed(self.segment, &scanner, error))?);
                }
                Some(header) => scanner.skip(&header),
            }
        };
        self.position = scanner.position();
        Ok(found)
    }
}

/// Goes to the first batch that has records at or after `from`; `None` when there is none that begins
/// below `upto`.
#[inline]
pub(super) fn find(
    segment: &Segment,
    scanner: &mut Scanner<'_>,
    from: Offset,
    upto: Offset,
) -> Result<Option<BatchHeader>, LogError> {
    loop {
        match scanner.peek().map_err(|error| scan_failed(segment, scanner, error))? {
            Some(header) if header.next_offset() <= from => scanner.skip(&header),
            Some(header) if header.base_offset < upto => return Ok(Some(header)),
            Some(_) | None => return Ok(None),
        }
    }
}

/// How many bytes of the whole batches at the front of `bytes` begin below `upto`, and the offset
/// after the last of them. Looks at two fields of each, since small batches come by the thousand.
fn whole_batches(bytes: &[u8], upto: Offset) -> (usize, Offset) {
    let mut length = 0;
    let mut last = 0;
    while let Some((base, rest)) = bytes[length..].split_first_chunk::<8>()
        && let Some(size) = rest.first_chunk::<4>()
        && Offset(i64::from_be_bytes(*base)) < upto
        && let Ok(size) = usize::try_from(i32::from_be_bytes(*size))
        && let Some(stop) = length.checked_add(12 + size)
        && size + 12 >= HEADER_BYTES
        && stop <= bytes.len()
    {
        last = length;
        length = stop;
    }
    let header = BatchHeader::peek(&bytes[last..]).ok().flatten();
    (length, header.map_or(upto, |header| header.next_offset()))
}

pub(super) fn open_failed(segment: &Segment, error: io::Error) -> LogError {
    LogError::of(&segment.path(LOG), "open", error)
}

pub(super) fn scan_failed(segment: &Segment, scanner: &Scanner<'_>, error: ScanError) -> LogError {
    let path = segment.path(LOG);
    match error {
        ScanError::Io(error) => LogError::of(&path, "read", error),
        ScanError::Malformed => {
            LogError::Corrupt { path, position: scanner.position(), what: "a batch is damaged" }
        }
    }
}

fn after(timestamp: Timestamp) -> Timestamp {
    Timestamp(timestamp.0.saturating_add(1))
}
