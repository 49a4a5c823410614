//! A log directory: whose it is, whether it was left in order, which partitions it holds.
//!
//! One process uses it at a time, by a lock. `meta.properties` says whose it is; a directory of
//! another cluster or broker is refused. The mark of a clean shutdown is taken away, durably,
//! before anything is written, so that it can only ever tell the truth (KIP-966 depends on it).
//! Deleted logs are renamed first, so that none comes back half. Disk.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::ids::{BrokerEpoch, BrokerId, TopicId, TopicPartition};
use protocol::mutant::{Mutant, is_active};

use super::checkpoint::{self, Checkpoints};
use super::error::LogError;
use super::files::Files;
use super::recovery::{METADATA, parse_metadata};
use crate::disk::{Disk, File, Open, read_file, replace_file};
use crate::limits::OpenFiles;

const LOCK: &str = ".lock";
const META: &str = "meta.properties";
const CLEAN: &str = "clean-shutdown";
/// What ends the name of a directory that is on its way out.
const DELETED: &str = "-delete";
/// 64 KiB: more than any of these small files needs.
const SMALL_BYTES_MAX: u64 = 64 << 10;
/// 10 000: names tried for a directory on its way out, all but the first left by crashes.
const DISCARDED_MAX: u32 = 10_000;

/// Whose a log directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: String,
    /// The broker's id.
    pub node_id: BrokerId,
    /// The directory's own id, used if it has none yet. KIP-858.
    pub directory_id: [u8; 16],
}

/// How the directory was left the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// In order: nothing that was written is missing. KIP-966.
    Clean {
        /// The broker epoch at that time, as it was given to `DirHandle::shutdown`.
        broker_epoch: BrokerEpoch,
    },
    /// By a crash; or it is new.
    Unclean,
}

/// What a log directory holds.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its id. KIP-858.
    pub directory_id: [u8; 16],
    /// How it was left.
    pub shutdown: Shutdown,
    /// Partitions with files, and the topic ids that these bear.
    pub partitions: Vec<(TopicPartition, Option<TopicId>)>,
}

/// An open log directory.
pub(super) struct LogDir {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    pub(super) checkpoints: Checkpoints,
    pub(super) files: Arc<Files>,
    /// Open from the start, so that no failure to write anything is missed.
    anchor: Arc<dyn File>,
    /// Held until the directory is left.
    _lock: Box<dyn Send>,
}

impl LogDir {
    /// Takes the directory at `path`, which may be new.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        identity: &Identity,
        open_files: Arc<OpenFiles>,
    ) -> Result<(Self, Found), LogError> {
        create_dir(&*disk, &path).map_err(|error| LogError::of(&path, "create", error))?;
        let lock = disk.lock(&path.join(LOCK)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => LogError::Locked { dir: path.clone() },
            _ => LogError::of(&path, "lock", error),
        })?;
        let anchor = disk
            .open(&path.join(LOCK), Open::Create)
            .map_err(|error| LogError::of(&path, "open", error))?;
        let directory_id = claim(&*disk, &path, identity)?;
        let shutdown = take_clean_mark(&*disk, &path)?;
        let partitions = tidy(&*disk, &path)?;
        let checkpoints = Checkpoints::open(Arc::clone(&disk), path.join(checkpoint::FILE))?;
        let found = Found { directory_id, shutdown, partitions };
        let files = Arc::new(Files::new(open_files));
        Ok((Self { disk, path, checkpoints, files, anchor, _lock: lock }, found))
    }

    /// Where the log of `partition` lives.
    pub(super) fn log_path(&self, partition: &TopicPartition) -> Arc<Path> {
        self.path.join(partition.to_string()).into()
    }

    /// Makes everything in the directory durable that was written, at one go.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        self.anchor.sync_filesystem().map_err(|error| {
            let (path, source) = (self.path.clone(), Arc::new(error));
            LogError::Io { path, doing: "sync the filesystem", source }
        })
    }

    /// Leaves the mark of a clean shutdown, after all logs were closed.
    pub(super) fn mark_clean(&self, broker_epoch: BrokerEpoch) -> Result<(), LogError> {
        let path = self.path.join(CLEAN);
        let text = format!("version: 1\nbroker_epoch: {broker_epoch}\n");
        replace_file(&*self.disk, &path, text.as_bytes())
            .map_err(|error| LogError::of(&path, "mark the clean shutdown", error))
    }
}

/// Moves a log's directory out of the way, durably, then removes it. A crash in between leaves what
/// the next opening of the log directory removes.
pub(super) fn discard(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    let fail = |error| LogError::of(dir, "delete", error);
    let parent = dir.parent().ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 0..DISCARDED_MAX {
        let target = parent.join(format!("{name}.{number}{DELETED}"));
        if disk.exists(&target).map_err(fail)? {
            continue;
        }
        disk.rename(dir, &target).map_err(fail)?;
        disk.sync_dir(parent).map_err(fail)?;
        return disk.remove_dir_all(&target).map_err(fail);
    }
    Err(fail(io::ErrorKind::AlreadyExists.into()))
}

/// Creates the directory at `path` and whatever is missing above it, durably: all that is written
/// below it later is only as durable as its name.
fn create_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for dir in path.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        if disk.exists(dir)? {
            break;
        }
        missing.push(dir);
    }
    disk.create_dir_all(path)?;
    for dir in missing.into_iter().rev() {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        disk.sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Compares the directory's `meta.properties` with `identity`, or writes it. Yields its id.
fn claim(disk: &dyn Disk, dir: &Path, identity: &Identity) -> Result<[u8; 16], LogError> {
    let path = dir.join(META);
    let text = match read_file(disk, &path, SMALL_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = meta(identity);
            replace_file(disk, &path, text.as_bytes())
                .map_err(|error| LogError::of(&path, "write", error))?;
            return Ok(identity.directory_id);
        }
        other => other.map_err(|error| LogError::of(&path, "read", error))?,
    };
    let text = String::from_utf8_lossy(&text);
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    let stored = format!("broker {} of cluster {}", value("node.id"), value("cluster.id"));
    let asked = format!("broker {} of cluster {}", identity.node_id, identity.cluster_id);
    if stored != asked {
        return Err(LogError::Foreign { dir: dir.to_owned(), stored, asked });
    }
    match u128::from_str_radix(value("directory.id"), 16) {
        Ok(id) => Ok(id.to_be_bytes()),
        Err(_) => Err(LogError::Corrupt { path, position: 0, what: "there is no directory id" }),
    }
}

fn meta(identity: &Identity) -> String {
    let Identity { cluster_id, node_id, directory_id } = identity;
    let mut text = format!("version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id=");
    for byte in directory_id {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text.push('\n');
    text
}

/// Reads the mark of a clean shutdown and takes it away, durably: from now on a crash is a crash.
fn take_clean_mark(disk: &dyn Disk, dir: &Path) -> Result<Shutdown, LogError> {
    let path = dir.join(CLEAN);
    let fail = |error| LogError::of(&path, "take the mark of a clean shutdown", error);
    let text = match read_file(disk, &path, SMALL_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Shutdown::Unclean),
        other => other.map_err(fail)?,
    };
    if !is_active(Mutant::KeepCleanMark) {
        disk.remove_file(&path).map_err(fail)?;
    }
    disk.sync_dir(dir).map_err(fail)?;
    let text = String::from_utf8_lossy(&text);
    let epoch = text.lines().find_map(|line| line.strip_prefix("broker_epoch: ")?.parse().ok());
    Ok(epoch
        .map_or(Shutdown::Unclean, |epoch| Shutdown::Clean { broker_epoch: BrokerEpoch(epoch) }))
}

/// Removes what was on its way out, and yields the partitions that are there.
fn tidy(disk: &dyn Disk, dir: &Path) -> Result<Vec<(TopicPartition, Option<TopicId>)>, LogError> {
    let mut partitions = Vec::new();
    for name in disk.list(dir).map_err(|error| LogError::of(dir, "list", error))? {
        let path = dir.join(&name);
        if name.ends_with(DELETED) {
            disk.remove_dir_all(&path).map_err(|error| LogError::of(&path, "delete", error))?;
        } else if let Some(partition) = parse_partition(&name) {
            let text = match read_file(disk, &path.join(METADATA), SMALL_BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => Some(other.map_err(|error| LogError::of(&path, "read", error))?),
            };
            partitions.push((partition, text.and_then(|text| parse_metadata(&text))));
        }
    }
    Ok(partitions)
}

fn parse_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let is_number = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    let partition = partition.parse().ok().filter(|_| is_number && !topic.is_empty())?;
    Some(TopicPartition::new(topic, partition))
}
