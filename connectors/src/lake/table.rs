//! The rows of one file while they are gathered: where each record came from, and what its value holds.
//!
//! The columns, in order: `partition`, `offset`, `timestamp` and `key` (with the layout's prefix), then those of the
//! value. A null value, and an empty one where objects are expected, is a row whose other columns are null. Pure.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use connect::sdk::{PartitionIndex, SinkRecord};

use super::column::{Column, Kind};
use super::fields::{Fields, Heading, RowError};
use super::layout::{Format, KeyFormat, Layout};

/// The column of values that are not taken apart.
const VALUE: &str = "value";

/// What the values became.
#[derive(Debug)]
enum Body {
    Whole(Column),
    Fields(Fields),
}

/// The rows of one file.
#[derive(Debug)]
pub(crate) struct Table {
    layout: Arc<Layout>,
    partition: PartitionIndex,
    offsets: Vec<i64>,
    timestamps: Column,
    /// `None`: keys are not kept.
    keys: Option<Column>,
    body: Body,
}

impl Table {
    /// No rows.
    pub(crate) fn new(layout: &Arc<Layout>, partition: PartitionIndex) -> Self {
        Self {
            layout: Arc::clone(layout),
            partition,
            offsets: Vec::new(),
            timestamps: Column::new(Some(Kind::Millis)),
            keys: key_kind(layout).map(|kind| Column::new(Some(kind))),
            body: match &layout.format {
                Format::Text => Body::Whole(Column::new(Some(Kind::Text))),
                Format::Bytes => Body::Whole(Column::new(Some(Kind::Bytes))),
                Format::Inferred | Format::Declared { .. } => {
                    Body::Fields(Fields::new(&layout.format))
                }
            },
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// About how many bytes it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let body = match &self.body {
            Body::Whole(column) => column.memory_bytes(),
            Body::Fields(fields) => fields.memory_bytes(),
        };
        let keys = self.keys.as_ref().map_or(0, Column::memory_bytes);
        body + keys + self.timestamps.memory_bytes() + self.offsets.len() * 8
    }

    /// Adds `record` as a row.
    ///
    /// # Errors
    /// Its value does not fit; nothing was added.
    pub(crate) fn push(&mut self, record: &SinkRecord) -> Result<(), RowError> {
        let row = self.rows();
        match (&mut self.body, &record.value) {
            (Body::Whole(column), None) => column.fill(row + 1),
            (Body::Whole(column), Some(value)) => column.push_bytes(value),
            (Body::Fields(fields), Some(value)) if !value.is_empty() => fields.push(value)?,
            (Body::Fields(fields), _) => fields.push_null(),
        }
        self.offsets.push(record.offset.0);
        if record.timestamp.0 >= 0 {
            self.timestamps.push_long(record.timestamp.0);
        } else {
            self.timestamps.fill(row + 1);
        }
        match (&mut self.keys, &record.key) {
            (Some(keys), Some(key)) => keys.push_bytes(key),
            (Some(keys), None) => keys.fill(row + 1),
            (None, _) => {}
        }
        Ok(())
    }

    /// The columns that its values need.
    pub(crate) fn heading(&self) -> Heading {
        match &self.body {
            Body::Whole(_) => Heading::default(),
            Body::Fields(fields) => fields.heading(&self.layout),
        }
    }

    /// Takes all rows out. `schema` is that of `heading`, which has at least the columns of its own.
    pub(crate) fn take(&mut self, heading: &Heading, schema: &SchemaRef) -> RecordBatch {
        let rows = self.rows();
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_value(self.partition.0, rows)),
            Arc::new(Int64Array::from(std::mem::take(&mut self.offsets))),
            take_column(&mut self.timestamps, Kind::Millis, rows),
        ];
        if let (Some(keys), Some(kind)) = (&mut self.keys, key_kind(&self.layout)) {
            arrays.push(take_column(keys, kind, rows));
        }
        match &mut self.body {
            Body::Whole(column) => {
                let kind = column.kind().expect("made with a kind");
                arrays.push(take_column(column, kind, rows));
            }
            Body::Fields(fields) => arrays.extend(fields.take(heading)),
        }
        RecordBatch::try_new(Arc::clone(schema), arrays).expect("arrays are made by the schema")
    }
}

fn take_column(column: &mut Column, kind: Kind, rows: usize) -> ArrayRef {
    std::mem::replace(column, Column::new(Some(kind))).into_array(kind, rows)
}

fn key_kind(layout: &Layout) -> Option<Kind> {
    match layout.key {
        KeyFormat::Text => Some(Kind::Text),
        KeyFormat::Bytes => Some(Kind::Bytes),
        KeyFormat::None => None,
    }
}

/// The columns of the files of a flush whose values have the columns of `heading`.
pub(crate) fn schema(layout: &Layout, heading: &Heading) -> SchemaRef {
    let field = |name: String, kind: Kind| Field::new(name, kind.data_type(), true);
    let mut fields = vec![
        Field::new(layout.metadata("partition"), DataType::Int32, false),
        Field::new(layout.metadata("offset"), DataType::Int64, false),
        field(layout.metadata("timestamp"), Kind::Millis),
    ];
    if let Some(kind) = key_kind(layout) {
        fields.push(field(layout.metadata("key"), kind));
    }
    match layout.format {
        Format::Text => fields.push(field(VALUE.to_owned(), Kind::Text)),
        Format::Bytes => fields.push(field(VALUE.to_owned(), Kind::Bytes)),
        Format::Inferred | Format::Declared { .. } => {
            fields.extend(heading.columns.iter().map(|it| field(it.name.clone(), it.kind)));
            if heading.has_rest {
                fields.push(field(layout.metadata("rest"), Kind::Json));
            }
        }
    }
    Arc::new(Schema::new(fields))
}

/// The columns known before any record: those of all files, unless columns are inferred.
pub(crate) fn fixed_heading(layout: &Layout) -> Option<Heading> {
    match &layout.format {
        Format::Inferred => None,
        Format::Text | Format::Bytes => Some(Heading::default()),
        Format::Declared { .. } => Some(Fields::new(&layout.format).heading(layout)),
    }
}

/// The column of values that are mostly all different, if there is one.
pub(crate) fn distinct_column(layout: &Layout) -> Option<&'static str> {
    match layout.format {
        Format::Text | Format::Bytes => Some(VALUE),
        Format::Inferred | Format::Declared { .. } => None,
    }
}
