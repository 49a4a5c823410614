//! Why the oldest records of a partition are still there: from what the broker's APIs tell, alone.
//!
//! Whole segments go, and none of the APIs tells where segments begin: what is said about them is
//! said as probable. By time a segment goes when its newest record is old enough, the one being
//! written included, which is completed first; by size the oldest go while enough remains without
//! them; compaction never touches the one being written, nor anything from the last stable offset
//! on. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use client::admin::ConfigEntry;
use protocol::ids::{Offset, ProducerId};
use protocol::time::Timestamp;

use super::super::values::{show_bytes, show_span, show_time};

/// The settings that decide what goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) is_deleted: bool,
    pub(super) is_compacted: bool,
    /// `None`: for ever.
    pub(super) retention: Option<Duration>,
    /// `None`: without limit.
    pub(super) retention_bytes: Option<u64>,
    pub(super) segment_bytes: u64,
    pub(super) segment_time: Duration,
    pub(super) min_compaction_lag: Duration,
    pub(super) dirty_ratio: String,
    pub(super) is_dated_by_producers: bool,
    /// How often the broker looks; `None`: it did not tell.
    pub(super) check_interval: Option<Duration>,
}

impl Settings {
    /// Those of a topic; what a broker does not tell is Kafka's default.
    pub(super) fn new(
        topic: &BTreeMap<String, ConfigEntry>,
        broker: &BTreeMap<String, ConfigEntry>,
    ) -> Self {
        let text = |name: &str, default: &str| {
            let value = topic.get(name).and_then(|it| it.value.clone());
            value.unwrap_or_else(|| default.to_owned())
        };
        let number = |name: &str, default: &str| text(name, default).trim().parse::<u64>().ok();
        let time = |name: &str, default: &str| number(name, default).map(Duration::from_millis);
        let policy = text("cleanup.policy", "delete");
        let interval = broker.get("log.retention.check.interval.ms");
        let interval = interval.and_then(|it| it.value.as_ref()).and_then(|it| it.parse().ok());
        Self {
            is_deleted: policy.split(',').any(|it| it.trim() == "delete"),
            is_compacted: policy.split(',').any(|it| it.trim() == "compact"),
            retention: time("retention.ms", "604800000"),
            retention_bytes: number("retention.bytes", "-1"),
            segment_bytes: number("segment.bytes", "1073741824").unwrap_or(1 << 30),
            segment_time: time("segment.ms", "604800000").unwrap_or(Duration::MAX),
            min_compaction_lag: time("min.compaction.lag.ms", "0").unwrap_or(Duration::ZERO),
            dirty_ratio: text("min.cleanable.dirty.ratio", "0.5"),
            is_dated_by_producers: text("message.timestamp.type", "CreateTime") == "CreateTime",
            check_interval: interval.map(Duration::from_millis),
        }
    }

    /// When the broker looks next, in words.
    fn next_look(&self) -> String {
        match self.check_interval {
            Some(interval) => {
                format!("when the broker looks next, every {}", show_span(interval))
            }
            None => "when the broker looks next (log.retention.check.interval.ms)".to_owned(),
        }
    }
}

/// A transaction that is open in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenTransaction {
    pub(super) producer_id: ProducerId,
    pub(super) start: Offset,
    pub(super) last_write: Timestamp,
}

/// A partition as its leader tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The log start offset.
    pub(super) start: Offset,
    /// The high watermark.
    pub(super) end: Offset,
    /// The last stable offset.
    pub(super) stable: Offset,
    /// The time of the first record that has one.
    pub(super) oldest: Option<Timestamp>,
    /// The largest time of a record.
    pub(super) newest: Option<Timestamp>,
    /// The bytes of the leader's log; `None`: not told.
    pub(super) bytes: Option<u64>,
    pub(super) open: Vec<OpenTransaction>,
}

/// Why what is there is still there, as of `now`. Never empty.
pub(super) fn reasons(settings: &Settings, facts: &Facts, now: Timestamp) -> Vec<String> {
    let mut reasons = Vec::new();
    if facts.start >= facts.end {
        reasons.push("there are no records".to_owned());
    } else {
        if settings.is_deleted {
            reasons.push(by_time(settings, facts, now));
            reasons.extend(by_size(settings, facts));
        }
        if settings.is_compacted {
            compaction(settings, facts, now, &mut reasons);
        }
    }
    reasons.extend(facts.open.iter().map(|it| open(it, facts, now)));
    reasons
}

fn by_time(settings: &Settings, facts: &Facts, now: Timestamp) -> String {
    let Some(retention) = settings.retention else {
        return "retention.ms=-1: age deletes nothing".to_owned();
    };
    let kept = show_span(retention);
    let (Some(oldest), Some(newest)) = (facts.oldest, facts.newest) else {
        return "no record has a timestamp: age deletes nothing".to_owned();
    };
    if newest > now {
        let whose = if settings.is_dated_by_producers {
            "; producers date these records (message.timestamp.type=CreateTime)"
        } else {
            ""
        };
        return format!(
            "the newest timestamp, {}, lies in the future: the segment with that record stays until \
             {kept} (retention.ms) after it{whose}",
            show_time(newest)
        );
    }
    let (age, newest_age) = (since(oldest, now), since(newest, now));
    if age < retention {
        return format!(
            "the oldest record is {} old and retention.ms keeps {kept}: it stays for {} at least",
            show_span(age),
            show_span(retention - age)
        );
    }
    if newest_age >= retention {
        return format!(
            "all records are older than retention.ms ({kept}): they go {}",
            settings.next_look()
        );
    }
    let segment = show_bytes(settings.segment_bytes);
    let segments = match facts.bytes {
        Some(bytes) if bytes < settings.segment_bytes => format!(
            "; its {} are less than segment.bytes ({segment}), so that old and new records probably \
             share the segment being written: a smaller segment.bytes, or a segment.ms below {}, \
             would part them",
            show_bytes(bytes),
            show_span(settings.segment_time)
        ),
        Some(_) | None => format!(
            "; with segment.bytes of {segment} and segment.ms of {}, records of about as much share \
             a segment",
            show_span(settings.segment_time)
        ),
    };
    format!(
        "the oldest record is {} old, more than retention.ms ({kept}), but a segment goes only when \
         its newest record is that old, and the partition's newest is {} old{segments}",
        show_span(age),
        show_span(newest_age)
    )
}

fn by_size(settings: &Settings, facts: &Facts) -> Option<String> {
    let Some(limit) = settings.retention_bytes else {
        let neither = settings.retention.is_none();
        return neither.then(|| "retention.bytes=-1: size deletes nothing".to_owned());
    };
    let bytes = facts.bytes?;
    let (shown, shown_limit) = (show_bytes(bytes), show_bytes(limit));
    Some(if bytes <= limit {
        format!("its {shown} are within retention.bytes ({shown_limit}): size deletes nothing")
    } else if bytes - limit < settings.segment_bytes {
        format!(
            "its {shown} are more than retention.bytes ({shown_limit}), but whole segments go, and \
             only while that much remains without them: up to segment.bytes ({}) more stay",
            show_bytes(settings.segment_bytes)
        )
    } else {
        format!(
            "its {shown} are more than retention.bytes ({shown_limit}) and a segment: the oldest \
             segments go {}",
            settings.next_look()
        )
    })
}

fn compaction(settings: &Settings, facts: &Facts, now: Timestamp, reasons: &mut Vec<String>) {
    let policy = if settings.is_deleted { "compact,delete" } else { "compact" };
    let only = if settings.is_deleted { "" } else { ", and neither age nor size deletes" };
    reasons.push(format!(
        "cleanup.policy={policy}: compaction leaves the newest record of each key{only}"
    ));
    let is_young = facts.oldest.is_none_or(|it| since(it, now) < settings.segment_time);
    if is_young && facts.bytes.is_some_and(|it| it < settings.segment_bytes) {
        reasons.push(format!(
            "the segment being written is never compacted, and all {} probably lie in it: it is \
             completed by the first record after it has segment.bytes ({}) or is segment.ms ({}) old",
            show_bytes(facts.bytes.unwrap_or(0)),
            show_bytes(settings.segment_bytes),
            show_span(settings.segment_time)
        ));
    } else {
        reasons.push(format!(
            "the log is compacted once min.cleanable.dirty.ratio ({}) of it is new since the last \
             time, the segment being written apart",
            settings.dirty_ratio
        ));
    }
    let lag = settings.min_compaction_lag;
    if !lag.is_zero() && facts.newest.is_some_and(|it| since(it, now) < lag) {
        reasons.push(format!(
            "records younger than min.compaction.lag.ms ({}) are not compacted",
            show_span(lag)
        ));
    }
}

fn open(transaction: &OpenTransaction, facts: &Facts, now: Timestamp) -> String {
    let OpenTransaction { producer_id, start, last_write } = transaction;
    let wrote = if *last_write < Timestamp(0) {
        String::new()
    } else {
        format!(", last wrote {} ago", show_span(since(*last_write, now)))
    };
    format!(
        "producer {producer_id} has a transaction open since offset {start}{wrote}: from the last \
         stable offset {} on nothing is compacted, nor seen by read_committed",
        facts.stable
    )
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.0.saturating_sub(then.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const HOUR: i64 = 3_600_000;

    fn ago(hours: i64) -> Option<Timestamp> {
        Some(Timestamp(NOW.0 - hours * HOUR))
    }

    fn settings() -> Settings {
        Settings::new(&BTreeMap::new(), &BTreeMap::new())
    }

    fn facts() -> Facts {
        Facts {
            start: Offset(0),
            end: Offset(100),
            stable: Offset(100),
            oldest: ago(200),
            newest: ago(1),
            bytes: Some(5 << 20),
            open: Vec::new(),
        }
    }

    fn check(settings: &Settings, facts: &Facts, want: &Expect) {
        want.assert_eq(&reasons(settings, facts, NOW).join("\n"));
    }

    #[test]
    fn a_young_record_stays_until_its_time_has_come() {
        let facts = Facts { oldest: ago(2), ..facts() };
        check(
            &settings(),
            &facts,
            &expect![
                "the oldest record is 2h old and retention.ms keeps 7d: it stays for 6d 22h at least"
            ],
        );
    }

    #[test]
    fn an_old_record_stays_as_long_as_a_young_one_shares_its_segment() {
        check(
            &settings(),
            &facts(),
            &expect![
                "the oldest record is 8d 8h old, more than retention.ms (7d), but a segment goes only when its newest record is that old, and the partition's newest is 1h old; its 5.00 MiB are less than segment.bytes (1.00 GiB), so that old and new records probably share the segment being written: a smaller segment.bytes, or a segment.ms below 7d, would part them"
            ],
        );
    }

    #[test]
    fn a_record_of_the_future_keeps_its_segment() {
        let facts = Facts { newest: ago(-24), ..facts() };
        check(
            &settings(),
            &facts,
            &expect![
                "the newest timestamp, 2023-11-15T22:13:20Z, lies in the future: the segment with that record stays until 7d (retention.ms) after it; producers date these records (message.timestamp.type=CreateTime)"
            ],
        );
    }

    #[test]
    fn what_is_all_old_goes_when_the_broker_looks_next() {
        let settings = Settings { check_interval: Some(Duration::from_secs(300)), ..settings() };
        let facts = Facts { newest: ago(190), ..facts() };
        check(
            &settings,
            &facts,
            &expect![
                "all records are older than retention.ms (7d): they go when the broker looks next, every 5m"
            ],
        );
    }

    #[test]
    fn without_limits_nothing_goes() {
        let settings = Settings { retention: None, ..settings() };
        check(
            &settings,
            &facts(),
            &expect![[r#"
            retention.ms=-1: age deletes nothing
            retention.bytes=-1: size deletes nothing"#]],
        );
    }

    #[test]
    fn size_deletes_whole_segments_only() {
        let young = Facts { oldest: ago(1), ..facts() };
        let limited = |bytes, segment_bytes| Settings {
            retention_bytes: Some(bytes),
            segment_bytes,
            ..settings()
        };
        for (settings, want) in [
            (limited(10 << 20, 1 << 20), "its 5.00 MiB are within retention.bytes"),
            (limited(4 << 20, 2 << 20), "up to segment.bytes (2.00 MiB) more stay"),
            (limited(1 << 20, 1 << 20), "the oldest segments go when the broker looks next"),
        ] {
            let reasons = reasons(&settings, &young, NOW);
            assert!(reasons[1].contains(want), "{reasons:?}");
        }
    }

    #[test]
    fn compaction_spares_the_segment_being_written_and_what_is_young() {
        let settings = Settings {
            is_deleted: false,
            is_compacted: true,
            min_compaction_lag: Duration::from_secs(86_400),
            ..settings()
        };
        let facts = Facts { oldest: ago(2), ..facts() };
        check(
            &settings,
            &facts,
            &expect![[r#"
            cleanup.policy=compact: compaction leaves the newest record of each key, and neither age nor size deletes
            the segment being written is never compacted, and all 5.00 MiB probably lie in it: it is completed by the first record after it has segment.bytes (1.00 GiB) or is segment.ms (7d) old
            records younger than min.compaction.lag.ms (1d) are not compacted"#]],
        );
    }

    #[test]
    fn an_open_transaction_is_named_with_what_it_holds_back() {
        let transaction = OpenTransaction {
            producer_id: ProducerId(7),
            start: Offset(40),
            last_write: Timestamp(NOW.0 - 120_000),
        };
        let facts =
            Facts { oldest: ago(1), stable: Offset(40), open: vec![transaction], ..facts() };
        let reasons = reasons(&settings(), &facts, NOW);
        expect!["producer 7 has a transaction open since offset 40, last wrote 2m ago: from the last stable offset 40 on nothing is compacted, nor seen by read_committed"].assert_eq(reasons.last().unwrap());
    }

    #[test]
    fn an_empty_partition_has_nothing_to_explain() {
        let facts = Facts { start: Offset(100), oldest: None, newest: None, ..facts() };
        check(&settings(), &facts, &expect!["there are no records"]);
    }
}
