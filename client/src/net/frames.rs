//! Whole frames off a stream of bytes.
//!
//! Room grows with the bytes that have come, never with what a prefix promises. Shell.

use std::io;

use bytes::{Bytes, BytesMut};
use protocol::frame::Framer;
use protocol::limits::FRAME_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf, WriteHalf};

use super::BoxStream;
use super::error::OpenError;

/// 64 KiB: what is read at once at least.
const READ_BYTES: usize = 64 << 10;

/// Frames off a stream. Dropping `next` at its await loses nothing.
pub(super) struct Frames<S> {
    pub(super) stream: S,
    buffer: BytesMut,
    framer: Framer,
}

impl<S> Frames<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new(), framer: Framer::new(FRAME_BYTES_MAX) }
    }
}

impl Frames<BoxStream> {
    pub(super) fn split(self) -> (Frames<ReadHalf<BoxStream>>, WriteHalf<BoxStream>) {
        let Self { stream, buffer, framer } = self;
        let (reader, writer) = tokio::io::split(stream);
        (Frames { stream: reader, buffer, framer }, writer)
    }
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// The next frame, without its length.
    pub(super) async fn next(&mut self) -> Result<Bytes, OpenError> {
        loop {
            if let Some(frame) = self.framer.next(&mut self.buffer)? {
                return Ok(frame);
            }
            // Room grows with what has come, not with what the prefix promises.
            let missing = self.framer.missing(&self.buffer)?;
            self.buffer.reserve(missing.clamp(READ_BYTES, READ_BYTES.max(self.buffer.len())));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(OpenError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
