//! What all groups of a broker keep in memory, and how much that may be.
//!
//! Members describe themselves, leaders assign, and offsets bring what their committer wished to
//! remember: each is bounded, and all together are not, as groups are made by naming them. [`Memory`]
//! is one for all shards; a [`Share`] is what one of them keeps, counted as its groups change.
//! Sizes are estimates of what the allocator takes. What stands in the log is always taken in, so that a
//! broker that is full goes on after a restart; what would add to it is refused.
//!
//! Invariant: what all shares keep is what is used. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// 512: what a group takes beside its members, or a member beside what it tells: places in maps that
/// are not full, and timers.
pub(super) const ENTRY_BYTES: usize = 512;

/// 192: what a committed offset takes beside the names and what is remembered with it.
pub(super) const OFFSET_BYTES: usize = 192;

/// How much memory groups may take. Clones are the same.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    used: AtomicUsize,
    /// It was said that nothing is left.
    is_told: AtomicBool,
}

impl Memory {
    /// `bytes_max` bytes, all of them left.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let (used, is_told) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self(Arc::new(Shared { bytes_max, used, is_told }))
    }

    /// How many bytes all groups take.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// True when so many bytes are left; what adds nothing always has room. The log is told the first time that they are not, and again
    /// only after an eighth of all was given back.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let Shared { bytes_max, is_told, .. } = &*self.0;
        let used = self.used();
        if bytes == 0 || used.saturating_add(bytes) <= *bytes_max {
            if used < bytes_max / 8 * 7 {
                is_told.store(false, Ordering::Relaxed);
            }
            return true;
        }
        if !is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                bytes_max,
                "groups take as much memory as they may: no more is taken in"
            );
        }
        false
    }
}

/// What the groups of one shard keep. Dropping it gives all back.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    groups: BTreeMap<Arc<str>, usize>,
    offsets: usize,
}

impl Share {
    /// Nothing yet.
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory, groups: BTreeMap::new(), offsets: 0 }
    }

    /// True when so many bytes more may be kept.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.memory.has_room(bytes)
    }

    /// How many bytes `group` keeps.
    pub(super) fn of(&self, group: &str) -> usize {
        self.groups.get(group).copied().unwrap_or(0)
    }

    /// `group` keeps so many bytes now; none: it is gone.
    pub(super) fn set(&mut self, group: &Arc<str>, bytes: usize) {
        let before = match bytes {
            0 => self.groups.remove(group),
            _ => self.groups.insert(Arc::clone(group), bytes),
        };
        self.changed(before.unwrap_or(0), bytes);
    }

    /// Offsets keep so many bytes now.
    pub(super) fn set_offsets(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.offsets, bytes);
        self.changed(before, bytes);
    }

    fn changed(&self, before: usize, after: usize) {
        let used = &self.memory.0.used;
        if before < after {
            used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            let was = used.fetch_sub(before - after, Ordering::Relaxed);
            assert!(before - after <= was, "what was kept was counted");
        }
    }

    /// How many bytes all of it is.
    pub(super) fn bytes(&self) -> usize {
        self.groups.values().sum::<usize>() + self.offsets
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.changed(self.bytes(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shards_keep_is_counted_together_and_given_back() {
        let memory = Memory::new(100);
        let (mut one, mut other) = (Share::new(memory.clone()), Share::new(memory.clone()));
        one.set(&"a".into(), 60);
        other.set(&"a".into(), 20);
        other.set_offsets(20);
        assert!(one.has_room(0));
        assert!(!one.has_room(1));
        assert_eq!((one.of("a"), other.of("a"), other.of("b")), (60, 20, 0));
        one.set(&"a".into(), 10);
        assert!(other.has_room(50));
        one.set(&"a".into(), 0);
        assert_eq!(one.bytes(), 0);
        drop(other);
        assert_eq!(memory.used(), 0);
    }
}
