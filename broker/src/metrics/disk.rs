//! A disk that times how long it takes to make writes durable.
//!
//! All else passes through to the disk that it stands before. Shell.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use protocol::time::Clock;

use super::Metrics;
use crate::disk::{Dir, Disk, File, Open};

/// A disk whose syncs are counted.
#[derive(Clone, Debug)]
pub(crate) struct TimedDisk {
    inner: Arc<dyn Disk>,
    timer: Timer,
}

#[derive(Clone, Debug)]
struct Timer {
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Timer {
    fn time(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let began = self.clock.now().monotonic;
        let synced = sync();
        self.metrics.flushed(self.clock.now().monotonic.saturating_sub(began));
        synced
    }
}

impl TimedDisk {
    /// Stands before `inner`.
    pub(crate) fn new(inner: Arc<dyn Disk>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self { inner, timer: Timer { metrics, clock } }
    }
}

impl Disk for TimedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(TimedFile { inner, timer: self.timer.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.timer.time(|| self.inner.sync_dir(dir))
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Dir>> {
        let inner = self.inner.open_dir(dir)?;
        Ok(Box::new(TimedDir { inner, timer: self.timer.clone() }))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.total_bytes(path)
    }

    fn open_files_max(&self) -> u64 {
        self.inner.open_files_max()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct TimedDir {
    inner: Box<dyn Dir>,
    timer: Timer,
}

impl Dir for TimedDir {
    fn sync(&self) -> io::Result<()> {
        self.timer.time(|| self.inner.sync())
    }
}

#[derive(Debug)]
struct TimedFile {
    inner: Arc<dyn File>,
    timer: Timer,
}

impl File for TimedFile {
    fn write_at(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        self.inner.write_at(parts, at)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(buf, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.timer.time(|| self.inner.sync_data())
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        self.timer.time(|| self.inner.sync_filesystem())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.inner.truncate(length)
    }

    fn set_space_aside(&self, at: u64, count: u64) -> io::Result<()> {
        self.inner.set_space_aside(at, count)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.fd()
    }
}
