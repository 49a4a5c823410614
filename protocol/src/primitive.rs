//! The wire's primitive types, a bounded [`Reader`] and a gathering [`Writer`].
//!
//! The reader never trusts a number: a length or count beyond what is left of the frame is refused
//! at once, and all that is built on the heap is charged to a budget that follows from the frame's
//! own size, so neither arrays nor tagged fields amplify. Byte fields are slices of the frame. The
//! writer copies small fields and remembers where large ones go, so that record batches reach the
//! socket from where they lie.
//!
//! How a value looks depends on the message's version alone: whether a field exists, and whether
//! lengths are fixed-width or compact varints (KIP-482); both travel in [`Context`]. Pure.

use bytes::Bytes;

use crate::ids::TopicId;
use crate::limits::{
    FRAME_BYTES_CEILING, LENGTH_MAX, SPLICE_BYTES_MIN, STRING_BYTES_MAX, decode_budget,
};

/// Under which version a message is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The version of the message.
    pub version: i16,
    /// True when the version has compact lengths and tagged fields. KIP-482.
    pub flexible: bool,
}

/// A value with a place on the wire, in every version of the message that holds it.
pub trait Wire: Sized {
    /// Appends this value.
    ///
    /// # Errors
    /// When the version cannot express the value. What was appended is then without meaning.
    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError>;

    /// Takes a value off the front.
    ///
    /// # Errors
    /// When the bytes are not a value of this version. The reader is then without meaning.
    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError>;
}

/// Why bytes are not a message. The peer is wrong: never worth a retry.
///
/// `at` is the position in the frame, counted from where its reader began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a value.
    #[error("frame ends at byte {at}: {wanted} more bytes wanted")]
    Short {
        /// Where the value begins.
        at: usize,
        /// How long it should be.
        wanted: usize,
    },
    /// A length or count is negative, or larger than what is left of the frame.
    #[error("absurd length {length} at byte {at}")]
    Length {
        /// Where the length ends.
        at: usize,
        /// What it says.
        length: i64,
    },
    /// A null stands where this version has none.
    #[error("unexpected null at byte {at}")]
    Null {
        /// Where the null ends.
        at: usize,
    },
    /// A string is not UTF-8.
    #[error("string at byte {at} is not UTF-8")]
    Utf8 {
        /// Where the string ends.
        at: usize,
    },
    /// A varint is longer than 32 bits.
    #[error("varint at byte {at} is too long")]
    Varint {
        /// Where it begins.
        at: usize,
    },
    /// Tags do not ascend.
    #[error("tag {tag} at byte {at} is out of order")]
    TagOrder {
        /// Where the tag ends.
        at: usize,
        /// The tag.
        tag: u32,
    },
    /// Bytes are left after the value.
    #[error("{bytes} bytes left over at byte {at}")]
    Trailing {
        /// Where the value ended.
        at: usize,
        /// How many are left.
        bytes: usize,
    },
    /// The structures that the frame describes are out of all proportion to its size.
    #[error("frame describes more than its budget of {budget} bytes at byte {at}")]
    Budget {
        /// Where the budget was used up.
        at: usize,
        /// What the budget was.
        budget: usize,
    },
    /// We do not speak this version of the message.
    #[error("{name}: version {version} is not supported")]
    Version {
        /// The message.
        name: &'static str,
        /// The version.
        version: i16,
    },
}

/// Why a message cannot be written in a version. Our own request is wrong for this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The field has a value that the version cannot carry and that must not be lost.
    #[error("{field}: version {version} cannot carry a value other than the default")]
    FieldNotInVersion {
        /// The field, as `Struct.field`.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// The field is null in a version that has no null for it.
    #[error("{field}: null is not allowed in version {version}")]
    Null {
        /// The field, as `Struct.field`.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A string, byte field, array or frame is longer than its length can say.
    #[error("length {length} is above the limit of {limit}")]
    TooLong {
        /// How long it is, in bytes or elements.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// We do not speak this version of the message.
    #[error("{name}: version {version} is not supported")]
    Version {
        /// The message.
        name: &'static str,
        /// The version.
        version: i16,
    },
}

/// Takes values off the front of one frame.
///
/// Invariant: `at <= end <= frame.len()`, and `charged <= budget`.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    end: usize,
    charged: usize,
    budget: usize,
}

impl Reader {
    /// A reader of all of `frame`, with the budget that [`decode_budget`] gives it.
    #[must_use]
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        Self { frame, at: 0, end, charged: 0, budget: decode_budget(end) }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes of structures were built so far.
    #[must_use]
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// What was not read, as a slice of the frame.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.at..self.end)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when something is.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { at: self.at, bytes }),
        }
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.frame[self.at..self.end].first_chunk::<N>() {
            Some(chunk) => {
                let chunk = *chunk;
                self.at += N;
                Ok(chunk)
            }
            None => Err(DecodeError::Short { at: self.at, wanted: N }),
        }
    }

    /// The next `length` bytes, as a slice of the frame.
    ///
    /// # Errors
    /// [`DecodeError::Short`] when fewer are left.
    pub fn bytes(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.remaining() {
            return Err(DecodeError::Short { at: self.at, wanted: length });
        }
        let start = self.at;
        self.at += length;
        Ok(self.frame.slice(start..self.at))
    }

    /// An unsigned varint of at most 32 bits.
    ///
    /// # Errors
    /// [`DecodeError::Short`] or [`DecodeError::Varint`].
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Varint { at: start });
            }
        }
        Err(DecodeError::Varint { at: start })
    }

    /// Reads the tagged fields that end a flexible struct: hands those that `known` accepts to it,
    /// each bounded to its own bytes, and skips the others. KIP-482.
    ///
    /// `known` answers whether it took the field; if so it must have read all of it.
    ///
    /// # Errors
    /// When tags do not strictly ascend, a size is absurd, or `known` fails.
    pub fn tagged_fields(
        &mut self,
        known: &mut dyn FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        /// A tag and a size take a byte each at least.
        const TAGGED_BYTES_MIN: usize = 2;
        let count = self.unsigned_varint()?;
        self.bounded(i64::from(count), self.remaining() / TAGGED_BYTES_MIN)?;
        let mut least = 0u64;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            if u64::from(tag) < least {
                return Err(DecodeError::TagOrder { at: self.at, tag });
            }
            least = u64::from(tag) + 1;
            let size = self.unsigned_varint()?;
            let size = self.bounded(i64::from(size), self.remaining())?;
            let outer = std::mem::replace(&mut self.end, self.at + size);
            if known(tag, self)? {
                self.finish()?;
            }
            self.at = self.end;
            self.end = outer;
        }
        Ok(())
    }

    /// `length` as a size, if it is within `0..=limit`.
    fn bounded(&self, length: i64, limit: usize) -> Result<usize, DecodeError> {
        usize::try_from(length)
            .ok()
            .filter(|&length| length <= limit)
            .ok_or(DecodeError::Length { at: self.at, length })
    }

    /// Accounts for `bytes` of structures about to be built.
    fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let charged = self.charged.saturating_add(bytes);
        if charged > self.budget {
            return Err(DecodeError::Budget { at: self.at, budget: self.budget });
        }
        self.charged = charged;
        Ok(())
    }

    /// The length before a string. `None`: null.
    fn string_length(&mut self, cx: Context) -> Result<Option<usize>, DecodeError> {
        let length = if cx.flexible {
            i64::from(self.unsigned_varint()?) - 1
        } else {
            i64::from(i16::decode(self, cx)?)
        };
        self.nullable(length, self.remaining().min(STRING_BYTES_MAX))
    }

    /// The length before a byte field, or the count before an array. `None`: null.
    fn length(&mut self, cx: Context) -> Result<Option<usize>, DecodeError> {
        let length = if cx.flexible {
            i64::from(self.unsigned_varint()?) - 1
        } else {
            i64::from(i32::decode(self, cx)?)
        };
        // Every element of an array takes a byte at least.
        self.nullable(length, self.remaining())
    }

    fn nullable(&self, length: i64, limit: usize) -> Result<Option<usize>, DecodeError> {
        if length == -1 { Ok(None) } else { self.bounded(length, limit).map(Some) }
    }

    fn string(&mut self, length: usize) -> Result<String, DecodeError> {
        self.charge(length)?;
        let text = &self.frame[self.at..self.at + length];
        let text = std::str::from_utf8(text).map(str::to_owned);
        self.at += length;
        text.map_err(|_| DecodeError::Utf8 { at: self.at })
    }

    /// `count` elements. The vector grows as they arrive: a count alone reserves next to nothing.
    fn elements<T: Wire>(&mut self, count: usize, cx: Context) -> Result<Vec<T>, DecodeError> {
        /// Most arrays of real messages are shorter.
        const FIRST_GROWTH: usize = 4;
        let mut elements = Vec::new();
        while elements.len() < count {
            if elements.len() == elements.capacity() {
                let growth = elements.len().max(FIRST_GROWTH).min(count - elements.len());
                self.charge(growth.saturating_mul(size_of::<T>()))?;
                elements.reserve_exact(growth);
            }
            elements.push(T::decode(self, cx)?);
        }
        Ok(elements)
    }
}

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

    fn put_string_length(&mut self, length: Option<usize>, cx: Context) -> Result<(), EncodeError> {
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

    fn put_length(&mut self, length: Option<usize>, cx: Context) -> Result<(), EncodeError> {
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

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Wire for $number {
            fn encode(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
                writer.put_slice(&self.to_be_bytes());
                Ok(())
            }

            fn decode(reader: &mut Reader, _: Context) -> Result<Self, DecodeError> {
                reader.array().map(<$number>::from_be_bytes)
            }
        }
    )*};
}

numbers!(i8 i16 i32 i64 u16 f64);

impl Wire for bool {
    fn encode(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
        writer.put_slice(&[u8::from(*self)]);
        Ok(())
    }

    fn decode(reader: &mut Reader, _: Context) -> Result<Self, DecodeError> {
        // Like Kafka, any other byte than zero is true.
        reader.array().map(|[byte]| byte != 0)
    }
}

impl Wire for TopicId {
    fn encode(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
        writer.put_slice(&self.0);
        Ok(())
    }

    fn decode(reader: &mut Reader, _: Context) -> Result<Self, DecodeError> {
        reader.array().map(Self)
    }
}

impl Wire for Option<String> {
    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        writer.put_string_length(self.as_ref().map(String::len), cx)?;
        writer.put_slice(self.as_deref().unwrap_or_default().as_bytes());
        Ok(())
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        reader.string_length(cx)?.map(|length| reader.string(length)).transpose()
    }
}

impl Wire for String {
    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        writer.put_string_length(Some(self.len()), cx)?;
        writer.put_slice(self.as_bytes());
        Ok(())
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        let length = reader.string_length(cx)?.ok_or(DecodeError::Null { at: reader.at })?;
        reader.string(length)
    }
}

impl Wire for Option<Bytes> {
    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        writer.put_length(self.as_ref().map(Bytes::len), cx)?;
        if let Some(bytes) = self {
            writer.put_bytes(bytes);
        }
        Ok(())
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        reader.length(cx)?.map(|length| reader.bytes(length)).transpose()
    }
}

impl Wire for Bytes {
    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        writer.put_length(Some(self.len()), cx)?;
        writer.put_bytes(self);
        Ok(())
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        let length = reader.length(cx)?.ok_or(DecodeError::Null { at: reader.at })?;
        reader.bytes(length)
    }
}

impl<T: Wire> Wire for Option<Vec<T>> {
    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        writer.put_length(self.as_ref().map(Vec::len), cx)?;
        self.iter().flatten().try_for_each(|element| element.encode(writer, cx))
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        reader.length(cx)?.map(|count| reader.elements(count, cx)).transpose()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        writer.put_length(Some(self.len()), cx)?;
        self.iter().try_for_each(|element| element.encode(writer, cx))
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        let count = reader.length(cx)?.ok_or(DecodeError::Null { at: reader.at })?;
        reader.elements(count, cx)
    }
}
