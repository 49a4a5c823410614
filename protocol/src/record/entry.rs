//! One record within a batch, and its headers.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//! | key length varint, key | value length varint, value | header count varint, headers
//! ```
//!
//! A length of -1 stands for null. A record that was yielded is sound to its last header, so
//! walking its headers cannot fail. Offset deltas ascend and stay within the batch; both iterators
//! stop at the first record that breaks this. Header keys may repeat and keep their order; one
//! that is not UTF-8 reads with replacement characters rather than making its batch unreadable.
//! Pure.

use super::header::{BatchError, BatchHeader};
use super::varint::Cursor;
use crate::ids::Offset;
use crate::time::Timestamp;
use bytes::Bytes;
use std::borrow::Cow;

/// A record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// When it was created, or appended if the batch says so.
    pub timestamp: Timestamp,
    /// Its key; `None`: null.
    pub key: Option<&'a [u8]>,
    /// Its value; `None`: null, in a compacted topic a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: HeadersRef<'a>,
}

/// A record that shares the bytes of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: Offset,
    /// When it was created, or appended if the batch says so.
    pub timestamp: Timestamp,
    /// Its key; `None`: null.
    pub key: Option<Bytes>,
    /// Its value; `None`: null, in a compacted topic a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key, not necessarily unique. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub key: Cow<'a, str>,
    /// Its value; `None`: null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, borrowed from its batch and read as they are walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadersRef<'a> {
    count: usize,
    /// Invariant: exactly `count` well-formed headers.
    raw: &'a [u8],
}

/// The headers of a record, sharing the bytes of its batch and read as they are walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    count: usize,
    /// Invariant: exactly `count` well-formed headers.
    raw: Bytes,
}

/// The records of a batch, borrowed. Made by [`super::RecordBatch::records`] and
/// [`super::DecodedBatch::iter`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    walk: Walk,
    cursor: Cursor<'a>,
    /// What the first call answers instead of a record.
    refusal: Option<BatchError>,
}

/// The records of a decoded batch, each sharing its bytes.
#[derive(Clone, Debug)]
pub struct DecodedRecords {
    walk: Walk,
    buffer: Bytes,
    position: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(header: &BatchHeader, payload: &'a [u8]) -> Self {
        let codec = header.attributes.codec();
        // An empty batch may claim a codec and have no frame.
        let refusal = (codec.compresses() && !payload.is_empty())
            .then_some(BatchError::Compressed { base_offset: header.base_offset, codec });
        Self { refusal, ..Self::decoded(header, payload) }
    }

    pub(super) fn decoded(header: &BatchHeader, records: &'a [u8]) -> Self {
        Self { walk: Walk::new(header), cursor: Cursor::new(records), refusal: None }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(refusal) = self.refusal.take() {
            self.walk.is_over = true;
            return Some(Err(refusal));
        }
        self.walk.step(&mut self.cursor)
    }
}

impl DecodedRecords {
    pub(super) fn new(header: &BatchHeader, buffer: Bytes) -> Self {
        Self { walk: Walk::new(header), buffer, position: 0 }
    }
}

impl Iterator for DecodedRecords {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut cursor = Cursor::new(&self.buffer[self.position..]);
        let step = self.walk.step(&mut cursor);
        self.position = self.buffer.len() - cursor.rest().len();
        Some(step?.map(|record| record.share(&self.buffer)))
    }
}

impl RecordRef<'_> {
    /// This record as slices of `buffer`, in which it must lie.
    fn share(&self, buffer: &Bytes) -> Record {
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(|key| buffer.slice_ref(key)),
            value: self.value.map(|value| buffer.slice_ref(value)),
            headers: Headers { count: self.headers.count, raw: buffer.slice_ref(self.headers.raw) },
        }
    }
}

/// What both iterators know besides their place in the bytes.
#[derive(Clone, Debug)]
struct Walk {
    base_offset: Offset,
    base_timestamp: Timestamp,
    /// What every record is dated, whatever its delta says.
    append_time: Option<Timestamp>,
    last_offset_delta: i32,
    record_count: i32,
    /// Records yielded.
    index: i32,
    previous_delta: i32,
    is_over: bool,
}

/// The head and body of a record before its deltas are made absolute.
struct Parsed<'a> {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: HeadersRef<'a>,
}

impl Walk {
    fn new(header: &BatchHeader) -> Self {
        Self {
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time: header.attributes.is_log_append_time().then_some(header.max_timestamp),
            last_offset_delta: header.last_offset_delta,
            record_count: header.record_count,
            index: 0,
            previous_delta: -1,
            is_over: false,
        }
    }

    #[inline]
    fn step<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<Result<RecordRef<'a>, BatchError>> {
        if self.is_over {
            return None;
        }
        if self.index == self.record_count {
            self.is_over = true;
            let ended = cursor.is_empty();
            return (!ended).then(|| Err(self.malformed("bytes follow the last record")));
        }
        match parse(cursor).and_then(|parsed| self.place(&parsed)) {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(reason) => {
                self.is_over = true;
                Some(Err(self.malformed(reason)))
            }
        }
    }

    #[inline]
    fn place<'a>(&mut self, parsed: &Parsed<'a>) -> Result<RecordRef<'a>, &'static str> {
        let delta = parsed.offset_delta;
        if delta <= self.previous_delta || delta > self.last_offset_delta {
            return Err("its offset does not ascend within the batch");
        }
        self.previous_delta = delta;
        // Kafka adds timestamps with wrap-around, and builders subtract likewise.
        let created = Timestamp(self.base_timestamp.0.wrapping_add(parsed.timestamp_delta));
        Ok(RecordRef {
            offset: self.base_offset.plus(i64::from(delta)),
            timestamp: self.append_time.unwrap_or(created),
            key: parsed.key,
            value: parsed.value,
            headers: parsed.headers,
        })
    }

    #[cold]
    fn malformed(&self, reason: &'static str) -> BatchError {
        BatchError::MalformedRecord { base_offset: self.base_offset, index: self.index, reason }
    }
}

#[inline]
fn parse<'a>(cursor: &mut Cursor<'a>) -> Result<Parsed<'a>, &'static str> {
    let length = cursor.varint().ok_or("its length is cut off or malformed")?;
    let body = usize::try_from(length)
        .ok()
        .and_then(|length| cursor.bytes(length))
        .ok_or("it is longer than what is left of the batch")?;
    parse_body(body).ok_or("its fields do not fill its length")
}

#[inline]
fn parse_body(body: &[u8]) -> Option<Parsed<'_>> {
    let mut cursor = Cursor::new(body);
    // The attributes of a record have no meaning yet.
    cursor.byte()?;
    let timestamp_delta = cursor.varlong()?;
    let offset_delta = cursor.varint()?;
    let key = nullable(&mut cursor)?;
    let value = nullable(&mut cursor)?;
    let count = usize::try_from(cursor.varint()?).ok()?;
    let raw = cursor.rest();
    if count == 0 && raw.is_empty() {
        return Some(Parsed {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers: HeadersRef::default(),
        });
    }
    // A header takes two bytes at least, so the wire's count runs out of bytes before it can cost
    // more time than they are worth.
    for _ in 0..count {
        header(&mut cursor)?;
    }
    let headers = HeadersRef { count, raw };
    cursor.is_empty().then_some(Parsed { timestamp_delta, offset_delta, key, value, headers })
}

#[inline]
fn nullable<'a>(cursor: &mut Cursor<'a>) -> Option<Option<&'a [u8]>> {
    match cursor.varint()? {
        -1 => Some(None),
        length => Some(Some(cursor.bytes(usize::try_from(length).ok()?)?)),
    }
}

#[inline]
fn header<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let key_length = usize::try_from(cursor.varint()?).ok()?;
    Some((cursor.bytes(key_length)?, nullable(cursor)?))
}

impl<'a> HeadersRef<'a> {
    /// How many there are, repeated keys counted each time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in their order.
    #[must_use]
    pub fn iter(&self) -> HeadersIter<'a> {
        HeadersIter { cursor: Cursor::new(self.raw), left: self.count }
    }

    /// The last header of this key: the one that counts where keys repeat.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<Header<'a>> {
        self.iter().filter(|header| header.key == key).last()
    }

    /// The headers as they lie in the record, after their count.
    pub(super) fn raw(&self) -> &'a [u8] {
        self.raw
    }
}

impl<'a> IntoIterator for HeadersRef<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Headers {
    /// The same headers, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> HeadersRef<'_> {
        HeadersRef { count: self.count, raw: &self.raw }
    }

    /// How many there are, repeated keys counted each time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in their order.
    #[must_use]
    pub fn iter(&self) -> HeadersIter<'_> {
        self.borrowed().iter()
    }

    /// The last header of this key: the one that counts where keys repeat.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<Header<'_>> {
        self.borrowed().last(key)
    }

    /// The headers with values that share the batch's bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<(String, Option<Bytes>)> {
        self.iter()
            .map(|Header { key, value }| (key.into_owned(), value.map(|v| self.raw.slice_ref(v))))
            .collect()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The headers of a record in their order.
#[derive(Clone, Debug)]
pub struct HeadersIter<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let (key, value) =
            header(&mut self.cursor).expect("headers were checked with their record");
        Some(Header { key: String::from_utf8_lossy(key), value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for HeadersIter<'_> {}
