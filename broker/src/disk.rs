//! The seam between what we keep and where it is kept.
//!
//! [`Disk`] and [`File`] are all that any room knows of storage: positional reads and writes, an
//! explicit sync for every kind of change, no mapping of memory. They block by design; callers are
//! a log directory's own writer and readers whose pages are mostly cached. Errors keep their
//! kernel number, so that a full disk ([`is_full`]) or a process that has as many files open as it
//! may ([`is_out_of_files`]) can be told from a broken disk.
//!
//! What is durable: bytes after [`File::sync_data`]; names (created, renamed, removed) after
//! [`Disk::sync_dir`] of their directory. Nothing else is promised, and `SimDisk` takes away
//! whatever is not. Shell.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

#[cfg(any(test, feature = "check"))]
mod sim;
#[cfg(any(test, feature = "check"))]
pub use sim::{Fault, Op, SimDisk};

/// 1024: most buffers that the kernel takes in one vectored write (`IOV_MAX`).
const PARTS_MAX: usize = 1024;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist.
    Existing,
    /// It is created empty when absent.
    Create,
    /// It must not exist, and is created empty.
    CreateNew,
}

/// A place that keeps files. Paths are taken as they are given.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates `path` and whatever is missing above it. Durable after `sync_dir` of each parent.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Opens a file for reading and writing. A file created here is durable, as a name, after
    /// `sync_dir` of its directory.
    ///
    /// # Errors
    /// `NotFound` or `AlreadyExists` as `how` demands; else whatever the disk says.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;

    /// The names in `dir`, in ascending order.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory; else whatever the disk says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// True when `path` names a file or directory.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Renames a file or directory within its parent, replacing a file of the new name at once.
    /// Durable after `sync_dir` of the parent.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Those who hold it open may go on reading. Durable after `sync_dir`.
    ///
    /// # Errors
    /// `NotFound` when it is absent; else whatever the disk says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all it holds. Durable after `sync_dir` of its parent; a crash on
    /// the way may leave any part of it.
    ///
    /// # Errors
    /// `NotFound` when it is absent; else whatever the disk says.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// Whatever the disk says. Nothing is known to be durable then; do not try again and believe.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Opens a directory, so that names in it can be made durable when no further file may be open.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory; else whatever the disk says.
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Dir>>;

    /// Bytes that can still be written below `path`.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Bytes of the volume that `path` lies on, free or not. KIP-827.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn total_bytes(&self, path: &Path) -> io::Result<u64>;

    /// How many files, connections included, this process may have open at once.
    fn open_files_max(&self) -> u64 {
        u64::MAX
    }

    /// Takes the lock file `path` for this process, until the guard is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it; else whatever the disk says.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>>;
}

/// An open directory.
pub trait Dir: Send + Sync + fmt::Debug {
    /// Makes the names in it durable.
    ///
    /// # Errors
    /// As [`Disk::sync_dir`]; never that too many files are open.
    fn sync(&self) -> io::Result<()>;
}

/// An open file. Reads and writes name their position; there is no cursor.
pub trait File: Send + Sync + fmt::Debug {
    /// Writes all of `parts`, one after the other, from position `at`. Durable after `sync_data`.
    ///
    /// # Errors
    /// After an error any prefix may have been written: the caller truncates it away, or
    /// overwrites it.
    fn write_at(&self, parts: &[&[u8]], at: u64) -> io::Result<()>;

    /// Reads into `buf` from position `at`. Fewer bytes than asked for mean the end of the file.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// Makes what was written, and the length, durable.
    ///
    /// # Errors
    /// Whatever the disk says. The kernel may have dropped what it could not write: a later
    /// success says nothing about it, so no one may try again and believe.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes everything durable that was done on the filesystem of this file, names and other
    /// files included. One of these is cheaper than many `sync_data`. Failures since this file was
    /// opened, or since the last call, are reported.
    ///
    /// # Errors
    /// As `sync_data`.
    fn sync_filesystem(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn len(&self) -> io::Result<u64>;

    /// True when the file holds nothing.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file to `length` bytes. Durable after `sync_data`.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Sets space aside for the `count` bytes from `at` on, beyond the end of the file perhaps, whose length and
    /// content stay as they are: to write there is cheaper. To cut the file, to its length even, gives back
    /// what lies beyond. It is for speed alone, and need not be durable.
    ///
    /// # Errors
    /// Where there is no such space, or the file system cannot tell beforehand. Nothing is amiss then.
    fn set_space_aside(&self, at: u64, count: u64) -> io::Result<()>;

    /// By which the kernel knows it, where it does, to send it somewhere.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// True when the disk, or a quota on it, has no room left. It passes by itself.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// True when this process, or the machine, has as many files open as it may: nothing was opened, so
/// that nothing was done. It passes by itself.
#[must_use]
pub fn is_out_of_files(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| number == Some(errno.raw_os_error()))
}

/// The error of who may not open another file.
pub(crate) fn out_of_files() -> io::Error {
    Errno::MFILE.into()
}

/// True when the same may succeed later, though nothing is mended.
#[must_use]
pub fn passes(error: &io::Error) -> bool {
    is_full(error) || is_out_of_files(error)
}

/// The whole content of a file of at most `bytes_max` bytes.
///
/// # Errors
/// `FileTooLarge` when it is longer; `NotFound` when it is absent; else whatever the disk says.
pub fn read_file(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Existing)?;
    let length = file.len()?;
    if length > bytes_max {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces the file `path` by `bytes`, durably and at once: a crash leaves the old content or the
/// new, never a part.
///
/// # Errors
/// Whatever the disk says. The old content is then still there, unless it is the directory that could
/// not be synced; who has as many files open as may be has changed nothing.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = disk.open_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    let staged = stage_file(disk, path, bytes)?;
    disk.rename(&staged, path)?;
    dir.sync()
}

/// Writes `bytes` beside `path`, durably but for the name, which is the answer.
///
/// # Errors
/// Whatever the disk says; at `path` nothing has changed.
pub(crate) fn stage_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(".tmp");
    let staged = parent.join(name);
    let file = disk.open(&staged, Open::Create)?;
    file.truncate(0)?;
    file.write_at(&[bytes], 0)?;
    file.sync_data()?;
    Ok(staged)
}

/// The files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        // Where nobody else may look: records, keys and passwords will lie there.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match how {
            Open::Existing => {}
            Open::Create => {
                options.create(true).truncate(false);
            }
            Open::CreateNew => {
                options.create_new(true);
            }
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Dir>> {
        Ok(Box::new(RealDir(fs::File::open(dir)?)))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn open_files_max(&self) -> u64 {
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Box::new(file))
    }
}

#[derive(Debug)]
struct RealDir(fs::File);

impl Dir for RealDir {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn write_at(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        let mut position = at;
        // Empty parts would make a write of nothing look like a full disk.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(PARTS_MAX)];
            let written = match rustix::io::pwritev(&self.0, batch, position) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            position = u64::try_from(written)
                .ok()
                .and_then(|written| position.checked_add(written))
                .ok_or(io::ErrorKind::FileTooLarge)?;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut filled = 0;
        let mut position = at;
        while filled < buf.len() {
            match self.0.read_at(&mut buf[filled..], position) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    position = position.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn set_space_aside(&self, at: u64, count: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, at, count)?)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_made_is_for_nobody_else_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("data").join("quorum");
        RealDisk.create_dir_all(&made).unwrap();
        RealDisk.open(&made.join("log"), Open::CreateNew).unwrap();
        RealDisk.open(&made.join("index"), Open::Create).unwrap();
        replace_file(&RealDisk, &made.join("vote"), b"secret").unwrap();
        let held = RealDisk.lock(&made.join(".lock")).unwrap();
        for (path, want) in [
            ("data", 0o700),
            ("data/quorum", 0o700),
            ("data/quorum/log", 0o600),
            ("data/quorum/index", 0o600),
            ("data/quorum/vote", 0o600),
            ("data/quorum/.lock", 0o600),
        ] {
            let mode = fs::metadata(dir.path().join(path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, want, "{path}");
        }
        drop(held);
    }

    #[test]
    fn a_vectored_write_of_more_parts_than_the_kernel_takes_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("f"), Open::CreateNew).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let mut slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        slices.insert(0, &[]);
        slices.insert(7, &[]);
        file.write_at(&slices, 5).unwrap();
        let mut all = vec![0; 20_000];
        assert_eq!(file.read_at(&mut all, 0).unwrap(), 12_005);
        assert_eq!(all[5..12_005], parts.concat());
    }

    #[test]
    fn a_replaced_file_holds_the_new_content_and_a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        replace_file(&RealDisk, &path, b"one and more").unwrap();
        replace_file(&RealDisk, &path, b"two").unwrap();
        assert_eq!(read_file(&RealDisk, &path, 100).unwrap(), b"two");
        assert_eq!(read_file(&RealDisk, &path, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(RealDisk.list(dir.path()).unwrap(), ["meta"]);
        let lock = dir.path().join(".lock");
        let held = RealDisk.lock(&lock).unwrap();
        assert_eq!(RealDisk.lock(&lock).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        drop(RealDisk.lock(&lock).unwrap());
        let free = RealDisk.free_bytes(dir.path()).unwrap();
        assert!(free > 0);
        assert!(RealDisk.total_bytes(dir.path()).unwrap() >= free);
    }
}
