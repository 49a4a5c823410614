//! What the lake's files and intents are called, and what decides their content.
//!
//! A [`Layout`] together with the records of a range determines every file of a flush: names, columns and
//! rows. It is stored with each intent, so that a range announced under old settings is completed under them. Pure.

use connect::sdk::{Offset, Timestamp, TopicPartition};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::column::Kind;

/// The version of all that is written; raised when the same records would make other files.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Directory of what is announced, beside those of the topics. No topic's directory has `date=` below `_intent`.
const INTENTS: &str = "_intent";

/// What `date` and `hour` of records without a time are called: null, to all who read this way of naming.
const NULL_DIRECTORY: &str = "date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__";

/// Names of the directories, which readers show as columns.
const DIRECTORY_COLUMNS: [&str; 2] = ["date", "hour"];

/// Decides, together with the records, what is in the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layout {
    /// How values become columns.
    pub(crate) format: Format,
    /// How keys become a column.
    pub(crate) key: KeyFormat,
    /// Before the names of `partition`, `offset`, `timestamp`, `key` and `rest`.
    pub(crate) metadata_prefix: String,
    /// Of zstd.
    pub(crate) compression_level: i32,
}

/// How values become columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Format {
    /// One column `value` of text; what is not UTF-8 is replaced by U+FFFD.
    Text,
    /// One column `value` of bytes, as they are.
    Bytes,
    /// JSON objects; a column for each field that occurs.
    Inferred,
    /// JSON objects; these columns.
    Declared {
        /// In the order of the file.
        columns: Vec<DeclaredColumn>,
        /// What becomes of other fields.
        undeclared: Undeclared,
    },
}

/// A column that the settings ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeclaredColumn {
    /// The field's name, and the column's.
    pub(crate) name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub(crate) kind: DeclaredKind,
}

/// What a declared column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeclaredKind {
    /// True or false.
    Bool,
    /// An integer of 64 bits.
    Int64,
    /// A number.
    Float64,
    /// Text; other values as their JSON text.
    String,
    /// RFC 3339 text, or an integer of milliseconds since 1970.
    Timestamp,
    /// Anything, as its JSON text.
    Json,
}

impl DeclaredKind {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::Int64 => Kind::Int,
            Self::Float64 => Kind::Double,
            Self::String => Kind::Text,
            Self::Timestamp => Kind::Micros,
            Self::Json => Kind::Json,
        }
    }
}

/// What becomes of fields that are not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Undeclared {
    /// They are kept as one JSON object in the column `rest`.
    Keep,
    /// They are passed over.
    Drop,
    /// The record is refused.
    Reject,
}

/// How keys become a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyFormat {
    /// Text; what is not UTF-8 is replaced by U+FFFD.
    Text,
    /// Bytes.
    Bytes,
    /// There is no such column.
    None,
}

impl Layout {
    /// The name of a column that is not of the record's value: `offset` → `_offset`.
    pub(crate) fn metadata(&self, name: &str) -> String {
        format!("{}{name}", self.metadata_prefix)
    }

    /// True if a column of this name would hide one of ours; some readers take `Date` and `date` for one.
    pub(crate) fn is_reserved(&self, name: &str) -> bool {
        let ours = ["partition", "offset", "timestamp", "key", "rest"];
        ours.iter().any(|it| self.metadata(it).eq_ignore_ascii_case(name))
            || DIRECTORY_COLUMNS.iter().any(|it| it.eq_ignore_ascii_case(name))
    }

    /// The column of the field `field`: its name, with one more `_` if it is one of ours, or one of ours with
    /// some `_` already, so that no two fields share a column.
    pub(crate) fn column_of(&self, field: &str) -> String {
        let bare = field.trim_end_matches('_');
        let taken = self.is_reserved(field) || (bare != field && self.is_reserved(bare));
        if taken { format!("{field}_") } else { field.to_owned() }
    }
}

/// An hour of UTC, or that of records without a time. Ordered; the latter first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hour(Option<i64>);

impl Hour {
    /// The hour in which `timestamp` lies; none before 1970 or after 9999.
    pub(crate) fn of(timestamp: Timestamp) -> Self {
        let is_date = timestamp.0 >= 0 && jiff::Timestamp::from_millisecond(timestamp.0).is_ok();
        Self(is_date.then_some(timestamp.0 / 3_600_000))
    }

    fn directory(self) -> String {
        let start = self.0.and_then(|hour| jiff::Timestamp::from_second(hour * 3600).ok());
        match start {
            Some(start) => {
                let start = start.to_zoned(TimeZone::UTC);
                format!("date={}/hour={:02}", start.date(), start.hour())
            }
            None => NULL_DIRECTORY.to_owned(),
        }
    }
}

/// The path of the file with the records of `hour` from the flush of `partition` that starts at `start`.
pub(crate) fn file_path(partition: &TopicPartition, hour: Hour, start: Offset) -> String {
    let TopicPartition { topic, partition } = partition;
    format!("{topic}/{}/{topic}+{partition}+{start:020}.parquet", hour.directory(), start = start.0)
}

/// The directory of what is announced of `partition`.
pub(crate) fn intent_directory(partition: &TopicPartition) -> String {
    format!("{INTENTS}/{}/{}", partition.topic, partition.partition)
}

/// Where the flush of `partition` that starts at `start` is announced. Order of names is order of offsets.
pub(crate) fn intent_path(partition: &TopicPartition, start: Offset) -> String {
    format!("{}/{:020}.json", intent_directory(partition), start.0)
}

/// The start of the flush that a file of an intent directory announces. `None`: it is no intent.
pub(crate) fn intent_start(file_name: &str) -> Option<Offset> {
    let digits = file_name.strip_suffix(".json")?;
    let is_ours = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_ours.then(|| digits.parse().ok().map(Offset)).flatten()
}

/// Where a start tries whether the store can keep what exists from being overwritten.
pub(crate) fn probe_path() -> String {
    format!("{INTENTS}/probe")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(metadata_prefix: &str) -> Layout {
        Layout {
            format: Format::Inferred,
            key: KeyFormat::Text,
            metadata_prefix: metadata_prefix.to_owned(),
            compression_level: 3,
        }
    }

    #[test]
    fn files_lie_by_the_hour_of_their_records_and_are_named_by_the_start_of_the_flush() {
        let partition = TopicPartition::new("logs", 3);
        for (timestamp, want) in [
            (0, "logs/date=1970-01-01/hour=00/logs+3+00000000000000000042.parquet"),
            (1_709_251_199_999, "logs/date=2024-02-29/hour=23/logs+3+00000000000000000042.parquet"),
            (
                -1,
                "logs/date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/logs+3+00000000000000000042.parquet",
            ),
            (
                i64::MAX,
                "logs/date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/logs+3+00000000000000000042.parquet",
            ),
        ] {
            assert_eq!(file_path(&partition, Hour::of(Timestamp(timestamp)), Offset(42)), want);
        }
    }

    #[test]
    fn an_intent_tells_its_start_and_nothing_else_is_an_intent() {
        let partition = TopicPartition::new("a.b", 0);
        assert_eq!(
            intent_path(&partition, Offset(i64::MAX)),
            "_intent/a.b/0/09223372036854775807.json"
        );
        assert_eq!(intent_start("09223372036854775807.json"), Some(Offset(i64::MAX)));
        assert_eq!(intent_start("00000000000000000000.json"), Some(Offset(0)));
        for other in ["0.json", "00000000000000000000.json#1", "-0000000000000000001.json", "probe"]
        {
            assert_eq!(intent_start(other), None, "{other}");
        }
    }

    #[test]
    fn fields_named_like_our_columns_get_columns_of_their_own() {
        let layout = layout("_");
        for (field, column) in [
            ("host", "host"),
            ("host_", "host_"),
            ("date", "date_"),
            ("Date_", "Date__"),
            ("_offset", "_offset_"),
            ("offset", "offset"),
            ("_", "_"),
            ("", ""),
        ] {
            assert_eq!(layout.column_of(field), column);
        }
    }

    proptest! {
        #[test]
        fn no_two_fields_share_a_column(
            prefix in "_?",
            a in "(_?(date|offset|key|x)_{0,3})|[a-z]{0,3}",
            b in "(_?(date|offset|key|x)_{0,3})|[a-z]{0,3}",
        ) {
            let layout = layout(&prefix);
            prop_assert!(!layout.is_reserved(&layout.column_of(&a)));
            prop_assert_eq!(layout.column_of(&a) == layout.column_of(&b), a == b);
        }
    }
}
