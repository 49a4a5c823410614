//! One partition's files: append, sync, complete a segment, note how far all that is durable.
//!
//! Carries out what [`LogState`] decided and nothing else. Invariants: `end` is the end of what is
//! wholly written, and no file has batches beyond it; a segment is sealed, durably, before the next
//! one exists. An error for want of space leaves everything as it was; after any other the log must
//! not be used again. Disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::ids::Offset;

use super::checkpoint::{Checkpoint, Checkpoints, Point};
use super::error::LogError;
use super::index::{self, Index, Summary};
use super::note::Changes;
use super::reader::{Reader, Shared};
use super::recovery::{self, Active, METADATA, Place, Recovery, active_segment, remove_segments};
use super::scan::as_u64;
use super::segment::{INDEX, LOG, SNAPSHOT, Segment, TXN_INDEX, file_name};
use super::space;
use super::state::{ActiveSegment, LogState, Mark, Write};
use super::txn_index;
use crate::disk::{File, Open, out_of_files};

/// 256: entries of an index in memory, 4 KiB for about a mebibyte of log; then they move to the file.
/// Consumers that keep up find theirs in memory.
const UNSTORED_MAX: u32 = 256;

/// An open log, owned by its directory's writer.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) place: Place,
    pub(super) shared: Arc<Shared>,
    pub(super) active: Option<Active>,
    /// Where the next record goes.
    pub(super) end: Offset,
    /// Everything below is durable.
    pub(super) synced: Offset,
    pub(super) has_dir: bool,
    /// Changes to the directory itself, and to whose it is.
    pub(super) home: Changes,
    /// What was written to the active segment.
    pub(super) bytes: Changes,
    /// Changes to the names in the directory.
    pub(super) names: Changes,
    /// A snapshot that may not be durable yet: recovery would walk from the one before it.
    pub(super) snapshot: Option<Offset>,
    /// The last append went where its file had no space yet: the disk is not full.
    pub(super) found_room: bool,
    /// Counts what makes void what was taken down: changes to which segments there are, and cuts.
    pub(super) shape: u64,
}

impl Log {
    /// Opens the log at `place`, whatever happened to it.
    pub(super) fn open(
        place: Place,
        checkpoints: &Checkpoints,
    ) -> Result<(Self, LogState, Recovery), LogError> {
        let found = recovery::open(&place, checkpoints.of(&place.partition))?;
        let end = found.state.log_end;
        let log_start = found.state.log_start;
        let Checkpoint { cleaned, point, .. } = checkpoints.of(&place.partition);
        let is_promised = point.is_some_and(|point| point.durable.summary.bytes > 0);
        let shared = Shared::new(place.partition.clone(), found.segments, log_start, end);
        shared.set_cleaned(cleaned);
        let mut log = Self {
            place,
            shared: Arc::new(shared),
            active: found.active,
            end,
            synced: end,
            has_dir: found.has_dir,
            home: Changes::default(),
            bytes: Changes::default(),
            names: Changes::default(),
            snapshot: None,
            found_room: false,
            shape: 0,
        };
        if log.has_dir && !is_promised {
            // Who wrote what is there may have been killed before its first sync.
            log.home.add();
        }
        log.sync_home()?;
        Ok((log, found.state, found.recovery))
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where the next record goes.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    /// Everything below is durable.
    pub(super) fn synced(&self) -> Offset {
        self.synced
    }

    /// Appends `writes` in order, as few calls to the disk as there are files. On failure those
    /// below `end` are written, the others leave no trace.
    pub(super) fn append(&mut self, writes: &[Write]) -> Result<(), LogError> {
        let mut begun = 0;
        let mut from = self.end;
        for (number, write) in writes.iter().enumerate() {
            if write.from != from {
                self.flush(&writes[begun..number])?;
                return Err(LogError::OutOfStep {
                    partition: self.place.partition.clone(),
                    log_end: from,
                    got: write.from,
                });
            }
            if write.mark != Mark::None {
                self.flush(&writes[begun..number])?;
                self.mark(write)?;
                begun = number;
            }
            from = write.end();
        }
        self.flush(&writes[begun..])
    }

    /// Makes all that was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), LogError> {
        self.sync_home()?;
        if let Some(active) = self.active.as_ref().filter(|_| self.bytes.is_dirty()) {
            let file = active.segment.log_to_write();
            let path = active.segment.path(LOG);
            let file = file.map_err(|error| LogError::of(&path, "open", error))?;
            file.sync_data().map_err(|error| broken(&path, "sync", error))?;
        }
        if self.names.is_dirty() {
            self.place.sync_dir()?;
        }
        self.was_synced();
        Ok(())
    }

    /// The whole filesystem was synced since the last append.
    pub(super) fn filesystem_was_synced(&mut self) {
        if let Some(active) = &mut self.active {
            active.index.were_synced();
        }
        self.was_synced();
    }

    fn was_synced(&mut self) {
        self.home.were_synced();
        self.bytes.were_synced();
        self.names.were_synced();
        self.synced = self.end;
    }

    /// Gives back what space its file has beyond what is in it.
    pub(super) fn give_space_back(&mut self) {
        if let Some(active) = &mut self.active
            && active.space > active.segment.summary().bytes
            && let Ok(file) = active.segment.log_to_write()
        {
            active.lacks_space = true;
            active.give_space_back(&*file);
        }
    }

    /// True while it has a file open to be written to.
    pub(super) fn is_open(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.segment.is_open())
    }

    /// Closes its files, if all of them is durable: a failure to write them that nobody has met yet is
    /// forgotten with the last who has them open. The next append opens them anew.
    pub(super) fn close_files(&self) {
        if let Some(active) = &self.active
            && !self.has_dirty_files()
        {
            active.segment.close();
        }
    }

    /// True when a file of the active segment has something that was not synced.
    pub(super) fn has_dirty_files(&self) -> bool {
        let is_index_dirty = self.active.as_ref().is_some_and(|active| active.index.is_dirty());
        self.bytes.is_dirty() || is_index_dirty
    }

    /// The path of the file that is being written.
    pub(super) fn active_path(&self) -> Option<PathBuf> {
        self.active.as_ref().map(|active| active.segment.path(LOG))
    }

    /// Makes all that was appended durable, with its index, and notes how far that is: recovery
    /// will begin there once `checkpoints` are stored.
    pub(super) fn checkpoint(&mut self, checkpoints: &mut Checkpoints) -> Result<(), LogError> {
        self.flush_indexes()?;
        self.sync()?;
        let point = self.point();
        checkpoints.update(&self.place.partition, |entry| entry.point = point);
        Ok(())
    }

    /// What a checkpoint says of the segment that is being written, once all of it is durable.
    pub(super) fn point(&self) -> Option<Point> {
        let of = |active: &Active| (active.segment.base(), active.segment.seal());
        self.active.as_ref().map(of).map(|(segment, durable)| Point { segment, durable })
    }

    /// From now on these are the log's segments: what was said of others is void.
    pub(super) fn set_segments(&mut self, segments: Vec<Arc<Segment>>) {
        self.shape += 1;
        self.shared.set_segments(segments);
    }

    /// The state as it is on disk: for whoever decided writes that then failed.
    pub(super) fn restate(&self) -> Result<LogState, LogError> {
        let snapshots = self.place.snapshots()?;
        let segments = self.shared.segments();
        let (mut state, _) = recovery::rebuild(&self.place, &segments, &snapshots, self.end)?;
        state.log_start = self.shared.log_start();
        state.epochs.delete_before(state.log_start);
        state.active = match &self.active {
            Some(active) => active_segment(&active.segment),
            None => ActiveSegment::empty(self.end),
        };
        Ok(state)
    }

    /// Makes all durable before the log is left. With the `state` of its owner the next opening
    /// need not even walk.
    pub(super) fn close(
        &mut self,
        state: Option<&LogState>,
        checkpoints: &mut Checkpoints,
    ) -> Result<(), LogError> {
        if let Some(state) = state.filter(|state| self.has_dir && state.log_end == self.end)
            && state.unsnapped_bytes > 0
        {
            self.store_snapshot(self.end, &state.snapshot())?;
            self.sync_snapshot()?;
        }
        self.checkpoint(checkpoints)
    }

    /// Writes the batches of `run`, none of which but the first has a mark.
    fn flush(&mut self, run: &[Write]) -> Result<(), LogError> {
        let Some(first) = run.iter().flat_map(|write| &write.batches).next() else {
            return Ok(());
        };
        let base = first.header.base_offset;
        let active = match self.active.take() {
            Some(active) => self.active.insert(active),
            None => {
                let active = self.begin_segment(base)?;
                self.active.insert(active)
            }
        };
        let parts: Vec<&[u8]> = run
            .iter()
            .flat_map(|write| &write.batches)
            .flat_map(|batch| [&batch.bytes.prefix[..], &batch.bytes.rest[..]])
            .collect();
        let position = active.segment.summary().bytes;
        let segment = Arc::clone(&active.segment);
        let fail = |doing, error| LogError::of(&segment.path(LOG), doing, error);
        let file = segment.log_to_write().map_err(|error| fail("open", error))?;
        let bytes = run.iter().map(Write::size_bytes).sum();
        let had = active.length.max(active.space);
        active.set_space_aside(&*file, bytes, &self.place.config);
        if let Err(error) = file.write_at(&parts, position) {
            let error = fail("append", error);
            self.undo(&*file, position)?;
            return Err(error);
        }
        for write in run {
            let interval_bytes = write.index_interval_bytes;
            active.segment.extend(&write.batches, &write.aborted, interval_bytes);
        }
        let end = active.segment.summary().bytes;
        self.found_room = end > had;
        active.length = active.length.max(end);
        if run.iter().any(|write| write.sync) {
            active.lay_zeros(&*file, bytes, &self.place.config);
        }
        self.bytes.add();
        self.end = active.segment.summary().next_offset;
        self.shared.set_log_end(self.end);
        if active.segment.unstored_count() >= UNSTORED_MAX {
            match self.store_entries() {
                // They wait in memory until there is room.
                Ok(()) | Err(LogError::Full { .. } | LogError::OutOfFiles { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes back what a failed write left beyond `position`. Were it to stay, a shorter write
    /// over it could leave a whole batch behind that was reported as not written.
    fn undo(&mut self, file: &dyn File, position: u64) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let path = active.segment.path(LOG);
        active.length = position;
        active.space = 0;
        file.truncate(position)
            .and_then(|()| file.sync_data())
            .map_err(|error| broken(&path, "take back a failed write", error))?;
        if position == 0 { self.abandon_active() } else { Ok(()) }
    }

    /// Removes the active segment, in which there is nothing.
    pub(super) fn abandon_active(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        assert!(active.is_bare());
        let mut segments = self.shared.segments();
        segments.retain(|segment| segment.base() != active.segment.base());
        self.set_segments(segments);
        remove_segments(&self.place, &[active.segment.base()])?;
        self.bytes.were_synced();
        self.names.add();
        Ok(())
    }

    /// Creates the segment whose first batch has the offset `base`.
    fn begin_segment(&mut self, base: Offset) -> Result<Active, LogError> {
        self.ensure_dir()?;
        let path = self.place.dir.join(file_name(base, LOG));
        let file = self
            .place
            .disk
            .open(&path, Open::Create)
            .and_then(|file| file.truncate(0).map(|()| file))
            .map_err(|error| LogError::of(&path, "begin a segment", error))?;
        self.names.add();
        let content = (Summary::empty(base), Index::default(), Vec::new());
        let segment = Arc::new(Segment::growing(&self.place, base, file, content));
        let mut segments = self.shared.segments();
        segments.push(Arc::clone(&segment));
        self.set_segments(segments);
        let (index, space, lacks_space) = (Changes::default(), 0, false);
        Ok(Active { segment, index, stored_aborted: 0, length: 0, space, lacks_space })
    }

    /// A log's directory comes to be with its first batch, and durable with the first sync: one for each of ten thousand
    /// new logs would take half a minute.
    fn ensure_dir(&mut self) -> Result<(), LogError> {
        if self.has_dir {
            return Ok(());
        }
        let Place { disk, dir, topic_id, files, .. } = &self.place;
        let fail = |error| LogError::of(dir, "create", error);
        if !files.has_room() {
            return Err(fail(out_of_files()));
        }
        disk.create_dir_all(dir).map_err(fail)?;
        let file = disk.open(&dir.join(METADATA), Open::Create).map_err(fail)?;
        let metadata = recovery::metadata(*topic_id);
        file.truncate(0).and_then(|()| file.write_at(&[metadata.as_bytes()], 0)).map_err(fail)?;
        self.has_dir = true;
        self.home.add();
        Ok(())
    }

    /// Makes the directory durable, and whose it is; before anything in it is promised.
    pub(super) fn sync_home(&mut self) -> Result<(), LogError> {
        if !self.home.is_dirty() {
            return Ok(());
        }
        let Place { disk, dir, .. } = &self.place;
        let fail = |error| LogError::of(dir, "sync the topic id", error);
        disk.open(&dir.join(METADATA), Open::Existing)
            .and_then(|file| file.sync_data())
            .map_err(fail)?;
        self.place.sync_dir()?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent).map_err(fail)?;
        }
        self.home.were_synced();
        Ok(())
    }

    fn mark(&mut self, write: &Write) -> Result<(), LogError> {
        match &write.mark {
            Mark::None => Ok(()),
            Mark::Snapshot(state) => self.store_snapshot(write.from, state),
            Mark::Roll(state) => {
                self.store_snapshot(write.from, state)?;
                self.sync_snapshot()?;
                self.seal()
            }
        }
    }

    /// Stores a snapshot, which becomes durable with the next checkpoint: one that is torn or gone after a crash
    /// makes a longer walk, and an append need not wait for it.
    fn store_snapshot(&mut self, at: Offset, state: &[u8]) -> Result<(), LogError> {
        self.ensure_dir()?;
        self.snapshot = Some(at);
        let path = self.place.snapshot_path(at);
        let file = self.place.disk.open(&path, Open::Create);
        // To cut it to nothing first would have the file system write it back when it is closed.
        file.and_then(|file| {
            file.write_at(&[state], 0)?;
            let length = as_u64(state.len());
            if file.len()? > length { file.truncate(length) } else { Ok(()) }
        })
        .map_err(|error| LogError::of(&path, "store a snapshot", error))
    }

    /// Makes the newest snapshot durable, but for its name: where a segment begins, the walk does.
    fn sync_snapshot(&mut self) -> Result<(), LogError> {
        let Some(at) = self.snapshot.take() else { return Ok(()) };
        self.names.add();
        let path = self.place.snapshot_path(at);
        let file = self.place.disk.open(&path, Open::Existing);
        file.and_then(|file| file.sync_data())
            .map_err(|error| LogError::of(&path, "store a snapshot", error))
    }

    /// Completes the active segment. What its seal says is durable before there is another.
    fn seal(&mut self) -> Result<(), LogError> {
        self.drop_rest()?;
        self.flush_indexes()?;
        self.sync()?;
        let Some(active) = &self.active else { return Ok(()) };
        let seal = active.segment.seal();
        let base = active.segment.base();
        let path = active.segment.path(INDEX);
        let mut bytes = seal.encode(base);
        let mut at = index::entry_position(seal.entries);
        if seal.entries == 0 {
            bytes.splice(..0, Index::encode_head(base));
            at = 0;
        }
        let sealed = active.segment.index_to_write().and_then(|file| {
            file.truncate(at)?;
            file.write_at(&[&bytes], at)?;
            file.sync_data()
        });
        sealed.map_err(|error| LogError::of(&path, "seal a segment", error))?;
        self.place.sync_dir()?;
        // It need not be open any more.
        let aborted = active.segment.aborted();
        let complete = Segment::complete(&self.place, base, &seal, aborted);
        let mut segments = self.shared.segments();
        let last = segments.last_mut().expect("the active segment is the last");
        assert_eq!(last.base(), base);
        *last = Arc::new(complete);
        self.set_segments(segments);
        self.active = None;
        self.drop_snapshots_within(base)
    }

    /// Cuts the active segment's file to its batches, and gives back what space it has besides.
    fn drop_rest(&mut self) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let bytes = active.segment.summary().bytes;
        let space_max = self.place.config.space_bytes_max;
        if active.length > bytes || space::may_have_some(bytes, space_max) {
            let path = active.segment.path(LOG);
            let cut = active.segment.log_to_write().and_then(|file| file.truncate(bytes));
            cut.map_err(|error| LogError::of(&path, "seal a segment", error))?;
            active.length = bytes;
            self.bytes.add();
        }
        Ok(())
    }

    /// Removes the snapshots inside the segment that was just completed: a walk never begins there.
    fn drop_snapshots_within(&mut self, base: Offset) -> Result<(), LogError> {
        let end = self.end;
        for at in self.place.snapshots()?.into_iter().filter(|&at| base < at && at < end) {
            self.place.remove(&file_name(at, SNAPSHOT))?;
        }
        Ok(())
    }

    /// Brings the files of index and aborted transactions up to the batches that are written,
    /// durably.
    fn flush_indexes(&mut self) -> Result<(), LogError> {
        self.store_entries()?;
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.index.is_dirty() {
            let path = active.segment.path(INDEX);
            let file = active.segment.index_to_write();
            let file = file.map_err(|error| LogError::of(&path, "open the index", error))?;
            file.sync_data().map_err(|error| broken(&path, "sync", error))?;
            active.index.were_synced();
        }
        active.segment.close_index();
        if let Some(file) = self.store_aborted()?
            && let Some(active) = &mut self.active
        {
            let path = active.segment.path(TXN_INDEX);
            file.sync_data().map_err(|error| LogError::of(&path, "extend", error))?;
            active.stored_aborted = active.segment.seal().aborted;
        }
        Ok(())
    }

    /// Moves the aborted transactions that are in memory alone to their file, which is yielded if there
    /// were some: they are not durable yet.
    pub(super) fn store_aborted(&mut self) -> Result<Option<Arc<dyn File>>, LogError> {
        let Some(active) = &self.active else { return Ok(None) };
        let aborted = active.segment.encode_aborted(active.stored_aborted);
        if aborted.is_empty() {
            return Ok(None);
        }
        let path = active.segment.path(TXN_INDEX);
        let at = txn_index::entry_position(active.stored_aborted);
        // Set before, for the file may be created, or cut, and no more: what was taken down of it is void.
        self.names.add();
        self.shape += 1;
        let written = self.place.disk.open(&path, Open::Create).and_then(|file| {
            file.truncate(at)?;
            file.write_at(&[&aborted], at)?;
            Ok(file)
        });
        written.map(Some).map_err(|error| LogError::of(&path, "extend", error))
    }

    /// Moves the index entries that are in memory to their file.
    pub(super) fn store_entries(&mut self) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let (stored, mut bytes) = active.segment.unstored();
        if bytes.is_empty() {
            return Ok(());
        }
        let mut at = index::entry_position(stored);
        if stored == 0 {
            bytes.splice(..0, Index::encode_head(active.segment.base()));
            at = 0;
        }
        // Set before, for the file may be created and no more.
        if stored == 0 {
            self.names.add();
        }
        active.index.add();
        let written = active.segment.index_to_write().and_then(|file| file.write_at(&[&bytes], at));
        written.map_err(|error| {
            LogError::of(&active.segment.path(INDEX), "extend the index", error)
        })?;
        active.segment.mark_stored();
        Ok(())
    }
}

impl Write {
    /// The log end offset after it.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.batches.last().map_or(self.from, |last| last.header.next_offset())
    }
}

/// The error after which nothing is known of the file, whatever the reason.
pub(super) fn broken(
    path: &Path,
    doing: &'static str,
    error: impl Into<Arc<std::io::Error>>,
) -> LogError {
    LogError::Io { path: path.to_owned(), doing, source: error.into() }
}
