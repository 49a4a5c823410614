//! The disk as one run of the machine has it.
//!
//! A crash of a simulated process drops what it holds, but tasks of it may live on for a while. A
//! real process that is dead touches no file any more: neither may they, by path or by handle.
//!
//! Disk.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker::disk::{Dir, Disk, File, Open, SimDisk};

/// What a dead process is told, if it still asks.
const EIO: i32 = 5;

/// The disk until the machine's next crash.
pub struct Mounted {
    disk: SimDisk,
    is_alive: Arc<AtomicBool>,
}

impl Mounted {
    /// `disk` for as long as `is_alive` says so.
    #[must_use]
    pub fn new(disk: SimDisk, is_alive: Arc<AtomicBool>) -> Self {
        Self { disk, is_alive }
    }

    fn disk(&self) -> io::Result<&SimDisk> {
        let is_alive = self.is_alive.load(Ordering::Relaxed);
        if is_alive { Ok(&self.disk) } else { Err(io::Error::from_raw_os_error(EIO)) }
    }
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mounted")
    }
}

impl Disk for Mounted {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk()?.create_dir_all(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        self.disk()?.open(path, how)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk()?.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk()?.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk()?.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk()?.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk()?.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk()?.sync_dir(dir)
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Dir>> {
        self.disk()?.open_dir(dir)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk()?.free_bytes(path)
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk()?.total_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        self.disk()?.lock(path)
    }
}
