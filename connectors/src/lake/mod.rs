//! Topics into a data lake: Parquet files in a local directory or a bucket, each record exactly once.
//!
//! # What is written
//!
//! ```text
//! <location>/<topic>/date=2026-11-21/hour=13/<topic>+<partition>+<start, 20 digits>.parquet
//! <location>/_intent/<topic>/<partition>/<start, 20 digits>.json
//! ```
//!
//! A file holds the records of one hour (UTC, by their timestamps) of one flush of one partition; `start` is the flush's
//! first offset, or the end of the flush before it if there are only markers between. Records without a time lie in
//! `date=__HIVE_DEFAULT_PARTITION__`, which readers show as null. Columns: `_partition`, `_offset`, `_timestamp`, `_key`
//! (another prefix may be chosen), then those of the value:
//!
//! - `format = "json"`: objects. A column for each field that occurs in the flush. Integers among doubles become
//!   doubles where none changes by it; other mixtures become JSON text, as do objects, lists and numbers too large.
//!   A field named like a column of ours, or like `date` or `hour`, gets one more `_`. With `[[columns]]` there
//!   are these columns of these types; other fields are kept in `_rest` as an object (`undeclared = "keep"`), passed
//!   over (`"drop"`), or the record is refused (`"reject"`). What is no object, or does not fit, is refused: the
//!   worker's `[errors]` decide whether the task fails, skips it or sends it to a dead letter topic.
//! - `format = "text"`: a column `value`; bytes that are not UTF-8 become U+FFFD. `format = "bytes"`: the bytes as they are.
//!
//! A null value (also an empty one, for JSON) is a row with only the first four columns.
//!
//! # To query
//!
//! ```sql
//! SELECT date, status, count(*)
//! FROM read_parquet('lake/logs/**/*.parquet', hive_partitioning = true, union_by_name = true)
//! WHERE date = '2026-11-21' GROUP BY ALL;   -- DuckDB
//! ```
//!
//! Inferred columns may differ from file to file. Readers that take those of one file for those of all (pyarrow's
//! dataset) want `[[columns]]`.
//!
//! # What is promised
//!
//! Every record that was not refused is in exactly one row, whatever crashes, whatever ends a flush (rows, bytes, age,
//! memory, the end of the task), and whichever reader looks at the files alone, at any time after the flush that wrote it. The
//! means: a flush is first announced by an *intent*, put on condition that none exists for this start; then its files
//! are put under names that follow from the start; only then its end is reported as durable and committed. A task that opens a
//! partition completes what was announced above the committed offset, from the same records, under the same names and the
//! settings of the time. Of two tasks that think they own a partition, one fails at the intent. A lake is written by
//! one connector: topics of different clusters need different locations.
//!
//! The store must refuse to overwrite what exists when asked to; it is tried at each start, and a store that does
//! not refuse is an error, as nothing would be promised there. Local files and directories are synced before anything is
//! reported as durable, so the promise holds across loss of power. Dead letters may repeat after a crash. If the
//! group's offsets are lost the lake goes on where it ended. If the topic is deleted and created again, its log ends
//! before the lake does, or offsets are set back, the sink says so and stops: it never writes a second time. Files may be
//! deleted or merged by others once their offsets are committed; `_intent` must be left alone.
//! On compacted topics, records compacted away between the announcement and its completion are left out.
//!
//! # Settings
//!
//! | key | default | |
//! |---|---|---|
//! | `location` | | a directory, `file:///dir`, or `s3://bucket/prefix` |
//! | `endpoint`, `region`, `access_key_id`, `secret_access_key`, `allow_http` | from `AWS_*` | of S3 and what speaks its protocol |
//! | `format` | `"json"` | `"text"`, `"bytes"` |
//! | `[[columns]]` `name`, `type` | inferred | types `bool`, `int64`, `float64`, `string`, `timestamp`, `json` |
//! | `undeclared` | `"keep"` | `"drop"`, `"reject"` |
//! | `key` | `"text"` | `"bytes"`, `"none"` |
//! | `metadata_prefix` | `"_"` | |
//! | `compression_level` | 3 | of zstd |
//! | `file_max_rows` | 1 000 000 | a flush is due: all files of a partition are closed |
//! | `file_max_bytes` | 256 MiB | of keys and values, before compression |
//! | `file_max_age_ms` | 60 000 | since the first record, looked at as often as the worker flushes |
//! | `memory_bytes` | 256 MiB | of rows of all partitions of a task; beyond it the largest is flushed |
//!
//! # Rooms
//!
//! - `intent`: what was announced, and how to go on; `partition`: one partition's phases; `layout`: names
//! - `gathering`: the rows of a range, until they are files
//! - `value`, `column`, `fields`, `table`, `parquet_file`: records to rows to columns to a file
//! - `settings`; `store`: the object store; `task`: what the worker calls
//!
//! Pure.

mod column;
#[cfg(test)]
mod faults;
mod fields;
mod gathering;
mod intent;
mod layout;
mod parquet_file;
mod partition;
mod settings;
mod store;
mod table;
mod task;
mod value;

use std::sync::Arc;

use connect::sdk::{ConfigErrors, Connector, Reader, SinkConnector, SinkTask, TaskContext};

use self::settings::LakeConfig;

/// The name under which settings ask for this sink.
pub const LAKE_SINK: &str = "lake-sink";

/// Builds a lake sink from its settings.
///
/// # Errors
/// All that is wrong with them.
pub fn lake_sink(reader: &mut Reader) -> Result<Connector, ConfigErrors> {
    let config = Arc::new(LakeConfig::read(reader)?);
    Ok(Connector::Sink(Box::new(LakeSink { config })))
}

struct LakeSink {
    config: Arc<LakeConfig>,
}

impl SinkConnector for LakeSink {
    fn task(&self, context: TaskContext) -> Box<dyn SinkTask> {
        Box::new(task::LakeTask::new(Arc::clone(&self.config), context))
    }
}
