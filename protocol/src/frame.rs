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
