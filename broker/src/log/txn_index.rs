//! Which transactions were aborted, per segment: a file beside the segment that has their markers.
//!
//! An entry of 40 bytes for each, in the order of markers, big endian: producer id, first offset,
//! last offset, last stable offset (all i64), its number u32, CRC-32C u32 of what precedes it.
//! Committed transactions leave none, so most segments have no such file. Pure.

use bytes::{Buf, BufMut};
use protocol::ids::{Offset, ProducerId};

use super::producers::AbortedTxn;

/// Bytes of an entry.
pub(super) const ENTRY_BYTES: usize = 40;

/// Where entry number `ordinal` lies in its file.
pub(super) fn entry_position(ordinal: u32) -> u64 {
    u64::from(ordinal) * u64::try_from(ENTRY_BYTES).expect("40 fits")
}

/// `aborted` from number `first` on, as the file has them.
pub(super) fn encode_from(aborted: &[AbortedTxn], first: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (ordinal, txn) in aborted.iter().enumerate().skip(first) {
        let start = out.len();
        out.put_i64(txn.producer_id.0);
        out.put_i64(txn.first_offset.0);
        out.put_i64(txn.last_offset.0);
        out.put_i64(txn.last_stable_offset.0);
        out.put_u32(u32::try_from(ordinal).expect("a segment has fewer than 2^32 markers"));
        let crc = crc_fast::crc32_iscsi(&out[start..]);
        out.put_u32(crc);
    }
    out
}

/// The first `count` entries of a file; `None` when it has fewer, or they are damaged.
pub(super) fn decode(file: &[u8], count: u32) -> Option<Vec<AbortedTxn>> {
    let mut from = file;
    let mut aborted: Vec<AbortedTxn> = Vec::new();
    for ordinal in 0..count {
        let (bytes, rest) = from.split_at_checked(ENTRY_BYTES)?;
        from = rest;
        let (mut body, mut crc) = bytes.split_at(ENTRY_BYTES - 4);
        if crc.get_u32() != crc_fast::crc32_iscsi(body) {
            return None;
        }
        let txn = AbortedTxn {
            producer_id: ProducerId(body.get_i64()),
            first_offset: Offset(body.get_i64()),
            last_offset: Offset(body.get_i64()),
            last_stable_offset: Offset(body.get_i64()),
        };
        if body.get_u32() != ordinal {
            return None;
        }
        aborted.push(txn);
    }
    Some(aborted)
}
