//! A frame in several pieces, written without joining them.
//!
//! Record batches travel from where they lie (`protocol::primitive::Chunks`) into one vectored
//! write. Pure.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use protocol::primitive::Chunks;

/// What is left to write of a frame.
#[derive(Debug)]
pub(crate) struct Parts {
    /// None is empty.
    parts: VecDeque<Bytes>,
    remaining: usize,
}

impl From<Chunks> for Parts {
    fn from(chunks: Chunks) -> Self {
        Self { remaining: chunks.len(), parts: chunks.into_parts().into() }
    }
}

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.remaining, "more was written than there is");
        self.remaining -= bytes;
        while let Some(front) = self.parts.front_mut().filter(|_| bytes > 0) {
            let step = bytes.min(front.len());
            front.advance(step);
            bytes -= step;
            if front.is_empty() {
                self.parts.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::primitive::Writer;

    use super::*;

    #[test]
    fn advancing_by_any_step_yields_the_same_bytes() {
        for step in 1..40 {
            let mut writer = Writer::new();
            writer.put_slice(b"head");
            writer.put_bytes(&Bytes::from(vec![7; 5_000]));
            writer.put_slice(b"tail");
            let chunks = writer.finish();
            let want = chunks.clone().into_bytes();
            let mut parts = Parts::from(chunks);
            let mut got = Vec::new();
            while parts.has_remaining() {
                let piece = parts.chunk();
                let taken = step.min(piece.len());
                got.extend_from_slice(&piece[..taken]);
                parts.advance(taken);
            }
            assert_eq!(got, want);
        }
    }
}
