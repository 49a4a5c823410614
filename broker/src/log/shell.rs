//! One writer per log directory: take what waits, append all of it, sync once, tell everyone.
//!
//! [`DirHandle`] is the way to it, from any number of partitions; its queue is bounded and whoever
//! meets it full waits. While the writer syncs, the next writes gather, so the price of a sync is
//! shared by all that came meanwhile (group commit). In production the writer is a thread of its
//! own, since the disk blocks; in the simulator the same loop is a task. A write that is not to be synced, and not huge, is
//! carried out by who submits it, when nothing waits: it goes to the page cache, which takes microseconds.
//!
//! How far a log got is told by [`Progress`], which only ever shows the newest state: nothing
//! queues up for a partition that is slow to look. A write that fails stops its log: later writes
//! are refused until the partition has fetched the state as it is on disk. A disk that fails stops
//! the directory (KIP-112). Shell.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use protocol::ids::{BrokerEpoch, Offset, TopicId, TopicPartition};
use tokio::sync::{mpsc, oneshot, watch};

use super::ahead::{self, Done};
use super::compaction::{CleanStep, CleanTerms, Cleaned, Cleaning};
use super::dir::{Found, Identity, LogDir};
use super::error::LogError;
use super::reader::Reader;
use super::recovery::Recovery;
use super::shared::Shared;
use super::state::{LogConfig, LogState, Write};
use super::swap::Swap;
use super::writer::{self, Writer};
use crate::disk::Disk;
use crate::limits::{LOG_REQUESTS_MAX, OpenFiles};

/// 2 MiB, written in half a millisecond: what is larger is written by the writer's own thread, while others are served.
const WRITE_NOW_BYTES_MAX: u64 = 2 << 20;

/// Where the writer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On a thread of its own.
    Thread,
    /// As a task of the present runtime: for the simulator, whose disk does not block.
    Inline,
}

/// How to use a log directory.
#[derive(Clone, Debug)]
pub struct DirConfig {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub identity: Identity,
    /// Where its writer runs.
    pub mode: Mode,
    /// The files that may be open in this process.
    pub files: Arc<OpenFiles>,
}

/// Names an open log within its directory. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub(super) usize);

/// How far a log got.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The end of what is written and can be read (exclusive).
    pub written: Offset,
    /// The end of what is durable (exclusive); never above `written`.
    pub synced: Offset,
    /// Why nothing more is written: what was submitted beyond `written` is lost, and all further
    /// writes are refused until `restate`. With [`LogError::takes_dir_offline`] for good.
    pub stalled: Option<LogError>,
}

/// A log that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Its name from now on.
    pub id: LogId,
    /// All that follows from its batches; all of it is durable.
    pub state: LogState,
    /// The way to its bytes.
    pub reader: Reader,
    /// How far writes got.
    pub progress: watch::Receiver<Progress>,
    /// What it took to open it.
    pub recovery: Recovery,
}

/// A log directory in use.
#[derive(Debug)]
pub struct Started {
    /// The way to its writer.
    pub handle: DirHandle,
    /// What it holds.
    pub found: Found,
}

/// The way to a log directory's writer. Requests of one handle are carried out in order. Each
/// method may be dropped while it waits: it then has had its effect, or none.
#[derive(Clone)]
pub struct DirHandle {
    requests: mpsc::Sender<Request>,
    writer: Shared,
    health: watch::Receiver<Option<LogError>>,
}

impl fmt::Debug for DirHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirHandle")
    }
}

/// A request on its way to the writer's loop, counted as waiting; not any more if it is dropped on the way.
struct Sending<'a>(&'a AtomicUsize);

impl<'a> Sending<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }

    /// It arrived: the loop counts it off.
    fn arrived(self) {
        std::mem::forget(self);
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Request {
    Submit { id: LogId, write: Write },
    Open(Box<OpenRequest>),
    Restate { id: LogId, reply: Reply<LogState> },
    Truncate { id: LogId, offset: Offset, reply: Reply<LogState> },
    Restart { id: LogId, offset: Offset, reply: Reply<LogState> },
    DeleteBefore { id: LogId, offset: Offset, reply: Reply<Offset> },
    Compact { id: LogId, request: CompactRequest },
    Close { id: LogId, state: Option<Box<LogState>>, reply: Reply<()> },
    Delete { id: LogId, reply: Reply<()> },
    Report { error: LogError },
    Shutdown { clean: Option<BrokerEpoch>, reply: Reply<()> },
}

/// What a cleaning asks of the writer.
#[derive(Debug)]
pub(super) enum CompactRequest {
    Begin { terms: Box<CleanTerms>, reply: Reply<Option<Cleaning>> },
    Swap { swap: Box<Swap>, reply: Reply<bool> },
    Note { until: Offset, reply: Reply<()> },
}

#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: TopicId,
    pub(super) config: LogConfig,
    pub(super) told: Option<Told>,
    pub(super) reply: Reply<Opened>,
}

/// Who is told of a log's progress by the writer itself.
pub(super) struct Told(pub(super) Box<dyn Fn(Progress) + Send>);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

impl DirHandle {
    /// Takes a log directory and starts its writer. With [`Mode::Inline`] to be called within a
    /// runtime.
    ///
    /// # Errors
    /// When the directory is used by another process, belongs to someone else, or fails.
    pub fn start(disk: Arc<dyn Disk>, config: DirConfig) -> Result<Started, LogError> {
        let DirConfig { path, identity, mode, files } = config;
        let (dir, found) = LogDir::open(disk, path.clone(), &identity, files)?;
        let (requests, inbox) = mpsc::channel(LOG_REQUESTS_MAX);
        let (health_sender, health) = watch::channel(None);
        let fail = |error| LogError::of(&path, "start the writer", error);
        let writer = match mode {
            Mode::Inline => {
                let (ahead, done) = ahead::inline(Arc::clone(&dir.disk));
                let writer = Shared::new(Writer::new(dir, health_sender, ahead));
                tokio::spawn(writer::run(writer.clone(), inbox, done));
                writer
            }
            Mode::Thread => {
                let (ahead, done) = ahead::on_thread(Arc::clone(&dir.disk)).map_err(fail)?;
                let writer = Shared::new(Writer::new(dir, health_sender, ahead));
                run_on_thread(writer.clone(), inbox, done).map_err(fail)?;
                writer
            }
        };
        Ok(Started { handle: Self { requests, writer, health }, found })
    }

    /// Opens the log of `partition`, after whatever happened to it; one that does not exist is
    /// empty, and has no files before its first batch.
    ///
    /// # Errors
    /// [`LogError::InconsistentTopicId`] when the files are those of another topic of the same
    /// name; [`LogError::Corrupt`] when durable records are damaged: it must not be used.
    pub async fn open(
        &self,
        partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Opened, LogError> {
        self.ask_to_open(partition, topic_id, config, None).await
    }

    /// Like [`DirHandle::open`]; besides, the writer calls `told` with each progress of the log, so
    /// that whoever waits for it is not woken only to look. It must not wait.
    ///
    /// # Errors
    /// As of [`DirHandle::open`].
    pub async fn open_telling(
        &self,
        partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
        told: impl Fn(Progress) + Send + 'static,
    ) -> Result<Opened, LogError> {
        self.ask_to_open(partition, topic_id, config, Some(Told(Box::new(told)))).await
    }

    async fn ask_to_open(
        &self,
        partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
        told: Option<Told>,
    ) -> Result<Opened, LogError> {
        self.ask(|reply| {
            Request::Open(Box::new(OpenRequest { partition, topic_id, config, told, reply }))
        })
        .await
    }

    /// Hands over a write. Its fate is told by the log's [`Progress`]: written, synced (at once if
    /// the write asked for it, some seconds later otherwise), or stalled.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the writer has ended.
    pub async fn submit(&self, id: LogId, write: Write) -> Result<(), LogError> {
        self.send(Request::Submit { id, write }).await
    }

    /// Hands over writes to one log without waiting: for whoever may not. Those that are left in `writes` found the
    /// queue full. To a writer that has ended they are lost, as the log's [`Progress`] tells.
    pub fn try_submit(&self, id: LogId, writes: &mut Vec<Write>) {
        if self.write_now(id, writes) {
            return writes.clear();
        }
        let mut left = std::mem::take(writes).into_iter();
        for write in left.by_ref() {
            if let Err(Request::Submit { write, .. }) = self.try_send(Request::Submit { id, write })
            {
                writes.push(write);
                break;
            }
        }
        writes.extend(left);
    }

    /// Carries small writes out at one go, if they need no sync and nothing else waits. False: it did not.
    fn write_now(&self, id: LogId, writes: &[Write]) -> bool {
        if !Write::are_quick(writes, WRITE_NOW_BYTES_MAX) {
            return false;
        }
        let done = self.writer.try_with(|writer| writer.write_now(id, writes));
        let Some(must_look) = done.flatten() else { return false };
        if must_look {
            self.writer.look.notify_one();
        }
        true
    }

    /// Gives the request back when the queue is full; to a writer that has ended it is lost.
    fn try_send(&self, request: Request) -> Result<(), Request> {
        let sending = Sending::new(&self.writer.waiting);
        match self.requests.try_send(request) {
            Ok(()) => sending.arrived(),
            Err(mpsc::error::TrySendError::Full(request)) => return Err(request),
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
        Ok(())
    }

    /// The state as it is on disk, after which writes are accepted again. What was submitted
    /// before and is not in it is lost.
    ///
    /// # Errors
    /// When the disk fails, or has failed.
    pub async fn restate(&self, id: LogId) -> Result<LogState, LogError> {
        self.ask(|reply| Request::Restate { id, reply }).await
    }

    /// Cuts off the batch that holds `offset` and all after it, durably. The state's log end is
    /// `offset`, or below it if that batch began earlier. An `offset` below the log start empties
    /// the log and begins it anew there.
    ///
    /// # Errors
    /// When the disk fails. With [`LogError::Full`] ask again: the log may be cut already.
    pub async fn truncate(&self, id: LogId, offset: Offset) -> Result<LogState, LogError> {
        self.ask(|reply| Request::Truncate { id, offset, reply }).await
    }

    /// Deletes everything, durably; the next record goes to `offset`. For a follower whose leader
    /// has nothing left of what it has.
    ///
    /// # Errors
    /// When the disk fails. With [`LogError::Full`] ask again.
    pub async fn restart_at(&self, id: LogId, offset: Offset) -> Result<LogState, LogError> {
        self.ask(|reply| Request::Restart { id, offset, reply }).await
    }

    /// Moves the log start up to `offset`, durably, but not beyond the log end; segments below go.
    /// Yields the log start.
    ///
    /// # Errors
    /// When the disk fails. With [`LogError::Full`] nothing was deleted.
    pub async fn delete_before(&self, id: LogId, offset: Offset) -> Result<Offset, LogError> {
        self.ask(|reply| Request::DeleteBefore { id, offset, reply }).await
    }

    /// Cleans a log as `terms` say, bit by bit; after each bit, of so many bytes read and written,
    /// `pause` is waited for. Appends go on meanwhile. `None` when the log has changed on the way;
    /// then, as after an error or when this is dropped, it is cleaned in part or not at all.
    ///
    /// # Errors
    /// When the disk fails or is full, or a batch is damaged. See [`LogError::is_gone`].
    pub async fn clean<F: Future<Output = ()>>(
        &self,
        id: LogId,
        terms: CleanTerms,
        mut pause: impl FnMut(u64) -> F,
    ) -> Result<Option<Cleaned>, LogError> {
        let of = |request| Request::Compact { id, request };
        let terms = Box::new(terms);
        let cleaning = self.ask(|reply| of(CompactRequest::Begin { terms, reply })).await?;
        let Some(mut cleaning) = cleaning else { return Ok(None) };
        loop {
            match cleaning.step()? {
                CleanStep::Worked(bytes) => pause(bytes).await,
                CleanStep::Swap(swap) => {
                    if !self.ask(|reply| of(CompactRequest::Swap { swap, reply })).await? {
                        return Ok(None);
                    }
                }
                CleanStep::Done(cleaned) => {
                    let until = cleaned.until;
                    self.ask(|reply| of(CompactRequest::Note { until, reply })).await?;
                    return Ok(Some(cleaned));
                }
            }
        }
    }

    /// Makes the log durable and lets go of it. With the partition's `state` the next opening is
    /// quicker.
    ///
    /// # Errors
    /// When the disk fails. The log is closed nevertheless.
    pub async fn close(&self, id: LogId, state: Option<LogState>) -> Result<(), LogError> {
        let state = state.map(Box::new);
        self.ask(|reply| Request::Close { id, state, reply }).await
    }

    /// Deletes the log. A crash leaves all of it or nothing.
    ///
    /// # Errors
    /// When the disk fails. The log is closed nevertheless.
    pub async fn delete(&self, id: LogId) -> Result<(), LogError> {
        self.ask(|reply| Request::Delete { id, reply }).await
    }

    /// A reader met `error`; if the disk failed, the directory goes offline.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the writer has ended.
    pub async fn report(&self, error: LogError) -> Result<(), LogError> {
        self.send(Request::Report { error }).await
    }

    /// Makes all logs durable and ends the writer. With `clean`, the broker epoch, leaves the mark
    /// of a clean shutdown, if that is the truth.
    ///
    /// # Errors
    /// When not all could be made durable; the writer has ended nevertheless.
    pub async fn shutdown(&self, clean: Option<BrokerEpoch>) -> Result<(), LogError> {
        self.ask(|reply| Request::Shutdown { clean, reply }).await
    }

    /// Why the directory is offline, once it is. KIP-112.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Option<LogError>> {
        self.health.clone()
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply)).await?;
        answer.await.map_err(|_| LogError::Closed)?
    }

    async fn send(&self, request: Request) -> Result<(), LogError> {
        let sending = Sending::new(&self.writer.waiting);
        self.requests.send(request).await.map_err(|_| LogError::Closed)?;
        sending.arrived();
        Ok(())
    }
}

/// Runs the writer's loop on a thread, in a runtime that knows nothing but time.
fn run_on_thread(
    writer: Shared,
    inbox: mpsc::Receiver<Request>,
    done: mpsc::Receiver<Done>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(move || runtime.block_on(writer::run(writer, inbox, done)))?;
    Ok(())
}
