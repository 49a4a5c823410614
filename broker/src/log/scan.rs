//! Walking through a segment batch by batch, from any batch's beginning.
//!
//! Reads ahead in pieces and hands out views on them, so that small batches cost no read of their
//! own. Nothing is read beyond the given end, and nothing is allocated beyond what the file holds.
//! Disk.

use std::io;

use bytes::Bytes;
use protocol::record::{BatchHeader, HEADER_BYTES, RecordBatch};

use crate::buffers::Buffer;
use crate::disk::File;

/// 1 MiB: pieces for those who read everything.
pub(super) const WHOLE_BYTES: usize = 1 << 20;
/// 16 KiB: pieces for those who look at headers alone.
pub(super) const HEADERS_BYTES: usize = 16 << 10;

/// Why a walk stopped.
#[derive(Debug)]
pub(super) enum ScanError {
    /// The disk failed.
    Io(io::Error),
    /// No whole batch begins at the present position.
    Malformed,
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A place in a file, moving from batch to batch.
pub(super) struct Scanner<'a> {
    file: &'a dyn File,
    position: u64,
    end: u64,
    piece_bytes: usize,
    window: Bytes,
    window_at: u64,
}

impl<'a> Scanner<'a> {
    /// Walks `file` from `position`, where a batch begins, to `end` (exclusive).
    pub(super) fn new(file: &'a dyn File, position: u64, end: u64, piece_bytes: usize) -> Self {
        Self { file, position, end, piece_bytes, window: Bytes::new(), window_at: position }
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The header of the next batch, all of which lies before the end; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<BatchHeader>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let bytes = self.read(HEADER_BYTES)?;
        let header = BatchHeader::peek(&bytes).ok().flatten().ok_or(ScanError::Malformed)?;
        if as_u64(header.size_bytes()) > self.end - self.position {
            return Err(ScanError::Malformed);
        }
        Ok(Some(header))
    }

    /// Goes past the batch of `header`, which was peeked at.
    pub(super) fn skip(&mut self, header: &BatchHeader) {
        self.position += as_u64(header.size_bytes());
    }

    /// The batch of `header`, which was peeked at; and goes past it.
    pub(super) fn take(&mut self, header: &BatchHeader) -> Result<RecordBatch, ScanError> {
        let bytes = self.read(header.size_bytes())?;
        self.skip(header);
        RecordBatch::parse(bytes).map_err(|_| ScanError::Malformed)
    }

    /// `count` bytes from the present position, which stays.
    pub(super) fn read(&mut self, count: usize) -> Result<Bytes, ScanError> {
        let within = usize::try_from(self.position - self.window_at).unwrap_or(usize::MAX);
        if let Some(stop) = within.checked_add(count)
            && stop <= self.window.len()
        {
            return Ok(self.window.slice(within..stop));
        }
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if count > left {
            return Err(ScanError::Malformed);
        }
        let mut piece = Buffer::with_room(count.max(self.piece_bytes).min(left));
        let read = self.file.read_at(piece.room(), self.position)?;
        piece.fill(read);
        self.window = piece.freeze();
        self.window_at = self.position;
        if read < count { Err(ScanError::Malformed) } else { Ok(self.window.slice(..count)) }
    }
}

pub(super) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("memory is smaller than 2^64 bytes")
}
