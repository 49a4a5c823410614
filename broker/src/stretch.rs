//! Stretches of files that are answered with as they lie: the kernel sends them, nobody reads them.
//!
//! In an answer zeros of the same length stand for a [`Stretch`], so that whoever measures, charges or
//! encodes it need not know of files. Where bytes go to the socket the zeros are known by their
//! address, and the stretch is sent instead of them; zeros themselves never are. Shell.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::disk::File;
use crate::limits::{Lent, STRETCH_BYTES_MAX};

/// Addresses of pages that are never touched, so that they take no memory.
static ZEROS: OnceLock<Bytes> = OnceLock::new();

/// Bytes of a file that will not change. The file stays open for as long as this lives.
#[derive(Debug)]
pub struct Stretch {
    file: Arc<dyn File>,
    at: u64,
    bytes: usize,
    _lent: Lent,
}

impl Stretch {
    /// The first `bytes` from `at` on, at most [`STRETCH_BYTES_MAX`] of them.
    pub(crate) fn new(file: Arc<dyn File>, at: u64, bytes: usize, lent: Lent) -> Self {
        assert!(bytes <= STRETCH_BYTES_MAX, "as many as there are zeros to stand for them");
        Self { file, at, bytes, _lent: lent }
    }

    /// The file, which the kernel can send from.
    pub(crate) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Where it begins in the file.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What stands for it in an answer.
    pub(crate) fn stand_in(&self) -> Bytes {
        ZEROS.get_or_init(|| vec![0; STRETCH_BYTES_MAX].into()).slice(..self.bytes)
    }
}

/// True when `part` stands for a stretch.
pub(crate) fn is_stand_in(part: &Bytes) -> bool {
    ZEROS.get().is_some_and(|zeros| zeros.as_ptr_range().contains(&part.as_ptr()))
}
