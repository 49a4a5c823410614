//! The task that reads files.
//!
//! Each poll looks for files when that is due, then reads from those that may have more, one window at a time
//! and in turn, until a batch is full. Decisions are the tracker's; this file opens, reads and closes. A
//! descriptor is kept while its file may have more, so a file renamed or removed meanwhile is read
//! to its end. Reads block the thread for one batch at most. The simulator does not replace this I/O: files
//! are beside the cluster, not part of it. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connect::sdk::{
    ConnectRecord, Header, Note, Now, Polled, SourceBatch, SourceOffset, SourceTask, TaskContext,
    TaskError, Timestamp,
};

use super::lines::{Lines, Rest};
use super::mark::{Digest, Mark};
use super::offset;
use super::scan::{self, FILES_MAX};
use super::settings::{FileSourceConfig, LastLine};
use super::tracker::{Decision, FileKey, Observed, Place, Tracker};
use super::window::{End, Opener, Source, Window};

/// The header of a record that continues the line of the record before it.
pub const CONTINUES: &str = "continues";

/// Files held open at once. Beyond, those that are read to their end are closed, the longest idle first.
const OPEN_MAX: usize = 256;
/// How much of a new file is looked at to tell text from other things.
const SNIFF_BYTES: usize = 8192;
/// Other compressions, by their first bytes: bzip2, zstd, xz.
const COMPRESSED: [&[u8]; 3] = [b"BZh", &[0x28, 0xb5, 0x2f, 0xfd], &[0xfd, b'7', b'z', b'X', b'Z']];
/// How long a vanished file's descriptor is kept after its end was read: its writer may write on.
const LINGER: Duration = Duration::from_secs(5);

/// A file being read.
#[derive(Debug)]
struct Reading {
    path: PathBuf,
    key: Bytes,
    source: Option<Source>,
    /// Size and time of change when its end was read. `None`: there is more, or it was not looked at.
    ended_at: Option<(u64, Timestamp)>,
    /// When its end was last read, or tried.
    idle_since: Duration,
    is_gone: bool,
}

/// Reads files. See the module's header.
pub(crate) struct FileSourceTask {
    config: Arc<FileSourceConfig>,
    context: TaskContext,
    topic: Arc<str>,
    continues: Arc<str>,
    tracker: Tracker,
    readings: BTreeMap<FileKey, Reading>,
    /// Files that may have more; read in turn, the one behind `last_read` next.
    ready: BTreeSet<FileKey>,
    last_read: Option<FileKey>,
    /// Files that are not text, by place. Not looked at again.
    skipped: BTreeSet<Place>,
    /// Offsets to go out with the next batch.
    dirty: BTreeSet<FileKey>,
    notes: Vec<Note>,
    noted: BTreeSet<(&'static str, PathBuf)>,
    next_scan: Duration,
    is_waiting: bool,
}

impl FileSourceTask {
    pub(crate) fn new(config: Arc<FileSourceConfig>, context: TaskContext) -> Self {
        Self {
            topic: config.topic.as_str().into(),
            config,
            context,
            continues: CONTINUES.into(),
            tracker: Tracker::default(),
            readings: BTreeMap::new(),
            ready: BTreeSet::new(),
            last_read: None,
            skipped: BTreeSet::new(),
            dirty: BTreeSet::new(),
            notes: Vec::new(),
            noted: BTreeSet::new(),
            next_scan: Duration::ZERO,
            is_waiting: false,
        }
    }

    /// Says once per file.
    fn note_once(&mut self, kind: &'static str, path: PathBuf, detail: impl Into<String>) {
        if self.noted.len() < 2 * FILES_MAX && self.noted.insert((kind, path.clone())) {
            self.notes.push(Note::new(kind, path.to_string_lossy(), detail));
        }
    }

    fn scan(&mut self, now: Now) {
        let mut found = scan::scan(&self.config.paths, &self.config.exclude);
        for (path, error) in found.failed.drain(..) {
            self.note_once("unreadable path", path, error.to_string());
        }
        found.files.retain(|file| !self.skipped.contains(&file.place));
        let mut opener = Opener::default();
        let mut decisions = Vec::new();
        self.tracker.observe(now, &found.files, &mut opener, &mut decisions);
        for (file, error) in opener.failed {
            self.note_once("unreadable file", file.path, error.to_string());
        }
        self.is_waiting = false;
        for decision in decisions {
            self.carry_out(now, decision);
        }
        let by_place: BTreeMap<Place, &Observed> =
            found.files.iter().map(|file| (file.place, file)).collect();
        for (key, reading) in &mut self.readings {
            let Some(file) = by_place.get(&key.place) else { continue };
            reading.path.clone_from(&file.path);
            reading.is_gone = false;
            // Without `follow` an end is read once; else a log in use would never let the run end.
            if self.config.follow && reading.ended_at != Some((file.size, file.changed)) {
                reading.ended_at = None;
            }
            if reading.ended_at.is_none() {
                self.ready.insert(*key);
            }
        }
        self.close_vanished(now);
        self.close_surplus();
        self.next_scan = now.monotonic + self.config.poll_interval;
    }

    fn carry_out(&mut self, now: Now, decision: Decision) {
        match decision {
            Decision::Read(key) => self.read_from_mark(now, key),
            Decision::Gone(key) => {
                if let Some(reading) = self.readings.get_mut(&key) {
                    reading.is_gone = true;
                }
            }
            Decision::Restarted { former, key } => {
                let source = self.readings.remove(&former).and_then(|reading| reading.source);
                self.dirty.extend([former, key]);
                self.read_from_mark(now, key);
                let reading = self.readings.get_mut(&key).expect("just begun");
                // A compressed file's decoder stands where the former content was.
                reading.source = source.filter(|source| !source.is_compressed());
            }
            Decision::Adopted { from, by } => {
                self.readings.remove(&from);
                self.dirty.extend([from, by]);
                self.read_from_mark(now, by);
            }
            Decision::Forgotten(key) => {
                self.readings.remove(&key);
                self.dirty.insert(key);
            }
            Decision::Waiting(_) => self.is_waiting = true,
        }
    }

    fn read_from_mark(&mut self, now: Now, key: FileKey) {
        let known = self.tracker.known(&key).expect("decided to be read");
        let reading = Reading {
            path: known.path.clone(),
            key: Bytes::copy_from_slice(known.origin.as_os_str().as_encoded_bytes()),
            source: None,
            ended_at: None,
            idle_since: now.monotonic,
            is_gone: false,
        };
        self.readings.insert(key, reading);
        self.ready.insert(key);
    }

    /// Lets go of vanished files that were read to their end.
    fn close_vanished(&mut self, now: Now) {
        let linger = if self.config.follow { LINGER } else { Duration::ZERO };
        let mut unread = Vec::new();
        self.readings.retain(|key, reading| {
            let is_over =
                reading.is_gone && (reading.ended_at.is_some() || reading.source.is_none());
            let stays = !is_over || now.monotonic < reading.idle_since + linger;
            if !stays {
                self.ready.remove(key);
                if reading.ended_at.is_none() {
                    unread.push(reading.path.clone());
                }
            } else if reading.is_gone && reading.source.is_some() {
                // Who has it open may write on: look at it again until it is let go.
                reading.ended_at = None;
                self.ready.insert(*key);
            }
            stays
        });
        for path in unread {
            self.note_once("file vanished before its end was read", path, "");
        }
    }

    /// Closes descriptors when there are too many.
    fn close_surplus(&mut self) {
        let mut open: Vec<(bool, Duration, FileKey)> = self
            .readings
            .iter()
            .filter(|(_, reading)| reading.source.is_some() && !reading.is_gone)
            .map(|(key, reading)| (reading.ended_at.is_none(), reading.idle_since, *key))
            .collect();
        open.sort_unstable();
        let surplus = open.len().saturating_sub(OPEN_MAX);
        for (_, _, key) in open.into_iter().take(surplus) {
            self.readings.get_mut(&key).expect("listed above").source = None;
        }
    }

    /// Reads one window of `key` into `batch`.
    fn read(&mut self, now: Now, key: FileKey, batch: &mut SourceBatch) {
        let Some(reading) = self.readings.get_mut(&key) else { return };
        let mark = self.tracker.known(&key).expect("it is being read").mark;
        let bytes_max = self.config.batch_bytes.max(self.config.line_bytes_max + 2);
        match window(reading, &key, &mark, bytes_max) {
            Ok(Some((file, window))) => self.take_window(now, key, (mark, &file, &window), batch),
            // The path leads to another file by now: the next scan finds where this one went.
            Ok(None) => self.next_scan = now.monotonic,
            Err(error) => {
                reading.source = None;
                reading.ended_at = Some((0, Timestamp::NONE));
                let path = reading.path.clone();
                if error.kind() != io::ErrorKind::NotFound {
                    self.note_once("unreadable file", path, error.to_string());
                }
            }
        }
    }

    fn take_window(
        &mut self,
        now: Now,
        key: FileKey,
        (mut mark, file, window): (Mark, &Observed, &Window),
        batch: &mut SourceBatch,
    ) {
        let reading = self.readings.get_mut(&key).expect("it is being read");
        let is_carried =
            window.from == mark.tail.len && Digest::of(&window.bytes[..window.from]) == mark.tail;
        if !is_carried {
            let decision = self.tracker.truncated(key);
            self.carry_out(now, decision);
            return;
        }
        let content = &window.bytes[window.from..];
        if mark.pos == 0 && key.incarnation == 0 && !is_text(content) {
            let path = reading.path.clone();
            self.readings.remove(&key);
            self.tracker.drop_file(&key);
            self.dirty.remove(&key);
            self.skipped.insert(key.place);
            self.note_once("not a text file", path, "");
            return;
        }
        let is_last = window.end.is_some()
            && !self.config.follow
            && self.config.last_line == LastLine::Deliver;
        let rest = if is_last { Rest::Deliver } else { Rest::Hold };
        let mut lines = Lines::new(
            &window.bytes,
            window.from,
            mark.line_open,
            self.config.line_bytes_max,
            rest,
        );
        let mut cut = Vec::new();
        for piece in lines.by_ref() {
            if piece.was_cut && !piece.continues {
                cut.push(piece.range.start);
            }
            let headers = if piece.continues {
                vec![Header { key: Arc::clone(&self.continues), value: None }]
            } else {
                Vec::new()
            };
            batch.records.push(ConnectRecord {
                topic: Arc::clone(&self.topic),
                partition: None,
                key: Some(reading.key.clone()),
                value: Some(window.bytes.slice(piece.range)),
                headers,
                timestamp: Some(now.wall),
            });
        }
        for start in cut {
            let at = mark.pos + u64::try_from(start - window.from).expect("a window is small");
            let detail = format!("at byte {at}: longer than {} bytes", self.config.line_bytes_max);
            self.notes.push(Note::new("long line in pieces", file.path.to_string_lossy(), detail));
        }
        let (to, line_open) = (lines.consumed(), lines.line_open());
        let has_moved = to > window.from;
        mark.advance(&window.bytes, window.from, to);
        mark.line_open = line_open;
        self.settle(now, key, (mark, has_moved), file, window.end.as_ref());
    }

    /// Takes note of how far `key` is read, and whether there is more.
    fn settle(
        &mut self,
        now: Now,
        key: FileKey,
        (mark, has_moved): (Mark, bool),
        file: &Observed,
        end: Option<&End>,
    ) {
        let reading = self.readings.get_mut(&key).expect("it is being read");
        let is_compressed = reading.source.as_ref().is_some_and(Source::is_compressed);
        let gzip_bytes = (is_compressed && end == Some(&End::Whole)).then_some(file.size);
        let has_ended_anew = gzip_bytes.is_some()
            && self.tracker.known(&key).expect("read").gzip_bytes != gzip_bytes;
        self.tracker.advance(&key, mark, gzip_bytes, now.wall);
        if has_moved || has_ended_anew {
            reading.idle_since = now.monotonic;
            self.dirty.insert(key);
        }
        let Some(end) = end else {
            self.ready.insert(key);
            return;
        };
        // As it was before the window was read: growth since then is seen as such.
        reading.ended_at = Some((file.size, file.changed));
        if is_compressed {
            // Nothing more comes out of this decoder: a grown file is decompressed anew.
            reading.source = None;
        }
        match end {
            End::Whole => {}
            End::Truncated => {
                self.note_once("truncated gzip file", file.path.clone(), "read up to its end")
            }
            End::Damaged(reason) => self.note_once("damaged gzip file", file.path.clone(), reason),
        }
    }

    /// The file to read next.
    fn next_ready(&mut self) -> Option<FileKey> {
        let behind =
            self.last_read.and_then(|last| self.ready.range((Excluded(last), Unbounded)).next());
        let key = *behind.or(self.ready.first())?;
        self.ready.remove(&key);
        self.last_read = Some(key);
        Some(key)
    }

    fn take_offsets(&mut self, batch: &mut SourceBatch) {
        for key in std::mem::take(&mut self.dirty) {
            batch.offsets.push(offset::encode(&key, self.tracker.known(&key)));
        }
    }
}

/// The next window of `reading`, and the file as it was before. `None`: its path leads elsewhere.
fn window(
    reading: &mut Reading,
    key: &FileKey,
    mark: &Mark,
    bytes_max: usize,
) -> io::Result<Option<(Observed, Window)>> {
    if reading.source.is_none() {
        let source = Source::open(&reading.path)?;
        if source.observe(&reading.path)?.place != key.place {
            return Ok(None);
        }
        reading.source = Some(source);
    }
    let source = reading.source.as_mut().expect("opened above");
    let file = source.observe(&reading.path)?;
    Ok(Some((file, source.window(mark, bytes_max)?)))
}

fn is_text(content: &[u8]) -> bool {
    let sniffed = &content[..content.len().min(SNIFF_BYTES)];
    !sniffed.contains(&0) && !COMPRESSED.iter().any(|magic| sniffed.starts_with(magic))
}

#[async_trait]
impl SourceTask for FileSourceTask {
    async fn start(&mut self, offsets: Vec<SourceOffset>) -> Result<(), TaskError> {
        let mut known = Vec::new();
        for stored in offsets {
            let decoded = offset::decode(stored);
            known.extend(decoded.map_err(|error| TaskError::fatal("stored offsets", error))?);
        }
        self.tracker = Tracker::restored(known);
        Ok(())
    }

    async fn poll(&mut self) -> Result<Polled, TaskError> {
        let now = self.context.clock.now();
        let mut has_scanned = false;
        if self.next_scan <= now.monotonic {
            self.scan(now);
            has_scanned = true;
        }
        let mut batch = SourceBatch::default();
        let (mut bytes, mut taken) = (0, 0);
        while bytes < self.config.batch_bytes {
            let Some(key) = self.next_ready() else { break };
            self.read(now, key, &mut batch);
            let new = &batch.records[taken..];
            bytes += new
                .iter()
                .filter_map(|record| record.value.as_ref())
                .map(Bytes::len)
                .sum::<usize>()
                + new.len();
            taken = batch.records.len();
        }
        self.take_offsets(&mut batch);
        if !batch.offsets.is_empty() {
            return Ok(Polled::Batch(batch));
        }
        assert!(batch.records.is_empty(), "records come with offsets");
        let at_end = self.ready.is_empty() && !self.is_waiting;
        if !self.config.follow && at_end {
            // Only a scan that finds nothing new ends the run: files may have been rotated since the last.
            if has_scanned {
                return Ok(Polled::Finished);
            }
            self.next_scan = now.monotonic;
            return Ok(Polled::Nothing { again_after: Duration::ZERO, at_end: false });
        }
        let again_after = if self.ready.is_empty() {
            self.next_scan.saturating_sub(now.monotonic)
        } else {
            Duration::ZERO
        };
        Ok(Polled::Nothing { again_after, at_end: at_end && has_scanned })
    }

    fn notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    async fn stop(&mut self) {
        self.readings.clear();
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
