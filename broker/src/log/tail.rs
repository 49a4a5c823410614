//! What lies behind the batches of the segment that is being written: space, and zeros. Disk.

use super::recovery::Active;
use super::state::LogConfig;
use super::{space, zeros};
use crate::disk::File;

impl Active {
    /// Before an append of `append_bytes`: sets space aside for it and for some of those that follow, where
    /// much is written.
    pub(super) fn set_space_aside(
        &mut self,
        file: &dyn File,
        append_bytes: u64,
        config: &LogConfig,
    ) {
        let at = self.segment.summary().bytes;
        let length_max = u64::from(config.segment_bytes);
        let space_max = config.space_bytes_max;
        let wanted = space::wanted(at, append_bytes, self.space, length_max, space_max);
        let Some(until) = wanted.filter(|_| !self.lacks_space) else { return };
        let from = at.max(self.space);
        match file.set_space_aside(from, until - from) {
            Ok(()) => self.space = until,
            // A part of it may have been: others shall have that.
            Err(_) => {
                self.lacks_space = true;
                self.give_space_back(file);
            }
        }
    }

    /// Gives back what space is not used yet.
    pub(super) fn give_space_back(&mut self, file: &dyn File) {
        // When that fails, it is given back when the segment is complete.
        let _ = file.len().and_then(|length| file.truncate(length));
        self.space = 0;
    }

    /// After an append of `append_bytes` that will be synced: writes zeros for the next ones, if those
    /// before are used up.
    pub(super) fn lay_zeros(&mut self, file: &dyn File, append_bytes: u64, config: &LogConfig) {
        let end = self.segment.summary().bytes;
        let length_max = u64::from(config.segment_bytes);
        let zeros_max = config.zeros_bytes_max;
        let count = zeros::wanted(append_bytes, end, self.length, length_max, zeros_max);
        if count > 0 {
            // What a failure leaves, if it stays, is zeros.
            let _ = zeros::write(file, end, count).or_else(|_| file.truncate(end));
            self.length = end + count;
        }
    }
}
