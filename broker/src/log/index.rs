//! Where in a segment an offset or a time is to be found.
//!
//! One sparse table serves both: an entry stands before a batch, about every
//! `index.interval.bytes`, and says where the batch lies, its first offset, and the largest
//! timestamp of all batches before it. The file begins with a head, grows by entries of 24 bytes,
//! each with its own checksum, and ends, once the segment is complete, with a seal: what recovery
//! may then believe without reading the segment.
//!
//! Big endian. Head (16): magic, version u32, base offset i64. Entry (24): offset - base u32,
//! position u32, max timestamp before i64, zero u32, CRC-32C u32. Seal (64): magic, entry count u32,
//! segment bytes u64, next offset i64, max timestamp of the first batch and of all i64, offset of
//! the batch that has the latter i64, aborted count u32, zero u64, CRC-32C u32. Checksums cover the base offset and the entry's place
//! too, so that what an older file left behind is not believed. Invariant: entries ascend in
//! offset and position, and do not descend in time. Pure.

use protocol::ids::Offset;
use protocol::record::{BatchHeader, HEADER_BYTES};
use protocol::time::Timestamp;

use bytes::{Buf, BufMut};

/// "MsIX".
const MAGIC: u32 = 0x4d73_4958;
/// "MsSL".
const SEAL_MAGIC: u32 = 0x4d73_534c;
const VERSION: u32 = 1;
/// Bytes of the file's head.
pub(super) const HEAD_BYTES: usize = 16;
/// Bytes of an entry.
pub(super) const ENTRY_BYTES: usize = 24;
/// Bytes of a seal.
pub(super) const SEAL_BYTES: usize = 64;
/// What no batch is smaller than.
pub(super) const BATCH_BYTES_MIN: u32 = 61;

const _: () = assert!(HEADER_BYTES == 61);

/// How many entries fit a file of `index_bytes`; at least one.
pub(super) fn entries_max(index_bytes: u32) -> u64 {
    let entry_bytes = u64::try_from(ENTRY_BYTES).expect("24 fits");
    (u64::from(index_bytes) / entry_bytes).max(1)
}

/// A batch, and what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// First offset of the batch, from the segment's base.
    pub(super) relative_offset: u32,
    /// Where the batch begins.
    pub(super) position: u32,
    /// The largest timestamp before it; none before the first batch.
    pub(super) max_timestamp_before: Timestamp,
}

/// What a complete segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) summary: Summary,
    /// Entries of its index.
    pub(super) entries: u32,
    /// Entries of its file of aborted transactions.
    pub(super) aborted: u32,
}

/// What is known of a segment without its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Bytes of batches.
    pub(super) bytes: u64,
    /// The offset after its last record.
    pub(super) next_offset: Offset,
    /// Max timestamp of its first batch.
    pub(super) first_timestamp: Timestamp,
    /// The largest timestamp in it.
    pub(super) max_timestamp: Timestamp,
    /// Base offset of the first batch that has it.
    pub(super) max_timestamp_at: Offset,
}

impl Summary {
    /// Of a segment without batches.
    pub(super) fn empty(base: Offset) -> Self {
        Self {
            bytes: 0,
            next_offset: base,
            first_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            max_timestamp_at: Offset::NONE,
        }
    }

    /// Counts the batch that follows.
    pub(super) fn apply(&mut self, header: &BatchHeader) {
        assert!(header.base_offset >= self.next_offset);
        if self.bytes == 0 {
            self.first_timestamp = header.max_timestamp;
        }
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_at = header.base_offset;
        }
        self.bytes += u64::try_from(header.size_bytes()).expect("a batch is smaller than 2^64");
        self.next_offset = header.next_offset();
    }
}

/// The entries of one segment: the older ones are in its file, only the newest in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// How many entries are in the file.
    stored: u32,
    /// Those after.
    tail: Vec<Entry>,
    /// Position of the last entry of all; 0 if there is none.
    last_position: u32,
}

/// The answer to a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// This many entries hold, and the last of them; there may be none.
    Found(u32, Option<Entry>),
    /// Look among this many entries in the file.
    InFile(u32),
}

impl Index {
    /// An index of which `stored` entries are in the file; the last is of the batch at
    /// `last_position`.
    pub(super) fn resume(stored: u32, last_position: u32) -> Self {
        Self { stored, tail: Vec::new(), last_position }
    }

    /// Takes note of a batch that is about to follow what `before` sums up, if it is more than
    /// `interval_bytes` after the last one noted.
    pub(super) fn note(
        &mut self,
        base: Offset,
        header: &BatchHeader,
        before: &Summary,
        interval_bytes: u32,
    ) {
        let position = u32::try_from(before.bytes)
            .expect("a segment is rolled before it grows beyond its size, which is a u32");
        // The first batch needs no entry: whoever finds none begins at position 0.
        if position - self.last_position > interval_bytes {
            let relative_offset = u32::try_from(header.base_offset.0 - base.0)
                .expect("a segment is rolled before its offsets leave 31 bits");
            let max_timestamp_before = before.max_timestamp;
            self.tail.push(Entry { relative_offset, position, max_timestamp_before });
            self.last_position = position;
        }
    }

    /// The last entry that `holds`, where all that do come before all that do not.
    pub(super) fn last_where(&self, holds: impl Fn(&Entry) -> bool) -> Lookup {
        let count = self.tail.partition_point(holds);
        if count == 0 && self.stored > 0 {
            return Lookup::InFile(self.stored);
        }
        let last = self.tail[..count].last().copied();
        Lookup::Found(self.stored + to_u32(count), last)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> u32 {
        self.stored + to_u32(self.tail.len())
    }

    /// How many of them are in the file.
    pub(super) fn stored(&self) -> u32 {
        self.stored
    }

    /// The other ones, as the file will have them.
    pub(super) fn encode_tail(&self, base: Offset) -> Vec<u8> {
        let mut out = Vec::new();
        for (ordinal, entry) in (self.stored..).zip(&self.tail) {
            entry.encode(base, ordinal, &mut out);
        }
        out
    }

    /// So many entries are in the file now.
    pub(super) fn mark_stored(&mut self, count: u32) {
        let moved = usize::try_from(count - self.stored).expect("usize has at least 32 bits");
        self.tail.drain(..moved);
        self.stored = count;
    }

    /// Keeps only the first `count` entries, the last of which is of the batch at `last_position`.
    pub(super) fn truncate_to(&mut self, count: u32, last_position: u32) {
        self.stored = self.stored.min(count);
        let kept = usize::try_from(count - self.stored).expect("usize has at least 32 bits");
        self.tail.truncate(kept);
        self.last_position = last_position;
    }

    /// The file's head.
    pub(super) fn encode_head(base: Offset) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(MAGIC);
        out.put_u32(VERSION);
        out.put_i64(base.0);
        assert_eq!(out.len(), HEAD_BYTES);
        out
    }
}

impl Entry {
    pub(super) fn encode(&self, base: Offset, ordinal: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u32(self.relative_offset);
        out.put_u32(self.position);
        out.put_i64(self.max_timestamp_before.0);
        out.put_u32(0);
        let crc = salted_crc(base, u64::from(ordinal), &out[start..]);
        out.put_u32(crc);
    }

    /// Entry number `ordinal` of the segment that begins at `base`; `None` when it is damaged.
    pub(super) fn decode(base: Offset, ordinal: u32, bytes: &[u8]) -> Option<Self> {
        let (mut body, mut crc) = bytes.first_chunk::<ENTRY_BYTES>()?.split_at(ENTRY_BYTES - 4);
        if crc.get_u32() != salted_crc(base, u64::from(ordinal), body) {
            return None;
        }
        Some(Self {
            relative_offset: body.get_u32(),
            position: body.get_u32(),
            max_timestamp_before: Timestamp(body.get_i64()),
        })
    }
}

impl Seal {
    /// As the end of the file of the segment that begins at `base`.
    pub(super) fn encode(&self, base: Offset) -> Vec<u8> {
        let Summary { bytes, next_offset, first_timestamp, max_timestamp, max_timestamp_at } =
            self.summary;
        let mut out = Vec::new();
        out.put_u32(SEAL_MAGIC);
        out.put_u32(self.entries);
        out.put_u64(bytes);
        out.put_i64(next_offset.0);
        out.put_i64(first_timestamp.0);
        out.put_i64(max_timestamp.0);
        out.put_i64(max_timestamp_at.0);
        out.put_u32(self.aborted);
        out.put_u64(0);
        let crc = salted_crc(base, u64::MAX, &out);
        out.put_u32(crc);
        assert_eq!(out.len(), SEAL_BYTES);
        out
    }

    /// The seal that `end`, the last bytes of a file of `file_bytes`, is; `None` when it is none.
    pub(super) fn decode(base: Offset, end: &[u8], file_bytes: u64) -> Option<Self> {
        let end = end.last_chunk::<SEAL_BYTES>()?;
        let (body, mut crc) = end.split_at(SEAL_BYTES - 4);
        if crc.get_u32() != salted_crc(base, u64::MAX, body) {
            return None;
        }
        let mut from = body;
        if from.get_u32() != SEAL_MAGIC {
            return None;
        }
        let entries = from.get_u32();
        let summary = Summary {
            bytes: from.get_u64(),
            next_offset: Offset(from.get_i64()),
            first_timestamp: Timestamp(from.get_i64()),
            max_timestamp: Timestamp(from.get_i64()),
            max_timestamp_at: Offset(from.get_i64()),
        };
        let aborted = from.get_u32();
        let want = entry_position(entries) + u64::try_from(SEAL_BYTES).expect("64 fits");
        (file_bytes == want).then_some(Self { summary, entries, aborted })
    }
}

/// Where entry number `ordinal` lies in its file.
pub(super) fn entry_position(ordinal: u32) -> u64 {
    let head = u64::try_from(HEAD_BYTES).expect("16 fits");
    let entry = u64::try_from(ENTRY_BYTES).expect("24 fits");
    head + u64::from(ordinal) * entry
}

/// The checksum of an entry, which no other place could have.
fn salted_crc(base: Offset, ordinal: u64, body: &[u8]) -> u32 {
    let mut salted = [0; 16 + SEAL_BYTES];
    salted[..8].copy_from_slice(&base.0.to_be_bytes());
    salted[8..16].copy_from_slice(&ordinal.to_be_bytes());
    let end = 16 + body.len();
    salted[16..end].copy_from_slice(body);
    crc_fast::crc32_iscsi(&salted[..end])
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).expect("a segment of 4 GiB has fewer than 2^32 entries")
}
