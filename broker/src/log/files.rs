//! Files that are open: of segments that are only read those that were read last, of those that are
//! written to as many as their share allows.
//!
//! Most segments are never read again, and there may be more of them than a process may have files
//! open. Whoever is handed a file keeps it open for as long as it holds it; the next one to ask
//! may open it anew. Segments are told apart by numbers, not by names, which may pass to another.
//! A file that is written to stays open until all of it is durable, so that no failure to write it is missed. Disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::File;
use crate::limits::{Kept, LOG_FILES_OPEN_MAX, Lent, OpenFiles};

/// Which file of which segment.
pub(super) type Key = (u64, &'static str);

/// The open files of a log directory.
#[derive(Debug)]
pub(super) struct Files {
    /// What this process may have open.
    open_files: Arc<OpenFiles>,
    // Readers on any thread ask; an owner would put its queue before every read. Held for a
    // look-up, never while a file is opened.
    open: Mutex<Cache>,
}

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
        Self::new(OpenFiles::unbounded())
    }
}

impl Files {
    /// No open files yet, of those that a process may have.
    pub(super) fn new(open_files: Arc<OpenFiles>) -> Self {
        Self { open_files, open: Mutex::default() }
    }

    /// Counts a file that is written to.
    pub(super) fn keep(&self) -> Kept {
        self.open_files.keep()
    }

    /// Counts a file that an answer is to be sent from; `None`: too many are.
    pub(super) fn lend(&self) -> Option<Lent> {
        self.open_files.lend()
    }

    /// True when another file may be written to.
    pub(super) fn has_room(&self) -> bool {
        self.open_files.growing() < self.open_files.growing_max()
    }

    /// How many files to close, at least, when there is no room: so many that the next ones need not ask
    /// again at once.
    pub(super) fn excess(&self) -> u64 {
        let most = self.open_files.growing_max();
        (self.open_files.growing() + 1 + most / 8).saturating_sub(most)
    }

    /// True when files are kept open that connections may lack.
    pub(super) fn has_lent(&self) -> bool {
        self.open_files.has_lent_to_logs()
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
        let most = usize::try_from(self.open_files.complete_max()).unwrap_or(usize::MAX);
        self.cache().add(key, Arc::clone(&file), most.min(LOG_FILES_OPEN_MAX));
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
}
