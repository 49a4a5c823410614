//! Looking an entry up in the file of an index, without taking the file into memory.
//!
//! A binary search that reads single entries as long as they are far apart, and the last stretch
//! at once: about ten small reads of cached pages for a segment of a gigabyte. Disk.

use std::io;

use protocol::ids::Offset;

use super::index::{ENTRY_BYTES, Entry, entry_position};
use crate::disk::File;

/// 128: entries read at once, 3 KiB.
const STRETCH_ENTRIES: u32 = 128;

/// Why a search failed.
#[derive(Debug)]
pub(super) enum SearchError {
    /// The disk failed.
    Io(io::Error),
    /// Entry of this number is not there, or damaged.
    Damaged(u32),
}

impl From<io::Error> for SearchError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How many of the first `count` entries of `file` hold, and the last that does, where all that do
/// come before all that do not.
pub(super) fn last_where(
    file: &dyn File,
    base: Offset,
    count: u32,
    holds: impl Fn(&Entry) -> bool,
) -> Result<(u32, Option<Entry>), SearchError> {
    let (mut low, mut high) = (0, count);
    let mut last = None;
    while high - low > STRETCH_ENTRIES {
        let middle = low + (high - low) / 2;
        let [entry] = read(file, base, middle, 1)?[..] else {
            return Err(SearchError::Damaged(middle));
        };
        if holds(&entry) {
            (low, last) = (middle + 1, Some(entry));
        } else {
            high = middle;
        }
    }
    for entry in read(file, base, low, high - low)? {
        if !holds(&entry) {
            break;
        }
        (low, last) = (low + 1, Some(entry));
    }
    Ok((low, last))
}

/// Position of the last of the first `count` entries; 0 when there is none.
pub(super) fn last_position(file: &dyn File, base: Offset, count: u32) -> Result<u32, SearchError> {
    let Some(last) = count.checked_sub(1) else { return Ok(0) };
    let entries = read(file, base, last, 1)?;
    entries.first().map(|entry| entry.position).ok_or(SearchError::Damaged(last))
}

/// `count` entries from number `first` on.
fn read(file: &dyn File, base: Offset, first: u32, count: u32) -> Result<Vec<Entry>, SearchError> {
    let length = usize::try_from(count).expect("usize has at least 32 bits") * ENTRY_BYTES;
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, entry_position(first))?;
    (first..first + count)
        .zip(bytes[..read].chunks(ENTRY_BYTES).chain(std::iter::repeat(&[][..])))
        .map(|(number, bytes)| {
            Entry::decode(base, number, bytes).ok_or(SearchError::Damaged(number))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use protocol::time::Timestamp;

    use super::super::index::Index;
    use super::*;
    use crate::disk::{Disk, Open, SimDisk};

    #[test]
    fn a_search_finds_what_a_scan_would_and_notices_damage() {
        const COUNT: u32 = 1000;
        let base = Offset(7);
        let disk = SimDisk::new(1);
        let path = Path::new("/index");
        let file = disk.open(path, Open::CreateNew).unwrap();
        let mut bytes = Index::encode_head(base);
        for number in 0..COUNT {
            let max_timestamp_before = Timestamp(i64::from(number / 3));
            let (relative_offset, position) = (number * 5, number * 100);
            Entry { relative_offset, position, max_timestamp_before }
                .encode(base, number, &mut bytes);
        }
        file.write_at(&[&bytes], 0).unwrap();
        for limit in 0..=COUNT {
            let found = last_where(&*file, base, COUNT, |entry| entry.position < limit * 100);
            let (count, last) = found.unwrap();
            assert_eq!(count, limit);
            assert_eq!(last.map(|last| last.position + 100).unwrap_or(0), limit * 100);
        }
        assert_eq!(last_position(&*file, base, COUNT).unwrap(), 99_900);
        let all = |count| last_where(&*file, base, count, |_| true).map(|(count, _)| count);
        assert!(matches!(all(COUNT + 1), Err(SearchError::Damaged(COUNT))));
        assert!(matches!(last_position(&*file, Offset(8), 3), Err(SearchError::Damaged(2))));
        disk.flip(path, entry_position(999) + 3).unwrap();
        assert!(matches!(all(COUNT), Err(SearchError::Damaged(999))));
    }
}
