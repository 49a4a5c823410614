//! Zeros that lie in a growing file beyond its batches.
//!
//! To sync what was written over them is one write of the disk. To sync a file that has grown is a
//! commit of the file system's journal besides, which waits for all else that is in it: for seconds,
//! when others write much. So who has each small append synced finds zeros there that were synced long
//! before. They are written when those before are used up, along with an append, and cost what a write
//! of so many bytes does; never more than there are batches, so that a file has at most twice its
//! batches' size, and none before there are some.
//!
//! No batch begins with zeros: recovery ends where they begin, and leaves them there. A file is cut to
//! its batches when its segment is complete. Disk.

use std::io;

use super::scan::as_u64;
use crate::disk::File;

/// 1 MiB: synced in less than a millisecond, and enough for a second of a thousand small appends.
pub(super) const ZEROS_BYTES_MAX: u64 = 1 << 20;
/// 64 KiB: of larger appends the bytes take longer than the journal, and would be written twice.
const APPEND_BYTES_MAX: u64 = 64 << 10;
/// A segment with less than this part of the most zeros has none: ten thousand logs with little in each
/// should not become twice as large.
const FIRST_PART: u64 = 16;
/// Zeros to write, and to compare with.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How many zeros should follow an append of `append_bytes` after which the batches end at `end`, in a
/// file of `length` bytes that is to become as long as `length_max`.
pub(super) fn wanted(
    append_bytes: u64,
    end: u64,
    length: u64,
    length_max: u64,
    zeros_max: u64,
) -> u64 {
    if length > end || append_bytes > APPEND_BYTES_MAX || end < zeros_max / FIRST_PART {
        return 0;
    }
    end.min(zeros_max).min(length_max.saturating_sub(end))
}

/// Writes `count` zeros from `at` on, at one go.
pub(super) fn write(file: &dyn File, at: u64, count: u64) -> io::Result<()> {
    let mut parts = Vec::new();
    let mut left = count;
    while left > 0 {
        let part = left.min(as_u64(ZEROS.len()));
        parts.push(&ZEROS[..usize::try_from(part).expect("a part of the zeros")]);
        left -= part;
    }
    file.write_at(&parts, at)
}

/// The end of what is not zeros: `from`, if all from there to `length`, where the file ends, is.
pub(super) fn end_of_rest(file: &dyn File, from: u64, length: u64) -> io::Result<u64> {
    let mut piece = Vec::new();
    let (mut at, mut end) = (from, from);
    while at < length {
        let count = usize::try_from(length - at).unwrap_or(usize::MAX).min(ZEROS.len());
        piece.resize(count, 0);
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            break;
        }
        if piece[..read] != ZEROS[..read] {
            let last = piece[..read].iter().rposition(|&byte| byte != 0);
            end = at + as_u64(last.map_or(0, |last| last + 1));
        }
        at += as_u64(read);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_wanted_where_small_appends_have_used_up_those_before() {
        const MIB: u64 = 1 << 20;
        let cases = [
            ("too little is there", (100, 60_000, 60_000, 64 * MIB), 0),
            ("as much again", (100, 70_000, 70_000, 64 * MIB), 70_000),
            ("as many as may be", (100, 5 * MIB, 5 * MIB, 64 * MIB), MIB),
            ("some are left", (100, 5 * MIB, 5 * MIB + 1, 64 * MIB), 0),
            ("a large append", (65_537, 5 * MIB, 5 * MIB, 64 * MIB), 0),
            ("what fits into the segment", (100, 5 * MIB, 5 * MIB, 5 * MIB + 7), 7),
            ("the segment is full", (100, 5 * MIB, 5 * MIB, 5 * MIB - 7), 0),
        ];
        for (name, (append_bytes, end, length, length_max), want) in cases {
            let found = wanted(append_bytes, end, length, length_max, ZEROS_BYTES_MAX);
            assert_eq!(found, want, "{name}");
        }
        assert_eq!(wanted(100, 5 * MIB, 5 * MIB, 64 * MIB, 0), 0, "none at all");
    }
}
