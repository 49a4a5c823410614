//! One column of a file while its rows are gathered.
//!
//! A column may begin without a kind and take that of its first value; it may be widened later (integers to
//! numbers, anything to JSON text), and cut back to fewer rows, which undoes half a record. It becomes an
//! Arrow array without copying its values. Pure.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Float64Array, Int64Array, LargeBinaryArray,
    LargeStringArray, TimestampMicrosecondArray, TimestampMillisecondArray, new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, TimeUnit};

/// 2^53: up to this magnitude every integer is a double.
const DOUBLE_EXACT_MAX: u64 = 1 << 53;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// True or false.
    Bool,
    /// Integers of 64 bits.
    Int,
    /// Doubles.
    Double,
    /// Milliseconds since 1970 UTC.
    Millis,
    /// Microseconds since 1970 UTC.
    Micros,
    /// Text.
    Text,
    /// JSON text.
    Json,
    /// Bytes.
    Bytes,
}

impl Kind {
    /// What readers are told.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Millis => DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())),
            Self::Micros => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            Self::Text | Self::Json => DataType::LargeUtf8,
            Self::Bytes => DataType::LargeBinary,
        }
    }

    /// The kind of a column that holds values of both kinds.
    pub(crate) fn union(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Int, Self::Double) | (Self::Double, Self::Int) => Self::Double,
            _ => Self::Json,
        }
    }
}

/// True if the double nearest to `int` is `int`.
pub(crate) fn is_exact_as_double(int: i64) -> bool {
    int.unsigned_abs() <= DOUBLE_EXACT_MAX
}

/// `int` as a double; rounded beyond 2^53.
pub(crate) fn double_of(int: i64) -> f64 {
    let high = i32::try_from(int >> 32).expect("the upper half of 64 bits");
    let low = u32::try_from(int & 0xffff_ffff).expect("the lower half of 64 bits");
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// The values of all rows; those of null rows are zero or empty.
#[derive(Debug)]
enum Values {
    /// No row had a value yet.
    None,
    Bits(BooleanBufferBuilder),
    Longs(Vec<i64>),
    Doubles(Vec<f64>),
    Strings(Strings),
}

#[derive(Debug)]
struct Strings {
    /// Where each row's bytes begin, and where the last one's end.
    bounds: Vec<i64>,
    bytes: Vec<u8>,
}

impl Strings {
    fn empty() -> Self {
        Self { bounds: vec![0], bytes: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.close();
    }

    /// Ends a row whose bytes were added.
    fn close(&mut self) {
        self.bounds.push(i64::try_from(self.bytes.len()).expect("a length fits 63 bits"));
    }

    fn row(&self, row: usize) -> &[u8] {
        let at = |row: usize| usize::try_from(self.bounds[row]).expect("a bound is a length");
        &self.bytes[at(row)..at(row + 1)]
    }

    fn truncate(&mut self, rows: usize) {
        self.bounds.truncate(rows + 1);
        let end = self.bounds.last().copied().expect("the first bound stays");
        self.bytes.truncate(usize::try_from(end).expect("a bound is a length"));
    }
}

/// One column.
#[derive(Debug)]
pub(crate) struct Column {
    kind: Option<Kind>,
    values: Values,
    present: BooleanBufferBuilder,
}

impl Column {
    /// A column without rows. `None`: of the kind of its first value.
    pub(crate) fn new(kind: Option<Kind>) -> Self {
        let mut column =
            Self { kind: None, values: Values::None, present: BooleanBufferBuilder::new(0) };
        if let Some(kind) = kind {
            column.set_kind(kind);
        }
        column
    }

    /// What it holds, if it had a value yet.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind
    }

    pub(crate) fn rows(&self) -> usize {
        self.present.len()
    }

    /// About how many bytes it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let values = match &self.values {
            Values::None => 0,
            Values::Bits(bits) => bits.len() / 8,
            Values::Longs(longs) => longs.len() * 8,
            Values::Doubles(doubles) => doubles.len() * 8,
            Values::Strings(strings) => strings.bytes.len() + strings.bounds.len() * 8,
        };
        values + self.present.len() / 8
    }

    /// Gives a column without values its kind.
    pub(crate) fn set_kind(&mut self, kind: Kind) {
        assert!(self.kind.is_none(), "a column has one kind");
        self.kind = Some(kind);
        let rows = self.rows();
        self.values = match kind {
            Kind::Bool => {
                let mut bits = BooleanBufferBuilder::new(rows);
                bits.append_n(rows, false);
                Values::Bits(bits)
            }
            Kind::Int | Kind::Millis | Kind::Micros => Values::Longs(vec![0; rows]),
            Kind::Double => Values::Doubles(vec![0.0; rows]),
            Kind::Text | Kind::Json | Kind::Bytes => {
                Values::Strings(Strings { bounds: vec![0; rows + 1], bytes: Vec::new() })
            }
        };
    }

    /// Adds null rows until there are `rows`.
    pub(crate) fn fill(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.rows());
        if missing == 0 {
            return;
        }
        self.present.append_n(missing, false);
        match &mut self.values {
            Values::None => {}
            Values::Bits(bits) => bits.append_n(missing, false),
            Values::Longs(longs) => longs.resize(rows, 0),
            Values::Doubles(doubles) => doubles.resize(rows, 0.0),
            Values::Strings(strings) => {
                let end = strings.bounds.last().copied().expect("the first bound stays");
                strings.bounds.resize(rows + 1, end);
            }
        }
    }

    /// Forgets all rows from `rows` on. The kind stays.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if rows >= self.rows() {
            return;
        }
        self.present.truncate(rows);
        match &mut self.values {
            Values::None => {}
            Values::Bits(bits) => bits.truncate(rows),
            Values::Longs(longs) => longs.truncate(rows),
            Values::Doubles(doubles) => doubles.truncate(rows),
            Values::Strings(strings) => strings.truncate(rows),
        }
    }

    /// Adds a row to a column of kind `Bool`.
    pub(crate) fn push_bool(&mut self, bool: bool) {
        let Values::Bits(bits) = &mut self.values else { panic!("{:?} takes no bool", self.kind) };
        bits.append(bool);
        self.present.append(true);
    }

    /// Adds a row to a column of integers or times.
    pub(crate) fn push_long(&mut self, long: i64) {
        let Values::Longs(longs) = &mut self.values else {
            panic!("{:?} takes no integer", self.kind)
        };
        longs.push(long);
        self.present.append(true);
    }

    /// Adds a row to a column of kind `Double`.
    pub(crate) fn push_double(&mut self, double: f64) {
        let Values::Doubles(doubles) = &mut self.values else {
            panic!("{:?} takes no double", self.kind)
        };
        doubles.push(double);
        self.present.append(true);
    }

    /// Adds a row to a column of text or JSON text.
    pub(crate) fn push_text(&mut self, text: &str) {
        assert!(self.kind != Some(Kind::Bytes), "text is not bytes");
        self.push_strings(text.as_bytes());
    }

    /// Adds a row to a column of kind `Bytes`, or text to one of kind `Text`, replacing what is not UTF-8.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        if self.kind == Some(Kind::Bytes) || std::str::from_utf8(bytes).is_ok() {
            self.push_strings(bytes);
        } else {
            self.push_strings(String::from_utf8_lossy(bytes).as_bytes());
        }
    }

    fn push_strings(&mut self, bytes: &[u8]) {
        let Values::Strings(strings) = &mut self.values else {
            panic!("{:?} takes no text", self.kind)
        };
        strings.push(bytes);
        self.present.append(true);
    }

    /// Makes integers numbers, if none of them changes by it.
    pub(crate) fn widen_to_double(&mut self) -> bool {
        let Values::Longs(longs) = &self.values else { panic!("{:?} is not Int", self.kind) };
        let is_exact = longs.iter().all(|long| is_exact_as_double(*long));
        if is_exact {
            self.values = Values::Doubles(longs.iter().map(|long| double_of(*long)).collect());
            self.kind = Some(Kind::Double);
        }
        is_exact
    }

    /// Makes every value its JSON text.
    pub(crate) fn widen_to_json(&mut self) {
        let mut texts = Strings::empty();
        for row in 0..self.rows() {
            if self.present.get_bit(row) {
                self.write_json(row, &mut texts.bytes);
            }
            texts.close();
        }
        self.values = Values::Strings(texts);
        self.kind = Some(Kind::Json);
    }

    fn write_json(&self, row: usize, out: &mut Vec<u8>) {
        let written = match &self.values {
            Values::None => Ok(()),
            Values::Bits(bits) => serde_json::to_writer(&mut *out, &bits.get_bit(row)),
            Values::Longs(longs) => serde_json::to_writer(&mut *out, &longs[row]),
            Values::Doubles(doubles) => serde_json::to_writer(&mut *out, &doubles[row]),
            Values::Strings(strings) if self.kind == Some(Kind::Json) => {
                out.extend_from_slice(strings.row(row));
                Ok(())
            }
            Values::Strings(strings) => {
                let text = std::str::from_utf8(strings.row(row)).expect("pushed as text");
                serde_json::to_writer(&mut *out, text)
            }
        };
        written.expect("memory takes every value");
    }

    /// This column with `rows` rows as an array of `kind`, to which it can be widened.
    pub(crate) fn into_array(mut self, kind: Kind, rows: usize) -> ArrayRef {
        self.fill(rows);
        assert_eq!(self.rows(), rows, "a column has no more rows than its table");
        match self.kind {
            None => return new_null_array(&kind.data_type(), rows),
            Some(own) if own == kind => {}
            Some(Kind::Int) if kind == Kind::Double => {
                let is_exact = self.widen_to_double();
                assert!(is_exact, "whoever chose the kind has looked at the values");
            }
            Some(own) => {
                assert_eq!(kind, Kind::Json, "{own:?} cannot become {kind:?}");
                self.widen_to_json();
            }
        }
        let nulls = Some(NullBuffer::new(self.present.finish())).filter(|it| it.null_count() > 0);
        array(kind, self.values, nulls)
    }

    /// True if it holds integers alone, all of which are doubles too.
    pub(crate) fn is_exact_as_double(&self) -> bool {
        match &self.values {
            Values::Longs(longs) => longs.iter().all(|long| is_exact_as_double(*long)),
            Values::None | Values::Doubles(_) => true,
            Values::Bits(_) | Values::Strings(_) => false,
        }
    }
}

fn array(kind: Kind, values: Values, nulls: Option<NullBuffer>) -> ArrayRef {
    match values {
        Values::None => panic!("a column of {kind:?} has values"),
        Values::Bits(mut bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
        Values::Longs(longs) => {
            let longs = ScalarBuffer::from(longs);
            match kind {
                Kind::Millis => {
                    Arc::new(TimestampMillisecondArray::new(longs, nulls).with_timezone("+00:00"))
                }
                Kind::Micros => {
                    Arc::new(TimestampMicrosecondArray::new(longs, nulls).with_timezone("+00:00"))
                }
                Kind::Bool | Kind::Int | Kind::Double | Kind::Text | Kind::Json | Kind::Bytes => {
                    Arc::new(Int64Array::new(longs, nulls))
                }
            }
        }
        Values::Doubles(doubles) => Arc::new(Float64Array::new(ScalarBuffer::from(doubles), nulls)),
        Values::Strings(Strings { bounds, bytes }) => {
            let bounds = OffsetBuffer::new(ScalarBuffer::from(bounds));
            let bytes = Buffer::from_vec(bytes);
            if kind == Kind::Bytes {
                Arc::new(LargeBinaryArray::new(bounds, bytes, nulls))
            } else {
                Arc::new(LargeStringArray::new(bounds, bytes, nulls))
            }
        }
    }
}
