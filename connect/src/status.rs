//! How connectors are doing, for operators and applications.
//!
//! Each task publishes its status as it changes; who watches sees the newest, never a queue of old ones. Notes of
//! tasks are counted by kind and logged. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::sdk::{Note, Offset, TopicPartition};

/// Kinds of notes that are counted per task; more are counted together, under [`OTHER_NOTES`].
const NOTE_KINDS_MAX: usize = 32;
/// Under which notes beyond the bound are counted.
pub const OTHER_NOTES: &str = "other notes";

/// What a task is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TaskState {
    /// It connects, or reads where to start.
    #[default]
    Starting,
    /// It moves records, or waits for some.
    Running,
    /// It failed, and is started again after this wait.
    Restarting {
        /// How long.
        after: Duration,
    },
    /// It failed and stays so; see `last_error`.
    Failed,
    /// The source has no more and never will; all is committed.
    Finished,
    /// It was stopped; all it could, it committed.
    Stopped,
}

/// How often something worth a note happened, and the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteCount {
    /// How often.
    pub count: u64,
    /// The last one, in words.
    pub last: String,
}

/// How a task is doing. Counts are of this process, across restarts of the task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskStatus {
    /// What it is doing.
    pub state: TaskState,
    /// Records committed by a source, or put by a sink.
    pub records: u64,
    /// Bytes of their keys and values (of a source's records: and headers).
    pub bytes: u64,
    /// Records that a sink could not take.
    pub rejected: u64,
    /// Sources: true when all that there was at the last poll is committed.
    pub is_at_end: bool,
    /// Sinks: the committed offset (exclusive) of each partition it has.
    pub committed: BTreeMap<TopicPartition, Offset>,
    /// Sinks: where each partition stands (exclusive); below, all records were put.
    pub positions: BTreeMap<TopicPartition, Offset>,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it last failed, or had to try again, in words.
    pub last_error: Option<String>,
    /// What happened besides, by kind.
    pub notes: BTreeMap<&'static str, NoteCount>,
}

impl TaskStatus {
    /// Counts `note`.
    pub(crate) fn count(&mut self, note: &Note) {
        let is_known = self.notes.contains_key(note.kind);
        let kind =
            if is_known || self.notes.len() < NOTE_KINDS_MAX { note.kind } else { OTHER_NOTES };
        let counted = self.notes.entry(kind).or_insert(NoteCount { count: 0, last: String::new() });
        counted.count += 1;
        counted.last = note.to_string();
    }
}

/// Whether a connector brings records in or takes them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// In.
    Source,
    /// Out.
    Sink,
}

/// How a connector is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Which way records go.
    pub direction: Direction,
    /// Its tasks, by number.
    pub tasks: Vec<TaskStatus>,
}

impl ConnectorStatus {
    /// Records moved by all tasks.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.tasks.iter().map(|task| task.records).sum()
    }

    /// Bytes moved by all tasks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tasks.iter().map(|task| task.bytes).sum()
    }

    /// True when each task of a source has committed all that there was.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.direction == Direction::Source && self.tasks.iter().all(|task| task.is_at_end)
    }

    /// True when a task has failed and stays so.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.tasks.iter().any(|task| task.state == TaskState::Failed)
    }

    /// Where the partitions of all tasks of a sink stand.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<TopicPartition, Offset> {
        self.tasks.iter().flat_map(|task| task.positions.clone()).collect()
    }

    /// The committed offsets of all tasks of a sink.
    #[must_use]
    pub fn committed(&self) -> BTreeMap<TopicPartition, Offset> {
        self.tasks.iter().flat_map(|task| task.committed.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_counted_by_kind_within_a_bound() {
        let kinds: Vec<&'static str> =
            "a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6 7 8 9"
                .split(' ')
                .collect();
        let mut status = TaskStatus::default();
        for kind in kinds.iter().chain(&kinds) {
            status.count(&Note::new(kind, "thing", "detail"));
        }
        assert_eq!(status.notes["a"], NoteCount { count: 2, last: "a: thing: detail".to_owned() });
        assert_eq!(
            status.notes[OTHER_NOTES].count,
            2 * u64::try_from(kinds.len() - NOTE_KINDS_MAX).unwrap()
        );
        assert_eq!(status.notes.len(), NOTE_KINDS_MAX + 1);
    }
}
