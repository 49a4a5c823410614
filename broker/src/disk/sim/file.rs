//! A file, or a directory, of the simulated disk while it is open. Dead after the next crash. Shell.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::MutexGuard;

use super::node::{Change, Node, as_u64, as_usize, below};
use super::{Dir, ENOSPC, Fate, File, Op, SimDisk, World, power_failed};

/// A file or a directory that is open.
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) node: usize,
    pub(super) generation: u64,
}

impl SimFile {
    /// The world, if this file was opened since the last reboot.
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.disk.lock_world();
        if world.generation == self.generation && !world.is_dead {
            Ok(world)
        } else {
            power_failed()
        }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.node)
    }
}

impl Dir for SimFile {
    fn sync(&self) -> io::Result<()> {
        let mut world = self.world()?;
        let fate = world.begin(Op::SyncDir)?;
        if world.happens(&fate) {
            world.dir(self.node)?.sync();
        }
        if matches!(fate, Fate::Torn) { power_failed() } else { Ok(()) }
    }
}

impl File for SimFile {
    fn write_at(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        let mut world = self.world()?;
        let at = as_usize(at)?;
        let mut bytes = parts.concat();
        let fate = world.begin(Op::Write)?;
        let mut verdict = Ok(());
        if matches!(fate, Fate::Torn) {
            let kept = below(&mut world.rng, bytes.len() + 1);
            bytes.truncate(kept);
            verdict = power_failed();
        }
        if let Some(capacity) = world.capacity {
            let room = as_usize(capacity.saturating_sub(world.used_bytes()))?;
            let length = world.file(self.node)?.current.len();
            let end = length.max(at).saturating_add(room);
            if at.saturating_add(bytes.len()) > length.max(end) {
                bytes.truncate(end.saturating_sub(at));
                verdict = verdict.and(Err(io::Error::from_raw_os_error(ENOSPC)));
            }
        }
        if !bytes.is_empty() {
            let change = Change::Write { at, bytes };
            let file = world.file(self.node)?;
            change.apply(&mut file.current);
            file.pending.push(change);
        }
        verdict
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        world.begin(Op::Read)?;
        let content = &world.file(self.node)?.current;
        let from = as_usize(at)?.min(content.len());
        let read = buf.len().min(content.len() - from);
        buf[..read].copy_from_slice(&content[from..from + read]);
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.world()?;
        world.syncs += 1;
        let fate = match world.begin(Op::Sync) {
            Ok(fate) => fate,
            Err(error) => {
                world.nodes[self.node].forget();
                return Err(error);
            }
        };
        if world.happens(&fate) {
            world.file(self.node)?.sync();
        }
        if matches!(fate, Fate::Torn) { power_failed() } else { Ok(()) }
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        let mut world = self.world()?;
        let world = &mut *world;
        world.syncs += 1;
        let fate = match world.begin(Op::Sync) {
            Ok(fate) => fate,
            Err(error) => {
                world.nodes.iter_mut().for_each(Node::forget);
                return Err(error);
            }
        };
        for node in &mut world.nodes {
            // When the power fails meanwhile, some are done and some are not.
            if matches!(fate, Fate::Done) || world.rng.chance(2) {
                node.sync();
            }
        }
        if matches!(fate, Fate::Torn) { power_failed() } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        let mut world = self.world()?;
        Ok(as_u64(world.file(self.node)?.current.len()))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut world = self.world()?;
        let length = as_usize(length)?;
        if world.file(self.node)?.current.len() == length {
            return Ok(());
        }
        let fate = world.begin(Op::Truncate)?;
        if world.happens(&fate) {
            let file = world.file(self.node)?;
            file.current.resize(length, 0);
            file.pending.push(Change::Resize(length));
        }
        if matches!(fate, Fate::Torn) { power_failed() } else { Ok(()) }
    }

    fn set_space_aside(&self, at: u64, count: u64) -> io::Result<()> {
        let mut world = self.world()?;
        let length = as_u64(world.file(self.node)?.current.len());
        let missing = at.saturating_add(count).saturating_sub(length);
        if world.capacity.is_some_and(|capacity| world.used_bytes() + missing > capacity) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        // What it has besides its content is nobody's, and not seen.
        Ok(())
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
