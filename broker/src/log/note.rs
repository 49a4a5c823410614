//! What a checkpoint will say of a log, taken down before it is durable.
//!
//! The writer moves to the files what belongs there, takes down how far the log is then, and goes on
//! appending; another thread syncs the files. Only then is the note true, and only if the segments are
//! still those it speaks of: what was cut off meanwhile, completed or cleaned, makes it void, and the
//! next one takes its place. What was appended meanwhile is not in it. Disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::ids::Offset;
use protocol::mutant::{Mutant, is_active};

use super::checkpoint::{Checkpoints, Point};
use super::error::LogError;
use super::recovery::METADATA;
use super::segment::{INDEX, LOG, TXN_INDEX};
use super::store::{Log, broken};
use crate::disk::{Disk, File, Open};

/// Changes of which a sync makes all durable that were made before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    made: u64,
    durable: u64,
}

impl Changes {
    /// One more.
    pub(super) fn add(&mut self) {
        self.made += 1;
    }

    /// True when not all are durable.
    pub(super) fn is_dirty(self) -> bool {
        self.durable < self.made
    }

    /// A sync that has ended began after all of them.
    pub(super) fn were_synced(&mut self) {
        self.durable = self.made;
    }

    /// A sync that has ended began after those that were made up to `then`.
    fn were_synced_to(&mut self, then: Self) {
        self.durable = self.durable.max(then.made);
    }
}

/// What is to be synced, and what may be said then.
#[derive(Debug)]
pub(super) struct Note {
    files: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
    /// A snapshot that is to be made durable, if it is still there: nothing that is said stands on it.
    snapshot: Option<(Offset, PathBuf)>,
    /// Open until it was synced: were it closed before, a failure to write it back could be forgotten.
    _held: Option<Arc<dyn File>>,
    /// Which segments there were.
    shape: u64,
    end: Offset,
    point: Option<Point>,
    aborted: u32,
    home: Changes,
    bytes: Changes,
    names: Changes,
    index: Changes,
}

impl Note {
    /// Makes true what it says. False: a file is gone, as when the log was cut since.
    ///
    /// Each file is opened anew: a failure to write it back is told to whoever has it open, once, and
    /// must not be taken from the writer, who would then believe a sync of its own. Who opens a file is
    /// told what nobody was told before; what somebody was told takes the directory offline. (Were it
    /// another program that syncs our files, it would be told in our place.)
    pub(super) fn sync(&self, disk: &dyn Disk) -> Result<bool, LogError> {
        for path in &self.files {
            if !sync_file(disk, path)? {
                return Ok(false);
            }
        }
        if let Some((_, path)) = &self.snapshot {
            sync_file(disk, path)?;
        }
        for path in self.dirs.iter().filter(|_| !is_active(Mutant::SkipDirSync)) {
            match disk.sync_dir(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(LogError::of(path, "sync the directory", error)),
            }
        }
        Ok(true)
    }
}

/// Syncs a file, opened anew. False: it is gone.
pub(super) fn sync_file(disk: &dyn Disk, path: &Path) -> Result<bool, LogError> {
    let file = match disk.open(path, Open::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(LogError::of(path, "open", error)),
    };
    file.sync_data().map_err(|error| broken(path, "sync", error))?;
    Ok(true)
}

impl Log {
    /// Moves to the files what the next checkpoint wants there, and takes down what it will say.
    pub(super) fn take_down(&mut self) -> Result<Note, LogError> {
        self.store_entries()?;
        let held = self.store_aborted()?;
        let dir = self.place.dir.to_path_buf();
        let (mut files, mut dirs) = (Vec::new(), Vec::new());
        if self.home.is_dirty() {
            files.push(dir.join(METADATA));
            dirs.extend(dir.parent().map(Path::to_path_buf));
        }
        if let Some(active) = &self.active {
            files.extend(self.bytes.is_dirty().then(|| active.segment.path(LOG)));
            files.extend(active.index.is_dirty().then(|| active.segment.path(INDEX)));
            files.extend(held.is_some().then(|| active.segment.path(TXN_INDEX)));
        }
        let snapshot = self.snapshot.map(|at| (at, self.place.snapshot_path(at)));
        if self.home.is_dirty() || self.names.is_dirty() || snapshot.is_some() {
            dirs.push(dir);
        }
        let seal = self.active.as_ref().map(|active| active.segment.seal());
        Ok(Note {
            files,
            dirs,
            snapshot,
            _held: held,
            shape: self.shape,
            end: self.end,
            point: self.point(),
            aborted: seal.map_or(0, |seal| seal.aborted),
            home: self.home,
            bytes: self.bytes,
            names: self.names,
            index: self.active.as_ref().map_or_else(Changes::default, |active| active.index),
        })
    }

    /// Believes a note whose files were synced; recovery will begin there once `checkpoints` are stored.
    /// False: it is void.
    pub(super) fn believe(&mut self, note: &Note, checkpoints: &mut Checkpoints) -> bool {
        if note.shape != self.shape && !is_active(Mutant::BelieveVoidNotes) {
            return false;
        }
        self.synced = self.synced.max(note.end);
        self.home.were_synced_to(note.home);
        self.bytes.were_synced_to(note.bytes);
        self.names.were_synced_to(note.names);
        self.snapshot =
            self.snapshot.filter(|at| note.snapshot.as_ref().map(|(at, _)| at) != Some(at));
        if let Some(active) = &mut self.active {
            active.index.were_synced_to(note.index);
            active.stored_aborted = active.stored_aborted.max(note.aborted);
            if !active.index.is_dirty() {
                active.segment.close_index();
            }
        }
        checkpoints.update(&self.place.partition, |entry| entry.point = note.point);
        true
    }
}
