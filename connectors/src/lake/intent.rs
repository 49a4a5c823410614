//! What was announced to be written, and what of it counts when a partition is opened.
//!
//! Each flush of a partition is announced by an intent under the name of its start, which the store accepts once. It
//! begins where the one before ends: the intents of a partition are a chain, and the chain alone says which range
//! of offsets lies in which files. The committed offset says only which ranges are known to be complete: those that end
//! at or below it. Intents above are completed before anything new is announced.
//!
//! Below the others there may be an intent that a writer put who had slept through the work of others, under a start
//! whose intent had been deleted by then. Seeing later ones, it wrote no files; and nobody looks at it, as reading
//! back ends at the committed offset, or where ranges do not join. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use connect::sdk::{Assigned, Offset, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::layout::{FORMAT_VERSION, Layout};

/// An announcement: the records of `[start, end)` will be in these files, and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    /// Where they come from.
    pub(crate) partition: TopicPartition,
    /// Which topic of that name. [`TopicId::ZERO`]: not known.
    pub(crate) topic_id: TopicId,
    /// Where the range begins: the end of the one before.
    pub(crate) start: Offset,
    /// The first record in it, or above `start` if records were passed over by command. To complete the
    /// range, reading starts here.
    pub(crate) first: Offset,
    /// The offset behind its last record.
    pub(crate) end: Offset,
    /// Who put it.
    pub(crate) writer: Arc<str>,
    /// How files follow from records.
    pub(crate) layout: Arc<Layout>,
    /// The files; none if no record of the range became a row.
    pub(crate) files: Vec<AnnouncedFile>,
}

/// A file that an intent announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnnouncedFile {
    /// Below the lake's location.
    pub(crate) path: String,
    /// How many rows it has.
    pub(crate) rows: u64,
    /// How long it is: one of another length is not complete.
    pub(crate) bytes: u64,
}

/// An intent as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    topic: String,
    partition: i32,
    topic_id: String,
    start: i64,
    first: i64,
    end: i64,
    writer: String,
    layout: Layout,
    files: Vec<AnnouncedFile>,
}

/// The part of every version of an intent.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// A file in an intent's place that is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntentError {
    /// It is not what this program writes.
    #[error("not an intent: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer program has written it.
    #[error("the intent has version {0}; this program knows up to {FORMAT_VERSION}")]
    Version(u32),
    /// Offsets or id make no sense, or those of another partition.
    #[error("the intent does not fit its name or itself")]
    Contradiction,
}

impl Intent {
    /// As it is stored.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let stored = Stored {
            version: FORMAT_VERSION,
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition.0,
            topic_id: self.topic_id.to_string(),
            start: self.start.0,
            first: self.first.0,
            end: self.end.0,
            writer: self.writer.to_string(),
            layout: Layout::clone(&self.layout),
            files: self.files.clone(),
        };
        serde_json::to_vec_pretty(&stored).expect("an intent has no key that is not text")
    }

    /// The intent that is stored for `partition` under the name of `start`.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn from_json(
        partition: &TopicPartition,
        start: Offset,
        json: &[u8],
    ) -> Result<Self, IntentError> {
        let Versioned { version } = serde_json::from_slice(json)?;
        if version != FORMAT_VERSION {
            return Err(IntentError::Version(version));
        }
        let stored: Stored = serde_json::from_slice(json)?;
        let is_whole = *stored.topic == *partition.topic
            && stored.partition == partition.partition.0
            && stored.start == start.0
            && stored.start <= stored.first
            && stored.first < stored.end;
        let topic_id = topic_id(&stored.topic_id).filter(|_| is_whole);
        Ok(Self {
            partition: partition.clone(),
            topic_id: topic_id.ok_or(IntentError::Contradiction)?,
            start,
            first: Offset(stored.first),
            end: Offset(stored.end),
            writer: stored.writer.into(),
            layout: Arc::new(stored.layout),
            files: stored.files,
        })
    }
}

fn topic_id(hex: &str) -> Option<TopicId> {
    let digits = Some(hex).filter(|hex| hex.len() == 32 && hex.is_ascii())?;
    let mut id = TopicId::ZERO;
    for (index, byte) in id.0.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(id)
}

/// A partition that cannot be opened. An operator must say what shall become of its data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// The topic was deleted and created again.
    #[error(
        "the lake holds offsets up to {end} of an earlier topic of this name (id {theirs}; now {ours}): give the sink another location, or remove the topic's files and its intents"
    )]
    Recreated {
        /// Where the earlier topic's announced ranges end.
        end: Offset,
        /// The earlier topic.
        theirs: TopicId,
        /// The topic now.
        ours: TopicId,
    },
    /// The log has lost records that are in the lake, or is another log.
    #[error(
        "the lake holds offsets up to {end}, but the log ends at {log_end}: the topic was created again, or has lost records"
    )]
    BeyondLogEnd {
        /// Where the announced ranges end.
        end: Offset,
        /// Where the log does.
        log_end: Offset,
    },
    /// The committed offset was set back to before the announced ranges that are still known.
    #[error(
        "the committed offset {committed} lies before {first}, up to where all is in the lake: to write it again, give the sink another location"
    )]
    SetBack {
        /// The committed offset.
        committed: Offset,
        /// Where the known ranges begin.
        first: Offset,
    },
    /// A range is not complete, and can no longer be.
    #[error(
        "the files for offsets {first} to {end} are not complete, and the log starts at {log_start}: the records are gone; remove the intent {start} to go on without them"
    )]
    Gone {
        /// The name of the intent.
        start: Offset,
        /// Where reading would have to start.
        first: Offset,
        /// The range's end.
        end: Offset,
        /// Where the log starts.
        log_start: Offset,
    },
    /// Between the committed offset and the newest range an intent is missing, or was put by none of us.
    #[error("an announced range ends at {end}, and the next begins at {next}: they do not join")]
    Broken {
        /// Where one ends.
        end: Offset,
        /// Where the next begins.
        next: Offset,
    },
}

/// Finds out, reading as few intents as possible, which may not be complete: newest first.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    assigned: &'a Assigned,
    /// Starts of intents that were not read, ascending.
    unread: Vec<Offset>,
    /// Intents read, each beginning where the one before ends.
    known: VecDeque<Intent>,
}

impl<'a> Chain<'a> {
    /// Of a partition for which there are intents with these starts, ascending.
    pub(crate) fn new(assigned: &'a Assigned, starts: &[Offset]) -> Self {
        assert!(starts.is_sorted(), "names are listed in order");
        Self { assigned, unread: starts.to_vec(), known: VecDeque::new() }
    }

    /// The start of the intent to read next. `None`: enough is known.
    pub(crate) fn next(&self) -> Option<Offset> {
        let earliest = self.known.front().map(|intent| intent.start);
        let is_enough = earliest.is_some_and(|start| Some(start) <= self.assigned.committed);
        self.unread.last().filter(|_| !is_enough).copied()
    }

    /// Takes the intent that was read.
    ///
    /// # Errors
    /// The lake's content is not of this log, or does not hang together.
    pub(crate) fn add(&mut self, intent: Intent) -> Result<(), OpenError> {
        assert_eq!(self.unread.pop(), Some(intent.start), "intents are read in order");
        let Some(later) = self.known.front() else {
            self.check_log(&intent)?;
            self.known.push_front(intent);
            return Ok(());
        };
        let (end, next) = (intent.end, later.start);
        match self.assigned.committed {
            _ if end == next => self.known.push_front(intent),
            // What was committed is not known; what does not join was, then.
            None => self.unread.clear(),
            Some(_) => return Err(OpenError::Broken { end, next }),
        }
        Ok(())
    }

    fn check_log(&self, newest: &Intent) -> Result<(), OpenError> {
        let Assigned { topic_id: ours, log_end, .. } = *self.assigned;
        let theirs = newest.topic_id;
        if ours.is_some() && theirs.is_some() && ours != theirs {
            return Err(OpenError::Recreated { end: newest.end, theirs, ours });
        }
        if newest.end > log_end {
            return Err(OpenError::BeyondLogEnd { end: newest.end, log_end });
        }
        Ok(())
    }

    /// What is known, once enough is.
    ///
    /// # Errors
    /// Ranges between the committed offset and the intents are not known any more.
    pub(crate) fn finish(self) -> Result<Announced, OpenError> {
        assert_eq!(self.next(), None, "all was read that must be");
        let committed = self.assigned.committed;
        let end = self.known.back().map(|intent| intent.end);
        let open: Vec<Intent> =
            self.known.into_iter().filter(|intent| Some(intent.end) > committed).collect();
        if let (Some(committed), Some(first)) = (committed, open.first().map(|it| it.start))
            && committed < first
        {
            return Err(OpenError::SetBack { committed, first });
        }
        Ok(Announced { end, open })
    }
}

/// What the store knows of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// Where the newest range ends. `None`: there is none.
    end: Option<Offset>,
    /// The ranges that end above the committed offset, each beginning where the one before ends.
    pub(crate) open: Vec<Intent>,
}

/// How to go on with a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resumption {
    /// Ranges to write again from the log, in order.
    pub(crate) unfinished: VecDeque<Intent>,
    /// Where the next range begins that nothing announced yet.
    pub(crate) start: Offset,
    /// Up to where all is in the lake, if that is above the committed offset.
    pub(crate) durable: Option<Offset>,
    /// Where to read from. `None`: at the committed offset.
    pub(crate) position: Option<Offset>,
}

impl Announced {
    /// How to go on, when the ranges of `open` are `complete` or not, in the same order.
    ///
    /// # Errors
    /// An incomplete range is no longer in the log.
    pub(crate) fn resume(
        self,
        assigned: &Assigned,
        complete: &[bool],
    ) -> Result<Resumption, OpenError> {
        assert_eq!(self.open.len(), complete.len(), "each range is complete or not");
        let committed = assigned.committed;
        let whole = complete.iter().take_while(|is_complete| **is_complete).count();
        let durable = self.open[..whole].last().map(|intent| intent.end);
        // Without any intent the committed offset is all there is. Zero stands for "from the beginning", also when
        // that is not the first offset: two writers must choose the same name.
        let start = self.end.or(committed).unwrap_or(Offset::ZERO);
        let unfinished: VecDeque<Intent> = self.open.into_iter().skip(whole).collect();
        let position = unfinished.front().map(|intent| intent.first).or(durable);
        if let Some(intent) = unfinished.front()
            && intent.first < assigned.log_start
        {
            let Intent { start, first, end, .. } = *intent;
            return Err(OpenError::Gone { start, first, end, log_start: assigned.log_start });
        }
        Ok(Resumption { unfinished, start, durable, position })
    }
}

#[cfg(test)]
#[path = "intent_tests.rs"]
mod tests;
