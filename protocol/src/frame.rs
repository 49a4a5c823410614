//! Length-prefixed frames: bytes in, whole frames out.
//!
//! Every request and response is preceded by its length, a big-endian `i32` that does not count
//! itself. The length is judged before a byte of the frame is stored or room for it made, so a
//! stranger who speaks HTTP or TLS costs nothing. Frames are slices of the buffer. Pure.

use bytes::{Bytes, BytesMut};

use crate::limits::FRAME_BYTES_CEILING;

/// How many bytes the length takes.
pub const PREFIX_BYTES: usize = size_of::<i32>();

/// Why the bytes are not frames. The stream has lost its place: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("frame length {length} is negative")]
    Negative {
        /// What the prefix says.
        length: i32,
    },
    /// The frame is longer than this end accepts.
    #[error("frame of {length} bytes is larger than the {limit} allowed")]
    TooLarge {
        /// What the prefix says.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// Cuts a stream of bytes into frames.
#[derive(Clone, Copy, Debug)]
pub struct Framer {
    frame_bytes_max: usize,
}

impl Framer {
    /// Accepts frames of at most `frame_bytes_max` bytes, the prefix not counted.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max: frame_bytes_max.min(FRAME_BYTES_CEILING) }
    }

    /// Takes the first whole frame, without its prefix, off the front of `buffer`. `None`: more
    /// bytes must come; [`missing`](Self::missing) says how many.
    ///
    /// # Errors
    /// When the length is negative or above the limit. `buffer` is then unchanged.
    pub fn next(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.length(buffer)? else {
            return Ok(None);
        };
        if buffer.len() - PREFIX_BYTES < length {
            return Ok(None);
        }
        let mut frame = buffer.split_to(PREFIX_BYTES + length).freeze();
        Ok(Some(frame.split_off(PREFIX_BYTES)))
    }

    /// How many more bytes the first frame needs at least: the rest of its prefix, or of itself.
    /// 0 when it is whole.
    ///
    /// # Errors
    /// When the length is negative or above the limit.
    pub fn missing(&self, buffer: &[u8]) -> Result<usize, FrameError> {
        let whole = self.length(buffer)?.map_or(PREFIX_BYTES, |length| PREFIX_BYTES + length);
        Ok(whole.saturating_sub(buffer.len()))
    }

    /// The length of the first frame, once its prefix is there.
    fn length(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(&prefix) = buffer.first_chunk() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(prefix);
        let limit = self.frame_bytes_max;
        match usize::try_from(length) {
            Err(_) => Err(FrameError::Negative { length }),
            Ok(length) if length > limit => Err(FrameError::TooLarge { length, limit }),
            Ok(length) => Ok(Some(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framer() -> Framer {
        Framer::new(100)
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let stream = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01z";
        for step in 1..=stream.len() {
            let mut buffer = BytesMut::new();
            let mut frames = Vec::new();
            for piece in stream.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = framer().next(&mut buffer).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"abc"[..], b"", b"z"], "in steps of {step}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn what_is_missing_is_known_as_soon_as_the_prefix_is() {
        assert_eq!(framer().missing(b""), Ok(4));
        assert_eq!(framer().missing(b"\0\0"), Ok(2));
        assert_eq!(framer().missing(b"\0\0\0\x03a"), Ok(2));
        assert_eq!(framer().missing(b"\0\0\0\x03abcd"), Ok(0));
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_before_it_arrives() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x65"[..]);
        let capacity = buffer.capacity();
        let refused = Err(FrameError::TooLarge { length: 101, limit: 100 });
        assert_eq!(framer().next(&mut buffer), refused);
        assert_eq!(buffer.capacity(), capacity);
        assert_eq!(framer().missing(b"\0\0\0\x64"), Ok(100));
    }

    #[test]
    fn strangers_are_refused_by_their_first_bytes() {
        for stranger in [&b"GET / HTTP/1.1"[..], b"\x16\x03\x01\x02\x00", b"\x80\0\0\0"] {
            let mut buffer = BytesMut::from(stranger);
            assert!(framer().next(&mut buffer).is_err(), "{stranger:?}");
            assert!(Framer::new(crate::limits::FRAME_BYTES_MAX).next(&mut buffer).is_err());
        }
        let negative = Err(FrameError::Negative { length: -1 });
        assert_eq!(framer().missing(b"\xff\xff\xff\xff"), negative);
    }

    #[test]
    fn a_frame_shares_the_buffer() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x03abc"[..]);
        let at = buffer.as_ptr();
        let frame = framer().next(&mut buffer).unwrap().unwrap();
        assert_eq!(frame.as_ptr(), at.wrapping_add(PREFIX_BYTES));
    }
}
