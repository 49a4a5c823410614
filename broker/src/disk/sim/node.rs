//! A file or directory in two lives: as the running system sees it, and as the disk has it.
//!
//! Every change is made to the first and noted for the second; a sync carries the notes out, a
//! crash decides by chance which of them were. Pure.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use protocol::rng::Rng;

pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

impl Node {
    pub(super) fn sync(&mut self) {
        match self {
            Self::File(file) => file.sync(),
            Self::Dir(dir) => dir.sync(),
        }
    }

    /// A sync failed: the pages are marked clean though nothing was written, and will not be
    /// tried again.
    pub(super) fn forget(&mut self) {
        if let Self::File(file) = self {
            file.pending.clear();
        }
    }
}

#[derive(Default)]
pub(super) struct FileNode {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// What `current` has and `durable` lacks, in order.
    pub(super) pending: Vec<Change>,
}

pub(super) enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Default)]
pub(super) struct DirNode {
    pub(super) current: BTreeMap<String, usize>,
    pub(super) durable: BTreeMap<String, usize>,
    /// Each change is all or nothing: a rename unsets one name and sets another.
    pub(super) pending: Vec<Vec<(String, Option<usize>)>>,
}

fn write_into(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => write_into(content, *at, bytes),
            Self::Resize(length) => content.resize(*length, 0),
        }
    }

    /// A part of it reaches the disk, perhaps followed by what was on the platter before.
    fn apply_torn(&self, content: &mut Vec<u8>, rng: &mut Rng) {
        let Self::Write { at, bytes } = self else { return };
        let kept = below(rng, bytes.len() + 1);
        write_into(content, *at, &bytes[..kept]);
        if rng.chance(2) {
            let garbage: Vec<u8> =
                bytes[kept..].iter().map(|byte| byte ^ rng.next_u64().to_be_bytes()[0]).collect();
            write_into(content, at + kept, &garbage);
        }
    }
}

impl FileNode {
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let changes = std::mem::take(&mut self.pending);
        match rng.below(4) {
            0 => {}
            1 => changes.iter().for_each(|change| change.apply(&mut self.durable)),
            2 => {
                // A prefix survives, and the change after it is torn.
                let kept = below(rng, changes.len() + 1);
                changes[..kept].iter().for_each(|change| change.apply(&mut self.durable));
                if let Some(torn) = changes.get(kept) {
                    torn.apply_torn(&mut self.durable, rng);
                }
            }
            _ => {
                // The kernel wrote back in an order of its own.
                for change in &changes {
                    match rng.below(3) {
                        0 => change.apply(&mut self.durable),
                        1 => change.apply_torn(&mut self.durable, rng),
                        _ => {}
                    }
                }
            }
        }
        self.current = self.durable.clone();
    }
}

impl DirNode {
    pub(super) fn change(&mut self, change: Vec<(String, Option<usize>)>) {
        apply_names(&mut self.current, &change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.durable = self.current.clone();
    }

    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let one_in = [1, 2, u64::MAX][below(rng, 3)];
        for change in std::mem::take(&mut self.pending) {
            if rng.chance(one_in) {
                apply_names(&mut self.durable, &change);
            }
        }
        self.current = self.durable.clone();
    }
}

fn apply_names(entries: &mut BTreeMap<String, usize>, change: &[(String, Option<usize>)]) {
    for (name, node) in change {
        match node {
            Some(node) => entries.insert(name.clone(), *node),
            None => entries.remove(name),
        };
    }
}

pub(super) fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(as_u64(bound))).expect("a draw is below its bound")
}

pub(super) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("memory is smaller than 2^64 bytes")
}

pub(super) fn as_usize(length: u64) -> io::Result<usize> {
    usize::try_from(length).map_err(io::Error::other)
}

/// The names that `path` consists of, from the root.
pub(super) fn names(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}
