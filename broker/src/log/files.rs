//! Files that are open: of complete segments those that were read last, and how many there are of
//! segments that grow.
//!
//! Most segments are never read again, and there may be more of them than a process may have files
//! open. Whoever is handed a file keeps it open for as long as it holds it; the next one to ask
//! may open it anew. Segments are told apart by numbers, not by names, which may pass to another.
//! A segment that grows stays open. A log that was not there before must not begin when there are as
//! many as may be, or its owner's next hundreds would leave none for the others' next segments and
//! for connections. Disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::File;
use crate::limits::LOG_FILES_OPEN_MAX;

/// Which file of which segment.
pub(super) type Key = (u64, &'static str);

/// The open files of a log directory.
#[derive(Debug)]
pub(super) struct Files {
    /// Most files of complete segments.
    complete_max: usize,
    /// So many segments may grow before no new log begins. Each has up to two files.
    growing_max: usize,
    /// Shared by each segment that grows: as many as there are, and one.
    growing: Growing,
    // Readers on any thread ask; an owner would put its queue before every read. Held for a
    // look-up, never while a file is opened.
    open: Mutex<Cache>,
}

/// Held for as long as a segment grows.
pub(super) type Growing = Arc<()>;

#[derive(Debug, Default)]
struct Cache {
    /// Numbers given to segments.
    segments: u64,
    /// Raised with every use.
    uses: u64,
    files: BTreeMap<Key, (u64, Arc<dyn File>)>,
    /// By last use, oldest first.
    ages: BTreeMap<u64, Key>,
}

impl Default for Files {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Files {
    /// No open files yet, in a process that may have `open_max` of them in all.
    ///
    /// Of sixteen, one is for complete segments, eight for those that grow, six for connections
    /// ([`connections_max`](crate::limits::connections_max)), one for all else.
    pub(super) fn new(open_max: u64) -> Self {
        let share = |of: u64| usize::try_from(open_max / of).unwrap_or(usize::MAX);
        Self {
            complete_max: share(16).min(LOG_FILES_OPEN_MAX),
            growing_max: share(4),
            growing: Growing::default(),
            open: Mutex::default(),
        }
    }

    /// A segment begins to grow.
    pub(super) fn grow(&self) -> Growing {
        Arc::clone(&self.growing)
    }

    /// True when no log may begin that was not there before.
    pub(super) fn is_crowded(&self) -> bool {
        self.growing_max < Arc::strong_count(&self.growing)
    }

    /// A number that no other segment has.
    pub(super) fn next_segment(&self) -> u64 {
        let mut cache = self.cache();
        cache.segments += 1;
        cache.segments
    }

    /// The file of this key, opened by `open` unless it is open.
    pub(super) fn get(
        &self,
        key: Key,
        open: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.cache().used(key) {
            return Ok(file);
        }
        let file = open()?;
        self.cache().add(key, Arc::clone(&file), self.complete_max);
        Ok(file)
    }

    /// Closes what is open of a segment, unless someone is reading it.
    pub(super) fn forget(&self, segment: u64) {
        let mut cache = self.cache();
        let keys: Vec<Key> =
            cache.files.range((segment, "")..(segment + 1, "")).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some((age, _)) = cache.files.remove(&key) {
                cache.ages.remove(&age);
            }
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn used(&mut self, key: Key) -> Option<Arc<dyn File>> {
        self.uses += 1;
        let uses = self.uses;
        let (age, file) = self.files.get_mut(&key)?;
        self.ages.remove(age);
        self.ages.insert(uses, key);
        *age = uses;
        Some(Arc::clone(file))
    }

    fn add(&mut self, key: Key, file: Arc<dyn File>, files_max: usize) {
        self.uses += 1;
        if let Some((age, _)) = self.files.insert(key, (self.uses, file)) {
            // Two opened it at the same time.
            self.ages.remove(&age);
        }
        self.ages.insert(self.uses, key);
        while self.files.len() > files_max
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.files.remove(&oldest);
        }
        assert_eq!(self.files.len(), self.ages.len());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, Open, SimDisk};

    #[test]
    fn the_files_that_were_used_last_stay_open() {
        let disk = SimDisk::new(1);
        let files = Files::default();
        let mut opened = Vec::new();
        let mut get = |segment: u64| {
            let path = format!("/{segment}");
            let open = || {
                opened.push(segment);
                disk.open(Path::new(&path), Open::Create)
            };
            files.get((segment, "log"), open).unwrap();
        };
        let many = u64::try_from(LOG_FILES_OPEN_MAX).unwrap();
        (0..many).for_each(&mut get);
        get(0);
        get(many);
        get(0);
        get(1);
        let again: Vec<u64> = opened[LOG_FILES_OPEN_MAX..].to_vec();
        assert_eq!(again, [many, 1]);
        files.forget(0);
        assert_eq!(files.cache().files.len(), LOG_FILES_OPEN_MAX - 1);
        assert_ne!(files.next_segment(), files.next_segment());
    }

    #[test]
    fn segments_that_grow_are_counted_and_those_that_ended_make_room() {
        let files = Files::new(12);
        let mut growing: Vec<_> = (0..2).map(|_| files.grow()).collect();
        assert!(!files.is_crowded());
        growing.push(files.grow());
        assert!(files.is_crowded());
        growing.pop();
        assert!(!files.is_crowded());
        assert!(!Files::default().is_crowded());
    }
}
