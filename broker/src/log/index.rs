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

/// The entries of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    entries: Vec<Entry>,
}

impl Index {
    /// Takes note of a batch that is about to follow what `before` sums up, if it is at least
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
        if position - self.entries.last().map_or(0, |last| last.position) > interval_bytes {
            let relative_offset = u32::try_from(header.base_offset.0 - base.0)
                .expect("a segment is rolled before its offsets leave 31 bits");
            let max_timestamp_before = before.max_timestamp;
            self.entries.push(Entry { relative_offset, position, max_timestamp_before });
        }
    }

    /// Where to begin reading to find the batch with `offset`: at or before it.
    pub(super) fn position_of(&self, base: Offset, offset: Offset) -> u64 {
        let relative = offset.0.saturating_sub(base.0);
        let after =
            self.entries.partition_point(|entry| i64::from(entry.relative_offset) <= relative);
        self.entries[..after].last().map_or(0, |entry| u64::from(entry.position))
    }

    /// Where to begin reading to find the first batch with a timestamp of at least `timestamp`.
    pub(super) fn position_of_time(&self, timestamp: Timestamp) -> u64 {
        let after = self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp);
        self.entries[..after].last().map_or(0, |entry| u64::from(entry.position))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many entries there are of batches that begin before `position`.
    pub(super) fn count_below(&self, position: u64) -> usize {
        self.entries.partition_point(|entry| u64::from(entry.position) < position)
    }

    /// Forgets batches that begin at or after `position`.
    pub(super) fn truncate_to(&mut self, position: u64) {
        self.entries.truncate(self.count_below(position));
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

    /// The entries from number `first` on, as the file has them.
    pub(super) fn encode_from(&self, base: Offset, first: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for (ordinal, entry) in self.entries.iter().enumerate().skip(first) {
            let start = out.len();
            out.put_u32(entry.relative_offset);
            out.put_u32(entry.position);
            out.put_i64(entry.max_timestamp_before.0);
            out.put_u32(0);
            let crc = salted_crc(base, ordinal, &out[start..]);
            out.put_u32(crc);
        }
        out
    }

    /// The first `count` entries of a file; `None` when it has fewer, or they are damaged.
    pub(super) fn decode(base: Offset, file: &[u8], count: u32) -> Option<Self> {
        let mut from = file;
        if from.try_get_u32().ok()? != MAGIC
            || from.try_get_u32().ok()? != VERSION
            || from.try_get_i64().ok()? != base.0
        {
            return None;
        }
        let mut entries: Vec<Entry> = Vec::new();
        for ordinal in 0..usize::try_from(count).ok()? {
            let (bytes, rest) = from.split_at_checked(ENTRY_BYTES)?;
            from = rest;
            let (body, mut crc) = bytes.split_at(ENTRY_BYTES - 4);
            if crc.get_u32() != salted_crc(base, ordinal, body) {
                return None;
            }
            let mut body = body;
            let entry = Entry {
                relative_offset: body.get_u32(),
                position: body.get_u32(),
                max_timestamp_before: Timestamp(body.get_i64()),
            };
            entries.push(entry);
        }
        Some(Self { entries })
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
        let crc = salted_crc(base, usize::MAX, &out);
        out.put_u32(crc);
        assert_eq!(out.len(), SEAL_BYTES);
        out
    }

    /// The seal that `end`, the last bytes of a file of `file_bytes`, is; `None` when it is none.
    pub(super) fn decode(base: Offset, end: &[u8], file_bytes: u64) -> Option<Self> {
        let end = end.last_chunk::<SEAL_BYTES>()?;
        let (body, mut crc) = end.split_at(SEAL_BYTES - 4);
        if crc.get_u32() != salted_crc(base, usize::MAX, body) {
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

fn salted_crc(base: Offset, ordinal: usize, body: &[u8]) -> u32 {
    let mut salted = Vec::with_capacity(SEAL_BYTES + 16);
    salted.put_i64(base.0);
    salted.put_u64(u64::try_from(ordinal).expect("memory is smaller than 2^64 bytes"));
    salted.extend_from_slice(body);
    crc_fast::crc32_iscsi(&salted)
}
