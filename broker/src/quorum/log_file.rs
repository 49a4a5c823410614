//! An append-only file of checksummed frames.
//!
//! A frame is a magic number, its payload's length and CRC-32C, then the payload. Every append is
//! synced before it returns, so at most the last frame can be torn by a crash: such a tail is cut
//! off when the file is opened. A damaged frame with a whole one after it is not a crash's work,
//! and the file is refused: better not to start than to forget what was committed. Disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use protocol::mutant::{Mutant, is_active};
use thiserror::Error;

use crate::disk::{Disk, File, Open, read_file, replace_file};
use crate::limits::QUORUM_FILE_BYTES_MAX;

/// "QLOG": begins every frame, so that a scan can tell whether any frame follows a damaged one.
const MAGIC: [u8; 4] = *b"QLOG";
/// Magic, length and checksum.
const HEADER_BYTES: usize = 4 + 4 + 4;

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub enum LogFileError {
    /// The disk failed.
    #[error("{}: {source}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A frame is damaged, and not by a crash.
    #[error("{}: damaged at byte {at}, with whole frames after it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        at: usize,
    },
    /// A frame is whole but says what we cannot read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The file, open for appending.
#[derive(Debug)]
pub(super) struct LogFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    /// Where the next frame goes. What lies beyond is of an append that failed.
    end: u64,
}

impl LogFile {
    /// Opens `path`, creating it in the existing directory if it is absent, and reads the payloads
    /// of all frames. What is returned is durable.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
    ) -> Result<(Self, Vec<Bytes>), LogFileError> {
        let failed = |source| LogFileError::Disk { path: path.clone(), source };
        let file = disk.open(&path, Open::Create).map_err(failed)?;
        let content: Bytes =
            read_file(&*disk, &path, QUORUM_FILE_BYTES_MAX).map_err(failed)?.into();
        let (payloads, end) = frames(&content);
        if is_frame_after(&content, end) {
            return Err(LogFileError::Damaged { path, at: end });
        }
        let cut = || {
            if end < content.len() {
                file.truncate(offset(end))?;
            }
            // The last frame may be whole by luck: written, never synced, and still in the cache.
            file.sync_data()?;
            disk.sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
        };
        cut().map_err(failed)?;
        Ok((Self { disk, path, file, end: offset(end) }, payloads))
    }

    /// Appends one frame; it is durable on return. After an error nothing is appended, and the
    /// same may be tried again if the disk was full.
    pub(super) fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        let header = header(payload);
        // Written again as a whole after a failed sync, since the kernel may have dropped any of it.
        self.file.write_at(&[&header, payload], self.end)?;
        if !is_active(Mutant::SkipQuorumSync) {
            self.file.sync_data()?;
        }
        self.end += offset(HEADER_BYTES + payload.len());
        Ok(())
    }

    /// Replaces all frames by those of `payloads`, durably and at once. When the disk is full
    /// nothing has changed; after any other error nothing is known, and this must not be used.
    pub(super) fn rewrite(&mut self, payloads: &[Vec<u8>]) -> io::Result<()> {
        let framed =
            payloads.iter().flat_map(|payload| [header(payload).to_vec(), payload.clone()]);
        let content: Vec<u8> = framed.flatten().collect();
        let staged = self.path.with_extension("staged");
        let file = self.disk.open(&staged, Open::Create)?;
        file.truncate(0)?;
        file.write_at(&[&content], 0)?;
        file.sync_data()?;
        let swap = || {
            self.disk.rename(&staged, &self.path)?;
            self.disk.sync_dir(self.path.parent().ok_or(io::ErrorKind::InvalidInput)?)
        };
        // A swap that failed for lack of room may have happened: that is no "full disk" any more.
        swap().map_err(|error| io::Error::other(error.to_string()))?;
        self.file = file;
        self.end = offset(content.len());
        Ok(())
    }

    /// How many bytes the frames take.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Replaces the file `path` by one frame that holds `payload`, durably and at once.
pub(super) fn write_frame(disk: &dyn Disk, path: &Path, payload: &[u8]) -> io::Result<()> {
    replace_file(disk, path, &[&header(payload), payload].concat())
}

/// The payload of the one frame in the file `path`. `None`: there is no such file.
pub(super) fn read_frame(disk: &dyn Disk, path: &Path) -> Result<Option<Bytes>, LogFileError> {
    let content: Bytes = match read_file(disk, path, QUORUM_FILE_BYTES_MAX) {
        Ok(content) => content.into(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LogFileError::Disk { path: path.to_owned(), source }),
    };
    match frame(&content) {
        Some(payload) if HEADER_BYTES + payload.len() == content.len() => Ok(Some(payload)),
        Some(_) | None => Err(LogFileError::Damaged { path: path.to_owned(), at: 0 }),
    }
}

/// The payloads of the whole frames at the front of `content`, and where they end.
fn frames(content: &Bytes) -> (Vec<Bytes>, usize) {
    let mut payloads = Vec::new();
    let mut end = 0;
    while let Some(payload) = frame(&content.slice(end..)) {
        end += HEADER_BYTES + payload.len();
        payloads.push(payload);
    }
    (payloads, end)
}

/// The payload of the frame at the front of `content`, if it is whole.
fn frame(content: &Bytes) -> Option<Bytes> {
    let rest = content.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let payload = rest.get(..length)?;
    let is_whole = checksum_of(payload) == u32::from_be_bytes(*checksum);
    is_whole.then(|| content.slice_ref(payload))
}

/// True when a whole frame begins anywhere after `damage`.
fn is_frame_after(content: &Bytes, damage: usize) -> bool {
    let starts = content.windows(MAGIC.len()).enumerate().skip(damage + 1);
    let mut found = starts.filter(|(_, window)| *window == MAGIC);
    found.any(|(at, _)| frame(&content.slice(at..)).is_some())
}

fn header(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(payload.len()).expect("proposals are far smaller than 4 GiB");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&length.to_be_bytes());
    header[8..].copy_from_slice(&checksum_of(payload).to_be_bytes());
    header
}

fn checksum_of(payload: &[u8]) -> u32 {
    // A frame of zeros must not pass for an empty one; the magic number sees to that.
    crc_fast::crc32_iscsi(payload)
}

fn offset(position: usize) -> u64 {
    u64::try_from(position).expect("positions in memory fit 64 bits")
}
