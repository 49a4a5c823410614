//! Lending a log's files: readers are told where batches lie, and the kernel sends them.
//!
//! What is lent is written and lies below the bound that the partition allows, so that it stays as it is: a
//! file that is compacted or deleted keeps its bytes for those who have it open, and no leader cuts what was
//! committed. Disk.

use std::sync::Arc;

#[cfg(test)]
use bytes::Bytes;
use protocol::ids::Offset;
use protocol::record::BatchHeader;

use super::reader::{ReadError, Reader, SLACK_BYTES, Slice, find, open_failed, scan_failed};
use super::scan::{ScanError, Scanner, as_u64};
use super::segment::Segment;
use crate::disk::File;
use crate::limits::{STRETCH_BYTES_MAX, STRETCH_BYTES_MIN};
use crate::stretch::Stretch;

/// Whole batches as they lie in a file.
#[derive(Debug)]
struct Extent {
    file: Arc<dyn File>,
    first: BatchHeader,
    position: u64,
    bytes: u64,
    next_offset: Offset,
}

impl Reader {
    /// Like [`read`](Self::read), but leaves the batches in their file, from which the kernel can send
    /// them. `None` where there are few of them, they do not lie in a file, or too many are lent: read
    /// them. It may be fewer than `read` would give: as many as the index knows an end of.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn lend(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Option<Slice>, ReadError> {
        self.check_range(from)?;
        let Some(segment) = self.shared.segment_with(from).filter(|_| from < upto) else {
            return Ok(None);
        };
        match Self::lend_of(&segment, from, upto, (max_bytes, at_least_one)) {
            Ok(lent) => Ok(lent),
            // The segment was deleted in between: then the offset is out of range by now.
            Err(error) => self.check_range(from).and(Err(error)),
        }
    }

    fn lend_of(
        segment: &Segment,
        from: Offset,
        upto: Offset,
        (max_bytes, at_least_one): (usize, bool),
    ) -> Result<Option<Slice>, ReadError> {
        let least = as_u64(STRETCH_BYTES_MIN);
        let most = (max_bytes.min(STRETCH_BYTES_MAX), at_least_one);
        let can_be_lent = |extent: &Extent| {
            (least..=as_u64(STRETCH_BYTES_MAX)).contains(&extent.bytes)
                && extent.file.fd().is_some()
        };
        let found = extent(segment, (from, upto), most, least)?;
        let Some(extent) = found.filter(can_be_lent) else { return Ok(None) };
        let Some(lent) = segment.lend() else { return Ok(None) };
        let Extent { file, first, position, bytes, next_offset } = extent;
        let bytes = usize::try_from(bytes).expect("64 MiB fit");
        let stretch = Arc::new(Stretch::new(file, position, bytes, lent));
        let bytes = stretch.stand_in();
        Ok(Some(Slice { bytes, stretch: Some(stretch), first: Some(first), next_offset }))
    }

    /// What lies in the file where batches could be lent, and the offset after them.
    #[cfg(test)]
    pub(super) fn lendable(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
    ) -> Option<(Bytes, Offset)> {
        let segment = self.shared.segment_with(from).unwrap();
        let extent = extent(&segment, (from, upto), (max_bytes, true), 0).unwrap()?;
        let mut bytes = vec![0; usize::try_from(extent.bytes).unwrap()];
        assert_eq!(extent.file.read_at(&mut bytes, extent.position).unwrap(), bytes.len());
        Some((bytes.into(), extent.next_offset))
    }
}

/// Where whole batches lie from the one that contains `from` on, as far as the end of the segment or its index
/// says where one ends. `None` also where fewer than `least` bytes follow, as for nearly all who read.
fn extent(
    segment: &Segment,
    (from, upto): (Offset, Offset),
    (max_bytes, at_least_one): (usize, bool),
    least: u64,
) -> Result<Option<Extent>, ReadError> {
    // Before the index is asked: of what came since then nothing is taken.
    let summary = segment.summary();
    let begin = segment.position_of(from)?;
    if summary.bytes.saturating_sub(begin) < least {
        return Ok(None);
    }
    let file = segment.log().map_err(|error| open_failed(segment, error))?;
    let mut scanner = Scanner::new(&*file, begin, summary.bytes, SLACK_BYTES);
    let Some(first) = find(segment, &mut scanner, from, upto)? else { return Ok(None) };
    let position = scanner.position();
    let most = position.saturating_add(as_u64(max_bytes));
    let after_first = position + as_u64(first.size_bytes());
    let (end, next_offset) = if summary.bytes <= most && summary.next_offset <= upto {
        (summary.bytes, summary.next_offset)
    } else {
        match segment.cut_before(position, most.min(summary.bytes), upto)? {
            Some(cut) => cut,
            None if after_first <= most || at_least_one => (after_first, first.next_offset()),
            None => return Ok(None),
        }
    };
    // No checksum is over the offset: one that was damaged would send its reader back for ever.
    if next_offset <= from {
        return Err(scan_failed(segment, &scanner, ScanError::Malformed).into());
    }
    Ok(Some(Extent {
        file: Arc::clone(&file),
        first,
        position,
        bytes: end - position,
        next_offset,
    }))
}
