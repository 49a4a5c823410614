//! Syncing files before the writer does.
//!
//! A sync takes as long as there is to write, and while the writer is in one, nobody else is served.
//! So what nobody waits for is synced beside it, by another thread, and the writer's own sync then
//! finds next to nothing to do. It is never left out: what a checkpoint promises rests on the writer's
//! own syncs alone.
//!
//! Each file is opened anew: a failure is told once to everyone who has the file open, and must not be
//! taken from the writer, who would then believe its own sync. What the writer opens anew, too, could
//! miss a failure that was told here: so it is told of that. Shell.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use super::error::LogError;
use super::store::broken;
use crate::disk::{Disk, Open};
use crate::limits::SYNCS_AHEAD_MAX;

/// What is to be synced.
#[derive(Debug)]
pub(super) enum Job {
    /// A file that is growing. That this failed, the writer learns by its own sync.
    WriteBack(PathBuf),
    /// The files of the log of this number that its next checkpoint will sync.
    Checkpoint(usize, Vec<PathBuf>),
}

/// A log whose files were synced, and how that went.
#[derive(Debug)]
pub(super) struct Readied {
    pub(super) id: usize,
    pub(super) result: Result<(), LogError>,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Ahead {
    jobs: mpsc::Sender<Job>,
    /// Growing files are written back, too: not in the simulator, where what was not synced is to be lost.
    pub(super) writes_back: bool,
}

impl Ahead {
    /// False when too many wait already; nothing is done then.
    pub(super) fn try_send(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

/// The other end: takes jobs until there is no writer any more.
struct Worker {
    disk: Arc<dyn Disk>,
    jobs: mpsc::Receiver<Job>,
    readied: mpsc::Sender<Readied>,
}

fn channels(disk: Arc<dyn Disk>, writes_back: bool) -> (Ahead, mpsc::Receiver<Readied>, Worker) {
    let (sender, jobs) = mpsc::channel(SYNCS_AHEAD_MAX);
    let (readied, readied_receiver) = mpsc::channel(SYNCS_AHEAD_MAX);
    let ahead = Ahead { jobs: sender, writes_back };
    (ahead, readied_receiver, Worker { disk, jobs, readied })
}

/// On a thread of its own.
pub(super) fn on_thread(disk: Arc<dyn Disk>) -> io::Result<(Ahead, mpsc::Receiver<Readied>)> {
    let (ahead, readied_receiver, mut worker) = channels(disk, true);
    thread::Builder::new().name("log-sync-ahead".to_owned()).spawn(move || {
        while let Some(job) = worker.jobs.blocking_recv() {
            if let Some(readied) = carry_out(&*worker.disk, job)
                && worker.readied.blocking_send(readied).is_err()
            {
                return;
            }
        }
    })?;
    Ok((ahead, readied_receiver))
}

/// As a task of the present runtime.
pub(super) fn inline(disk: Arc<dyn Disk>) -> (Ahead, mpsc::Receiver<Readied>) {
    let (ahead, readied_receiver, mut worker) = channels(disk, false);
    tokio::spawn(async move {
        while let Some(job) = worker.jobs.recv().await {
            if let Some(readied) = carry_out(&*worker.disk, job)
                && worker.readied.send(readied).await.is_err()
            {
                return;
            }
        }
    });
    (ahead, readied_receiver)
}

fn carry_out(disk: &dyn Disk, job: Job) -> Option<Readied> {
    match job {
        Job::WriteBack(path) => {
            let _ = sync(disk, &path);
            None
        }
        Job::Checkpoint(id, files) => {
            let result = files.iter().try_for_each(|path| sync(disk, path));
            Some(Readied { id, result })
        }
    }
}

/// What cannot be opened is left to the writer: it may be gone, and need not be synced then.
fn sync(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    let Ok(file) = disk.open(path, Open::Existing) else { return Ok(()) };
    file.sync_data().map_err(|error| broken(path, "sync", error))
}
