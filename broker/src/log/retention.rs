//! Which segments may go: the oldest first, whole ones, never a record that is not committed.
//!
//! By time, a segment goes when its newest record is older than is kept; records from the future
//! or without a timestamp keep theirs. By size, the oldest go as long as enough remains without
//! them. A clock that jumps makes it early or late; offsets decide what is safe. Pure.

use std::time::Duration;

use protocol::ids::Offset;
use protocol::time::Timestamp;

use super::reader::SegmentInfo;

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `retention.ms`: how long; `None`: for ever.
    pub time: Option<Duration>,
    /// `retention.bytes`: how much; `None`: without limit.
    pub bytes: Option<u64>,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// The new log start offset; `None`: nothing goes.
    pub delete_before: Option<Offset>,
    /// Whether the segment being written goes too, and must be completed first.
    pub roll: bool,
}

impl Retention {
    /// What may go of `segments`, in order, the last of which is being written. `bound` is the
    /// high watermark, or what else must stay.
    #[must_use]
    pub fn plan(&self, segments: &[SegmentInfo], now: Timestamp, bound: Offset) -> RetentionPlan {
        let mut plan = RetentionPlan::default();
        let mut rest: u64 = segments.iter().map(|segment| segment.bytes).sum();
        for (number, segment) in segments.iter().enumerate() {
            rest -= segment.bytes;
            let is_old = self.time.is_some_and(|time| {
                segment.max_timestamp > Timestamp::NONE && segment.max_timestamp.plus(time) < now
            });
            let is_too_much = self.bytes.is_some_and(|bytes| rest >= bytes);
            let goes = is_old || is_too_much;
            if !goes || segment.bytes == 0 || segment.next_offset > bound {
                break;
            }
            plan.delete_before = Some(segment.next_offset);
            plan.roll = number + 1 == segments.len();
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four segments of 100 bytes and ten records, each ten seconds newer than the one before it.
    fn check(time: Option<u64>, bytes: Option<u64>, bound: i64, want: (Option<i64>, bool)) {
        let segments: Vec<SegmentInfo> = (0..4)
            .map(|n| SegmentInfo {
                base: Offset(n * 10),
                next_offset: Offset(n * 10 + 10),
                bytes: 100,
                first_timestamp: Timestamp(10_000 * n),
                max_timestamp: Timestamp(10_000 * n),
            })
            .collect();
        let retention = Retention { time: time.map(Duration::from_secs), bytes };
        let plan = retention.plan(&segments, Timestamp(30_001), Offset(bound));
        assert_eq!((plan.delete_before.map(|offset| offset.0), plan.roll), want);
    }

    #[test]
    fn segments_go_whose_newest_record_is_too_old() {
        check(Some(20), None, 40, (Some(20), false));
        check(Some(40), None, 40, (None, false));
        check(None, None, 40, (None, false));
    }

    #[test]
    fn the_segment_being_written_goes_when_all_of_it_is_too_old() {
        check(Some(0), None, 40, (Some(40), true));
    }

    #[test]
    fn segments_go_as_long_as_enough_remains_without_them() {
        check(None, Some(200), 40, (Some(20), false));
        check(None, Some(201), 40, (Some(10), false));
        check(None, Some(399), 40, (None, false));
        check(None, Some(0), 40, (Some(40), true));
    }

    #[test]
    fn what_is_not_committed_stays() {
        check(Some(0), Some(0), 29, (Some(20), false));
        check(Some(0), Some(0), 9, (None, false));
    }
}
