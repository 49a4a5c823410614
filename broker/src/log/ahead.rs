//! Syncing what nobody waits for, beside the writer.
//!
//! A sync takes as long as there is to write, and sometimes as long as the disk likes; while the writer is
//! in one, nobody else is served. So what nobody waits for is synced by another thread: the files that a
//! checkpoint will speak of, and the checkpoint itself. The writer is told how that went, in order: a
//! failure takes the directory offline before anything is believed that came after it. Shell.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use super::checkpoint::Unstored;
use super::error::LogError;
use super::note::{Note, sync_file};
use crate::disk::Disk;
use crate::limits::SYNCS_AHEAD_MAX;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// A file that is growing is to be synced.
    WriteBack(PathBuf),
    /// What is said of the log of this number is to be made true.
    Note(usize, Box<Note>),
    /// The checkpoint is to be stored.
    Store(Unstored),
}

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    /// The note of the log of this number is true; false: its files are gone.
    Noted(usize, Box<Note>, Result<bool, LogError>),
    /// Something else failed.
    Failed(LogError),
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
    done: mpsc::Sender<Done>,
}

fn channels(disk: Arc<dyn Disk>, writes_back: bool) -> (Ahead, mpsc::Receiver<Done>, Worker) {
    let (sender, jobs) = mpsc::channel(SYNCS_AHEAD_MAX);
    let (done, done_receiver) = mpsc::channel(SYNCS_AHEAD_MAX);
    let ahead = Ahead { jobs: sender, writes_back };
    (ahead, done_receiver, Worker { disk, jobs, done })
}

/// On a thread of its own.
pub(super) fn on_thread(disk: Arc<dyn Disk>) -> io::Result<(Ahead, mpsc::Receiver<Done>)> {
    let (ahead, done_receiver, mut worker) = channels(disk, true);
    thread::Builder::new().name("log-sync-ahead".to_owned()).spawn(move || {
        while let Some(job) = worker.jobs.blocking_recv() {
            if let Some(done) = carry_out(&*worker.disk, job)
                && worker.done.blocking_send(done).is_err()
            {
                return;
            }
        }
    })?;
    Ok((ahead, done_receiver))
}

/// As a task of the present runtime.
pub(super) fn inline(disk: Arc<dyn Disk>) -> (Ahead, mpsc::Receiver<Done>) {
    let (ahead, done_receiver, mut worker) = channels(disk, false);
    tokio::spawn(async move {
        while let Some(job) = worker.jobs.recv().await {
            if let Some(done) = carry_out(&*worker.disk, job)
                && worker.done.send(done).await.is_err()
            {
                return;
            }
        }
    });
    (ahead, done_receiver)
}

fn carry_out(disk: &dyn Disk, job: Job) -> Option<Done> {
    match job {
        Job::WriteBack(path) => sync_file(disk, &path).err().map(Done::Failed),
        Job::Note(id, note) => {
            let result = note.sync(disk);
            Some(Done::Noted(id, note, result))
        }
        Job::Store(unstored) => unstored.store().err().map(Done::Failed),
    }
}
