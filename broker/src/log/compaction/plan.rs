//! Which part of a compacted log may be cleaned, whether that is worth it, and in which pieces.
//!
//! The last segment never is: it may be growing, and it is where the log ends. Nor is what could
//! still change its meaning (at or above the last stable offset), or is too young. Pure.

use std::ops::Range;
use std::time::Duration;

use protocol::ids::Offset;
use protocol::mutant::{Mutant, is_active};
use protocol::time::Timestamp;

use crate::log::reader::SegmentInfo;

/// When a log is cleaned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanPolicy {
    /// `min.cleanable.dirty.ratio`: how much of the log must be dirty, 0 to 1.
    pub dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`: how long every record stays at least.
    pub lag_min: Duration,
    /// `max.compaction.lag.ms`: how long dirt waits at most, whatever the ratio. KIP-354.
    pub lag_max: Duration,
}

/// The part of a log that was not cleaned and may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirt {
    /// Where it begins.
    pub from: Offset,
    /// Where it ends (exclusive): a segment begins there.
    pub until: Offset,
    /// Bytes of the segments before it.
    pub clean_bytes: u64,
    /// Bytes of its segments.
    pub dirty_bytes: u64,
    /// It has waited for as long as is allowed.
    pub is_overdue: bool,
}

impl Dirt {
    /// What `segments`, all of a log in order, hold beyond `cleaned`, below `bound`, the last
    /// stable offset. `None`: nothing.
    #[must_use]
    pub fn of(
        segments: &[SegmentInfo],
        cleaned: Offset,
        bound: Offset,
        now: Timestamp,
        policy: &CleanPolicy,
    ) -> Option<Self> {
        let (_, complete) = segments.split_last()?;
        let is_old_enough = |segment: &&SegmentInfo| {
            policy.lag_min.is_zero() || segment.max_timestamp.plus(policy.lag_min) <= now
        };
        let ripe = complete
            .iter()
            .take_while(|it| it.next_offset <= bound || is_active(Mutant::CompactUnstable))
            .take_while(is_old_enough)
            .count();
        let clean = complete[..ripe].partition_point(|segment| segment.next_offset <= cleaned);
        let first = complete[clean..ripe].first()?;
        let bytes = |segments: &[SegmentInfo]| segments.iter().map(|segment| segment.bytes).sum();
        Some(Self {
            from: cleaned.max(first.base),
            until: segments[ripe].base,
            clean_bytes: bytes(&complete[..clean]),
            dirty_bytes: bytes(&complete[clean..ripe]),
            is_overdue: first.first_timestamp > Timestamp::NONE
                && first.first_timestamp.plus(policy.lag_max) < now,
        })
    }

    /// Which part of what may be read is dirty, 0 to 1.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let millionths = |bytes: u64| {
            // A ratio needs no more digits than this keeps.
            let total = u128::from(self.clean_bytes) + u128::from(self.dirty_bytes);
            u128::from(bytes) * 1_000_000 / total.max(1)
        };
        f64::from(u32::try_from(millionths(self.dirty_bytes)).expect("at most a million")) / 1e6
    }

    /// True when it should be cleaned now.
    #[must_use]
    pub fn is_due(&self, policy: &CleanPolicy) -> bool {
        self.dirty_bytes > 0 && (self.is_overdue || self.ratio() > policy.dirty_ratio_min)
    }
}

/// A segment to be written anew, as far as joining it with its neighbours goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) base: Offset,
    pub(super) next_offset: Offset,
    pub(super) bytes: u64,
    /// Entries of its index.
    pub(super) entries: u32,
}

/// Which neighbours among `pieces` become one segment: as many as fit its size and its index even
/// if nothing were dropped, and whose offsets stay within 31 bits of the first.
pub(super) fn groups(pieces: &[Piece], segment_bytes: u32, entries_max: u64) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    while let Some(first) = pieces.get(start) {
        let (mut bytes, mut entries) = (0_u64, 0_u64);
        let fits = |piece: &&Piece| {
            bytes += piece.bytes;
            entries += u64::from(piece.entries);
            bytes <= u64::from(segment_bytes)
                && entries <= entries_max
                && piece.next_offset.0 - first.base.0 <= i64::from(i32::MAX)
        };
        let end = start + pieces[start..].iter().take_while(fits).count().max(1);
        groups.push(start..end);
        start = end;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CleanPolicy =
        CleanPolicy { dirty_ratio_min: 0.5, lag_min: Duration::ZERO, lag_max: Duration::MAX };

    /// Five segments of 100 bytes and ten records, each ten seconds newer than the one before it.
    fn segments() -> Vec<SegmentInfo> {
        let segment = |n: i64| SegmentInfo {
            base: Offset(n * 10),
            next_offset: Offset(n * 10 + 10),
            bytes: 100,
            first_timestamp: Timestamp(10_000 * n),
            max_timestamp: Timestamp(10_000 * n + 9_000),
        };
        (0..5).map(segment).collect()
    }

    fn check(cleaned: i64, bound: i64, policy: CleanPolicy, want: Option<(i64, i64, u64, bool)>) {
        let dirt =
            Dirt::of(&segments(), Offset(cleaned), Offset(bound), Timestamp(50_000), &policy);
        let got =
            dirt.map(|it| (it.from.0, it.until.0, it.ratio().mul_add(100.0, 0.5), it.is_overdue));
        let percent = |ratio: u64| f64::from(u32::try_from(ratio).unwrap()) + 0.5;
        let want = want.map(|(from, until, ratio, late)| (from, until, percent(ratio), late));
        assert_eq!(got, want);
    }

    #[test]
    fn what_was_not_cleaned_is_dirty_up_to_the_last_segment() {
        check(0, 50, POLICY, Some((0, 40, 100, false)));
        check(20, 50, POLICY, Some((20, 40, 50, false)));
        check(40, 50, POLICY, None);
        check(99, 50, POLICY, None);
        assert_eq!(Dirt::of(&[], Offset(0), Offset(0), Timestamp(0), &POLICY), None);
    }

    #[test]
    fn what_is_not_stable_stays() {
        check(0, 29, POLICY, Some((0, 20, 100, false)));
        check(0, 9, POLICY, None);
    }

    #[test]
    fn what_is_too_young_stays() {
        let policy = CleanPolicy { lag_min: Duration::from_secs(15), ..POLICY };
        check(0, 50, policy, Some((0, 30, 100, false)));
        check(0, 50, CleanPolicy { lag_min: Duration::from_secs(60), ..POLICY }, None);
    }

    #[test]
    fn dirt_that_waited_too_long_is_due_whatever_the_ratio() {
        let policy = CleanPolicy { lag_max: Duration::from_secs(19), ..POLICY };
        check(30, 50, policy, Some((30, 40, 25, true)));
        let dirt = |policy: &CleanPolicy| {
            Dirt::of(&segments(), Offset(30), Offset(50), Timestamp(50_000), policy).unwrap()
        };
        assert!(dirt(&policy).is_due(&policy));
        assert!(!dirt(&POLICY).is_due(&POLICY));
        let eager = CleanPolicy { dirty_ratio_min: 0.2, ..POLICY };
        assert!(dirt(&eager).is_due(&eager));
    }

    #[test]
    fn neighbours_are_joined_as_long_as_they_fit_one_segment() {
        let piece = |n: i64, bytes| Piece {
            base: Offset(n * 10),
            next_offset: Offset(n * 10 + 10),
            bytes,
            entries: 3,
        };
        let pieces = [piece(0, 40), piece(1, 60), piece(2, 30), piece(3, 500), piece(4, 1)];
        assert_eq!(groups(&pieces, 100, 100), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(groups(&pieces, 1000, 6), [0..2, 2..4, 4..5]);
        let far = [piece(0, 1), piece(300_000_000, 1), piece(300_000_001, 1)];
        assert_eq!(groups(&far, 100, 100), [0..1, 1..3]);
        assert!(groups(&[], 100, 100).is_empty());
    }
}
