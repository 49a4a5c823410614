//! Taking away from a log: its end, its beginning, or all of it.
//!
//! Every step may be the last before a crash, so each is made durable before the next relies on it:
//! what the checkpoint promises is taken back before it is cut off, a seal goes before the batches
//! that it sums up, newer segments before older ones, and the log start moves before anything below
//! it is deleted. Disk.

use std::path::Path;
use std::sync::Arc;

use protocol::ids::Offset;

use super::checkpoint::{Checkpoints, Point};
use super::error::LogError;
use super::index::{self, Seal, Summary};
use super::note::Changes;
use super::recovery::{Active, Place, remove_segments};
use super::scan::{HEADERS_BYTES, ScanError, Scanner};
use super::segment::{INDEX, LOG, SNAPSHOT, Segment, TXN_INDEX, file_name};
use super::state::LogState;
use super::store::Log;
use super::txn_index;
use crate::disk::Open;

impl Log {
    /// Cuts off the batch that holds `offset` and all after it, durably; yields the state then. An
    /// `offset` at or beyond the end cuts off nothing, one below the log start everything.
    pub(super) fn truncate_to(
        &mut self,
        offset: Offset,
        checkpoints: &mut Checkpoints,
    ) -> Result<LogState, LogError> {
        if offset >= self.end {
            return self.restate();
        }
        if offset <= self.shared.log_start() {
            return self.restart_at(offset, checkpoints);
        }
        // All that stays is durable first, so that the checkpoint may say so.
        self.checkpoint(checkpoints)?;
        let segments = self.shared.segments();
        let kept = segments.partition_point(|segment| segment.base() < offset);
        let cut = match kept.checked_sub(1).map(|last| &segments[last]) {
            Some(last) => Some((Arc::clone(last), summary_below(last, offset)?)),
            None => None,
        };
        if let Some((_, summary)) = &cut
            && summary.next_offset < self.shared.log_start()
        {
            // The batch that holds the log start goes, too; it will be fetched again, whole.
            return self.restart_at(summary.next_offset, checkpoints);
        }
        // Also if it is cut in part only.
        self.shape += 1;
        self.promise_less(cut.as_ref(), checkpoints)?;
        for segment in segments[kept..].iter().rev() {
            // One after the other on disk, too: never a gap.
            remove_segments(&self.place, &[segment.base()])?;
        }
        self.active = self.active.take().filter(|_| kept == segments.len());
        let mut end = offset;
        if let Some((segment, summary)) = cut
            && summary.bytes < segment.summary().bytes
        {
            end = end.min(self.cut(&segment, summary)?);
        }
        self.set_segments(segments[..kept].to_vec());
        if self.active.as_ref().is_some_and(Active::is_bare) {
            self.abandon_active()?;
        }
        self.snapshot = self.snapshot.filter(|&at| at <= end);
        for at in self.place.snapshots()?.into_iter().filter(|&at| at > end) {
            self.place.remove(&file_name(at, SNAPSHOT))?;
        }
        self.sync_home()?;
        self.place.sync_dir()?;
        self.end = end;
        self.synced = end;
        self.shared.set_log_end(end);
        self.restate()
    }

    /// Deletes everything, durably; the next record goes to `offset`.
    pub(super) fn restart_at(
        &mut self,
        offset: Offset,
        checkpoints: &mut Checkpoints,
    ) -> Result<LogState, LogError> {
        // Were the new log start stored while old segments are there, they would be taken for its
        // continuation. So: promise nothing, move the files away at once, then begin anew.
        checkpoints.update(&self.place.partition, |entry| entry.point = None);
        checkpoints.store()?;
        self.active = None;
        self.set_segments(Vec::new());
        self.discard_dir()?;
        checkpoints.update(&self.place.partition, |entry| {
            entry.log_start = offset;
            entry.cleaned = offset;
        });
        checkpoints.store()?;
        self.shared.set_cleaned(offset);
        self.end = offset;
        self.synced = offset;
        self.bytes.were_synced();
        self.names.were_synced();
        self.shared.set_log_start(offset);
        self.shared.set_log_end(offset);
        Ok(LogState::empty(offset))
    }

    /// Moves the log start up to `offset`, durably, and deletes complete segments below it. Yields
    /// the log start.
    pub(super) fn delete_before(
        &mut self,
        offset: Offset,
        checkpoints: &mut Checkpoints,
    ) -> Result<Offset, LogError> {
        let log_start = offset.min(self.end);
        if log_start <= self.shared.log_start() {
            return Ok(self.shared.log_start());
        }
        let mut segments = self.shared.segments();
        let complete = segments.len() - usize::from(self.active.is_some());
        let stale = segments[..complete]
            .partition_point(|segment| segment.summary().next_offset <= log_start);
        let gone: Vec<Offset> = segments.drain(..stale).map(|gone| gone.base()).collect();
        let first = segments.first().map_or(self.end, |first| first.base());
        checkpoints.update(&self.place.partition, |entry| {
            entry.log_start = log_start;
            // Of a segment that goes, a crash may leave any file; none of them is promised.
            entry.point = entry.point.filter(|point| point.segment >= first);
        });
        checkpoints.store()?;
        self.shared.set_log_start(log_start);
        self.set_segments(segments);
        remove_segments(&self.place, &gone)?;
        self.names.add();
        // The newest snapshot at or below what remains is where a walk over it begins.
        let snapshots = self.place.snapshots()?;
        let useful = snapshots.partition_point(|&at| at <= first).saturating_sub(1);
        for &at in &snapshots[..useful] {
            self.place.remove(&file_name(at, SNAPSHOT))?;
        }
        Ok(log_start)
    }

    /// Deletes the log and all that is known of it.
    pub(super) fn delete(&mut self, checkpoints: &mut Checkpoints) -> Result<(), LogError> {
        self.active = None;
        self.set_segments(Vec::new());
        checkpoints.remove(&self.place.partition);
        checkpoints.store()?;
        self.discard_dir()
    }

    /// Takes back, durably, what the checkpoint says of records that are about to be cut off.
    fn promise_less(
        &self,
        cut: Option<&(Arc<Segment>, Summary)>,
        checkpoints: &mut Checkpoints,
    ) -> Result<(), LogError> {
        let point = match cut {
            None => None,
            Some((segment, summary)) => {
                Some(Point { segment: segment.base(), durable: segment.seal_below(*summary)? })
            }
        };
        let end = cut.map_or(Offset::ZERO, |(_, summary)| summary.next_offset);
        let cleaned = checkpoints.of(&self.place.partition).cleaned.min(end);
        self.shared.set_cleaned(cleaned);
        checkpoints.update(&self.place.partition, |entry| {
            entry.point = point;
            entry.cleaned = cleaned;
        });
        checkpoints.store()
    }

    /// Cuts `segment` to what `summary` sums up; it grows again from there. Yields its end.
    fn cut(&mut self, segment: &Arc<Segment>, summary: Summary) -> Result<Offset, LogError> {
        let fail = |error| LogError::of(&segment.path(LOG), "truncate", error);
        segment.truncate_to(summary)?;
        let Seal { entries, aborted, .. } = segment.seal();
        // The seal goes before the batches do, or it would promise what is not there.
        let at = if entries == 0 { 0 } else { index::entry_position(entries) };
        cut_file(&self.place, &segment.path(INDEX), at)?;
        let at = txn_index::entry_position(aborted);
        cut_file(&self.place, &segment.path(TXN_INDEX), at)?;
        let file = segment.log_to_write().map_err(fail)?;
        file.truncate(summary.bytes).and_then(|()| file.sync_data()).map_err(fail)?;
        self.active = Some(Active {
            segment: Arc::clone(segment),
            index: Changes::default(),
            stored_aborted: aborted,
            length: summary.bytes,
            space: 0,
            lacks_space: false,
        });
        Ok(summary.next_offset)
    }

    /// Moves the log's directory out of the way, durably, and removes it.
    fn discard_dir(&mut self) -> Result<(), LogError> {
        if !self.has_dir {
            return Ok(());
        }
        self.has_dir = false;
        self.snapshot = None;
        self.home.were_synced();
        super::dir::discard(&*self.place.disk, &self.place.dir)
    }
}

/// Makes `at` the end of the file at `path`, durably; there may be none yet.
fn cut_file(place: &Place, path: &Path, at: u64) -> Result<(), LogError> {
    place
        .disk
        .open(path, Open::Create)
        .and_then(|file| file.truncate(at).and_then(|()| file.sync_data()))
        .map_err(|error| LogError::of(path, "cut", error))
}

/// What is left of `segment` when the batch with `offset` and all after it go.
fn summary_below(segment: &Segment, offset: Offset) -> Result<Summary, LogError> {
    let whole = segment.summary();
    if whole.next_offset <= offset {
        return Ok(whole);
    }
    let path = segment.path(LOG);
    let fail = |error| LogError::of(&path, "read", error);
    let file = segment.log().map_err(fail)?;
    let mut scanner = Scanner::new(&*file, 0, whole.bytes, HEADERS_BYTES);
    let mut summary = Summary::empty(segment.base());
    loop {
        match scanner.peek() {
            Ok(Some(header)) if header.next_offset() <= offset => {
                summary.apply(&header);
                scanner.skip(&header);
            }
            Ok(_) => return Ok(summary),
            Err(ScanError::Io(error)) => return Err(fail(error)),
            Err(ScanError::Malformed) => {
                return Err(LogError::Corrupt {
                    path,
                    position: scanner.position(),
                    what: "a durable batch is damaged",
                });
            }
        }
    }
}
