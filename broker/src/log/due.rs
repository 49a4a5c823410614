//! Which logs have bytes that a crash would have read again, how many, and whose turn it is to be
//! brought into the checkpoint.
//!
//! A round takes some logs, in turn, and another begins when it has ended. While much is left the
//! next one is due at once, so that what is read after a crash does not grow with the number of logs.
//! Logs with little do not count then: their syncs would save no more than a page or two of reading.
//! Pure.

use std::collections::BTreeMap;

use crate::limits::SYNCS_AHEAD_MAX;

/// 256 MiB: written since the last checkpoint, over all logs, from which on a round is due. Read and
/// checked in 0.2 s after a crash.
const CHECKPOINT_BYTES: u64 = 256 << 20;
/// 64 KiB: a log with less than that takes part only when there is time.
pub(super) const CHECKPOINT_LOG_BYTES_MIN: u64 = 64 << 10;
/// 64: logs of one round.
const ROUND_LOGS_MAX: usize = SYNCS_AHEAD_MAX / 2;

/// The logs of a directory, by number.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Bytes appended to each since it was last in a checkpoint.
    by_log: BTreeMap<usize, u64>,
    bytes: u64,
    /// Where the next round begins among them.
    next: usize,
    /// The round that is under way, with the bytes of each log that it is about.
    round: BTreeMap<usize, u64>,
}

impl Due {
    /// So many bytes were appended to `log`.
    pub(super) fn add(&mut self, log: usize, bytes: u64) {
        *self.by_log.entry(log).or_default() += bytes;
        self.bytes += bytes;
    }

    /// `log` is gone.
    pub(super) fn remove(&mut self, log: usize) {
        self.by_log.remove(&log);
    }

    /// True when not all of `log` is in a checkpoint.
    pub(super) fn has(&self, log: usize) -> bool {
        self.by_log.contains_key(&log)
    }

    /// True when every log is in a checkpoint.
    pub(super) fn is_empty(&self) -> bool {
        self.by_log.is_empty()
    }

    /// True when a round should begin though there is other work.
    pub(super) fn is_pressing(&self) -> bool {
        self.bytes >= CHECKPOINT_BYTES && self.round.is_empty()
    }

    /// True while a round is under way.
    pub(super) fn has_round(&self) -> bool {
        !self.round.is_empty()
    }

    /// The logs of the next round, of those with so many bytes; none while one is under way.
    pub(super) fn next_round(&mut self, bytes_min: u64) -> Vec<usize> {
        if self.has_round() {
            return Vec::new();
        }
        // In turn, or busy logs in front would keep those behind them out.
        let after = self.by_log.range(self.next..);
        let due: Vec<usize> = after
            .chain(self.by_log.range(..self.next))
            .filter(|&(_, &bytes)| bytes >= bytes_min)
            .map(|(&log, _)| log)
            .take(ROUND_LOGS_MAX)
            .collect();
        self.next = due.last().map_or(0, |last| last + 1);
        due
    }

    /// `log` takes part in the round.
    pub(super) fn begin(&mut self, log: usize) {
        self.round.insert(log, self.by_log.get(&log).copied().unwrap_or_default());
    }

    /// The round is over for `log`, and what it had when the round began is in the checkpoint, or not.
    /// True: it is over for all.
    pub(super) fn end(&mut self, log: usize, is_noted: bool) -> bool {
        let noted = self.round.remove(&log).filter(|_| is_noted).unwrap_or_default();
        if let Some(bytes) = self.by_log.get_mut(&log) {
            *bytes -= noted;
            if is_noted && *bytes == 0 {
                self.by_log.remove(&log);
            }
        }
        self.count();
        !self.has_round()
    }

    /// Counts anew what makes a round pressing. To be called when a round was to begin, too: nothing
    /// may have come of it.
    pub(super) fn count(&mut self) {
        if !self.has_round() {
            self.bytes =
                self.by_log.values().filter(|&&bytes| bytes >= CHECKPOINT_LOG_BYTES_MIN).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Begins a round and brings all its logs into the checkpoint; how many they were.
    fn round(due: &mut Due, bytes_min: u64) -> usize {
        let logs = due.next_round(bytes_min);
        logs.iter().for_each(|&log| due.begin(log));
        due.count();
        assert!(!due.is_pressing() && (logs.is_empty() || due.next_round(0).is_empty()));
        for (at, log) in logs.iter().enumerate() {
            assert_eq!(due.end(*log, true), at + 1 == logs.len());
        }
        logs.len()
    }

    #[test]
    fn rounds_follow_one_another_until_little_is_left_however_many_logs_there_are() {
        let mut due = Due::default();
        for log in 0..1000 {
            due.add(log, 1 << 20);
        }
        let mut noted = 0;
        while due.is_pressing() {
            noted += round(&mut due, CHECKPOINT_LOG_BYTES_MIN);
        }
        assert!((1000 - 255..=1000 - 255 + ROUND_LOGS_MAX).contains(&noted), "{noted}");
        while !due.is_empty() {
            assert!(round(&mut due, 0) > 0);
        }
    }

    #[test]
    fn what_is_appended_during_a_round_is_due_after_it() {
        let mut due = Due::default();
        for (during, is_noted) in [(0, true), (5, true), (0, false), (5, false)] {
            due.add(1, 10);
            assert_eq!(due.next_round(0), [1]);
            due.begin(1);
            due.add(1, during);
            assert!(due.end(1, is_noted));
            let left = if is_noted { during } else { 10 + during };
            assert_eq!(due.by_log.get(&1).copied().unwrap_or_default(), left);
            due.remove(1);
        }
    }

    #[test]
    fn what_is_spread_thinly_over_many_logs_waits_for_a_quiet_moment() {
        let mut due = Due::default();
        for log in 0..10_000 {
            due.add(log, CHECKPOINT_LOG_BYTES_MIN - 1);
        }
        assert!(due.is_pressing());
        assert_eq!(round(&mut due, CHECKPOINT_LOG_BYTES_MIN), 0);
        assert!(!due.is_pressing(), "or it would be tried at each write");
        assert_eq!(round(&mut due, 0), ROUND_LOGS_MAX);
    }

    #[test]
    fn each_log_has_its_turn_also_when_those_before_it_grow_on() {
        let mut due = Due::default();
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            (0..4 * ROUND_LOGS_MAX).for_each(|log| due.add(log, 1));
            for log in due.next_round(0) {
                due.begin(log);
                seen.insert(log);
                due.end(log, false);
            }
        }
        assert_eq!(seen.len(), 4 * ROUND_LOGS_MAX);
    }
}
