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

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;

pub use reader::Reader;
pub use writer::{Chunks, TaggedFields, Writer};

use crate::ids::TopicId;

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

    /// Calls `visit` with every error code in it, 0 among them.
    fn each_error(&self, _visit: &mut dyn FnMut(i16)) {}

    /// How long it tells a client to be silent, in milliseconds.
    fn throttle_time_ms(&self) -> i32 {
        0
    }

    /// Tells a client to be silent for so long, if there is a field for it. KIP-124.
    fn set_throttle_time_ms(&mut self, _ms: i32) {}
}

/// A struct of the wire: one that may be null has a byte before it that says so. All that
/// [`wire!`](crate::wire) declares are.
pub trait Part: Wire {}

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
        let length =
            reader.string_length(cx)?.ok_or(DecodeError::Null { at: reader.position() })?;
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
        let length = reader.length(cx)?.ok_or(DecodeError::Null { at: reader.position() })?;
        reader.bytes(length)
    }
}

impl<T: Wire> Wire for Option<Vec<T>> {
    fn each_error(&self, visit: &mut dyn FnMut(i16)) {
        self.iter().flatten().for_each(|element| element.each_error(visit));
    }

    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        writer.put_length(self.as_ref().map(Vec::len), cx)?;
        self.iter().flatten().try_for_each(|element| element.encode(writer, cx))
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        reader.length(cx)?.map(|count| reader.elements(count, cx)).transpose()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn each_error(&self, visit: &mut dyn FnMut(i16)) {
        self.iter().for_each(|element| element.each_error(visit));
    }

    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        writer.put_length(Some(self.len()), cx)?;
        self.iter().try_for_each(|element| element.encode(writer, cx))
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        let count = reader.length(cx)?.ok_or(DecodeError::Null { at: reader.position() })?;
        reader.elements(count, cx)
    }
}

impl<T: Part> Wire for Option<T> {
    fn each_error(&self, visit: &mut dyn FnMut(i16)) {
        self.iter().for_each(|part| part.each_error(visit));
    }

    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        match self {
            Some(part) => {
                1_i8.encode(writer, cx)?;
                part.encode(writer, cx)
            }
            None => (-1_i8).encode(writer, cx),
        }
    }

    fn decode(reader: &mut Reader, cx: Context) -> Result<Self, DecodeError> {
        // Like Kafka, any negative byte is null.
        if i8::decode(reader, cx)? < 0 { Ok(None) } else { T::decode(reader, cx).map(Some) }
    }
}
