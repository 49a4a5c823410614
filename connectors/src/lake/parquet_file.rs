//! One Parquet file, made in memory.
//!
//! The bytes depend on the rows, the layout and the identity alone: written again from the same records by
//! this program, it is the same file. Pure.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use connect::sdk::{Offset, TopicPartition};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::layout::{FORMAT_VERSION, Layout};
use super::table::distinct_column;

/// A row group is closed at about this size: readers take one at a time.
const ROW_GROUP_BYTES: usize = 128 * 1024 * 1024;

/// A file that is being written.
pub(crate) struct ParquetFile {
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
}

/// A file that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// All of it.
    pub(crate) bytes: Bytes,
    /// How many rows it has.
    pub(crate) rows: u64,
}

impl ParquetFile {
    /// A file without rows for records of `partition`, of the flush that starts at `start`.
    pub(crate) fn new(
        layout: &Layout,
        schema: SchemaRef,
        partition: &TopicPartition,
        start: Offset,
    ) -> Result<Self, ParquetError> {
        let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
        let level = ZstdLevel::try_new(layout.compression_level)?;
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("millstream lake {FORMAT_VERSION}"))
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_key_value_metadata(Some(vec![
                pair("millstream.topic", partition.topic.to_string()),
                pair("millstream.partition", partition.partition.to_string()),
                pair("millstream.flush_start", start.to_string()),
            ]));
        for rising in ["offset", "timestamp"] {
            let column = || ColumnPath::new(vec![layout.metadata(rising)]);
            properties = properties
                .set_column_dictionary_enabled(column(), false)
                .set_column_encoding(column(), Encoding::DELTA_BINARY_PACKED);
        }
        if let Some(distinct) = distinct_column(layout) {
            let column = ColumnPath::new(vec![distinct.to_owned()]);
            properties = properties.set_column_dictionary_enabled(column, false);
        }
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
        Ok(Self { writer, rows: 0 })
    }

    /// Adds the rows of `batch`, which has the file's schema.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.rows += u64::try_from(batch.num_rows()).expect("a count fits 64 bits");
        self.writer.write(batch)
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.writer.memory_size() + self.writer.inner().len()
    }

    /// Completes the file.
    pub(crate) fn finish(self) -> Result<Encoded, ParquetError> {
        let rows = self.rows;
        Ok(Encoded { bytes: self.writer.into_inner()?.into(), rows })
    }
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ParquetFile({} rows)", self.rows)
    }
}
