//! One partition on its way into the lake: gather, encode, announce, survey, write.
//!
//! | phase | what is done | done by | then |
//! |---|---|---|---|
//! | gathering | records become rows; until a flush is due, or the announced range that is written again is full | `take`, `seal` | encoding |
//! | encoding | rows become files, in memory, a slice at a time | `encode` | announcing; writing if announced before |
//! | announcing | the intent is put under its start, if nobody has put one there | `announced` | surveying |
//! | surveying | the intents are listed: if one begins later, others went on meanwhile, and this writer is out | `surveyed` | writing |
//! | writing | the files are put, one after another | `written` | gathering, behind the range |
//!
//! A step that failed for reasons that may pass is asked for again: each can be repeated. Records below the
//! position are not taken twice, so a batch that was put in part can be put again. Why the survey: intents of committed
//! ranges are deleted, all but the newest, so a writer that was away for long can announce a range again under
//! a start that is free once more. It then sees a later intent, as the newest is never deleted, and writes nothing. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connect::sdk::{Flush, Note, Offset, Rejected, SinkRecord, TaskError, TopicId, TopicPartition};
use parquet::errors::ParquetError;

use super::gathering::{Encoding, Gathering, Limits};
use super::intent::{AnnouncedFile, Intent, IntentError, Resumption};
use super::layout::{Layout, intent_directory, intent_path};
use super::parquet_file::Encoded;

/// Newest intents that stay, although committed. One would do; with more, a listing that takes its time still sees
/// one of them.
pub(crate) const INTENTS_KEPT: usize = 8;

/// What the shell shall do next, and report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Call `encode`.
    Encode,
    /// Put `body` if nothing is there; then `announced`, or `contested` with what is there.
    Announce {
        /// Where.
        path: String,
        /// The intent.
        body: Bytes,
    },
    /// List the starts of the intents below; then `surveyed`.
    Survey {
        /// Where.
        directory: String,
    },
    /// Put, over whatever is there; then `written`.
    Write {
        /// Where.
        path: String,
        /// A file.
        bytes: Bytes,
    },
}

/// A flush that cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlushError {
    /// Another writer has taken the partition.
    #[error("{by} has announced offsets {start} to {end}: this writer is no longer the only one")]
    Contested {
        /// Who.
        by: Arc<str>,
        /// The range's start, which this writer wanted to announce, too.
        start: Offset,
        /// The range's end.
        end: Offset,
    },
    /// Other writers have been here while this one was away.
    #[error("offsets from {newest} on are announced already; this writer stands at {start}")]
    Overtaken {
        /// The newest range's start.
        newest: Offset,
        /// The start of this writer's range.
        start: Offset,
    },
    /// What stands in the intent's place is no intent.
    #[error("intent {start}: {source}")]
    Intent {
        /// The intent's name.
        start: Offset,
        /// Why.
        source: IntentError,
    },
    /// The encoder fails.
    #[error("rows cannot be encoded")]
    Encode(#[from] ParquetError),
}

#[derive(Debug)]
struct Sealed {
    intent: Intent,
    /// Those not written yet.
    files: VecDeque<(String, Encoded)>,
}

#[derive(Debug)]
enum Phase {
    Gathering(Gathering),
    Encoding(Encoding),
    Announcing(Sealed),
    Surveying(Sealed),
    Writing(Sealed),
}

/// One partition. See the header.
#[derive(Debug)]
pub(crate) struct Partition {
    id: TopicPartition,
    topic_id: TopicId,
    writer: Arc<str>,
    layout: Arc<Layout>,
    phase: Phase,
    /// Announced ranges to write again after the one under way.
    unfinished: VecDeque<Intent>,
    /// Where the first range begins that nothing announced.
    start: Offset,
    /// Records below were taken.
    position: Option<Offset>,
    durable: Option<Offset>,
    /// The starts of intents in the store, ascending, when last seen.
    intents: Vec<Offset>,
    rejected: Vec<Rejected>,
    notes: Vec<Note>,
}

impl Partition {
    /// An open partition, to go on as `resumption` says. `intents`: the starts of those in the store.
    pub(crate) fn new(
        id: TopicPartition,
        topic_id: TopicId,
        writer: Arc<str>,
        layout: Arc<Layout>,
        intents: Vec<Offset>,
        resumption: Resumption,
    ) -> Self {
        let Resumption { mut unfinished, start, durable, position } = resumption;
        let mut notes = Vec::new();
        if let Some(durable) = durable {
            notes.push(Note::new(
                "lake is ahead of the committed offset",
                id.to_string(),
                format!("complete up to {durable}"),
            ));
        }
        for Intent { first, end, writer, .. } in &unfinished {
            notes.push(Note::new(
                "announced range is written again",
                id.to_string(),
                format!("offsets {first} to {end}, announced by {writer}"),
            ));
        }
        let gathering = match unfinished.pop_front() {
            Some(intent) => Gathering::again(intent),
            None => Gathering::new(start, Arc::clone(&layout)),
        };
        Self {
            id,
            topic_id,
            writer,
            layout,
            phase: Phase::Gathering(gathering),
            unfinished,
            start,
            position,
            durable,
            intents,
            rejected: Vec::new(),
            notes,
        }
    }

    /// Up to where all is in the lake, if that is known to be above what was committed.
    pub(crate) fn durable(&self) -> Option<Offset> {
        self.durable
    }

    /// About how many bytes gathered rows take. Rows of a range that is written again do not count: they
    /// cannot be flushed early.
    pub(crate) fn flushable_bytes(&self) -> usize {
        match &self.phase {
            Phase::Gathering(it) if it.again.is_none() => it.memory_bytes(),
            Phase::Gathering(_)
            | Phase::Encoding(_)
            | Phase::Announcing(_)
            | Phase::Surveying(_)
            | Phase::Writing(_) => 0,
        }
    }

    /// What was refused since the last call, in order.
    pub(crate) fn take_rejected(&mut self) -> Vec<Rejected> {
        std::mem::take(&mut self.rejected)
    }

    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Takes records while gathering, passing over those taken before; returns how many. It stops early when an
    /// announced range is full.
    ///
    /// # Errors
    /// Rows cannot be encoded.
    pub(crate) fn take(
        &mut self,
        now: Duration,
        records: &[SinkRecord],
    ) -> Result<usize, FlushError> {
        for (index, record) in records.iter().enumerate() {
            let Phase::Gathering(gathering) = &mut self.phase else { return Ok(index) };
            if Some(record.offset) < self.position {
                continue;
            }
            if gathering.ends_before(record) {
                self.close()?;
                return Ok(index);
            }
            if let Err(error) = gathering.push(now, &self.id, record)? {
                let reason =
                    TaskError::fatal(format!("record {} of {}", record.offset, self.id), error);
                self.rejected.push(Rejected { offset: record.offset, reason });
            }
            let position = record.offset.plus(1);
            let is_full = gathering.again.as_ref().is_some_and(|intent| intent.end <= position);
            self.position = Some(position);
            if is_full {
                self.close()?;
            }
        }
        Ok(records.len())
    }

    /// Ends gathering if a flush is wanted and there is something to flush.
    ///
    /// # Errors
    /// Rows cannot be encoded.
    pub(crate) fn seal(
        &mut self,
        now: Duration,
        limits: &Limits,
        how: Flush,
    ) -> Result<(), FlushError> {
        let Phase::Gathering(gathering) = &self.phase else { return Ok(()) };
        let is_wanted = match how {
            Flush::Due => gathering.is_due(now, limits),
            Flush::All => gathering.is_flushable(),
        };
        if is_wanted { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), FlushError> {
        let next = Gathering::new(self.start, Arc::clone(&self.layout));
        let was = std::mem::replace(&mut self.phase, Phase::Gathering(next));
        let Phase::Gathering(gathering) = was else { panic!("only what is gathered is closed") };
        // A range that is written again keeps the bounds it was announced with.
        let end = match &gathering.again {
            Some(intent) => intent.end,
            None => self.position.expect("a range has a record"),
        };
        let encoding = gathering.close(&self.id, end)?;
        self.phase = Phase::Encoding(encoding);
        self.pass_over_encoded();
        Ok(())
    }

    /// What to do next to bring a flush to its end. `None`: none is under way.
    pub(crate) fn next(&self) -> Option<Step> {
        match &self.phase {
            Phase::Gathering(_) => None,
            Phase::Encoding(_) => Some(Step::Encode),
            Phase::Announcing(sealed) => Some(Step::Announce {
                path: intent_path(&self.id, sealed.intent.start),
                body: sealed.intent.to_json().into(),
            }),
            Phase::Surveying(_) => Some(Step::Survey { directory: intent_directory(&self.id) }),
            Phase::Writing(sealed) => {
                let (path, file) = sealed.files.front().expect("writing ends with the last file");
                Some(Step::Write { path: path.clone(), bytes: file.bytes.clone() })
            }
        }
    }

    /// Encodes a slice of the rows, or completes a file.
    ///
    /// # Errors
    /// Rows cannot be encoded.
    pub(crate) fn encode(&mut self) -> Result<(), FlushError> {
        let Phase::Encoding(encoding) = &mut self.phase else { panic!("nothing to encode") };
        encoding.encode()?;
        self.pass_over_encoded();
        Ok(())
    }

    /// Goes on behind encoding, once all is encoded.
    fn pass_over_encoded(&mut self) {
        let Phase::Encoding(encoding) = &mut self.phase else { return };
        if !encoding.is_done() {
            return;
        }
        let done = std::mem::take(&mut encoding.done);
        let announced = |(path, file): &(String, Encoded)| AnnouncedFile {
            path: path.clone(),
            rows: file.rows,
            bytes: u64::try_from(file.bytes.len()).expect("a length fits 64 bits"),
        };
        let files: Vec<AnnouncedFile> = done.iter().map(announced).collect();
        let Some(intent) = encoding.again.take() else {
            let intent = Intent {
                partition: self.id.clone(),
                topic_id: self.topic_id,
                start: encoding.start,
                first: encoding.first,
                end: encoding.end,
                writer: Arc::clone(&self.writer),
                layout: Arc::clone(&encoding.layout),
                files,
            };
            self.phase = Phase::Announcing(Sealed { intent, files: done.into() });
            return;
        };
        if intent
            .files
            .iter()
            .map(|it| (&it.path, it.rows))
            .ne(files.iter().map(|it| (&it.path, it.rows)))
        {
            let detail = format!("offsets {} to {}", intent.first, intent.end);
            let kind = "records of an announced range were compacted before they were written";
            self.notes.push(Note::new(kind, self.id.to_string(), detail));
        }
        self.phase = Phase::Writing(Sealed { intent, files: done.into() });
        self.pass_over_written();
    }

    /// The intent was put.
    pub(crate) fn announced(&mut self) {
        self.advance(|phase| match phase {
            Phase::Announcing(sealed) => Phase::Surveying(sealed),
            other => panic!("announced while {other:?}"),
        });
    }

    /// Under the intent's name there is `found` already: put by an earlier try of ours, or by another.
    ///
    /// # Errors
    /// It is another's.
    pub(crate) fn contested(&mut self, found: &[u8]) -> Result<(), FlushError> {
        let Phase::Announcing(sealed) = &self.phase else { panic!("nothing is announced") };
        let start = sealed.intent.start;
        let theirs = Intent::from_json(&self.id, start, found)
            .map_err(|source| FlushError::Intent { start, source })?;
        if theirs != sealed.intent {
            return Err(FlushError::Contested { by: theirs.writer, start, end: theirs.end });
        }
        self.announced();
        Ok(())
    }

    /// The store has intents with these starts, ascending.
    ///
    /// # Errors
    /// Others are further.
    pub(crate) fn surveyed(&mut self, starts: Vec<Offset>) -> Result<(), FlushError> {
        let Phase::Surveying(sealed) = &self.phase else { panic!("nothing is surveyed") };
        let start = sealed.intent.start;
        if let Some(newest) = starts.last().filter(|newest| **newest > start) {
            return Err(FlushError::Overtaken { newest: *newest, start });
        }
        self.intents = starts;
        self.advance(|phase| match phase {
            Phase::Surveying(sealed) => Phase::Writing(sealed),
            other => panic!("surveyed while {other:?}"),
        });
        self.pass_over_written();
        Ok(())
    }

    /// The file of the last step was put.
    pub(crate) fn written(&mut self) {
        let Phase::Writing(sealed) = &mut self.phase else { panic!("nothing is written") };
        sealed.files.pop_front();
        self.pass_over_written();
    }

    /// Goes on behind the range, once all its files are written.
    fn pass_over_written(&mut self) {
        let Phase::Writing(sealed) = &self.phase else { return };
        if !sealed.files.is_empty() {
            return;
        }
        let end = sealed.intent.end;
        assert!(self.durable < Some(end), "{}: durable up to {end} twice", self.id);
        self.durable = Some(end);
        self.start = self.start.max(end);
        let next = match self.unfinished.pop_front() {
            Some(intent) => Gathering::again(intent),
            None => Gathering::new(self.start, Arc::clone(&self.layout)),
        };
        self.phase = Phase::Gathering(next);
    }

    fn advance(&mut self, to: impl FnOnce(Phase) -> Phase) {
        let idle = Phase::Gathering(Gathering::new(self.start, Arc::clone(&self.layout)));
        let was = std::mem::replace(&mut self.phase, idle);
        self.phase = to(was);
    }

    /// The starts of intents that nobody needs any more, now that `committed` is, but for the newest `kept`, at least
    /// one. Call `forgot` for each that is deleted.
    pub(crate) fn superfluous(&self, committed: Offset, kept: usize) -> Vec<Offset> {
        assert!(kept > 0, "{}: the newest intent tells sleepers that they are late", self.id);
        let others = self.intents.len().saturating_sub(kept);
        let is_committed = |pair: &&[Offset]| pair[1] <= committed;
        self.intents.windows(2).take(others).take_while(is_committed).map(|pair| pair[0]).collect()
    }

    /// The intent with this start is deleted.
    pub(crate) fn forgot(&mut self, start: Offset) {
        self.intents.retain(|it| *it != start);
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
