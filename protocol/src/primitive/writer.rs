//! Builds a message front to back, gathering large byte fields instead of copying them.
//!
//! Small fields go into one buffer; for each large one the writer remembers where in that buffer it
//! belongs. The buffer is cut at those places once, when the message is complete. Pure.

use bytes::Bytes;

use super::{Context, EncodeError, Wire};
use crate::limits::{FRAME_BYTES_CEILING, LENGTH_MAX, SPLICE_BYTES_MIN, STRING_BYTES_MAX};

/// What a [`Writer`] wrote: slices to be sent one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    parts: Vec<Bytes>,
    len: usize,
}

impl Chunks {
    /// How many bytes all parts have together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is not one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts, in order; none is empty.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The parts, in order; none is empty.
    #[must_use]
    pub fn into_parts(self) -> Vec<Bytes> {
        self.parts
    }

    /// All in one piece; copies unless there is one part.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.parts.len() == 1 { self.parts.remove(0) } else { self.parts.concat().into() }
    }

    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push(part);
        }
    }
}

/// Room for the length before a frame.
const PREFIX_BYTES: usize = size_of::<i32>();

/// Builds one message, front to back. Large byte fields are not copied.
#[derive(Debug)]
pub struct Writer {
    /// Room for the frame's length, then all that was copied.
    copied: Vec<u8>,
    /// What was not copied, each with the length of `copied` when it came.
    spliced: Vec<(usize, Bytes)>,
    spliced_bytes: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self { copied: vec![0; PREFIX_BYTES], spliced: Vec::new(), spliced_bytes: 0 }
    }

    /// How many bytes were written; a frame's length prefix does not count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copied.len() - PREFIX_BYTES + self.spliced_bytes
    }

    /// True when nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a copy of `bytes`.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
    }

    /// Appends `bytes`: a copy when they are few, themselves otherwise.
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SPLICE_BYTES_MIN {
            self.put_slice(bytes);
        } else {
            self.spliced.push((self.copied.len(), bytes.clone()));
            self.spliced_bytes += bytes.len();
        }
    }

    /// Appends an unsigned varint.
    pub fn put_unsigned_varint(&mut self, mut value: u32) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.copied.push(low & 0x7f);
                return;
            }
            self.copied.push(low | 0x80);
        }
    }

    /// What was written, without a length before it.
    #[must_use]
    pub fn finish(self) -> Chunks {
        self.cut(PREFIX_BYTES)
    }

    /// What was written as a frame: its length as an `i32`, then itself.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] when the prefix cannot say the length.
    pub fn finish_frame(mut self) -> Result<Chunks, EncodeError> {
        let length = self.len();
        let prefix = i32::try_from(length)
            .map_err(|_| EncodeError::TooLong { length, limit: FRAME_BYTES_CEILING })?;
        self.copied[..PREFIX_BYTES].copy_from_slice(&prefix.to_be_bytes());
        Ok(self.cut(0))
    }

    fn cut(self, start: usize) -> Chunks {
        let copied = Bytes::from(self.copied);
        let mut chunks = Chunks::default();
        let mut at = start;
        for (position, bytes) in self.spliced {
            chunks.push(copied.slice(at..position));
            chunks.push(bytes);
            at = position;
        }
        chunks.push(copied.slice(at..));
        chunks
    }

    /// Appends all of `other`.
    fn append(&mut self, other: Self) {
        let base = self.copied.len();
        self.copied.extend_from_slice(&other.copied[PREFIX_BYTES..]);
        for (position, bytes) in other.spliced {
            self.spliced.push((base + position - PREFIX_BYTES, bytes));
        }
        self.spliced_bytes += other.spliced_bytes;
    }

    pub(super) fn put_string_length(
        &mut self,
        length: Option<usize>,
        cx: Context,
    ) -> Result<(), EncodeError> {
        let length = length.map(|length| shorter(length, STRING_BYTES_MAX)).transpose()?;
        if cx.flexible {
            self.put_unsigned_varint(length.map_or(0, |length| length + 1));
            return Ok(());
        }
        let length = length.map_or(-1, |length| {
            i16::try_from(length).expect("STRING_BYTES_MAX is the largest i16")
        });
        length.encode(self, cx)
    }

    pub(super) fn put_length(
        &mut self,
        length: Option<usize>,
        cx: Context,
    ) -> Result<(), EncodeError> {
        let length = length.map(|length| shorter(length, LENGTH_MAX)).transpose()?;
        if cx.flexible {
            self.put_unsigned_varint(length.map_or(0, |length| length + 1));
            return Ok(());
        }
        let length = length
            .map_or(-1, |length| i32::try_from(length).expect("LENGTH_MAX is the largest i32"));
        length.encode(self, cx)
    }
}

/// `length`, if it is at most `limit`, itself at most 2^31 - 1.
fn shorter(length: usize, limit: usize) -> Result<u32, EncodeError> {
    u32::try_from(length)
        .ok()
        .filter(|_| length <= limit)
        .ok_or(EncodeError::TooLong { length, limit })
}

/// The tagged fields that end a flexible struct, gathered because their number goes first.
#[derive(Debug, Default)]
pub struct TaggedFields {
    count: u32,
    /// The least tag that may still come.
    least: u32,
    fields: Option<Writer>,
}

impl TaggedFields {
    /// Adds `value` under `tag`. Fields equal to their default must be left out by the caller.
    ///
    /// # Panics
    /// When `tag` is not above the one before: our own declaration would be wrong.
    ///
    /// # Errors
    /// Those of `value`.
    pub fn put(&mut self, tag: u32, value: &impl Wire, cx: Context) -> Result<(), EncodeError> {
        assert!(tag >= self.least, "tags must be declared in ascending order");
        let mut body = Writer::new();
        value.encode(&mut body, cx)?;
        let fields = self.fields.get_or_insert_default();
        fields.put_unsigned_varint(tag);
        fields.put_unsigned_varint(shorter(body.len(), LENGTH_MAX)?);
        fields.append(body);
        self.least = tag + 1;
        self.count += 1;
        Ok(())
    }

    /// Appends the number of fields and the fields.
    pub fn finish(self, writer: &mut Writer) {
        writer.put_unsigned_varint(self.count);
        if let Some(fields) = self.fields {
            writer.append(fields);
        }
    }
}
