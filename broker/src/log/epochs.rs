//! Which leader wrote which part of the log.
//!
//! Every batch carries the epoch of the leader that accepted it. This cache keeps, for each epoch,
//! the offset of its first record. A follower that meets a new leader asks where its own last epoch
//! ended and cuts off whatever lies beyond: so two logs come to agree again (KIP-101, KIP-279).
//!
//! It follows from the batches alone: a replay of them rebuilds it. Pure.

use std::sync::Arc;

use protocol::ids::{LeaderEpoch, Offset};

/// 4096: one entry per election that was followed by a write. Beyond, the oldest is forgotten: a
/// follower that far behind is told to cut off more than it must, and fetches it again.
const EPOCHS_MAX: usize = 4096;

/// Where each leader epoch begins.
///
/// Invariant: strictly ascending in epoch and in start offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    /// Records that the first record of `epoch` has offset `start`.
    ///
    /// Repeating the newest epoch changes nothing: all its later batches say the same.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if let Some(&(newest, _)) = self.entries.last() {
            if epoch == newest {
                return;
            }
            assert!(newest < epoch, "truncation must precede a return to an older epoch");
        }
        // An epoch that wrote nothing leaves no trace: its entry yields to the next.
        self.truncate_to(start);
        if self.entries.len() == EPOCHS_MAX {
            self.entries.remove(0);
        }
        self.entries.push((epoch, start));
    }

    /// The largest known epoch not above `asked`, and where it ended (exclusive).
    ///
    /// The newest epoch ends at `log_end`, the log end offset. When history before the log start
    /// was deleted, `asked` may precede every known epoch; the answer is then `asked` itself,
    /// ending where the oldest known epoch begins. `None` when `asked` is newer than all.
    #[must_use]
    pub fn end_of(&self, asked: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let (newest, _) = *self.entries.last()?;
        if newest < asked {
            return None;
        }
        let above = self.entries.partition_point(|&(known, _)| known <= asked);
        let end = self.entries.get(above).map_or(log_end, |&(_, start)| start);
        let found = self.entries[..above].last().map_or(asked, |&(known, _)| known);
        assert!(found <= asked);
        Some((found, end))
    }

    /// The newest epoch that wrote, and where it began. `None` for a log without records.
    #[must_use]
    pub fn newest(&self) -> Option<(LeaderEpoch, Offset)> {
        self.entries.last().copied()
    }

    /// Why a leader of epoch `current` may append nothing, if the log has records of a later one: the
    /// metadata were put back to an older state, or an epoch was damaged, which no checksum covers.
    #[must_use]
    pub fn ahead_of(&self, current: LeaderEpoch) -> Option<Arc<str>> {
        let (newest, start) = self.newest().filter(|&(newest, _)| newest > current)?;
        let reason = format!(
            "the log has records of leader epoch {newest} from offset {start} on, and the metadata \
             know none above {current}: they are older than the log, or it is damaged"
        );
        Some(reason.into())
    }

    /// Which epoch wrote the record at `offset`; `None` for an offset before all that is known.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|&(_, start)| start <= offset);
        self.entries[..after].last().map(|&(epoch, _)| epoch)
    }

    /// All epochs with their first offsets, ascending.
    #[must_use]
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Forgets what began at or after `end`, the new log end offset.
    pub fn truncate_to(&mut self, end: Offset) {
        self.entries.retain(|&(_, start)| start < end);
    }

    /// Forgets what ended at or before `log_start`; the epoch that holds it begins there now.
    pub fn delete_before(&mut self, log_start: Offset) {
        let after = self.entries.partition_point(|&(_, start)| start <= log_start);
        let Some(oldest) = after.checked_sub(1) else { return };
        self.entries.drain(..oldest);
        self.entries[0].1 = log_start;
    }

    /// Takes entries that were stored; `None` when they are not strictly ascending, or too many.
    #[must_use]
    pub fn from_entries(entries: Vec<(LeaderEpoch, Offset)>) -> Option<Self> {
        let ascends = entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
        (ascends && entries.len() <= EPOCHS_MAX).then_some(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epochs 2, 4, 7 begin at offsets 5, 10, 30; the log ends at 50.
    fn example() -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, start) in [(2, 5), (4, 10), (4, 20), (7, 30)] {
            epochs.assign(LeaderEpoch(epoch), Offset(start));
        }
        epochs
    }

    fn check(asked: i32, want: Option<(i32, i64)>) {
        let got = example().end_of(LeaderEpoch(asked), Offset(50));
        assert_eq!(got.map(|(epoch, end)| (epoch.0, end.0)), want);
    }

    fn raw(epochs: &Epochs) -> Vec<(i32, i64)> {
        epochs.entries().iter().map(|&(epoch, start)| (epoch.0, start.0)).collect()
    }

    #[test]
    fn older_than_all_ends_where_history_begins() {
        check(1, Some((1, 5)));
    }

    #[test]
    fn an_epoch_that_never_wrote_is_answered_by_the_one_before_it() {
        check(3, Some((2, 10)));
    }

    #[test]
    fn the_newest_epoch_ends_at_the_log_end() {
        check(7, Some((7, 50)));
        check(8, None);
    }

    #[test]
    fn truncation_forgets_epochs_that_began_later() {
        let mut epochs = example();
        epochs.truncate_to(Offset(30));
        assert_eq!(raw(&epochs), [(2, 5), (4, 10)]);
        epochs.assign(LeaderEpoch(5), Offset(25));
        assert_eq!(raw(&epochs), [(2, 5), (4, 10), (5, 25)]);
    }

    #[test]
    fn deletion_of_history_keeps_the_epoch_that_holds_the_log_start() {
        let mut epochs = example();
        epochs.delete_before(Offset(3));
        assert_eq!(raw(&epochs), [(2, 5), (4, 10), (7, 30)]);
        epochs.delete_before(Offset(12));
        assert_eq!(raw(&epochs), [(4, 12), (7, 30)]);
        epochs.delete_before(Offset(99));
        assert_eq!(raw(&epochs), [(7, 99)]);
    }

    #[test]
    fn each_offset_has_the_epoch_of_its_writer() {
        let epochs = example();
        let at = |offset| epochs.epoch_at(Offset(offset)).map(|epoch| epoch.0);
        assert_eq!(
            [at(4), at(5), at(29), at(30), at(99)],
            [None, Some(2), Some(4), Some(7), Some(7)]
        );
    }

    #[test]
    fn beyond_the_bound_the_oldest_epoch_is_forgotten() {
        let mut epochs = Epochs::default();
        for epoch in 0..5000 {
            epochs.assign(LeaderEpoch(epoch), Offset(i64::from(epoch)));
        }
        assert_eq!(epochs.entries().len(), EPOCHS_MAX);
        assert_eq!(raw(&epochs)[0], (904, 904));
        assert!(
            Epochs::from_entries(vec![(LeaderEpoch(1), Offset(5)), (LeaderEpoch(2), Offset(5))])
                .is_none()
        );
    }
}
