//! Which file is which: known offsets + observed files → what to read, from where.
//!
//! A file is known by its *place* (device, inode and time of birth) and by its *mark* (content). Renaming
//! changes neither. The table of what a scan may find:
//!
//! | place   | content                                        | meaning                    | decision                |
//! |---------|------------------------------------------------|----------------------------|-------------------------|
//! | known   | carries its mark                               | grown, or renamed          | go on at the mark       |
//! | known   | shorter, or other                              | truncated, or inode reused | keep the mark as *former*, read from 0 |
//! | unknown | carries the mark of a former or vanished file  | copied or compressed log   | *adopt*: go on at the mark |
//! | unknown | is within an elder file still in place         | copy under way, or a copy  | wait, then read from 0  |
//! | unknown | other                                          | new                        | read from 0             |
//!
//! A vanished file is not adopted by one at its own path (which was deleted and written again), nor by one
//! of an unrelated name when little of it was read: short beginnings are too often alike. When content cannot
//! tell (a file deleted and written again with equal beginning in the same inode of a file system without
//! times of birth), reading goes on at the mark. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use connect::sdk::{Now, Timestamp};

use super::mark::{Digest, HEAD_BYTES, Mark};
use super::scene::{Scene, are_related};

/// Former and vanished files remembered, to know them again when they come back compressed. The one not seen
/// for longest is forgotten first.
pub(crate) const FORMER_MAX: usize = 1000;
/// How long a file that looks like a copy under way must be left alone before it counts as a file of its own.
pub(crate) const COPY_WAIT: Duration = Duration::from_secs(5);

/// Where a file lives: the same across renames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// Time of birth in nanoseconds since 1970; 0 where the file system has none.
    pub(crate) btime: u64,
}

/// One content in one place: a truncated file gets a new incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileKey {
    pub(crate) place: Place,
    pub(crate) incarnation: u32,
}

/// A file as the last scan saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
    /// Bytes on disk; compressed ones if compressed.
    pub(crate) size: u64,
    /// When the inode last changed, by the file system's clock.
    pub(crate) changed: Timestamp,
}

/// What is known of a file and is stored as its source offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) mark: Mark,
    /// Where it was last seen.
    pub(crate) path: PathBuf,
    /// Where it was first seen; the key of its records, whatever it was renamed to.
    pub(crate) origin: PathBuf,
    /// For a compressed file read to its end: its compressed size then.
    pub(crate) gzip_bytes: Option<u64>,
    /// When it was last read.
    pub(crate) read_at: Timestamp,
}

/// Whether a known file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Stored by an earlier run; not looked for yet.
    Restored,
    /// There, and verified.
    Live,
    /// Its place was not seen by the last scan.
    Gone,
    /// Its content was truncated or overwritten.
    Former,
}

/// What an observed file's content says about a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// Carries it.
    Same,
    /// Ends before it, and was alike up to there as far as could be seen.
    Shorter,
    /// Something else.
    Different,
    /// Cannot be read now.
    Unreadable,
}

/// The first bytes of an observed file, decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// At most [`HEAD_BYTES`].
    pub(crate) bytes: Vec<u8>,
    /// True when they had to be decompressed.
    pub(crate) is_compressed: bool,
    /// True for a compressed file that ends in the middle: it may be still in the making.
    pub(crate) is_broken: bool,
}

/// Looks into files on the tracker's behalf.
pub(crate) trait Content {
    /// The first bytes of `file`. `None`: cannot be read now.
    fn head(&mut self, file: &Observed) -> Option<Head>;
    /// Compares `file` with `mark`.
    fn likeness(&mut self, file: &Observed, mark: &Mark) -> Likeness;
    /// The mark of all that `file` now has. `None`: cannot be read now.
    fn whole(&mut self, file: &Observed) -> Option<Mark>;
}

/// What the reader must now do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A file is there: read it from its mark on.
    Read(FileKey),
    /// Its place is not seen any more: read what is left through the open descriptor.
    Gone(FileKey),
    /// `former` was truncated: read `key` from 0, in the same place.
    Restarted { former: FileKey, key: FileKey },
    /// The content of `from` goes on in `by`: stop reading `from`, read `by` from its mark on.
    Adopted { from: FileKey, by: FileKey },
    /// No longer remembered.
    Forgotten(FileKey),
    /// Not decided yet: look again soon.
    Waiting(PathBuf),
}

/// All files known to a source.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    known: BTreeMap<FileKey, (State, Known)>,
    /// Files that look like copies under way: since when, at which size.
    suspects: BTreeMap<Place, (Duration, u64)>,
}

impl Tracker {
    /// Files as stored by an earlier run.
    pub(crate) fn restored(files: impl IntoIterator<Item = (FileKey, Known)>) -> Self {
        let mut known: BTreeMap<FileKey, (State, Known)> =
            files.into_iter().map(|(key, known)| (key, (State::Restored, known))).collect();
        // Of what a place has held only the last is there: the others were truncated.
        let last: BTreeMap<Place, u32> =
            known.keys().map(|key| (key.place, key.incarnation)).collect();
        for (key, (state, _)) in &mut known {
            if key.incarnation < last[&key.place] {
                *state = State::Former;
            }
        }
        Self { known, suspects: BTreeMap::new() }
    }

    /// What is known of `key`.
    pub(crate) fn known(&self, key: &FileKey) -> Option<&Known> {
        self.known.get(key).map(|(_, known)| known)
    }

    /// Takes note that `key` was read up to `mark`.
    pub(crate) fn advance(
        &mut self,
        key: &FileKey,
        mark: Mark,
        gzip_bytes: Option<u64>,
        now: Timestamp,
    ) {
        let (_, known) = self.known.get_mut(key).expect("only known files are read");
        known.mark = mark;
        known.gzip_bytes = gzip_bytes;
        known.read_at = now;
    }

    /// Drops `key` as if never seen: it is not to be read.
    pub(crate) fn drop_file(&mut self, key: &FileKey) {
        self.known.remove(key);
    }

    /// `key` was found truncated while reading: its content is kept as former, and reading starts anew.
    pub(crate) fn truncated(&mut self, key: FileKey) -> Decision {
        let (state, known) = self.known.get_mut(&key).expect("only known files are read");
        *state = State::Former;
        let known = Known { mark: Mark::START, gzip_bytes: None, ..known.clone() };
        let next = self.insert(key.place, known);
        Decision::Restarted { former: key, key: next }
    }

    /// Compares what a scan saw (all files that match, without repetition of a place) with what is known.
    /// Appends to `decisions` what follows, in this order.
    pub(crate) fn observe(
        &mut self,
        now: Now,
        seen: &[Observed],
        content: &mut dyn Content,
        decisions: &mut Vec<Decision>,
    ) {
        let mut scene = Scene::new(seen, content);
        let mut newcomers = Vec::new();
        for file in seen {
            match self.current(file.place) {
                Some(key) => self.on_known_place(key, file, &mut scene, decisions),
                None if file.size > 0 => newcomers.push(file),
                // An empty file is nothing yet: what it will be is seen when it has content.
                None => {}
            }
        }
        for (key, (state, _)) in &mut self.known {
            let was_there = matches!(state, State::Restored | State::Live);
            if was_there && !scene.has(key.place) {
                *state = State::Gone;
                decisions.push(Decision::Gone(*key));
            }
        }
        self.suspects.retain(|place, _| scene.has(*place));
        if !newcomers.is_empty() {
            self.on_newcomers(now, &newcomers, &mut scene, decisions);
        }
        self.forget_oldest(decisions);
        self.check();
    }

    /// The incarnation that `place` is at. A former one does not count: it has a successor.
    fn current(&self, place: Place) -> Option<FileKey> {
        let of_place = FileKey { place, incarnation: 0 }..=FileKey { place, incarnation: u32::MAX };
        self.known
            .range(of_place)
            .rfind(|(_, (state, _))| *state != State::Former)
            .map(|(key, _)| *key)
    }

    fn on_known_place(
        &mut self,
        key: FileKey,
        file: &Observed,
        scene: &mut Scene<'_>,
        decisions: &mut Vec<Decision>,
    ) {
        let (state, known) = self.known.get_mut(&key).expect("current() found it");
        known.path.clone_from(&file.path);
        if *state == State::Live {
            // The reader compares the tail at each read; only it can do so without a gap.
            return;
        }
        let is_read_to_its_end = known.gzip_bytes == Some(file.size) && file.place.btime != 0;
        let likeness = if known.mark.pos == 0 || is_read_to_its_end {
            Likeness::Same
        } else {
            scene.likeness(file, &known.mark)
        };
        match likeness {
            Likeness::Same => {
                *state = State::Live;
                decisions.push(Decision::Read(key));
            }
            Likeness::Shorter | Likeness::Different => decisions.push(self.truncated(key)),
            Likeness::Unreadable => {}
        }
    }

    fn on_newcomers(
        &mut self,
        now: Now,
        newcomers: &[&Observed],
        scene: &mut Scene<'_>,
        decisions: &mut Vec<Decision>,
    ) {
        let mut by_head: BTreeMap<Digest, Vec<FileKey>> = BTreeMap::new();
        for (key, (_, known)) in &self.known {
            if known.mark.pos > 0 {
                by_head.entry(known.mark.head).or_default().push(*key);
            }
        }
        // So the first scan opens no file that is not about to change.
        let nothing_to_compare =
            by_head.is_empty() && self.known.values().all(|(state, _)| *state == State::Live);
        for file in newcomers {
            let is_left_alone = self.is_left_alone(now, file);
            let verdict = if is_left_alone && nothing_to_compare {
                Verdict::New
            } else {
                self.verdict(file, &by_head, is_left_alone, scene)
            };
            let key = match verdict {
                Verdict::Unreadable => continue,
                Verdict::MayBeCopy => {
                    decisions.push(Decision::Waiting(file.path.clone()));
                    continue;
                }
                Verdict::New => {
                    let (path, origin) = (file.path.clone(), file.path.clone());
                    let known = Known {
                        mark: Mark::START,
                        path,
                        origin,
                        gzip_bytes: None,
                        read_at: now.wall,
                    };
                    let key = self.insert(file.place, known);
                    decisions.push(Decision::Read(key));
                    key
                }
                Verdict::Continues(from) => {
                    if matches!(self.known.get(&from), Some((State::Live, _))) {
                        decisions.push(self.truncated(from));
                    }
                    let (_, old) = self.known.remove(&from).expect("a candidate is known");
                    let by = self.insert(
                        file.place,
                        Known { path: file.path.clone(), gzip_bytes: None, ..old },
                    );
                    decisions.push(Decision::Adopted { from, by });
                    by
                }
            };
            // Another copy of the same content is now a copy of this one.
            let (_, known) = &self.known[&key];
            if known.mark.pos > 0 {
                by_head.entry(known.mark.head).or_default().push(key);
            }
            self.suspects.remove(&file.place);
        }
    }

    /// What a file is that no known place leads to.
    fn verdict(
        &self,
        file: &Observed,
        by_head: &BTreeMap<Digest, Vec<FileKey>>,
        is_left_alone: bool,
        scene: &mut Scene<'_>,
    ) -> Verdict {
        let Some(head) = scene.head(file) else { return Verdict::Unreadable };
        let is_compressed = head.is_compressed;
        let mut candidates: Vec<(FileKey, State, Mark)> = prefixes(&head.bytes, by_head)
            .filter(|key| self.may_go_on_as(key, file))
            .filter_map(|key| self.known.get(key).map(|(state, known)| (*key, *state, known.mark)))
            .collect();
        // The candidate that was read furthest first: a log's later states carry the marks of its earlier ones.
        candidates.sort_by_key(|(_, _, mark)| std::cmp::Reverse(mark.pos));
        for (key, state, mark) in &candidates {
            match scene.likeness(file, mark) {
                // One in place may have been truncated since it was last read: then the copy was made before.
                Likeness::Same if *state != State::Live || !scene.carries(key.place, mark) => {
                    return Verdict::Continues(*key);
                }
                Likeness::Same | Likeness::Shorter | Likeness::Different => {}
                Likeness::Unreadable => return Verdict::Unreadable,
            }
        }
        let candidates: Vec<Place> = candidates.iter().map(|(key, ..)| key.place).collect();
        if !is_left_alone && scene.has_elder_of_same_content(file, &candidates) {
            return Verdict::MayBeCopy;
        }
        if is_compressed && let Some(from) = self.vanished_unread(file) {
            return Verdict::Continues(from);
        }
        Verdict::New
    }

    /// A vanished file of the family of `file`, of which nothing was delivered: most likely `file` is what became of
    /// it, and without it being told so, both the open descriptor and `file` would be read.
    fn vanished_unread(&self, file: &Observed) -> Option<FileKey> {
        let is_so = |state: &State, known: &Known| *state == State::Gone && known.mark.pos == 0;
        let mut vanished = self.known.iter().filter(|(_, (state, known))| is_so(state, known));
        vanished.find(|(_, (_, known))| are_related(&known.path, &file.path)).map(|(key, _)| *key)
    }

    /// Whether `file` may be what became of `key`, by all but its content.
    fn may_go_on_as(&self, key: &FileKey, file: &Observed) -> bool {
        // An adopted candidate is gone from the table, but not from the index made before.
        let Some((state, known)) = self.known.get(key) else { return false };
        let was_rewritten = *state == State::Gone && known.path == file.path;
        let much_was_read = known.mark.head.len == HEAD_BYTES;
        !was_rewritten && (much_was_read || are_related(&known.path, &file.path))
    }

    /// True when `file` has not changed for long enough.
    fn is_left_alone(&mut self, now: Now, file: &Observed) -> bool {
        let (since, size) = self.suspects.entry(file.place).or_insert((now.monotonic, file.size));
        if *size != file.size {
            (*since, *size) = (now.monotonic, file.size);
        }
        let by_us = now.monotonic.saturating_sub(*since) >= COPY_WAIT;
        by_us || file.changed.plus(COPY_WAIT) <= now.wall
    }

    fn insert(&mut self, place: Place, known: Known) -> FileKey {
        let of_place = FileKey { place, incarnation: 0 }..=FileKey { place, incarnation: u32::MAX };
        let last = self.known.range(of_place).next_back().map(|(key, _)| key.incarnation);
        let key = FileKey { place, incarnation: last.map_or(0, |last| last.saturating_add(1)) };
        self.known.insert(key, (State::Live, known));
        key
    }

    fn forget_oldest(&mut self, decisions: &mut Vec<Decision>) {
        let mut away: Vec<(Timestamp, FileKey)> = self
            .known
            .iter()
            .filter(|(_, (state, _))| matches!(state, State::Gone | State::Former))
            .map(|(key, (_, known))| (known.read_at, *key))
            .collect();
        away.sort_unstable();
        let surplus = away.len().saturating_sub(FORMER_MAX);
        for (_, key) in away.into_iter().take(surplus) {
            self.known.remove(&key);
            decisions.push(Decision::Forgotten(key));
        }
    }

    /// Asserts that each place has at most one current incarnation, which is its last, and that marks hold.
    fn check(&self) {
        let mut current: BTreeMap<Place, u32> = BTreeMap::new();
        for (key, (state, known)) in &self.known {
            known.mark.check();
            if *state != State::Former {
                let earlier = current.insert(key.place, key.incarnation);
                assert!(earlier.is_none(), "{key:?} has a current incarnation beside {earlier:?}");
            }
        }
    }
}

enum Verdict {
    New,
    MayBeCopy,
    Continues(FileKey),
    Unreadable,
}

/// Which of `by_head` have the digest of a prefix of `bytes`.
fn prefixes<'a>(
    bytes: &[u8],
    by_head: &'a BTreeMap<Digest, Vec<FileKey>>,
) -> impl Iterator<Item = &'a FileKey> {
    let lens: BTreeSet<usize> =
        by_head.keys().map(|head| head.len).filter(|&len| len <= bytes.len()).collect();
    let digests = lens.into_iter().scan(Digest::EMPTY, |digest, len| {
        *digest = digest.then(&bytes[digest.len..len]);
        Some(*digest)
    });
    digests.filter_map(|digest| by_head.get(&digest)).flatten()
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
