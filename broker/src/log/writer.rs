//! The writer: what it does with the requests that wait, and with a small write at once.
//!
//! Appends are gathered per log and written together; any other request is carried out where it
//! stands among them. Then each log that someone waits for is synced once. Invariant: `synced` is
//! told only after a sync that covers it has succeeded, and never again after one has failed.
//!
//! The loop owns the writer but for moments: a small write that nobody waits to see synced is carried out by whoever
//! submits it, if nothing else waits, as two wake-ups of threads cost several times what the write does.
//!
//! Between requests the writer brings the checkpoint up to date, so that a crash leaves little to
//! read: when much was written, and bit by bit when nothing is asked. Another thread syncs the files
//! meanwhile, log by log, and stores the checkpoint, so that nobody waits for it. Shell.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::ids::{BrokerEpoch, TopicPartition};
use protocol::mutant::{Mutant, is_active};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::ahead::{Ahead, Done, Job};
use super::dir::LogDir;
use super::due::{CHECKPOINT_LOG_BYTES_MIN, Due};
use super::error::LogError;
use super::note::Note;
use super::recovery::Place;
use super::shared::{Shared, TakenAtEnd};
use super::shell::{CompactRequest, LogId, OpenRequest, Opened, Progress, Reply, Request, Told};
use super::state::Write;
use super::store::Log;
use crate::limits::LOG_REQUESTS_MAX;

/// How often the writer looks for what is not yet durable, or not yet in the checkpoint.
const TICK: Duration = Duration::from_secs(1);
/// 8: logs to sync from which on one sync of the whole filesystem is cheaper than one of each: 1.4
/// against 17 ms for 64 files on ext4, where each has its own commit of the journal.
const SYNC_TOGETHER_MIN: usize = 8;
/// 16 MiB: written to a log that no one waits for, before its file is written back in the background
/// so that the sync which completes the segment has little left to do.
const WRITE_BACK_BYTES: u64 = 16 << 20;
/// 5: busy ticks after which one does its work all the same, so that what no one waits for is
/// durable in a few seconds.
const BUSY_TICKS_MAX: u32 = 5;

/// The owner of a log directory.
pub(super) struct Writer {
    pub(super) dir: LogDir,
    /// By [`LogId`], which is never reused.
    pub(super) logs: Vec<Option<Entry>>,
    by_partition: BTreeMap<TopicPartition, usize>,
    /// Logs that are to be brought into the checkpoint.
    pub(super) due: Due,
    /// Requests came since the last tick.
    is_busy: bool,
    /// Ticks one after the other in which requests came.
    busy_ticks: u32,
    health: watch::Sender<Option<LogError>>,
    is_offline: bool,
    /// The disk had no space at the last write that needed some: told once, not at each try.
    is_full: bool,
    /// It was told that no file could be opened; told again after a while.
    is_out_of_files: bool,
    /// Syncs what nobody waits for.
    ahead: Ahead,
    /// Where the search for files to close goes on.
    pub(super) hand: usize,
}

pub(super) struct Entry {
    pub(super) log: Log,
    progress: watch::Sender<Progress>,
    told: Option<Told>,
    /// Bytes appended since they were last synced or written back.
    idle_bytes: u64,
    /// It was written to since somebody last looked for files to close.
    pub(super) is_used: bool,
}

/// Who asked the writer to end, and how that went.
type Ended = (Reply<()>, Result<(), LogError>);

/// The writes that wait for one log.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    sync: bool,
}

impl Writer {
    pub(super) fn new(dir: LogDir, health: watch::Sender<Option<LogError>>, ahead: Ahead) -> Self {
        Self {
            dir,
            logs: Vec::new(),
            by_partition: BTreeMap::new(),
            due: Due::default(),
            is_busy: false,
            busy_ticks: 0,
            health,
            is_offline: false,
            is_full: false,
            is_out_of_files: false,
            ahead,
            hand: 0,
        }
    }

    /// Carries out writes to one log at once: the caller saw to it that nothing that came before them waits, and
    /// that they ask for no sync. True when the loop has to look: it has something to do at the next tick, or now. `None`:
    /// not done, for it could take long.
    pub(super) fn write_now(&mut self, id: LogId, writes: &[Write]) -> Option<bool> {
        // On a full disk a write is taken back, and synced.
        if self.is_full || self.must_make_room(id.0) {
            return None;
        }
        let was_idle = self.due.is_empty();
        self.is_busy = true;
        if self.append(id.0, writes) {
            self.write_back(id.0);
        }
        Some(was_idle || self.due.is_pressing())
    }

    /// Carries out `requests` as if one after the other.
    fn serve(&mut self, requests: impl Iterator<Item = Request>) -> ControlFlow<Ended> {
        self.is_busy = true;
        let mut waiting: BTreeMap<usize, Batch> = BTreeMap::new();
        for request in requests {
            if let Request::Submit { id, write } = request {
                let batch = waiting.entry(id.0).or_default();
                batch.sync |= write.sync;
                batch.writes.push(write);
                continue;
            }
            self.commit(std::mem::take(&mut waiting));
            self.control(request)?;
        }
        self.commit(waiting);
        self.look();
        ControlFlow::Continue(())
    }

    /// Begins a checkpoint if much was written since the last.
    fn look(&mut self) {
        if self.due.is_pressing() {
            self.begin_checkpoint(CHECKPOINT_LOG_BYTES_MIN);
        }
    }

    /// Appends all that waits, tells how far it got, syncs what someone waits for, and tells again.
    fn commit(&mut self, waiting: BTreeMap<usize, Batch>) {
        let mut to_sync = Vec::new();
        for (id, batch) in waiting {
            if self.must_make_room(id) {
                self.make_room();
            }
            if !self.append(id, &batch.writes) {
                continue;
            }
            if batch.sync {
                to_sync.push(id);
            } else {
                self.write_back(id);
            }
        }
        self.sync(&to_sync);
    }

    /// Appends to one log, and tells how far it got; not to one that is stalled, or gone.
    fn append(&mut self, id: usize, writes: &[Write]) -> bool {
        let Some(entry) = self.logs.get_mut(id).and_then(Option::as_mut) else { return false };
        if entry.progress.borrow().stalled.is_some() {
            return false;
        }
        let bytes = writes.iter().map(Write::size_bytes).sum::<u64>();
        self.due.add(id, bytes);
        entry.idle_bytes += bytes;
        entry.is_used = true;
        let result = entry.log.append(writes);
        entry.tell(result.as_ref().err().cloned());
        match result {
            Err(error) => self.met(&error),
            Ok(()) if self.is_full && bytes > 0 && entry.log.found_room => {
                self.is_full = false;
                info!(dir = %self.dir.path.display(), "there is space on the disk again");
            }
            Ok(()) => {}
        }
        true
    }

    /// Makes these logs durable, and tells.
    pub(super) fn sync(&mut self, ids: &[usize]) {
        let together = ids.len() >= SYNC_TOGETHER_MIN;
        if together && let Err(error) = self.dir.sync() {
            self.go_offline(&error);
        }
        for &id in ids {
            if self.is_offline {
                return;
            }
            let Some(entry) = self.logs.get_mut(id).and_then(Option::as_mut) else { continue };
            if together {
                entry.log.filesystem_was_synced();
            } else if let Err(error) = sync_once(&mut entry.log) {
                if !matches!(error, LogError::OutOfFiles { .. }) {
                    return self.go_offline(&error);
                }
                // A file that is not open was not synced, so that nothing is known to be amiss. Who
                // waits goes on waiting: the next tick tries again.
                self.met(&error);
                continue;
            }
            entry.idle_bytes = 0;
            let stalled = entry.progress.borrow().stalled.clone();
            entry.tell(stalled);
        }
    }

    /// Has the bytes of a log written back in the background, when there are many.
    fn write_back(&mut self, id: usize) {
        let Some(entry) = self.logs.get_mut(id).and_then(Option::as_mut) else { return };
        if self.ahead.writes_back
            && entry.idle_bytes >= WRITE_BACK_BYTES
            && let Some(path) = entry.log.active_path()
            // When it is busy, the next append asks again.
            && self.ahead.try_send(Job::WriteBack(path))
        {
            entry.idle_bytes = 0;
        }
    }

    fn control(&mut self, request: Request) -> ControlFlow<Ended> {
        match request {
            Request::Submit { .. } => unreachable!("appends are gathered before"),
            Request::Open(request) => {
                let OpenRequest { partition, topic_id, config, told, reply } = *request;
                let place = Place {
                    disk: Arc::clone(&self.dir.disk),
                    dir: self.dir.log_path(&partition),
                    partition,
                    topic_id,
                    config,
                    files: Arc::clone(&self.dir.files),
                };
                let opened = self.open(place, told);
                self.answer(reply, opened);
            }
            Request::Restate { id, reply } => {
                let state = self.entry(id).and_then(|entry| entry.log.restate());
                self.answer_with_state(id, reply, state);
            }
            Request::Truncate { id, offset, reply } => {
                let state = self.with_checkpoints(id, |entry, checkpoints| {
                    entry.log.truncate_to(offset, checkpoints)
                });
                self.answer_with_state(id, reply, state);
            }
            Request::Restart { id, offset, reply } => {
                let state = self.with_checkpoints(id, |entry, checkpoints| {
                    entry.log.restart_at(offset, checkpoints)
                });
                self.answer_with_state(id, reply, state);
            }
            Request::DeleteBefore { id, offset, reply } => {
                let log_start = self.with_checkpoints(id, |entry, checkpoints| {
                    entry.log.delete_before(offset, checkpoints)
                });
                self.answer(reply, log_start);
            }
            Request::Compact { id, request } => self.compact(id, request),
            Request::Close { id, state, reply } => {
                let closed = self.with_checkpoints(id, |entry, checkpoints| {
                    entry.log.close(state.as_deref(), checkpoints)
                });
                self.forget(id);
                self.answer(reply, closed);
            }
            Request::Delete { id, reply } => {
                let deleted =
                    self.with_checkpoints(id, |entry, checkpoints| entry.log.delete(checkpoints));
                self.forget(id);
                self.answer(reply, deleted);
            }
            Request::Report { error } => self.met(&error),
            Request::Shutdown { clean, reply } => {
                return ControlFlow::Break((reply, self.shutdown(clean)));
            }
        }
        ControlFlow::Continue(())
    }

    fn compact(&mut self, id: LogId, request: CompactRequest) {
        match request {
            CompactRequest::Begin { terms, reply } => {
                let cleaning = self.entry(id).and_then(|entry| entry.log.clean(*terms));
                self.answer(reply, cleaning);
            }
            CompactRequest::Swap { swap, reply } => {
                let swapped = self
                    .with_checkpoints(id, |entry, checkpoints| entry.log.swap(&swap, checkpoints));
                self.answer(reply, swapped);
            }
            CompactRequest::Note { until, reply } => {
                let noted = self.with_checkpoints(id, |entry, checkpoints| {
                    entry.log.set_cleaned(until, checkpoints)
                });
                self.answer(reply, noted);
            }
        }
    }

    fn open(&mut self, place: Place, told: Option<Told>) -> Result<Opened, LogError> {
        self.online()?;
        if self.by_partition.contains_key(&place.partition) {
            return Err(LogError::AlreadyOpen { partition: place.partition });
        }
        let partition = place.partition.clone();
        let (log, state, recovery) = Log::open(place, &self.dir.checkpoints)?;
        let id = self.logs.len();
        let (progress_sender, progress) =
            watch::channel(Progress { written: log.end(), synced: log.synced(), stalled: None });
        if recovery.scanned_bytes > 0 {
            info!(%partition, recovery.scanned_bytes, recovery.truncated_bytes, "log recovered");
            self.due.add(id, recovery.scanned_bytes);
        }
        let reader = log.reader();
        self.logs.push(Some(Entry {
            log,
            progress: progress_sender,
            told,
            idle_bytes: 0,
            is_used: false,
        }));
        self.by_partition.insert(partition, id);
        Ok(Opened { id: LogId(id), state, reader, progress, recovery })
    }

    /// Lets go of a log.
    fn forget(&mut self, id: LogId) {
        self.due.remove(id.0);
        if let Some(entry) = self.logs.get_mut(id.0).and_then(Option::take) {
            self.by_partition.remove(&entry.log.place().partition);
        }
    }

    /// Begins to bring logs with so many bytes since they last were into the checkpoint: has their
    /// files synced.
    fn begin_checkpoint(&mut self, bytes_min: u64) {
        for id in self.due.next_round(bytes_min) {
            match self.with_checkpoints(LogId(id), |entry, _| entry.log.take_down()) {
                Ok(note) => {
                    // When too many wait it stays due; the next round tries again.
                    if self.ahead.try_send(Job::Note(id, Box::new(note))) {
                        self.due.begin(id);
                    }
                }
                Err(LogError::NotOpen { .. }) => self.due.remove(id),
                Err(error) => self.met(&error),
            }
        }
        self.due.count();
    }

    /// Takes notice of what was done beside the writer.
    fn done(&mut self, done: Done) {
        match done {
            Done::Noted(id, note, result) => self.noted(id, &note, result),
            Done::Failed(error) => {
                self.dir.checkpoints.was_not_stored();
                self.met(&error);
            }
        }
    }

    /// Brings a log whose files were synced into the checkpoint; with the last of its round the
    /// checkpoint is stored.
    fn noted(&mut self, id: usize, note: &Note, result: Result<bool, LogError>) {
        let noted = result.and_then(|is_true| {
            self.with_checkpoints(LogId(id), |entry, checkpoints| {
                let is_noted = is_true && entry.log.believe(note, checkpoints);
                if is_noted {
                    let stalled = entry.progress.borrow().stalled.clone();
                    entry.tell(stalled);
                }
                Ok(is_noted)
            })
        });
        let is_noted = match noted {
            Ok(is_noted) => is_noted,
            Err(LogError::NotOpen { .. }) => {
                self.due.remove(id);
                false
            }
            // It stays due; the next round tries again.
            Err(error) => {
                self.met(&error);
                false
            }
        };
        if self.due.end(id, is_noted) {
            self.store_checkpoint();
        }
    }

    /// Has the checkpoint stored, if it has changed.
    fn store_checkpoint(&mut self) {
        if !self.is_offline
            && let Some(unstored) = self.dir.checkpoints.take_unstored()
            && !self.ahead.try_send(Job::Store(unstored))
        {
            self.dir.checkpoints.was_not_stored();
        }
    }

    /// Makes durable, and notes, what is not yet; seldom while there is other work.
    fn tick(&mut self) {
        if std::mem::take(&mut self.is_busy) {
            self.busy_ticks += 1;
            if self.busy_ticks < BUSY_TICKS_MAX {
                return;
            }
        }
        self.busy_ticks = 0;
        self.is_out_of_files = false;
        self.give_back();
        self.begin_checkpoint(0);
        if !self.due.has_round() {
            self.store_checkpoint();
        }
    }

    fn shutdown(&mut self, clean: Option<BrokerEpoch>) -> Result<(), LogError> {
        self.online()?;
        let ids: Vec<usize> = self.by_partition.values().copied().collect();
        for id in ids {
            self.with_checkpoints(LogId(id), |entry, checkpoints| {
                entry.log.close(None, checkpoints)
            })?;
        }
        self.dir.checkpoints.store()?;
        clean.map_or(Ok(()), |broker_epoch| self.dir.mark_clean(broker_epoch))
    }

    fn entry(&mut self, id: LogId) -> Result<&mut Entry, LogError> {
        self.online()?;
        self.logs.get_mut(id.0).and_then(Option::as_mut).ok_or(LogError::NotOpen { id: id.0 })
    }

    fn with_checkpoints<T>(
        &mut self,
        id: LogId,
        act: impl FnOnce(&mut Entry, &mut super::checkpoint::Checkpoints) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        self.online()?;
        let entry = self
            .logs
            .get_mut(id.0)
            .and_then(Option::as_mut)
            .ok_or(LogError::NotOpen { id: id.0 })?;
        act(entry, &mut self.dir.checkpoints)
    }

    /// Answers a request after which the log's owner has its state anew, and writes go on; or not,
    /// for the log may be half cut.
    fn answer_with_state<T>(&mut self, id: LogId, reply: Reply<T>, state: Result<T, LogError>) {
        if let Ok(entry) = self.entry(id) {
            entry.tell(state.as_ref().err().cloned());
        }
        self.answer(reply, state);
    }

    fn answer<T>(&mut self, reply: Reply<T>, result: Result<T, LogError>) {
        if let Err(error) = &result {
            self.met(error);
        }
        // Whoever asked may have gone: then no one needs the answer.
        let _ = reply.send(result);
    }

    fn met(&mut self, error: &LogError) {
        if error.takes_dir_offline() {
            self.go_offline(error);
        } else if let LogError::Full { .. } = error
            && !std::mem::replace(&mut self.is_full, true)
        {
            warn!(%error, "disk full: writes are refused until there is space");
            self.logs.iter_mut().flatten().for_each(|entry| entry.log.give_space_back());
        } else if let LogError::OutOfFiles { .. } = error
            && !std::mem::replace(&mut self.is_out_of_files, true)
        {
            warn!(%error, "no file can be opened: raise RLIMIT_NOFILE (ulimit -n)");
        }
    }

    fn go_offline(&mut self, error: &LogError) {
        if self.is_offline {
            return;
        }
        self.is_offline = true;
        error!(dir = %self.dir.path.display(), %error, "log directory goes offline");
        let offline = LogError::Offline { dir: self.dir.path.clone() };
        for entry in self.logs.iter().flatten() {
            entry.tell_as(|progress| progress.stalled = Some(offline.clone()));
        }
        self.health.send_replace(Some(error.clone()));
    }

    fn online(&self) -> Result<(), LogError> {
        if self.is_offline {
            return Err(LogError::Offline { dir: self.dir.path.clone() });
        }
        Ok(())
    }
}

/// Serves requests until `shutdown`, until no handle is left, or until the writer is found broken. The writer is
/// gone from `shared` afterwards, also when this is dropped.
pub(super) async fn run(
    shared: Shared,
    mut inbox: mpsc::Receiver<Request>,
    mut done: mpsc::Receiver<Done>,
) {
    let shared = TakenAtEnd(shared);
    let mut requests = Vec::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let work = |writer: &mut Writer| {
            let has_work = !writer.due.is_empty() || writer.dir.checkpoints.has_new();
            (has_work || writer.dir.files.has_lent()) && !writer.is_offline
        };
        let Some(has_work) = shared.0.with(work) else { return };
        let received = tokio::select! {
            biased;
            _ = ticks.tick(), if has_work => {
                shared.0.with(Writer::tick);
                continue;
            }
            received = inbox.recv_many(&mut requests, LOG_REQUESTS_MAX) => received,
            Some(done) = done.recv() => {
                shared.0.with(|writer| writer.done(done));
                continue;
            }
            // Whether there is something to do at the next tick is seen above.
            () = shared.0.look.notified() => {
                shared.0.with(Writer::look);
                continue;
            }
        };
        if received == 0 {
            return;
        }
        let served = shared.0.with(|writer| {
            let flow = writer.serve(requests.drain(..));
            // Under the lock: who finds nothing waiting finds it carried out, too.
            shared.0.waiting.fetch_sub(received, Ordering::AcqRel);
            flow
        });
        if let Some(ControlFlow::Break((reply, ended))) = served {
            // Whoever asked may use the directory as soon as it knows.
            drop(shared);
            let _ = reply.send(ended);
            return;
        }
        // One in between, or they would wait for as long as there is something to write.
        if let Ok(done) = done.try_recv() {
            shared.0.with(|writer| writer.done(done));
        }
    }
}

impl Entry {
    fn tell(&self, stalled: Option<LogError>) {
        self.tell_as(|progress| {
            progress.written = self.log.end();
            progress.synced = self.log.synced();
            progress.stalled = stalled;
        });
    }

    fn tell_as(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
        if let Some(told) = &self.told {
            let progress = self.progress.borrow().clone();
            (told.0)(progress);
        }
    }
}

/// After a failed sync the kernel calls clean what it could not write: the next one would succeed,
/// and prove nothing.
fn sync_once(log: &mut Log) -> Result<(), LogError> {
    let synced = log.sync();
    if is_active(Mutant::RetryFailedSync) { synced.or_else(|_| log.sync()) } else { synced }
}
