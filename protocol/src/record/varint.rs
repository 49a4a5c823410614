//! The variable-length integers of records: zigzag, seven bits a byte, low bits first.
//!
//! Reading accepts what Kafka's clients accept: padded forms within five bytes (ten for the long
//! kind), since some writers reserve a fixed width and fill it in later. What is longer, or has
//! bits beyond the type's, is refused. Nothing here allocates. Pure.

/// Bytes of the longest varint.
pub(super) const VARINT_BYTES_MAX: usize = 5;
/// Bytes of the longest varlong.
pub(super) const VARLONG_BYTES_MAX: usize = 10;

/// A place in a slice, moving forward. Each read yields `None`, and no more than that can be said,
/// when the slice ends too early or the integer is malformed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Option<i32> {
        let (&first, rest) = self.rest.split_first()?;
        if first < 0x80 {
            self.rest = rest;
            return Some(unzigzag32(u32::from(first)));
        }
        let raw = self.unsigned(VARINT_BYTES_MAX)?;
        Some(unzigzag32(u32::try_from(raw).ok()?))
    }

    #[inline]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let (&first, rest) = self.rest.split_first()?;
        if first < 0x80 {
            self.rest = rest;
            return Some(unzigzag64(u64::from(first)));
        }
        self.unsigned(VARLONG_BYTES_MAX).map(unzigzag64)
    }

    fn unsigned(&mut self, bytes_max: usize) -> Option<u64> {
        let mut value = 0_u64;
        let mut shift = 0_u32;
        for (index, &byte) in self.rest.iter().take(bytes_max).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte of a varlong has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Some(value);
            }
            shift += 7;
        }
        None
    }
}

/// Writes varints into a small array on the stack, so that a record's head costs one copy into
/// the batch.
#[derive(Debug)]
pub(super) struct Scratch<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Scratch<N> {
    #[inline]
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    #[inline]
    pub(super) fn varint(&mut self, value: i32) {
        self.unsigned(u64::from(zigzag32(value)));
    }

    #[inline]
    pub(super) fn varlong(&mut self, value: i64) {
        self.unsigned(zigzag64(value));
    }

    #[inline]
    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(low_seven(value) | 0x80);
            value >>= 7;
        }
        self.byte(low_seven(value));
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// How many bytes `value` takes as a varint.
#[inline]
pub(super) fn varint_bytes(value: i32) -> usize {
    bytes_of(u64::from(zigzag32(value)))
}

/// How many bytes `value` takes as a varlong.
#[inline]
pub(super) fn varlong_bytes(value: i64) -> usize {
    bytes_of(zigzag64(value))
}

#[inline]
fn bytes_of(value: u64) -> usize {
    // Bits in use, at least one, in groups of seven: (bits * 9 + 64) / 64 equals ceil(bits / 7)
    // for 1..=64.
    let bits = 64 - (value | 1).leading_zeros();
    usize::from(((bits * 9 + 64) / 64).to_le_bytes()[0])
}

#[inline]
fn low_seven(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

#[inline]
fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

#[inline]
fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn unzigzag32(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[inline]
fn unzigzag64(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: i64) -> Vec<u8> {
        let mut out = Scratch::<VARLONG_BYTES_MAX>::new();
        out.varlong(value);
        out.as_slice().to_vec()
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let table: [(i64, &[u8]); 9] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (300, &[0xd8, 4]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ];
        for (value, bytes) in table {
            assert_eq!(written(value), bytes, "{value}");
            assert_eq!(Cursor::new(bytes).varlong(), Some(value));
        }
    }

    #[test]
    fn a_padded_varint_is_read_within_its_width() {
        assert_eq!(Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x00]).varint(), Some(0));
        assert_eq!(Cursor::new(&[0x82, 0x00]).varint(), Some(1));
    }

    #[test]
    fn an_overlong_overflowing_or_cut_varint_is_refused() {
        assert_eq!(Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).varint(), None);
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint(), None);
        assert_eq!(Cursor::new(&[0xff; 11]).varlong(), None);
        assert_eq!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varlong(),
            None
        );
        assert_eq!(Cursor::new(&[0x80]).varint(), None);
        assert_eq!(Cursor::new(&[]).varint(), None);
        assert_eq!(Cursor::new(&[]).varlong(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_its_size_was_foretold(value: i64, narrow: i32) {
            let bytes = written(value);
            prop_assert_eq!(bytes.len(), varlong_bytes(value));
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varlong(), Some(value));
            prop_assert!(cursor.is_empty());

            let mut out = Scratch::<VARINT_BYTES_MAX>::new();
            out.varint(narrow);
            prop_assert_eq!(out.as_slice().len(), varint_bytes(narrow));
            prop_assert_eq!(Cursor::new(out.as_slice()).varint(), Some(narrow));
        }
    }
}
