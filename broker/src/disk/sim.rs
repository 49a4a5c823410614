//! A disk in memory that takes away what it never promised.
//!
//! Bytes not synced may be lost, kept, torn or replaced by garbage at a crash; names not synced by
//! `sync_dir` may vanish or stay, each on its own. A failed sync drops what it should have written,
//! as kernels do, so that a later success proves nothing. Every change counts as one operation, and
//! the power can be cut at any of them: exhaustive crash tests run a script once for each. All that
//! happens follows from the seed and the order of calls. Shell.

mod file;
mod node;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::rng::Rng;

use self::file::SimFile;
use self::node::{DirNode, FileNode, Node, as_u64, names};
use super::{Dir, Disk, File, Open};

/// "Input/output error".
const EIO: i32 = 5;
/// "No space left on device".
const ENOSPC: i32 = 28;
/// What `free_bytes` and `total_bytes` say of a disk without a capacity.
const PLENTY: u64 = 1 << 50;
/// The root directory's place among the nodes.
const ROOT: usize = 0;

/// What kind of operation a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `File::write_at`.
    Write,
    /// `File::read_at`.
    Read,
    /// `File::sync_data`.
    Sync,
    /// `File::truncate`.
    Truncate,
    /// A file or directory comes to be.
    Create,
    /// `Disk::rename`.
    Rename,
    /// `Disk::remove_file` and `Disk::remove_dir_all`.
    Remove,
    /// `Disk::sync_dir`.
    SyncDir,
    /// Whatever needs a file to be open: `Disk::open`, of a file that is new or not, `Disk::open_dir`,
    /// `Disk::sync_dir`, `Disk::list`.
    Open,
}

/// An error to come.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it strikes; `None`: anything but `Open`.
    pub on: Option<Op>,
    /// How many such operations succeed first.
    pub after: u64,
    /// How many fail then; `u64::MAX`: all.
    pub times: u64,
    /// Of those due, one in so many fails; 1: each.
    pub one_in: u64,
    /// The kernel's error number.
    pub errno: i32,
}

impl Fault {
    /// The operation of kind `on` after `after` more of them fails once with "input/output error".
    #[must_use]
    pub fn io_error(on: Op, after: u64) -> Self {
        Self { on: Some(on), after, times: 1, one_in: 1, errno: EIO }
    }
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    // A disk is shared by all who use the machine, on any thread; there is no owner to ask.
    world: Arc<Mutex<World>>,
}

struct World {
    nodes: Vec<Node>,
    rng: Rng,
    /// Counts reboots: what was opened before the last one is dead.
    generation: u64,
    ops: u64,
    syncs: u64,
    crash_at: Option<u64>,
    is_dead: bool,
    capacity: Option<u64>,
    faults: Vec<Fault>,
    /// Lock files held, and since which reboot.
    locks: BTreeMap<Vec<String>, u64>,
}

/// How an operation is to go.
enum Fate {
    Done,
    /// The power fails in the middle of it.
    Torn,
}

impl SimDisk {
    /// An empty disk whose whole behaviour follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = World {
            nodes: vec![Node::Dir(DirNode::default())],
            rng: Rng::new(seed),
            generation: 0,
            ops: 0,
            syncs: 0,
            crash_at: None,
            is_dead: false,
            capacity: None,
            faults: Vec::new(),
            locks: BTreeMap::new(),
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// The power fails and returns: what was not synced is lost, kept or torn, by chance. Open
    /// files and locks are gone; faults and the planned crash are forgotten.
    pub fn crash(&self) {
        let mut world = self.lock_world();
        let world = &mut *world;
        for node in &mut world.nodes {
            match node {
                Node::File(file) => file.crash(&mut world.rng),
                Node::Dir(dir) => dir.crash(&mut world.rng),
            }
        }
        world.reboot();
    }

    /// The process is killed: open files and locks are gone, the kernel's cache lives on.
    pub fn kill(&self) {
        self.lock_world().reboot();
    }

    /// The power will fail in the middle of the `op`th change from now (the next one is 1); all
    /// that is asked of the disk afterwards fails until [`SimDisk::crash`] brings it back.
    pub fn crash_at(&self, op: u64) {
        let mut world = self.lock_world();
        world.crash_at = Some(world.ops + op);
    }

    /// True once the planned crash has come.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock_world().is_dead
    }

    /// How many changes were asked for so far.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.lock_world().ops
    }

    /// How many files were synced so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock_world().syncs
    }

    /// All files together may hold this many bytes; beyond, writes fail with "no space left".
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_world().capacity = bytes;
    }

    /// How many bytes all files together hold.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock_world().used_bytes()
    }

    /// Plans an error.
    pub fn inject(&self, fault: Fault) {
        self.lock_world().faults.push(fault);
    }

    /// True while a planned error is still to come.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        self.lock_world().faults.iter().any(|fault| fault.times > 0)
    }

    /// No planned error will come.
    pub fn clear_faults(&self) {
        self.lock_world().faults.clear();
    }

    /// Flips one bit of a file, durably: what an old disk does to data at rest.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, or no such position in it.
    pub fn flip(&self, path: &Path, at: u64) -> io::Result<()> {
        let mut world = self.lock_world();
        let node = world.find(path)?;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let file = world.file(node)?;
        *file.current.get_mut(at).ok_or(io::ErrorKind::NotFound)? ^= 1;
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= 1;
        }
        Ok(())
    }

    fn lock_world(&self) -> MutexGuard<'_, World> {
        // A test that panicked while it held the disk has failed already.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl World {
    fn reboot(&mut self) {
        self.generation += 1;
        self.crash_at = None;
        self.is_dead = false;
        self.faults.clear();
    }

    /// Counts an operation and decides its fate.
    fn begin(&mut self, op: Op) -> io::Result<Fate> {
        if self.is_dead {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if !matches!(op, Op::Read | Op::Open) {
            self.ops += 1;
            if self.crash_at == Some(self.ops) {
                self.is_dead = true;
                return Ok(Fate::Torn);
            }
        }
        for fault in &mut self.faults {
            if fault.times == 0 || fault.on.map_or(op == Op::Open, |on| on != op) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            if self.rng.below(fault.one_in) == 0 {
                fault.times = fault.times.saturating_sub(1);
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(Fate::Done)
    }

    /// For changes that happen whole or not at all: true when this one happens.
    fn happens(&mut self, fate: &Fate) -> bool {
        match fate {
            Fate::Done => true,
            Fate::Torn => self.rng.chance(2),
        }
    }

    fn used_bytes(&self) -> u64 {
        let mut used = 0;
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            let Node::Dir(dir) = &self.nodes[dir] else { continue };
            for &child in dir.current.values() {
                match &self.nodes[child] {
                    Node::File(file) => used += as_u64(file.current.len()),
                    Node::Dir(_) => dirs.push(child),
                }
            }
        }
        used
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        names(path).iter().try_fold(ROOT, |node, name| match &self.nodes[node] {
            Node::Dir(dir) => {
                dir.current.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        })
    }

    /// The directory that holds `path`, and the last name of it.
    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = names(path).pop().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.find(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok((parent, name))
    }

    fn file(&mut self, node: usize) -> io::Result<&mut FileNode> {
        match &mut self.nodes[node] {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn dir(&mut self, node: usize) -> io::Result<&mut DirNode> {
        match &mut self.nodes[node] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn add(&mut self, parent: usize, name: String, node: Node) -> io::Result<usize> {
        let index = self.nodes.len();
        self.nodes.push(node);
        self.dir(parent)?.change(vec![(name, Some(index))]);
        Ok(index)
    }
}

/// The answer to an operation in the middle of which the power failed.
fn power_failed<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(EIO))
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock_world();
        let mut node = ROOT;
        for name in names(path) {
            if let Some(&child) = world.dir(node)?.current.get(&name) {
                node = child;
                continue;
            }
            let fate = world.begin(Op::Create)?;
            if !world.happens(&fate) {
                return power_failed();
            }
            node = world.add(node, name, Node::Dir(DirNode::default()))?;
            if matches!(fate, Fate::Torn) {
                return power_failed();
            }
        }
        world.dir(node).map(|_| ())
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut world = self.lock_world();
        world.begin(Op::Open)?;
        let found = match world.find(path) {
            Ok(node) => Some(node),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let node = match (found, how) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(node), Open::Existing | Open::Create) => node,
            (None, Open::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::Create | Open::CreateNew) => {
                let (parent, name) = world.parent(path)?;
                let fate = world.begin(Op::Create)?;
                if !world.happens(&fate) {
                    return power_failed();
                }
                let node = world.add(parent, name, Node::File(FileNode::default()))?;
                if matches!(fate, Fate::Torn) {
                    return power_failed();
                }
                node
            }
        };
        world.file(node)?;
        let generation = world.generation;
        Ok(Arc::new(SimFile { disk: self.clone(), node, generation }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut world = self.lock_world();
        world.begin(Op::Open)?;
        let node = world.find(dir)?;
        Ok(world.dir(node)?.current.keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let world = self.lock_world();
        if world.is_dead {
            return power_failed();
        }
        Ok(world.find(path).is_ok())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.lock_world();
        let fate = world.begin(Op::Rename)?;
        let node = world.find(from)?;
        let (parent, old) = world.parent(from)?;
        let (parent_after, new) = world.parent(to)?;
        if parent != parent_after {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        if world.happens(&fate) {
            world.dir(parent)?.change(vec![(old, None), (new, Some(node))]);
        }
        if matches!(fate, Fate::Torn) { power_failed() } else { Ok(()) }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock_world();
        let fate = world.begin(Op::Remove)?;
        let node = world.find(path)?;
        world.file(node)?;
        let (parent, name) = world.parent(path)?;
        if world.happens(&fate) {
            world.dir(parent)?.change(vec![(name, None)]);
        }
        if matches!(fate, Fate::Torn) { power_failed() } else { Ok(()) }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock_world();
        let fate = world.begin(Op::Remove)?;
        let node = world.find(path)?;
        let (parent, name) = world.parent(path)?;
        if matches!(fate, Fate::Torn) {
            // Some of its files are gone already.
            let children: Vec<String> = world.dir(node)?.current.keys().cloned().collect();
            for child in children {
                if world.rng.chance(2) {
                    world.dir(node)?.change(vec![(child, None)]);
                }
            }
            return power_failed();
        }
        world.dir(parent)?.change(vec![(name, None)]);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.sync()
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Dir>> {
        let mut world = self.lock_world();
        world.begin(Op::Open)?;
        let node = world.find(dir)?;
        world.dir(node)?;
        let generation = world.generation;
        Ok(Box::new(SimFile { disk: self.clone(), node, generation }))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let world = self.lock_world();
        Ok(world.capacity.map_or(PLENTY, |capacity| capacity.saturating_sub(world.used_bytes())))
    }

    fn total_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.lock_world().capacity.unwrap_or(PLENTY))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        let mut world = self.lock_world();
        let key = names(path);
        let generation = world.generation;
        if world.locks.get(&key) == Some(&generation) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        world.locks.insert(key.clone(), generation);
        Ok(Box::new(SimLock { disk: self.clone(), key, generation }))
    }
}

struct SimLock {
    disk: SimDisk,
    key: Vec<String>,
    generation: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut world = self.disk.lock_world();
        if world.locks.get(&self.key) == Some(&self.generation) {
            world.locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(disk: &SimDisk, path: &Path) -> Option<Vec<u8>> {
        let file = disk.open(path, Open::Existing).ok()?;
        let mut bytes = vec![0; 64];
        let read = file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(read);
        Some(bytes)
    }

    fn with_file(seed: u64) -> (SimDisk, Arc<dyn File>) {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let file = disk.open(Path::new("/d/f"), Open::CreateNew).unwrap();
        file.write_at(&[b"sure"], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_every_crash_and_the_rest_meets_every_end() {
        let mut ends = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let (disk, file) = with_file(seed);
            file.write_at(&[b"ma", b"y"], 4).unwrap();
            disk.crash();
            let after = content(&disk, Path::new("/d/f")).unwrap();
            assert_eq!(&after[..4], b"sure");
            ends.insert(match &after[4..] {
                b"" => "lost",
                b"may" => "kept",
                rest if rest.len() < 3 => "cut",
                _ => "garbage",
            });
            assert!(file.read_at(&mut [0], 0).is_err(), "opened before the crash");
        }
        assert_eq!(ends.len(), 4, "{ends:?}");
    }

    #[test]
    fn a_name_that_was_not_synced_may_vanish_and_a_rename_is_never_half_done() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let (disk, _file) = with_file(seed);
            disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
            disk.crash();
            let names = disk.list(Path::new("/d")).unwrap();
            assert_eq!(names.len(), 1);
            seen.insert(names[0].clone());
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn a_killed_process_leaves_the_cache_behind() {
        let (disk, file) = with_file(1);
        file.write_at(&[b"!"], 4).unwrap();
        let held = disk.lock(Path::new("/d/.lock")).unwrap();
        assert!(disk.lock(Path::new("/d/.lock")).is_err());
        disk.kill();
        assert_eq!(content(&disk, Path::new("/d/f")).unwrap(), b"sure!");
        let again = disk.lock(Path::new("/d/.lock")).unwrap();
        drop(held);
        assert!(disk.lock(Path::new("/d/.lock")).is_err(), "the old guard frees nothing");
        drop(again);
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next() {
        let (disk, file) = with_file(2);
        file.write_at(&[b"!"], 4).unwrap();
        disk.inject(Fault::io_error(Op::Sync, 0));
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
        file.sync_data().unwrap();
        assert_eq!(content(&disk, Path::new("/d/f")).unwrap(), b"sure!");
        disk.crash();
        assert_eq!(content(&disk, Path::new("/d/f")).unwrap(), b"sure");
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_names_the_reason() {
        let (disk, file) = with_file(3);
        disk.set_capacity(Some(6));
        let error = file.write_at(&[b"more"], 4).unwrap_err();
        assert!(super::super::is_full(&error), "{error}");
        assert_eq!(file.len().unwrap(), 6);
        file.write_at(&[b"SURE"], 0).unwrap();
        assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 0);
        disk.set_capacity(None);
        file.write_at(&[b"more"], 4).unwrap();
    }

    #[test]
    fn the_power_can_be_cut_at_any_change() {
        let (disk, file) = with_file(4);
        disk.crash_at(2);
        file.write_at(&[b"1"], 4).unwrap();
        assert!(file.write_at(&[b"2"], 5).is_err());
        assert!(disk.is_dead());
        assert!(file.sync_data().is_err());
        assert!(disk.list(Path::new("/d")).is_err());
        disk.crash();
        assert_eq!(disk.list(Path::new("/d")).unwrap(), ["f"]);
    }
}
