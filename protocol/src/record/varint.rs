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
        if let Some(short) = self.short() {
            return Some(unzigzag32(short));
        }
        let raw = self.unsigned(VARINT_BYTES_MAX)?;
        Some(unzigzag32(u32::try_from(raw).ok()?))
    }

    #[inline]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        if let Some(short) = self.short() {
            return Some(unzigzag64(u64::from(short)));
        }
        self.unsigned(VARLONG_BYTES_MAX).map(unzigzag64)
    }

    /// An integer of one or two bytes, which nearly all of a record's are.
    #[inline]
    fn short(&mut self) -> Option<u32> {
        match *self.rest {
            [first, ref rest @ ..] if first < 0x80 => {
                self.rest = rest;
                Some(u32::from(first))
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.rest = rest;
                Some(u32::from(first & 0x7f) | u32::from(second) << 7)
            }
            _ => None,
        }
    }

    #[cold]
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

/// The head of a record, put together on the stack so that it costs one copy into the batch.
#[derive(Debug)]
pub(super) struct Scratch {
    bytes: [u8; SCRATCH_BYTES],
    length: usize,
}

/// 32: room for a record's length, attributes, both deltas and the key's length, rounded up to
/// what two vector registers copy.
pub(super) const SCRATCH_BYTES: usize = 32;

const _: () = assert!(3 * VARINT_BYTES_MAX + VARLONG_BYTES_MAX < SCRATCH_BYTES);

impl Scratch {
    #[inline]
    pub(super) fn new() -> Self {
        Self { bytes: [0; SCRATCH_BYTES], length: 0 }
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

    /// Appends what was put together to `buffer`.
    #[inline]
    pub(super) fn append_to(&self, buffer: &mut Vec<u8>) {
        // Copying all and cutting off is faster than a copy of a length known only now.
        let end = buffer.len() + self.length;
        buffer.extend_from_slice(&self.bytes);
        buffer.truncate(end);
    }
}

/// Appends `value` to `buffer`.
#[inline]
pub(super) fn write_varint(buffer: &mut Vec<u8>, value: i32) {
    let mut raw = zigzag32(value);
    while raw >= 0x80 {
        buffer.push(low_seven(u64::from(raw)) | 0x80);
        raw >>= 7;
    }
    buffer.push(low_seven(u64::from(raw)));
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
        let mut scratch = Scratch::new();
        scratch.varlong(value);
        let mut out = Vec::new();
        scratch.append_to(&mut out);
        out
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

            let mut out = Vec::new();
            write_varint(&mut out, narrow);
            prop_assert_eq!(out.len(), varint_bytes(narrow));
            prop_assert_eq!(Cursor::new(&out).varint(), Some(narrow));
        }
    }
}
