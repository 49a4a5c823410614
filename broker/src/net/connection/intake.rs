//! Bytes in, whole frames out, in the memory that can be had for them.
//!
//! Where nothing is known to come, bytes are read into a scratch that all connections of a thread share, so
//! that those which wait for a request hold no buffer; what came whole is begun from there. Of a frame
//! that came in part [`FRAME_UNCLAIMED_BYTES`] are kept in the connection's own small share; then room is
//! claimed for all of it, and the socket not read until it is granted: a frame that was granted can
//! always be finished, one that was announced alone holds up nobody. While others wait for memory a frame must
//! come by a sixteenth each time that it is looked at. Shell.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context as Polling, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::api_key::ApiKey;
use protocol::frame::{Framer, PREFIX_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::ConnectionError;
use crate::budget::{Budget, Grant, Use, Wait};
use crate::buffers::Buffer;
use crate::limits::{BUFFER_BYTES_MAX, FRAME_LOOKED_AT_EVERY, FRAME_UNCLAIMED_BYTES, STALL_MAX};
use crate::net::accepted::Accepted;

/// Room for one read where nothing says how much will come. Most requests fit.
pub(super) const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    /// Where a read lands before its size is known; empty between reads.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// What was read and not begun.
#[derive(Debug)]
pub(super) struct Intake {
    framer: Framer,
    budget: Budget,
    /// What frames are charged as.
    of: Use,
    /// What was read and is not a whole frame yet.
    inbox: BytesMut,
    partial: Partial,
    /// The last frame was: the next is likely to be, and little of it read into the scratch is little to copy.
    was_large: bool,
}

/// A frame of which the beginning was read.
#[derive(Debug)]
enum Partial {
    /// It is in the inbox, or there is none.
    Unclaimed,
    /// It is in the inbox, and waits for room for all of its `size`.
    Claimed { wait: Wait, size: usize },
    /// It has its room; the inbox is empty.
    Filling(Filling),
}

#[derive(Debug)]
struct Filling {
    buffer: Buffer,
    size: usize,
    /// Held beside the buffer where that may outlive its request: by what a group keeps of it, for
    /// instance.
    grant: Option<Grant>,
    /// How much had come when it was last looked at.
    seen: Option<usize>,
    stalled: Duration,
}

/// A whole frame, without its length.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// Room was claimed for it.
    pub(super) is_claimed: bool,
    /// To be held until it is answered.
    pub(super) grant: Option<Grant>,
}

impl Intake {
    /// Takes frames of `bytes_max` at most, which are charged as `of`.
    pub(super) fn new(bytes_max: usize, budget: Budget, of: Use) -> Self {
        let (framer, inbox) = (Framer::new(bytes_max), BytesMut::new());
        Self { framer, budget, of, inbox, partial: Partial::Unclaimed, was_large: false }
    }

    /// From now on takes frames of `bytes_max` at most, which are charged as `of`.
    pub(super) fn widen(&mut self, bytes_max: usize, of: Use) {
        self.framer = Framer::new(bytes_max);
        self.of = of;
    }

    /// How many bytes it holds without having claimed them.
    pub(super) fn unclaimed_bytes(&self) -> usize {
        self.inbox.len()
    }

    /// True while a frame comes for which room was made.
    pub(super) fn is_filling(&self) -> bool {
        matches!(self.partial, Partial::Filling(_))
    }

    /// Reads some bytes, once there is room for them. Nothing is lost when it is dropped.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut Accepted,
        polling: &mut Polling<'_>,
    ) -> Poll<Result<usize, ConnectionError>> {
        if let Partial::Claimed { wait, size } = &mut self.partial {
            let size = *size;
            match Pin::new(wait).poll(polling) {
                Poll::Ready(grant) => self.make_room(size, grant),
                Poll::Pending => return Poll::Pending,
            }
        }
        let polled = match &mut self.partial {
            Partial::Filling(filling) => poll_read_into(stream, polling, &mut filling.buffer),
            Partial::Unclaimed | Partial::Claimed { .. } if self.inbox.is_empty() => {
                self.poll_read_first(stream, polling)
            }
            Partial::Unclaimed | Partial::Claimed { .. } => {
                let missing = self.framer.missing(&self.inbox)?;
                let unclaimed = FRAME_UNCLAIMED_BYTES.saturating_sub(self.inbox.len());
                self.inbox.reserve(missing.min(unclaimed).max(1));
                pin!(stream.read_buf(&mut self.inbox)).poll(polling)
            }
        };
        polled.map_err(ConnectionError::from)
    }

    fn poll_read_first(
        &mut self,
        stream: &mut Accepted,
        polling: &mut Polling<'_>,
    ) -> Poll<io::Result<usize>> {
        let is_plenty = self.of == Use::Frame && !self.was_large && self.budget.is_easy();
        let bytes_max = if is_plenty { SCRATCH_BYTES } else { FRAME_UNCLAIMED_BYTES };
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(&mut scratch[..bytes_max]);
            let polled = Pin::new(stream).poll_read(polling, &mut buf);
            polled.map_ok(|()| {
                self.inbox = BytesMut::from(buf.filled());
                buf.filled().len()
            })
        })
    }

    /// The next whole frame, if it was read. For one that came in part room may be claimed.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, ConnectionError> {
        match std::mem::replace(&mut self.partial, Partial::Unclaimed) {
            Partial::Unclaimed => {}
            Partial::Filling(Filling { buffer, grant, .. }) if buffer.is_full() => {
                self.was_large = buffer.filled() > 2 * SCRATCH_BYTES;
                let bytes = buffer.freeze().slice(PREFIX_BYTES..);
                return Ok(Some(Frame { bytes, is_claimed: true, grant }));
            }
            partial @ (Partial::Claimed { .. } | Partial::Filling(_)) => {
                self.partial = partial;
                return Ok(None);
            }
        }
        if let Some(bytes) = self.framer.next(&mut self.inbox)? {
            self.was_large = false;
            return Ok(Some(Frame { bytes, is_claimed: false, grant: None }));
        }
        if self.inbox.len() >= FRAME_UNCLAIMED_BYTES {
            // A frame of its length alone would be whole: this is a part of one that is longer.
            let size = self.inbox.len() + self.framer.missing(&self.inbox)?;
            // What announces much waits for its like alone.
            let is_large = self.of == Use::Frame && size > BUFFER_BYTES_MAX;
            let of = if is_large { Use::LargeFrame } else { self.of };
            let wait = self.budget.take(of, wide(size))?;
            self.partial = Partial::Claimed { wait, size };
        }
        Ok(None)
    }

    /// Room was granted: what came of the frame moves there.
    fn make_room(&mut self, size: usize, grant: Grant) {
        let mut buffer = Buffer::with_room(size);
        buffer.room()[..self.inbox.len()].copy_from_slice(&self.inbox);
        buffer.fill(self.inbox.len());
        // Batches live until they are written, whoever asked for it; they take their memory along.
        let is_produce =
            self.inbox[PREFIX_BYTES..].starts_with(&ApiKey::Produce.to_wire().to_be_bytes());
        let (buffer, grant) =
            if is_produce { (buffer.charged(grant), None) } else { (buffer, Some(grant)) };
        self.inbox = BytesMut::new();
        let stalled = Duration::ZERO;
        self.partial = Partial::Filling(Filling { buffer, size, grant, seen: None, stalled });
    }

    /// Looks whether the frame for which room was made comes on; to be called every
    /// [`FRAME_LOOKED_AT_EVERY`] while there is one.
    pub(super) fn look(&mut self) -> Result<(), ConnectionError> {
        let Partial::Filling(filling) = &mut self.partial else { return Ok(()) };
        let filled = filling.buffer.filled();
        let Some(seen) = filling.seen.replace(filled) else { return Ok(()) };
        let came = filled - seen;
        filling.stalled =
            if came == 0 { filling.stalled + FRAME_LOOKED_AT_EVERY } else { Duration::ZERO };
        if filling.stalled >= STALL_MAX {
            return Err(ConnectionError::FrameStalled(STALL_MAX));
        }
        if self.budget.waiting() > 0 && came < filling.size / 16 {
            self.budget.count_closed();
            return Err(ConnectionError::FrameSlow);
        }
        Ok(())
    }
}

/// Reads what there is of a frame, and no more.
fn poll_read_into(
    stream: &mut Accepted,
    polling: &mut Polling<'_>,
    frame: &mut Buffer,
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(frame.room());
    let polled = Pin::new(stream).poll_read(polling, &mut buf);
    let count = buf.filled().len();
    polled.map_ok(|()| {
        frame.fill(count);
        count
    })
}

pub(super) fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
