//! openraft's log and vote, in memory for reading and in one file for keeping.
//!
//! What openraft appends is readable at once; one task writes the changes in order, each synced
//! before it is answered. A full disk makes that task wait and try again, so that openraft never
//! hears of it; any other error is answered and ends all writing, since nothing is known of the
//! file then. Entries since the last snapshot stay in memory: snapshots bound them. Shell.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::log_file::{LogFile, LogFileError};
use super::record::Change;
use super::{Entry, LogId, Types, Vote};
use crate::disk::{Disk, passes};
use crate::limits::{QUORUM_REWRITE_BYTES_MIN, QUORUM_WRITES_MAX};

/// How long to wait before trying a full disk again: soon at first, then every second.
const FULL_WAITS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];

/// What the file says: the fold of its changes.
#[derive(Clone, Debug, Default)]
struct Kept {
    vote: Option<Vote>,
    purged: Option<LogId>,
    /// By index, without a gap.
    entries: BTreeMap<u64, Entry>,
}

impl Kept {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Entries(entries) => {
                let indexed = entries.into_iter().map(|entry| (entry.index(), entry));
                self.entries.extend(indexed);
            }
            Change::Truncate(from) => drop(self.entries.split_off(&from)),
            Change::Purge(last) => {
                self.entries = self.entries.split_off(&(last.index() + 1));
                self.purged = Some(last);
            }
        }
        let span = self.entries.first_key_value().zip(self.entries.last_key_value());
        if let Some(((first, _), (last, _))) = span {
            let count = u64::try_from(self.entries.len()).expect("a count fits 64 bits");
            assert_eq!(last - first + 1, count, "the log has a gap");
        }
    }

    /// The shortest sequence of changes whose fold this is.
    fn changes(&self) -> Vec<Change> {
        let vote = self.vote.map(Change::Vote);
        let purged = self.purged.map(Change::Purge);
        let entries = self.entries.values().cloned().collect::<Vec<_>>();
        let entries = (!entries.is_empty()).then_some(Change::Entries(entries));
        vote.into_iter().chain(purged).chain(entries).collect()
    }

    fn last(&self) -> Option<LogId> {
        let last = self.entries.last_key_value().map(|(_, entry)| entry.log_id());
        last.or(self.purged)
    }
}

/// The log as openraft sees it. Clones read the same log.
#[derive(Clone, Debug)]
pub(super) struct LogStore {
    /// A lock, as openraft reads from tasks of its own; held for no longer than a look-up.
    kept: Arc<Mutex<Kept>>,
    writes: mpsc::Sender<Write>,
}

impl LogStore {
    /// Opens the log at `path` in an existing directory, and starts the task that writes it.
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, LogFileError> {
        let (file, payloads) = LogFile::open(disk, path.to_owned())?;
        let mut kept = Kept::default();
        for payload in payloads {
            let change = Change::decode(payload).map_err(|error| LogFileError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
            kept.apply(change);
        }
        let (writes, queue) = mpsc::channel(QUORUM_WRITES_MAX);
        tokio::spawn(Writer { file, kept: kept.clone() }.run(queue));
        Ok(Self { kept: Arc::new(Mutex::new(kept)), writes })
    }

    /// True when there is neither a vote nor an entry.
    pub(super) fn is_pristine(&self) -> bool {
        let kept = self.lock();
        kept.vote.is_none() && kept.last().is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `change` readable, then durable.
    async fn write(&self, change: Change) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        self.enqueue(change, Done::Waiter(done)).await?;
        written.await.map_err(|_| stopped())?
    }

    async fn enqueue(&self, change: Change, done: Done) -> io::Result<()> {
        self.lock().apply(change.clone());
        self.writes.send(Write { change, done }).await.map_err(|_| stopped())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the quorum's log is no longer written")
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let kept = self.lock();
        Ok(LogState { last_purged_log_id: kept.purged, last_log_id: kept.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.write(Change::Vote(*vote)).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().collect();
        self.enqueue(Change::Entries(entries), Done::Callback(callback)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index() + 1);
        self.write(Change::Truncate(from)).await
    }

    async fn purge(&mut self, last: LogId) -> io::Result<()> {
        self.write(Change::Purge(last)).await
    }
}

/// A change to write, and whom to tell.
struct Write {
    change: Change,
    done: Done,
}

enum Done {
    Waiter(oneshot::Sender<io::Result<()>>),
    Callback(IOFlushed<Types>),
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            // Whoever waited may be gone.
            Self::Waiter(waiter) => drop(waiter.send(result)),
            Self::Callback(callback) => callback.io_completed(result),
        }
    }
}

/// The task that owns the file.
struct Writer {
    file: LogFile,
    kept: Kept,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        while let Some(Write { change, done }) = queue.recv().await {
            let result = self.write(change).await;
            let reason = result.as_ref().err().map(ToString::to_string);
            done.tell(result);
            if let Some(reason) = reason {
                let path = self.file.path().display();
                error!(%path, reason, "the quorum's log cannot be written: no change of metadata from here on");
                return;
            }
        }
    }

    async fn write(&mut self, change: Change) -> io::Result<()> {
        let payload = change.encode();
        let is_purge = matches!(change, Change::Purge(_));
        self.kept.apply(change);
        patiently("the quorum's log", || self.file.append(&payload)).await?;
        if is_purge && self.file.bytes() >= QUORUM_REWRITE_BYTES_MIN {
            let payloads: Vec<_> = self.kept.changes().iter().map(Change::encode).collect();
            match blocking(|| self.file.rewrite(&payloads)) {
                // What was to go stays until the next purge; nothing else depends on it.
                Err(error) if passes(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// Does `work`, waiting for as long as the disk is full.
pub(super) async fn patiently(
    what: &str,
    mut work: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let mut waits = FULL_WAITS.iter();
    let mut wait = FULL_WAITS[0];
    loop {
        match blocking(&mut work) {
            Err(error) if passes(&error) => {
                warn!(what, %error, "the disk is full: waiting for room");
                wait = *waits.next().unwrap_or(&wait);
                tokio::time::sleep(wait).await;
            }
            result => return result,
        }
    }
}

/// Runs `work`, which blocks, where it holds up no other task: a runtime of several threads moves
/// them away; on a single thread, the simulator's, the disk takes no time.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
