//! Memory that is used again: for requests that come in and pieces of the log that go out.
//!
//! Fresh memory costs several times what filling it does, since the kernel clears each page when it
//! is first touched, and the allocator gives large pieces back at once. A [`Buffer`] that is no
//! longer used waits here for the next who needs one of about its size; the oldest go when too many
//! bytes wait. Small ones are left to the allocator, and so are those larger than any common
//! request. What a buffer takes of the budget of memory it holds for as long as it is used. Shell.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::budget::Grant;
use crate::limits::{BUFFER_BYTES_MAX, BUFFERS_KEPT_BYTES_MAX};

/// 64 KiB: what the allocator handles well itself, and the grain of what is kept.
const GRAIN_BYTES: usize = 64 << 10;

const _: () = assert!(BUFFER_BYTES_MAX <= BUFFERS_KEPT_BYTES_MAX);

/// Those that nobody uses. One for the process, as memory is; a lock, as buffers come back on
/// whatever thread drops them. Held to take one out or put one in.
static KEPT: Mutex<Kept> = Mutex::new(Kept { buffers: VecDeque::new(), bytes: 0 });

/// Bytes to be filled from the front.
#[derive(Debug)]
pub struct Buffer {
    /// As long as it is large. What it held before is overwritten before it is shown.
    bytes: Vec<u8>,
    /// How much of it was asked for.
    size: usize,
    filled: usize,
    /// What it takes of the budget, where that is counted.
    _charged: Option<Grant>,
}

impl Buffer {
    /// An empty buffer with room for `size` bytes.
    #[must_use]
    pub fn with_room(size: usize) -> Self {
        let bytes = match rounded(size) {
            Some(bytes) => take(size).unwrap_or_else(|| vec![0; bytes]),
            None => vec![0; size],
        };
        Self { bytes, size, filled: 0, _charged: None }
    }

    /// The same, which gives `grant` back when it is no longer used.
    #[must_use]
    pub(crate) fn charged(mut self, grant: Grant) -> Self {
        self._charged = Some(grant);
        self
    }

    /// How much of it is filled.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// What is not filled yet: whatever it holds is nobody's.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..self.size]
    }

    /// The first `count` bytes of the room are filled now.
    pub fn fill(&mut self, count: usize) {
        assert!(count <= self.size - self.filled);
        self.filled += count;
    }

    /// True when there is no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.filled == self.size
    }

    /// What was filled, to be shared. The buffer comes back when the last share is dropped.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if rounded(self.size).is_some() {
            let bytes = std::mem::take(&mut self.bytes);
            KEPT.lock().unwrap_or_else(PoisonError::into_inner).put(bytes);
        }
    }
}

/// How large a buffer for `size` bytes is; `None` when it is not to be kept.
fn rounded(size: usize) -> Option<usize> {
    (GRAIN_BYTES..=BUFFER_BYTES_MAX).contains(&size).then(|| size.next_multiple_of(GRAIN_BYTES))
}

fn take(size: usize) -> Option<Vec<u8>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).take(size)
}

/// Buffers that wait, oldest first.
struct Kept {
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Kept {
    /// One with room for `size` bytes, and for not more than twice as many. The newest, since the
    /// processor may still have it at hand.
    fn take(&mut self, size: usize) -> Option<Vec<u8>> {
        let fits = |buffer: &Vec<u8>| (size..=size * 2).contains(&buffer.len());
        let index = self.buffers.iter().rposition(fits)?;
        let buffer = self.buffers.remove(index)?;
        self.bytes -= buffer.len();
        Some(buffer)
    }

    fn put(&mut self, buffer: Vec<u8>) {
        self.bytes += buffer.len();
        self.buffers.push_back(buffer);
        while self.bytes > BUFFERS_KEPT_BYTES_MAX {
            let Some(oldest) = self.buffers.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frozen_is_what_was_filled() {
        for size in [0, 100, GRAIN_BYTES, GRAIN_BYTES + 1, BUFFER_BYTES_MAX + 1] {
            let mut buffer = Buffer::with_room(size);
            assert_eq!(buffer.room().len(), size);
            let filled = size / 2;
            buffer.room()[..filled].fill(7);
            buffer.fill(filled);
            assert_eq!(buffer.is_full(), size == 0);
            assert_eq!(buffer.freeze(), vec![7; filled]);
        }
    }

    #[test]
    fn a_kept_buffer_is_taken_by_who_needs_about_its_size() {
        let mut kept = Kept { buffers: VecDeque::new(), bytes: 0 };
        kept.put(vec![0; 4 * GRAIN_BYTES]);
        assert_eq!(kept.take(4 * GRAIN_BYTES + 1), None);
        assert_eq!(kept.take(2 * GRAIN_BYTES - 1), None);
        assert_eq!(kept.take(2 * GRAIN_BYTES).map(|it| it.len()), Some(4 * GRAIN_BYTES));
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn when_too_much_is_kept_the_oldest_go() {
        let mut kept = Kept { buffers: VecDeque::new(), bytes: 0 };
        kept.put(vec![0; GRAIN_BYTES]);
        for _ in 0..BUFFERS_KEPT_BYTES_MAX / BUFFER_BYTES_MAX {
            kept.put(vec![0; BUFFER_BYTES_MAX]);
        }
        assert_eq!(kept.take(GRAIN_BYTES), None);
        assert_eq!(kept.bytes, BUFFERS_KEPT_BYTES_MAX);
    }
}
