//! Which logs close their files so that others may open theirs.
//!
//! A log opens its file with the first append, and keeps it: most appends go to logs that were appended
//! to before. When as many are open as may be, an eighth of them is closed, those first that were not
//! appended to since somebody last looked; what of them is not durable is synced before, at one go. So there
//! may be more logs than a process may have files open; when more than that are appended to in turn,
//! it costs one sync for some hundred appends. Shell.

use super::writer::Writer;

impl Writer {
    /// True when an append to a log would have to open a file, and as many are open as may be.
    pub(super) fn must_make_room(&self, id: usize) -> bool {
        let entry = self.logs.get(id).and_then(Option::as_ref);
        entry.is_some_and(|entry| !entry.log.is_open()) && !self.dir.files.has_room()
    }

    /// Closes the files of an eighth of the logs, of those that were not written to for long.
    pub(super) fn make_room(&mut self) {
        let mut excess = self.dir.files.excess();
        let mut idle = Vec::new();
        // Who was used stays once more: in the second turn each is taken.
        for _ in 0..2 * self.logs.len() {
            if excess == 0 {
                break;
            }
            let id = self.hand;
            self.hand = (id + 1) % self.logs.len();
            if let Some(entry) = self.logs[id].as_mut().filter(|entry| entry.log.is_open())
                && !std::mem::take(&mut entry.is_used)
            {
                idle.push(id);
                excess -= 1;
            }
        }
        let is_dirty = |&id: &usize| self.due.has(id);
        let dirty: Vec<usize> = idle.iter().copied().filter(is_dirty).collect();
        self.sync(&dirty);
        for entry in idle.iter().filter_map(|&id| self.logs[id].as_ref()) {
            entry.log.close_files();
        }
    }

    /// Closes the files of logs that were not written to since it was last called, if others may lack them.
    pub(super) fn give_back(&mut self) {
        if !self.dir.files.has_lent() {
            return;
        }
        for entry in self.logs.iter_mut().flatten() {
            if !std::mem::take(&mut entry.is_used) {
                entry.log.close_files();
            }
        }
    }
}
