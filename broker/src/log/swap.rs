//! Putting cleaned segments in the place of the ones they were made from, at once.
//!
//! The new files lie beside the old ones under names that end in `.cleaned`. What is to be replaced
//! is written down first, in `%020d.swap`; once that is durable the swap has happened: names are
//! changed in any order, and whoever opens the log after a crash changes the rest. Each change may
//! be repeated. Files that were cleaned without a swap to tell of them are removed.
//!
//! Readers that hold an old segment go on reading it: its files stay open for them. The writer does
//! this between two appends; all that takes long was done before.
//!
//! Big endian: magic, version, base of the first segment i64, base of the first one after them i64,
//! 1 or 0 for a new segment u8, aborted transactions in it u32, CRC-32C of what precedes. Disk.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use protocol::ids::Offset;
use protocol::mutant::{Mutant, is_active};

use super::checkpoint::Checkpoints;
use super::compaction::{CleanTerms, Cleaning};
use super::error::LogError;
use super::index::Seal;
use super::producers::AbortedTxn;
use super::recovery::{Place, of_kind};
use super::segment::{INDEX, LOG, SNAPSHOT, Segment, TXN_INDEX, file_name, parse_name};
use super::store::{Log, broken};
use crate::disk::{Dir, read_file, stage_file};

/// "MsSW".
const MAGIC: u32 = 0x4d73_5357;
const VERSION: u32 = 1;
/// Bytes of the file.
const SWAP_BYTES: usize = 33;
/// What follows the base offset in its name.
const SWAP: &str = "swap";
/// What ends the name of a file that takes another's place.
const CLEANED: &str = ".cleaned";

/// A change of segments.
#[derive(Debug)]
pub struct Swap {
    /// Those that go: neighbours, and not the last of the log.
    pub(super) old: Vec<Arc<Segment>>,
    /// Base of the segment after them.
    pub(super) until: Offset,
    /// What comes instead, under the first one's base; `None`: nothing is left of them.
    pub(super) new: Option<(Seal, Vec<AbortedTxn>)>,
}

/// What is written down of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    base: Offset,
    until: Offset,
    has_new: bool,
    aborted: u32,
}

/// The name of a cleaned segment's file before it takes its place.
pub(super) fn cleaned_name(base: Offset, kind: &str) -> String {
    format!("{}{CLEANED}", file_name(base, kind))
}

impl Log {
    /// Begins to clean; `None` when there is nothing to do.
    pub(super) fn clean(&mut self, terms: CleanTerms) -> Result<Option<Cleaning>, LogError> {
        // Nobody else is cleaning: what there is was left by one who was stopped.
        remove_cleaned(&self.place)?;
        Ok(Cleaning::begin(self.place.clone(), self.reader(), terms))
    }

    /// Carries `swap` out, durably. False when the log has changed since, and nothing was done.
    pub(super) fn swap(
        &mut self,
        swap: &Swap,
        checkpoints: &mut Checkpoints,
    ) -> Result<bool, LogError> {
        let mut segments = self.shared.segments();
        let Some(at) = place_of(&segments, swap) else {
            remove_cleaned(&self.place)?;
            return Ok(false);
        };
        for segment in &swap.old {
            segment.pin()?;
        }
        let base = segments[at].base();
        // A point says that its segment exists.
        let is_promised = |checkpoints: &Checkpoints| {
            let point = checkpoints.of(&self.place.partition).point;
            point.is_some_and(|point| point.segment < swap.until)
        };
        if is_promised(checkpoints) {
            self.checkpoint(checkpoints)?;
        }
        // What lies on disk may still promise it, too.
        checkpoints.store()?;
        let aborted = swap.new.as_ref().map_or(0, |(seal, _)| seal.aborted);
        let (has_new, until) = (swap.new.is_some(), swap.until);
        let written = Written { base, until, has_new, aborted };
        let path = self.place.dir.join(file_name(base, SWAP));
        let failed = |error| LogError::of(&path, "write down a swap", error);
        // What needs a file to be open is done before: that as many are open as may be must not come
        // between what is written down and its being carried out.
        let (names, dir) = (self.place.names()?, self.place.open_dir()?);
        let disk = &*self.place.disk;
        let staged = stage_file(disk, &path, &written.encode()).map_err(failed)?;
        disk.rename(&staged, &path).map_err(failed)?;
        // From here on there is no way back: a failure leaves the names half changed. Were it not the
        // end of this run, the next cleaning would remove the new files, and the next opening then
        // carry out what is written down without them: the old ones would go, and nothing come instead.
        let synced = dir.sync().map_err(failed);
        synced.and_then(|()| self.place.finish(written, &names, &*dir)).map_err(
            |error| match error {
                LogError::Full { path, doing, source }
                | LogError::OutOfFiles { path, doing, source } => broken(&path, doing, source),
                other => other,
            },
        )?;
        let new = swap.new.as_ref().map(|(seal, aborted)| {
            Arc::new(Segment::complete(&self.place, base, seal, aborted.clone()))
        });
        segments.splice(at..at + swap.old.len(), new);
        self.set_segments(segments);
        Ok(true)
    }

    /// Notes that everything below `until` is clean, durably.
    pub(super) fn set_cleaned(
        &mut self,
        until: Offset,
        checkpoints: &mut Checkpoints,
    ) -> Result<(), LogError> {
        self.shared.set_cleaned(until);
        checkpoints.update(&self.place.partition, |entry| entry.cleaned = until);
        checkpoints.store()
    }
}

/// Where the old segments of `swap` stand; `None` when they do not any more, or end the log.
fn place_of(segments: &[Arc<Segment>], swap: &Swap) -> Option<usize> {
    let first = swap.old.first()?;
    let at = segments.iter().position(|segment| Arc::ptr_eq(segment, first))?;
    let found = segments.get(at..at + swap.old.len())?;
    let are_same = found.iter().zip(&swap.old).all(|(a, b)| Arc::ptr_eq(a, b));
    let next = segments.get(at + swap.old.len())?;
    (are_same && next.base() == swap.until).then_some(at)
}

/// Finishes what swaps a crash interrupted, and removes what was cleaned for none. True when
/// anything was done.
pub(super) fn recover(place: &Place, names: &[String]) -> Result<bool, LogError> {
    for base in of_kind(names, SWAP) {
        let path = place.dir.join(file_name(base, SWAP));
        let bytes = read_file(&*place.disk, &path, 1024)
            .map_err(|error| LogError::of(&path, "read a swap", error))?;
        let written = Written::decode(&bytes)
            .ok_or_else(|| place.corrupt(path, 0, "what was written down of a swap is damaged"))?;
        place.finish(written, &place.names()?, &*place.open_dir()?)?;
    }
    Ok(remove_cleaned(place)? || !of_kind(names, SWAP).is_empty())
}

/// Removes the files of cleanings that came to nothing. True when there were any.
pub(super) fn remove_cleaned(place: &Place) -> Result<bool, LogError> {
    let names = place.names()?;
    let is_left = |name: &&String| {
        let kind = parse_name(name).map(|(_, kind)| kind);
        kind.is_some_and(|kind| kind.ends_with(CLEANED) || kind.strip_prefix(SWAP) == Some(".tmp"))
    };
    let left: Vec<_> = names.iter().filter(is_left).collect();
    for name in &left {
        place.remove(name)?;
    }
    Ok(!left.is_empty())
}

impl Place {
    /// Changes the `names` of the directory as `written` says, those that were not changed yet, durably.
    /// Opens no file.
    fn finish(&self, written: Written, names: &[String], dir: &dyn Dir) -> Result<(), LogError> {
        let Written { base, until, has_new, aborted } = written;
        let sync_dir = || {
            let failed = |error| LogError::of(&self.dir, "sync the directory", error);
            if is_active(Mutant::SkipDirSync) { Ok(()) } else { dir.sync().map_err(failed) }
        };
        let inside = |at: &Offset| base < *at && *at < until;
        if has_new {
            // The batches last, though after a crash any of them may have been first.
            for kind in [INDEX, TXN_INDEX, LOG] {
                self.take_place(names, base, kind)?;
            }
        }
        if aborted == 0 {
            self.remove(&file_name(base, TXN_INDEX))?;
        }
        for kind in [LOG, INDEX, TXN_INDEX] {
            let gone = |at: &Offset| inside(at) || (*at == base && !has_new);
            for at in of_kind(names, kind).into_iter().filter(gone) {
                self.remove(&file_name(at, kind))?;
            }
        }
        // A walk never begins within a segment that is complete.
        for at in of_kind(names, SNAPSHOT).into_iter().filter(inside) {
            self.remove(&file_name(at, SNAPSHOT))?;
        }
        sync_dir()?;
        self.remove(&file_name(base, SWAP))?;
        // Were it to come back, it would be carried out on what another cleaning left by then.
        sync_dir()
    }

    fn take_place(&self, names: &[String], base: Offset, kind: &str) -> Result<(), LogError> {
        let cleaned = cleaned_name(base, kind);
        if !names.contains(&cleaned) {
            return Ok(());
        }
        let (from, to) = (self.dir.join(cleaned), self.dir.join(file_name(base, kind)));
        self.disk.rename(&from, &to).map_err(|error| LogError::of(&to, "take the place of", error))
    }
}

impl Written {
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(MAGIC);
        out.put_u32(VERSION);
        out.put_i64(self.base.0);
        out.put_i64(self.until.0);
        out.put_u8(u8::from(self.has_new));
        out.put_u32(self.aborted);
        let crc = crc_fast::crc32_iscsi(&out);
        out.put_u32(crc);
        assert_eq!(out.len(), SWAP_BYTES);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SWAP_BYTES] = bytes.try_into().ok()?;
        let (mut from, mut crc) = bytes.split_at(SWAP_BYTES - 4);
        if crc.get_u32() != crc_fast::crc32_iscsi(from) {
            return None;
        }
        let is_ours = from.get_u32() == MAGIC && from.get_u32() == VERSION;
        let (base, until) = (Offset(from.get_i64()), Offset(from.get_i64()));
        let (has_new, aborted) = (from.get_u8() == 1, from.get_u32());
        (is_ours && base < until).then_some(Self { base, until, has_new, aborted })
    }
}
