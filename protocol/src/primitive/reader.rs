//! Takes values off a frame and never builds more than the frame's size warrants.
//!
//! A length or count is compared with what is left before anything else is done with it; vectors
//! grow as their elements arrive, and every growth is charged to the budget first. Pure.

use bytes::Bytes;

use super::{Context, DecodeError, Wire};
use crate::limits::{STRING_BYTES_MAX, decode_budget};

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
    pub(super) fn string_length(&mut self, cx: Context) -> Result<Option<usize>, DecodeError> {
        let length = if cx.flexible {
            i64::from(self.unsigned_varint()?) - 1
        } else {
            i64::from(i16::decode(self, cx)?)
        };
        self.nullable(length, self.remaining().min(STRING_BYTES_MAX))
    }

    /// The length before a byte field, or the count before an array. `None`: null.
    pub(super) fn length(&mut self, cx: Context) -> Result<Option<usize>, DecodeError> {
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

    pub(super) fn string(&mut self, length: usize) -> Result<String, DecodeError> {
        self.charge(length)?;
        let text = &self.frame[self.at..self.at + length];
        let text = std::str::from_utf8(text).map(str::to_owned);
        self.at += length;
        text.map_err(|_| DecodeError::Utf8 { at: self.at })
    }

    /// `count` elements. The vector grows as they arrive: a count alone reserves next to nothing.
    pub(super) fn elements<T: Wire>(
        &mut self,
        count: usize,
        cx: Context,
    ) -> Result<Vec<T>, DecodeError> {
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
