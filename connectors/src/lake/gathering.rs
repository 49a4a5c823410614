//! The rows of one range of a partition, from its first record to files in memory.
//!
//! Rows whose columns are known beforehand are encoded as they come; those whose columns are inferred when the range
//! is closed, as all files of a range have the same columns. Closed, a range is encoded slice by slice, so that
//! nobody waits long for a turn. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use connect::sdk::{Offset, SinkRecord, TopicPartition};
use parquet::errors::ParquetError;

use super::fields::{Heading, RowError};
use super::intent::Intent;
use super::layout::{Hour, Layout, file_path};
use super::parquet_file::{Encoded, ParquetFile};
use super::table::{Table, fixed_heading, schema};

/// Files that a flush may have: a record of one more hour ends it.
pub(crate) const FILES_MAX: usize = 256;

/// Rows of known columns are encoded once their records take this much.
const TABLE_BYTES: usize = 1024 * 1024;

/// Rows encoded in one step.
const SLICE_ROWS: usize = 16 * 1024;

/// When a flush is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Rows.
    pub(crate) rows: usize,
    /// Bytes of keys and values.
    pub(crate) bytes: usize,
    /// Since the first record.
    pub(crate) age: Duration,
}

/// A file that gathers rows.
#[derive(Debug)]
struct OpenFile {
    table: Table,
    /// Bytes of the records in the table.
    table_bytes: usize,
    /// Rows encoded already.
    encoded: Option<ParquetFile>,
}

/// A range whose records are coming.
#[derive(Debug)]
pub(crate) struct Gathering {
    start: Offset,
    /// The announced range that is written again.
    pub(crate) again: Option<Intent>,
    layout: Arc<Layout>,
    /// The columns, if known before the records.
    fixed: Option<(Heading, SchemaRef)>,
    first: Option<Offset>,
    since: Option<Duration>,
    rows: usize,
    bytes: usize,
    files: BTreeMap<Hour, OpenFile>,
}

/// A file whose rows are complete.
#[derive(Debug)]
struct ClosedFile {
    path: String,
    encoded: ParquetFile,
    /// The rows not yet encoded.
    rest: RecordBatch,
}

/// A range whose records are all there, on their way into files.
#[derive(Debug)]
pub(crate) struct Encoding {
    pub(crate) start: Offset,
    pub(crate) first: Offset,
    pub(crate) end: Offset,
    pub(crate) again: Option<Intent>,
    pub(crate) layout: Arc<Layout>,
    left: VecDeque<ClosedFile>,
    pub(crate) done: Vec<(String, Encoded)>,
}

impl Gathering {
    /// No records of the range that starts at `start`.
    pub(crate) fn new(start: Offset, layout: Arc<Layout>) -> Self {
        let fixed = fixed_heading(&layout).map(|heading| {
            let schema = schema(&layout, &heading);
            (heading, schema)
        });
        Self {
            start,
            again: None,
            layout,
            fixed,
            first: None,
            since: None,
            rows: 0,
            bytes: 0,
            files: BTreeMap::new(),
        }
    }

    /// No records of an announced range, to be written again.
    pub(crate) fn again(intent: Intent) -> Self {
        let layout = Arc::clone(&intent.layout);
        Self { again: Some(intent.clone()), ..Self::new(intent.start, layout) }
    }

    /// True if a flush may end it: it has a record, even one that is refused.
    pub(crate) fn is_flushable(&self) -> bool {
        self.again.is_none() && self.first.is_some()
    }

    /// True if a flush shall end it.
    pub(crate) fn is_due(&self, now: Duration, limits: &Limits) -> bool {
        let is_old = self.since.is_some_and(|since| now.saturating_sub(since) >= limits.age);
        let is_big = self.rows >= limits.rows || self.bytes >= limits.bytes;
        self.is_flushable() && (is_old || is_big)
    }

    /// True if `record` cannot be of this range.
    pub(crate) fn ends_before(&self, record: &SinkRecord) -> bool {
        match &self.again {
            Some(intent) => intent.end <= record.offset,
            None => {
                self.files.len() >= FILES_MAX
                    && !self.files.contains_key(&Hour::of(record.timestamp))
            }
        }
    }

    /// About how many bytes its rows take.
    pub(crate) fn memory_bytes(&self) -> usize {
        let of = |file: &OpenFile| {
            file.table.memory_bytes() + file.encoded.as_ref().map_or(0, ParquetFile::memory_bytes)
        };
        self.files.values().map(of).sum()
    }

    /// Adds a row, or says why the record is none.
    pub(crate) fn push(
        &mut self,
        now: Duration,
        partition: &TopicPartition,
        record: &SinkRecord,
    ) -> Result<Result<(), RowError>, ParquetError> {
        self.first.get_or_insert(record.offset);
        self.since.get_or_insert(now);
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let bytes = len(&record.key) + len(&record.value);
        self.bytes += bytes;
        let file = self.files.entry(Hour::of(record.timestamp)).or_insert_with(|| OpenFile {
            table: Table::new(&self.layout, partition.partition),
            table_bytes: 0,
            encoded: None,
        });
        if let Err(error) = file.table.push(record) {
            return Ok(Err(error));
        }
        self.rows += 1;
        file.table_bytes += bytes;
        if let Some((heading, schema)) = &self.fixed
            && file.table_bytes >= TABLE_BYTES
        {
            file.table_bytes = 0;
            let batch = file.table.take(heading, schema);
            let encoded = match &mut file.encoded {
                Some(encoded) => encoded,
                None => file.encoded.insert(ParquetFile::new(
                    &self.layout,
                    Arc::clone(schema),
                    partition,
                    self.start,
                )?),
            };
            encoded.write(&batch)?;
        }
        Ok(Ok(()))
    }

    /// Takes no more records: those taken lie before `end`.
    pub(crate) fn close(
        mut self,
        partition: &TopicPartition,
        end: Offset,
    ) -> Result<Encoding, ParquetError> {
        // A file whose only records were refused is none.
        self.files.retain(|_, file| file.encoded.is_some() || file.table.rows() > 0);
        let (heading, schema) = self.fixed.take().unwrap_or_else(|| {
            let mut union = Heading::default();
            self.files.values().for_each(|file| union.unite(file.table.heading()));
            let schema = schema(&self.layout, &union);
            (union, schema)
        });
        let mut left = VecDeque::new();
        for (hour, mut file) in self.files {
            let rest = file.table.take(&heading, &schema);
            let encoded = match file.encoded {
                Some(encoded) => encoded,
                None => ParquetFile::new(&self.layout, Arc::clone(&schema), partition, self.start)?,
            };
            left.push_back(ClosedFile {
                path: file_path(partition, hour, self.start),
                encoded,
                rest,
            });
        }
        Ok(Encoding {
            start: self.start,
            first: self.first.unwrap_or(self.start),
            end,
            again: self.again,
            layout: self.layout,
            left,
            done: Vec::new(),
        })
    }
}

impl Encoding {
    /// True once all files are encoded.
    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Encodes a slice of the rows, or completes a file.
    pub(crate) fn encode(&mut self) -> Result<(), ParquetError> {
        let file = self.left.front_mut().expect("encoding ends with the last file");
        let rows = file.rest.num_rows().min(SLICE_ROWS);
        file.encoded.write(&file.rest.slice(0, rows))?;
        file.rest = file.rest.slice(rows, file.rest.num_rows() - rows);
        if file.rest.num_rows() == 0 {
            let ClosedFile { path, encoded, .. } =
                self.left.pop_front().expect("the file that was encoded");
            self.done.push((path, encoded.finish()?));
        }
        Ok(())
    }
}
