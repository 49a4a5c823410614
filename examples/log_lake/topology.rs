//! The stream processing of the example: lines are parsed, and counted by file, severity and minute.
//!
//! Pure.

use millstream::protocol::time::Timestamp;
use millstream::streams::{
    BuildErrors, I64, Json, Raw, Record, Store, StreamsBuilder, Topic, Unit, Utf8,
    topology::Topology,
};
use serde::{Deserialize, Serialize};

use crate::parse::{self, Line};

/// Every line as it was read; the key is the file's path.
pub(crate) const LOGS: &str = "logs";
/// Every line, understood.
pub(crate) const PARSED: &str = "logs.parsed";
/// How many lines, by file, severity and minute. A newer count of a key replaces the older.
pub(crate) const PER_MINUTE: &str = "logs.per_minute";

/// Lines on their way to where they are counted: what the app itself calls its repartition topic.
pub(crate) const REGROUPED: &str = "log-lake-by-minute-repartition";

const MINUTE_MS: i64 = 60_000;

/// A count as it stands in `logs.per_minute`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PerMinute {
    pub(crate) file: String,
    pub(crate) severity: String,
    /// When the minute begins, in milliseconds since 1970 UTC.
    pub(crate) minute: i64,
    pub(crate) count: i64,
}

/// Its fields, as columns of a lake.
pub(crate) const PER_MINUTE_COLUMNS: &[(&str, &str)] =
    &[("file", "string"), ("severity", "string"), ("minute", "timestamp"), ("count", "int64")];

/// What lines are counted by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Group {
    file: String,
    severity: String,
    minute: i64,
}

pub(crate) fn build() -> Result<Topology, BuildErrors> {
    let logs = Topic::new(LOGS, Raw, Raw);
    let parsed = Topic::new(PARSED, Utf8, Json::<Line>::new());
    let per_minute = Topic::new(PER_MINUTE, Utf8, Json::<PerMinute>::new());
    let builder = StreamsBuilder::new();
    let lines = builder.stream(&logs).map_record(|record, _| {
        let file = String::from_utf8_lossy(&record.key).into_owned();
        let read_at = record.timestamp;
        let line = parse::parse(&file, &String::from_utf8_lossy(&record.value), read_at.0);
        let timestamp = dated(line.time, read_at);
        Record { key: file, value: line, timestamp, headers: record.headers }
    });
    lines.clone().to(&parsed);
    lines
        .map_record(|record, _| {
            let minute = record.timestamp.0.div_euclid(MINUTE_MS) * MINUTE_MS;
            let Line { file, severity, .. } = record.value;
            let key = serde_json::to_string(&Group { file, severity, minute });
            let key = key.expect("text and numbers are JSON");
            Record { key, value: (), timestamp: record.timestamp, headers: record.headers }
        })
        .repartition("by-minute", Utf8, Unit)
        .group_by_key()
        .count(Store::kv("per-minute", Utf8, I64))
        .to_stream()
        .map(|key: String, count| {
            let group: Group = serde_json::from_str(&key).expect("a key that was made above");
            let Group { file, severity, minute } = group;
            (key, PerMinute { file, severity, minute, count })
        })
        .to(&per_minute);
    builder.build()
}

/// When a line counts as having happened: when it says so, unless that is before 1970 or after it
/// was read.
fn dated(said: Option<i64>, read_at: Timestamp) -> Timestamp {
    said.filter(|time| (0..=read_at.0).contains(time)).map_or(read_at, Timestamp)
}

#[cfg(test)]
mod tests {
    use millstream::streams::TestDriver;

    use super::*;

    #[test]
    fn lines_are_counted_by_file_severity_and_minute() {
        let topology = build().unwrap();
        let mut driver = TestDriver::new(&topology);
        let logs = Topic::new(LOGS, Raw, Raw);
        let now = Timestamp(1_795_258_800_000);
        for line in
            ["Nov 21 10:59:44 h u: ok", "Nov 21 10:59:50 h u: ok", "Nov 21 10:59:51 h u: error"]
        {
            driver.pipe(&logs, "f".into(), line.into(), now).unwrap();
        }
        driver.commit().unwrap();
        let per_minute = Topic::new(PER_MINUTE, Utf8, Json::<PerMinute>::new());
        let counts = driver.read_pairs(&per_minute).unwrap();
        let counts: Vec<_> = counts
            .into_iter()
            .map(|(_, it)| (it.severity, it.minute % 3_600_000, it.count))
            .collect();
        let minute = 59 * MINUTE_MS;
        let want = [("info", 1), ("info", 2), ("error", 1)];
        let want: Vec<_> = want.iter().map(|(s, n)| ((*s).to_owned(), minute, *n)).collect();
        assert_eq!(counts, want);
        let parsed = Topic::new(PARSED, Utf8, Json::<Line>::new());
        assert_eq!(driver.read_pairs(&parsed).unwrap().len(), 3);
    }

    #[test]
    fn a_line_from_the_future_counts_as_read() {
        let now = Timestamp(1000);
        assert_eq!(dated(Some(5), now), Timestamp(5));
        assert_eq!(dated(Some(1001), now), now);
        assert_eq!(dated(Some(-1), now), now);
        assert_eq!(dated(None, now), now);
    }
}
